"""Segment tables: any number of segments packed into a few arrays, which the matching kernels read as they lie in memory or in a file.

Made from lines in the order of their ids. Of a segment remain its id, gates, length, sports, a checksum of its line, and the line within
3 m: about 240 bytes. Equal segments make equal tables, whatever they were made from.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any, Final, NamedTuple

import numpy as np
import numpy.typing as npt

from broker.reference import SegmentRef
from processors.kernels import packing
from processors.kernels.cells import band_widths
from processors.kernels.compiled import COMPILED
from processors.kernels.match_columns import ANY_SPORT, FIRST, GATE_COLUMNS, LEGS, RANK, RIDE_SPORT, RUN_SPORT, Tables

I8 = npt.NDArray[np.int8]
I16 = npt.NDArray[np.int16]
I32 = npt.NDArray[np.int32]
I64 = npt.NDArray[np.int64]
Ids = npt.NDArray[np.bytes_]

SPORTS: Final = {"any": ANY_SPORT, "run": RUN_SPORT, "ride": RIDE_SPORT}
MAX_ID: Final = 32  # characters
WIDTHS: Final[I64] = np.array(band_widths(), np.int64)
_GATE_CELLS: Final = 64  # more than a gate can touch


def as_kernel(array: npt.NDArray[Any]) -> Any:
    """An array as a kernel takes it: itself for a compiled one, a view of plain numbers for the interpreter."""
    return array if COMPILED else memoryview(array.data)


class Lines(NamedTuple):
    """Lines by id: ids in rising order, sports as bits, and the positions of line k from `offsets[k]` to `offsets[k + 1]`."""

    ids: Ids
    sports: I64
    offsets: I64
    lat: I32
    lon: I32


@dataclass(frozen=True, slots=True, eq=False)
class SegmentTable:
    """See the module. All arrays are read only; `ids` are in rising order."""

    ids: Ids
    gates: I32
    legs: I16
    buckets: I32
    entries: I32
    tags: I16
    kernel: Tables = field(init=False, repr=False)

    def __post_init__(self) -> None:
        for array in (self.ids, self.gates, self.legs, self.buckets, self.entries, self.tags):
            array.setflags(write=False)
        columns = (self.gates, self.legs, self.buckets, self.entries, self.tags)
        object.__setattr__(self, "kernel", Tables(*(as_kernel(column) for column in columns)))

    def __len__(self) -> int:
        return len(self.ids)

    @property
    def nbytes(self) -> int:
        """Bytes of all arrays."""
        return sum(a.nbytes for a in (self.ids, self.gates, self.legs, self.buckets, self.entries, self.tags))

    def number_of(self, ident: str) -> int:
        """The row of a segment, -1 when there is none."""
        name = ident.encode()
        at = int(np.searchsorted(self.ids, np.bytes_(name))) if len(self.ids) and len(name) <= self.ids.dtype.itemsize else len(self.ids)
        return at if at < len(self.ids) and self.ids[at] == name else -1


def lines_of(refs: Iterable[SegmentRef]) -> Lines:
    """The lines of references of one tenant: of several with one id the last; removed ones and those without a line are left out.

    ValueError for a second tenant.
    """
    last = {ref.id: ref for ref in refs}
    tenants = {ref.tenant for ref in last.values()}
    if len(tenants) > 1:
        raise ValueError(f"one index holds one tenant, not {sorted(tenants)}")
    kept = [last[key] for key in sorted(last) if not last[key].removed and len(set(last[key].points)) > 1]
    positions = np.array([place for ref in kept for place in ref.points], np.int32).reshape(-1, 2)
    offsets = np.cumsum([0, *(len(ref.points) for ref in kept)], dtype=np.int64)
    return Lines(
        _ids([ref.id for ref in kept]), np.array([SPORTS[ref.sport] for ref in kept], np.int64), offsets,
        positions[:, 0].copy(), positions[:, 1].copy(),
    )  # fmt: skip


def table_of(lines: Lines) -> SegmentTable:
    """Pack lines of at least two distinct positions each. ValueError when the ids do not rise."""
    if not bool((lines.ids[1:] > lines.ids[:-1]).all()):
        raise ValueError("lines are packed in the rising order of their ids, each id once")
    n = len(lines.ids)
    longest = int(np.diff(lines.offsets).max(initial=1)) + 8
    gates = np.zeros((n, GATE_COLUMNS), np.int32)
    given = tuple(as_kernel(array) for array in (lines.lat, lines.lon, lines.offsets))
    legs = np.empty((packing.most_legs(*given), 3), np.int16)
    scratch: list[Any] = [np.empty(longest) for _ in range(3)]
    scratch += [np.empty(longest, np.int64), np.empty(2 * longest, np.int64)]
    used = packing.pack_all(*given, *(as_kernel(array) for array in (lines.sports, gates, legs, *scratch)))
    return bucketed(lines.ids, gates, legs[:used].copy())


def bucketed(ids: Ids, gates: I32, legs: I16) -> SegmentTable:
    """The table of packed segments: their start gates put into buckets, about as many as there are entries"""
    bits = max(len(ids).bit_length() + 1, 4)
    counts = np.zeros((1 << min(bits, 22)) + 1, np.int32)
    cells = np.zeros(_GATE_CELLS, np.int64)
    total = packing.fill_counts(*(as_kernel(array) for array in (gates, counts, WIDTHS, cells)))
    buckets = np.cumsum(counts, dtype=np.int32)
    entries, tags = np.empty(total, np.int32), np.empty(total, np.int16)
    packing.fill_entries(*(as_kernel(array) for array in (gates, buckets[:-1].copy(), entries, tags, WIDTHS, cells)))
    return SegmentTable(ids, gates, legs, buckets, entries, tags)


def merged(tables: Sequence[SegmentTable], keep: Sequence[npt.NDArray[np.bool_]]) -> SegmentTable:
    """One table of the kept segments of several, as if it had been packed from their lines. No id may be kept twice."""
    ids = np.concatenate([table.ids[mask] for table, mask in zip(tables, keep, strict=True)])
    order = np.argsort(ids, kind="stable")
    gates = np.concatenate([table.gates[mask] for table, mask in zip(tables, keep, strict=True)])[order]
    shifts = np.cumsum([0, *(len(table.legs) for table in tables[:-1])])
    firsts = np.concatenate([table.gates[mask, FIRST] + shift for table, mask, shift in zip(tables, keep, shifts, strict=True)])[order]
    counts = gates[:, LEGS].astype(np.int64)
    starts = np.cumsum(counts) - counts
    rows = np.arange(int(counts.sum())) + np.repeat(firsts - starts, counts)
    legs = np.concatenate([table.legs for table in tables])[rows]
    gates[:, FIRST], gates[:, RANK] = starts, 2 * np.arange(len(ids)) + 1
    return bucketed(_ids(ids[order]), gates, legs)


def above(upper: SegmentTable, lower: SegmentTable) -> SegmentTable:
    """The upper table with the ranks its segments have among those of the lower one."""
    gates = upper.gates.copy()
    gates[:, RANK] = 2 * np.searchsorted(lower.ids, upper.ids)
    return SegmentTable(upper.ids, gates, upper.legs, upper.buckets, upper.entries, upper.tags)


def _ids(names: Sequence[str] | Ids) -> Ids:
    """Ids as fixed bytes, no wider than the longest."""
    return np.array(names, np.bytes_) if len(names) else np.empty(0, "S1")
