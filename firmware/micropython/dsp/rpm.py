"""Turns of a crank or a wheel from the pulses of a hall sensor or reed contact: cadence, speed, and the counters that the wire carries.

Times are `ticks_us()` and may wrap: only 30 bits are looked at, so that two pulses may lie 17 minutes apart. A contact bounces: a pulse sooner than
`debounce_us` after the last good one is none, and counted as such. No pulse means slower, from the moment on at which one was due, and 0 after
`stop_us`.
"""

_WRAP = (1 << 30) - 1
_MINUTE_US = 60_000_000


class Rpm:
    """`pulses` counts the good ones (a turn has `magnets` of them), `last_us` is when the last was, `bounces` what was no pulse."""

    def __init__(self, debounce_us=15_000, stop_us=3_000_000, magnets=1):
        if not 0 < debounce_us < stop_us <= 60_000_000 or not 1 <= magnets <= 64:
            raise ValueError("debounce_us %d, stop_us %d, magnets %d: 0 < debounce_us < stop_us <= 60 s, 1 to 64 magnets" % (debounce_us, stop_us, magnets))
        self._debounce_us = debounce_us
        self._stop_us = stop_us
        self._magnets = magnets
        self.pulses = self.bounces = self.last_us = 0
        self._period_us = 0  # 0: standing
        self._seen = False

    def pulse(self, now_us):
        """A pulse at `now_us`; may be called from an interrupt. True when it is a good one."""
        now_us &= _WRAP
        if self._seen:
            since = (now_us - self.last_us) & _WRAP
            if since < self._debounce_us:
                self.bounces += 1
                return False
            self._period_us = since if since < self._stop_us else 0
        self._seen = True
        self.last_us = now_us
        self.pulses += 1
        return True

    def period_us(self, now_us):
        """Between two pulses, as far as is known at `now_us`; 0 when it stands."""
        if not self._period_us:
            return 0
        since = (now_us - self.last_us) & _WRAP
        if since >= self._stop_us:
            self._period_us = 0
            self._seen = False  # so that a wrap of the clock makes no period of a long stand
            return 0
        return max(self._period_us, since)

    def drpm(self, now_us):
        """Tenths of turns a minute."""
        period_us = self.period_us(now_us)
        return (10 * _MINUTE_US // self._magnets + period_us // 2) // period_us if period_us else 0

    def speed_mmps(self, now_us, circumference_mm):
        """Of a wheel of that circumference (up to 8,000 mm)."""
        period_us = self.period_us(now_us) >> 3  # eighths keep the product below 2**30
        return circumference_mm * 125_000 // self._magnets // period_us if period_us else 0
