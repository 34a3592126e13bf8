"""MPU-6050 (InvenSense, motion): sleeps after power-on, a FIFO of 1,024 bytes that is no multiple of a sample, so that an overflow shifts all that follows."""

from fakes.sensors.registers import Fifo, Registers

FIFO_ENABLE, INT_ENABLE, INT_STATUS, ACCEL = 0x23, 0x38, 0x3A, 0x3B
USER, POWER, COUNT, DATA, WHO = 0x6A, 0x6B, 0x72, 0x74, 0x75


class Mpu6050Model(Registers):
    def __init__(self, int_pin=None, who=0x68, address=0x68):
        super().__init__(address)
        self._who = who
        self._int_pin = int_pin
        self._fifo = Fifo(1024, 1)
        self._reset()

    def _reset(self):
        for i in range(256):
            self.bytes[i] = 0
        self.bytes[WHO] = self._who
        self.bytes[POWER] = 0x40
        self._fifo.clear()

    def after(self, register):
        return register if register == DATA else (register + 1) & 255

    def read(self, register):
        if register == DATA:
            return self._fifo.pop() if self._fifo.count else 0xFF
        if register == COUNT:
            return self._fifo.count >> 8
        if register == COUNT + 1:
            return self._fifo.count & 255
        byte = self.bytes[register]
        if register == INT_STATUS:
            self.bytes[INT_STATUS] = 0
            if self._int_pin is not None:
                self._int_pin.drive(0)
        return byte

    def write(self, register, byte):
        if register == POWER and byte & 0x80:
            self._reset()
        elif register == USER:
            if byte & 0x44 == 0x04:  # only while the FIFO is off
                self._fifo.clear()
            self.bytes[USER] = byte & ~0x04 & 255
        elif register != WHO:
            self.bytes[register] = byte

    def push(self, x, y, z):
        """A sample of acceleration in counts of 16 bits, if the sensor is awake."""
        registers = self.bytes
        if registers[POWER] & 0x40:
            return
        for i in range(3):
            value = x if i == 0 else y if i == 1 else z
            registers[ACCEL + 2 * i] = value >> 8 & 255
            registers[ACCEL + 2 * i + 1] = value & 255
        registers[INT_STATUS] |= 1
        if registers[USER] & 0x40 and registers[FIFO_ENABLE] & 0x08:
            for i in range(6):
                if not self._fifo.room():
                    self._fifo.drop(1)
                    registers[INT_STATUS] |= 0x10
                self._fifo.push(registers[ACCEL + i])
        if registers[INT_STATUS] & registers[INT_ENABLE] and self._int_pin is not None:
            self._int_pin.drive(1)
