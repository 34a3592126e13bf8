"""Metres climbed against the true hills: ours while it happens and at the end, beside what others sum.

The truth is the sum of rises of the true altitude at the stamps between turning points of more than half a metre.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

import numpy as np

from benchmarks.accuracy.positions import STAGED
from benchmarks.accuracy.staged import stage
from benchmarks.accuracy.tracks import Array, Recording
from processors.altitude import BAROMETER, GNSS, climbed_m, gain_cm
from processors.kernels.climb import BAROMETER as LIVE_BAROMETER
from processors.kernels.climb import RECEIVER as LIVE_RECEIVER
from processors.kernels.climb import rise
from processors.kernels.columns import GAIN_M, fresh_row
from processors.kernels.compiled import compiled


@compiled
def _climb(row: Array, tune: Array, t: Array, altitude: Array) -> None:
    for i in range(len(t)):
        rise(row, tune, t[i], altitude[i])


def live_m(t_s: Array, altitude_m: Array, source: int, way_m: Array) -> float:
    """The kernel, sample by sample."""
    del way_m
    row = np.array(fresh_row())
    _climb(
        row, np.array(LIVE_BAROMETER if source == BAROMETER else LIVE_RECEIVER), np.ascontiguousarray(t_s), np.ascontiguousarray(altitude_m)
    )
    return float(row[GAIN_M])


def final_m(t_s: Array, altitude_m: Array, source: int, way_m: Array) -> float:
    """What finishing says, of altitudes as the wire carries them (0.2 m)."""
    ones = np.ones(len(t_s), np.int64)
    t_us, way_um = np.rint(t_s * 1e6).astype(np.int64), np.rint(way_m * 1e6).astype(np.int64)
    return gain_cm(t_us, np.rint(altitude_m * 5).astype(np.int64) * 2, ones * source, ones, way_um) / 100


def summed_m(t_s: Array, altitude_m: Array, source: int, way_m: Array) -> float:
    """Every rise."""
    del t_s, source, way_m
    return float(np.maximum(np.diff(altitude_m), 0).sum())


def hysteresis_m(t_s: Array, altitude_m: Array, source: int, way_m: Array) -> float:
    """Rises of 3 m from the last level (GoldenCheetah's default)."""
    del t_s, source, way_m
    level, total = altitude_m[0], 0.0
    for value in altitude_m.tolist():
        if value > level + 3.0:
            total += value - level
            level = value
        elif value < level - 3.0:
            level = value
    return float(total)


def lows_and_highs_m(t_s: Array, altitude_m: Array, source: int, way_m: Array) -> float:
    """Offline: smoothed over five samples, then low to high points above 2 m (barometer) or 10 m (as Strava words it)."""
    del way_m
    kernel = np.exp(-np.square(np.arange(-10.0, 11.0)) / (2 * 2.0**2 if source == BAROMETER else 2 * 5.0**2))
    smoothed = np.convolve(np.pad(altitude_m, 10, mode="edge"), kernel / kernel.sum(), "valid")
    return climbed_m(smoothed.tolist(), t_s.tolist(), 2.0 if source == BAROMETER else 10.0)


METHODS: Final[dict[str, Callable[[Array, Array, int, Array], float]]] = {
    "sum of all rises": summed_m,
    "hysteresis of 3 m (GoldenCheetah)": hysteresis_m,
    "smoothed, lows to highs (Strava's words, offline)": lows_and_highs_m,
    "ours, live": live_m,
    "ours, at the end": final_m,
}


def true_m(seen: Recording) -> float:
    """The true climb."""
    return climbed_m(seen.true_altitude_m.tolist(), (seen.t_s * 1e3).tolist(), 0.5)


def errors_pct(seen: Recording) -> dict[tuple[str, str], float]:
    """Of each method and altitude (baro, gnss): how far off, per cent."""
    true = true_m(seen)
    way_m = np.concatenate([[0.0], np.cumsum((seen.speed_mps[1:] + seen.speed_mps[:-1]) / 2 * np.diff(seen.t_s))])
    found: dict[tuple[str, str], float] = {}
    for kind, altitude, source in (("baro", seen.baro_m, BAROMETER), ("gnss", seen.gnss_m, GNSS)):
        found[STAGED, kind] = abs(stage(seen, with_speed=True, altitude_m=altitude, source=source).climbed_m / true - 1) * 100
    for name, method in METHODS.items():
        for kind, altitude, source in (("baro", seen.baro_m, BAROMETER), ("gnss", seen.gnss_m, GNSS)):
            found[name, kind] = abs(method(seen.t_s, altitude, source, way_m) / true - 1) * 100
    return found
