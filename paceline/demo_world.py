"""What the site of the demo knows before anything moves: segments on the loop, and who its athletes are. Pure.

Three short segments lie where the members start, so that riders and runners cross them within seconds; the climb and the way back
down are for those who stay. Everybody has a name but the straps that nobody owns; some show a nickname on screens, some nothing.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final

from broker.reference import AthleteRef, Reference, SegmentRef
from processors.segment_rules import segment_ref
from simulators.athlete import Athlete
from simulators.course import Course

SPREAD_M: Final = 100.0  # members start on the first so many metres
SHORT_M: Final = 52.0
_STEP_M: Final = 5.0
_SEGMENTS: Final = (  # name, metres from the start of the loop, length
    ("Lighthouse straight", 40.0, SHORT_M),
    ("Harbour dash", 66.0, SHORT_M),
    ("Pier sprint", 92.0, SHORT_M),
    ("Gannet climb", 720.0, 768.0),
    ("Back to the harbour", 1500.0, 760.0),
)
_FEMALE: Final = (
    "Ada", "Bea", "Chloe", "Dora", "Edda", "Fenja", "Greta", "Hanna", "Ines", "Jule", "Kim", "Lotte", "Mara", "Nele", "Olga", "Pia", "Rosa",
    "Senta", "Tilda", "Vera",
)  # fmt: skip
_MALE: Final = (
    "Anton", "Ben", "Carl", "Dean", "Emil", "Finn", "Gero", "Hugo", "Ivan", "Jon", "Karim", "Leo", "Milan", "Noah", "Otis", "Paul", "Ravi",
    "Sam", "Theo", "Veit",
)  # fmt: skip
_LAST: Final = (
    "Abel", "Brandt", "Costa", "Dietz", "Engel", "Falk", "Grimm", "Haas", "Ilic", "Jansen", "Keller", "Lang", "Moser", "Novak", "Otto",
    "Pohl", "Quast", "Ritter", "Sauer", "Thoma", "Urban", "Vogt", "Wolff", "Xu", "Yilmaz", "Ziegler", "Arndt",
)  # fmt: skip
_NICKNAMES: Final = ("Rocket", "Diesel", "Gecko", "Turbo", "Pixel", "Falcon", "Noodle", "Comet", "Badger")


def demo_references(tenant: str, course: Course, members: Iterable[Athlete], rider: Athlete) -> list[Reference]:
    """The segments of the loop, and an athlete for every member and for the rider of the replayed file."""
    people = [person(tenant, index, body) for index, body in enumerate(members)]
    people.append(AthleteRef(tenant=tenant, id=rider.name, name="Robin Vale", sex="x", birth_year=1988, hr_max_bpm=round(rider.max_bpm)))
    return [*demo_segments(tenant, course), *people]


def demo_segments(tenant: str, course: Course) -> list[SegmentRef]:
    """The segments, on any closed course of about 2.4 km; those that would go over its end are left out."""
    return [
        segment_ref(tenant, name.lower().replace(" ", "-"), name, "any", _line(course, start_m, length_m))
        for name, start_m, length_m in _SEGMENTS
        if start_m + length_m < course.length_m
    ]


def _line(course: Course, start_m: float, length_m: float) -> list[tuple[float, float]]:
    steps = max(2, round(length_m / _STEP_M))
    places = [course.at(start_m + length_m * k / steps) for k in range(steps + 1)]
    return [(place.lat_deg, place.lon_deg) for place in places]


def person(tenant: str, index: int, body: Athlete) -> AthleteRef:
    """A made-up person for a body: the `index`-th of the list."""
    male = (index + index // 4) % 2
    names = (_FEMALE, _MALE)[male]
    name = f"{names[index // 2 % len(names)]} {_LAST[index * 11 % len(_LAST)]}"
    nickname = f"{_NICKNAMES[index // 5 % len(_NICKNAMES)]} {index + 1}" if index % 5 == 3 else ""
    return AthleteRef(
        tenant=tenant,
        id=body.name,
        name=name,
        show="nickname" if nickname else "no" if index % 12 == 9 else "yes",
        nickname=nickname,
        sex="x" if index % 17 == 16 else ("f", "m")[male],
        birth_year=1958 + (index * 13) % 49,
        hr_max_bpm=round(body.max_bpm),
    )
