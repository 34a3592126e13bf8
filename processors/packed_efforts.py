"""The efforts of a large board in columns: 43 bytes an effort and 20 an athlete, besides two tables that find them by name.

Athletes are dense numbers in the order in which they came; a name is the digest of a subject, an effort the 104 bits of its id. Per effort
the highest version wins; what is removed or kept off stays as a tombstone. `encoded` gives equal bytes for equal boards however they came
to be. Texts are not held: who an effort is of and what else is known of it, the store says when it is shown. One owner.
"""

from __future__ import annotations

from collections.abc import Callable, Container, Iterable, Sequence
from functools import lru_cache
from hashlib import blake2b
from typing import Any, Final, NamedTuple

import numpy as np
import numpy.typing as npt

from processors.ladder import Key
from processors.packed_kernel import (
    COUNTS,
    DOUBLE,
    FAR_MS,
    KEPT_OFF,
    REMOVED,
    TOLD,
    Columns,
    Told,
    best_of,
    find_all,
    index_all,
    number_all,
    place_of,
    seat,
    take_all,
)
from processors.rank_pages import MAX_MS, RankPages
from processors.results import Effort

MAX_VERSION: Final = 1 << 48
EVER: Final = (-(1 << 62), 1 << 62)
_HEX: Final = frozenset("0123456789abcdef")
_COLUMNS: Final = Columns(np.uint64, np.uint64, np.int64, np.uint32, np.uint16, np.int32, np.uint8, np.int32, np.int32)
_NOBODY: Final = -1


class Entry(NamedTuple):
    """What ranks of an effort. `state`: its phase, + KEPT_OFF when it is held and does not stand, or + REMOVED."""

    id: str
    subject: str
    start_us: int
    elapsed_ms: int
    version: int
    state: int


def entry_of(e: Effort) -> Entry:
    """What ranks of an effort."""
    return Entry(e.id, e.subject, e.start_us, e.elapsed_ms, e.version, e.phase + (REMOVED if e.removed else 0 if e.stands else KEPT_OFF))


def may_be_packed(e: Effort) -> bool:
    """Whether an effort fits: its id is one of `results.effort_id`, its time and version are such as there are."""
    return is_packed_id(e.id) and 0 <= e.elapsed_ms <= MAX_MS and 0 <= e.version < MAX_VERSION


def is_packed_id(effort_id: str) -> bool:
    """Whether an id is one of `results.effort_id`: 26 hex digits."""
    return len(effort_id) == 26 and _HEX.issuperset(effort_id)


def _told(entries: Sequence[Entry]) -> Told:
    """Entries as columns, still without numbers of athletes. ValueError for an id, time or version that no effort has."""
    ids, _, start_us, elapsed_ms, version, state = zip(*entries, strict=True)
    joined = "".join(ids)
    if not _HEX.issuperset(joined) or {*map(len, ids)} != {26}:
        raise ValueError(f"effort id {next(name for name in ids if not is_packed_id(name))!r} is not 26 hex digits")
    halves = np.frombuffer(bytes.fromhex(joined), [("hi", ">u8"), ("mid", "u1"), ("lo", ">u4")])
    told = Told(
        np.zeros(len(ids), np.int32),
        halves["hi"].astype(np.uint64),
        halves["mid"].astype(np.uint64) << np.uint64(32) | halves["lo"].astype(np.uint64),
        np.array(start_us, np.int64),
        np.array(version, np.int64),
        np.array(elapsed_ms, np.int64),
        np.array(state, np.uint8),
    )
    check_told(told)
    return told


def check_told(told: Told) -> None:
    """ValueError for a time or version outside its range."""
    if len(told.version):
        if int(told.version.min()) < 0 or int(told.version.max()) >= MAX_VERSION:
            raise ValueError("a version must be 0 to 2^48")
        if int(told.elapsed_ms.min()) < 0 or int(told.elapsed_ms.max()) > MAX_MS:
            raise ValueError(f"an elapsed time is outside 0-{MAX_MS} ms")


class PackedEfforts:
    """The columns of one board, the best time of each athlete, and how many stand at each time (`pages`). `came` hears of a new athlete:
    the number and the subject."""

    def __init__(self, came: Callable[[int, str], None] | None = None) -> None:
        self._came = came
        self.columns = Columns(*(np.zeros(0, kind) for kind in _COLUMNS))
        self.head = np.zeros(0, np.int32)
        self.best_ms = np.zeros(0, np.int32)
        self.pages = RankPages()
        self.used = 0
        self.athletes = 0
        self.version = 0
        self.touched: set[int] | None = None  # slots that changed, for who sets it
        self._table = np.zeros(8, np.int32)
        self._who_hi, self._who_lo = np.zeros(0, np.uint64), np.zeros(0, np.uint64)
        self._who = np.zeros(8, np.int32)

    def number(self, subject: str) -> int:
        """The number of an athlete, -1 for who never had an effort here."""
        return max(int(place_of(self._who, self._who_hi, self._who_lo, *_name(subject))), _NOBODY)

    def numbered(self, subject: str) -> int:
        """The number of an athlete, the next one for who comes."""
        hi, lo = _name(subject)
        found = int(place_of(self._who, self._who_hi, self._who_lo, hi, lo))
        if found >= 0:
            return found
        if self.athletes == len(self.head):
            self.reserve(self.athletes + self.athletes // 4 + 64, 0)
            found = int(place_of(self._who, self._who_hi, self._who_lo, hi, lo))
        self._who_hi[self.athletes], self._who_lo[self.athletes] = hi, lo
        self._who[-1 - found] = self.athletes + 1
        self.athletes += 1
        if self._came is not None:
            self._came(self.athletes - 1, subject)
        return self.athletes - 1

    def reserve(self, athletes: int, efforts: int) -> None:
        """Make room for as many at once; without it, room is made as they come."""
        if athletes > len(self.head):
            self.head, self.best_ms = _longer(self.head, athletes, 0), _longer(self.best_ms, athletes, _NOBODY)
            self._who_hi, self._who_lo = _longer(self._who_hi, athletes, 0), _longer(self._who_lo, athletes, 0)
            self._who = np.zeros(_table_for(athletes), np.int32)
            index_all(self._who, self._who_hi, self._who_lo, self.athletes)
        if efforts > len(self.columns.state):
            self.columns = Columns(*(_longer(column, efforts, 0) for column in self.columns))
            self._table = np.zeros(_table_for(efforts), np.int32)
            index_all(self._table, self.columns.id_hi, self.columns.id_lo, self.used)

    def slot(self, effort_id: str) -> int:
        """The slot of an effort, -1 when it is not held."""
        if not is_packed_id(effort_id):
            return -1
        hi, lo = np.uint64(int(effort_id[:16], 16)), np.uint64(int(effort_id[16:], 16))
        return max(int(place_of(self._table, self.columns.id_hi, self.columns.id_lo, hi, lo)), -1)

    def take(self, entries: Sequence[Entry], *, forced: bool = False) -> tuple[npt.NDArray[np.uint8], list[int], int]:
        """Take changes: what came of each (bits of the kernel), the numbers of their athletes, and the least time that came or went.

        ValueError, and nothing taken, for an id, time or version that no effort has.
        """
        if not entries:
            return np.zeros(0, np.uint8), [], FAR_MS
        told = _told(entries)
        numbers = self._all_numbered([e.subject for e in entries])
        outcome, lowest_ms = self.take_told(told._replace(athlete=np.array(numbers, np.int32)), forced=forced)
        if self.touched is not None:
            self.touched.update(self.slot(e.id) for e in entries)
        return outcome, numbers, lowest_ms

    def take_told(self, told: Told, *, forced: bool = False) -> tuple[npt.NDArray[np.uint8], int]:
        """As `take`, of changes whose athletes have numbers."""
        outcome = np.zeros(len(told.version), np.uint8)
        check_told(told)
        self.pages.reserve(told.elapsed_ms)
        if self.used + len(outcome) > len(self.columns.state):
            self.reserve(0, self.used + len(outcome) + self.used // 4)
        self.used, more, lowest_ms = take_all(
            told, forced, self._table, self.columns, self.head, self.best_ms, self.pages.arrays, self.used, outcome
        )
        self.pages.size += int(more)
        self.version = max(self.version, int(told.version.max(initial=0)))
        return outcome, int(lowest_ms)

    def load(self, entries: Iterable[Entry], expected: int) -> list[int]:
        """Fill an empty board at once, from one entry an effort; returns the athletes of whom efforts share time, to be looked at.

        ValueError for an id, time or version that no effort has.
        """
        assert self.used == 0
        self.reserve(0, expected)
        for piece in _pieces(entries, 65_536):
            told = _told(piece)
            numbers = self._all_numbered([e.subject for e in piece])
            first, end = self.used, self.used + len(piece)
            if end > len(self.columns.state):
                self.reserve(0, end + end // 4)
            self._place(told._replace(athlete=np.array(numbers, np.int32)), first, end)
        self._table[:] = 0
        index_all(self._table, self.columns.id_hi, self.columns.id_lo, self.used)
        return self._chained()

    def restore(self, told: Told, who_hi: npt.NDArray[np.uint64], who_lo: npt.NDArray[np.uint64]) -> None:
        """Fill an empty board from columns of another one, in their order; athletes by their names, states as they were found out."""
        assert self.used == 0
        used = len(told.version)
        table, hi, lo = np.zeros(_table_for(used), np.int32), np.zeros(used, np.uint64), np.zeros(used, np.uint64)
        athletes = int(number_all(table, hi, lo, who_hi, who_lo, told.athlete))
        self.reserve(athletes + athletes // 8, used + used // 8)
        self._who_hi[:athletes], self._who_lo[:athletes] = hi[:athletes], lo[:athletes]
        self.athletes = athletes
        index_all(self._who, self._who_hi, self._who_lo, athletes)
        self._place(told, 0, used)
        index_all(self._table, self.columns.id_hi, self.columns.id_lo, used)
        self._chained()

    def names(self, slots: slice) -> tuple[npt.NDArray[np.uint64], npt.NDArray[np.uint64]]:
        """The names of the athletes of some slots."""
        athlete = self.columns.athlete[slots]
        return self._who_hi[athlete], self._who_lo[athlete]

    def _place(self, told: Told, first: int, end: int) -> None:
        """Put efforts that are not held into free slots."""
        c = self.columns
        c.id_hi[first:end], c.id_lo[first:end] = told.id_hi, told.id_lo
        c.start_us[first:end], c.elapsed_ms[first:end] = told.start_us, told.elapsed_ms
        c.version_low[first:end], c.version_high[first:end] = told.version & 0xFFFFFFFF, told.version >> 32
        c.state[first:end], c.athlete[first:end] = told.state, told.athlete
        self.used = end
        self.version = max(self.version, int(told.version.max(initial=0)))

    def _all_numbered(self, subjects: Sequence[str]) -> list[int]:
        distinct = list(dict.fromkeys(subjects))
        names = np.frombuffer(b"".join(map(_digest, distinct)), "<u8").reshape(-1, 2)
        found = np.zeros(len(distinct), np.int64)
        find_all(self._who, self._who_hi, self._who_lo, names[:, 0].copy(), names[:, 1].copy(), found)
        known = {
            subject: number if number >= 0 else self.numbered(subject) for subject, number in zip(distinct, found.tolist(), strict=True)
        }
        return [known[subject] for subject in subjects]

    def _chained(self) -> list[int]:
        """Make the chains and best times of what was loaded; the athletes of whom efforts that stand share time."""
        c, used = self.columns, self.used
        if not used:
            return []
        order = np.lexsort((c.start_us[:used], c.athlete[:used]))
        athlete = c.athlete[order]
        same = athlete[1:] == athlete[:-1]
        c.following[order[:-1]] = np.where(same, order[1:] + 1, 0)
        first = np.flatnonzero(np.concatenate([[True], ~same]))
        self.head[athlete[first]] = order[first] + 1
        counting = np.flatnonzero(c.state[:used] < COUNTS)
        best = np.full(len(self.best_ms), MAX_MS, np.int32)
        np.minimum.at(best, c.athlete[counting], c.elapsed_ms[counting])
        stands = np.zeros(len(best), np.bool_)
        stands[c.athlete[counting]] = True
        best[~stands] = _NOBODY
        self.best_ms = best
        self.pages = RankPages()
        self.pages.reserve(c.elapsed_ms[counting])  # of each that may become the best of its athlete, not only of those that are
        self.pages.load(best[stands])
        order = order[c.state[order] < COUNTS]
        ends_us = c.start_us[order] + 1000 * c.elapsed_ms[order].astype(np.int64)
        shared = (c.athlete[order][1:] == c.athlete[order][:-1]) & (c.start_us[order][1:] < ends_us[:-1])
        return np.unique(c.athlete[order][1:][shared]).tolist()

    def slots_of(self, number: int) -> list[int]:
        """The slots of all efforts of an athlete."""
        found: list[int] = []
        following, slot = self.columns.following, int(self.head[number]) - 1 if 0 <= number < self.athletes else -1
        while slot >= 0:
            found.append(slot)
            slot = int(following[slot]) - 1
        return found

    def own(self, number: int) -> list[Key]:
        """The keys of the counting efforts of an athlete, best first."""
        state = self.columns.state
        return sorted(self.key(slot) for slot in self.slots_of(number) if state[slot] < COUNTS)

    def best(self, number: int, from_us: int, to_us: int) -> Key | None:
        """The key of the best counting effort that starts between two times."""
        slot = int(best_of(self.head, self.columns, number, from_us, to_us))
        return None if slot < 0 else self.key(slot)

    def best_ever(self, number: int) -> Key | None:
        """The key an athlete stands with."""
        return self.best(number, *EVER) if 0 <= number < self.athletes else None

    def count_once(self, number: int, standing: Sequence[int], doubles: Container[int]) -> None:
        """Of the slots of an athlete that stand, these are second recordings of a crossing; they do not count."""
        state = self.columns.state
        for slot in standing:
            state[slot] = int(state[slot]) & TOLD | (DOUBLE if slot in doubles else 0)
        if self.touched is not None:
            self.touched.update(standing)
        best = self.best_ever(number)
        self.pages.size += int(seat(self.best_ms, self.pages.arrays, number, -1 if best is None else best[0]))

    def key(self, slot: int) -> Key:
        """What an effort is ranked by."""
        c = self.columns
        return int(c.elapsed_ms[slot]), int(c.start_us[slot]), self.id(slot)

    def id(self, slot: int) -> str:
        """The id of an effort."""
        return f"{int(self.columns.id_hi[slot]):016x}{int(self.columns.id_lo[slot]):010x}"

    def version_of(self, slot: int) -> int:
        """The version of an effort."""
        return int(self.columns.version_high[slot]) << 32 | int(self.columns.version_low[slot])

    def encoded(self) -> bytes:
        """The whole board as bytes, by id."""
        c, used = self.columns, self.used
        order = np.lexsort((c.id_lo[:used], c.id_hi[:used]))
        names = [self._who_hi[c.athlete[order]], self._who_lo[c.athlete[order]]]
        told = [column[order].tobytes() for column in c[:7]]
        standing = np.sort(self.best_ms[: self.athletes][self.best_ms[: self.athletes] >= 0])
        return b"".join([*told, *(name.tobytes() for name in names), standing.tobytes()])

    @property
    def rank_bytes(self) -> int:
        """Memory of the rank structure."""
        return self.pages.nbytes

    @property
    def best_bytes(self) -> int:
        """Memory of the best time of each athlete and the version of each effort."""
        return self.best_ms.nbytes + self.columns.version_low.nbytes + self.columns.version_high.nbytes

    @property
    def nbytes(self) -> int:
        """Memory of everything."""
        athletes = (self.head, self.best_ms, self._who_hi, self._who_lo, self._who)
        return self.rank_bytes + sum(array.nbytes for array in (*athletes, *self.columns, self._table))


def _pieces(entries: Iterable[Entry], size: int) -> Iterable[list[Entry]]:
    piece: list[Entry] = []
    for e in entries:
        piece.append(e)
        if len(piece) == size:
            yield piece
            piece = []
    if piece:
        yield piece


def _digest(subject: str) -> bytes:
    return blake2b(subject.encode(), digest_size=16).digest()


@lru_cache(maxsize=4_096)
def _name(subject: str) -> tuple[np.uint64, np.uint64]:
    digest = _digest(subject)
    return np.uint64(int.from_bytes(digest[:8], "little")), np.uint64(int.from_bytes(digest[8:], "little"))


def _table_for(rows: int) -> int:
    return max(1 << (rows + rows // 3).bit_length(), 8)


def _longer(array: npt.NDArray[Any], length: int, absent: int) -> npt.NDArray[Any]:
    if length <= len(array):
        return array
    made = np.full(length, absent, array.dtype) if absent else np.zeros(length, array.dtype)
    made[: len(array)] = array
    return made


def warm_up() -> None:
    """Compile (or load the cached) loops before a board is large."""
    held = PackedEfforts()
    entry = Entry("0" * 26, "", 0, 1, 1, 0)
    held.load([entry], 1)
    held.take([entry._replace(version=2)])
    held.count_once(0, [0], ())
    again = PackedEfforts()
    again.restore(_told([entry]), *held.names(slice(0, 1)))
    held.pages.rank(held.pages.at(0))
