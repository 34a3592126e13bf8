"""The seam of every virtual sensor: a table of attributes, and reports in time. Pure: time comes in as seconds since the room's epoch.

A sensor is a function of its seed and of time, so a Bluetooth daemon that was killed and started again finds the same heart still beating.
Reports are numbered from 0 without gaps; who carries them writes down which of them went out. `values` is what a report says, in SI units,
made by the model and not read back from the bytes: what a decoder must come to.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Final, Protocol

from broker.errors import BadInputError

BASE_UUID: Final = "-0000-1000-8000-00805f9b34fb"
ATT_OK: Final = 0x00
ATT_WRITE_NOT_PERMITTED: Final = 0x03
ATT_UNLIKELY: Final = 0x0E
ATT_CCCD_IMPROPER: Final = 0xFD


def uuid128(short: str) -> str:
    """The full lower-case text of a 16-bit UUID ("2A37"); a full one stays as it is."""
    return f"0000{short.lower()}{BASE_UUID}" if len(short) == 4 else short.lower()


@dataclass(frozen=True, slots=True)
class Characteristic:
    """One characteristic. `flags` are BlueZ's words: read, write, write-without-response, notify, indicate; `encrypted`: only paired."""

    uuid: str
    flags: tuple[str, ...]
    encrypted: bool = False


@dataclass(frozen=True, slots=True)
class Service:
    """One primary service with its characteristics."""

    uuid: str
    characteristics: tuple[Characteristic, ...]


@dataclass(frozen=True, slots=True)
class Report:
    """One notification or indication: its number, its bytes, and what they say (`values`; a list holds one entry per repeated field)."""

    uuid: str
    payload: bytes
    number: int
    values: Mapping[str, float | list[float]] = field(default_factory=dict[str, "float | list[float]"])


@dataclass(frozen=True, slots=True)
class Written:
    """What comes of a write: an ATT error code (0: none), and reports that follow at once (an answer, a status)."""

    error: int = ATT_OK
    reports: Sequence[Report] = ()


class Sensor(Protocol):
    """A virtual sensor."""

    @property
    def services(self) -> Sequence[Service]:
        """The attribute table, fixed for the sensor's life."""
        ...

    @property
    def advertised(self) -> Sequence[str]:
        """UUIDs of the services in its advertisement."""
        ...

    def next_s(self) -> float:
        """When it says something next; infinity when it never does by itself."""
        ...

    def take(self, now_s: float) -> list[Report]:
        """All it said up to now, whether or not anybody listened."""
        ...

    def read(self, uuid: str) -> bytes | None:
        """The value of a readable characteristic, None when it has none."""
        ...

    def write(self, uuid: str, payload: bytes, now_s: float) -> Written:
        """A central wrote."""
        ...

    def linked(self, up: bool, now_s: float) -> list[Report]:
        """The link came up or went down."""
        ...

    def act(self, name: str, value: float, now_s: float) -> None:
        """Somebody in the room does something to it: an act it knows by name. BadInputError names those it knows."""
        ...

    def state(self) -> dict[str, float]:
        """What somebody beside it sees: numbers by name."""
        ...


class StaticSensor:
    """A sensor that only has values to read, and forgets nothing written to it: the parts of the others that never change."""

    def __init__(self, services: Sequence[Service], advertised: Sequence[str], values: Mapping[str, bytes]) -> None:
        self.services: Sequence[Service] = tuple(services)
        self.advertised: Sequence[str] = tuple(uuid128(one) for one in advertised)
        self._values = {uuid128(uuid): value for uuid, value in values.items()}

    def next_s(self) -> float:
        return float("inf")

    def take(self, now_s: float) -> list[Report]:
        del now_s
        return []

    def read(self, uuid: str) -> bytes | None:
        return self._values.get(uuid)

    def keep(self, uuid: str, value: bytes) -> None:
        """What a read gives from now on."""
        self._values[uuid] = value

    def write(self, uuid: str, payload: bytes, now_s: float) -> Written:
        del now_s
        self._values[uuid] = payload
        return Written()

    def linked(self, up: bool, now_s: float) -> list[Report]:
        del up, now_s
        return []

    def act(self, name: str, value: float, now_s: float) -> None:
        del value, now_s
        raise BadInputError(f"act {name!r} is not known to this sensor", cure="it knows none")

    def state(self) -> dict[str, float]:
        return {}
