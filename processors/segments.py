"""Segments ready to be matched: one as its checks see it, and the index of all of a tenant that matchers look into.

An index is a lower table, which may lie in a file that all processes share, and an upper one of what changed since; segments of the lower
table that were changed or removed are marked as gone. An index never changes: `changed` makes the next one, for the price of what changed
since the tables were last folded into one.
"""

from __future__ import annotations

import math
from bisect import bisect_right
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Final, NamedTuple, Self

import numpy as np

from broker.reference import SegmentRef
from processors.geometry import Plane, cumulative_m, plane_at
from processors.kernels.crossings import MAX_HALF_WIDTH_M
from processors.kernels.match_columns import ANY_SPORT, LEGS, LENGTH, RIDE_SPORT, RUN_SPORT, SHAPE, Index
from processors.kernels.match_columns import SPORTS as SPORTS_COLUMN
from processors.kernels.packing import TANGENT_M
from processors.segment_table import I8, SPORTS, WIDTHS, Lines, SegmentTable, above, as_kernel, lines_of, merged, table_of

__all__ = ["MAX_HALF_WIDTH_M", "Gate", "Segment", "SegmentEntry", "SegmentIndex"]

FOLD_AT: Final = 4_096  # so many changed segments are folded into the lower table, when they are an eighth of it
MOST_NAMES: Final = 100_000  # kept as text
ALL_SPORTS: Final = ANY_SPORT | RUN_SPORT | RIDE_SPORT


@dataclass(frozen=True, slots=True)
class Gate:
    """A line across the way at a point (plane metres), with the unit direction of travel."""

    x_m: float
    y_m: float
    east: float
    north: float

    def ahead_m(self, x_m: float, y_m: float) -> float:
        """How far beyond the line a place is; negative before it."""
        return (x_m - self.x_m) * self.east + (y_m - self.y_m) * self.north

    def aside_m(self, x_m: float, y_m: float) -> float:
        """How far from the gate's point along the line: positive to the left."""
        return (y_m - self.y_m) * self.east - (x_m - self.x_m) * self.north


@dataclass(frozen=True, slots=True)
class Segment:
    """A segment in its own plane, as it was given. `along_m` is the way from the start to each point."""

    id: str
    plane: Plane
    x_m: tuple[float, ...]
    y_m: tuple[float, ...]
    along_m: tuple[float, ...]
    start: Gate
    finish: Gate

    @classmethod
    def of(cls, ref: SegmentRef) -> Self:
        """ValueError for fewer than two distinct points."""
        points = [point for k, point in enumerate(ref.points) if not k or point != ref.points[k - 1]]
        if len(points) < 2:
            raise ValueError(f"segment {ref.id}: a line needs two distinct points")
        lats = [lat for lat, _ in points]
        plane = plane_at(*points[0], (min(lats) + max(lats)) // 2)
        line = [plane.metres(*point) for point in points]
        along = cumulative_m(points)
        columns = tuple(x for x, _ in line), tuple(y for _, y in line)
        return cls(ref.id, plane, *columns, tuple(along), _end_gate(line, along, back=False), _end_gate(line, along, back=True))

    @property
    def length_m(self) -> float:
        return self.along_m[-1]


def point_at(line: list[tuple[float, float]], along: list[float], m: float) -> tuple[float, float]:
    """The place `m` metres along a line, its ends beyond them."""
    if m <= 0.0:
        return line[0]
    if m >= along[-1]:
        return line[-1]
    leg = bisect_right(along, m) - 1
    share = (m - along[leg]) / (along[leg + 1] - along[leg])
    (ax, ay), (bx, by) = line[leg], line[leg + 1]
    return ax + share * (bx - ax), ay + share * (by - ay)


def _end_gate(line: list[tuple[float, float]], along: list[float], *, back: bool) -> Gate:
    """The gate at an end; the same rule as `kernels.packing.tangent`."""
    length = along[-1]
    near = min(TANGENT_M, length / 2)
    places = [point_at(line, along, length - m if back else m) for m in (0.0, near, 2.0 * near)]
    (x0, y0), (x1, y1), (x2, y2) = places
    sign = -1.0 if back else 1.0
    east, north = sign * (4.0 * x1 - 3.0 * x0 - x2), sign * (4.0 * y1 - 3.0 * y0 - y2)
    size = math.sqrt(east * east + north * north)
    if size < 1e-6:
        east, north = sign * (x1 - x0), sign * (y1 - y0)
        size = math.sqrt(east * east + north * north) or 1.0
    return Gate(x0, y0, east / size, north / size)


class SegmentEntry(NamedTuple):
    """What an index knows of a segment. `shape` changes with the line."""

    id: str
    sports: int
    shape: int
    length_mm: int

    @property
    def length_m(self) -> float:
        return self.length_mm * 1e-3


@dataclass(frozen=True, slots=True, eq=False)
class SegmentIndex:
    """The segments of one tenant. Build with `build`, or take a table that is there already."""

    lower: SegmentTable
    upper: SegmentTable
    gone: I8  # 1: this segment of the lower table is not one any more
    sports: int = ALL_SPORTS  # bits: segments of these are looked at
    kernel: Index = field(init=False, repr=False)
    _size: int = field(init=False, repr=False)
    _names: dict[int, str] = field(default_factory=dict[int, str], init=False, repr=False)  # asked for before
    _by_sport: dict[int, SegmentIndex] = field(default_factory=dict[int, "SegmentIndex"], init=False, repr=False)

    def __post_init__(self) -> None:
        self.gone.setflags(write=False)
        object.__setattr__(self, "kernel", Index(self.lower.kernel, self.upper.kernel, as_kernel(self.gone), as_kernel(WIDTHS)))
        lower = (self.lower.gates[:, SPORTS_COLUMN] & self.sports != 0) & (self.gone == 0) if self.sports != ALL_SPORTS else self.gone == 0
        upper = self.upper.gates[:, SPORTS_COLUMN] & self.sports != 0
        object.__setattr__(self, "_size", int(np.count_nonzero(lower)) + int(np.count_nonzero(upper)))

    @classmethod
    def build(cls, refs: Iterable[SegmentRef]) -> Self:
        """Of several references with one id the last counts; removed ones and those without a line are left out.

        ValueError for a second tenant.
        """
        return cls.over(table_of(lines_of(refs)))

    @classmethod
    def of_lines(cls, lines: Lines) -> Self:
        """The same of packed columns."""
        return cls.over(table_of(lines))

    @classmethod
    def over(cls, table: SegmentTable) -> Self:
        """The segments of a table, nothing changed since."""
        return cls(table, table_of(lines_of([])), np.zeros(len(table), np.int8))

    def changed(self, refs: Iterable[SegmentRef]) -> SegmentIndex:
        """The same as building anew with these changes, for the price of what changed: only that is packed."""
        last = {ref.id: ref for ref in refs}
        fresh = table_of(lines_of(last.values()))
        stays = ~np.isin(self.upper.ids, np.array(sorted(last), np.bytes_))
        upper = merged([self.upper, fresh], [stays, np.ones(len(fresh), np.bool_)])
        gone = self.gone.copy()
        for ident in last:
            number = self.lower.number_of(ident)
            if number >= 0:
                gone[number] = 1
        index = SegmentIndex(self.lower, above(upper, self.lower), gone, self.sports)
        return index.folded() if len(upper) >= FOLD_AT and len(upper) * 8 >= len(self.lower) else index

    def folded(self) -> SegmentIndex:
        """The same segments in one table."""
        if not len(self.upper) and not self.gone.any():
            return self
        table = merged([self.lower, self.upper], [self.gone == 0, np.ones(len(self.upper), np.bool_)])
        return SegmentIndex(table, table_of(lines_of([])), np.zeros(len(table), np.int8), self.sports)

    def for_sport(self, sport: str) -> SegmentIndex:
        """Only the segments an activity of this sport ("run", "ride", "other") counts on: the same tables, looked at otherwise."""
        sports = ANY_SPORT | SPORTS.get(sport, ANY_SPORT)
        found = self._by_sport.get(sports)
        if found is None:
            found = self._by_sport[sports] = SegmentIndex(self.lower, self.upper, self.gone, sports)
        return found

    def number_of(self, ident: str) -> int:
        """The number of a segment in the tables, -1 when there is none."""
        at = self.upper.number_of(ident)
        number = at + len(self.lower) if at >= 0 else self.lower.number_of(ident)
        return number if number >= 0 and self._looked_at(number) else -1

    def id_of(self, number: int) -> str:
        """The id of a segment."""
        found = self._names.get(number)
        if found is None:
            table, at = self._row(number)
            found = bytes(table.ids[at]).decode()
            if len(self._names) < MOST_NAMES:
                self._names[number] = found
        return found

    def shape_of(self, number: int) -> int:
        """The checksum of its line."""
        table, at = self._row(number)
        return int(table.gates[at, SHAPE])

    def legs_of(self, number: int) -> int:
        """How many legs its line is packed into."""
        table, at = self._row(number)
        return int(table.gates[at, LEGS])

    def length_mm(self, number: int) -> int:
        """How long it is."""
        table, at = self._row(number)
        return int(table.gates[at, LENGTH])

    @property
    def segments(self) -> Mapping[str, SegmentEntry]:
        """The segments by id."""
        return _ById(self)

    @property
    def nbytes(self) -> int:
        """Bytes of all tables."""
        return self.lower.nbytes + self.upper.nbytes + self.gone.nbytes

    def __len__(self) -> int:
        return self._size

    def __eq__(self, other: object) -> bool:
        """Whether both find the same, however they came about."""
        if not isinstance(other, SegmentIndex) or self.sports != other.sports:
            return False
        mine, theirs = self.folded().lower, other.folded().lower
        pairs = ((mine.ids, theirs.ids), (mine.gates, theirs.gates), (mine.legs, theirs.legs), (mine.buckets, theirs.buckets))
        return all(np.array_equal(a, b) for a, b in (*pairs, (mine.entries, theirs.entries), (mine.tags, theirs.tags)))

    __hash__ = object.__hash__

    def ids(self) -> Iterator[str]:
        """The ids of the segments, rising."""
        numbers = [*np.flatnonzero(self.gone == 0).tolist(), *range(len(self.lower), len(self.lower) + len(self.upper))]
        yield from sorted(self.id_of(number) for number in numbers if self._looked_at(number))

    def _row(self, number: int) -> tuple[SegmentTable, int]:
        return (self.lower, number) if number < len(self.lower) else (self.upper, number - len(self.lower))

    def _looked_at(self, number: int) -> bool:
        table, at = self._row(number)
        return bool(table.gates[at, SPORTS_COLUMN] & self.sports) and not (number < len(self.lower) and self.gone[number])


class _ById(Mapping[str, SegmentEntry]):
    """The segments of an index as a mapping."""

    def __init__(self, index: SegmentIndex) -> None:
        self._index = index

    def __getitem__(self, ident: str) -> SegmentEntry:
        index, number = self._index, self._index.number_of(ident)
        if number < 0:
            raise KeyError(ident)
        table, at = (index.lower, number) if number < len(index.lower) else (index.upper, number - len(index.lower))
        return SegmentEntry(ident, int(table.gates[at, SPORTS_COLUMN]), index.shape_of(number), index.length_mm(number))

    def __iter__(self) -> Iterator[str]:
        return self._index.ids()

    def __len__(self) -> int:
        return len(self._index)
