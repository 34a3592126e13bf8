"""Steps a minute, from how the magnitude of acceleration repeats over four seconds.

A correlation alone cannot tell a step from a stride: in a pocket, left differs from right, and it finds both legs as one. How many steps were
counted in the same four seconds decides between the two. No value (-1) for anything but steady walking or running.
"""

from array import array

from dsp.magnitude import RATE_HZ
from dsp.period import Period

WINDOW_S = 4
FAITHFUL = 500  # quality below which there is no value
_SCALE = 3  # bits: 8 g fill the 16 bits of the window


class Cadence:
    """`cadence_spm` is steps a minute (both feet), -1 for none; new every second."""

    def __init__(self):
        self._period = Period(WINDOW_S * RATE_HZ, 6, 49, 60)
        self._counts = array("i", bytes(4 * (WINDOW_S + 1)))
        self.gap()

    def gap(self):
        """Samples are missing here: no value until the window is full again."""
        self._period.clear()
        self._before = -1
        self._n = 0
        self._seconds = 0
        self.cadence_spm = -1

    def add(self, magnitude_mg, steps):
        """A magnitude and the count of `Steps` after it. True when there is a new second's value."""
        if self._before < 0:
            self._before = magnitude_mg
        self._period.add(min(65535, (magnitude_mg + self._before) << (_SCALE - 1)))
        self._before = magnitude_mg
        self._n += 1
        if self._n < RATE_HZ:
            return False
        self._n = 0
        counts = self._counts
        for i in range(WINDOW_S):
            counts[i] = counts[i + 1]
        counts[WINDOW_S] = steps
        self._seconds += 1
        self.cadence_spm = self._value(steps - counts[0]) if self._seconds > WINDOW_S else -1
        if self._seconds > WINDOW_S:
            self._seconds = WINDOW_S + 1
        return True

    def _value(self, steps):
        period = self._period
        if steps < WINDOW_S or not period.find() or period.quality < FAITHFUL:
            return -1
        sixteenths = period.sixteenths
        window = 16 * WINDOW_S * RATE_HZ
        feet = (sixteenths * steps + window // 2) // window  # steps in what repeats: 1, or 2 where left and right differ
        if feet < 1 or feet > 2:
            return -1
        return (feet * 60 * RATE_HZ * 16 + sixteenths // 2) // sixteenths
