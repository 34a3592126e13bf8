"""Heart: a heart rate without dropouts, spikes and runs of the step rate, while it streams.

One state that wanders (a Kalman filter of a random walk) behind a soft gate; a rate far off is not believed: the last one holds, and
after HOLD_S of a rate that stays the new one is accepted, for then the old one was wrong. Outcomes: absent, below 25 or above 250 bpm:
a dropout, the last one holds; time not later: nothing changes. A silence over HOLD_S begins anew.
"""

from __future__ import annotations

import math
from typing import Final

from processors.kernels.columns import HEART_BPM, HEART_T, HEART_VAR
from processors.kernels.compiled import Row, compiled

SLEW: Final = 2.4  # bpm2/s
VARIANCE: Final = 1.25
GATE: Final = 8.5
FAR_D2: Final = 25.0
HOLD_S: Final = 60.0
LOWEST_BPM: Final = 25.0
HIGHEST_BPM: Final = 250.0


@compiled
def beat(row: Row, t: float, bpm: float) -> float:
    """Take a heart rate at `t` seconds; the one to believe, NaN when none is known."""
    known = row[HEART_T] == row[HEART_T]
    if t != t or (known and t <= row[HEART_T]):
        return row[HEART_BPM]
    if not LOWEST_BPM <= bpm <= HIGHEST_BPM:
        if known and t - row[HEART_T] > HOLD_S:
            row[HEART_T] = row[HEART_BPM] = math.nan
        return row[HEART_BPM]
    if not known or t - row[HEART_T] > HOLD_S:
        row[HEART_T], row[HEART_BPM], row[HEART_VAR] = t, bpm, VARIANCE
        return bpm
    var = row[HEART_VAR] + SLEW * (t - row[HEART_T])
    off = bpm - row[HEART_BPM]
    s = var + VARIANCE
    if off * off > FAR_D2 * s:
        return row[HEART_BPM]  # its time stands still: the variance grows, and with HOLD_S the rate begins anew
    if off * off > GATE * s:
        s = off * off / GATE
    gain = var / s
    row[HEART_T] = t
    row[HEART_BPM] += gain * off
    row[HEART_VAR] = var - gain * var
    return row[HEART_BPM]
