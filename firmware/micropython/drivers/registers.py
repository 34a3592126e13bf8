"""Registers of a sensor on I2C: preallocated buffers, errors that say what to look for, and what all sensors with a FIFO share."""

TRIES = 3


class Registers:
    """`nacks` counts transfers that were not answered at first."""

    def __init__(self, i2c, address, name):
        self._i2c = i2c
        self.address = address
        self.name = name
        self.nacks = 0
        self._one = bytearray(1)

    def read_into(self, register, buf):
        """Fill `buf` from a register on. OSError after three tries."""
        for left in range(TRIES - 1, -1, -1):
            try:
                self._i2c.readfrom_mem_into(self.address, register, buf)
                return
            except OSError as error:
                self.nacks += 1
                if not left:
                    raise self.silent(error)

    def read(self, register):
        self.read_into(register, self._one)
        return self._one[0]

    def write(self, register, byte):
        self._one[0] = byte
        self.write_from(register, self._one)

    def write_from(self, register, buf):
        for left in range(TRIES - 1, -1, -1):
            try:
                self._i2c.writeto_mem(self.address, register, buf)
                return
            except OSError as error:
                self.nacks += 1
                if not left:
                    raise self.silent(error)

    def silent(self, error):
        """The error to raise when nothing answers."""
        code = error.args[0] if error.args else 0
        return OSError(
            code,
            "%s does not answer at 0x%02x: check SDA, SCL, ground and 3.3 V, pull-ups of 4.7 kOhm, and i2c.scan()"
            % (self.name, self.address),
        )

    def expect(self, register, wanted, cure):
        """OSError when the chip is another one than its address says."""
        found = self.read(register)
        if found != wanted:
            raise OSError(19, "chip at 0x%02x says 0x%02x, and %s says 0x%02x: %s" % (self.address, found, self.name, wanted, cure))

    def until(self, register, mask, wanted, sleep_ms, cure):
        """Wait up to 100 ms for bits of a register."""
        for _ in range(100):
            if self.read(register) & mask == wanted:
                return
            sleep_ms(1)
        raise OSError(110, "%s at 0x%02x does not become ready: %s" % (self.name, self.address, cure))

    def keeps(self, register, mask, wanted):
        """OSError when a setting is not what was written: the chip started anew."""
        if self.read(register) & mask != wanted:
            raise OSError(
                5, "%s at 0x%02x lost its settings: make its driver anew, and look at its supply (a brown-out?)" % (self.name, self.address)
            )


class Sensor:
    """A chip, `_chip`, that samples into a FIFO by itself. `due`: samples may wait; its interrupt line says so if it has one."""

    def _listen(self, int_pin, rising):
        """The line says from now on that samples wait, by a rising or a falling edge; None: there is no line."""
        self.due = int_pin is None
        if int_pin is not None:
            int_pin.irq(self._on_edge, int_pin.IRQ_RISING if rising else int_pin.IRQ_FALLING)

    @property
    def nacks(self):
        """Transfers that were not answered."""
        return self._chip.nacks

    def _on_edge(self, pin):
        self.due = True
