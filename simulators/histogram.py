"""A histogram of latencies with logarithmic buckets, each cut into 128 (as HdrHistogram does): any time from 1 us to hours, told less
than 0.8 % too long and never too short.

Pure, and sparse: what was never seen takes no room. Merging is adding, so parts of a load and of a time can be put together in any order.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from math import ceil
from typing import Final

from broker.errors import BadInputError

_BITS: Final = 7
_EXACT: Final = 2 << _BITS  # below it every microsecond is a bucket


def bucket_of(us: int) -> int:
    """The bucket of a latency of `us` >= 0 microseconds."""
    if us < _EXACT:
        return us
    shift = us.bit_length() - _BITS - 1
    return (shift << _BITS) + (us >> shift)


def last_of(bucket: int) -> int:
    """The longest latency of a bucket, in microseconds."""
    if bucket < _EXACT:
        return bucket
    shift = (bucket >> _BITS) - 1
    return ((bucket - (shift << _BITS) + 1) << shift) - 1


class Histogram:
    """Counts of latencies. A negative one, of a clock that was set back, counts as 0."""

    __slots__ = ("_counts", "count", "max_us", "sum_us")

    def __init__(self) -> None:
        self._counts: dict[int, int] = {}
        self.count = 0
        self.max_us = 0
        self.sum_us = 0

    def record(self, us: int, count: int = 1) -> None:
        """Count a latency `count` times."""
        us = max(us, 0)
        bucket = bucket_of(us)
        self._counts[bucket] = self._counts.get(bucket, 0) + count
        self.count += count
        self.sum_us += us * count
        self.max_us = max(self.max_us, us)

    def add(self, other: Histogram) -> None:
        """Count all that `other` has counted."""
        for bucket, count in other._counts.items():
            self._counts[bucket] = self._counts.get(bucket, 0) + count
        self.count += other.count
        self.sum_us += other.sum_us
        self.max_us = max(self.max_us, other.max_us)

    def percentile_us(self, percent: float) -> int:
        """The latency that `percent` of 100 do not exceed; 0 when nothing was counted."""
        wanted = max(ceil(self.count * percent / 100), 1)
        seen = 0
        for bucket in sorted(self._counts):
            seen += self._counts[bucket]
            if seen >= wanted:
                return min(last_of(bucket), self.max_us)
        return 0

    def over(self, us: int) -> int:
        """How many are longer than `us`, those in its own bucket not among them."""
        own = bucket_of(us)
        return sum(count for bucket, count in self._counts.items() if bucket > own)

    def to_json(self) -> dict[str, object]:
        """Inverse of `from_json`."""
        return {"counts": [[b, self._counts[b]] for b in sorted(self._counts)], "max_us": self.max_us, "sum_us": self.sum_us}

    @classmethod
    def from_json(cls, value: Mapping[str, object]) -> Histogram:
        """What `to_json` made; BadInputError for anything else."""
        made = cls()
        counts, longest, total = value.get("counts"), value.get("max_us"), value.get("sum_us")
        if not isinstance(counts, list) or not isinstance(longest, int) or not isinstance(total, int):
            raise BadInputError("histogram: counts, max_us and sum_us are missing", cure="give what a load of the same version wrote")
        for bucket, count in counts:  # pyright: ignore[reportUnknownVariableType] - of our own process
            made._counts[int(bucket)] = int(count)  # pyright: ignore[reportUnknownArgumentType]
        made.count = sum(made._counts.values())
        made.max_us, made.sum_us = longest, total
        return made


def merged(parts: Iterable[Histogram]) -> Histogram:
    """All of them as one."""
    whole = Histogram()
    for part in parts:
        whole.add(part)
    return whole
