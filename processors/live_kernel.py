"""The live kernel: one athlete's samples in time order -> heart rate, position, speed, distance, effort points, pauses, activities.

One scalar source in plain typed Python; numba compiles it when installed (`paceline[fast]`) with the same bits. Distance, points and times
are integers; position, speed, altitude, heart rate, beats, power and load come from the float kernels (`kernels`), whose operations IEEE
754 rounds exactly. So any cut of the input gives the same state. An athlete's sensors are fused per channel (`fusion`). A sample behind
what its channel already holds is *late*: it is noted (LATE_FROM..LATE_TO) and the stage later runs the whole activity again. An activity is
a run of samples with no gap over GAP_US; its first sample resets every total.
"""

from __future__ import annotations

from typing import Any, Final

import numpy as np

from processors.fusion import (
    HEART,
    HOLD_US,
    LATE,
    PROVED,
    SIDE,
    accepts,
    heart_rank,
    pedal_rank,
)
from processors.kernels import climb, load
from processors.kernels.climb import rise
from processors.kernels.columns import LIVE
from processors.kernels.compiled import COMPILED, compiled, numba
from processors.live_channels import heart, legs, move, takes
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
)
from processors.live_row import (
    ABSENT,
    ANCHOR,
    APPENDED,
    CADENCE,
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
    MV_ORG,
    MV_T,
    NEVER,
    NO_ALTITUDE,
    NO_POS,
    PAUSED,
    PERSON,
    POINTS,
    PW_T,
    REST_BPM,
    RING_AT,
    RING_COLUMNS,
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


BAROMETER: Final = 1  # sources of altitude
MAP: Final = 3

CLIMBS: Final[F64] = np.array([climb.BAROMETER, climb.RECEIVER])


@compiled
def _late(st: Any, t: int) -> None:
    st[LATE_FROM] = min(st[LATE_FROM], t)
    st[LATE_TO] = max(st[LATE_TO], t)


@compiled
def _sample(
    st: Any, f: Any, ring: Any, side: Any, filters: Any, out: Any, ways: Any, climbs: Any, person: Any, t: int, org: int, boot: int,
    own: int, kind: int, lat: int, lon: int, acc: int,
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
        verdict = accepts(st, side, HR_ORG, HEART, t, org, heart_rank(kind))
        late = verdict == LATE
        if takes(verdict):
            heart(st, f, person, t, last_t, hr, rr, verdict >= PROVED)
            out[BY_HEART] = 1
    if speed >= 0 or dist >= 0 or (lat != NO_POS and lon != NO_POS):
        verdict = move(st, f, ring, side, filters, out, ways, t, org, boot, own, kind, lat, lon, acc, speed, dist)
        late = late or verdict == LATE
        if takes(verdict) and alt != NO_ALTITUDE:
            rise(f, climbs[0 if alt_source in (BAROMETER, MAP) else 1], t * 1e-6, alt * 0.1)
    if power >= 0 or cadence >= 0:
        late = legs(st, f, ring, side, out, t, org, pedal_rank(kind, own), power, cadence) or late
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
    ints: Any, floats: Any, rings: Any, sides: Any, filters: Any, slots: Any, places: Any, first: Any, ends: Any, org: Any, boot: Any,
    own: Any, t: Any, kind: Any, lat: Any, lon: Any, acc: Any,
    speed: Any, dist: Any, alt: Any, alt_source: Any, hr: Any, rr: Any, power: Any, cadence: Any, ways: Any, climbs: Any, person: Any,
    fresh: Any, fresh_f: Any, fresh_ring: Any,
    closed: Any, closed_f: Any, closed_ring: Any, ended: Any, out: Any, at_frame: int, at_sample: int,
) -> tuple[int, int, int]:  # fmt: skip
    """Frames `at_frame..` from sample `at_sample`; rows of activities that ended go to `closed`, frame and slot of each to `ended`.

    `sides` and `filters` are what athletes keep beside their rows (`fusion`), by `places`. `out` gets what became of each sample.

    Returns (frame, sample, number closed); frame == len(slots) when all is done, else `closed` is full and the caller goes on from there.
    """
    n_closed = 0
    frames = len(slots)
    while at_frame < frames:
        slot = slots[at_frame]
        st, f, ring = ints[slot], _floats(floats, slot), _ring(rings, slot)
        side, beside = sides[places[at_frame]], filters[places[at_frame]]
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
                for c in range(SIDE):
                    side[c] = 0
            _sample(
                st, f, ring, side, beside, out[i], ways, climbs, person, t[i], org[at_frame], boot[at_frame], own[at_frame], kind[i],
                lat[i], lon[i], acc[i], speed[i], dist[i],
                alt[i], alt_source[i], hr[i], rr[i], power[i], cadence[i],
            )  # fmt: skip
            i += 1
        at_frame += 1
    return at_frame, 0, n_closed
