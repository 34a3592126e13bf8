"""BMI270: acceleration at +-8 g from its FIFO.

    sensor = Bmi270(i2c, sleep_ms, "bmi270.bin", rate_hz=50)
    for i in range(sensor.read()):
        steps.add(magnitude.add(sensor.acceleration.x[i], ...))
    if sensor.lost: ...                       # the FIFO ran over: gap()

The chip measures only once it was given Bosch's configuration (8,192 bytes, or 328 for the FIFO alone), which is Bosch's and not part of this kit: put it on
the board as a file from their BMI270 SensorAPI. It is written in pieces of 32 bytes. Source: data sheet BST-BMI270-DS000.
"""

from drivers.acceleration import KEPT, Acceleration
from drivers.registers import Registers, Sensor

ADDRESS = 0x68  # 0x69 with SDO high
_CHIP = 0x24
_RATES = {25: 0x06, 50: 0x07, 100: 0x08, 200: 0x09}
_PIECE = 32
_WAITING = 96  # bytes that raise the interrupt: 16 samples


class Bmi270(Sensor):
    """After `read()`: `acceleration`, and `lost` True when samples are missing before these."""

    def __init__(self, i2c, sleep_ms, config, rate_hz=50, address=ADDRESS, int_pin=None):
        if rate_hz not in _RATES:
            raise ValueError("rate_hz %d: 25, 50, 100 or 200" % rate_hz)
        self.acceleration = Acceleration()
        self.lost = False
        self._two = bytearray(2)
        self._chip = chip = Registers(i2c, address, "BMI270")
        chip.expect(0x00, _CHIP, "is it another sensor, or the wrong level at SDO?")
        chip.write(0x7E, 0xB6)
        sleep_ms(2)
        chip.write(0x7C, 0x00)  # power save off, or nothing below is kept
        sleep_ms(1)
        self._configure(config, sleep_ms)
        chip.write(0x40, 0xA0 | _RATES[rate_hz])  # filtered for performance
        chip.write(0x41, 0x02)  # +-8 g
        chip.write(0x46, _WAITING)
        chip.write(0x47, 0)
        chip.write(0x48, 0)  # the oldest overwritten, no time stamps
        chip.write(0x49, 0x40)  # acceleration without headers
        if int_pin is not None:
            chip.write(0x53, 0x0A)  # drives the line, active high
            chip.write(0x58, 0x03)
        chip.write(0x7D, 0x04)
        chip.write(0x7E, 0xB0)
        self._listen(int_pin, True)

    def _configure(self, config, sleep_ms):
        chip = self._chip
        chip.write(0x59, 0x00)
        piece = bytearray(_PIECE)
        try:
            file = open(config, "rb")
        except OSError:
            raise OSError(2, "BMI270 at 0x%02x needs Bosch's configuration: put it at %s" % (chip.address, config))
        words = 0
        while True:
            got = file.readinto(piece)
            if not got:
                break
            chip.write(0x5B, words & 15)
            chip.write(0x5C, words >> 4)
            chip.write_from(0x5E, piece if got == _PIECE else memoryview(piece)[:got])
            words += got // 2
        file.close()
        chip.write(0x59, 0x01)
        chip.until(0x21, 0x0F, 1, sleep_ms, "%s is not the chip's configuration: take it from Bosch's BMI270 SensorAPI" % config)

    def read(self):
        """Up to 32 samples; call again while it gives 32."""
        chip = self._chip
        self.due = False
        self.lost = bool(chip.read(0x1D) & 0x01)
        chip.read_into(0x24, self._two)
        held = (self._two[1] & 0x3F) << 8 | self._two[0]
        return self.acceleration.take(chip, 0x26, min(KEPT, held // 6), 1)

    def check(self):
        """OSError when the chip measures no more, because it started anew: ask now and then while it is awake."""
        self._chip.keeps(0x7D, 0x04, 0x04)

    def sleep(self):
        """3.5 uA until `wake`."""
        self._chip.write(0x7D, 0x00)
        self._chip.write(0x7C, 0x03)

    def wake(self):
        self._chip.write(0x7C, 0x00)
        self._chip.write(0x7D, 0x04)
        self._chip.write(0x7E, 0xB0)
