"""Level: a measured value that changes steadily, over a whole recording: filtered forwards, then smoothed backwards.

The filter is that of `climb` (value and rate, white acceleration, soft gate); the smoother of Rauch, Tung and Striebel (Maximum likelihood
estimates of linear dynamic systems, AIAA Journal 3(8), 1965). A value out of all proportion is passed over; PATIENCE of them running that
agree begin a new piece, as a silence over SILENCE_S does.
"""

from __future__ import annotations

from typing import Final

from processors.kernels.backwards import Steps
from processors.kernels.compiled import Row, compiled

SILENCE_S: Final = 60.0
FAR_D2: Final = 100.0
PATIENCE: Final = 5
RATE_VAR: Final = 0.25  # of a rate not known yet

# columns of a step: value, rate, their covariance
VALUE, RATE, VV, VR, RR = range(5)
LEVEL_STEP: Final = 5


@compiled
def level(t: Row, value: Row, n: int, agility: float, variance: float, gate: float, far: float, steps: Steps) -> None:
    """Smoothed values and rates of `n` values at rising seconds into the first two columns of `steps` (rows of LEVEL_STEP floats).

    `agility` is the density of the acceleration (units2/s3), `variance` that of a value; `gate` a squared deviation in units of the
    variance; values more than `far` off may be passed over.
    """
    start = 0
    while start < n:
        end = _forwards(t, value, n, agility, variance, gate, far, steps, start)
        _backwards(t, agility, steps, start, end)
        start = end


@compiled
def _forwards(t: Row, value: Row, n: int, agility: float, variance: float, gate: float, far: float, steps: Steps, start: int) -> int:
    """Filter a piece, at least one value; where the next one begins."""
    at = steps[start]
    at[VALUE], at[RATE], at[VV], at[VR], at[RR] = value[start], 0.0, variance, 0.0, RATE_VAR
    refused = 0
    for i in range(start + 1, n):
        dt = t[i] - t[i - 1]
        if dt > SILENCE_S:
            return i
        before, at = steps[i - 1], steps[i]
        z, r = before[VALUE] + dt * before[RATE], before[RATE]
        p00 = before[VV] + dt * (2.0 * before[VR] + dt * before[RR]) + agility * dt * dt * dt / 3.0
        p01 = before[VR] + dt * before[RR] + agility * dt * dt / 2.0
        p11 = before[RR] + agility * dt
        off = value[i] - z
        s = p00 + variance
        if off * off > FAR_D2 * s and abs(off) > far:
            refused += 1
            if refused == PATIENCE:
                return i - refused + 1
        else:
            refused = 0
            if off * off > gate * s:
                s = off * off / gate
            k0, k1 = p00 / s, p01 / s
            z += k0 * off
            r += k1 * off
            p11 -= k1 * p01
            p01 -= k0 * p01
            p00 -= k0 * p00
        at[VALUE], at[RATE], at[VV], at[VR], at[RR] = z, r, p00, p01, p11
    return n


@compiled
def _backwards(t: Row, agility: float, steps: Steps, start: int, end: int) -> None:
    """Smooth a piece in its place, from its last value to its first."""
    for i in range(end - 2, start - 1, -1):
        at, after = steps[i], steps[i + 1]
        dt = t[i + 1] - t[i]
        a, b = at[VV] + dt * at[VR], at[VR] + dt * at[RR]
        p00 = a + dt * b + agility * dt * dt * dt / 3.0
        p01 = b + agility * dt * dt / 2.0
        p11 = at[RR] + agility * dt
        det = p00 * p11 - p01 * p01
        if det <= 0.0:
            continue
        off, turn = after[VALUE] - at[VALUE] - dt * at[RATE], after[RATE] - at[RATE]
        at[VALUE] += ((a * p11 - at[VR] * p01) * off + (at[VR] * p00 - a * p01) * turn) / det
        at[RATE] += ((b * p11 - at[RR] * p01) * off + (at[RR] * p00 - b * p01) * turn) / det
