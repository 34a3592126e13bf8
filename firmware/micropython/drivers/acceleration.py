"""Samples of a motion sensor's FIFO: three axes of 16 bits at +-8 g into thousandths of g."""

from array import array

KEPT = 32  # samples of one read
RANGE_BITS = 12  # 4,096 counts are 1 g at +-8 g


class Acceleration:
    """`x`, `y`, `z` in mg: as many as the driver's `read()` said."""

    def __init__(self):
        self.x = array("h", bytes(2 * KEPT))
        self.y = array("h", bytes(2 * KEPT))
        self.z = array("h", bytes(2 * KEPT))

    def keep(self, at, buf, i, high):
        """The sample at `buf[i:]`, whose high byte comes at 0 or 1, as number `at`."""
        self.x[at] = _mg(buf[i + high] << 8 | buf[i + 1 - high])
        self.y[at] = _mg(buf[i + 2 + high] << 8 | buf[i + 3 - high])
        self.z[at] = _mg(buf[i + 4 + high] << 8 | buf[i + 5 - high])


def _mg(raw):
    return (raw - ((raw & 0x8000) << 1)) * 1000 >> RANGE_BITS
