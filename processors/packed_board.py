"""A segment board of millions in packed arrays: versioned changes in batches, exact ranks, places and names, the next best restored.

Athletes are dense numbers (a roster knows who they are), changes fixed records. Per effort the highest version wins, of two states of one
version the greater one, and what is removed or kept off stays as a tombstone: any permutation, repetition and cut of the same changes
ends in the same `encoded` bytes. In memory: the counts of `rank_pages`, and per athlete the best time (4 B) and the last version (6 B).
The efforts (49 B each with their chains) may live in a mapped file, which is scratch: the journal is the truth.

Who stands at a place is found by one pass over the best times (5 ms for 10 million); the first thousand are kept sorted. One owner.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any, Final, NamedTuple

import numpy as np
import numpy.typing as npt

from processors.ladder import Key
from processors.packed_kernel import STANDING, find_between, take_all
from processors.rank_pages import MAX_MS, RankPages
from processors.results import Effort

CHANGE: Final = np.dtype(
    [
        ("athlete", "<u4"),
        ("elapsed_ms", "<i4"),
        ("start_us", "<i8"),
        ("version", "<i8"),
        ("id_hi", "<u8"),  # an id is 26 hex digits: 64 bits and 40 bits
        ("id_lo", "<u8"),
        ("state", "<u8"),  # the phase; + KEPT_OFF, + REMOVED
    ]
)  # 48 bytes
KEPT_OFF: Final = STANDING  # added to the phase in a state
REMOVED: Final = 2 * STANDING
Changes = npt.NDArray[Any]
MAX_VERSION: Final = 1 << 48
_COLUMNS: Final = (("id_hi", np.uint64), ("id_lo", np.uint64), ("start_us", np.int64), ("version", np.int64), ("elapsed_ms", np.int32),
                   ("state", np.uint8), ("next", np.int32))  # fmt: skip
_FIRST: Final = 1_000
_NOBODY: Final = -1


class Place(NamedTuple):
    """Who stands at a place, and with what."""

    athlete: int
    key: Key


def packed(athletes: Sequence[int], efforts: Sequence[Effort]) -> Changes:
    """Efforts as changes of their athletes; one that is another athlete's now needs its removal there as well.

    ValueError for an id that is not one of `results.effort_id`.
    """
    if any(len(e.id) != 26 for e in efforts):
        raise ValueError("a packed board takes ids of 26 hex digits")
    rows = [
        (
            athlete,
            e.elapsed_ms,
            e.start_us,
            e.version,
            int(e.id[:16], 16),
            int(e.id[16:], 16),
            e.phase + (REMOVED if e.removed else 0 if e.stands else KEPT_OFF),
        )
        for athlete, e in zip(athletes, efforts, strict=True)
    ]
    return np.array(rows, CHANGE)


def check_changes(changes: Changes) -> None:
    """ValueError for a time or version outside its range."""
    if len(changes):
        if int(changes["version"].min()) < 0 or int(changes["version"].max()) >= MAX_VERSION:
            raise ValueError("a version must be 0 to 2^48")
        if int(changes["elapsed_ms"].min()) < 0:
            raise ValueError(f"elapsed {int(changes['elapsed_ms'].min())} ms is outside 0-{MAX_MS}")


class PackedBoard:
    """One board. `folder`: where the efforts are mapped to a file; None keeps them in memory."""

    def __init__(self, folder: Path | None = None) -> None:
        self._folder = folder
        self._files = 0
        self.pages = RankPages()
        self._best = np.zeros(0, np.int32)
        self._version_low, self._version_high = np.zeros(0, np.uint32), np.zeros(0, np.uint16)
        self._head = self._column("head", np.int32, 0)
        self._efforts = {name: self._column(name, kind, 0) for name, kind in _COLUMNS}
        self._used = 0
        self._first: list[Place] | None = None  # the first thousand, None: to be found again
        self.version = 0

    def __len__(self) -> int:
        return self.pages.size

    @property
    def efforts(self) -> int:
        """How many efforts are held, tombstones too."""
        return self._used

    def reserve(self, athletes: int, efforts: int) -> None:
        """Make room for as many at once; without it, room is made as they come."""
        self._make_room(max(efforts - self._used, 0), athletes)

    def apply(self, changes: Changes) -> npt.NDArray[np.uint8]:
        """Take changes in any order: per change 0 when it is no news, 1 when no row moved, 2 when a best time or its key did.

        ValueError, and nothing taken, for a time or version outside its range.
        """
        if not len(changes):
            return np.zeros(0, np.uint8)
        check_changes(changes)
        self.pages.reserve(changes["elapsed_ms"])
        self._make_room(len(changes), int(changes["athlete"].max()) + 1)
        outcome = np.zeros(len(changes), np.uint8)
        e = self._efforts
        self._used, more, lowest_ms = take_all(
            changes["athlete"], changes["elapsed_ms"], changes["start_us"], changes["version"], changes["id_hi"], changes["id_lo"],
            changes["state"], e["id_hi"], e["id_lo"], e["start_us"], e["version"], e["elapsed_ms"], e["state"], e["next"],
            self._head, self._best, self._version_low, self._version_high, *self.pages.arrays, self._used, outcome,
        )  # fmt: skip
        self.pages.size += int(more)
        self.version = max(self.version, int(changes["version"].max()))
        if self._first is not None and (len(self._first) < _FIRST or lowest_ms <= self._first[-1].key[0]):
            self._first = None
        return outcome

    def version_of(self, athlete: int) -> int:
        """The highest version of the efforts of an athlete, 0 without one."""
        if athlete >= len(self._best):
            return 0
        return int(self._version_high[athlete]) << 32 | int(self._version_low[athlete])

    def changed_since(self, version: int) -> npt.NDArray[np.int64]:
        """The athletes with a newer effort, by number."""
        low, high = version & 0xFFFFFFFF, version >> 32
        return np.flatnonzero((self._version_high > high) | ((self._version_high == high) & (self._version_low > low)))

    def best_ms(self, athlete: int) -> int | None:
        """The best time of an athlete, None when nothing stands."""
        held = int(self._best[athlete]) if athlete < len(self._best) else _NOBODY
        return None if held < 0 else held

    def best_times(self) -> npt.NDArray[np.int32]:
        """The best time of everybody who stands here, by number."""
        return self._best[self._best >= 0]

    def key_of(self, athlete: int) -> Key | None:
        """The key an athlete stands with."""
        if self.best_ms(athlete) is None:
            return None
        e, found, slot = self._efforts, None, int(self._head[athlete])
        while slot:
            slot -= 1
            if e["state"][slot] < STANDING:
                key = int(e["elapsed_ms"][slot]), int(e["start_us"][slot]), f"{int(e['id_hi'][slot]):016x}{int(e['id_lo'][slot]):010x}"
                found = key if found is None else min(found, key)
            slot = int(e["next"][slot])
        return found

    def rank(self, key: Key) -> int:
        """1 + how many are strictly faster; the key need not be here."""
        return self.pages.rank(key[0])

    def rank_of(self, athlete: int) -> int | None:
        """The rank of an athlete."""
        held = self.best_ms(athlete)
        return None if held is None else self.pages.rank(held)

    def index(self, key: Key) -> int:
        """The place of a key from 0: ties in order of their start."""
        return self.pages.rank(key[0]) - 1 + sum(place.key < key for place in self._between(key[0], key[0]))

    def index_after(self, key: Key) -> int:
        """The place behind a key, whether it is here (still) or not."""
        return self.pages.rank(key[0]) - 1 + sum(place.key <= key for place in self._between(key[0], key[0]))

    def slice(self, first: int, last: int) -> list[Place]:
        """Who stands from one place up to another (exclusive); places outside are cut off."""
        first, last = max(first, 0), min(last, len(self))
        if first >= last:
            return []
        if last <= _FIRST:
            if self._first is None:
                self._first = self._slice(0, min(_FIRST, len(self)))
            return self._first[first:last]
        return self._slice(first, last)

    def leader(self) -> Place | None:
        """The first."""
        return next(iter(self.slice(0, 1)), None)

    def last(self) -> Place | None:
        """The last."""
        return next(iter(self.slice(len(self) - 1, len(self))), None)

    def around(self, athlete: int, rows: int) -> list[Place]:
        """An athlete with up to `rows` above and below; empty for who is not here."""
        key = self.key_of(athlete)
        if key is None:
            return []
        first, end = self.pages.rank(key[0]) - 1, self.pages.rank(key[0] + 1) - 1
        lo, hi = self.pages.at(max(first - rows, 0)), self.pages.at(min(end + rows, len(self)) - 1)
        near = self._between(lo, hi)
        place = near.index(Place(athlete, key))
        return near[max(place - rows, 0) : place + rows + 1]

    def next_faster(self, key: Key) -> Place | None:
        """The slowest that is strictly faster; the latest of them when several tie."""
        place = self.rank(key) - 2
        return self.slice(place, place + 1)[0] if place >= 0 else None

    def percentile_ms(self, percent: int) -> int | None:
        """The time that `percent` (1-100) of all athletes reach at least (nearest rank), None when nobody stands here."""
        return self.pages.at(-(-len(self) * percent // 100) - 1) if len(self) else None

    def standing_efforts(self) -> int:
        """How many efforts stand."""
        return int((self._efforts["state"][: self._used] < STANDING).sum())

    def held(self) -> Changes:
        """All efforts (tombstones too) as changes, by athlete and id: what a journal begins anew with."""
        made = np.zeros(self._used, CHANGE)
        for name in ("elapsed_ms", "start_us", "version", "id_hi", "id_lo", "state"):
            made[name] = self._efforts[name][: self._used]
        _write_athletes(self._head, self._efforts["next"], made["athlete"])
        return made[np.lexsort((made["id_lo"], made["id_hi"], made["athlete"]))]

    def encoded(self) -> bytes:
        """The whole board as bytes: equal boards of one roster give equal bytes, however they came to be."""
        order = np.flatnonzero(self._best >= 0)
        return self.held().tobytes() + order.tobytes() + self._best[order].tobytes()

    @property
    def rank_bytes(self) -> int:
        """Memory of the rank structure."""
        return self.pages.nbytes

    @property
    def athlete_bytes(self) -> int:
        """Memory of the best time and the version of each athlete."""
        return self._best.nbytes + self._version_low.nbytes + self._version_high.nbytes

    @property
    def effort_bytes(self) -> int:
        """Memory, or size of the mapped files, of the efforts themselves and their chains."""
        return self._head.nbytes + sum(column.nbytes for column in self._efforts.values())

    def _slice(self, first: int, last: int) -> list[Place]:
        lo, hi = self.pages.at(first), self.pages.at(last - 1)
        skipped = first - (self.pages.rank(lo) - 1)
        return self._between(lo, hi)[skipped : skipped + last - first]

    def _between(self, lo_ms: int, hi_ms: int) -> list[Place]:
        """Everybody who stands with a time between two (both included), in order."""
        found = np.zeros(self.pages.rank(hi_ms + 1) - self.pages.rank(lo_ms), np.int64)
        find_between(self._best, lo_ms, hi_ms, found)
        places: list[Place] = []
        for athlete in found.tolist():
            key = self.key_of(athlete)
            assert key is not None
            places.append(Place(athlete, key))
        return sorted(places, key=lambda place: place.key)

    def _make_room(self, changes: int, athletes: int) -> None:
        if athletes > len(self._best):
            length = athletes + (athletes // 8 if len(self._best) else 0)
            best = np.full(length, _NOBODY, np.int32)
            best[: len(self._best)] = self._best
            self._best = best
            self._version_low, self._version_high = _longer(self._version_low, length), _longer(self._version_high, length)
            self._head = self._moved("head", self._head, length)
        length = self._used + changes
        if length > len(self._efforts["next"]):
            length += length // 8 if self._used else 0
            self._efforts = {name: self._moved(name, column, length) for name, column in self._efforts.items()}

    def _moved(self, name: str, column: npt.NDArray[Any], length: int) -> npt.NDArray[Any]:
        made = self._column(name, column.dtype, length)
        made[: len(column)] = column
        return made

    def _column(self, name: str, kind: npt.DTypeLike, length: int) -> npt.NDArray[Any]:
        if self._folder is None or not length:
            return np.zeros(length, kind)
        self._files += 1
        path = self._folder / f"{name}.{self._files}"
        made = np.memmap(path, dtype=kind, mode="w+", shape=(length,))
        path.unlink()  # scratch: nobody else may open it, and it ends with the board
        return made


def _longer(array: npt.NDArray[Any], length: int) -> npt.NDArray[Any]:
    made = np.zeros(length, array.dtype)
    made[: len(array)] = array
    return made


def _write_athletes(head: npt.NDArray[Any], following: npt.NDArray[Any], into: npt.NDArray[Any]) -> None:
    """The number of its athlete for each effort: all chains step by step at once."""
    athletes = np.flatnonzero(head)
    slots = head[athletes].astype(np.int64) - 1
    while len(slots):
        into[slots] = athletes
        following_slots = following[slots].astype(np.int64)
        athletes, slots = athletes[following_slots > 0], following_slots[following_slots > 0] - 1
