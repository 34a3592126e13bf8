"""Clocks: when a sample was taken, in UTC, as an offset to the monotonic clock of whoever stamped it.

The box dates a dumb sensor with its own clocks, read together. A device that numbers itself but has no clock is dated by `OriginClock`:
each arrival bounds its offset to the box's *monotonic* clock from above (no message arrives before it was sent), so the smallest of many
is the best. UTC joins only when a frame is dated: a step of the system clock (NTP, 1970 then corrected) moves later offsets and no model.
Invariant: a system clock before `EARLIEST_UTC_US` is not set, and nothing is dated from it.
"""

from __future__ import annotations

from collections import OrderedDict, deque
from dataclasses import dataclass
from typing import Final

from broker.frames import Clock, Frame

EARLIEST_UTC_US: Final = 1_767_225_600_000_000  # 2026-01-01, the year of this build: any earlier system time is an unset clock
NEAR_US: Final = 250_000  # delays that differ by less are the same link: radio and broker on one site
JUMP_US: Final = 1_000_000  # a whole window later than the model by more is a new clock, not a delay
LIVE_SPAN_US: Final = 2_000_000  # a burst of old data cannot keep pace with its own time for this long
LIVE_COUNT: Final = 3
MAX_DRIFT: Final = 200e-6  # a crystal with temperature is within 200 ppm
_BUCKET_US: Final = 30_000_000
_BUCKETS: Final = 40  # twenty minutes of minima
_RECENT: Final = 16
_DRIFT_SPAN_US: Final = 300_000_000  # 250 ms of jitter over five minutes is still 800 ppm: minima are far better than that, shorter is not


@dataclass(frozen=True, slots=True)
class Instant:
    """One reading of the box: monotonic and UTC microseconds, taken together."""

    mono_us: int
    utc_us: int


@dataclass(frozen=True, slots=True)
class Dating:
    """What dates a frame: UTC = monotonic + `utc_offset_us`; None exactly when `clock` is UNKNOWN."""

    utc_offset_us: int | None
    clock: Clock


UNDATED: Final = Dating(None, Clock.UNKNOWN)


def box_dating(now: Instant) -> Dating:
    """The dating of a frame closed `now` on the box's monotonic clock; undated while the system clock is not set."""
    if now.utc_us < EARLIEST_UTC_US:
        return UNDATED
    return Dating(now.utc_us - now.mono_us, Clock.NETWORK)


@dataclass(frozen=True, slots=True)
class _Seen:
    device_us: int
    offset_us: int  # box monotonic at arrival - device monotonic: the true offset plus the delay


class OriginClock:
    """The clock of one boot of one origin, against the box's monotonic clock."""

    __slots__ = ("_minima", "_recent")

    def __init__(self) -> None:
        self._minima: deque[_Seen] = deque(maxlen=_BUCKETS)
        self._recent: deque[_Seen] = deque(maxlen=_RECENT)

    def observe(self, device_us: int, arrived_mono_us: int) -> None:
        """A sample the device stamped `device_us` arrived at `arrived_mono_us`."""
        seen = _Seen(device_us, arrived_mono_us - device_us)
        self._recent.append(seen)
        if self._jumped():
            self._minima.clear()
            for recent in self._recent:
                self._keep(recent)
        else:
            self._keep(seen)

    @property
    def drift(self) -> float:
        """Seconds the box gains on the device per second: the slope of the minima, 0 until five minutes are seen."""
        if len(self._minima) < 3 or abs(self._minima[-1].device_us - self._minima[0].device_us) < _DRIFT_SPAN_US:
            return 0.0
        first = self._minima[0]
        xs = [m.device_us - first.device_us for m in self._minima]
        ys = [m.offset_us - first.offset_us for m in self._minima]
        mean_x, mean_y = sum(xs) / len(xs), sum(ys) / len(ys)
        spread = sum((x - mean_x) ** 2 for x in xs)
        slope = sum((x - mean_x) * (y - mean_y) for x, y in zip(xs, ys, strict=True)) / spread
        return max(-MAX_DRIFT, min(MAX_DRIFT, slope))

    @property
    def good(self) -> bool:
        """True once enough arrivals agree while device time passed: live data, not a drained backlog whose delay shrinks."""
        if not self._minima:
            return False
        agreeing = [s.device_us for s in self._recent if s.offset_us - self._mono_offset(s.device_us) < NEAR_US]
        return len(agreeing) >= LIVE_COUNT and max(agreeing) - min(agreeing) >= LIVE_SPAN_US

    def dating(self, device_us: int, now: Instant) -> Dating:
        """How to date what the device stamped `device_us`; undated until the model is good and the box's clock is set."""
        box = box_dating(now)
        if box.utc_offset_us is None or not self.good:
            return UNDATED
        return Dating(self._mono_offset(device_us) + box.utc_offset_us, Clock.NETWORK)

    def _mono_offset(self, device_us: int) -> int:
        """The smallest offset of all minima, each carried along the drift to `device_us`."""
        drift = self.drift
        return min(m.offset_us + round(drift * (device_us - m.device_us)) for m in self._minima)

    def _keep(self, seen: _Seen) -> None:
        bucket = seen.device_us // _BUCKET_US
        for at in range(len(self._minima) - 1, -1, -1):
            kept = self._minima[at]
            if kept.device_us // _BUCKET_US == bucket:
                if seen.offset_us < kept.offset_us:
                    self._minima[at] = seen
                return
        self._minima.append(seen)

    def _jumped(self) -> bool:
        """A full window that agrees with itself, spans live time and is far later than the model: the device's clock stood still."""
        recent = self._recent
        if len(recent) < _RECENT or not self._minima:
            return False
        offsets = [s.offset_us for s in recent]
        span = max(s.device_us for s in recent) - min(s.device_us for s in recent)
        late = min(offsets) - self._mono_offset(recent[-1].device_us)
        return late > JUMP_US and max(offsets) - min(offsets) < NEAR_US and span >= LIVE_SPAN_US


class OriginClocks:
    """The clocks of all origins heard, the least recently heard forgotten beyond `capacity` (its next boot starts undated)."""

    def __init__(self, capacity: int = 1024) -> None:
        self._capacity = capacity
        self._clocks: OrderedDict[tuple[str, int], OriginClock] = OrderedDict()

    def date(self, frame: Frame, last_us: int, now: Instant) -> Dating:
        """Observe an undated self-numbered frame whose newest sample is at `last_us`, and date it if that is possible by now."""
        key = (frame.device, frame.boot)
        clock = self._clocks.get(key)
        if clock is None:
            clock = self._clocks[key] = OriginClock()
            if len(self._clocks) > self._capacity:
                self._clocks.popitem(last=False)
        self._clocks.move_to_end(key)
        clock.observe(last_us, now.mono_us)
        return clock.dating(frame.t0_us, now)

    def __len__(self) -> int:
        return len(self._clocks)
