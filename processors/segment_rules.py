"""What a segment may look like, and its reference from the points a user gives.

Refused, each with its reason and cure: coordinates that are no degrees (latitude and longitude swapped, projected metres, whole 1e6 or
1e7 units), jumps, shorter than 50 m or longer than 200 km, a line that passes its own start again before its end, nearer than 5 degrees to
a pole. Mended without a word: repeated points, and more points than a line within 1 m of them needs.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from itertools import pairwise
from typing import Final

from pydantic import ValidationError

from broker.errors import BadInputError
from broker.reference import SegmentRef, encode_reference
from processors.geometry import Position, cumulative_m, distance_m, simplified, units
from processors.segments import Segment

MIN_M: Final = 50.0
MAX_M: Final = 200_000.0
MAX_LEG_M: Final = 20_000.0
MAX_LAT: Final = 850_000_000
MAX_BYTES: Final = 60_000  # of the encoded reference: a log record holds 65,535
AGAIN_M: Final = 45.0  # a start passed again this close to the end is a loop that closes
_ASIDE_M: Final = 15.0
_END_M: Final = 30.0  # both ends keep all their points: they decide how the gates stand
_TOLERANCES_M: Final = (1.0, 2.0, 3.0, 5.0, 8.0)
_DEGREES: Final = "give WGS-84 degrees, latitude first: 48.137, 11.575"


def segment_ref(tenant: str, segment: str, name: str, sport: str, points: Sequence[tuple[float, float]]) -> SegmentRef:
    """The checked reference of a line of `(lat, lon)` degrees, with no more points than needed. BadInputError with reason and cure."""
    what = f"segment {name or segment!r}"
    _check_degrees(what, points)
    line = _without_repeats([units(lat_deg, lon_deg) for lat_deg, lon_deg in points])
    cure = "shorten it, or split it in two"
    for tolerance_m in _TOLERANCES_M:
        ref = _ref(what, tenant, segment, name, sport, _thinned(line, tolerance_m))
        if ref is not None:
            return check_segment(ref)
    raise BadInputError(f"{what}: {len(points)} points are more than a segment can hold, even within {_TOLERANCES_M[-1]:.0f} m", cure=cure)


def check_segment(ref: SegmentRef) -> SegmentRef:
    """The reference, when its line can be matched. BadInputError with reason and cure. A removed one needs no line."""
    if ref.removed:
        return ref
    what = f"segment {ref.name!r}"
    _check_degrees(what, [(lat * 1e-7, lon * 1e-7) for lat, lon in ref.points])
    points = _without_repeats(list(ref.points))
    along_m = cumulative_m(points)
    if not along_m or along_m[-1] < MIN_M:
        length = along_m[-1] if along_m else 0.0
        raise BadInputError(
            f"{what}: {length:.1f} m long, at least {MIN_M:.0f} m are needed: a position is only right to a few metres",
            cure="begin earlier or end later; an encoded polyline read with the wrong precision is ten times too short",
        )
    if along_m[-1] > MAX_M:
        raise BadInputError(f"{what}: {along_m[-1] / 1000:.0f} km long, at most {MAX_M / 1000:.0f} km are allowed", cure="split it")
    for k, (a, b) in enumerate(pairwise(points)):
        if distance_m(a, b) > MAX_LEG_M:
            raise BadInputError(
                f"{what}: from point {k + 1} to the next are {distance_m(a, b) / 1000:.0f} km",
                cure="remove the stray point, or add those between",
            )
    again_m = _start_again_m(Segment.of(ref))
    if again_m is not None:
        raise BadInputError(
            f"{what}: touches its own start again after {again_m:.0f} of {along_m[-1]:.0f} m, so it is not clear where an effort begins",
            cure=f"end it there (a loop may close), or begin it elsewhere; only its last {AGAIN_M:.0f} m may pass the start",
        )
    return ref


def _check_degrees(what: str, points: Sequence[tuple[float, float]]) -> None:
    """Refuse what cannot be degrees, and say what it looks like."""
    for k, (lat, lon) in enumerate(points):
        if not (math.isfinite(lat) and math.isfinite(lon)):
            raise BadInputError(f"{what}: point {k + 1} is not a number", cure=_DEGREES)
        if abs(lat) > 90 or abs(lon) > 180:
            raise BadInputError(f"{what}: point {k + 1} is {lat:.10g}, {lon:.10g}: {_looks_like(points)}", cure=_DEGREES)
        if abs(lat) * 1e7 > MAX_LAT:
            raise BadInputError(f"{what}: point {k + 1} is nearer than 5 degrees to a pole", cure="segments end at 85 degrees of latitude")
        if lat == 0 and lon == 0:
            raise BadInputError(
                f"{what}: point {k + 1} is 0, 0, which devices write when they have no position",
                cure="remove the points without a position",
            )


def _looks_like(points: Sequence[tuple[float, float]]) -> str:
    if all(abs(lat) <= 180 and abs(lon) <= 90 for lat, lon in points):
        return "latitude and longitude look swapped"
    if all(float(value).is_integer() and abs(value) > 1e5 for point in points for value in point):
        return "these look like whole 1e6 or 1e7 units, not degrees"
    if max(abs(value) for point in points for value in point) > 1_000:
        return "these look like metres of a projection, not degrees"
    return "not a place on the globe; an encoded polyline read with the wrong precision looks so"


def _without_repeats(points: list[Position]) -> list[Position]:
    return [point for k, point in enumerate(points) if not k or point != points[k - 1]]


def _thinned(line: list[Position], tolerance_m: float) -> list[Position]:
    """The line within so much of its points, those near both ends all kept."""
    along_m = cumulative_m(line)
    if not along_m:
        return []
    head = sum(1 for m in along_m if m <= _END_M)
    tail = sum(1 for m in along_m if m < along_m[-1] - _END_M)
    if head >= tail:
        return line
    return [*line[: head - 1], *simplified(line[head - 1 : tail + 1], tolerance_m), *line[tail + 1 :]]


def _ref(what: str, tenant: str, segment: str, name: str, sport: str, line: list[Position]) -> SegmentRef | None:
    """The reference, or None when it does not fit a log record."""
    try:
        ref = SegmentRef.model_validate({"tenant": tenant, "id": segment, "name": name, "sport": sport, "points": tuple(line)})
    except ValidationError as error:
        first = error.errors()[0]
        if first["type"] == "too_long" and first["loc"] == ("points",):
            return None
        field = ".".join(str(part) for part in first["loc"])
        raise BadInputError(f"{what}: {field}: {first['msg']}", cure="see docs/segments.md") from error
    return ref if len(encode_reference(ref)) <= MAX_BYTES else None


def _start_again_m(segment: Segment) -> float | None:
    """Where the line passes its own start gate again forwards, early enough to matter."""
    gate = segment.start
    ahead = [gate.ahead_m(x, y) for x, y in zip(segment.x_m, segment.y_m, strict=True)]
    for k, (left, right) in enumerate(pairwise(ahead)):
        if not (k and left < 0.0 <= right):
            continue
        share = -left / (right - left)
        x = segment.x_m[k] + share * (segment.x_m[k + 1] - segment.x_m[k])
        y = segment.y_m[k] + share * (segment.y_m[k + 1] - segment.y_m[k])
        at_m = segment.along_m[k] + share * (segment.along_m[k + 1] - segment.along_m[k])
        run_m = segment.along_m[k + 1] - segment.along_m[k]
        if abs(gate.aside_m(x, y)) <= _ASIDE_M and 2.0 * (right - left) >= run_m and at_m < segment.length_m - AGAIN_M:
            return at_m
    return None
