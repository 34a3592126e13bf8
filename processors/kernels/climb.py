"""Climb: altitude and rate of climb of a Kalman filter with a wandering rate, and the rises between its turning points, while they happen.

The filter is that of two states with white acceleration (Bar-Shalom, Li, Kirubarajan 2001, section 6.2.2) behind a soft gate. Turning
points, unlike a hysteresis, lose nothing of a climb; a rise counts from the moment it exceeds the threshold. Outcomes: altitude absent,
below -500 m or above 9,000 m, or time not later: nothing changes. A step that lasts OPEN_S is a calibration: the filter and the turning
points move, nothing is climbed. A silence over SILENCE_S begins anew, and what was climbed across it is not known.
"""

from __future__ import annotations

import math
from typing import Final

from processors.kernels.columns import (
    ALT_COV,
    ALT_M,
    ALT_REFUSED_T,
    ALT_T,
    ALT_VAR,
    CLIMB_MPS,
    CLIMB_VAR,
    GAIN_M,
    HIGH_M,
    LOW_M,
    RISING,
)  # fmt: skip
from processors.kernels.compiled import Row, compiled

AGILITY, VARIANCE, GATE, TURN_M = range(4)  # of a tuning: m2/s3, m2, d2, metres
BAROMETER: Final = (0.48, 0.51, 1.5, 2.0)
RECEIVER: Final = (0.00011, 22.0, 5.2, 16.4)
FAR_M: Final = 10.0
FAR_D2: Final = 100.0
OPEN_S: Final = 5.0
SILENCE_S: Final = 120.0


@compiled
def rise(row: Row, tune: Row, t: float, altitude_m: float) -> None:
    """Take an altitude at `t` seconds."""
    if t != t or not -500.0 <= altitude_m <= 9_000.0:
        return
    if row[ALT_T] != row[ALT_T] or t - row[ALT_T] > SILENCE_S:
        row[ALT_T], row[ALT_M], row[CLIMB_MPS] = t, altitude_m, 0.0
        row[ALT_VAR], row[ALT_COV], row[CLIMB_VAR] = tune[VARIANCE], 0.0, 0.25
        row[LOW_M] = row[HIGH_M] = altitude_m
        row[RISING] = 0.0
        row[ALT_REFUSED_T] = math.nan
        return
    dt = t - row[ALT_T]
    if dt <= 0.0:
        return
    row[ALT_T] = t
    q = tune[AGILITY]
    row[ALT_M] += dt * row[CLIMB_MPS]
    row[ALT_VAR] += dt * (2.0 * row[ALT_COV] + dt * row[CLIMB_VAR]) + q * dt * dt * dt / 3.0
    row[ALT_COV] += dt * row[CLIMB_VAR] + q * dt * dt / 2.0
    row[CLIMB_VAR] += q * dt
    off = altitude_m - row[ALT_M]
    s = row[ALT_VAR] + tune[VARIANCE]
    if off * off > FAR_D2 * s and abs(off) > FAR_M:
        if row[ALT_REFUSED_T] != row[ALT_REFUSED_T]:
            row[ALT_REFUSED_T] = t
        if t - row[ALT_REFUSED_T] < OPEN_S:
            return
        row[ALT_M] = altitude_m
        row[LOW_M] += off
        row[HIGH_M] += off
        row[ALT_REFUSED_T] = math.nan
        return
    row[ALT_REFUSED_T] = math.nan
    if off * off > tune[GATE] * s:
        s = off * off / tune[GATE]
    k_z, k_v = row[ALT_VAR] / s, row[ALT_COV] / s
    row[ALT_M] += k_z * off
    row[CLIMB_MPS] += k_v * off
    row[CLIMB_VAR] -= k_v * row[ALT_COV]
    row[ALT_COV] -= k_z * row[ALT_COV]
    row[ALT_VAR] -= k_z * row[ALT_VAR]
    _turn(row, tune)


@compiled
def _turn(row: Row, tune: Row) -> None:
    """Turning points of the filtered altitude; what rises beyond the threshold is gained."""
    z = row[ALT_M]
    if row[RISING] == 1.0:
        if z > row[HIGH_M]:
            row[GAIN_M] += z - row[HIGH_M]
            row[HIGH_M] = z
        elif row[HIGH_M] - z >= tune[TURN_M]:
            row[LOW_M] = z
            row[RISING] = 0.0
    elif z < row[LOW_M]:
        row[LOW_M] = z
    elif z - row[LOW_M] >= tune[TURN_M]:
        row[GAIN_M] += z - row[LOW_M]
        row[HIGH_M] = z
        row[RISING] = 1.0
