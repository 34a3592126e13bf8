"""What a gateway process is told at its start, by `paceline` or by one JSON file. Everything else comes on `cfg` (`remote_config`).

Unknown keys are errors that name the field. Passwords are `SecretStr`: they print as stars.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import Annotated, Literal

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, SecretStr, ValidationError, model_validator

from broker.errors import ConfigError
from broker.ids import is_id
from broker.topics import PLATFORM, UPLOAD_NODE, parse_username
from gateway.limits import GymLimits

_KEY = re.compile(r"[0-9A-Fa-f]{16}")
_STRICT = ConfigDict(extra="forbid", frozen=True)
Host = Annotated[str, Field(min_length=1, max_length=253)]
_Port = Annotated[int, Field(ge=1, le=65_535)]


def _id(text: str) -> str:
    if not is_id(text):
        raise ValueError(f"{text!r} is not an id: use 1-32 of a-z 0-9 . _ - starting with a letter or digit")
    return text


Id = Annotated[str, AfterValidator(_id)]


class UplinkBroker(BaseModel):
    """The broker of the platform. `ca_file` None: the system's certificates. `identity`: the folder of an enrolled node, which is known by
    its certificate; password and `ca_file` are not used then.
    """

    model_config = _STRICT
    host: Host
    port: _Port
    tls: bool = False
    ca_file: Path | None = None
    identity: Path | None = None


class NearBroker(BaseModel):
    """The box's own broker, where devices near by connect. `username` is a platform principal (`platform/...`) of that broker."""

    model_config = _STRICT
    host: Host
    port: _Port
    username: str = "platform/box"
    password: SecretStr

    @model_validator(mode="after")
    def _platform(self) -> NearBroker:
        who = parse_username(self.username)
        if who is None or not who.is_platform:
            raise ValueError(f"username {self.username!r} must be {PLATFORM}/NAME: the box is the platform side of its own broker")
        return self


class FileReplay(BaseModel):
    """One recording replayed as a live device.

    `speed` 1-1000 times real time, 0 as fast as the spool takes it. `shift` "none" keeps the recorded times (a repeat counts once); "now"
    moves them: at speed 1 the first sample is now, at any other speed the last one is (dates in the future would be refused). Moved times
    make a new recording each time the replay is started; one that was interrupted goes on as the same one (`replay_book`).
    """

    model_config = _STRICT
    path: Path
    athlete: Id | None = None
    device: Id | None = None
    speed: float = Field(default=1.0, ge=0, le=1000)
    shift: Literal["none", "now"] = "none"
    start_after_s: float = Field(default=0.0, ge=0, le=86_400)

    @model_validator(mode="after")
    def _speed(self) -> FileReplay:
        if 0 < self.speed < 1:
            raise ValueError("speed must be 0 (no pacing) or 1 to 1000")
        return self


def _told_apart(files: tuple[FileReplay, ...]) -> tuple[FileReplay, ...]:
    named = [replay.device for replay in files if replay.device is not None]
    if len(named) != len(set(named)):
        raise ValueError("two replays have the same device")
    if len(set(files)) != len(files):
        raise ValueError("two replays are the same: give each its own device, or leave one out")
    return files


def _tenant(text: str) -> str:
    if text == PLATFORM:
        raise ValueError(f"{PLATFORM!r} is reserved")
    return text


def _node(text: str) -> str:
    if text == UPLOAD_NODE:
        raise ValueError(f"{UPLOAD_NODE!r} is reserved for uploaded files")
    return text


Files = Annotated[tuple[FileReplay, ...], AfterValidator(_told_apart)]
Tenant = Annotated[Id, AfterValidator(_tenant)]
Node = Annotated[Id, AfterValidator(_node)]


class SpoolLimits(BaseModel):
    """Size and policy of the spool, until `cfg` says otherwise."""

    model_config = _STRICT
    cap_bytes: int = Field(default=256_000_000, ge=1_000_000)
    full_policy: Literal["reject_new", "drop_oldest"] = "reject_new"


class HallLimits(BaseModel):
    """What holds for every machine of a gym. `belt_ramp_mps2` 0: a belt changes its speed as fast as it likes."""

    model_config = _STRICT
    max_power_w: float = Field(default=2_000, ge=0, le=4_000)
    max_speed_mps: float = Field(default=5.6, ge=0, le=12)  # 20 km/h
    min_incline_pct: float = Field(default=-6, ge=-40, le=0)
    max_incline_pct: float = Field(default=20, ge=0, le=50)
    max_resistance: float = Field(default=200, ge=0, le=1_000)
    belt_ramp_mps2: float = Field(default=0, ge=0, le=5)


class MachineLimits(GymLimits):
    """What holds for one machine besides."""

    device: Id


class EquipmentSettings(BaseModel):
    """Commands to machines. `platform_loss_s`: without the platform for longer, every machine that moves by command is stopped."""

    model_config = _STRICT
    enabled: bool = True
    platform_loss_s: float = Field(default=10, ge=1, le=600)
    limits: HallLimits = HallLimits()
    machines: tuple[MachineLimits, ...] = ()

    def rules(self, device: str) -> tuple[GymLimits, ...]:
        """All limits that are about a machine."""
        hall = GymLimits.model_validate(self.limits.model_dump())
        return hall, *(one for one in self.machines if one.device == device)


class BleSettings(BaseModel):
    """Bluetooth LE sensors. `adapters` are names (hci0) or addresses, all when empty; `slots` the links of each.

    `allow` and `deny` are ids, addresses or names, with `*` and `?`; `deny` wins. `power` turns an adapter on that is off.
    """

    model_config = _STRICT
    enabled: bool = False
    adapters: tuple[str, ...] = ()
    scan: Literal["active", "passive"] = "active"
    slots: int = Field(default=7, ge=1, le=64)
    allow: tuple[str, ...] = ()
    deny: tuple[str, ...] = ()
    power: bool = True


class AntSettings(BaseModel):
    """ANT+ sensors. `sticks` are `usb` (the next free one), `usb:SERIAL` or paths of serial devices.

    `key` is the network key, 16 hex digits. `scan` "never" treats every stick as one that cannot hear a whole room. `allow` and `deny` are
    ids (`ant-TYPE-NUMBER`) with `*` and `?`; `deny` wins.
    """

    model_config = _STRICT
    enabled: bool = False
    key: SecretStr = SecretStr("")
    sticks: tuple[str, ...] = ("usb",)
    scan: Literal["auto", "never"] = "auto"
    allow: tuple[str, ...] = ()
    deny: tuple[str, ...] = ()

    @model_validator(mode="after")
    def _whole(self) -> AntSettings:
        if not self.enabled:
            return self
        if not _KEY.fullmatch(self.key.get_secret_value()):
            raise ValueError("key must be the 16 hex digits of the ANT+ network key (docs/gateway.md says where it comes from)")
        if not self.sticks:
            raise ValueError("sticks must name at least one: usb, usb:SERIAL or a path such as /dev/ttyUSB0")
        named = [stick for stick in self.sticks if stick != "usb"]
        wrong = next((stick for stick in named if not stick.startswith(("/", "usb:"))), None)
        if wrong is not None or len(named) != len(set(named)):
            raise ValueError(f"sticks: {wrong or 'one is named twice'}: use usb, usb:SERIAL or a path such as /dev/ttyUSB0")
        return self


class GatewaySettings(BaseModel):
    """Everything one gateway process needs. Two processes must never share `data_dir` (a lock refuses the second)."""

    model_config = _STRICT
    data_dir: Path
    tenant: Tenant
    node: Node
    password: SecretStr = SecretStr("")
    uplink: UplinkBroker
    near: NearBroker | None = None
    files: Files = ()
    ble: BleSettings = BleSettings()
    ant: AntSettings = AntSettings()
    spool: SpoolLimits = SpoolLimits()
    equipment: EquipmentSettings = EquipmentSettings()
    frame_ms: int = Field(default=250, ge=50, le=10_000)
    trial_s: float = Field(default=60.0, gt=0, le=3600)
    identity_check_s: float = Field(default=21_600, gt=0, le=86_400)  # how often the authority is asked how the certificate stands

    @model_validator(mode="after")
    def _known(self) -> GatewaySettings:
        if not self.password.get_secret_value() and self.uplink.identity is None:
            raise ValueError("password: give that of the node, or uplink.identity, the folder of an enrolled one")
        return self


def load_settings(path: Path) -> GatewaySettings:
    """The settings in a JSON file; ConfigError names the file and the field."""
    try:
        return GatewaySettings.model_validate_json(path.read_bytes())
    except OSError as error:
        raise ConfigError(f"{path}: {error.strerror}", cure="give an existing JSON file") from error
    except ValidationError as error:
        first = error.errors()[0]
        field = ".".join(str(part) for part in first["loc"]) or "document"
        raise ConfigError(f"{path}: {field}: {first['msg']}", cure="see gateway/settings.py for the keys") from error
