"""NMEA 0183 of any receiver: RMC and GGA of one instant become a fix. Sentences of any talker; a wrong checksum is counted and dropped.

    nmea = Nmea()
    if nmea.feed(buf, n):                     # bytes as they come, cut anywhere: how many fixes they completed
        nmea.fix.place, nmea.fix.speed_mmps

Both sentences are needed, in any order; every receiver sends them unless told otherwise. Prefer `ubx.py` where the receiver has it: it says how accurate it
is. Here accuracy is 5 m times the dilution (HDOP), a rule of thumb.
"""

from array import array

from drivers.fix import Fix
from drivers.scan import gather, number, place, split

_LONGEST = 100  # the standard says 82
_FIELDS = 24
_RMC, _GGA = 1, 2


class Nmea:
    """`fix` is the last one; `bad` counts sentences with a wrong checksum or number."""

    def __init__(self):
        self.fix = Fix()
        self.bad = 0
        self._line = bytearray(_LONGEST)
        self._state = array("H", (0, 0))
        self._starts = array("H", bytes(2 * (_FIELDS + 1)))
        self._seen = 0
        self._seen_ms = -1

    def feed(self, data, count):
        """The first `count` bytes of `data`: how many fixes they completed."""
        before = self.fix.count
        at = 0
        while at < count:
            at = gather(self._line, self._state, data, at, count, _LONGEST)
            if self._state[1]:
                self._sentence(self._state[0])
                self._state[0] = 0
        return self.fix.count - before

    def _sentence(self, length):
        fields = split(self._line, length, self._starts, _FIELDS)
        if not fields:
            self.bad += 1
            return
        line = self._line
        if self._starts[1] != 7:  # two letters of the talker and three of the sentence
            return
        if line[3] == 82 and line[4] == 77 and line[5] == 67 and fields > 9:
            kind = _RMC
        elif line[3] == 71 and line[4] == 71 and line[5] == 65 and fields > 9:
            kind = _GGA
        else:
            return
        time_ms = self._time(1)
        if time_ms < 0:
            return  # before the first satellite
        if time_ms != self._seen_ms:
            self._seen_ms = time_ms
            self._seen = 0
            self.fix.none()
            self.fix.time_ms = time_ms
        if not (self._rmc() if kind == _RMC else self._gga()):
            self.bad += 1
            self._seen = 0
            self._seen_ms = -1
            self.fix.none()
            return
        self._seen |= kind
        if self._seen == _RMC | _GGA:
            self._seen = 0
            self.fix.count += self.fix.dimensions > 0

    def _rmc(self):
        """Status, place, speed, course, date."""
        fix = self.fix
        line = self._line
        if line[self._starts[2]] != 65:  # A is valid
            return True
        if not self._coordinate(3, 0, 90) or not self._coordinate(5, 4, 180):
            return False
        knots_x1000 = self._number(7, 3)
        fix.speed_mmps = knots_x1000 * 463 // 900 if 0 <= knots_x1000 < 2_000_000 else None
        course_cdeg = self._number(8, 2)
        fix.course_cdeg = course_cdeg if 0 <= course_cdeg < 36_000 else None
        date = self._number(9, 0)
        day, month, year = date // 10_000, date // 100 % 100, 2000 + date % 100
        if date > 0 and 1 <= day <= 31 and 1 <= month <= 12 and year >= 2020:  # a receiver that starts says 1980 or 2000
            fix.day, fix.month, fix.year = day, month, year
        return True

    def _gga(self):
        """Quality, satellites, dilution, altitude."""
        fix = self.fix
        quality = self._number(6, 0)
        if quality <= 0 or quality in (6, 7, 8):  # none; estimated, by hand, simulated
            fix.dimensions = 0
            return True
        satellites = self._number(7, 0)
        fix.satellites = satellites if 0 <= satellites < 100 else None
        hdop_x100 = self._number(8, 2)
        fix.accuracy_cm = hdop_x100 * 5 if 0 < hdop_x100 < 10_000 else None
        start = self._starts[9]
        below = self._line[start] == 45
        altitude_cm = number(self._line, start + below, self._starts[10] - 1, 2)
        fix.altitude_cm = (-altitude_cm if below else altitude_cm) if 0 <= altitude_cm < 2_000_000 else None
        fix.dimensions = 2 if fix.altitude_cm is None else 3
        return self._coordinate(2, 0, 90) and self._coordinate(4, 4, 180)

    def _number(self, field, decimals):
        return number(self._line, self._starts[field], self._starts[field + 1] - 1, decimals)

    def _time(self, field):
        """hhmmss.sss as milliseconds of the day; -1 for none."""
        start = self._starts[field]
        if self._starts[field + 1] - 1 - start < 6:
            return -1
        clock = number(self._line, start, start + 6, 0)
        hour, minute, second = clock // 10_000, clock // 100 % 100, clock % 100
        if clock < 0 or hour > 23 or minute > 59 or second > 60:
            return -1
        part_ms = number(self._line, start + 6, self._starts[field + 1] - 1, 3) if self._starts[field + 1] - 1 > start + 6 else 0
        return hour * 3_600_000 + minute * 60_000 + second * 1000 + part_ms if 0 <= part_ms < 1000 else -1

    def _coordinate(self, field, at, limit):
        """dddmm.mmmmm and its letter, to 1e-7 degrees."""
        line = self._line
        start, end = self._starts[field], self._starts[field + 1] - 1
        point = start
        while point < end and line[point] != 46:
            point += 1
        whole = number(line, start, point, 0)
        part = number(line, point, end, 7) if point + 1 < end else 0
        letter = line[self._starts[field + 1]]
        negative = letter == 83 or letter == 87
        degrees, minutes = whole // 100, whole % 100
        if whole < 0 or part < 0 or minutes > 59 or not (negative or letter == 78 or letter == 69):
            return False
        part = (minutes * 10_000_000 + part + 30) // 60
        if degrees > limit or (degrees == limit and part):
            return False
        place(self.fix.place, at, degrees, part, negative)
        return True
