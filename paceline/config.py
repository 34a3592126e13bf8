"""The settings of a site: defaults, then one TOML file, then `PACELINE_*` of the environment, then options of the command.

An unknown key is an error that names where it stands and the nearest known key. Every value remembers where it came from (`config show`).
Passwords are not settings: they live in `<data>/secrets/` (see `paceline.site`).
"""

from __future__ import annotations

import difflib
import json
import os
import tomllib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Final, Literal, cast

from pydantic import BaseModel, ConfigDict, Field, SecretStr, ValidationError, field_validator

from broker.errors import BadInputError, ConfigError
from broker.ids import is_id
from broker.influx import InfluxSettings
from broker.kafka import KafkaSettings
from broker.logs import Level, LogSettings
from broker.metrics import MetricsSettings
from broker.view_part import WHOLE, ViewPart, part_from
from gateway.settings import AntSettings, BleSettings, EquipmentSettings, Files, Host, Node, SpoolLimits, Tenant
from paceline.ca_rules import CaRules

PREFIX: Final = "PACELINE_"
MIN_SHARE_CHARS: Final = 16  # of a group of ingest processes, whose name nobody else may guess
RESERVED: Final = frozenset({"PACELINE_CONFIG", "PACELINE_KILL_AT", "PACELINE_PARENT", "PACELINE_PORTS"})
_WITHOUT: Final = {
    "api.token": "(drawn at the first run)",
    "ingest.password": "(drawn at the first run)",
}  # what a secret that was not given comes to
_STRICT: Final = ConfigDict(extra="forbid", frozen=True)


Port = Annotated[int, Field(ge=0, le=65535)]


class BrokerSettings(BaseModel):
    """One MQTT broker. `embedded` is started by us on loopback; `external` (mosquitto) is only used. Port 0: any free one."""

    model_config = _STRICT
    kind: Literal["embedded", "external"] = "embedded"
    host: Host = "127.0.0.1"
    port: Port = 0


class CentralSettings(BaseModel):
    """The central broker. `mosquitto` is started by us with TLS, and knows everybody by certificates of this site's authority.

    `certificates`: an `external` one does so too, with `secrets/authority/published`. `program`: the mosquitto to start; the system's.
    `platform`: further processes of ours with rights there, such as ingest processes that share.
    """

    model_config = _STRICT
    kind: Literal["embedded", "external", "mosquitto"] = "embedded"
    host: Host = "127.0.0.1"
    port: Port = 0
    certificates: bool = False
    program: str = ""
    platform: tuple[Node, ...] = ()

    @property
    def by_certificate(self) -> bool:
        """Whether certificates are who is who there, and no passwords."""
        return self.certificates or self.kind == "mosquitto"

    @property
    def link_host(self) -> str:
        """Where our own processes reach it."""
        return {"0.0.0.0": "127.0.0.1", "::": "::1"}.get(self.host, self.host)  # noqa: S104 - an address to listen on, not to connect to


class IdentitySettings(CaRules):
    """The certificate authority and its enrolment service. `names`: host names and addresses by which nodes reach this platform, the first
    of them in enrolment codes.
    """

    host: Host = "127.0.0.1"
    port: Port = 0
    names: tuple[Host, ...] = ()
    check_s: float = Field(default=21_600, gt=0, le=86_400)  # how often a box asks how its certificate stands


class GatewayPart(BaseModel):
    """The box: its node id, the recordings it replays as live devices, and the radios it listens with."""

    model_config = _STRICT
    node: Node = "box"
    frame_ms: int = Field(default=250, ge=50, le=10_000)
    spool: SpoolLimits = SpoolLimits()
    files: Files = ()
    equipment: EquipmentSettings = EquipmentSettings()
    ble: BleSettings = BleSettings()
    ant: AntSettings = AntSettings()


class ApiSettings(BaseModel):
    """The HTTP API and page. A read token is asked for on every address but loopback; empty: drawn at the first run.

    `control`: `paceline api` also hears what nodes say of themselves and publishes what is wanted of them, as the platform does on one
    machine; one process of a site may.
    """

    model_config = _STRICT
    host: Host = "127.0.0.1"
    port: Port = 8800
    token: SecretStr = SecretStr("")
    control: bool = False


class IngestPart(BaseModel):
    """`paceline ingest`: who it is at the central broker (`platform/NAME`; password empty: the one this site drew), and with which group it
    shares what the nodes send; empty: it takes all of it, alone. A group is a secret: a node that knew it could join, and what the broker
    deals to it there, which it may not read, would reach nobody."""

    model_config = _STRICT
    name: Node = "ingest"
    password: SecretStr = SecretStr("")
    share: SecretStr = SecretStr("")

    @field_validator("share")
    @classmethod
    def _not_guessed(cls, value: SecretStr) -> SecretStr:
        if value and not (len(value) >= MIN_SHARE_CHARS and is_id(value.get_secret_value())):
            raise ValueError(
                f"a secret of {MIN_SHARE_CHARS}-32 characters a-z 0-9, the same for all who share: `openssl rand -hex 12` makes one"
            )
        return value


class BoxPart(BaseModel):
    """The page of an installed box: where it listens, and whether it shows the state once the box is set up or is closed then."""

    model_config = _STRICT
    host: Host = "0.0.0.0"  # noqa: S104 - a page for the LAN; what it takes needs the code on the box's own screen
    port: Port = 8880
    after: Literal["state", "closed"] = "state"


class StagesPart(BaseModel):
    """Stages on Kafka: the folder of tracks that all share (empty: in the data folder) or a bucket, `s3://bucket/prefix`, how often they
    commit, whether exactly once, and the name of this replica of its stage, which stays the same when it starts again. `s3_*`: how the
    bucket is reached; without an endpoint it is Amazon's, without keys those of the machine are taken. `hot_*`: which boards (patterns of
    `tenant/segment`) are cut into how many shards."""

    model_config = _STRICT
    tracks: str = ""
    s3_endpoint: str = Field(default="", pattern=r"^(https?://[^\s/?#]+)?$")
    s3_region: str = "us-east-1"
    s3_access_key: str = ""
    s3_secret_key: SecretStr = SecretStr("")
    commit_s: float = Field(default=0.2, ge=0.1, le=60.0)
    exactly_once: bool = False
    replica: str = Field(default="0", pattern=r"^[a-z0-9-]{1,32}$")
    hot_boards: tuple[str, ...] = ()
    hot_shards: int = Field(default=8, ge=1, le=64)


class ViewSettings(BaseModel):
    """Which part of the tenants the view of this data folder follows on Kafka, and with it the API and the sink that read it: `k/n`, the
    k-th of n; `1/1` is everything."""

    model_config = _STRICT
    part: str = str(WHOLE)

    @field_validator("part")
    @classmethod
    def _is_one(cls, value: str) -> str:
        try:
            return str(part_from(value))
        except BadInputError as error:
            raise ValueError(error.cure) from error

    @property
    def followed(self) -> ViewPart:
        """The part."""
        return part_from(self.part)


class Settings(BaseModel):
    """All settings of `paceline run` and of each role."""

    model_config = _STRICT
    data: Path = Path("data")
    tenant: Tenant = "gym"
    log_level: Level = "info"
    log: LogSettings = LogSettings()
    metrics: MetricsSettings = MetricsSettings()
    central: CentralSettings = CentralSettings()
    near: BrokerSettings = BrokerSettings()
    gateway: GatewayPart = GatewayPart()
    api: ApiSettings = ApiSettings()
    box: BoxPart = BoxPart()
    identity: IdentitySettings = IdentitySettings()
    ingest: IngestPart = IngestPart()
    kafka: KafkaSettings = KafkaSettings()
    influx: InfluxSettings = InfluxSettings()
    stages: StagesPart = StagesPart()
    view: ViewSettings = ViewSettings()


@dataclass(frozen=True, slots=True)
class Loaded:
    """Settings and, per dotted key that was given, where it was given."""

    settings: Settings
    origins: Mapping[str, str]

    def rows(self) -> Iterator[tuple[str, str, str]]:
        """(dotted key, value as text with secrets masked, origin) of every setting."""
        for key, value in leaves(self.settings):
            yield key, _shown(key, value), self.origins.get(key, "default")


def load(path: Path | None, environ: Mapping[str, str], options: Mapping[str, Any] | None = None) -> Loaded:
    """Read and check the settings. ConfigError names the file or variable, the key and what would be right."""
    path = path or (Path(environ["PACELINE_CONFIG"]) if environ.get("PACELINE_CONFIG") else None)
    values: dict[str, Any] = {}
    origins: dict[str, str] = {}
    if path is not None:
        for key, value in _flatten(_read_toml(path)):
            _check_key(key, f"{path}", key)
            values[key], origins[key] = value, str(path)
    for name in sorted(environ):
        if name.startswith(PREFIX) and name not in RESERVED:
            key = name[len(PREFIX) :].lower().replace("__", ".")
            _check_key(key, "environment", name)
            values[key], origins[key] = _from_text(environ[name]), name
    for key, value in (options or {}).items():
        if value is not None:
            values[key], origins[key] = value, "option"
    try:
        return Loaded(Settings.model_validate(_nest(values)), origins)
    except ValidationError as error:
        first = error.errors()[0]
        key = ".".join(str(part) for part in first["loc"])
        where = next((o for k, o in origins.items() if key == k or key.startswith(f"{k}.")), "default")
        detail = first["msg"].removeprefix("Value error, ")
        raise ConfigError(f"{where}: {key}: {detail}", cure="`paceline config show` prints every key with its value") from error


def as_environment(settings: Settings) -> dict[str, str]:
    """`PACELINE_*` variables that give a child process exactly these settings (secrets too: the child is ours)."""
    return {PREFIX + key.upper().replace(".", "__"): _plain(value) for key, value in leaves(settings)}


def leaves(model: BaseModel, prefix: str = "") -> Iterator[tuple[str, object]]:
    """Every (dotted key, value) of nested settings."""
    for name in type(model).model_fields:
        value = getattr(model, name)
        if isinstance(value, BaseModel):
            yield from leaves(value, f"{prefix}{name}.")
        else:
            yield prefix + name, value


def known_keys() -> list[str]:
    """All dotted keys."""
    return [key for key, _ in leaves(Settings())]


def _read_toml(path: Path) -> dict[str, Any]:
    try:
        return tomllib.loads(path.read_text("utf-8"))
    except OSError as error:
        raise ConfigError(f"{path}: {error.strerror}", cure="give an existing file with --config, or none at all") from error
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise ConfigError(f"{path}: {error}", cure="the file must be TOML, see docs/running.md") from error


def _flatten(table: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    for key, value in table.items():
        if isinstance(value, dict):
            yield from _flatten(cast("dict[str, Any]", value), f"{prefix}{key}.")
        else:
            yield prefix + key, value


def _check_key(key: str, where: str, shown: str) -> None:
    keys = known_keys()
    if key in keys:
        return
    near = difflib.get_close_matches(key, keys, n=1, cutoff=0.5)
    if near and where == "environment":
        near = [PREFIX + near[0].upper().replace(".", "__")]
    hint = f"did you mean {near[0]}?" if near else "`paceline config show` prints every key"
    raise ConfigError(f"{where}: unknown key {shown}", cure=hint)


def _nest(values: Mapping[str, Any]) -> dict[str, Any]:
    tree: dict[str, Any] = {}
    for key, value in values.items():
        *parents, last = key.split(".")
        at = tree
        for parent in parents:
            at = at.setdefault(parent, {})
        at[last] = value
    return tree


def _from_text(text: str) -> Any:
    if text.startswith(("[", "{")):
        try:
            return json.loads(text)
        except json.JSONDecodeError:
            return text
    return text


def _plain(value: object) -> str:
    if isinstance(value, SecretStr):
        return value.get_secret_value()
    if isinstance(value, tuple):
        return json.dumps([_item(item) for item in cast("tuple[object, ...]", value)])
    return str(value)


def _item(value: object) -> object:
    return value.model_dump(mode="json") if isinstance(value, BaseModel) else str(value)


def _shown(key: str, value: object) -> str:
    if isinstance(value, SecretStr):
        return "********" if value.get_secret_value() else _WITHOUT.get(key, "(none)")
    return _plain(value)


def current_environment() -> Mapping[str, str]:
    """The process environment, in one place so that tests can see who reads it."""
    return os.environ
