"""A raw flash partition with the rules of NOR: programming clears bits only, a sector is erased as a whole, and power may go at any
operation.

    nor = Nor(8, 4096)                  # or Nor(8, 4096, path) for an image in a file, which outlives the process
    nor.cut_at = 17                     # the 17th program or erase from now is torn: PowerCut, and nothing works until `power_up`

A torn program leaves some bytes done, one half done and the rest as they were; a torn erase sets some bits of some bytes. What it hits is
drawn from `seed`, the same on both interpreters.
"""


class PowerCut(Exception):
    """The power went."""


class Nor:
    """`operations` counts programs and erases, `programmed_bytes` what was programmed, `erases` and `torn_erases` the completed and the
    cut ones by sector.
    """

    def __init__(self, sectors, sector_bytes=4096, path=None, seed=1):
        self.sectors = sectors
        self.sector_bytes = sector_bytes
        self.operations = 0
        self.programmed_bytes = 0
        self.erases = [0] * sectors
        self.torn_erases = [0] * sectors
        self.cut_at = 0
        self.on_cut = None  # called in the place of PowerCut: a test may end the process there
        self._off = False
        self._seed = seed
        self._file = None
        size = sectors * sector_bytes
        self.image = bytearray(size)
        for at in range(0, size, sector_bytes):  # in pieces: the heap of a small device holds it once
            self.image[at : at + sector_bytes] = b"\xff" * sector_bytes
        if path is not None:
            self._open(path, size)

    def _open(self, path, size):
        try:
            self._file = open(path, "r+b")
        except OSError:
            with open(path, "wb") as new:
                new.write(self.image)
            self._file = open(path, "r+b")
        count = self._file.readinto(self.image)
        if count != size:
            raise ValueError("%s: %d bytes, not %d" % (path, count, size))

    def power_up(self):
        """Power is back."""
        self._off = False
        self.cut_at = 0

    def close(self):
        """Close the image's file."""
        if self._file is not None:
            self._file.close()

    def readblocks(self, block, buf, offset=0):
        if self._off:
            raise PowerCut("no power")
        at = self._place(block, offset, len(buf))
        buf[:] = self.image[at : at + len(buf)]

    def writeblocks(self, block, buf, offset=0):
        """Program: AND into what is there."""
        at = self._place(block, offset, len(buf))
        done, mask = self._begin(len(buf))
        image = self.image
        for i in range(done):
            image[at + i] &= buf[i]
        if mask is None:
            self.programmed_bytes += len(buf)
            self._keep(at, len(buf))
            return
        if done < len(buf):
            image[at + done] &= buf[done] | mask
        self._keep(at, len(buf))
        self._die()

    def ioctl(self, op, arg):
        if op == 4:
            return self.sectors
        if op == 5:
            return self.sector_bytes
        if op == 6:
            self._erase(arg)
        return 0

    def _erase(self, block):
        at = self._place(block, 0, self.sector_bytes)
        size = self.sector_bytes
        done, mask = self._begin(size)
        image = self.image
        if mask is None:
            image[at : at + size] = b"\xff" * size
            self.erases[block] += 1
            self._keep(at, size)
            return
        part = self._draw() % 3
        for i in range(size):
            if part == 0:  # all of it half erased
                image[at + i] |= self._draw() & 255
            elif (part == 1) == (i < done):  # the first bytes, or the last ones
                image[at + i] = 0xFF
            elif i == done:
                image[at + i] |= mask
        self.torn_erases[block] += 1
        self._keep(at, size)
        self._die()

    def _begin(self, size):
        """(bytes to do, None), or (bytes that get done, bits that do not) of an operation that is torn."""
        if self._off:
            raise PowerCut("no power")
        self.operations += 1
        if self.cut_at:
            self.cut_at -= 1
            if self.cut_at == 0:
                return self._draw() % (size + 1), self._draw() & 255
        return size, None

    def _die(self):
        self._off = True
        if self.on_cut is not None:
            self.on_cut()
        raise PowerCut("cut at operation %d" % self.operations)

    def _place(self, block, offset, size):
        if not (0 <= block < self.sectors and offset >= 0 and offset + size <= self.sector_bytes):
            raise ValueError("block %d, offset %d, %d bytes: beyond the partition" % (block, offset, size))
        return block * self.sector_bytes + offset

    def _keep(self, at, size):
        if self._file is not None:
            self._file.seek(at)
            self._file.write(self.image[at : at + size])
            self._file.flush()

    def _draw(self):
        self._seed = (self._seed * 1103515245 + 12345) & 0x7FFFFFFF
        return self._seed >> 8
