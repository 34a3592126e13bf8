"""Positions as whole 1e-7 degrees, lines through them, and the local plane they are measured in.

A plane is flat earth around its origin: metres east and north on the mean sphere, with the cosine of one latitude. At 50 degrees of
latitude distances are right to 2 % within 100 km and to 0.1 % within 5 km; lengths of lines take the cosine leg by leg. Only + - * / and
sqrt on floats, and a cosine rounded to 1e-9, so that every machine gets the same bits. Longitudes are taken around the date line.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Final

from device_profiles.files.polyline import decode_polyline, encode_polyline

__all__ = [
    "METRE_PER_UNIT",
    "Plane",
    "bearing_deg",
    "cumulative_m",
    "decode_polyline",
    "distance_m",
    "encode_polyline",
    "length_m",
    "plane_at",
    "simplified",
    "units",
]

Position = tuple[int, int]  # latitude and longitude in 1e-7 degrees

EARTH_RADIUS_M: Final = 6_371_008.8  # mean radius (IUGG)
METRE_PER_UNIT: Final = EARTH_RADIUS_M * math.pi / 180.0 * 1e-7  # of latitude
_HALF_TURN: Final = 1_800_000_000
_STAYS: Final = 512
_TURN: Final = 3_600_000_000


@dataclass(frozen=True, slots=True)
class Plane:
    """Flat earth around `(lat, lon)` in 1e-7 degrees. `east_m` is metres per unit of longitude."""

    lat: int
    lon: int
    east_m: float

    def metres(self, lat: int, lon: int) -> tuple[float, float]:
        """Metres east and north of the origin."""
        return _wrapped(lon - self.lon) * self.east_m, (lat - self.lat) * METRE_PER_UNIT

    def position(self, east_m: float, north_m: float) -> Position:
        """The position at so many metres east and north, to the nearest unit."""
        return self.lat + round(north_m / METRE_PER_UNIT), _wrapped(self.lon + round(east_m / self.east_m))


def plane_at(lat: int, lon: int, cosine_lat: int | None = None) -> Plane:
    """The plane around a position; `cosine_lat` is the latitude whose cosine counts, when it is another."""
    return Plane(lat, lon, METRE_PER_UNIT * _cosine(lat if cosine_lat is None else cosine_lat))


def units(lat_deg: float, lon_deg: float) -> Position:
    """A position in degrees to the nearest 1e-7 degrees."""
    return round(lat_deg * 1e7), round(lon_deg * 1e7)


def distance_m(a: Position, b: Position) -> float:
    """Flat-earth distance at the mean latitude: right to 1e-5 up to 10 km off the poles."""
    east = _wrapped(b[1] - a[1]) * METRE_PER_UNIT * _cosine((a[0] + b[0]) // 2)
    north = (b[0] - a[0]) * METRE_PER_UNIT
    return math.sqrt(east * east + north * north)


def bearing_deg(a: Position, b: Position) -> float:
    """Direction from `a` to `b`, 0 <= degrees < 360 clockwise from north, for points close together. For screens, not for state."""
    east = _wrapped(b[1] - a[1]) * _cosine((a[0] + b[0]) // 2)
    return math.degrees(math.atan2(east, b[0] - a[0])) % 360.0


def cumulative_m(points: Sequence[Position]) -> list[float]:
    """Metres from the first point to each, along the line."""
    out = [0.0] if points else []
    for a, b in pairwise(points):
        out.append(out[-1] + distance_m(a, b))
    return out


def length_m(points: Sequence[Position]) -> float:
    """Metres of the whole line."""
    return cumulative_m(points)[-1] if points else 0.0


def simplified(points: Sequence[Position], tolerance_m: float) -> list[Position]:
    """The line with no more points than it takes to stay within `tolerance_m` of every one given (Douglas and Peucker, 1973).

    The first and last point stay, and every 512th, so that no line however wound takes longer than 512 looks a point.
    """
    if len(points) < 3:
        return list(points)
    plane = plane_at(*points[len(points) // 2])
    line = [plane.metres(*point) for point in points]
    kept = bytearray(len(points))
    stays = [*range(0, len(points) - 1, _STAYS), len(points) - 1]
    for k in stays:
        kept[k] = 1
    spans = list(pairwise(stays))
    while spans:
        first, last = spans.pop()
        worst, at = tolerance_m * tolerance_m, 0
        for k in range(first + 1, last):
            off = _off_leg_m2(line[k], line[first], line[last])
            if off > worst:
                worst, at = off, k
        if at:
            kept[at] = 1
            spans += [(first, at), (at, last)]
    return [point for point, keep in zip(points, kept, strict=True) if keep]


def _off_leg_m2(point: tuple[float, float], a: tuple[float, float], b: tuple[float, float]) -> float:
    """Square of the distance of a point from the leg between two others."""
    east, north = b[0] - a[0], b[1] - a[1]
    x, y = point[0] - a[0], point[1] - a[1]
    square = east * east + north * north
    if square > 0.0:
        share = min(max((x * east + y * north) / square, 0.0), 1.0)
        x -= share * east
        y -= share * north
    return x * x + y * y


def _wrapped(lon: int) -> int:
    """A longitude or difference of two within half a turn."""
    return (lon + _HALF_TURN) % _TURN - _HALF_TURN if not -_HALF_TURN <= lon <= _HALF_TURN else lon


def _cosine(lat: int) -> float:
    """Rounded, so that two maths libraries that differ in the last bit agree."""
    return round(math.cos(math.radians(lat * 1e-7)) * 1e9) / 1e9
