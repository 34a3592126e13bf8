"""BMI270 (Bosch, motion): measures only once its configuration file was written in pieces and accepted; headerless FIFO with watermark and overflow."""

from fakes.sensors.registers import Fifo, Registers

CHIP, STATUS, INT_STATUS, INTERNAL, LENGTH, DATA = 0x00, 0x03, 0x1D, 0x21, 0x24, 0x26
WATERMARK, FIFO_CONFIG, INT1, MAP = 0x46, 0x49, 0x53, 0x58
INIT, INIT_AT, INIT_DATA = 0x59, 0x5B, 0x5E
POWER_SAVE, POWER, COMMAND = 0x7C, 0x7D, 0x7E
FULL, FILLED = 0x01, 0x02


class Bmi270Model(Registers):
    """`config` is the file it accepts."""

    def __init__(self, config, int_pin=None, chip=0x24, address=0x68):
        super().__init__(address)
        self._config = bytes(config)
        self._chip = chip
        self._int_pin = int_pin
        self._fifo = Fifo(341, 6)  # 2,046 of its 2,048 bytes hold whole samples
        self._reset()

    def _reset(self):
        for i in range(256):
            self.bytes[i] = 0
        self.bytes[CHIP] = self._chip
        self.bytes[POWER_SAVE] = 3
        self._written = bytearray(len(self._config))
        self._next = 0
        self._odd = False
        self._fifo.clear()

    def after(self, register):
        return register if register == DATA or register == INIT_DATA else (register + 1) & 255

    def read(self, register):
        if register == DATA:
            return self._pop()
        if register == LENGTH:
            return self._fifo.count & 255
        if register == LENGTH + 1:
            return self._fifo.count >> 8
        byte = self.bytes[register]
        if register == INT_STATUS:
            self.bytes[INT_STATUS] = 0
            if self._int_pin is not None:
                self._int_pin.drive(0)
        return byte

    def _pop(self):
        if self._fifo.count:
            self._odd = False
            return self._fifo.pop()
        self._odd = not self._odd  # read beyond the end: 0x8000, low byte first
        return 0 if self._odd else 0x80

    def write(self, register, byte):
        registers = self.bytes
        if register == COMMAND:
            if byte == 0xB6:
                self._reset()
            elif byte == 0xB0:
                self._fifo.clear()
        elif register == INIT_DATA:
            if self._next < len(self._written):
                self._written[self._next] = byte
            self._next += 1
        elif register == INIT:
            if byte and registers[POWER_SAVE] & 1 == 0:
                registers[INTERNAL] = 1 if bytes(self._written) == self._config else 2
            registers[INIT] = byte
        elif register != CHIP:
            registers[register] = byte
            if register == INIT_AT + 1:  # the place in words that the next piece goes to
                self._next = 2 * ((registers[INIT_AT] & 15) | byte << 4)

    def push(self, x, y, z):
        """A sample of acceleration in counts of 16 bits, if the sensor was started."""
        registers = self.bytes
        if registers[INTERNAL] & 15 != 1 or not registers[POWER] & 4:
            return
        if registers[FIFO_CONFIG] & 0x40:
            if self._fifo.room() < 6:
                self._fifo.drop(6)
                registers[INT_STATUS] |= FULL
            for i in range(3):
                value = x if i == 0 else y if i == 1 else z
                self._fifo.push(value & 255)
                self._fifo.push(value >> 8 & 255)
            if self._fifo.count >= (registers[WATERMARK] | registers[WATERMARK + 1] << 8) > 0:
                registers[INT_STATUS] |= FILLED
        if registers[INT_STATUS] & registers[MAP] & 3 and registers[INT1] & 8 and self._int_pin is not None:
            self._int_pin.drive(1)
