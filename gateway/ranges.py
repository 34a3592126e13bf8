"""Row numbers as few inclusive ranges: what a spool holds and what it still owes.

A backlog of millions of rows is a handful of ranges, so memory does not grow with it. Invariant: ranges ascend and never touch.
"""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections.abc import Iterable, Iterator

Range = tuple[int, int]


class RangeSet:
    """A set of whole numbers. `len` is the count of numbers, not of ranges."""

    __slots__ = ("_count", "_first", "_last")

    def __init__(self, ranges: Iterable[Range] = ()) -> None:
        self._first: list[int] = []
        self._last: list[int] = []
        self._count = 0
        for first, last in ranges:
            self.add(first, last)

    def __len__(self) -> int:
        return self._count

    def __bool__(self) -> bool:
        return self._count > 0

    def __iter__(self) -> Iterator[Range]:
        return iter(self.ranges())

    def __contains__(self, n: int) -> bool:
        at = bisect_right(self._first, n) - 1
        return at >= 0 and n <= self._last[at]

    def ranges(self) -> tuple[Range, ...]:
        """All ranges, ascending."""
        return tuple(zip(self._first, self._last, strict=True))

    @property
    def parts(self) -> int:
        """How many ranges."""
        return len(self._first)

    def copy(self) -> RangeSet:
        """An independent copy."""
        other = RangeSet()
        other._first, other._last, other._count = self._first.copy(), self._last.copy(), self._count
        return other

    def add(self, first: int, last: int) -> None:
        """Put in `first..last`; numbers already in stay."""
        if first > last:
            return
        firsts, lasts = self._first, self._last
        if lasts and first == lasts[-1] + 1:  # the way of an append
            lasts[-1] = last
            self._count += last - first + 1
            return
        low = bisect_left(lasts, first - 1)
        high = bisect_right(firsts, last + 1)
        if low < high:
            self._count -= sum(lasts[i] - firsts[i] + 1 for i in range(low, high))
            first, last = min(first, firsts[low]), max(last, lasts[high - 1])
        firsts[low:high], lasts[low:high] = [first], [last]
        self._count += last - first + 1

    def remove(self, first: int, last: int) -> list[Range]:
        """Take out `first..last`; returns the ranges that really were in."""
        firsts, lasts = self._first, self._last
        low = bisect_left(lasts, first)
        high = bisect_right(firsts, last)
        if first > last or low >= high:
            return []
        taken = [(max(first, firsts[i]), min(last, lasts[i])) for i in range(low, high)]
        kept: list[Range] = []
        if firsts[low] < first:
            kept.append((firsts[low], first - 1))
        if lasts[high - 1] > last:
            kept.append((last + 1, lasts[high - 1]))
        firsts[low:high] = [a for a, _ in kept]
        lasts[low:high] = [b for _, b in kept]
        self._count -= sum(b - a + 1 for a, b in taken)
        return taken

    def within(self, first: int, last: int) -> list[Range]:
        """The ranges of the set cut to `first..last`."""
        low = bisect_left(self._last, first)
        high = bisect_right(self._first, last)
        return [(max(first, self._first[i]), min(last, self._last[i])) for i in range(low, high)]

    def lowest(self, count: int) -> list[Range]:
        """The ranges of the `count` lowest numbers."""
        found: list[Range] = []
        for first, last in zip(self._first, self._last, strict=True):
            if count <= 0:
                break
            found.append((first, min(last, first + count - 1)))
            count -= last - first + 1
        return found
