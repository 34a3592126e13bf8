"""Charge of a lithium cell behind a voltage divider on an ADC pin.

    battery = Battery(ADC(34), divider_x1000=2000)   # two equal resistors
    battery.read()                            # once a minute is enough
    battery.millivolts, battery.percent, battery.low

The voltage is the mean of 16 readings. The charge moves down only, unless it rises by 5 points at once: a load that ends is no charger.
"""

READINGS = 16
_CURVE = (3300, 0, 3500, 5, 3600, 10, 3680, 20, 3740, 30, 3770, 40, 3800, 50, 3860, 60, 3930, 70, 4000, 80, 4080, 90, 4180, 100)  # mV, % at rest


class Battery:
    """`millivolts` of the cell, `percent` (-1 before the first reading), `low` when the device should write down what it has and sleep."""

    def __init__(self, adc, divider_x1000=2000, low_mv=3400):
        if not 1000 <= divider_x1000 <= 20_000:
            raise ValueError("divider_x1000 %d: (R1 + R2) / R2 in thousandths, 1000 to 20000" % divider_x1000)
        self._adc = adc
        self._divider = divider_x1000
        self._low_mv = low_mv
        self.millivolts = 0
        self.percent = -1
        self.low = False

    def read(self):
        """Measure; OSError when nothing is connected."""
        sum_mv = 0
        for _ in range(READINGS):
            sum_mv += self._adc.read_uv() // 1000
        self.millivolts = sum_mv * self._divider // (READINGS * 1000)
        if self.millivolts < 1000:
            raise OSError(19, "battery reads %d mV: check the divider, and that the pin can be an ADC" % self.millivolts)
        now = _percent(self.millivolts)
        if self.percent < 0 or now < self.percent or now >= self.percent + 5:
            self.percent = now
        self.low = self.millivolts < self._low_mv
        return self.millivolts


def _percent(millivolts):
    if millivolts <= _CURVE[0]:
        return 0
    for i in range(2, len(_CURVE), 2):
        if millivolts < _CURVE[i]:
            span = _CURVE[i] - _CURVE[i - 2]
            return _CURVE[i - 1] + (millivolts - _CURVE[i - 2]) * (_CURVE[i + 1] - _CURVE[i - 1]) // span
    return 100
