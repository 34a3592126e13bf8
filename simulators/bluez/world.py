"""Which adapters and sensors a room holds, as one JSON document: what the command line of the daemon and its control channel take.

    {"adapters": [{"name": "hci0", "slots": 40}],
     "sensors": [{"kind": "strap", "address": "C0:00:00:00:00:01", "name": "Strap 1", "rssi": {"hci0": -60}, "options": {"energy": true}}]}

`kind` is a key of the catalogue of sensors; `options` go to it. Without `rssi` every adapter hears the sensor at -60 dBm.
"""

from __future__ import annotations

from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from broker.errors import BadInputError
from simulators.bluez.adapter import MAX_SLOTS
from simulators.bluez.peripheral import Peripheral
from simulators.bluez.room import Timing
from simulators.sensors.catalogue import make_sensor

Address = Annotated[str, Field(pattern="^([0-9A-F]{2}:){5}[0-9A-F]{2}$")]
Dbm = Annotated[int, Field(ge=-127, le=20)]
Seconds = Annotated[float, Field(ge=0)]


class _Strict(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class AdapterSpec(_Strict):
    """One adapter: its name, how many links it holds, and whether it can scan passively."""

    name: Annotated[str, Field(pattern="^hci[0-9]+$")] = "hci0"
    address: Address = "00:00:5E:00:53:00"
    slots: Annotated[int, Field(ge=1, le=MAX_SLOTS)] = MAX_SLOTS
    passive: bool = True


class SensorSpec(_Strict):
    """One sensor and its radio. `passkey`: six digits that pairing asks for; `manufacturer` and `data`: further advertised bytes in hex."""

    kind: str
    address: Address
    name: str = ""
    seed: int = 1
    rssi: dict[str, Dbm] = Field(default_factory=dict[str, Dbm])
    address_type: Annotated[str, Field(pattern="^(public|random)$")] = "random"
    advertise_s: Annotated[float, Field(gt=0)] = 0.5
    passkey: Annotated[str, Field(pattern="^([0-9]{6})?$")] = ""
    manufacturer: dict[int, str] = Field(default_factory=dict[int, str])
    data: dict[str, str] = Field(default_factory=dict[str, str])
    options: dict[str, object] = Field(default_factory=dict[str, object])


class TimingSpec(_Strict):
    """Times of the radio in seconds; see `Timing`."""

    connect_s: Seconds = 0.04
    resolve_s: Seconds = 0.02
    disconnect_s: Seconds = 0.01
    att_s: Seconds = 0.001
    pair_s: Seconds = 0.05
    page_s: Seconds = 20.0
    forget_s: Seconds = 30.0

    def timing(self) -> Timing:
        return Timing(**self.model_dump())


class World(_Strict):
    """The whole room."""

    adapters: list[AdapterSpec] = Field(default_factory=lambda: [AdapterSpec()])
    sensors: list[SensorSpec] = Field(default_factory=list[SensorSpec])
    timing: TimingSpec = TimingSpec()


def read_world(text: str) -> World:
    """The room in a JSON text. BadInputError names the field."""
    try:
        return World.model_validate_json(text)
    except ValidationError as error:
        raise BadInputError(
            f"the room: {error}", cure="correct the field it names; simulators/bluez/world.py says what each means"
        ) from error


def read_sensor(document: object) -> SensorSpec:
    """One sensor of a control command. BadInputError names the field."""
    try:
        return SensorSpec.model_validate(document)
    except ValidationError as error:
        raise BadInputError(f"sensor: {error}", cure="correct the field it names") from error


def make_peripheral(spec: SensorSpec, adapters: list[str]) -> Peripheral:
    """The peripheral a spec describes, heard by `adapters` unless it says by whom."""
    return Peripheral(
        address=spec.address,
        name=spec.name,
        sensor=make_sensor(spec.kind, spec.name or spec.address, spec.seed, spec.options),
        rssi_dbm=spec.rssi or dict.fromkeys(adapters, -60),
        address_type=spec.address_type,
        advertise_s=spec.advertise_s,
        passkey=spec.passkey,
        manufacturer_data={company: bytes.fromhex(data) for company, data in spec.manufacturer.items()},
        service_data={uuid: bytes.fromhex(data) for uuid, data in spec.data.items()},
    )
