"""Segments ready to be matched: local metres, oriented gates, and an index that finds the gates near a fix with one look-up.

A gate is a point and the direction of travel there. With the line as given, the direction at an end is the derivative of the parabola
through the points 0, 12 and 24 m from it, so a bend does not turn the gate and a wobble hardly. The index hashes each start gate, as wide
as one may ever be crossed, into cells of about 64 m; a step between two fixes looks only at the cells it can touch.
"""

from __future__ import annotations

import math
from bisect import bisect_right
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from typing import Final, Self
from zlib import crc32

from broker.reference import SegmentRef
from processors.geometry import METRE_PER_UNIT, Plane, cumulative_m, plane_at

MAX_HALF_WIDTH_M: Final = 45.0
TANGENT_M: Final = 12.0
CELL_M: Final = 64.0
_CELL: Final = int(CELL_M / METRE_PER_UNIT)  # height of a row of cells in 1e-7 degrees
_ROWS: Final = 10_000_000 // _CELL  # rows that share one cell width: about a degree
_STRAY_WEIGHT: Final = 0.1  # how much being off the expected progress counts against being off the line (both squared)


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
    """A segment in its own plane. `shape` changes with the geometry, `along_m` is the way from the start to each point."""

    id: str
    name: str
    sport: str
    shape: int
    plane: Plane
    x_m: tuple[float, ...]
    y_m: tuple[float, ...]
    along_m: tuple[float, ...]
    start: Gate
    finish: Gate

    @classmethod
    def of(cls, ref: SegmentRef) -> Self:
        """Compile a checked reference (`segment_rules.check_segment`). ValueError for fewer than two distinct points."""
        points = [point for k, point in enumerate(ref.points) if not k or point != ref.points[k - 1]]
        if len(points) < 2:
            raise ValueError(f"segment {ref.id}: a line needs two distinct points")
        lats = [lat for lat, _ in points]
        plane = plane_at(*points[0], (min(lats) + max(lats)) // 2)
        line = [plane.metres(*point) for point in points]
        along = cumulative_m(points)
        return cls(
            ref.id,
            ref.name,
            ref.sport,
            crc32(repr(points).encode()),
            plane,
            tuple(x for x, _ in line),
            tuple(y for _, y in line),
            tuple(along),
            _end_gate(line, along, back=False),
            _end_gate(line, along, back=True),
        )

    @property
    def length_m(self) -> float:
        return self.along_m[-1]

    @property
    def length_mm(self) -> int:
        return round(self.along_m[-1] * 1000)

    def locate(self, x_m: float, y_m: float, from_m: float, reach_m: float, expected_m: float) -> tuple[float, float]:
        """Where on the line between `from_m` and `from_m + reach_m` a place is put best: (way from the start, distance).

        Parts of the line compete by how far off they are and how far from `expected_m`, so that a there-and-back is not cut short.
        """
        along, xs, ys = self.along_m, self.x_m, self.y_m
        end = min(from_m + reach_m, along[-1])
        leg = min(max(bisect_right(along, from_m) - 1, 0), len(along) - 2)
        best_cost = math.inf
        best_m, best_off2 = from_m, math.inf
        while True:
            start_m = along[leg]
            run_m = along[leg + 1] - start_m
            ax, ay = xs[leg], ys[leg]
            ex, ey = xs[leg + 1] - ax, ys[leg + 1] - ay
            share = ((x_m - ax) * ex + (y_m - ay) * ey) / (ex * ex + ey * ey)
            low = (from_m - start_m) / run_m if from_m > start_m else 0.0
            high = (end - start_m) / run_m if end < start_m + run_m else 1.0
            share = low if share < low else min(share, high)
            dx, dy = x_m - ax - share * ex, y_m - ay - share * ey
            off2 = dx * dx + dy * dy
            at_m = start_m + share * run_m
            stray = at_m - expected_m
            cost = off2 + _STRAY_WEIGHT * stray * stray
            if cost < best_cost:
                best_cost, best_m, best_off2 = cost, at_m, off2
            leg += 1
            if leg >= len(along) - 1 or along[leg] >= end:
                return best_m, math.sqrt(best_off2)


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


@dataclass(frozen=True, slots=True)
class SegmentIndex:
    """The segments of one tenant, by id, and by the cells their start gates lie in. Build with `build`."""

    segments: dict[str, Segment]
    cells: dict[int, tuple[Segment, ...]]
    _by_sport: dict[str, SegmentIndex] = field(default_factory=dict[str, "SegmentIndex"], compare=False, repr=False)

    @classmethod
    def build(cls, refs: Iterable[SegmentRef]) -> Self:
        """Of several references with one id the last counts; removed ones and those without a line are left out.

        ValueError for a second tenant.
        """
        last = {ref.id: ref for ref in refs}
        tenants = {ref.tenant for ref in last.values()}
        if len(tenants) > 1:
            raise ValueError(f"one index holds one tenant, not {sorted(tenants)}")
        return cls._of(Segment.of(last[key]) for key in sorted(last) if not last[key].removed and len(set(last[key].points)) > 1)

    def changed(self, refs: Iterable[SegmentRef]) -> SegmentIndex:
        """The same as building anew with these changes, for the price of a copy: only what changed is compiled."""
        made: dict[str, Segment | None] = {}
        for ref in refs:
            made[ref.id] = None if ref.removed or len(set(ref.points)) < 2 else Segment.of(ref)
        return self.with_compiled(made)

    def with_compiled(self, changes: dict[str, Segment | None]) -> SegmentIndex:
        """The index with these segments added or replaced by id; None removes one."""
        segments, cells = dict(self.segments), dict(self.cells)
        for name, segment in changes.items():
            before = segments.pop(name, None)
            for cell in () if before is None else _gate_cells(before):
                cells[cell] = tuple(s for s in cells[cell] if s.id != name)
                if not cells[cell]:
                    del cells[cell]
            if segment is not None:
                segments[name] = segment
                for cell in _gate_cells(segment):
                    cells[cell] = tuple(sorted((*cells.get(cell, ()), segment), key=lambda s: s.id))
        return SegmentIndex(segments, cells, {sport: found.with_compiled(_for(sport, changes)) for sport, found in self._by_sport.items()})

    @classmethod
    def _of(cls, segments: Iterable[Segment]) -> Self:
        by_id = {segment.id: segment for segment in segments}
        cells: dict[int, list[Segment]] = {}
        for segment in by_id.values():
            for cell in _gate_cells(segment):
                cells.setdefault(cell, []).append(segment)
        return cls(by_id, {cell: tuple(found) for cell, found in cells.items()})

    def for_sport(self, sport: str) -> SegmentIndex:
        """Only the segments an activity of this sport ("run", "ride", "other") counts on. Kept, so ask as often as you like."""
        found = self._by_sport.get(sport)
        if found is None:
            found = self._by_sport[sport] = SegmentIndex._of(s for s in self.segments.values() if s.sport in {"any", sport})
        return found


def _for(sport: str, changes: dict[str, Segment | None]) -> dict[str, Segment | None]:
    """The changes as an index of one sport sees them."""
    return {name: segment if segment is not None and segment.sport in {"any", sport} else None for name, segment in changes.items()}


def cell_of(lat: int, lon: int) -> int:
    """The cell a position lies in."""
    row = lat // _CELL
    return (row << 32) + lon // _WIDTHS[row // _ROWS + 91]


def cells_between(lat_a: int, lon_a: int, lat_b: int, lon_b: int) -> Iterator[int]:
    """Every cell the box spanned by two positions touches. Across the date line only that of the second position."""
    if abs(lon_b - lon_a) > 1_800_000_000:
        yield cell_of(lat_b, lon_b)
        return
    west, east = (lon_a, lon_b) if lon_a <= lon_b else (lon_b, lon_a)
    south, north = (lat_a, lat_b) if lat_a <= lat_b else (lat_b, lat_a)
    for row in range(south // _CELL, north // _CELL + 1):
        width = _WIDTHS[row // _ROWS + 91]
        for column in range(west // width, east // width + 1):
            yield (row << 32) + column


def _gate_cells(segment: Segment) -> set[int]:
    gate, plane = segment.start, segment.plane
    reach = MAX_HALF_WIDTH_M + 1.0
    a = plane.position(gate.x_m - gate.north * reach, gate.y_m + gate.east * reach)
    b = plane.position(gate.x_m + gate.north * reach, gate.y_m - gate.east * reach)
    return set(cells_between(*a, *b))


def _widths() -> tuple[int, ...]:
    """Width of a cell in 1e-7 degrees for each band of `_ROWS` rows, from 91 degrees south; at most that of 85 degrees."""
    degrees = [min(85.0, abs(band) * _ROWS * _CELL * 1e-7) for band in range(-91, 93)]
    return tuple(int(_CELL / (round(math.cos(math.radians(lat)) * 1e6) / 1e6)) for lat in degrees)


_WIDTHS: Final = _widths()
