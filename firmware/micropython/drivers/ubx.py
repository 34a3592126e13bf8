"""UBX of u-blox receivers: NAV-PVT, which says place, speed and how accurate they are, as integers.

    ubx = Ubx()
    if ubx.feed(buf, n):                      # bytes as they come, cut anywhere
        ubx.fix.place, ubx.fix.accuracy_cm

NMEA in between, other messages and noise are passed over. Source: u-blox interface descriptions of M8 to F10, the same bytes in all.
"""

from array import array

from drivers.fix import Fix
from drivers.scan import take

_PVT_BYTES = 92
_ROOM = _PVT_BYTES + 8
_LARGEST = 1 << 29


class Ubx:
    """`fix` is the last one; `others` counts good messages that are none."""

    def __init__(self):
        self.fix = Fix()
        self.others = 0
        self._frame = bytearray(_ROOM)
        self._state = array("H", (0, 0))

    def feed(self, data, count):
        """The first `count` bytes of `data`: how many fixes they completed."""
        before = self.fix.count
        at = 0
        while at < count:
            at = take(self._frame, self._state, data, at, count, _ROOM)
            if self._state[1]:
                held = self._state[0]
                self._state[0] = 0
                if held == _ROOM and self._frame[2] == 1 and self._frame[3] == 7:
                    self._pvt(self._frame)
                else:
                    self.others += 1
        return self.fix.count - before

    def _pvt(self, frame):
        """Offsets are those of the payload plus 6."""
        fix = self.fix
        fix.none()
        valid = frame[17]
        if valid & 3 == 3 and 1 <= frame[12] <= 12 and frame[13]:
            fix.year = frame[10] | frame[11] << 8
            fix.month, fix.day = frame[12], frame[13]
            upper = frame[23] | frame[24] << 8 | frame[25] << 16  # of nanoseconds from -1e9 to 1e9
            part_ms = ((upper - ((upper & 0x800000) << 1)) * 4 + 7812) // 15_625
            fix.time_ms = max(0, frame[14] * 3_600_000 + frame[15] * 60_000 + frame[16] * 1000 + part_ms)
        kind = frame[26]
        if not frame[27] & 1 or kind not in (2, 3, 4):
            return
        fix.dimensions = 2 if kind == 2 else 3
        for i in range(4):
            fix.place[i] = frame[34 + i]
            fix.place[4 + i] = frame[30 + i]
        if kind != 2:
            fix.altitude_cm = _low(frame, 42) // 10
        accuracy_mm = _low(frame, 46)
        fix.accuracy_cm = accuracy_mm // 10 if 0 <= accuracy_mm < 10_000_000 else None
        speed_mmps = _low(frame, 66)
        fix.speed_mmps = speed_mmps if 0 <= speed_mmps < 1_000_000 else None
        course_cdeg = _low(frame, 70) // 1000
        fix.course_cdeg = course_cdeg if 0 <= course_cdeg < 36_000 else None
        fix.satellites = frame[29]
        fix.count += 1


def _low(frame, at):
    """A signed number of four bytes, kept below 2**29 either way, so that it needs no memory."""
    high = frame[at + 3]
    value = frame[at] | frame[at + 1] << 8 | frame[at + 2] << 16
    if high < 32:
        return value | high << 24
    if high >= 224:
        return (value | (high - 224) << 24) - _LARGEST
    return _LARGEST - 1 if high < 128 else -_LARGEST


def message(kind, number, payload):
    """A message to the receiver: class, id and bytes in their frame."""
    body = bytes((kind, number, len(payload) & 255, len(payload) >> 8)) + bytes(payload)
    a = b = 0
    for byte in body:
        a = (a + byte) & 255
        b = (b + a) & 255
    return b"\xb5\x62" + body + bytes((a, b))


def start(period_ms):
    """What makes a receiver say NAV-PVT every so many milliseconds on the line it is asked on.

    CFG-RATE and CFG-MSG for those up to M9, CFG-VALSET (into RAM) for those from M9 on: each refuses what it does not know.
    """
    if not 50 <= period_ms <= 10_000:
        raise ValueError("period_ms %d: 50 to 10000" % period_ms)
    low, high = period_ms & 255, period_ms >> 8
    older = message(6, 8, (low, high, 1, 0, 1, 0)) + message(6, 1, (1, 7, 1))
    rate, pvt = (0x01, 0x00, 0x21, 0x30, low, high), (0x07, 0x00, 0x91, 0x20, 1)  # CFG-RATE-MEAS, CFG-MSGOUT-UBX_NAV_PVT_UART1
    return older + message(6, 0x8A, (0, 1, 0, 0) + rate + pvt)
