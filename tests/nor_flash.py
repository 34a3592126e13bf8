"""NOR flash in memory for updates: bits only clear, an erase sets a sector, and the power may go in the middle of either."""

from __future__ import annotations

import random
from collections.abc import Callable


class PowerCut(Exception):
    """The power went. What was under way is torn."""

    @staticmethod
    def fuse(after: int, *, seed: int) -> Callable[[], random.Random | None]:
        """Blows at the operation `after`, counted over all flashes that share it; gives the dice of what is torn."""
        left = after

        def burn() -> random.Random | None:
            nonlocal left
            left -= 1
            return random.Random(seed) if left <= 0 else None

        return burn


class NorFlash:
    """A block device as MicroPython has them; `stuck` is a byte that cannot be cleared any more."""

    def __init__(self, *, sectors: int, sector_bytes: int) -> None:
        self.sector_bytes = sector_bytes
        self.content = bytearray(b"\xff" * (sectors * sector_bytes))
        self.operations = 0
        self.fuse: Callable[[], random.Random | None] | None = None
        self.stuck = -1

    def readblocks(self, block: int, buffer: bytearray, offset: int = 0) -> None:
        at = block * self.sector_bytes + offset
        buffer[:] = self.content[at : at + len(buffer)]

    def writeblocks(self, block: int, data: bytes, offset: int | None = None) -> None:
        if offset is None:
            self.ioctl(6, block)
            offset = 0
        self._cut(lambda dice: self._program(block, data, offset, dice))
        self._program(block, data, offset, None)

    def ioctl(self, operation: int, argument: int) -> int:
        if operation == 4:
            return len(self.content) // self.sector_bytes
        if operation == 5:
            return self.sector_bytes
        if operation == 6:
            at = argument * self.sector_bytes
            self._cut(lambda dice: self._erase(at, dice))
            self._erase(at, None)
        return 0

    def _cut(self, torn: Callable[[random.Random], None]) -> None:
        self.operations += 1
        if self.fuse is not None and (dice := self.fuse()) is not None:
            torn(dice)
            raise PowerCut

    def _program(self, block: int, data: bytes, offset: int, dice: random.Random | None) -> None:
        at = block * self.sector_bytes + offset
        assert at + len(data) <= len(self.content)
        whole = len(data) if dice is None else dice.randrange(len(data) + 1)
        for i in range(whole):
            if at + i != self.stuck:
                self.content[at + i] &= data[i]
        if dice is not None and whole < len(data):  # some bits of one more byte
            self.content[at + whole] &= data[whole] | dice.randrange(256)

    def _erase(self, at: int, dice: random.Random | None) -> None:
        for i in range(self.sector_bytes):
            if dice is None:
                self.content[at + i] = 0xFF
            else:
                self.content[at + i] |= dice.choice((0, 0xFF, dice.randrange(256)))
