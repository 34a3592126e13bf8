"""The channels of the live kernel: what a sample that counts does to heart rate, motion, power and cadence.

At a switch nothing counts twice: a heart rate starts its repair anew, a way goes on from the last sample of the source before by speed
alone, power goes on from the last reading.
"""

from __future__ import annotations

import math
from typing import Any, Final

from processors.fusion import CADENCE as CADENCES
from processors.fusion import (
    LATE,
    MOTION,
    POWER,
    PROVED,
    PROVING,
    SILENT,
    TAKEN,
    accepts,
    motion_rank,
    since_of,
)
from processors.kernels.beats import interval
from processors.kernels.columns import ALT_T, HEART_BPM, HEART_T, ORIGIN_LAT, SIGMA, XX, YY, T
from processors.kernels.compiled import compiled
from processors.kernels.heart import beat
from processors.kernels.load import strain
from processors.kernels.position import STATED_SHARE
from processors.kernels.power import pedal
from processors.live_motion import (
    BY_CADENCE,
    BY_MOTION,
    BY_POWER,
    FILTER,
    filtered,
    motion,
    nearest,
    placed,
    tuning,
)
from processors.live_row import (
    ABSENT,
    CADENCE,
    CD_ORG,
    DEV_DIST,
    HR,
    HR_MAX,
    HR_N,
    HR_REF,
    HR_SUM,
    MV_BOOT,
    MV_ORG,
    MV_T,
    NEVER,
    POINTS,
    PW_ORG,
    RING_UNITS,
)  # fmt: skip

HR_HOLD_US: Final = 5_000_000  # a heart rate earns points at most this long
LOST_M2: Final = 900.0  # of a position that was carried on for long: there is none any more


@compiled
def heart(st: Any, f: Any, person: Any, t: int, last_t: int, bpm: int, rr_ms: int, other: bool) -> None:
    """A heart rate that counts: what was the last one earns until now, then the repaired one stands. `other`: it is another source's."""
    if other:
        f[HEART_T] = f[HEART_BPM] = math.nan
        interval(f, math.nan)
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
        if f[HEART_T] == t_s:  # it was heard, not held back: the highest is one that was stated, not one the filter swung to
            st[HR_MAX] = max(st[HR_MAX], bpm)


@compiled
def legs(st: Any, f: Any, ring: Any, side: Any, out: Any, t: int, org: int, rank: int, power: int, cadence: int) -> bool:
    """Power and cadence; whether one of them is late."""
    late = False
    if power >= 0:
        verdict = accepts(st, side, PW_ORG, POWER, t, org, rank)
        late = verdict == LATE
        if takes(verdict):
            pedal(f, ring, 0, float(RING_UNITS), t * 1e-6, float(power))
            out[BY_POWER] = 1
    if cadence >= 0:
        verdict = accepts(st, side, CD_ORG, CADENCES, t, org, rank)
        late = late or verdict == LATE
        if takes(verdict):
            ring[CADENCE] = cadence + 1
            out[BY_CADENCE] = 1
    return late


@compiled
def takes(verdict: int) -> bool:
    """Whether a sample counts."""
    return verdict == TAKEN or verdict >= PROVED


@compiled
def move(
    st: Any, f: Any, ring: Any, side: Any, filters: Any, out: Any, ways: Any, t: int, org: int, boot: int, own: int, kind: int, lat: int,
    lon: int, acc: int, speed: int, dist: int,
) -> int:  # fmt: skip
    """Motion: of the source that counts, or of one that proves itself, whose filter runs beside. The way of one that takes over counts from
    the last sample of the other on, by its speed, unless that one was silent."""
    here, accuracy_cm = placed(lat, lon, acc), acc
    if org == st[MV_ORG] and f[T] == f[T]:
        here, accuracy_cm = 1 if f[XX] + f[YY] < LOST_M2 else 0, nearest(f[SIGMA] * STATED_SHARE * 100.0)
    last_t = st[MV_T]
    verdict = accepts(st, side, MV_ORG, MOTION, t, org, motion_rank(kind, own, here, accuracy_cm, speed))
    if PROVING <= verdict < PROVED:
        g = filters[verdict - PROVING]
        if since_of(side, MOTION, verdict - PROVING) == t:
            for c in range(FILTER):
                g[c] = 0.0
            g[T] = g[ORIGIN_LAT] = math.nan
        filtered(g, ways[tuning(ring, speed)], t * 1e-6, lat, lon, acc, speed)
    if not takes(verdict):
        return verdict
    same = last_t != NEVER and boot == st[MV_BOOT]
    if verdict >= PROVED:
        same = verdict < SILENT
        e = verdict - PROVED if verdict < SILENT else verdict - SILENT - 1
        f[ALT_T] = f[T] = math.nan
        if e >= 0:
            for c in range(FILTER):
                f[c] = filters[e][c]
        st[DEV_DIST] = ABSENT
    now = st[MV_T]
    st[MV_T] = last_t
    motion(st, f, ring, out, ways, same, t, lat, lon, acc, speed, dist)
    st[MV_T] = now
    st[MV_BOOT] = boot
    out[BY_MOTION] = 1
    return verdict
