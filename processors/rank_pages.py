"""How many athletes stand at each elapsed millisecond: exact ranks among tens of millions in microseconds, without a list of them.

Counts in pages of 1,000 one-millisecond buckets, a page for each second somebody may stand in, and sums of each second, minute and hour. A
rank adds whole hours, minutes and seconds, then the buckets before the millisecond: at most 1,000 + 60 + 60 numbers, whatever the size.
Memory goes with the spread of the times, not with the athletes (4 KB a second in use): 10 million on one climb fill about 12 MB.

Functions over arrays, so that a compiled loop can hold a board of millions up to date; the same integers without numba, slower.
"""

from __future__ import annotations

from typing import Any, Final, NamedTuple

import numpy as np
import numpy.typing as npt

from processors import live_kernel as k

I32 = npt.NDArray[np.int32]
MAX_MS: Final = (1 << 31) - 1  # 24 days
_BUCKETS: Final = 1000
_SPAN_S: Final = 3600  # arrays grow by whole hours


class Pages(NamedTuple):
    """The arrays. `page_of`: the row of `buckets` of a second, -1 when nobody ever stood there; the rest are counts."""

    page_of: I32
    buckets: I32
    seconds: I32
    minutes: I32
    hours: I32


def moved(page_of: I32, buckets: I32, seconds: I32, minutes: I32, hours: I32, ms: int, by: int) -> None:
    """`by` more stand at `ms`, whose page must be there."""
    second = ms // 1000
    buckets[page_of[second], ms - second * 1000] += by
    seconds[second] += by
    minutes[second // 60] += by
    hours[second // 3600] += by


def faster(page_of: I32, buckets: I32, seconds: I32, minutes: I32, hours: I32, ms: int) -> int:
    """How many stand at less than `ms`."""
    second = min(ms // 1000, len(seconds))
    minute, hour = second // 60, second // 3600
    count = hours[:hour].sum() + minutes[hour * 60 : minute].sum() + seconds[minute * 60 : second].sum()
    if second < len(seconds) and page_of[second] >= 0:
        count += buckets[page_of[second], : ms - second * 1000].sum()
    return int(count)


def standing_at(page_of: I32, buckets: I32, seconds: I32, minutes: I32, hours: I32, place: int) -> int:
    """The elapsed time of the one at a place (from 0), which must be there."""
    hour = 0
    while place >= hours[hour]:
        place -= hours[hour]
        hour += 1
    minute = hour * 60
    while place >= minutes[minute]:
        place -= minutes[minute]
        minute += 1
    second = minute * 60
    while place >= seconds[second]:
        place -= seconds[second]
        second += 1
    page = buckets[page_of[second]]
    i = 0
    while place >= page[i]:
        place -= page[i]
        i += 1
    return second * 1000 + i


if k.numba is not None:
    _jit: Any = k.numba.njit(cache=True, fastmath=False, error_model="numpy")
    moved = _jit(moved)
    faster = _jit(faster)
    standing_at = _jit(standing_at)


class RankPages:
    """A multiset of elapsed times. `reserve` before `add`; a time that is taken away must be there."""

    def __init__(self) -> None:
        none = np.zeros(0, np.int32)
        self.arrays = Pages(none, np.zeros((0, _BUCKETS), np.int32), none, none, none)
        self._pages = 0
        self._reserved = np.zeros(0, np.bool_)
        self.size = 0

    def reserve(self, elapsed_ms: npt.NDArray[Any]) -> None:
        """Make the pages that these times need. ValueError for a time outside 0 to 24 days."""
        if not len(elapsed_ms):
            return
        least, most = int(elapsed_ms.min()), int(elapsed_ms.max())
        if least < 0 or most > MAX_MS:
            raise ValueError(f"elapsed {least if least < 0 else most} ms is outside 0-{MAX_MS}")
        if most // 1000 >= len(self.arrays.seconds):
            self._stretch(most // 1000)
        seconds = elapsed_ms // 1000
        missing = seconds[~self._reserved[seconds]]
        if len(missing):
            for second in np.unique(missing):
                self._reserve(int(second))

    def load(self, elapsed_ms: npt.NDArray[Any]) -> None:
        """Add many at once."""
        self.reserve(elapsed_ms)
        page_of, buckets, seconds, minutes, hours = self.arrays
        second = elapsed_ms // 1000
        flat = page_of[second].astype(np.int64) * _BUCKETS + elapsed_ms % 1000
        buckets += np.bincount(flat, minlength=buckets.size).reshape(buckets.shape).astype(np.int32)
        seconds += np.bincount(second, minlength=len(seconds)).astype(np.int32)
        minutes[:] = seconds.reshape(-1, 60).sum(axis=1)
        hours[:] = minutes.reshape(-1, 60).sum(axis=1)
        self.size += len(elapsed_ms)

    def add(self, ms: int, by: int = 1) -> None:
        """One more at `ms` (with -1: one less)."""
        moved(*self.arrays, ms, by)
        self.size += by

    def rank(self, ms: int) -> int:
        """1 + how many are strictly faster; `ms` may be any number."""
        if not 0 <= ms <= MAX_MS:
            return 1 if ms < 0 else self.size + 1
        return int(faster(*self.arrays, ms)) + 1

    def at(self, place: int) -> int:
        """The time at a place from 0. IndexError outside."""
        if not 0 <= place < self.size:
            raise IndexError(f"place {place} of {self.size}")
        return int(standing_at(*self.arrays, place))

    @property
    def nbytes(self) -> int:
        """Memory of the counts."""
        return sum(array.nbytes for array in self.arrays) + self._reserved.nbytes

    def _stretch(self, second: int) -> None:
        length = (second // _SPAN_S + 1) * _SPAN_S
        old = self.arrays
        page_of = np.full(length, -1, np.int32)
        page_of[: len(old.page_of)] = old.page_of
        self.arrays = Pages(
            page_of, old.buckets, *(_longer(a, n) for a, n in zip(old[2:], (length, length // 60, length // _SPAN_S), strict=True))
        )
        self._reserved = page_of >= 0

    def _reserve(self, second: int) -> None:
        buckets = self.arrays.buckets
        if self._pages == len(buckets):
            buckets = np.zeros((self._pages + self._pages // 8 + 16, _BUCKETS), np.int32)
            buckets[: self._pages] = self.arrays.buckets
            self.arrays = self.arrays._replace(buckets=buckets)
        self.arrays.page_of[second] = self._pages
        self._reserved[second] = True
        self._pages += 1


def _longer(array: I32, length: int) -> I32:
    made = np.zeros(length, np.int32)
    made[: len(array)] = array
    return made
