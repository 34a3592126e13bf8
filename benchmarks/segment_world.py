"""A world of segments whose truth is known: neighbourhoods around generated tracks, and copies of them all over the globe.

A neighbourhood is a track of the accuracy generator with stretches of its own way as segments, and decoys: a tenth of them the other way
round, a twentieth a parallel road 45 to 70 m aside, a twentieth a road that leaves after 60 % of the way. All in metres; a place on the
globe makes positions of them.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np

from benchmarks.accuracy.ours import Ours
from benchmarks.accuracy.tracks import Array, Recording, Truth, recording_of, truth_of
from broker.errors import BadInputError
from processors.geometry import METRE_PER_UNIT, plane_at
from processors.matcher import I64, NO_SPEED, Fixes
from processors.segment_rules import segment_ref
from processors.segment_table import Lines

SEGMENTS: Final = 80  # of a neighbourhood
DECOY_M: Final = 44.0  # a decoy is this far from the way, on a part of it
STEP_M: Final = 5.0  # between the points a segment is given by, before an import thins them
T0_US: Final = 1_760_000_000_000_000
_HOME: Final = plane_at(460_000_000, 70_000_000)
_ROWS: Final = 170  # of places, half a degree apart, from 42.5 degrees south
_COLUMNS: Final = 98


@dataclass(frozen=True, slots=True)
class Stretch:
    """A segment in metres, whether the track really goes along it, and when by truth (s)."""

    east_m: Array
    north_m: Array
    true: bool
    start_s: float
    end_s: float


@dataclass(frozen=True, slots=True)
class Neighbourhood:
    """A track, what a watch recorded of it, and the segments around it."""

    sport: str
    where: str
    truth: Truth
    seen: Recording
    stretches: list[Stretch]


def neighbourhood(seed: int, sport: str, where: str, minutes: float = 45.0) -> Neighbourhood:
    """The track of a seed as the accuracy bench makes it, and segments drawn with another seed."""
    rng = np.random.default_rng(seed)
    truth = truth_of(rng, sport, minutes * 60.0)
    seen = recording_of(rng, truth, where)
    drawn = np.random.default_rng(seed + 1_000_000)
    stretches: list[Stretch] = []
    while len(stretches) < SEGMENTS:
        made = _stretch(drawn, truth, seen, len(stretches))
        if made is not None:
            stretches.append(made)
    return Neighbourhood(sport, where, truth, seen, stretches)


def _stretch(rng: np.random.Generator, truth: Truth, seen: Recording, number: int) -> Stretch | None:
    """A stretch of 0.25 to 3 km or a decoy of it; None when its line may not be a segment."""
    first, last = (float(m) for m in np.interp(seen.t_s[[5, -8]], truth.t_s, truth.way_m))
    length = rng.uniform(250.0, min(3_000.0, (last - first) / 3.0))
    start = rng.uniform(first, last - length)
    way = np.append(np.arange(start, start + length, STEP_M), start + length)
    east, north = (np.interp(way, truth.way_m, column) for column in (truth.east_m, truth.north_m))
    kind = number % 20
    if kind in {3, 13}:
        east, north = east[::-1], north[::-1]
    elif kind == 7:
        east, north = _aside(east, north, rng.uniform(45.0, 70.0) * rng.choice([-1.0, 1.0]))
    elif kind == 17:
        east, north = _leaving(east, north, way - start, 0.6 * length, rng.choice([-1.0, 1.0]))
    if kind in {7, 17} and _ridden(east, north, way, truth):
        return None
    line = _as_imported(east, north)
    if line is None:
        return None
    times = [float(truth.t_s[np.searchsorted(truth.way_m, m)]) for m in (start, start + length)]
    return Stretch(*line, kind not in {3, 7, 13, 17}, *times)


def _aside(east: Array, north: Array, by_m: float) -> tuple[Array, Array]:
    """A road beside the way: each place shifted along the normal there."""
    dx, dy = np.gradient(east), np.gradient(north)
    size = np.maximum(np.hypot(dx, dy), 1e-9)
    return east - by_m * dy / size, north + by_m * dx / size


def _ridden(east: Array, north: Array, way: Array, truth: Truth) -> bool:
    """Whether the track goes along a decoy all the same: less than a tenth of it is further than DECOY_M from the way there."""
    near = slice(*np.searchsorted(truth.way_m, [way[0] - 300.0, way[-1] + 300.0]))
    x, y = truth.east_m[near][::20], truth.north_m[near][::20]
    off = np.array([np.hypot(x - a, y - b).min() for a, b in zip(east[::4], north[::4], strict=True)])
    return bool(np.mean(off > DECOY_M) < 0.1)


def _leaving(east: Array, north: Array, along: Array, at_m: float, side: float) -> tuple[Array, Array]:
    """Straight on, 60 degrees to a side, from `at_m`."""
    k = int(np.searchsorted(along, at_m))
    heading = math.atan2(north[k] - north[k - 4], east[k] - east[k - 4]) + side * 1.05
    rest = along[k:] - along[k]
    return (
        np.concatenate([east[:k], east[k] + rest * math.cos(heading)]),
        np.concatenate([north[:k], north[k] + rest * math.sin(heading)]),
    )


def _as_imported(east: Array, north: Array) -> tuple[Array, Array] | None:
    """The points that an import keeps of a line."""
    places = [_HOME.position(float(x), float(y)) for x, y in zip(east, north, strict=True)]
    try:
        ref = segment_ref("world", "s", "s", "any", [(lat * 1e-7, lon * 1e-7) for lat, lon in places])
    except BadInputError:  # a way that touches its own start again
        return None
    points = [_HOME.metres(*point) for point in ref.points]
    return np.array([x for x, _ in points]), np.array([y for _, y in points])


def origin(place: int) -> tuple[int, int]:
    """Latitude and longitude of a place: no two nearer than 50 km."""
    row, column = divmod(place, _COLUMNS)
    if row >= _ROWS:
        raise ValueError(f"place {place}: there are {_ROWS * _COLUMNS}")
    return -425_000_000 + row * 5_000_000, -1_780_000_000 + column * 36_000_000


def positions(place: int, east_m: Array, north_m: Array) -> tuple[I64, I64]:
    """Metres around a place to 1e-7 degrees."""
    lat, lon = origin(place)
    plane = plane_at(lat, lon)
    return lat + np.rint(north_m / METRE_PER_UNIT).astype(np.int64), lon + np.rint(east_m / plane.east_m).astype(np.int64)


def world(neighbourhoods: Sequence[Neighbourhood], segments: int) -> Lines:
    """So many segments: place k is a copy of neighbourhood k modulo their number; ids are the place and the number in it."""
    places = segments // SEGMENTS
    east = [np.concatenate([s.east_m for s in n.stretches]) for n in neighbourhoods]
    north = [np.concatenate([s.north_m for s in n.stretches]) for n in neighbourhoods]
    sizes = [np.array([len(s.east_m) for s in n.stretches]) for n in neighbourhoods]
    m = len(neighbourhoods)
    laid = [positions(place, east[place % m], north[place % m]) for place in range(places)]
    offsets = np.concatenate([[0], np.cumsum(np.concatenate([sizes[place % m] for place in range(places)]))])
    ids = np.array([name(place, k) for place in range(places) for k in range(SEGMENTS)], np.bytes_)
    lat = np.concatenate([lat for lat, _ in laid]).astype(np.int32)
    lon = np.concatenate([lon for _, lon in laid]).astype(np.int32)
    return Lines(ids, np.ones(len(ids), np.int64), offsets.astype(np.int64), lat, lon)


def name(place: int, number: int) -> str:
    """The id of a segment."""
    return f"{place:05}{number:02}"


def fixes_at(place: int, of: Neighbourhood, *, filtered: bool = True) -> Fixes:
    """The track at a place, as the live filter sees it or as it was recorded."""
    seen = of.seen
    t_us = T0_US + np.rint(seen.t_s * 1e6).astype(np.int64)
    accuracy = np.rint(seen.accuracy_m * 100.0).astype(np.int64)
    if not filtered:
        unknown = np.full(len(t_us), NO_SPEED)
        return Fixes(t_us, *positions(place, seen.east_m, seen.north_m), accuracy, unknown, unknown.copy())
    live = Ours(seen, of.sport, with_speed=True).live()
    speeds = [np.rint(v * 1e3).astype(np.int64) for v in (live.velocity_north_mps, live.velocity_east_mps)]
    return Fixes(t_us, *positions(place, live.east_m, live.north_m), accuracy, *speeds)
