"""What all sensors on I2C share: registers that are bytes, an address, silence on demand."""


class Registers:
    """`silent` many next transfers are not answered (-1: none ever); `awake` False is a sensor without power."""

    def __init__(self, address, size=256):
        self.address = address
        self.bytes = bytearray(size)
        self.pointer = 0
        self.silent = 0
        self.awake = True
        self.transfers = 0

    def answers(self):
        """Whether the next transfer is answered; counts it."""
        self.transfers += 1
        if self.silent:
            self.silent -= self.silent > 0
            return False
        return self.awake

    def after(self, register):
        """The register a burst goes on with."""
        return (register + 1) & 255

    def read(self, register):
        return self.bytes[register]

    def write(self, register, byte):
        self.bytes[register] = byte


class Fifo:
    """A ring of bytes with records of `width`; what is pushed when it is full drops the oldest record."""

    def __init__(self, records, width):
        self.width = width
        self.size = records * width
        self.bytes = bytearray(self.size)
        self.start = self.count = 0

    def clear(self):
        self.start = self.count = 0

    def room(self):
        return self.size - self.count

    def push(self, byte):
        self.bytes[(self.start + self.count) % self.size] = byte
        self.count += 1

    def drop(self, count):
        self.start = (self.start + count) % self.size
        self.count -= count

    def pop(self):
        byte = self.bytes[self.start]
        self.drop(1)
        return byte
