"""Counts the series of each bucket and lets no more in than it may have: every series costs the server memory, whoever it is of.

A series that is known passes always; a new one when there is room. One that was not seen for as long as its bucket keeps data is none any
more. From `ALARM_PCT` of the limit on the bucket warns.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Final

import numpy as np
import numpy.typing as npt

from broker.view_part import ViewPart
from processors.influx_schema import ALARM_PCT, BUCKETS, Bucket
from processors.samples import hash64

_log = logging.getLogger(__name__)
_WORDS: Final = {"ok": "fine again", "alarm": "look at what its tags hold (docs/influx.md)", "full": "new ones are refused and counted"}
_SHARES: Final = 2
_SEEN_PARTS: Final = 16  # when a series was seen is noted this often while its bucket keeps a point


def buckets_of(part: ViewPart) -> Mapping[str, Bucket]:
    """The buckets with the limits of one sink of several: twice its even share, as tenants are not equal, so that all together have at most
    twice what one would have, however many they are."""
    if part.of <= _SHARES:
        return BUCKETS
    return {name: replace(bucket, series=bucket.series * _SHARES // part.of) for name, bucket in BUCKETS.items()}


class SeriesGuard:
    """What each bucket has; `seen` by bucket, as stored. `buckets` with their limits."""

    def __init__(self, seen: Mapping[str, dict[int, int]], buckets: Mapping[str, Bucket] = BUCKETS) -> None:
        self._seen = {name: seen.get(name, {}) for name in buckets}
        self._buckets = buckets
        self._told: dict[str, str] = {}

    def admit(self, bucket: str, keys: Sequence[bytes], now_us: int) -> tuple[npt.NDArray[np.bool_], list[tuple[str, int, int]]]:
        """Which of these series may be written, and what of them is to be stored."""
        held, of = self._seen[bucket], self._buckets[bucket]
        stale_us = of.keep_s * 1_000_000 // _SEEN_PARTS
        allowed = np.ones(len(keys), np.bool_)
        noted: list[tuple[str, int, int]] = []
        for place, key in enumerate(keys):
            number = hash64(key.decode())
            at = held.get(number)
            if at is None and len(held) >= of.series:
                allowed[place] = False
                continue
            if at is None or now_us - at >= stale_us:
                held[number] = now_us
                noted.append((bucket, number, now_us))
        self._tell(of)
        return allowed, noted

    def forget(self, now_us: int) -> dict[str, int]:
        """Drop series that are none any more; by bucket, before when one was seen last then."""
        before = {name: now_us - bucket.keep_s * 1_000_000 for name, bucket in self._buckets.items()}
        for name, held in self._seen.items():
            for number in [number for number, at in held.items() if at < before[name]]:
                del held[number]
        return before

    def count(self, bucket: str) -> int:
        """How many series a bucket has."""
        return len(self._seen[bucket])

    def states(self) -> dict[str, str]:
        """Per bucket "ok", "alarm" (at 80 % of its limit) or "full"."""
        return {name: self._state(bucket) for name, bucket in self._buckets.items()}

    def _state(self, bucket: Bucket) -> str:
        count = self.count(bucket.name)
        return "full" if count >= bucket.series else "alarm" if count * 100 >= bucket.series * ALARM_PCT else "ok"

    def _tell(self, bucket: Bucket) -> None:
        state = self._state(bucket)
        if state != self._told.get(bucket.name, "ok"):
            level = logging.INFO if state == "ok" else logging.WARNING if state == "alarm" else logging.ERROR
            _log.log(level, "influx: bucket %s has %d of %d series: %s", bucket.name, self.count(bucket.name), bucket.series, _WORDS[state])
        self._told[bucket.name] = state
