"""What matchers remember: the last two fixes of a subject, attempts under way, efforts that wait for their second timing, and counts.

An `Arena` is the memory of many subjects, as the matching kernels read it; `Attempts` is one subject's part of it. All of it is whole
numbers. Within an arena a segment is its number in the index at hand; as bytes it is its id and the checksum of its line, so a state
outlives any index, and equal states are equal bytes. Nothing is ever dropped for want of room: an arena grows, and starts beyond
`INLINE` at once are counted as `spilled`.
"""

from __future__ import annotations

from collections.abc import Iterator
from itertools import pairwise
from struct import Struct
from typing import Final, NamedTuple, Self

import numpy as np

from processors.kernels.chains import END
from processors.kernels.match_columns import (
    BEFORE_LON,
    BEGUN_COLUMNS,
    C_COUNT,
    C_NEXT,
    C_NUMBER,
    COUNT_COLUMNS,
    COUNTS,
    CURVE,
    EVENT_COLUMNS,
    FINISH,
    FREE,
    FREE_COUNT,
    FREE_COUNT_N,
    FREE_N,
    HEAD_COLUMNS,
    LEG,
    MARKS,
    NEXT,
    NUMBER,
    POOL_COLUMNS,
    PROGRESS,
    RECORD_COLUMNS,
    SPILLED,
    START_US,
    UNDER,
    UNDER_N,
    WAITING,
    WAITING_N,
    Book,
    T,
    Told,
)
from processors.segment_table import I32, I64, MAX_ID, as_kernel
from processors.segments import SegmentIndex

_VERSION: Final = 2
_PRELUDE: Final = 1 + 8 * (BEFORE_LON + 1) + 8 * 4  # version, fixes, spilled, and how many records of each kind follow
_SIZES: Final = Struct("<4q")
_SHAPE_BYTES: Final = MAX_ID + 8
_NAMELESS: Final = -2  # segments that are not in the index have numbers from here downwards


class Going(NamedTuple):
    """An attempt under way: segment and checksum of its line, when it started, how far along it is."""

    segment: str
    shape: int
    start_us: int
    progress_mm: int


class Arena:
    """Memory of the matchers of many subjects. It belongs to one thread at a time."""

    def __init__(self, subjects: int = 1, records: int = 32) -> None:
        self.heads: I64 = np.zeros((subjects, HEAD_COLUMNS), np.int64)
        self.records: I64 = np.zeros((0, RECORD_COLUMNS), np.int64)
        self.curves: I32 = np.zeros((0, CURVE), np.int32)
        self.counts: I64 = np.zeros((0, COUNT_COLUMNS), np.int64)
        self.pool: I64 = np.zeros(POOL_COLUMNS, np.int64)
        self.pool[FREE] = self.pool[FREE_COUNT] = END
        self._slots = list(range(subjects - 1, -1, -1))
        self.more_records(records)
        self.more_counts(records)
        self.events: I64 = np.zeros((64, EVENT_COLUMNS), np.int64)
        self.event_curves: I32 = np.zeros((64, CURVE), np.int32)
        self.more_begun(16)

    def more_records(self, n: int) -> None:
        """Room for so many more records."""
        first = len(self.records)
        self.records = np.concatenate([self.records, np.zeros((n, RECORD_COLUMNS), np.int64)])
        self.curves = np.concatenate([self.curves, np.zeros((n, CURVE), np.int32)])
        self.records[first:, NEXT] = np.arange(first + 1, first + n + 1)
        self.records[-1, NEXT] = self.pool[FREE]
        self.pool[FREE] = first
        self.pool[FREE_N] += n
        self.__dict__.pop("_book", None)

    def more_counts(self, n: int) -> None:
        """Room for so many more counts."""
        first = len(self.counts)
        self.counts = np.concatenate([self.counts, np.zeros((n, COUNT_COLUMNS), np.int64)])
        self.counts[first:, C_NEXT] = np.arange(first + 1, first + n + 1)
        self.counts[-1, C_NEXT] = self.pool[FREE_COUNT]
        self.pool[FREE_COUNT] = first
        self.pool[FREE_COUNT_N] += n
        self.__dict__.pop("_book", None)

    def more_events(self, n: int) -> None:
        """Room for at least so many efforts told in one call."""
        self.events = np.zeros((max(n, 2 * len(self.events)), EVENT_COLUMNS), np.int64)
        self.event_curves = np.zeros((len(self.events), CURVE), np.int32)
        self.__dict__.pop("_told", None)

    def more_begun(self, n: int) -> None:
        """Room for at least so many starts and finishes on one step."""
        self._begun = np.zeros((n, BEGUN_COLUMNS), np.int64)
        self._finished = np.zeros(2 * n, np.int64)
        self.__dict__.pop("_told", None)

    @property
    def begun_room(self) -> int:
        """How many starts on one step there is room for."""
        return len(self._begun)

    @property
    def book(self) -> Book:
        """The memory as kernels take it."""
        found = self.__dict__.get("_book")
        if found is None:
            columns = (self.heads, self.records, self.curves, self.counts, self.pool)
            found = self.__dict__["_book"] = Book(*(as_kernel(column) for column in columns))
        return found

    @property
    def told(self) -> Told:
        """The room to tell as kernels take it."""
        found = self.__dict__.get("_told")
        if found is None:
            columns = (self.events, self.event_curves, self._begun, self._finished)
            found = self.__dict__["_told"] = Told(*(as_kernel(column) for column in columns))
        return found

    def slot(self) -> int:
        """A row for a new subject."""
        if not self._slots:
            n = len(self.heads)
            self.heads = np.concatenate([self.heads, np.zeros_like(self.heads)])
            self._slots = list(range(2 * n - 1, n - 1, -1))
            self.__dict__.pop("_book", None)
        slot = self._slots.pop()
        self.heads[slot] = 0
        self.heads[slot, [UNDER, UNDER + 1, WAITING, WAITING + 1, COUNTS]] = END
        return slot

    def clear(self, slot: int) -> None:
        """Nothing is remembered of a subject."""
        for first in (UNDER, WAITING):
            for r in list(self.chain(slot, first)):
                self.records[r, NEXT] = self.pool[FREE]
                self.pool[FREE] = r
                self.pool[FREE_N] += 1
        for c in list(self.counted(slot)):
            self.counts[c, C_NEXT] = self.pool[FREE_COUNT]
            self.pool[FREE_COUNT] = c
            self.pool[FREE_COUNT_N] += 1
        self.heads[slot] = 0
        self.heads[slot, [UNDER, UNDER + 1, WAITING, WAITING + 1, COUNTS]] = END

    def release(self, slot: int) -> None:
        """The row of a subject that is not followed any more."""
        self.clear(slot)
        self._slots.append(slot)

    def chain(self, slot: int, first: int) -> Iterator[int]:
        """The records of one chain, in order."""
        r = int(self.heads[slot, first])
        while r != END:
            yield r
            r = int(self.records[r, NEXT])

    def counted(self, slot: int) -> Iterator[int]:
        """The counts of a subject, the newest first."""
        c = int(self.heads[slot, COUNTS])
        while c != END:
            yield c
            c = int(self.counts[c, C_NEXT])

    def put(self, slot: int, first: int, row: I64, curve: I32) -> None:
        """Hang a record to the end of a chain."""
        if not self.pool[FREE_N]:
            self.more_records(len(self.records))
        r = int(self.pool[FREE])
        self.pool[FREE] = self.records[r, NEXT]
        self.pool[FREE_N] -= 1
        self.records[r] = row
        self.curves[r, : len(curve)] = curve
        self.records[r, NEXT] = END
        if self.heads[slot, first] == END:
            self.heads[slot, first] = r
        else:
            self.records[self.heads[slot, first + 1], NEXT] = r
        self.heads[slot, first + 1] = r
        self.heads[slot, first + 2] += 1

    def put_count(self, slot: int, number: int, count: int) -> None:
        """A count of efforts on a segment."""
        if not self.pool[FREE_COUNT_N]:
            self.more_counts(len(self.counts))
        c = int(self.pool[FREE_COUNT])
        self.pool[FREE_COUNT] = self.counts[c, C_NEXT]
        self.pool[FREE_COUNT_N] -= 1
        self.counts[c] = number, self.heads[slot, COUNTS], count
        self.heads[slot, COUNTS] = c


class Attempts:
    """The matching state of one subject in one activity: make a fresh one for each activity."""

    __slots__ = ("_index", "_nameless", "_stored", "arena", "slot")

    def __init__(self, arena: Arena | None = None) -> None:
        self.arena = Arena() if arena is None else arena
        self.slot = self.arena.slot()
        self._index: SegmentIndex | None = None
        self._nameless: list[tuple[str, int]] = []  # (id, shape) of segments that the index does not have
        self._stored: bytes | None = None  # not yet taken in: no index was at hand

    def __del__(self) -> None:
        if hasattr(self, "slot"):
            self.arena.release(self.slot)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Attempts) and self.encode() == other.encode()

    __hash__ = None  # pyright: ignore[reportAssignmentType] - equal states may part later

    @property
    def under(self) -> int:
        """How many attempts are under way."""
        return self._number(2) if self._stored is not None else int(self.arena.heads[self.slot, UNDER_N])

    @property
    def waiting(self) -> int:
        """How many efforts wait for their settled time."""
        return self._number(1) if self._stored is not None else int(self.arena.heads[self.slot, WAITING_N])

    @property
    def spilled(self) -> int:
        """How many starts came when more than `INLINE` attempts were under way."""
        return self._number(3) if self._stored is not None else int(self.arena.heads[self.slot, SPILLED])

    @property
    def last_us(self) -> int | None:
        """When the last fix was."""
        head = self._head()
        return int(head[T]) if head[0] else None

    def name_of(self, number: int) -> str:
        """The id of a segment by the number it has here."""
        return self._index.id_of(number) if self._index is not None and number >= 0 else self._named(number)[0]

    def going(self) -> list[Going]:
        """The attempts under way, in the order they began."""
        if self._stored is not None:
            rows, _, _, _, names = self._parsed(self._stored)
            return [Going(*name, int(row[START_US]), int(row[PROGRESS])) for name, row in zip(names, rows[: self.under], strict=False)]
        rows = self.arena.records[list(self.arena.chain(self.slot, UNDER))]
        return [Going(*self._named(int(row[NUMBER])), int(row[START_US]), int(row[PROGRESS])) for row in rows]

    def bind(self, index: SegmentIndex) -> None:
        """Go on with this index: attempts on segments it does not have, or has with another line, are over."""
        if self._index is index:
            return
        if self._index is not None or self._stored is None:
            if self._index is None or not self._any():
                self._index = index
                return
            self._stored = self.encode()
        self._load(self._stored, index)
        self._index, self._stored = index, None

    def encode(self) -> bytes:
        """The state as bytes: equal states give equal bytes."""
        if self._stored is not None:
            return self._stored
        arena = self.arena
        head = arena.heads[self.slot]
        start = bytes([_VERSION]) + head[: BEFORE_LON + 1].tobytes()
        under, waiting = list(arena.chain(self.slot, UNDER)), list(arena.chain(self.slot, WAITING))
        counts = sorted((self._named(int(arena.counts[c, C_NUMBER]))[0], int(arena.counts[c, C_COUNT])) for c in arena.counted(self.slot))
        parts = [start, _SIZES.pack(int(head[SPILLED]), len(under), len(waiting), len(counts))]
        if under or waiting:  # of most subjects, most of the time, neither
            rows = [*under, *waiting]
            held, curves = arena.records[rows], arena.curves[rows]
            marks, n = held[:, MARKS].tolist(), len(under)
            parts += [_name(*self._named(number)) for number in held[:, NUMBER].tolist()]
            parts += [held[:n, NEXT + 1 : FINISH].tobytes(), held[n:, NEXT + 1 :].tobytes()]
            parts += [curve[:filled].tobytes() for curve, filled in zip(curves, marks, strict=True)]
        parts += [_name(ident, count) for ident, count in counts]
        return b"".join(parts)

    @classmethod
    def decode(cls, raw: bytes, arena: Arena | None = None) -> Self:
        """Inverse of `encode`. ValueError for the bytes of another version, or too few of them."""
        if not raw or raw[0] != _VERSION:
            version = f"of version {raw[0]}" if raw else "none"
            raise ValueError(f"these {len(raw)} bytes are attempts {version}, not {_VERSION}: make the state again from the log")
        made = cls(arena)
        made._stored = bytes(raw)
        made._parsed(made._stored)
        return made

    def _any(self) -> bool:
        head = self.arena.heads[self.slot]
        return bool(head[UNDER_N] or head[WAITING_N] or head[COUNTS] != END)

    def _named(self, number: int) -> tuple[str, int]:
        if number <= _NAMELESS:
            return self._nameless[_NAMELESS - number]
        assert self._index is not None
        return self._index.id_of(number), self._index.shape_of(number)

    def _head(self) -> I64:
        if self._stored is None:
            return self.arena.heads[self.slot]
        return np.frombuffer(self._stored, np.int64, BEFORE_LON + 1, 1)

    def _number(self, back: int) -> int:
        """Of the four sizes in the stored bytes: 0 counts, 1 waiting, 2 under way, 3 spilled."""
        assert self._stored is not None
        return int.from_bytes(self._stored[_PRELUDE - 8 * (back + 1) : _PRELUDE - 8 * back], "little")

    def _parsed(self, raw: bytes) -> tuple[I64, list[I32], int, list[tuple[str, int]], list[tuple[str, int]]]:
        """Records (under way first), their curves, how many are under way, counts, and the segments of the records."""
        sizes = np.frombuffer(raw, np.int64, 4, 1 + 8 * (BEFORE_LON + 1)).tolist() if len(raw) >= _PRELUDE else [0, -1, 0, 0]
        _, n_under, n_waiting, n_counts = sizes
        n, under_columns, columns = n_under + n_waiting, FINISH - NEXT - 1, RECORD_COLUMNS - NEXT - 1
        at = _PRELUDE + n * _SHAPE_BYTES
        fixed = at + 8 * (n_under * under_columns + n_waiting * columns)
        if min(sizes) < 0 or len(raw) < fixed:
            raise ValueError(f"these {len(raw)} bytes of attempts are cut off")
        names = [_named(raw, _PRELUDE + k * _SHAPE_BYTES) for k in range(n)]
        rows = np.zeros((n, RECORD_COLUMNS), np.int64)
        rows[:n_under, NEXT + 1 : FINISH] = np.frombuffer(raw, np.int64, n_under * under_columns, at).reshape(n_under, under_columns)
        at += 8 * n_under * under_columns
        rows[n_under:, NEXT + 1 :] = np.frombuffer(raw, np.int64, n_waiting * columns, at).reshape(n_waiting, columns)
        marks = rows[:, MARKS]
        if bool(((marks < 0) | (marks > CURVE) | (rows[:, LEG] < 0) | (rows[:, PROGRESS] < 0)).any()):
            raise ValueError(f"these {len(raw)} bytes of attempts are damaged")
        if len(raw) != fixed + 4 * int(marks.sum()) + n_counts * _SHAPE_BYTES:
            raise ValueError(f"these {len(raw)} bytes of attempts are cut off or have more than they say")
        bounds = np.cumsum([0, *marks.tolist()])
        curve = np.frombuffer(raw, np.int32, int(bounds[-1]), fixed)
        counts = [_named(raw, fixed + curve.nbytes + k * _SHAPE_BYTES) for k in range(n_counts)]
        return rows, [curve[a:b] for a, b in pairwise(bounds.tolist())], n_under, counts, names

    def _load(self, raw: bytes, index: SegmentIndex) -> None:
        rows, curves, n_under, counts, names = self._parsed(raw)
        arena, slot = self.arena, self.slot
        arena.clear(slot)
        arena.heads[slot, : BEFORE_LON + 1] = np.frombuffer(raw, np.int64, BEFORE_LON + 1, 1)
        arena.heads[slot, SPILLED] = np.frombuffer(raw, np.int64, 1, 1 + 8 * (BEFORE_LON + 1))[0]
        self._nameless = []
        for k, (row, curve, name) in enumerate(zip(rows, curves, names, strict=True)):
            number = index.number_of(name[0])
            if number < 0 or index.shape_of(number) != name[1] or row[LEG] >= index.legs_of(number):
                if k < n_under:
                    continue
                number = self._nameless_number(name)
            row[NUMBER] = number
            arena.put(slot, UNDER if k < n_under else WAITING, row, curve)
        for ident, count in reversed(counts):
            number = index.number_of(ident)
            arena.put_count(slot, self._nameless_number((ident, 0)) if number < 0 else number, count)

    def _nameless_number(self, name: tuple[str, int]) -> int:
        self._nameless.append(name)
        return _NAMELESS - len(self._nameless) + 1


def _name(ident: str, number: int) -> bytes:
    return ident.encode().ljust(MAX_ID, b"\0") + number.to_bytes(8, "little", signed=True)


def _named(raw: bytes, at: int) -> tuple[str, int]:
    number = int.from_bytes(raw[at + MAX_ID : at + MAX_ID + 8], "little", signed=True)
    return raw[at : at + MAX_ID].rstrip(b"\0").decode(), number
