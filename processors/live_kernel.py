"""The live kernel: one athlete's samples in time order -> heart rate, speed, distance, effort points, pauses, activities.

One scalar source in plain typed Python; numba compiles it when installed (`paceline[fast]`) with the same bits: all state is int64, and
the only floats (GPS displacement) use a cosine table and square root, which IEEE 754 rounds exactly. So any cut of the input gives the
same state. An athlete's sensors are fused per channel (heart rate; motion): one source counts at a time, another takes over after HOLD_US
of silence. A sample behind what its channel already holds is *late*: it is noted (LATE_FROM..LATE_TO) and the stage later runs the whole
activity again. An activity is a run of samples with no gap over GAP_US; its first sample resets every total.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any, Final

import numpy as np
import numpy.typing as npt

try:
    import numba
except ImportError:
    numba = None

COMPILED: Final = numba is not None

I64 = npt.NDArray[np.int64]

GAP_US: Final = 600_000_000  # a silence that ends an activity
HOLD_US: Final = 10_000_000  # silence of a source before another one of the athlete takes over
SPEED_HOLD_US: Final = 10_000_000  # a device speed counts at most this long
HR_HOLD_US: Final = 5_000_000  # a heart rate earns points at most this long
STILL_CMPS: Final = 50  # below 0.5 m/s nobody is under way
PAUSE_US: Final = 10_000_000  # standing this long is a pause
ANCHOR_M: Final = 5.0  # GPS-only distance grows in steps of at least this, so that noise at rest adds nothing
MAX_MPS: Final = 40.0  # a faster displacement is a GPS jump ...
MAX_JUMPS: Final = 3  # ... unless it stays there this many fixes
GATE_M: Final = 20.0  # a fix may be this far beyond what MAX_MPS allows since the last good one
MAX_ACCURACY_CM: Final = 10_000  # a position known no better than this is none
ABSENT: Final = -1
NO_POS: Final = -(1 << 31)  # absent latitude or longitude
NEVER: Final = -(1 << 62)

# columns of the state row (int64)
(
    START, LAST_T, HR_ORG, HR_RUN, HR_T, HR, MV_ORG, MV_RUN, MV_T, MV_BOOT, SPEED, DEV_DIST, LAT, LON, A_LAT, A_LON, A_T, JUMPS,
    DIST_UM, POINTS, MOVING_US, SAMPLES, HR_SUM, HR_N, HR_MAX, STILL_T, PAUSED, ANCHOR, FIX_LAT, FIX_LON, FIX_T, FIX_JUMPS,
    SOUTH, WEST, NORTH, EAST, LATE_FROM, LATE_TO, VERSION, APPENDED, WAKES, HR_REF, FRAMES, LATE_SINCE, LATE_AT,
) = range(45)  # fmt: skip
COLUMNS: Final = 48  # room for later without a new state version

METRE_PER_1E7_DEG: Final = 6371008.8 * math.pi / 180.0 * 1e-7  # IUGG mean Earth radius
_COS_STEP: Final = 100_000  # 0.01 degree in 1e-7 degree
COS: npt.NDArray[np.float64] = np.array([math.cos(math.radians(i * 0.01)) for i in range(9001)])


def fresh_row() -> I64:
    """The state of an athlete never seen: shape (COLUMNS,)."""
    row = np.zeros(COLUMNS, np.int64)
    row[:LATE_FROM] = _FRESH
    row[LATE_FROM] = -NEVER
    row[LATE_TO] = NEVER
    row[HR_REF] = 190
    return row


_FRESH: I64 = np.zeros(LATE_FROM, np.int64)
for _column in (START, LAST_T, HR_T, HR_RUN, MV_T, MV_RUN, A_T, ANCHOR, FIX_T):
    _FRESH[_column] = NEVER
for _column in (HR, SPEED, DEV_DIST, STILL_T):
    _FRESH[_column] = ABSENT
for _column in (LAT, LON, A_LAT, A_LON, FIX_LAT, FIX_LON):
    _FRESH[_column] = NO_POS
for _column in (SOUTH, WEST):
    _FRESH[_column] = -NO_POS
for _column in (NORTH, EAST):
    _FRESH[_column] = NO_POS


def _late(st: Any, t: int) -> None:
    st[LATE_FROM] = min(st[LATE_FROM], t)
    st[LATE_TO] = max(st[LATE_TO], t)


def _accepts(st: Any, t: int, org: int, c_org: int, c_run: int, c_t: int) -> int:
    """1: the channel takes this sample; 0: another source counts; -1: late.

    A new run begins when the source changes or was silent for long: what another source measured before it may have taken over, so that is
    late. At the very instant a run began the canonical order decides whose it is, so another source's sample there counts as late too.
    """
    last = st[c_t]
    if last == NEVER:
        st[c_org] = org
        st[c_run] = t
        return 1
    if org == st[c_org]:
        if t - last > HOLD_US:
            st[c_run] = t
        return 1 if t > last else -1
    if t > last:
        if t - last <= HOLD_US:
            return 0
        st[c_org] = org
        st[c_run] = t
        return 1
    return 0 if t > st[c_run] else -1


def _apply_hr(st: Any, t: int, hr: int) -> None:
    last_t, last_hr = st[HR_T], st[HR]
    if last_t != NEVER and last_hr > 0:
        dt = t - last_t
        dt = min(dt, HR_HOLD_US)
        share = last_hr * 100 // st[HR_REF]
        rate = 0
        if share >= 80:
            rate = 4
        elif share >= 50:
            rate = (share - 50) // 10 + 1
        st[POINTS] += rate * dt
    st[HR_T] = t
    st[HR] = hr
    st[HR_SUM] += hr
    st[HR_N] += 1
    st[HR_MAX] = max(st[HR_MAX], hr)


def _displacement_m(lat0: int, lon0: int, lat1: int, lon1: int, cos: Any) -> float:
    """Metres between two near positions (equirectangular; error < 0.1 % below 10 km and 85 degrees)."""
    dlon = lon1 - lon0
    if dlon > 1_800_000_000:
        dlon -= 3_600_000_000
    elif dlon < -1_800_000_000:
        dlon += 3_600_000_000
    mid = abs(lat0 + lat1) // 2 // _COS_STEP
    x = dlon * METRE_PER_1E7_DEG * cos[mid]
    y = (lat1 - lat0) * METRE_PER_1E7_DEG
    return math.sqrt(x * x + y * y)


def _gps_step_um(st: Any, t: int, lat: int, lon: int, cos: Any) -> int:
    """Distance in micrometres gained by a position when the device states neither distance nor speed; -1 when the anchor stays."""
    if st[A_LAT] == NO_POS:
        st[A_LAT], st[A_LON], st[A_T] = lat, lon, t
        return -1
    moved = _displacement_m(st[A_LAT], st[A_LON], lat, lon, cos)
    dt_s = (t - st[A_T]) * 1e-6
    if moved > MAX_MPS * dt_s + ANCHOR_M:
        st[JUMPS] += 1
        if st[JUMPS] >= MAX_JUMPS:
            st[A_LAT], st[A_LON], st[A_T], st[JUMPS] = lat, lon, t, 0
        return -1
    st[JUMPS] = 0
    if moved < ANCHOR_M:
        return -1
    st[SPEED] = int(moved / dt_s * 100.0)
    st[A_LAT], st[A_LON], st[A_T] = lat, lon, t
    return int(moved * 1e6)


def _fix(st: Any, t: int, lat: int, lon: int, acc: int, cos: Any) -> int:
    """1 when a position is believed: accurate enough, and within reach of the last good one (or a jump that lasts)."""
    if acc > MAX_ACCURACY_CM:
        return 0
    if st[FIX_T] != NEVER:
        moved = _displacement_m(st[FIX_LAT], st[FIX_LON], lat, lon, cos)
        if moved > MAX_MPS * ((t - st[FIX_T]) * 1e-6) + GATE_M:
            st[FIX_JUMPS] += 1
            if st[FIX_JUMPS] < MAX_JUMPS:
                return 0
    st[FIX_LAT], st[FIX_LON], st[FIX_T], st[FIX_JUMPS] = lat, lon, t, 0
    return 1


def _apply_motion(st: Any, t: int, same_org: bool, boot: int, lat: int, lon: int, acc: int, speed: int, dist: int, cos: Any) -> int:
    """Take a motion sample (`same_org`: of the same source as the last one); 1 when its position is believed."""
    fixed = 0
    last_t = st[MV_T]
    same = last_t != NEVER and boot == st[MV_BOOT] and same_org
    dt = t - last_t if same else 0
    gained = ABSENT
    if same and dist >= 0 and st[DEV_DIST] >= 0:
        delta_cm = dist - st[DEV_DIST]
        if 0 <= delta_cm <= 4000 * dt // 1_000_000 + 1000:
            gained = delta_cm * 10_000
    if gained < 0 and same and speed >= 0 and dist < 0:
        gained = speed * min(dt, SPEED_HOLD_US) // 100
    if lat != NO_POS and lon != NO_POS:
        step = ABSENT
        if speed < 0 and dist < 0:
            step = _gps_step_um(st, t, lat, lon, cos)
            if t - st[A_T] > PAUSE_US:
                st[SPEED] = 0
        if gained < 0:
            gained = step
        fixed = _fix(st, t, lat, lon, acc, cos)
        if fixed == 1:
            st[LAT] = lat
            st[LON] = lon
            st[SOUTH] = min(st[SOUTH], lat)
            st[WEST] = min(st[WEST], lon)
            st[NORTH] = max(st[NORTH], lat)
            st[EAST] = max(st[EAST], lon)
    if speed >= 0:
        st[SPEED] = speed
    elif dist >= 0 and gained >= 0 and dt > 0:
        st[SPEED] = gained * 100 // dt
    if gained > 0:
        st[DIST_UM] += gained
    if st[SPEED] >= STILL_CMPS:
        st[MOVING_US] += min(dt, SPEED_HOLD_US)
        st[STILL_T] = ABSENT
        st[PAUSED] = 0
    elif st[SPEED] >= 0:
        if st[STILL_T] == ABSENT:
            st[STILL_T] = t
        elif t - st[STILL_T] >= PAUSE_US:
            st[PAUSED] = 1
    st[MV_T] = t
    st[MV_BOOT] = boot
    st[DEV_DIST] = dist
    return fixed


def _sample(st: Any, t: int, org: int, boot: int, lat: int, lon: int, acc: int, speed: int, dist: int, hr: int, cos: Any) -> int:
    """Take a sample; 1 when its position is believed."""
    if st[START] != NEVER and t < st[START]:
        _late(st, t)
        return 0
    took = False
    fixed = 0
    if hr > 0:
        verdict = _accepts(st, t, org, HR_ORG, HR_RUN, HR_T)
        if verdict < 0:
            _late(st, t)
        elif verdict > 0:
            _apply_hr(st, t, hr)
            took = True
    if speed >= 0 or dist >= 0 or (lat != NO_POS and lon != NO_POS):
        same_org = st[MV_ORG] == org
        verdict = _accepts(st, t, org, MV_ORG, MV_RUN, MV_T)
        if verdict < 0:
            _late(st, t)
        elif verdict > 0:
            fixed = _apply_motion(st, t, same_org, boot, lat, lon, acc, speed, dist, cos)
            took = True
    if took:
        if st[START] == NEVER:
            st[START] = t
            st[ANCHOR] = t
        st[LAST_T] = max(st[LAST_T], t)
        st[SAMPLES] += 1
    return fixed


def _run(
    rows: Any, slots: Any, first: Any, ends: Any, t: Any, org: Any, boot: Any, lat: Any, lon: Any, acc: Any,
    speed: Any, dist: Any, hr: Any, cos: Any, fresh: Any, closed: Any, fixes: Any, at_frame: int, at_sample: int,
) -> tuple[int, int, int]:  # fmt: skip
    """Frames `at_frame..` from sample `at_sample`; rows of activities that ended go to `closed` (frame and slot in the last columns).

    `fixes` gets, for each sample whose position is believed, the start of its activity.

    Returns (frame, sample, number closed); frame == len(slots) when all is done, else `closed` is full and the caller goes on from there.
    """
    n_closed = 0
    frames = len(slots)
    while at_frame < frames:
        slot = slots[at_frame]
        st = rows[slot]
        i = max(first[at_frame], at_sample)
        while i < ends[at_frame]:
            if st[START] != NEVER and t[i] - st[LAST_T] > GAP_US:
                if n_closed == len(closed):
                    return at_frame, i, n_closed
                for c in range(COLUMNS - 2):
                    closed[n_closed][c] = st[c]
                closed[n_closed][COLUMNS - 2] = at_frame
                closed[n_closed][COLUMNS - 1] = slot
                n_closed += 1
                for c in range(LATE_FROM):
                    st[c] = fresh[c]
            if _sample(st, t[i], org[at_frame], boot[at_frame], lat[i], lon[i], acc[i], speed[i], dist[i], hr[i], cos) == 1:
                fixes[i] = st[START]
            i += 1
        at_frame += 1
    return at_frame, 0, n_closed


run: Callable[..., tuple[int, int, int]] = _run
if numba is not None:
    _jit: Any = numba.njit(cache=True, fastmath=False, error_model="numpy")
    _late = _jit(_late)
    _accepts = _jit(_accepts)
    _apply_hr = _jit(_apply_hr)
    _displacement_m = _jit(_displacement_m)
    _gps_step_um = _jit(_gps_step_um)
    _fix = _jit(_fix)
    _apply_motion = _jit(_apply_motion)
    _sample = _jit(_sample)
    run = _jit(_run)
