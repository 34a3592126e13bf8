"""The live kernel: one athlete's samples in time order -> heart rate, position, speed, distance, effort points, pauses, activities.

One scalar source in plain typed Python; numba compiles it when installed (`paceline[fast]`) with the same bits. Distance, points and times
are integers; position, speed, altitude, heart rate, beats, power and load come from the float kernels (`kernels`), whose operations IEEE
754 rounds exactly. So any cut of the input gives the same state. An athlete's sensors are fused per channel (`fusion`). A sample behind
what its channel already holds is *late*: it is noted (LATE_FROM..LATE_TO) and the stage later runs the whole activity again. An activity is
a run of samples with no gap over GAP_US; its first sample resets every total.
"""

from __future__ import annotations

import math
from typing import Any, Final

import numpy as np

from processors.fusion import HOLD_US, LATE, SWITCHED, accepts
from processors.kernels import climb, load
from processors.kernels.beats import interval
from processors.kernels.climb import rise
from processors.kernels.columns import ALT_T, HEART_BPM, HEART_T, LIVE, T
from processors.kernels.compiled import COMPILED, compiled, numba
from processors.kernels.heart import beat
from processors.kernels.load import strain
from processors.kernels.power import pedal
from processors.live_motion import (
    BY_CADENCE,
    BY_HEART,
    BY_MOTION,
    BY_POWER,
    FIX_EAST,
    FIX_LAT,
    FIX_LON,
    FIX_NORTH,
    FIX_START,
    NOW_DIST,
    NOW_HR,
    NOW_MOVING,
    NOW_SPEED,
    OUT,
    STILL_CMPS,
    WAYS,
    motion,
    nearest,
)
from processors.live_row import (
    ABSENT,
    ANCHOR,
    APPENDED,
    CADENCE,
    CD_ORG,
    CD_T,
    COLUMNS,
    DEV_DIST,
    DIST_UM,
    F64,
    HR,
    HR_MAX,
    HR_N,
    HR_ORG,
    HR_REF,
    HR_SUM,
    HR_T,
    I64,
    INTS,
    LAST_T,
    LATE_AT,
    LATE_FROM,
    LATE_SINCE,
    LATE_TO,
    MOVING_US,
    MV_BOOT,
    MV_ORG,
    MV_T,
    NEVER,
    NO_ALTITUDE,
    NO_POS,
    PAUSED,
    PERSON,
    POINTS,
    PW_ORG,
    PW_T,
    REST_BPM,
    RING_AT,
    RING_COLUMNS,
    RING_UNITS,
    SAMPLES,
    SPEED,
    START,
    WAKES,
    fresh_row,
)  # fmt: skip

__all__ = [
    "ABSENT",
    "ANCHOR",
    "APPENDED",
    "BY_CADENCE",
    "BY_HEART",
    "BY_MOTION",
    "BY_POWER",
    "CADENCE",
    "CD_T",
    "CLIMBS",
    "COLUMNS",
    "COMPILED",
    "DEV_DIST",
    "DIST_UM",
    "FIX_EAST",
    "FIX_LAT",
    "FIX_LON",
    "FIX_NORTH",
    "FIX_START",
    "GAP_US",
    "HOLD_US",
    "HR",
    "HR_MAX",
    "HR_N",
    "HR_REF",
    "HR_SUM",
    "HR_T",
    "I64",
    "INTS",
    "LAST_T",
    "LATE_AT",
    "LATE_FROM",
    "LATE_SINCE",
    "LATE_TO",
    "MOVING_US",
    "MV_ORG",
    "MV_T",
    "NEVER",
    "NOW_DIST",
    "NOW_HR",
    "NOW_MOVING",
    "NOW_SPEED",
    "NO_ALTITUDE",
    "NO_POS",
    "OUT",
    "PAUSED",
    "PERSON",
    "POINTS",
    "PW_T",
    "SAMPLES",
    "SPEED",
    "START",
    "STILL_CMPS",
    "WAKES",
    "WAYS",
    "fresh_row",
    "run",
]  # fmt: skip

GAP_US: Final = 600_000_000  # a silence that ends an activity
HR_HOLD_US: Final = 5_000_000  # a heart rate earns points at most this long
BAROMETER: Final = 1  # sources of altitude
MAP: Final = 3

CLIMBS: Final[F64] = np.array([climb.BAROMETER, climb.RECEIVER])


@compiled
def _late(st: Any, t: int) -> None:
    st[LATE_FROM] = min(st[LATE_FROM], t)
    st[LATE_TO] = max(st[LATE_TO], t)


@compiled
def _heart(st: Any, f: Any, person: Any, t: int, last_t: int, bpm: int, rr_ms: int) -> None:
    """A heart rate that counts: what was the last one earns until now, then the repaired one stands."""
    last_hr = st[HR]
    if last_t != NEVER and last_hr > 0:
        dt = min(t - last_t, HR_HOLD_US)
        share = last_hr * 100 // st[HR_REF]
        rate = 0
        if share >= 80:
            rate = 4
        elif share >= 50:
            rate = (share - 50) // 10 + 1
        st[POINTS] += rate * dt
    t_s = t * 1e-6
    believed = beat(f, t_s, float(bpm))
    interval(f, float(rr_ms) if rr_ms > 0 else math.nan)
    if believed > 0.0:
        strain(f, person, t_s, believed)
        hr = nearest(believed)
        st[HR] = hr
        st[HR_SUM] += hr
        st[HR_N] += 1
        st[HR_MAX] = max(st[HR_MAX], hr)


@compiled
def _legs(st: Any, f: Any, ring: Any, out: Any, t: int, org: int, power: int, cadence: int) -> bool:
    """Power and cadence; whether one of them is late."""
    late = False
    if power >= 0:
        verdict = accepts(st, PW_ORG, t, org)
        late = verdict == LATE
        if verdict > 0:
            pedal(f, ring, 0, float(RING_UNITS), t * 1e-6, float(power))
            out[BY_POWER] = 1
    if cadence >= 0:
        verdict = accepts(st, CD_ORG, t, org)
        late = late or verdict == LATE
        if verdict > 0:
            ring[CADENCE] = cadence + 1
            out[BY_CADENCE] = 1
    return late


@compiled
def _sample(
    st: Any, f: Any, ring: Any, out: Any, ways: Any, climbs: Any, person: Any, t: int, org: int, boot: int, lat: int, lon: int, acc: int,
    speed: int, dist: int, alt: int, alt_source: int, hr: int, rr: int, power: int, cadence: int,
) -> None:  # fmt: skip
    """Take a sample."""
    out[FIX_START] = NEVER
    out[BY_MOTION] = out[BY_HEART] = out[BY_POWER] = out[BY_CADENCE] = 0
    if st[START] != NEVER and t < st[START]:
        _late(st, t)
        return
    late = False
    if hr > 0:
        last_t = st[HR_T]
        verdict = accepts(st, HR_ORG, t, org)
        late = verdict == LATE
        if verdict > 0:
            if verdict == SWITCHED:
                f[HEART_T] = f[HEART_BPM] = math.nan
                interval(f, math.nan)
            _heart(st, f, person, t, last_t, hr, rr)
            out[BY_HEART] = 1
    if speed >= 0 or dist >= 0 or (lat != NO_POS and lon != NO_POS):
        last_t = st[MV_T]
        verdict = accepts(st, MV_ORG, t, org)
        late = late or verdict == LATE
        if verdict > 0:
            if verdict == SWITCHED:
                f[T] = f[ALT_T] = math.nan
            now = st[MV_T]
            st[MV_T] = last_t
            motion(st, f, ring, out, ways, last_t != NEVER and verdict != SWITCHED and boot == st[MV_BOOT], t, lat, lon, acc, speed, dist)
            st[MV_T] = now
            st[MV_BOOT] = boot
            if alt != NO_ALTITUDE:
                rise(f, climbs[0 if alt_source in (BAROMETER, MAP) else 1], t * 1e-6, alt * 0.1)
            out[BY_MOTION] = 1
    if power >= 0 or cadence >= 0:
        late = _legs(st, f, ring, out, t, org, power, cadence) or late
    if late:
        _late(st, t)
    if out[BY_HEART] + out[BY_MOTION] + out[BY_POWER] + out[BY_CADENCE] > 0:
        if st[START] == NEVER:
            st[START] = t
            st[ANCHOR] = t
        st[LAST_T] = max(st[LAST_T], t)
        st[SAMPLES] += 1
        if out[FIX_START] != NEVER:
            out[FIX_START] = st[START]
    out[NOW_HR], out[NOW_SPEED], out[NOW_DIST], out[NOW_MOVING] = st[HR], st[SPEED], st[DIST_UM], st[MOVING_US]


@compiled
def _know(st: Any, person: Any) -> None:
    """Unpack what load depends on."""
    packed = st[PERSON]
    for i in range(4):
        person[i] = float((packed >> (8 * i)) & 255)
    woman = (packed >> 32) & 1
    person[load.REST], person[load.MOST] = REST_BPM, float(st[HR_REF])
    person[load.FACTOR] = 0.86 if woman == 1 else 0.64
    person[load.EXPONENT] = 1.67 if woman == 1 else 1.92


def _float_part(rows: Any, slot: int) -> Any:
    """The floats of a row: a list has nothing before them."""
    return rows[slot, INTS:] if COMPILED else rows[slot]


def _ring_part(rows: Any, slot: int) -> Any:
    """The ring of a row."""
    return rows[slot, RING_AT:] if COMPILED else rows[slot]


_floats: Any = _float_part
_ring: Any = _ring_part
if numba is not None and COMPILED:
    _njit: Any = numba.njit  # a compiled function may not give back a part of an array: these two are put where they are called
    _floats = _njit(inline="always", _nrt=False)(_float_part)
    _ring = _njit(inline="always", _nrt=False)(_ring_part)


@compiled
def run(
    ints: Any, floats: Any, rings: Any, slots: Any, first: Any, ends: Any, org: Any, boot: Any, t: Any, lat: Any, lon: Any, acc: Any,
    speed: Any, dist: Any, alt: Any, alt_source: Any, hr: Any, rr: Any, power: Any, cadence: Any, ways: Any, climbs: Any, person: Any,
    fresh: Any, fresh_f: Any, fresh_ring: Any,
    closed: Any, closed_f: Any, closed_ring: Any, ended: Any, out: Any, at_frame: int, at_sample: int,
) -> tuple[int, int, int]:  # fmt: skip
    """Frames `at_frame..` from sample `at_sample`; rows of activities that ended go to `closed`, frame and slot of each to `ended`.

    `out` gets what became of each sample. Returns (frame, sample, number closed); frame == len(slots) when all is done, else `closed` is
    full and the caller goes on from there.
    """
    n_closed = 0
    frames = len(slots)
    while at_frame < frames:
        slot = slots[at_frame]
        st, f, ring = ints[slot], _floats(floats, slot), _ring(rings, slot)
        _know(st, person)
        i = max(first[at_frame], at_sample)
        while i < ends[at_frame]:
            if st[START] != NEVER and t[i] - st[LAST_T] > GAP_US:
                if n_closed == len(ended):
                    return at_frame, i, n_closed
                kept, kept_f, kept_ring = closed[n_closed], _floats(closed_f, n_closed), _ring(closed_ring, n_closed)
                for c in range(INTS):
                    kept[c] = st[c]
                for c in range(LIVE):
                    kept_f[c] = f[c]
                    f[c] = fresh_f[c]
                for c in range(RING_COLUMNS):
                    kept_ring[c] = ring[c]
                    ring[c] = fresh_ring[c]
                ended[n_closed][0] = at_frame
                ended[n_closed][1] = slot
                n_closed += 1
                for c in range(LATE_FROM):
                    st[c] = fresh[c]
            _sample(
                st, f, ring, out[i], ways, climbs, person, t[i], org[at_frame], boot[at_frame], lat[i], lon[i], acc[i], speed[i], dist[i],
                alt[i], alt_source[i], hr[i], rr[i], power[i], cadence[i],
            )  # fmt: skip
            i += 1
        at_frame += 1
    return at_frame, 0, n_closed
