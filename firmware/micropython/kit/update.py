"""A new image into the spare slot: block after block, resumed where it stopped, checked as a whole, started on trial.

What is on the way never touches what runs. A block counts once it was written and read back; then one byte in the progress sector is
cleared, which NOR flash does without an erase. The slot becomes bootable only after the SHA-256 of all that was read back is that of the
manifest.
"""

import binascii
import hashlib
import struct

from kit.slots import NONE, PROGRESS_SECTOR

_HEAD = 40  # "PLP1", SHA-256 of the manifest, crc of both
_PIECE = 256


class Download:
    """One image into the block device `slot`; how far it came stands beside the record of `slots`.

    ValueError while another image is on trial (the slot may be the one that runs), or if the image has more blocks than are counted.
    """

    def __init__(self, slots, slot, manifest):
        if slots.trial != NONE:
            raise ValueError("version %d is on trial: confirm it or start again first" % slots.trial_version)
        self.slots = slots
        self.slot = slot
        self.manifest = manifest
        self.block = bytearray(slot.ioctl(5, 0))
        self.filled = 0
        self.sector = slots.first + PROGRESS_SECTOR
        self.blocks = -(-manifest.size // len(self.block))
        if self.blocks > len(self.block) - _HEAD:
            raise ValueError("%d blocks of an image are more than the progress sector counts" % self.blocks)
        self.done = self._resume()  # blocks

    @property
    def offset(self):
        """The next byte of the image that is wanted; `manifest.size` once all is there."""
        return min(self.done * len(self.block) + self.filled, self.manifest.size)

    def take(self, data):
        """Bytes of the image from `offset` on. OSError if the flash does not keep what it is given."""
        data = memoryview(data)
        while len(data) and self.offset < self.manifest.size:
            room = min(len(self.block) - self.filled, self.manifest.size - self.offset)
            part = data[:room]
            self.block[self.filled : self.filled + len(part)] = part
            self.filled += len(part)
            data = data[len(part) :]
            if len(part) == room:
                self._keep()

    def finish(self):
        """Put the image on trial; False if what the slot holds is not what was signed, and then all of it is wanted again."""
        if self.offset < self.manifest.size:
            return False
        digest = hashlib.sha256()
        piece = bytearray(_PIECE)
        left = self.manifest.size
        for at in range(0, left, _PIECE):
            block, offset = divmod(at, len(self.block))
            self.slot.readblocks(block, piece, offset)
            digest.update(memoryview(piece)[: min(left, _PIECE)])
            left -= _PIECE
        if digest.digest() != self.manifest.sha256:
            self.slots.flash.ioctl(6, self.sector)
            self.done = self.filled = 0
            self._begin()
            return False
        self.slots.try_next(self.manifest.version)
        return True

    def _keep(self):
        for i in range(self.filled, len(self.block)):
            self.block[i] = 0xFF
        self.slot.ioctl(6, self.done)
        self.slot.writeblocks(self.done, self.block, 0)
        piece = bytearray(_PIECE)
        for at in range(0, len(self.block), _PIECE):
            self.slot.readblocks(self.done, piece, at)
            if memoryview(self.block)[at : at + _PIECE] != piece:
                raise OSError(5, "block %d of the spare slot does not keep what is written" % self.done)
        self.slots.flash.writeblocks(self.sector, b"\0", _HEAD + self.done)
        self.done += 1
        self.filled = 0

    def _head(self):
        head = b"PLP1" + hashlib.sha256(self.manifest.raw + bytes([self.slots.spare()])).digest()
        return head + struct.pack("<I", binascii.crc32(head))

    def _resume(self):
        """How many blocks of this very image are in the slot already."""
        head = bytearray(_HEAD)
        self.slots.flash.readblocks(self.sector, head, 0)
        if head != self._head():
            self.slots.flash.ioctl(6, self.sector)
            self._begin()
            return 0
        mark = bytearray(1)
        for done in range(self.blocks):
            self.slots.flash.readblocks(self.sector, mark, _HEAD + done)
            if mark[0]:
                return done
        return self.blocks

    def _begin(self):
        self.slots.flash.writeblocks(self.sector, self._head(), 0)
