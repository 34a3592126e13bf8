"""Elapsed time from gate to gate: the crossing interpolated between two fixes, beside the nearest fix (as Strava states it).

A stretch of 0.25-3 km of the true way has a gate across it at either end; the same rule times ours and the raw fixes. Crossing: the
step that changes the side of the gate, within the half-width, along the way, nearest to the time truth was there; linear between its
ends, or a cubic by the velocities there (Hermite). And the whole of finishing: positions as the wire carries them, smoothed, found and
timed by the matcher itself at gates and half-widths of its own.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Final

import numpy as np

from benchmarks.accuracy.staged import accuracy_cm, placed
from benchmarks.accuracy.tracks import SURROUNDINGS, Array, Recording, Truth, recording_of, truth_of
from broker.errors import BadInputError
from processors.matcher import Fixes, match_track
from processors.segment_rules import segment_ref
from processors.segments import SegmentIndex
from processors.smoothing import smooth_positions

HALF_WIDTH_M: Final = 45.0
STRETCHES: Final = 24
LINE_STEP_M: Final = 8.0  # between points of a stretch as a segment
NEAR_US: Final = 60_000_000


@dataclass(frozen=True, slots=True)
class Gate:
    """A point of the way, its direction, and when truth crossed it."""

    east_m: float
    north_m: float
    along_east: float
    along_north: float
    t_s: float


def stretches(rng: np.random.Generator, seen: Recording, truth: Truth) -> list[tuple[Gate, Gate]]:
    """Stretches of the way within the recording, gates where the way is straight enough to have a direction."""
    found: list[tuple[Gate, Gate]] = []
    first, last = np.interp(seen.t_s[[5, -5]], truth.t_s, truth.way_m)
    for _ in range(STRETCHES):
        length = rng.uniform(250, min(3_000, (last - first) / 2))
        start = rng.uniform(first, last - length)
        found.append((_gate(truth, start), _gate(truth, start + length)))
    return found


def _gate(truth: Truth, way_m: float) -> Gate:
    (ea, eb), (na, nb) = (np.interp([way_m - 4, way_m + 4], truth.way_m, column) for column in (truth.east_m, truth.north_m))
    size = float(np.hypot(eb - ea, nb - na)) or 1.0
    t_s = float(truth.t_s[np.searchsorted(truth.way_m, way_m)])
    east, north = (float(np.interp(way_m, truth.way_m, column)) for column in (truth.east_m, truth.north_m))
    return Gate(east, north, float(eb - ea) / size, float(nb - na) / size, t_s)


def crossing_s(t_s: Array, east: Array, north: Array, gate: Gate, velocity: tuple[Array, Array] | None = None) -> float:
    """When fixes cross a gate; NaN when they do not. With the velocities at the fixes, by the cubic through both."""
    near = np.flatnonzero(np.abs(t_s - gate.t_s) < 60.0)
    if len(near) < 2:
        return float("nan")
    t, x, y = t_s[near], east[near] - gate.east_m, north[near] - gate.north_m
    ahead = x * gate.along_east + y * gate.along_north
    aside = np.abs(y * gate.along_east - x * gate.along_north)
    steps = np.flatnonzero((ahead[:-1] < 0) & (ahead[1:] >= 0) & (aside[:-1] <= HALF_WIDTH_M) & (aside[1:] <= HALF_WIDTH_M))
    if not len(steps):
        return float("nan")
    at = steps[int(np.argmin(np.abs(t[steps] - gate.t_s)))]
    share = -ahead[at] / (ahead[at + 1] - ahead[at])
    if velocity is not None:
        v, w = (column[near][at : at + 2] for column in velocity)
        share = _cubic_share(ahead[at : at + 2], (v * gate.along_east + w * gate.along_north) * (t[at + 1] - t[at]))
    return float(t[at] + share * (t[at + 1] - t[at]))


def nearest_s(t_s: Array, east: Array, north: Array, gate: Gate) -> float:
    """The stamp of the fix nearest to the gate's middle."""
    near = np.flatnonzero(np.abs(t_s - gate.t_s) < 60.0)
    if not len(near):
        return float("nan")
    return float(t_s[near[int(np.argmin(np.hypot(east[near] - gate.east_m, north[near] - gate.north_m)))]])


def _cubic_share(ahead: Array, slopes: Array) -> float:
    """Where the Hermite cubic of two values and slopes passes zero, by halves."""
    low, high = 0.0, 1.0
    for _ in range(30):
        u = (low + high) / 2
        v = 1 - u
        here = v * v * (1 + 2 * u) * ahead[0] + u * u * (3 - 2 * u) * ahead[1] + u * v * (v * slopes[0] - u * slopes[1])
        low, high = (u, high) if here < 0 else (low, u)
    return (low + high) / 2


def matched_s(seen: Recording, truth: Truth, sport: str, gates: list[tuple[Gate, Gate]]) -> list[float]:
    """Elapsed time of each stretch as finishing times it; NaN for one that is not found."""
    refs = []
    for k, (start, finish) in enumerate(gates):
        first, last = np.searchsorted(truth.t_s, [start.t_s, finish.t_s])
        way = np.arange(truth.way_m[first], truth.way_m[last], LINE_STEP_M)
        lat, lon = placed(*(np.interp(np.append(way, truth.way_m[last]), truth.way_m, of) for of in (truth.east_m, truth.north_m)))
        try:
            refs.append(segment_ref("bench", f"s{k}", f"s{k}", "any", list(zip((lat * 1e-7).tolist(), (lon * 1e-7).tolist(), strict=True))))
        except BadInputError:  # it passes its own start: no segment, as the import says
            continue
    index = SegmentIndex.build(refs)
    efforts = match_track(index, finished_fixes(seen, sport))
    found: list[float] = []
    for k, (start, _) in enumerate(gates):
        near = [e.elapsed_ms / 1000 for e in efforts if e.segment == f"s{k}" and abs(e.start_us - start.t_s * 1e6) < NEAR_US]
        found.append(near[0] if near else float("nan"))
    return found


def finished_fixes(seen: Recording, sport: str) -> Fixes:
    """A recording as the wire carries it (1e-7 degrees, accuracy in half metres, speed in cm/s), smoothed as finishing does."""
    t_us = np.rint(seen.t_s * 1e3).astype(np.int64) * 1000
    lat, lon = placed(seen.east_m, seen.north_m)
    accuracy = accuracy_cm(seen)
    made = smooth_positions(t_us, lat, lon, accuracy, np.rint(seen.speed_mps * 100).astype(np.int64), sport)
    return Fixes.of(t_us, made.lat, made.lon, accuracy, made.north_mmps, made.east_mmps)


def slow_error_alone(seed: int, sport: str, where: str, seconds: float) -> Recording:
    """The truth of a seed as seen by a receiver whose only error is the slow one: what is left when a filter removes all it can."""
    rng = np.random.default_rng(seed)
    truth = truth_of(rng, sport, seconds)
    quiet = replace(SURROUNDINGS[where], fast_m=0.0, white_m=0.0, bursts=0, spikes=0, dropouts=0, frozen=0, jitter_s=0.0)
    return recording_of(rng, truth, quiet)
