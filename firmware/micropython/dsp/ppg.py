"""Heart rate from a photoplethysmogram (light through skin), and no value rather than a wrong one.

Every second the last eight seconds are looked at twice: how they repeat (`period.py`), and where their crests are. A value is the mean interval of
the crests, and is given only if the signal repeats, the crests are as far apart as it repeats and are regular, nothing was clipped, the wearer kept
still (if an accelerometer is there to say so), and the second before agrees. More blood must be a higher sample: a sensor of reflected light
gives its samples upside down.
"""

from dsp.period import Period

RATE_HZ = 50
WINDOW_S = 8
LOWEST_BPM, HIGHEST_BPM = 30, 220
FAITHFUL = 400  # of 1000: how alike one beat and the next must be
SPREAD_PCT = 40  # between the longest and the shortest interval, of the mean: breathing makes 20, a beat that is none makes 50
AGREE_PCT = 12  # between what repeats and what the crests say
STEADY_PCT = 15  # between this second and the one before
MOVING_MG = 400  # light on an arm that moves more shows the arm, not the heart
_CENTRE = 32768
_STRIDE = 4  # 12.5 products a second: above half of that, smoothing left nothing
_MEAN = 6  # bits of the slow mean: 64 samples, 1.3 s

GOOD, FILLING, FLAT, CLIPPED, MOVING, UNCLEAR, IRREGULAR, UNSTEADY = 0, 1, 2, 3, 4, 5, 6, 7
REASONS = ("good", "filling", "flat", "clipped", "moving", "unclear", "irregular", "unsteady")


class Ppg:
    """Takes samples of `rate_hz` (a multiple of 50) with any offset. `hr_dbpm` is tenths of beats a minute, -1 for none; `reason` says why."""

    def __init__(self, rate_hz=RATE_HZ, full_scale=(1 << 18) - 1, least=4):
        if rate_hz < RATE_HZ or rate_hz % RATE_HZ:
            raise ValueError("rate_hz is %d: set the sensor to a multiple of %d Hz" % (rate_hz, RATE_HZ))
        self._each = rate_hz // RATE_HZ
        self._full_scale = full_scale
        self._least = least
        self._period = Period(WINDOW_S * RATE_HZ, 60 * RATE_HZ // HIGHEST_BPM, 60 * RATE_HZ // LOWEST_BPM, stride=_STRIDE)
        self.gap()

    def gap(self):
        """Samples are missing here, or the finger was off: no value until the window is full again."""
        self._period.clear()
        self._sum = self._got = self._n = 0
        self._ready = False
        self._mean = self._before = self._before2 = self._before3 = 0
        self._clipped = self._moved = 0  # seconds until the window holds no such sample any more
        self._dbpm = 0  # of the second before, 0 for none
        self.hr_dbpm = -1
        self.quality = 0
        self.reason = FILLING

    def add(self, light, motion_mg=0):
        """A sample, and how far the acceleration was from 1 g. True when there is a new second's value."""
        if light <= 0 or light >= self._full_scale:
            self._clipped = WINDOW_S + 1
        if motion_mg > MOVING_MG:
            self._moved = WINDOW_S + 1
        self._sum += light
        self._got += 1
        if self._got < self._each:
            return False
        light = self._sum // self._got
        self._sum = self._got = 0
        if not self._ready:
            self._ready = True
            self._mean = light << _MEAN
            self._before = self._before2 = self._before3 = light
        smooth = (light + self._before + self._before2 + self._before3) >> 2
        self._before3 = self._before2
        self._before2 = self._before
        self._before = light
        self._mean += smooth - (self._mean >> _MEAN)
        self._period.add(max(0, min(65535, _CENTRE + smooth - (self._mean >> _MEAN))))
        self._n += 1
        if self._n < RATE_HZ:
            return False
        self._n = 0
        self._look()
        return True

    def _look(self):
        period = self._period
        before = self._dbpm
        self._dbpm = 0
        self.hr_dbpm = -1
        self.quality = 0
        self._clipped -= self._clipped > 0
        self._moved -= self._moved > 0
        if period.filled < WINDOW_S * RATE_HZ:
            self.reason = FILLING
        elif self._clipped:
            self.reason = CLIPPED
        elif self._moved:
            self.reason = MOVING
        elif not period.find():
            self.reason = FLAT if period.swing < self._least else UNCLEAR
        else:
            self.quality = period.quality
            self.reason = self._judge(period, before)
            if self.reason == GOOD:
                self.hr_dbpm = self._dbpm

    def _judge(self, period, before):
        if period.swing < self._least:
            return FLAT
        if period.quality < FAITHFUL:
            return UNCLEAR
        period.find_crests()
        intervals = period.crests - 1
        if intervals < 2 or period.uneven * intervals * 100 > SPREAD_PCT * period.span:
            return IRREGULAR
        repeats = (600 * RATE_HZ * 16) // period.sixteenths
        now = (600 * RATE_HZ * intervals + period.span // 2) // period.span
        if 100 * abs(now - repeats) > AGREE_PCT * repeats:
            return IRREGULAR
        self._dbpm = now
        return GOOD if 100 * abs(now - before) <= STEADY_PCT * now else UNSTEADY
