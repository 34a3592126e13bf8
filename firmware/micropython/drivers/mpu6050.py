"""MPU-6050 (and -6500, -9250): acceleration at +-8 g from its FIFO.

    sensor = Mpu6050(i2c, sleep_ms, rate_hz=50)
    for i in range(sensor.read()):
        steps.add(magnitude.add(sensor.acceleration.x[i], ...))
    if sensor.lost: ...                       # the FIFO ran over and was emptied: gap()

Its FIFO is no multiple of a sample: once it runs over, what it holds is shifted, and only emptying it helps. Source: register map RM-MPU-6000A.
"""

from drivers.acceleration import KEPT, Acceleration
from drivers.registers import Registers, Sensor

ADDRESS = 0x68  # 0x69 with AD0 high
_KNOWN = (0x68, 0x70, 0x71)  # MPU-6050, -6500, -9250
_FIFO = 1024


class Mpu6050(Sensor):
    """After `read()`: `acceleration`, and `lost` True when samples are missing before these."""

    def __init__(self, i2c, sleep_ms, rate_hz=50, address=ADDRESS, int_pin=None):
        if not 4 <= rate_hz <= 200 or 1000 % rate_hz:
            raise ValueError("rate_hz %d: a part of 1000 from 4 to 200, as 25, 50, 100" % rate_hz)
        self.acceleration = Acceleration()
        self.lost = False
        self._two = bytearray(2)
        self._chip = chip = Registers(i2c, address, "MPU-6050")
        found = chip.read(0x75)
        if found not in _KNOWN:
            chip.expect(0x75, _KNOWN[0], "is it another sensor, or the wrong level at AD0?")
        chip.write(0x6B, 0x80)
        chip.until(0x6B, 0x80, 0, sleep_ms, "take its power away for a second")
        chip.write(0x6B, 0x00)  # awake, on its own oscillator: that of the gyroscope stands still with it
        chip.write(0x6C, 0x07)  # the gyroscope off: 0.5 mA
        chip.write(0x1A, 0x03 if rate_hz > 50 else 0x04)  # 44 or 21 Hz
        chip.write(0x19, 1000 // rate_hz - 1)
        chip.write(0x1C, 0x10)  # +-8 g
        chip.write(0x23, 0x08)
        chip.write(0x38, 0x10 | (0x01 if int_pin is not None else 0))
        self._empty()
        self._listen(int_pin, True)

    def read(self):
        """Up to 32 samples; call again while it gives 32."""
        chip = self._chip
        self.due = False
        self.lost = False
        ran_over = chip.read(0x3A) & 0x10
        chip.read_into(0x72, self._two)
        held = self._two[0] << 8 | self._two[1]
        if ran_over or held >= _FIFO:
            self._empty()
            self.lost = True
            return 0
        return self.acceleration.take(chip, 0x74, min(KEPT, held // 6), 0)

    def _empty(self):
        """The FIFO is emptied only while it is off."""
        self._chip.write(0x6A, 0x04)
        self._chip.write(0x6A, 0x40)

    def check(self):
        """OSError when the chip measures no more, because it started anew: ask now and then while it is awake."""
        self._chip.keeps(0x6B, 0x40, 0x00)

    def sleep(self):
        """5 uA until `wake`."""
        self._chip.write(0x6B, 0x40)

    def wake(self):
        self._chip.write(0x6B, 0x00)
        self._empty()
