"""Which of two images a device starts: the one that proved itself, or a new one on trial. Survives a power cut at every write.

Three sectors of a raw partition: a record in turn in the first two (the whole one with the higher number counts), and how far a download
came in the third (`update.py`). A trial costs one of its tries *before* it is started: an image that hangs, or takes the device down with
it, has none left after `TRIES` starts, and what ran before is started again. The version that failed is remembered and not taken again.
"""

import binascii
import struct

TRIES = 3
NONE = 255
PROGRESS_SECTOR = 2
SECTORS = 3
_FORM = "<4sIBBBBIIII"  # magic, number, active, trial, tries, zero, version, trial version, failed version, crc
_SIZE = 28


class Slots:
    """The record on `flash` (a block device: `readblocks`, `writeblocks`, `ioctl`), from its sector `first` on."""

    def __init__(self, flash, first=0):
        self.flash = flash
        self.first = first
        self.number = 0
        self.active = self.trial = NONE
        self.tries = self.version = self.trial_version = self.failed_version = 0
        raw = bytearray(_SIZE)
        for sector in (0, 1):
            flash.readblocks(first + sector, raw, 0)
            magic, number, active, trial, tries, _, version, trial_version, failed, crc = struct.unpack(_FORM, raw)
            if magic == b"PLB1" and crc == binascii.crc32(raw[: _SIZE - 4]) and number > self.number:
                self.number, self.active, self.trial, self.tries = number, active, trial, tries
                self.version, self.trial_version, self.failed_version = version, trial_version, failed

    def choose(self):
        """The slot to start now, None for what the base image brings along. Ask once a start, before anything of the image runs."""
        if self.trial == NONE:
            return self._active()
        if self.tries:
            self.tries -= 1
            self._write()
            return self.trial
        self._failed()
        return self._active()

    def spare(self):
        """The slot a new image goes to. A trial that still runs keeps its own."""
        return 1 if self.active == 0 else 0

    def try_next(self, version):
        """From the next start on the spare slot is on trial."""
        self.trial, self.tries, self.trial_version = self.spare(), TRIES, version
        self._write()

    def confirm(self):
        """What runs has proved itself. True if it was on trial."""
        if self.trial == NONE:
            return False
        self.active, self.version = self.trial, self.trial_version
        self.trial, self.tries, self.trial_version = NONE, 0, 0
        self._write()
        return True

    def give_up(self):
        """What runs says itself that it is no good: the next start is what ran before."""
        self.tries = 0
        self._write()

    def _failed(self):
        self.failed_version = self.trial_version
        self.trial, self.tries, self.trial_version = NONE, 0, 0
        self._write()

    def _active(self):
        return None if self.active == NONE else self.active

    def _write(self):
        self.number += 1
        fields = (self.active, self.trial, self.tries, 0, self.version, self.trial_version, self.failed_version)
        raw = struct.pack(_FORM[:-1], b"PLB1", self.number, *fields)
        raw += struct.pack("<I", binascii.crc32(raw))
        sector = self.first + (self.number & 1)
        self.flash.ioctl(6, sector)
        self.flash.writeblocks(sector, raw, 0)
