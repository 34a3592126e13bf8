"""A compiled profile: what one kind of sensor packet holds and comes to. Frozen; made by `compiler.py`, shared by all readers.

Invariant: everything in it is decided when it is compiled; a packet only follows it.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from fnmatch import fnmatchcase
from typing import Final, Literal

from device_profiles.engine import Decoder
from device_profiles.samples import Identity
from device_profiles.values import Row

Mode = Literal["notify", "indicate", "read", "write", "advert"]
Rounding = Literal["nearest", "down"]
BASE_UUID: Final = "0000{}-0000-1000-8000-00805f9b34fb"


@dataclass(frozen=True, slots=True)
class FieldInfo:
    """What a field is, apart from its place. `plausible` is inclusive."""

    name: str
    unit: str = ""
    enum: Mapping[int, str] = field(default_factory=dict[int, str])
    plausible: tuple[float, float] | None = None
    about: str = ""


@dataclass(frozen=True, slots=True)
class Table:
    """What the engine reads: the header, the rows of every packet, and the rows of each page."""

    key: int
    page_at: int
    page_mask: int
    always: tuple[Row, ...]
    pages: Mapping[int, tuple[Row, ...]]

    def rows(self, page: int) -> tuple[Row, ...] | None:
        """The rows of a page; of every packet for -1."""
        return self.always if page == -1 else self.pages.get(page)


@dataclass(frozen=True, slots=True)
class Derive:
    """A value from several packets. Wraps are in the units of their fields; `scale` names a setting that multiplies the result."""

    name: str
    kind: Literal["rate", "accumulate", "interval", "toggles", "join", "inverse"]
    field: str
    time: str
    previous: str
    high: str
    wrap: float
    time_wrap: float
    tick: float
    per: float
    scale: str
    hold_us: int
    max_gap_us: int


@dataclass(frozen=True, slots=True)
class Source:
    """A layout's field is value * mul / div + add of a profile's field, or what `values` translates it to."""

    field: str
    mul: float
    div: float
    add: float
    values: Mapping[int, int]


@dataclass(frozen=True, slots=True)
class Each:
    """One sample for each value of a repeated field, and of the lists `beside` it (layout's field, profile's field).

    With `aged`, each is as old as the sum of those after it (seconds); else `every_us` older than the next.
    """

    field: str
    to: str
    mul: float
    div: float
    aged: bool
    every_us: float
    beside: tuple[tuple[str, str], ...]


@dataclass(frozen=True, slots=True)
class SampleRule:
    """How fields become samples of one layout."""

    layout: str
    constants: Mapping[str, float]
    sources: tuple[tuple[str, tuple[Source, ...]], ...]
    each: Each | None
    once_per: str


@dataclass(frozen=True, slots=True)
class Arg:
    """One argument of a command: raw = (value - add) * div / mul, at byte `at`."""

    name: str
    type: str
    at: int
    mul: int
    div: int
    add: float
    min: float
    max: float
    unit: str
    default: float | None
    round: Rounding
    enum: Mapping[int, str]
    about: str


@dataclass(frozen=True, slots=True)
class Command:
    """Bytes that ask a device for something. `start` holds everything but the arguments; `request` is what a reply names it by.

    `toggles`: given while what it asks for holds already, it undoes that; so it is never repeated.
    """

    name: str
    request: int
    start: bytes
    args: tuple[Arg, ...]
    before: bytes
    checksum: bool
    toggles: bool
    about: str


@dataclass(frozen=True, slots=True)
class ReplyRule:
    """How a device answers: `first` at byte `first_at` makes a packet an answer."""

    first: int
    first_at: int
    request_at: int
    result_at: int
    ok: tuple[int, ...]
    pending: tuple[int, ...]
    results: Mapping[int, str]
    timeout_s: float


@dataclass(frozen=True, slots=True)
class Golden:
    """Packets and what they come to; `samples` None means not stated."""

    packets: tuple[bytes, ...]
    fields: Mapping[str, object]
    samples: tuple[Mapping[str, float], ...] | None
    every_ms: int
    about: str


@dataclass(frozen=True, slots=True)
class Match:
    """Which devices a quirk is about: shell patterns by attribute of `Identity`, all of which must match, without regard to case."""

    patterns: tuple[tuple[str, str], ...]

    def fits(self, identity: Identity) -> bool:
        """Whether the device is one of them. An attribute that is not known matches only `*`."""
        return all(fnmatchcase(getattr(identity, key).lower(), pattern.lower()) for key, pattern in self.patterns)


@dataclass(frozen=True, slots=True, eq=False)
class Profile:
    """One kind of packet. `key` is the full lower-case UUID of a characteristic, or `ant:` and the device type.

    `layout` is the first layout its samples have, "" if nothing is stored. `period_ms` is the expected time between packets, 0 if it is
    read or comes when it likes. `ant_period` is in 1/32768 s, `ant_rf` in MHz above 2400.
    """

    name: str
    source: Literal["ble", "ant"]
    key: str
    service: str
    mode: Mode
    layout: str
    period_ms: int
    ant_period: int
    ant_rf: int
    about: str
    file: str
    table: Table
    decoder: Decoder
    fields: Mapping[str, FieldInfo]
    page_fields: frozenset[str]
    toggle: int
    more_mask: int
    more_until: int
    keep: tuple[str, ...]
    derives: tuple[Derive, ...]
    settings: Mapping[str, float]
    samples: tuple[SampleRule, ...]
    commands: Mapping[str, Command]
    reply: ReplyRule | None
    hook: str
    golden: tuple[Golden, ...]
    variants: tuple[tuple[Match, str, Profile], ...] = ()

    @property
    def ant_type(self) -> int:
        """The ANT+ device type, -1 for BLE."""
        return int(self.key[4:]) if self.source == "ant" else -1

    def of(self, identity: Identity) -> Profile:
        """The profile as this device means it: that of the first quirk that fits, or this one."""
        return next((profile for match, _, profile in self.variants if match.fits(identity)), self)
