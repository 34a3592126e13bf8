"""Courses: where an athlete is after so many metres. Pure, but for `course_from_file`.

A closed course is ridden round and round; an open one there and back. Altitude is linear between points, so the gradient is that of
the segment. Refuses fewer than two distinct points and coordinates outside the globe.
"""

from __future__ import annotations

import math
from bisect import bisect_right
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Final

from broker.errors import BadInputError

EARTH_RADIUS_M: Final = 6_371_008.8  # mean radius (IUGG)
_SPACING_M: Final = 10.0
_SMOOTH_POINTS: Final = 5


@dataclass(frozen=True, slots=True)
class Place:
    """A point of a course. `gradient` is rise over run in the direction of travel, `heading_deg` clockwise from north."""

    lat_deg: float
    lon_deg: float
    altitude_m: float
    gradient: float
    heading_deg: float


@dataclass(frozen=True, slots=True)
class Course:
    """Points with their distance from the start; a closed course ends on its first point. Build with the functions below."""

    name: str
    closed: bool
    lats_deg: tuple[float, ...]
    lons_deg: tuple[float, ...]
    altitudes_m: tuple[float, ...]
    distances_m: tuple[float, ...]

    @property
    def length_m(self) -> float:
        """Metres of one lap, or one way of an open course."""
        return self.distances_m[-1]

    def at(self, distance_m: float) -> Place:
        """The place after `distance_m` (>= 0) of travel."""
        along, back = self._along(distance_m)
        i = min(bisect_right(self.distances_m, along), len(self.distances_m) - 1)
        start, run = self.distances_m[i - 1], self.distances_m[i] - self.distances_m[i - 1]
        part = (along - start) / run
        rise = self.altitudes_m[i] - self.altitudes_m[i - 1]
        lat, lon = self.lats_deg[i - 1], self.lons_deg[i - 1]
        heading = heading_deg(lat, lon, self.lats_deg[i], self.lons_deg[i])
        return Place(
            lat + part * (self.lats_deg[i] - lat),
            lon + part * (self.lons_deg[i] - lon),
            self.altitudes_m[i - 1] + part * rise,
            -rise / run if back else rise / run,
            (heading + 180.0) % 360.0 if back else heading,
        )

    def laps(self, distance_m: float) -> int:
        """Whole laps (closed) or whole ways (open) done."""
        return int(distance_m // self.length_m)

    def _along(self, distance_m: float) -> tuple[float, bool]:
        if distance_m < 0:
            raise ValueError(f"distance {distance_m} m is negative")
        if self.closed:
            return distance_m % self.length_m, False
        way = distance_m % (2.0 * self.length_m)
        return (2.0 * self.length_m - way, True) if way > self.length_m else (way, False)


def distance_between_m(lat1_deg: float, lon1_deg: float, lat2_deg: float, lon2_deg: float) -> float:
    """Great-circle distance (haversine)."""
    a, b = math.radians(lat1_deg), math.radians(lat2_deg)
    h = math.sin((b - a) / 2) ** 2 + math.cos(a) * math.cos(b) * math.sin(math.radians(lon2_deg - lon1_deg) / 2) ** 2
    return 2.0 * EARTH_RADIUS_M * math.asin(math.sqrt(min(1.0, h)))


def heading_deg(lat1_deg: float, lon1_deg: float, lat2_deg: float, lon2_deg: float) -> float:
    """Initial heading from the first to the second point, 0 <= heading < 360, for points close together."""
    east = (lon2_deg - lon1_deg) * math.cos(math.radians(lat1_deg))
    return math.degrees(math.atan2(east, lat2_deg - lat1_deg)) % 360.0


def moved(lat_deg: float, lon_deg: float, east_m: float, north_m: float) -> tuple[float, float]:
    """Latitude and longitude of the point so many metres away (flat earth: for short ways off the poles)."""
    degree_m = math.pi * EARTH_RADIUS_M / 180.0
    return lat_deg + north_m / degree_m, lon_deg + east_m / (degree_m * math.cos(math.radians(lat_deg)))


def course_of(points: Iterable[tuple[float, float, float | None]], *, closed: bool, name: str = "points") -> Course:
    """A course through `(lat, lon, altitude or None)`; a missing altitude is that of the point before (0 at first).

    Points closer than a centimetre to the one before are dropped.
    """
    lats: list[float] = []
    lons: list[float] = []
    altitudes: list[float] = []
    for lat, lon, altitude in points:
        if not (-90 <= lat <= 90 and -180 <= lon <= 180):
            raise BadInputError(
                f"course {name}: point {lat}, {lon} is not on the globe", cure="give degrees: latitude first, then longitude"
            )
        if lats and distance_between_m(lats[-1], lons[-1], lat, lon) < 0.01:
            continue
        lats.append(lat)
        lons.append(lon)
        altitudes.append(altitude if altitude is not None else altitudes[-1] if altitudes else 0.0)
    if closed and len(lats) > 1 and distance_between_m(lats[-1], lons[-1], lats[0], lons[0]) >= 0.01:
        lats, lons, altitudes = [*lats, lats[0]], [*lons, lons[0]], [*altitudes, altitudes[0]]
    if len(lats) < 2:
        raise BadInputError(f"course {name}: needs two distinct points, has {len(lats)}", cure="give a track that moves")
    distances = [0.0]
    for (lat1, lon1), (lat2, lon2) in pairwise(zip(lats, lons, strict=True)):
        distances.append(distances[-1] + distance_between_m(lat1, lon1, lat2, lon2))
    return Course(name, closed, tuple(lats), tuple(lons), tuple(altitudes), tuple(distances))


def course_from_recording(points: Sequence[tuple[float, float, float | None]], *, name: str) -> Course:
    """A course from the points of a recorded activity: every 10 m one point, altitude smoothed over 50 m.

    Closed when the recording ends within 50 m of its start and is longer than 500 m.
    """
    raw = course_of(points, closed=False, name=name)
    count = max(2, int(raw.length_m // _SPACING_M) + 1)
    places = [raw.at(min(raw.length_m, k * raw.length_m / (count - 1))) for k in range(count)]
    closed = raw.length_m > 500 and distance_between_m(places[0].lat_deg, places[0].lon_deg, places[-1].lat_deg, places[-1].lon_deg) < 50
    half = _SMOOTH_POINTS // 2
    smooth = [
        sum(p.altitude_m for p in places[max(0, k - half) : k + half + 1]) / len(places[max(0, k - half) : k + half + 1])
        for k in range(count)
    ]
    return course_of(((p.lat_deg, p.lon_deg, a) for p, a in zip(places, smooth, strict=True)), closed=closed, name=name)


def course_from_file(path: Path) -> Course:
    """The course of a recorded FIT, GPX or TCX file.

    BadInputError when it has no positions, `device_profiles.errors.FileError` when it cannot be read or is no recording.
    """
    from device_profiles.files import read_recording

    recorded = read_recording(path).points
    points = [(p.lat, p.lon, p.altitude_m) for p in recorded if p.lat is not None and p.lon is not None]
    return course_from_recording(points, name=path.name)


def synthetic_loop(length_m: float = 2400.0, climb_m: float = 40.0) -> Course:
    """The built-in closed course: a bean-shaped loop with one climb and its descent, in the middle of the North Atlantic, where
    nobody lives."""
    corners = 240
    turns = [2.0 * math.pi * k / corners for k in range(corners)]
    shape = [
        ((1.0 + 0.25 * math.cos(2 * a) + 0.08 * math.sin(3 * a)) * math.cos(a), (0.7 + 0.15 * math.sin(2 * a)) * math.sin(a)) for a in turns
    ]
    around = sum(math.dist(a, b) for a, b in pairwise([*shape, shape[0]]))
    scale = length_m / around

    def altitude(part: float) -> float:
        """Up from 30 % to 62 % of the lap, down to 95 %; smooth at both ends."""
        if 0.30 <= part < 0.62:
            return 120.0 + climb_m * 0.5 * (1.0 - math.cos(math.pi * (part - 0.30) / 0.32))
        if 0.62 <= part < 0.95:
            return 120.0 + climb_m * 0.5 * (1.0 + math.cos(math.pi * (part - 0.62) / 0.33))
        return 120.0

    points = ((*moved(45.0, -30.0, x * scale, y * scale), altitude(k / corners)) for k, (x, y) in enumerate(shape))
    return course_of(points, closed=True, name="synthetic loop")
