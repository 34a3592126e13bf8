"""Travel: distance, speed, time under way and pauses.

Distance is the integral of speed (trapezoids), never a sum of positions: those wander. The stated speed (the receiver's Doppler, a wheel, a
foot pod) counts as it is; without one, the filter's, its square corrected by a share of the variance across the way (noise that reaches
the velocity lengthens it, averaging over a turn shortens it; which of them prevails is in the tuning).

Paused after PAUSE_S below STILL_MPS, under way again above MOVING_MPS. A silence is bridged for HOLD_S at most.
"""

from __future__ import annotations

import math
from typing import Final

from processors.kernels.columns import DISTANCE_M, MOVING_S, PAUSED, SPEED_MPS, STILL_T, TRAVEL_T, VV, VW, WW, V, W
from processors.kernels.compiled import Row, compiled
from processors.kernels.position import LENGTH

STILL_MPS: Final = 0.5
MOVING_MPS: Final = 0.8
PAUSE_S: Final = 10.0
HOLD_S: Final = 45.0
FASTEST_MPS: Final = 100.0


@compiled
def filtered_mps(row: Row, way: Row) -> float:
    """Speed of the position filter, corrected for what is not known of its direction."""
    speed2 = row[V] * row[V] + row[W] * row[W]
    if speed2 < 1e-4:
        return 0.0
    across = (row[W] * row[W] * row[VV] - 2.0 * row[V] * row[W] * row[VW] + row[V] * row[V] * row[WW]) / speed2
    if speed2 < 1.0:
        across *= speed2
    return math.sqrt(max(speed2 + way[LENGTH] * across, 0.0))


@compiled
def move(row: Row, t: float, speed_mps: float) -> None:
    """Go on at a speed: `t` seconds, rising; a speed that is absent, negative or beyond reason changes nothing."""
    if not 0.0 <= speed_mps < FASTEST_MPS or t != t:
        return
    if row[TRAVEL_T] == row[TRAVEL_T]:
        dt = t - row[TRAVEL_T]
        if dt <= 0.0:
            return
        dt = min(dt, HOLD_S)
        row[DISTANCE_M] += (row[SPEED_MPS] + speed_mps) / 2.0 * dt
        if row[PAUSED] == 0.0 and speed_mps >= STILL_MPS:
            row[MOVING_S] += dt
    row[TRAVEL_T] = t
    row[SPEED_MPS] = speed_mps
    if speed_mps >= MOVING_MPS:
        row[STILL_T] = math.nan
        row[PAUSED] = 0.0
    elif speed_mps < STILL_MPS:
        if row[STILL_T] != row[STILL_T]:
            row[STILL_T] = t
        elif t - row[STILL_T] >= PAUSE_S:
            row[PAUSED] = 1.0
