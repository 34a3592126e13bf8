"""A fix of a satellite receiver, integers with units; None is not known."""

_DAYS = (0, 31, 59, 90, 120, 151, 181, 212, 243, 273, 304, 334)


class Fix:
    """`place` is latitude and longitude in 1e-7 degrees, four bytes each, little-endian, as a frame takes them: the integers themselves would need memory.

    `dimensions` is 0 (no fix), 2 or 3; `count` goes up with each new fix.
    """

    def __init__(self):
        self.place = bytearray(8)
        self.count = 0
        self.none()

    def none(self):
        self.dimensions = 0
        self.altitude_cm = self.speed_mmps = self.course_cdeg = self.accuracy_cm = self.satellites = None
        self.time_ms = None  # of the day
        self.year = self.month = self.day = None

    def lat_e7(self):
        return _signed(self.place, 0)

    def lon_e7(self):
        return _signed(self.place, 4)

    def utc_us(self):
        """Since 1970, None while the receiver does not know the date. Makes a long integer: for setting a clock, not for each fix."""
        if self.year is None or self.time_ms is None:
            return None
        years = self.year - 1970
        days = years * 365 + (years + 1) // 4 + _DAYS[self.month - 1] + self.day - 1  # right from 1970 to 2099
        if self.month > 2 and self.year % 4 == 0:
            days += 1
        return (days * 86_400_000 + self.time_ms) * 1000


def _signed(buf, at):
    value = buf[at] | buf[at + 1] << 8 | buf[at + 2] << 16 | buf[at + 3] << 24
    return value - (1 << 32) if value >> 31 else value
