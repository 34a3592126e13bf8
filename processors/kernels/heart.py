"""Heart: a heart rate without dropouts, spikes and runs of the step rate, while it streams.

A Kalman filter of two states, the rate and a trend that dies away (Brown and Hwang, Introduction to Random Signals, 2012, sections 3.9
and 5.5), behind a soft gate. A heart does not jump: a rate far off is held back, and while the next ones go on from it (a lock on the
step rate does) it stays so, until HOLD_S without any other; then the old one was wrong. One that does not go on from it is believed as
soon as a heart could have come there. A rate that stands still for FROZEN_S says nothing new. Outcomes: absent, below 25 or above 250 bpm:
a dropout, the trend goes on; time not later: nothing changes. A silence over HOLD_S begins anew.
"""

from __future__ import annotations

import math
from typing import Final

from processors.kernels.columns import (
    HEART_AT,
    HEART_BPM,
    HEART_COV,
    HEART_OTHER_BPM,
    HEART_SAME_T,
    HEART_STATED_BPM,
    HEART_T,
    HEART_TREND,
    HEART_TREND_VAR,
    HEART_VAR,
)  # fmt: skip
from processors.kernels.compiled import Row, compiled

# found on seeds 9000-9149 of benchmarks/accuracy/hearts.py
WANDER: Final = 0.22  # of the rate, bpm2/s
TREND_WANDER: Final = 0.024  # (bpm/s)2/s
TREND_S: Final = 8.3  # in which a trend dies away
VARIANCE: Final = 0.95  # bpm2 of a stated rate
GATE: Final = 11.0
FAR_D2: Final = 8.35
SLEW: Final = 9.1  # bpm2 a heart may have moved in a second unseen
NEAR_BPM: Final = 2.2  # a rate goes on from another
FROZEN_S: Final = 5.0
HOLD_S: Final = 90.0  # longer than a lock on the step rate lasts
LOWEST_BPM: Final = 25.0
HIGHEST_BPM: Final = 250.0


@compiled
def beat(row: Row, t: float, bpm: float) -> float:
    """Take a heart rate at `t` seconds; the one to believe, NaN when none is known."""
    if t != t or (row[HEART_AT] == row[HEART_AT] and t <= row[HEART_AT]):
        return row[HEART_BPM]
    if row[HEART_T] == row[HEART_T] and t - row[HEART_T] > HOLD_S:
        row[HEART_T] = row[HEART_BPM] = math.nan
    dt = t - row[HEART_AT]
    row[HEART_AT] = t
    known = row[HEART_T] == row[HEART_T]
    if known:
        _go_on(row, dt)
    if not LOWEST_BPM <= bpm <= HIGHEST_BPM:
        row[HEART_OTHER_BPM] = row[HEART_STATED_BPM] = math.nan
        return row[HEART_BPM]
    if bpm != row[HEART_STATED_BPM]:
        row[HEART_STATED_BPM] = bpm
        row[HEART_SAME_T] = t
    if not known:
        row[HEART_T], row[HEART_BPM], row[HEART_VAR] = t, bpm, VARIANCE
        row[HEART_TREND], row[HEART_COV], row[HEART_TREND_VAR] = 0.0, 0.0, 10.0 * TREND_WANDER
        row[HEART_OTHER_BPM] = math.nan
    else:
        _hear(row, t, bpm, 1 if t - row[HEART_SAME_T] >= FROZEN_S and dt < FROZEN_S else 0)
    return row[HEART_BPM]


@compiled
def _go_on(row: Row, dt: float) -> None:
    """Carry the state on; exp(-u) is 1 / (1 + u + u2/2), near enough here."""
    u = dt / TREND_S
    keep = 1.0 / (1.0 + u + u * u / 2.0)
    reach = TREND_S * (1.0 - keep)
    row[HEART_BPM] += reach * row[HEART_TREND]
    row[HEART_TREND] *= keep
    row[HEART_VAR] += reach * (2.0 * row[HEART_COV] + reach * row[HEART_TREND_VAR]) + WANDER * dt
    row[HEART_COV] = keep * (row[HEART_COV] + reach * row[HEART_TREND_VAR])
    row[HEART_TREND_VAR] = keep * keep * row[HEART_TREND_VAR] + TREND_WANDER * dt


@compiled
def _hear(row: Row, t: float, bpm: float, frozen: int) -> None:
    """Believe a rate, or hold it back; of a frozen one only that it still is where the state is."""
    off = bpm - row[HEART_BPM]
    s = row[HEART_VAR] + VARIANCE
    if off * off > FAR_D2 * s:
        if abs(bpm - row[HEART_OTHER_BPM]) < NEAR_BPM:
            row[HEART_OTHER_BPM] += 0.3 * (bpm - row[HEART_OTHER_BPM])
            return
        unseen = SLEW * max(t - row[HEART_T] - 1.0, 0.0)
        if off * off > FAR_D2 * (s + unseen):
            row[HEART_OTHER_BPM] = bpm
            return
        row[HEART_VAR] += unseen
        s += unseen
    row[HEART_OTHER_BPM] = math.nan
    row[HEART_T] = t
    if frozen == 1:
        return
    if off * off > GATE * s:
        s = off * off / GATE
    k_rate, k_trend = row[HEART_VAR] / s, row[HEART_COV] / s
    row[HEART_BPM] += k_rate * off
    row[HEART_TREND] += k_trend * off
    row[HEART_TREND_VAR] -= k_trend * row[HEART_COV]
    row[HEART_COV] -= k_rate * row[HEART_COV]
    row[HEART_VAR] -= k_rate * row[HEART_VAR]
