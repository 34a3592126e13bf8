"""The motion part of the live kernel: position, speed, distance, time under way and pauses.

Distance is what the device states it to be (its own counter, a wheel, a foot pod, a machine), else the integral of the speed it states,
else that of the filter's speed; positions are never summed.
"""

from __future__ import annotations

import math
from typing import Any, Final

import numpy as np

from processors.kernels import position
from processors.kernels.columns import EAST_M, T, V, W
from processors.kernels.compiled import compiled
from processors.kernels.plane import east_of, latitude, longitude, north_of, place, usable
from processors.kernels.position import FROZEN, REFUSED, STARTED, feed
from processors.kernels.position import TAKEN as FIXED
from processors.kernels.travel import filtered_mps
from processors.live_row import (
    ABSENT,
    DEV_DIST,
    DIST_UM,
    F64,
    GAIT,
    GAIT_MS,
    MOVING_US,
    MV_T,
    NORTH_EAST,
    PAUSED,
    PLACE,
    SOUTH_WEST,
    SPEED,
    STILL_T,
)

SPEED_HOLD_US: Final = 45_000_000  # a silence is bridged this long at most
STILL_CMPS: Final = 50  # below 0.5 m/s nobody is under way
MOVING_CMPS: Final = 80  # what ends a pause
PAUSE_US: Final = 10_000_000  # standing this long is a pause
FASTEST_MPS: Final = 100.0
MAX_ACCURACY_CM: Final = 10_000  # a position known no better than this is none
RIDE_CMPS: Final = 550  # faster is a ride ...
RUN_CMPS: Final = 420  # ... slower (but walking) is a run: which tuning the filter takes, by which there was more of in the last minute

FILTER: Final = EAST_M + 1  # columns of the position filter and its plane
WAYS: Final[F64] = np.array([position.RUN, position.RIDE, position.RUN_UNSTATED, position.RIDE_UNSTATED])

# What became of a sample, columns of `out`: the start of its activity where its position is believed, and what the filter makes of it
# (1e-7 degrees, mm/s); whether motion, heart rate, power and cadence took it; the values after it.
(
    FIX_START, FIX_LAT, FIX_LON, FIX_NORTH, FIX_EAST, BY_MOTION, BY_HEART, BY_POWER, BY_CADENCE, NOW_HR, NOW_SPEED, NOW_DIST, NOW_MOVING,
) = range(13)  # fmt: skip
OUT: Final = 13


@compiled
def nearest(x: float) -> int:
    """The nearest whole number, halves away from zero."""
    return int(x + 0.5) if x >= 0.0 else -int(0.5 - x)


@compiled
def _pair(lat: int, lon: int) -> int:
    return (lat << 32) | (lon & 0xFFFFFFFF)


@compiled
def _second(pair: int) -> int:
    lon = pair & 0xFFFFFFFF
    return lon - ((lon >> 31) << 32)


@compiled
def _gained_um(st: Any, dt: int, v_mps: float, speed: int, dist: int) -> int:
    """Micrometres since the last sample of the same source, `dt` microseconds ago."""
    if dist >= 0 and st[DEV_DIST] >= 0:
        delta_cm = dist - st[DEV_DIST]
        if 0 <= delta_cm <= 4000 * dt // 1_000_000 + 1000:
            return delta_cm * 10_000
    held = min(dt, SPEED_HOLD_US)
    if speed >= 0:
        return (max(st[SPEED], 0) + speed) * held // 200 if st[SPEED] >= 0 else speed * held // 100
    if v_mps * 100.0 < (MOVING_CMPS if st[STILL_T] != ABSENT else STILL_CMPS):
        return 0  # a receiver at rest wanders
    return nearest((max(st[SPEED], 0) * 0.01 + v_mps) * 0.5 * held)


@compiled
def placed(lat: int, lon: int, acc: int) -> int:
    """1 when there is a position to speak of."""
    return usable(float(lat), float(lon)) if acc <= MAX_ACCURACY_CM else 0


@compiled
def filtered(f: Any, way: Any, t_s: float, lat: int, lon: int, acc: int, speed: int) -> int:
    """The position filter (the first FILTER columns of a row of floats) with one sample more; the outcome of its position."""
    speed_mps = speed * 0.01 if speed >= 0 else math.nan
    if placed(lat, lon, acc) == 0:
        return feed(f, way, t_s, math.nan, math.nan, math.nan, speed_mps, f, 0)
    y, x = float(lat), float(lon)
    place(f, y, x)
    return feed(f, way, t_s, east_of(f, x), north_of(f, y), acc * 0.01 if acc >= 0 else math.nan, speed_mps, f, 0)


@compiled
def tuning(ring: Any, speed: int) -> int:
    """Which of WAYS the filter takes: by sport, and whether a speed is stated. Without one it is a run only after it was slow for long: the
    filter of a run would keep the speed of a ride low, by which the sport is told."""
    if speed < 0:
        return 3 if ring[GAIT] > 0 else 2
    return 1 if ring[GAIT] > GAIT_MS else 0


@compiled
def motion(
    st: Any, f: Any, ring: Any, out: Any, ways: Any, same: bool, t: int, lat: int, lon: int, acc: int, speed: int, dist: int
) -> None:
    """Take a motion sample (`same`: of the source and boot of the last one)."""
    t_s = t * 1e-6
    dt = t - st[MV_T] if same else 0
    way = ways[tuning(ring, speed)]
    outcome = filtered(f, way, t_s, lat, lon, acc, speed)
    if outcome in (FIXED, STARTED, REFUSED, FROZEN):  # where the last two do not say, the filter has carried the athlete on
        y, x = latitude(f), longitude(f)
        lat, lon = nearest(y), nearest(x)
        st[PLACE] = _pair(lat, lon)
        out[FIX_LAT], out[FIX_LON] = lat, lon
        out[FIX_NORTH], out[FIX_EAST] = nearest(f[W] * 1000.0), nearest(f[V] * 1000.0)
    if outcome in (FIXED, STARTED):
        box = st[SOUTH_WEST]
        st[SOUTH_WEST] = _pair(min(box >> 32, lat), min(_second(box), lon))
        box = st[NORTH_EAST]
        st[NORTH_EAST] = _pair(max(box >> 32, lat), max(_second(box), lon))
        out[FIX_START] = 0
    v_mps = -1.0
    if speed < 0 and dist < 0 and f[T] == t_s:
        v_mps = min(filtered_mps(f, way), FASTEST_MPS)
    gained = _gained_um(st, dt, v_mps, speed, dist) if same else 0
    st[DIST_UM] += gained
    if speed >= 0:
        st[SPEED] = speed
    elif v_mps >= 0.0:
        st[SPEED] = nearest(v_mps * 100.0)
    elif dist >= 0 and dt > 0:
        st[SPEED] = gained * 100 // dt
    _pause(st, ring, t, dt)
    st[DEV_DIST] = dist


@compiled
def _pause(st: Any, ring: Any, t: int, dt: int) -> None:
    """Time under way, pauses, and whether it is a run or a ride, by the speed now."""
    speed = st[SPEED]
    if speed >= MOVING_CMPS:
        st[STILL_T] = ABSENT
        st[PAUSED] = 0
        held_ms = min(dt // 1000, GAIT_MS)
        if speed > RIDE_CMPS:
            ring[GAIT] = min(ring[GAIT] + held_ms, 2 * GAIT_MS)
        elif speed < RUN_CMPS:
            ring[GAIT] = max(ring[GAIT] - held_ms, 0)
    if speed >= STILL_CMPS:
        if st[PAUSED] == 0:
            st[MOVING_US] += min(dt, SPEED_HOLD_US)
    elif speed >= 0:
        if st[STILL_T] == ABSENT:
            st[STILL_T] = t
        elif t - st[STILL_T] >= PAUSE_US:
            st[PAUSED] = 1
