"""Elapsed time from gate to gate: the crossing interpolated between two fixes, beside the nearest fix (as Strava states it).

A stretch of 0.25-3 km of the true way has a gate across it at either end; the same rule times ours and the raw fixes. Crossing: the
step that changes the side of the gate, within the half-width, along the way, nearest to the time truth was there; linear between its
ends.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from benchmarks.accuracy.tracks import Array, Recording, Truth

HALF_WIDTH_M = 45.0
STRETCHES = 24


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


def crossing_s(t_s: Array, east: Array, north: Array, gate: Gate) -> float:
    """When fixes cross a gate; NaN when they do not."""
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
    return float(t[at] + share * (t[at + 1] - t[at]))


def nearest_s(t_s: Array, east: Array, north: Array, gate: Gate) -> float:
    """The stamp of the fix nearest to the gate's middle."""
    near = np.flatnonzero(np.abs(t_s - gate.t_s) < 60.0)
    if not len(near):
        return float("nan")
    return float(t_s[near[int(np.argmin(np.hypot(east[near] - gate.east_m, north[near] - gate.north_m)))]])
