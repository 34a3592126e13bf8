"""Acceleration of any sensor rate as one magnitude 25 times a second, which steps and cadence share."""

from dsp.loops import isqrt

RATE_HZ = 25
LIMIT_MG = 16000  # three axes of 16 g squared are below 2**30


class Magnitude:
    """Takes samples of `rate_hz` (a multiple of 25), gives the length of their mean vector."""

    def __init__(self, rate_hz):
        if rate_hz < RATE_HZ or rate_hz % RATE_HZ:
            raise ValueError("rate_hz is %d: set the sensor to a multiple of %d Hz" % (rate_hz, RATE_HZ))
        self._each = rate_hz // RATE_HZ
        self.gap()

    def gap(self):
        """Samples are missing here: what was begun is dropped."""
        self._x = self._y = self._z = self._n = 0

    def add(self, x_mg, y_mg, z_mg):
        """The magnitude in thousandths of g when one is complete, else -1."""
        self._x += x_mg
        self._y += y_mg
        self._z += z_mg
        self._n += 1
        if self._n < self._each:
            return -1
        n = self._n
        x = max(-LIMIT_MG, min(LIMIT_MG, self._x // n))
        y = max(-LIMIT_MG, min(LIMIT_MG, self._y // n))
        z = max(-LIMIT_MG, min(LIMIT_MG, self._z // n))
        self._x = self._y = self._z = self._n = 0
        return isqrt(x * x + y * y + z * z)
