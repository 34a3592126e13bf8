"""Time on a device: microseconds since its start that never jump, and how far UTC is from them, with a quality. Integers only.

    clock = Clock(random64)              # a new boot id
    t0_us = clock.monotonic_us()         # call it every 8 minutes at least: ticks wrap
    clock.set_utc(utc_us, NETWORK)       # UTC of now; what is better known already stays
    clock.utc_offset_us(t0_us), clock.quality

Epochs differ by port (ESP32 counts from 2000, the unix port and RP2 from 1970), so nothing here uses `time.time()` but `port_utc_us`, which
asks what 0 is.
"""

import struct
import time
from binascii import crc32

from kit.ticks import ticks_diff, ticks_us

UNKNOWN, SET, NETWORK, GNSS = 0, 1, 2, 3
EARLIEST_US = 1_577_836_800_000_000  # 2020-01-01: a clock before it was never set
_STALE_US = 3_600_000_000  # after an hour a worse source is better than an old one
_SPAN_US = 600_000_000  # drift is measured over ten minutes at least
_MAX_PPM = 200
_FORM = "<QQqBxH"  # boot, monotonic, offset, quality, drift in ppm + 32768
_SAVED_BYTES = struct.calcsize(_FORM) + 4


def port_epoch_s():
    """Seconds from 1970 to the epoch of this port's `time.time()`."""
    return 946_684_800 if time.gmtime(0)[0] == 2000 else 0


def port_utc_us():
    """UTC by the port's own clock (a battery clock, or what is left of an earlier setting); None when nobody has set it."""
    utc_us = (int(time.time()) + port_epoch_s()) * 1_000_000
    return utc_us if utc_us >= EARLIEST_US else None


class Clock:
    """`drift_ppm`: how much faster UTC goes than this clock, once it is known; offsets are carried on with it."""

    def __init__(self, boot, ticks=ticks_us):
        self.boot = boot
        self.quality = UNKNOWN
        self.drift_ppm = 0
        self._ticks = ticks
        self._last = ticks()
        self._us = 0
        self._offset_us = 0
        self._set_us = 0  # monotonic time at which `_offset_us` was right
        self._first = None  # (monotonic, offset) that the drift is measured from

    def monotonic_us(self):
        """Microseconds since the start of this boot."""
        now = self._ticks()
        self._us += ticks_diff(now, self._last)
        self._last = now
        return self._us

    def utc_offset_us(self, at_us):
        """What makes UTC (microseconds since 1970) of the monotonic time `at_us`; None while it is unknown."""
        if self.quality == UNKNOWN:
            return None
        return self._offset_us + (at_us - self._set_us) * self.drift_ppm // 1_000_000

    def utc_us(self):
        """UTC now, or None."""
        now = self.monotonic_us()
        offset = self.utc_offset_us(now)
        return None if offset is None else now + offset

    def set_utc(self, utc_us, quality, at_us=None):
        """UTC of the monotonic time `at_us` (now). False when it was not taken: before 2020, or something better is known and fresh."""
        at_us = self.monotonic_us() if at_us is None else at_us
        if utc_us < EARLIEST_US or (quality < self.quality and at_us - self._set_us < _STALE_US):
            return False
        offset = utc_us - at_us
        if quality >= NETWORK:
            if self._first is None or self.quality != quality:
                self._first = (at_us, offset)
                self.drift_ppm = 0
            elif at_us - self._first[0] >= _SPAN_US:
                ppm = (offset - self._first[1]) * 1_000_000 // (at_us - self._first[0])
                if -_MAX_PPM <= ppm <= _MAX_PPM:
                    self.drift_ppm = ppm
                else:  # the source itself has jumped
                    self._first, self.drift_ppm = (at_us, offset), 0
        else:
            self._first, self.drift_ppm = None, 0
        self._offset_us, self._set_us, self.quality = offset, at_us, quality
        return True

    def save(self):
        """What must be kept over a deep sleep, so that the same boot goes on."""
        now = self.monotonic_us()
        offset = self.utc_offset_us(now) or 0
        raw = struct.pack(_FORM, self.boot, now, offset, self.quality, self.drift_ppm + 32768)
        return raw + struct.pack("<I", crc32(raw))

    def resume(self, saved, slept_us):
        """Go on after a sleep of `slept_us`, as well as that is known: the date is worth less then. False when `saved` is none."""
        if len(saved) < _SAVED_BYTES:
            return False
        raw = bytes(saved[: _SAVED_BYTES - 4])
        if struct.unpack_from("<I", saved, _SAVED_BYTES - 4)[0] != crc32(raw) & 0xFFFFFFFF:
            return False
        self.boot, us, self._offset_us, quality, drift = struct.unpack(_FORM, raw)
        self._us = self._set_us = us + max(0, slept_us)
        self._last = self._ticks()
        self.quality = min(quality, SET)
        self.drift_ppm, self._first = drift - 32768, None
        return True
