"""The rows of one view of a packed board: the best time of each athlete there, and how many stand at each time.

Ranks come from counts. Who stands at a place is found by one pass over the best times (a millisecond for a million), 64 places at a
time, kept until a row moves; the first thousand are kept in order through every change. Answers as `ladder.Ladder` does, key by key.
"""

from __future__ import annotations

from bisect import bisect_left, bisect_right, insort
from collections import OrderedDict
from collections.abc import Callable
from typing import Final

import numpy as np
import numpy.typing as npt

from processors.board_views import Span
from processors.ladder import Key
from processors.packed_efforts import EVER, PackedEfforts
from processors.packed_kernel import seat
from processors.rank_pages import RankPages

FIRST: Final = 1_000
_LEAST: Final = 500  # of the first that are left, before they are found again
_WINDOW: Final = 64
_WINDOWS: Final = 16

Window = tuple[int, list[Key]]
"""The place of the first key, and the keys."""


class PackedStandings:
    """`best_ms` by number of an athlete, -1 for who is not here; `counts`: how many efforts count of each (None: of the overall view,
    which the efforts keep themselves). `span`: when an effort of an athlete has to start, asked only of who is here."""

    def __init__(
        self,
        efforts: PackedEfforts,
        span: Callable[[int], Span] | None = None,
        best_ms: npt.NDArray[np.int32] | None = None,
        counts: npt.NDArray[np.int32] | None = None,
    ) -> None:
        self._held = efforts
        self._span = span
        self._own_best_ms, self._counts = best_ms, counts
        self._own_pages = RankPages()
        self.efforts = 0
        if best_ms is not None and counts is not None:
            self._own_pages.load(best_ms[best_ms >= 0])
            self.efforts = int(counts.sum(dtype=np.int64))
        self.followed = 0  # up to which change of the board
        self._first: list[Key] | None = None
        self._windows: OrderedDict[int, Window] = OrderedDict()

    @property
    def _best_ms(self) -> npt.NDArray[np.int32]:
        return self._held.best_ms if self._own_best_ms is None else self._own_best_ms

    @property
    def _pages(self) -> RankPages:
        return self._held.pages if self._own_best_ms is None else self._own_pages

    def __len__(self) -> int:
        return self._pages.size

    @property
    def nbytes(self) -> int:
        """Memory of the rows of a view; those of the overall one are of the efforts."""
        if self._own_best_ms is None or self._counts is None:
            return 0
        return self._own_best_ms.nbytes + self._counts.nbytes + self._own_pages.nbytes

    def seat(self, number: int, count: int, best: Key | None) -> None:
        """Bring the row of an athlete of a view up to date: how many efforts count, and the best one."""
        if self._own_best_ms is None or self._counts is None:
            raise ValueError("the overall view is kept by its efforts")
        if number >= len(self._own_best_ms):
            more = max(len(self._held.best_ms) - len(self._own_best_ms), 0)
            self._own_best_ms = np.concatenate([self._own_best_ms, np.full(more, -1, np.int32)])
            self._counts = np.concatenate([self._counts, np.zeros(more, np.int32)])
        self.efforts += count - int(self._counts[number])
        self._counts[number] = count
        ms = -1 if best is None else best[0]
        if best is not None:
            self._own_pages.reserve(np.array([ms]))
        self._own_pages.size += int(seat(self._own_best_ms, self._own_pages.arrays, number, ms))
        self.forget()

    def moved(self, before: Key | None, after: Key | None) -> None:
        """A row of the overall view stood with one key and stands with another now."""
        if before == after:
            return
        self._windows.clear()
        first = self._first
        if first is None:
            return
        if before is not None and first and before <= first[-1]:
            del first[bisect_left(first, before)]
        if after is not None and ((first and after < first[-1]) or len(first) + 1 == len(self)):
            insort(first, after)
        del first[2 * FIRST :]
        if len(first) < min(_LEAST, len(self)):
            self._first = None

    def moved_from(self, lowest_ms: int) -> None:
        """Rows of the overall view moved, none of them better than a time."""
        self._windows.clear()
        if self._first is not None and (not self._first or lowest_ms <= self._first[-1][0]):
            self._first = None

    def forget(self) -> None:
        """Rows may have moved: what is kept in order is found again."""
        self._first = None
        self._windows.clear()

    def key_of(self, subject: str) -> Key | None:
        """The key a subject stands here with."""
        return self.key_of_number(self._held.number(subject))

    def key_of_number(self, number: int) -> Key | None:
        """The key an athlete stands here with."""
        best_ms = self._best_ms
        if not 0 <= number < len(best_ms) or best_ms[number] < 0:
            return None
        return self._held.best(number, *(EVER if self._span is None else self._span(number)))

    def rank(self, key: Key) -> int:
        """1 + how many here are strictly faster; the key need not be here."""
        return self._pages.rank(key[0])

    def index(self, key: Key) -> int:
        """The place in the list, from 0: ties in order of their start."""
        first, keys = self._equal(key[0])
        return first + bisect_left(keys, key)

    def index_after(self, key: Key) -> int:
        """The place behind a key, whether it is here (still) or not."""
        first, keys = self._equal(key[0])
        return first + bisect_right(keys, key)

    def slice(self, first: int, last: int) -> list[Key]:
        """Keys from one place up to another (exclusive); places outside are cut off."""
        first, last = max(first, 0), min(last, len(self))
        if first >= last:
            return []
        if last <= FIRST:
            kept = self._kept()
            if last <= len(kept):
                return kept[first:last]
        found: list[Key] = []
        while first + len(found) < last:
            begins, keys = self._window(first + len(found))
            found += keys[first + len(found) - begins :]
        return found[: last - first]

    def leader(self) -> Key | None:
        """The first key."""
        return next(iter(self.slice(0, 1)), None)

    def last(self) -> Key | None:
        """The last key."""
        return next(iter(self.slice(len(self) - 1, len(self))), None)

    def next_faster(self, key: Key) -> Key | None:
        """The slowest key that is strictly faster; the latest of them when several tie."""
        place = self.rank(key) - 2
        return self.slice(place, place + 1)[0] if place >= 0 else None

    def percentile_ms(self, percent: int) -> int | None:
        """The time that `percent` (1-100) of all here reach at least (nearest rank), None when nobody stands here."""
        return self._pages.at(-(-len(self) * percent // 100) - 1) if len(self) else None

    def _kept(self) -> list[Key]:
        if self._first is None:
            self._first = self._between(0, self._pages.at(min(FIRST, len(self)) - 1)) if len(self) else []
        return self._first

    def _equal(self, ms: int) -> Window:
        """A window with all keys of a time; an empty one at the place where they would be."""
        place = self._pages.rank(ms) - 1
        if place >= len(self):
            return place, []
        first = self._first
        if first and ms < first[-1][0]:
            return 0, first
        return self._window(place)

    def _window(self, place: int) -> Window:
        """Keys around a place that is there, with all of equal times."""
        number = place // _WINDOW
        held = self._windows.get(number)
        if held is None:
            lo_ms = self._pages.at(number * _WINDOW)
            hi_ms = self._pages.at(min((number + 1) * _WINDOW, len(self)) - 1)
            held = self._windows[number] = self._pages.rank(lo_ms) - 1, self._between(lo_ms, hi_ms)
            if len(self._windows) > _WINDOWS:
                self._windows.popitem(last=False)
        return held

    def _between(self, lo_ms: int, hi_ms: int) -> list[Key]:
        """The keys of everybody who stands with a time between two (both included), in order."""
        best_ms = self._best_ms
        found = np.flatnonzero((best_ms >= max(lo_ms, 0)) & (best_ms <= hi_ms))
        return sorted(key for number in found.tolist() if (key := self.key_of_number(number)) is not None)
