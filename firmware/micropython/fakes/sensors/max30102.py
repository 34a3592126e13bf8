"""MAX30102 (Maxim, pulse oximeter): 32 samples of red and infrared, 18 bits each, a pointer that is ambiguous when the FIFO is full, an interrupt line."""

from fakes.sensors.registers import Registers

STATUS, ENABLE = 0x00, 0x02
WRITE, OVERFLOW, READ, DATA = 0x04, 0x05, 0x06, 0x07
FIFO_CONFIG, MODE, SPO2 = 0x08, 0x09, 0x0A
TEMPERATURE, FRACTION, TEMPERATURE_START = 0x1F, 0x20, 0x21
PART = 0xFF
A_FULL, READY, POWER = 0x80, 0x40, 0x01
DEPTH = 32


class Max30102Model(Registers):
    def __init__(self, int_pin=None, part=0x15):
        super().__init__(0x57)
        self._part = part
        self._int_pin = int_pin
        self._fifo = bytearray(DEPTH * 6)
        self._reset()

    def _reset(self):
        for i in range(256):
            self.bytes[i] = 0
        self.bytes[PART] = self._part
        self.bytes[STATUS] = POWER
        self._held = 0
        self._at = 0  # byte of the sample being read
        self._level(1)

    def _level(self, level):
        if self._int_pin is not None:
            self._int_pin.drive(level)

    def after(self, register):
        return register if register == DATA else (register + 1) & 255

    def read(self, register):
        registers = self.bytes
        if register == STATUS:
            status = registers[STATUS]
            registers[STATUS] = 0
            self._level(1)
            return status
        if register != DATA:
            return registers[register]
        registers[STATUS] &= ~(A_FULL | READY) & 255
        self._level(1)
        byte = self._fifo[registers[READ] * 6 + self._at]
        self._at += 1
        if self._at == 6:
            self._at = 0
            registers[READ] = (registers[READ] + 1) % DEPTH
            registers[OVERFLOW] = 0
            self._held -= self._held > 0
        return byte

    def write(self, register, byte):
        if register == MODE and byte & 0x40:
            self._reset()
        elif register == TEMPERATURE_START:
            self.bytes[TEMPERATURE], self.bytes[FRACTION] = 31, 8
        elif register < 0xFE:
            self.bytes[register] = byte & 31 if WRITE <= register <= READ else byte
            if register == READ:
                self._held = self._at = 0  # drivers write the three pointers as one

    def push(self, red, infrared):
        """A sample of both lights, if the sensor measures."""
        registers = self.bytes
        if registers[MODE] & 0x87 != 3:
            return
        write = registers[WRITE]
        if self._held == DEPTH:
            registers[OVERFLOW] = min(31, registers[OVERFLOW] + 1)
            if not registers[FIFO_CONFIG] & 0x10:
                return
            registers[READ] = (registers[READ] + 1) % DEPTH
            self._held -= 1
        self._held += 1
        self._keep(write * 6, red)
        self._keep(write * 6 + 3, infrared)
        registers[WRITE] = (write + 1) % DEPTH
        registers[STATUS] |= READY
        if self._held >= DEPTH - (registers[FIFO_CONFIG] & 15):
            registers[STATUS] |= A_FULL
        if registers[STATUS] & registers[ENABLE]:
            self._level(0)

    def _keep(self, at, light):
        self._fifo[at] = light >> 16 & 3
        self._fifo[at + 1] = light >> 8 & 255
        self._fifo[at + 2] = light & 255
