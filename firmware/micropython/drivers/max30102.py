"""MAX30102: light through a fingertip or wrist, red and infrared, 18 bits, from its FIFO of 32 samples.

    sensor = Max30102(i2c, sleep_ms, rate_hz=50)
    for i in range(sensor.read()):            # up to 32 samples: every 0.6 s at the latest at 50 Hz
        ppg.add(FULL_SCALE - sensor.infrared[i])  # it sees reflected light: more blood is darker
    if sensor.lost: ...                       # samples that were overwritten: ppg.gap()

Source: data sheet 19-7740. With `int_pin` its interrupt line (open drain, falling) says that 17 samples wait: `due` is then True.
"""

from array import array

from drivers.registers import Registers, Sensor
from drivers.unpack import lights

ADDRESS = 0x57
FULL_SCALE = (1 << 18) - 1
DEPTH = 32
WAITING = 17  # samples that raise the interrupt: half of the FIFO is left for a late reader
FINGER = 50_000  # of infrared, at the current set below: less is air
_PART = 0x15
_RATES = {50: 0x4B, 100: 0x4F}  # 8,192 nA; 200 and 400 samples a second, four of which are averaged; 18 bits


class Max30102(Sensor):
    """After `read()`: `red` and `infrared`, as many as it said; `lost` samples since the read before; `finger` whether one is there."""

    def __init__(self, i2c, sleep_ms, rate_hz=50, current_ma=7, int_pin=None):
        if rate_hz not in _RATES or not 1 <= current_ma <= 51:
            raise ValueError("rate_hz %d, current_ma %d: 50 or 100 Hz, 1 to 51 mA" % (rate_hz, current_ma))
        self.red = array("i", bytes(4 * DEPTH))
        self.infrared = array("i", bytes(4 * DEPTH))
        self.lost = 0
        self.finger = False
        self._eight = bytearray(48)
        self._single = bytearray(6)
        self._pointers = bytearray(3)
        self._chip = chip = Registers(i2c, ADDRESS, "MAX30102")
        chip.expect(0xFF, _PART, "a MAX30100 says 0x11 and is not supported")
        chip.write(0x09, 0x40)
        chip.until(0x09, 0x40, 0, sleep_ms, "its 1.8 V supply may be missing")
        chip.write(0x02, 0x80 if int_pin is not None else 0)
        chip.write(0x08, 0x50 | (DEPTH - WAITING))  # four averaged, the oldest overwritten
        chip.write(0x0A, _RATES[rate_hz])
        chip.write(0x0C, current_ma * 5)
        chip.write(0x0D, current_ma * 5)
        for register in (0x04, 0x05, 0x06):
            chip.write(register, 0)
        chip.write(0x09, 0x03)
        chip.read(0x00)
        self._listen(int_pin, False)

    def read(self):
        """Empty the FIFO; how many samples came."""
        chip = self._chip
        self.due = False
        ready = chip.read(0x00) & 0xC0
        pointers = self._pointers
        chip.read_into(0x04, pointers)
        self.lost = pointers[1]
        waiting = (pointers[0] - pointers[2]) & (DEPTH - 1)
        if not waiting and (self.lost or ready):  # equal pointers: all or nothing
            waiting = DEPTH
        at = 0
        while waiting - at >= 8:
            chip.read_into(0x07, self._eight)
            at = lights(self.red, self.infrared, self._eight, at, 8)
        while at < waiting:
            chip.read_into(0x07, self._single)
            at = lights(self.red, self.infrared, self._single, at, 1)
        if at:
            self.finger = self.infrared[at - 1] >= FINGER
        return at

    def check(self):
        """OSError when the chip measures no more, because it started anew: ask now and then while it is awake."""
        self._chip.keeps(0x09, 0x07, 0x03)

    def sleep(self):
        """0.7 uA until `wake`."""
        self._chip.write(0x09, 0x83)

    def wake(self):
        self._chip.write(0x09, 0x03)
