"""What was moved, by minute and by hour, of believed samples: how many, whose, how far, mean heart rate and power. Pure.

A minute keeps a row an athlete, so that an athlete who is told again is replaced, and adding once is adding once. It is told half a minute
after its end, and again when it changes. Groups: region (a cell of five degrees, never a place), source, sport and tenant. The sport of a
minute is read off that minute: `ride` with power or above 4.8 m/s, `run` above 1.5 m/s, else `other`.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from itertools import pairwise
from operator import add
from typing import Final

import msgpack
import numpy as np
import numpy.typing as npt

from broker.errors import StoreError
from processors.believed import ABSENT, SOURCES, Believed
from processors.influx_points import Row
from processors.live_row import NO_POS

I64 = npt.NDArray[np.int64]

MINUTE_US: Final = 60_000_000
HOUR_US: Final = 3_600_000_000
SETTLE_US: Final = 30_000_000
_RIDE_UM: Final = 288_000_000
_RUN_UM: Final = 90_000_000
_CELL: Final = 50_000_000  # five degrees
_NOWHERE: Final = -1_000
N, DIST_UM, HR_SUM, HR_N, PW_SUM, PW_N, FROM_GPS, FROM_MACHINE, FROM_SENSOR, SOUTH, WEST = range(11)
Group = tuple[str, str, str, str]
Last = tuple[int, int]  # time and distance of the last sample


@dataclass(slots=True)
class Minute:
    """Rows by subject, and the groups that were told of it."""

    start_us: int
    rows: dict[str, list[int]] = field(default_factory=dict[str, list[int]])
    told: set[Group] = field(default_factory=set[Group])
    _packed: dict[str, bytes] = field(default_factory=dict[str, bytes], init=False, compare=False, repr=False)
    _changed: set[str] = field(default_factory=set[str], init=False, compare=False, repr=False)  # since they were packed

    def __post_init__(self) -> None:
        self._changed.update(self.rows)

    def put(self, subject: str, row: list[int]) -> None:
        """Set the row of a subject."""
        self.rows[subject] = row
        self._changed.add(subject)

    def drop(self, subject: str) -> bool:
        """Take the row of a subject out; whether there was one."""
        self._changed.add(subject)
        return self.rows.pop(subject, None) is not None

    def encode(self) -> bytes:
        """As bytes; `decode_minute` gives it back. Only rows that changed since the last time are packed."""
        for subject in self._changed:
            row = self.rows.get(subject)
            if row is None:
                self._packed.pop(subject, None)
            else:
                self._packed[subject] = msgpack.packb((subject, row))[1:]  # without what says that they are two
        self._changed.clear()
        head = b"\x93" + msgpack.packb(self.start_us) + b"\xdf" + len(self._packed).to_bytes(4, "big")  # three values, the second a map
        return b"".join((head, *self._packed.values(), msgpack.packb(sorted(self.told))))


def decode_minute(raw: bytes) -> Minute:
    """Inverse of `Minute.encode`."""
    try:
        start_us, rows, told = msgpack.unpackb(raw, strict_map_key=False)
        return Minute(start_us, rows, {(str(a), str(b), str(c), str(d)) for a, b, c, d in told})
    except (ValueError, TypeError) as error:
        raise StoreError(f"minute totals: damaged ({error})", cure="remove influx.db: it is made again, without the last hours") from error


def minute_of(t_us: int) -> int:
    """The start of the minute around a time."""
    return t_us // MINUTE_US * MINUTE_US


def minutes_in(block: Believed) -> set[int]:
    """The starts of all minutes that taking a block may change."""
    starts: list[int] = (np.unique(block.t_us // MINUTE_US) * MINUTE_US).tolist()
    return set(range(starts[0], starts[-1] + 1, MINUTE_US)) if block.again and starts else set(starts)


def take(block: Believed, minutes: Mapping[int, Minute], last: dict[str, Last]) -> set[int]:
    """Add a block to the minutes that are held (others are passed over); which changed. `last`: of each subject, updated here."""
    if not len(block):
        return set()
    order = np.lexsort((block.t_us, block.subject_of))
    of, t_us, dist_um = block.subject_of[order], block.t_us[order], block.dist_um[order]
    begins = np.flatnonzero(np.concatenate([[True], of[1:] != of[:-1]]))
    step_um = np.diff(dist_um, prepend=0)
    step_um = np.where(step_um < 0, dist_um, step_um)  # an activity begins
    for at, end in pairwise([*begins.tolist(), len(of)]):
        subject = block.subjects[int(of[at])]
        before, first = last.get(subject), int(dist_um[at])
        step_um[at] = 0 if before is None or block.again else first - before[1] if first >= before[1] else first
        if before is None or before[0] <= t_us[end - 1]:
            last[subject] = (int(t_us[end - 1]), int(dist_um[end - 1]))
    minute = t_us // MINUTE_US
    base = int(minute.min())
    key, inverse = np.unique(of * (int(minute.max()) - base + 1) + minute - base, return_inverse=True)
    rows = _rows(block, order, inverse, step_um, len(key))
    span = int(minute.max()) - base + 1
    changed: set[int] = set()
    if block.again:
        changed = _forget(block, minutes)
    numbers: list[int] = key.tolist()
    for place, number in enumerate(numbers):
        start_us = (number % span + base) * MINUTE_US
        held = minutes.get(start_us)
        if held is not None:
            subject = block.subjects[number // span]
            held.put(subject, _added(held.rows.get(subject), rows[place]))
            changed.add(start_us)
    return changed


def _forget(block: Believed, minutes: Mapping[int, Minute]) -> set[int]:
    """Take out the subject of a block that is told again, from its first to its last minute."""
    changed: set[int] = set()
    for start_us in minutes_in(block):
        held = minutes.get(start_us)
        if held is not None:
            for subject in block.subjects:
                if held.drop(subject):
                    changed.add(start_us)
    return changed


def _rows(block: Believed, order: I64, inverse: I64, step_um: I64, count: int) -> list[list[int]]:
    def total(values: I64 | npt.NDArray[np.bool_]) -> I64:
        return np.bincount(inverse, values.astype(np.float64), count).astype(np.int64)

    hr, power, source = block.hr_bpm[order], block.power_w[order], block.source[order]
    lat, lon = block.lat[order], block.lon[order]
    cells = np.full((2, count), _NOWHERE, np.int64)
    placed = np.flatnonzero(lat != NO_POS)
    cells[0, inverse[placed]], cells[1, inverse[placed]] = lat[placed] // _CELL * 5, lon[placed] // _CELL * 5
    columns = [
        np.bincount(inverse, minlength=count), total(step_um),
        total(np.where(hr == ABSENT, 0, hr)), total(hr != ABSENT), total(np.where(power == ABSENT, 0, power)), total(power != ABSENT),
        *(total(source == which) for which in range(len(SOURCES))), *cells,
    ]  # fmt: skip
    return np.stack(columns, axis=1).tolist()


def _added(before: list[int] | None, more: list[int]) -> list[int]:
    if before is None:
        return more
    made = list(map(add, before[:SOUTH], more[:SOUTH]))
    return [*made, *(more[SOUTH:] if more[SOUTH] != _NOWHERE else before[SOUTH:])]


def group_of(subject: str, row: list[int]) -> Group:
    """(region, source, sport, tenant) of an athlete's minute."""
    region = "none" if row[SOUTH] == _NOWHERE else f"{_half(row[SOUTH], 'NS')}{_half(row[WEST], 'EW')}"
    counts = row[FROM_GPS : FROM_SENSOR + 1]
    sport = "ride" if row[PW_N] or row[DIST_UM] > _RIDE_UM else "run" if row[DIST_UM] > _RUN_UM else "other"
    return region, SOURCES[counts.index(max(counts))], sport, subject.partition("/")[0]


def _half(degrees: int, halves: str) -> str:
    return f"{halves[degrees < 0]}{abs(degrees):03d}"


def totals(minutes: Iterable[Minute], t_us: int, told: set[Group]) -> list[Row]:
    """The points of one or several minutes together, one a group; 0 for groups that were told and are none any more. `told` grows."""
    sums: dict[Group, list[int]] = {}
    people: dict[Group, set[str]] = {}
    for minute in minutes:
        for subject, row in minute.rows.items():
            group = group_of(subject, row)
            sums[group] = [a + b for a, b in zip(sums[group], row[:FROM_GPS], strict=True)] if group in sums else row[:FROM_GPS]
            people.setdefault(group, set()).add(subject)
    rows = [Row(group, (0, 0, 0, None, None), t_us * 1000) for group in sorted(told - sums.keys())]
    for group in sorted(sums):
        s = sums[group]
        hr, power = (round(10 * s[a] / s[n]) if s[n] else None for a, n in ((HR_SUM, HR_N), (PW_SUM, PW_N)))
        rows.append(Row(group, (s[N], len(people[group]), s[DIST_UM] // 100_000, hr, power), t_us * 1000))
    told.update(sums)
    return rows
