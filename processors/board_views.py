"""Views of a segment board: who (sex, age class) and when (all time, a local week, a local day).

A view is a value and a key: two that mean the same are equal (a week is known by its Monday; the zone is dropped where it changes nothing).
It turns an athlete into one span of time: the best effort that starts in it is the athlete's row. An athlete without a stated sex or year
of birth is on no view that asks for it.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import UTC, date, datetime, timedelta
from functools import lru_cache
from typing import Final, Literal, Self
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

from broker.errors import BadInputError
from broker.reference import AthleteRef
from processors.age_class import AGE_CLASSES

Period = Literal["all", "week", "today"]
Sex = Literal["f", "m", "x"]
Span = tuple[int, int]  # UTC microseconds, the end is exclusive

ALWAYS: Final[Span] = (-(1 << 62), 1 << 62)
_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)
_DAYS: Final[dict[str, int]] = {"all": 0, "week": 7, "today": 1}
_YEARS: Final = (1971, 2199)  # of a day asked for: clear of the ends of the calendar


@dataclass(frozen=True, slots=True)
class View:
    """A choice of rows. `day`: a local day of the week, or the day itself; none when `period` is "all". `zone`: IANA name of the place.

    BadInputError for a sex, class, period, day or zone that does not exist.
    """

    sex: Sex | None = None
    age_class: str | None = None
    period: Period = "all"
    day: date | None = None
    zone: str = "UTC"
    window_us: Span = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        _check("sex", self.sex, (None, "f", "m", "x"))
        _check("age class", self.age_class, (None, *AGE_CLASSES))
        _check("period", self.period, tuple(_DAYS))
        zone_named(self.zone)
        if (self.day is None) != (self.period == "all"):
            raise BadInputError(f"day {self.day} with period {self.period!r}", cure="give a day with week or today, and none with all")
        if self.day is not None:
            _check("year", self.day.year, range(_YEARS[0], _YEARS[1] + 1))
        if self.period == "week":
            object.__setattr__(self, "day", _monday(self.day))
        if self.period == "all" and self.age_class is None:
            object.__setattr__(self, "zone", "UTC")
        object.__setattr__(self, "window_us", _window_us(self.day, _DAYS[self.period], self.zone))

    @classmethod
    def at(cls, now_us: int, zone: str, *, sex: Sex | None = None, age_class: str | None = None, period: Period = "all") -> Self:
        """The view as of an instant: "today" is the local day of it, "week" the ISO week (Monday first) around that day."""
        return cls(sex, age_class, period, None if period == "all" else local_day(now_us, zone), zone)

    def span_us(self, athlete: AthleteRef | None) -> Span | None:
        """When an effort of that athlete has to start to stand here; None: never. An unknown or removed athlete has no sex and no age."""
        if self.sex is None and self.age_class is None:
            return self.window_us
        if athlete is None or athlete.removed or (self.sex is not None and athlete.sex != self.sex):
            return None
        if self.age_class is None:
            return self.window_us
        if athlete.birth_year is None:
            return None
        of_age = _of_age_us(athlete.birth_year, self.age_class, self.zone)
        first, end = max(of_age[0], self.window_us[0]), min(of_age[1], self.window_us[1])
        return (first, end) if first < end else None


def local_day(now_us: int, zone: str) -> date:
    """The calendar day at an instant (UTC microseconds) in a zone."""
    return (_EPOCH + timedelta(microseconds=now_us)).astimezone(zone_named(zone)).date()


@lru_cache(maxsize=256)
def zone_named(name: str) -> ZoneInfo:
    """The rules of a time zone by its IANA name; BadInputError when this machine does not know it."""
    try:
        return ZoneInfo(name)
    except (ZoneInfoNotFoundError, ValueError, OSError) as error:
        raise BadInputError(f"time zone {name!r} is not known here", cure="use an IANA name such as Europe/Berlin") from error


def _monday(day: date | None) -> date:
    assert day is not None
    return day - timedelta(days=day.weekday())


@lru_cache(maxsize=4096)
def _midnight_us(day: date, zone: str) -> int:
    """When a local day begins. Where summer time skips midnight, the instant of the change."""
    begins = datetime(day.year, day.month, day.day, tzinfo=zone_named(zone))
    return (begins - _EPOCH) // timedelta(microseconds=1)


def _window_us(first: date | None, days: int, zone: str) -> Span:
    if first is None:
        return ALWAYS
    return _midnight_us(first, zone), _midnight_us(first + timedelta(days=days), zone)


@lru_cache(maxsize=4096)
def _of_age_us(birth_year: int, of_class: str, zone: str) -> Span:
    """The years in which somebody is of a class, as local calendar years."""
    youngest, oldest = AGE_CLASSES[of_class]
    first = ALWAYS[0] if youngest is None else _midnight_us(date(birth_year + youngest, 1, 1), zone)
    end = ALWAYS[1] if oldest is None else _midnight_us(date(birth_year + oldest + 1, 1, 1), zone)
    return first, end


def _check(what: str, value: object, known: tuple[object, ...] | range) -> None:
    if value not in known:
        span = f"{known[0]}-{known[-1]}" if isinstance(known, range) else ", ".join(str(k) for k in known if k is not None)
        raise BadInputError(f"no {what} {value!r}", cure=f"use one of {span}")
