"""A recording through the live stage's own kernel, as the wire carries it: what the product shows and sums while it happens.

Positions in 1e-7 degrees, stated accuracy in half metres, speed in cm/s, altitude in 0.2 m, heart rate in beats. The stage shows where
the filter sees the athlete at each sample with a position, believed or not; until the next, the last one stands.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

import numpy as np

from benchmarks.accuracy.ours import Filtered
from benchmarks.accuracy.tracks import Array, Recording
from processors import live_kernel as k
from processors.altitude import BAROMETER
from processors.geometry import METRE_PER_UNIT, plane_at
from processors.kernels.columns import GAIN_M
from processors.live_row import floats_of, fresh_row
from processors.run_kernel import run_frames
from processors.samples import Samples

PLANE: Final = plane_at(465_000_000, 75_000_000)
START_US: Final = 1_700_000_000_000_000


@dataclass(frozen=True, slots=True)
class Staged:
    """What the stage shows of a recording, and the climb it counts."""

    shown: Filtered
    climbed_m: float


def placed(east_m: Array, north_m: Array) -> tuple[np.ndarray, np.ndarray]:
    """Latitude and longitude in 1e-7 degrees of metres in `PLANE`."""
    lat, lon = PLANE.lat + np.rint(north_m / METRE_PER_UNIT), PLANE.lon + np.rint(east_m / PLANE.east_m)
    return lat.astype(np.int64), lon.astype(np.int64)


def accuracy_cm(seen: Recording) -> np.ndarray:
    """The stated accuracy as the wire carries it."""
    return np.minimum(np.rint(seen.accuracy_m * 2), 254).astype(np.int64) * 50


def stage(seen: Recording, *, with_speed: bool, altitude_m: Array | None = None, source: int = BAROMETER) -> Staged:
    """One athlete with one device that states no distance of its own."""
    samples = _samples(seen.t_s)
    samples.lat[:], samples.lon[:] = placed(seen.east_m, seen.north_m)
    samples.accuracy_cm[:] = accuracy_cm(seen)
    if with_speed:
        samples.speed_cmps[:] = np.rint(seen.speed_mps * 100)
    if altitude_m is not None:
        samples.altitude_dm[:], samples.altitude_source[:] = np.rint(altitude_m * 5) * 2, source
    row, out = _run(samples)
    shown = np.maximum.accumulate(np.where(out[:, k.FIX_LAT] != 0, np.arange(len(out)), 0))
    lat, lon = out[shown, k.FIX_LAT], out[shown, k.FIX_LON]
    east, north = (lon - PLANE.lon) * PLANE.east_m, (lat - PLANE.lat) * METRE_PER_UNIT
    v, w = out[shown, k.FIX_EAST] * 1e-3, out[shown, k.FIX_NORTH] * 1e-3
    distance_m = float(row[k.DIST_UM]) * 1e-6
    return Staged(Filtered(east, north, v, w, out[:, k.NOW_SPEED] * 0.01, distance_m), float(floats_of(row)[GAIN_M]))


def hearts(stated_bpm: Array) -> Array:
    """A heart rate once a second, as the stage repairs it; before it knows one, the first it knows."""
    samples = _samples(np.arange(len(stated_bpm), dtype=np.float64))
    samples.hr_bpm[:] = np.where(stated_bpm > 0, np.minimum(stated_bpm, 254), k.ABSENT)
    out = _run(samples)[1]
    taken = out[:, k.BY_HEART] != 0
    last = np.maximum.accumulate(np.where(taken & (out[:, k.NOW_HR] > 0), np.arange(len(out)), 0))
    return np.maximum(out[last, k.NOW_HR], 0).astype(np.float64)


def _samples(t_s: Array) -> Samples:
    samples = Samples.empty(len(t_s), 1)
    samples.ends[0], samples.org[0], samples.boot[0] = len(t_s), 1, 1
    samples.t_us[:] = START_US + np.rint(t_s * 1e3).astype(np.int64) * 1000
    return samples


def _run(samples: Samples) -> tuple[np.ndarray, np.ndarray]:
    """The row at the end and what became of each sample."""
    rows = fresh_row().reshape(1, -1).copy()
    return rows[0], run_frames(rows, [0], samples, {}).out
