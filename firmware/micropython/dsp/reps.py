"""Repetitions of an exercise from acceleration: pull-ups, push-ups, squats, curls; whatever swings in a rhythm, however the sensor is worn.

Three axes are looked at 10 times a second. A repetition is a top of the axis that swings most. Four tops in a rhythm (0.5 to 5 s apart, no
interval more than 8/5 of another, no swing more than three times another) begin a set and count from the first: fewer are somebody who picks the
device up. A set ends when the next top is overdue.
"""

from array import array

from dsp.turns import Turns

RATE_HZ = 10
LEAST_MG = 150  # a smaller swing is no repetition
BEGIN = 4
SHORTEST, LONGEST = 5, 50  # samples
_NONE = 3


class Reps:
    """`count` is the number of repetitions so far, `set_count` of the set under way (0: none), `sets` those that began."""

    def __init__(self, rate_hz=RATE_HZ):
        if rate_hz < RATE_HZ or rate_hz % RATE_HZ:
            raise ValueError("rate_hz is %d: set the sensor to a multiple of %d Hz" % (rate_hz, RATE_HZ))
        self._each = rate_hz // RATE_HZ
        self._turns = (Turns(LEAST_MG), Turns(LEAST_MG), Turns(LEAST_MG))
        self._sum = array("i", (0, 0, 0))
        self._old = array("i", bytes(4 * 6))  # of each axis the two before
        self._tops = array("i", (0, 0, 0))  # in a rhythm
        self._rhythm = array("i", (0, 0, 0))  # mean interval
        self._swing = array("i", (0, 0, 0))  # of the last top
        self._since = array("i", (0, 0, 0))  # samples since it was passed
        self.count = self.sets = 0
        self.gap()

    def gap(self):
        """Samples are missing here: the count stays, the set ends."""
        for axis in range(3):
            self._turns[axis].clear()
            self._sum[axis] = self._tops[axis] = self._rhythm[axis] = self._swing[axis] = self._since[axis] = 0
        self._n = 0
        self._ready = False
        self._axis = _NONE
        self.set_count = 0

    def add(self, x_mg, y_mg, z_mg):
        """How many repetitions this sample made certain."""
        total = self._sum
        total[0] += x_mg
        total[1] += y_mg
        total[2] += z_mg
        self._n += 1
        if self._n < self._each:
            return 0
        certain = 0
        passed = False
        for axis in range(3):
            passed |= self._look(axis, total[axis] // self._n)
            total[axis] = 0
        self._n = 0
        self._ready = True
        if self._axis == _NONE:
            if passed:
                self._begin()
            if self._axis != _NONE:
                certain = self._tops[self._axis]
        elif self._tops[self._axis] < self.set_count:  # overdue, or out of the rhythm
            self._axis = _NONE
            self.set_count = 0
        else:
            certain = self._tops[self._axis] - self.set_count
        self.set_count += certain
        self.count += certain
        return certain

    def _look(self, axis, value):
        """The next value of an axis: True when it passed a top."""
        old = self._old
        if not self._ready:
            old[2 * axis] = old[2 * axis + 1] = value
        smooth = (value + old[2 * axis] + old[2 * axis + 1]) // 3
        old[2 * axis] = old[2 * axis + 1]
        old[2 * axis + 1] = value
        turns = self._turns[axis]
        self._since[axis] += 1
        if not turns.add(smooth):
            overdue = 2 * self._rhythm[axis] + SHORTEST if self._rhythm[axis] else LONGEST
            if self._since[axis] > overdue:
                self._tops[axis] = self._rhythm[axis] = 0
            return False
        self._since[axis] = 0
        self._follow(axis, turns.interval, turns.swing)
        return True

    def _follow(self, axis, interval, swing):
        rhythm, before = self._rhythm[axis], self._swing[axis]
        self._swing[axis] = swing
        even = SHORTEST <= interval <= LONGEST and swing <= 3 * before and before <= 3 * swing
        if self._tops[axis] and even and not rhythm:
            self._rhythm[axis] = interval
            self._tops[axis] = 2
        elif self._tops[axis] and even and 5 * interval <= 8 * rhythm and 5 * rhythm <= 8 * interval:
            self._rhythm[axis] = (3 * rhythm + interval + 2) // 4
            self._tops[axis] += 1
        else:
            self._tops[axis] = 2 if even else 1
            self._rhythm[axis] = interval if even else 0

    def _begin(self):
        """A set begins when the axis that swings most, of those in a rhythm, has tops enough."""
        best = _NONE
        for axis in range(3):
            if self._tops[axis] >= 2 and (best == _NONE or self._swing[axis] > self._swing[best]):
                best = axis
        if best != _NONE and self._tops[best] >= BEGIN:
            self._axis = best
            self.sets += 1
