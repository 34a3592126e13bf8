"""Steps from the magnitude of acceleration at 25 Hz, wherever the sensor is worn.

The magnitude is smoothed over four samples and taken from its slow mean. A step is a rise above half of the mean swing that comes after a fall
below a quarter of it, and 0.24 s after the step before at the earliest. Four steps within two seconds of each other make a walk, and count from
the first; fewer are somebody who handles the device.
"""

from array import array

FLOOR_MG = 50  # a smaller rise is no step: a phone in the hand of somebody who stands moves by less
APART = 6  # samples: 250 steps a minute at most
WALK_STEPS = 4
WALK_GAP = 50  # samples between two steps of one walk at most
_MEAN = 6  # bits of the slow mean: 64 samples
_SWING = 5  # bits of the mean swing: 32 samples
_NEVER = 1 << 20


class Steps:
    """`count` is the number of steps so far."""

    def __init__(self):
        self.count = 0
        self._smooth = array("i", (0, 0, 0, 0))
        self.gap()

    def gap(self):
        """Samples are missing here: the count stays, what was begun is dropped."""
        self._ready = False
        self._at = self._sum = self._mean = 0
        self._swing = 100 << _SWING
        self._low = False
        self._since = _NEVER
        self._walk = 0

    def add(self, magnitude_mg):
        """How many steps this sample made certain: 0, 1, or those of a walk that just became one."""
        smooth = self._smooth
        if not self._ready:
            self._ready = True
            for i in range(4):
                smooth[i] = magnitude_mg
            self._sum = 4 * magnitude_mg
            self._mean = magnitude_mg << _MEAN
        at = self._at
        self._sum += magnitude_mg - smooth[at]
        smooth[at] = magnitude_mg
        self._at = (at + 1) & 3
        level = self._sum >> 2
        self._mean += level - (self._mean >> _MEAN)
        away = level - (self._mean >> _MEAN)
        self._swing += (away if away >= 0 else -away) - (self._swing >> _SWING)
        rise = max(FLOOR_MG, self._swing >> (_SWING + 1))
        if self._since < _NEVER:
            self._since += 1
        if not self._low:
            self._low = away < -(rise >> 1)
            return 0
        if away <= rise or self._since < APART:
            return 0
        self._low = False
        return self._step()

    def _step(self):
        if self._since > WALK_GAP:
            self._walk = 0
        self._since = 0
        self._walk += 1
        certain = 0
        if self._walk == WALK_STEPS:
            certain = WALK_STEPS
        elif self._walk > WALK_STEPS:
            certain = 1
            self._walk = WALK_STEPS + 1
        self.count += certain
        return certain
