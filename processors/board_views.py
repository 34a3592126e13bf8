"""Views of a segment board: who (sex, age and weight class, club, followed by somebody) and when (ever, a local year, month, week, day).

A view is a value and a key: two that mean the same are equal (a week is known by its Monday; the zone is dropped where it changes nothing).
It turns an athlete into one span of time: the best effort that starts in it is the athlete's row. An athlete without a stated sex or year
of birth, weight or club is on no view that asks for it.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import UTC, date, datetime, timedelta
from functools import lru_cache
from typing import Final, Literal, Self
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

from broker.errors import BadInputError
from broker.ids import is_id
from broker.reference import AthleteRef
from processors.age_class import AGE_CLASSES
from processors.weight_class import WEIGHT_CLASSES, weight_class

Period = Literal["all", "year", "month", "week", "today"]
Sex = Literal["f", "m", "x"]
Span = tuple[int, int]  # UTC microseconds, the end is exclusive

ALWAYS: Final[Span] = (-(1 << 62), 1 << 62)
_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)
_PERIODS: Final[tuple[Period, ...]] = ("all", "year", "month", "week", "today")
_YEARS: Final = (1971, 2199)  # of a day asked for: clear of the ends of the calendar


@dataclass(frozen=True, slots=True)
class View:
    """A choice of rows. `day`: a local day of the period; none when that is "all". `zone`: IANA name of the place. `following`: a subject,
    who stands there with those he or she follows.

    BadInputError for a sex, class, club, period, day or zone that does not exist.
    """

    sex: Sex | None = None
    age_class: str | None = None
    period: Period = "all"
    day: date | None = None
    zone: str = "UTC"
    weight_class: str | None = None
    club: str | None = None
    following: str | None = None
    window_us: Span = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        _check("sex", self.sex, (None, "f", "m", "x"))
        _check("age class", self.age_class, (None, *AGE_CLASSES))
        _check("weight class", self.weight_class, (None, *WEIGHT_CLASSES))
        if self.club is not None and not is_id(self.club):
            raise BadInputError(f"no club {self.club!r}", cure="give the id of one: 1-32 of a-z 0-9 . _ -")
        _check("period", self.period, _PERIODS)
        zone_named(self.zone)
        if (self.day is None) != (self.period == "all"):
            raise BadInputError(f"day {self.day} with period {self.period!r}", cure="give a day with a period, and none with all")
        if self.day is not None:
            _check("year", self.day.year, range(_YEARS[0], _YEARS[1] + 1))
            object.__setattr__(self, "day", _first_day(self.day, self.period))
        if self.period == "all" and self.age_class is None:
            object.__setattr__(self, "zone", "UTC")
        object.__setattr__(self, "window_us", _window_us(self.day, self.period, self.zone))

    @classmethod
    def at(
        cls,
        now_us: int,
        zone: str,
        *,
        sex: Sex | None = None,
        age_class: str | None = None,
        period: Period = "all",
        weight_class: str | None = None,
        club: str | None = None,
        following: str | None = None,
    ) -> Self:
        """The view as of an instant: "today" is the local day of it, "week" the ISO week (Monday first) around that day."""
        day = None if period == "all" else local_day(now_us, zone)
        return cls(sex, age_class, period, day, zone, weight_class, club, following)

    def span_us(self, athlete: AthleteRef | None) -> Span | None:
        """When an effort of that athlete has to start to stand here; None: never. An unknown or removed athlete has no sex and no age."""
        if self.sex is None and self.age_class is None and self.weight_class is None and self.club is None:
            return self.window_us
        if athlete is None or athlete.removed or not self._is_one(athlete):
            return None
        return self.span_of_year_us(athlete.birth_year)

    def span_of_year_us(self, birth_year: int | None) -> Span | None:
        """When an effort of somebody of that year of birth has to start to be of the age and time asked for; None: never."""
        if self.age_class is None:
            return self.window_us
        if birth_year is None:
            return None
        of_age = _of_age_us(birth_year, self.age_class, self.zone)
        first, end = max(of_age[0], self.window_us[0]), min(of_age[1], self.window_us[1])
        return (first, end) if first < end else None

    def _is_one(self, athlete: AthleteRef) -> bool:
        """Whether an athlete is of the sex, weight and club asked for."""
        if self.weight_class is not None and (athlete.weight_kg is None or weight_class(athlete.weight_kg) != self.weight_class):
            return False
        return (self.sex is None or athlete.sex == self.sex) and (self.club is None or self.club in athlete.clubs)


def followed(follower: AthleteRef | None, other: AthleteRef | None, subject: str, other_subject: str) -> bool:
    """Whether `subject` sees `other_subject` among those he or she follows: oneself, and who is followed and neither blocks the other."""
    if subject == other_subject:
        return True
    if follower is None or follower.removed:
        return False
    mine, theirs = subject.partition("/")[2], other_subject.partition("/")[2]
    if theirs not in follower.follows or theirs in follower.blocks:
        return False
    return other is None or mine not in other.blocks


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


def _first_day(day: date, period: Period) -> date:
    """The first day of the period around a day."""
    if period == "week":
        return day - timedelta(days=day.weekday())
    return day.replace(month=1, day=1) if period == "year" else day.replace(day=1) if period == "month" else day


def _next_first_day(first: date, period: Period) -> date:
    """The first day of the period behind one that begins on `first`."""
    if period == "year":
        return date(first.year + 1, 1, 1)
    if period == "month":
        return date(first.year + first.month // 12, first.month % 12 + 1, 1)
    return first + timedelta(days=7 if period == "week" else 1)


@lru_cache(maxsize=4096)
def _midnight_us(day: date, zone: str) -> int:
    """When a local day begins. Where summer time skips midnight, the instant of the change."""
    begins = datetime(day.year, day.month, day.day, tzinfo=zone_named(zone))
    return (begins - _EPOCH) // timedelta(microseconds=1)


def _window_us(first: date | None, period: Period, zone: str) -> Span:
    if first is None:
        return ALWAYS
    return _midnight_us(first, zone), _midnight_us(_next_first_day(first, period), zone)


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
