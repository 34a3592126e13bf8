"""Samples of a motion sensor's FIFO: three axes of 16 bits at +-8 g into thousandths of g."""

from array import array

from drivers.unpack import axes

KEPT = 32  # samples of one read


class Acceleration:
    """`x`, `y`, `z` in mg: as many as the driver's `read()` said."""

    def __init__(self):
        self.x = array("h", bytes(2 * KEPT))
        self.y = array("h", bytes(2 * KEPT))
        self.z = array("h", bytes(2 * KEPT))
        self._eight = bytearray(48)
        self._single = bytearray(6)

    def take(self, chip, register, count, high):
        """Read `count` samples (32 at most) of a FIFO; the high byte of each axis comes first (0) or second (1)."""
        at = 0
        while count - at >= 8:
            chip.read_into(register, self._eight)
            at = axes(self.x, self.y, self.z, self._eight, at, 8, high)
        while at < count:
            chip.read_into(register, self._single)
            at = axes(self.x, self.y, self.z, self._single, at, 1, high)
        return at
