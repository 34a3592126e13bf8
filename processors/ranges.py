"""Which sequence numbers of one numbering (origin, boot) were already counted: sorted inclusive ranges, exact, never capped.

In-order streams cost one comparison; a backlog that interleaves with live data makes a few more ranges, loss makes as many as there are
holes.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Iterator, Sequence

import msgpack


class RangeSet:
    """A set of non-negative integers kept as ranges."""

    __slots__ = ("_firsts", "_lasts")

    def __init__(self) -> None:
        self._firsts: list[int] = []
        self._lasts: list[int] = []

    def add(self, n: int) -> bool:
        """Add `n`; False when it was there already."""
        firsts, lasts = self._firsts, self._lasts
        if lasts and n == lasts[-1] + 1:
            lasts[-1] = n
            return True
        i = bisect_right(firsts, n) - 1
        if i >= 0 and n <= lasts[i]:
            return False
        touches_left = i >= 0 and lasts[i] == n - 1
        touches_right = i + 1 < len(firsts) and firsts[i + 1] == n + 1
        if touches_left and touches_right:
            lasts[i] = lasts.pop(i + 1)
            del firsts[i + 1]
        elif touches_left:
            lasts[i] = n
        elif touches_right:
            firsts[i + 1] = n
        else:
            firsts.insert(i + 1, n)
            lasts.insert(i + 1, n)
        return True

    def __contains__(self, n: int) -> bool:
        i = bisect_right(self._firsts, n) - 1
        return i >= 0 and n <= self._lasts[i]

    def __len__(self) -> int:
        return sum(last - first + 1 for first, last in self.ranges())

    def ranges(self) -> Iterator[tuple[int, int]]:
        """The inclusive ranges in ascending order."""
        return zip(self._firsts, self._lasts, strict=True)

    @property
    def holes(self) -> int:
        """Numbers below the highest that were not seen (0 when none is missing)."""
        return (self._lasts[-1] - self._firsts[0] + 1 - len(self)) + self._firsts[0] if self._firsts else 0

    @property
    def bounds(self) -> tuple[Sequence[int], Sequence[int]]:
        """The first and the last of each range, ascending; as they are now, not to be kept."""
        return self._firsts, self._lasts

    @classmethod
    def of(cls, bounds: tuple[Sequence[int], Sequence[int]]) -> RangeSet:
        """Inverse of `bounds`."""
        made = cls()
        made._firsts, made._lasts = (list(part) for part in bounds)
        return made

    def encode(self) -> bytes:
        """A compact form that `decode` reads."""
        return msgpack.packb((self._firsts, self._lasts))

    @classmethod
    def decode(cls, raw: bytes) -> RangeSet:
        """Inverse of `encode`."""
        return cls.of(msgpack.unpackb(raw))
