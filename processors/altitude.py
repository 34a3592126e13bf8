"""Altitude: the climb of a whole track, by what measured it.

A barometer follows the ground closely: smoothed (constant climb rate, forwards and backwards), then the rises between turning points of
more than `BAROMETER_M`. Altitude of a satellite receiver wanders by metres: a Gaussian of five seconds, then turning points of more than
`GNSS_M`. Of an unknown source the roughness tells. Turning points, unlike a hysteresis, lose nothing of a climb.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

import numpy as np
import numpy.typing as npt

from processors.live_kernel import I64
from processors.smoothing import Noise, smooth

BAROMETER: Final = 1
GNSS: Final = 2
MAP: Final = 3
BAROMETER_M: Final = 1.0
UNKNOWN_M: Final = 2.0  # smooth, but perhaps by a receiver's own filter
GNSS_M: Final = 10.0
MAX_CLIMB_MPS: Final = 5.0  # nobody climbs faster: such a step is a calibration
_SECOND_US: Final = 1_000_000
_NOISE: Final = Noise(agility=0.01, speed_mps=0.5, share=1.0, floor_m=0.35, unstated_m=0.35, gate=9.0, far_m=5.0, patience=5)
_VARIANCE_M2: Final = _NOISE.unstated_m * _NOISE.unstated_m
_ROUGH_DM: Final = 7  # mean second difference from which altitude of an unknown source is that of a satellite receiver


def gain_cm(t_us: I64, altitude_dm: I64, source: I64, receiver: I64) -> int:
    """Metres climbed, in centimetres, of altitudes that were measured at rising times by `receiver`s. Those of the source with most samples
    count."""
    if not len(t_us):
        return 0
    kinds, counts = np.unique(source, return_counts=True)
    kind = int(kinds[int(np.argmax(counts))])
    chosen = source == kind
    total_m = 0.0
    for of in np.unique(receiver[chosen]).tolist():
        at = np.flatnonzero(chosen & (receiver == of))
        total_m += _gain_m(t_us[at], altitude_dm[at], kind)
    return round(total_m * 100.0)


def climbed_m(values_m: Sequence[float], t_s: Sequence[float], threshold_m: float) -> float:
    """The sum of all rises of at least `threshold_m` between turning points; a step faster than `MAX_CLIMB_MPS` is no rise."""
    total = offset = 0.0
    low = high = last = values_m[0]
    rising = False
    for i in range(1, len(values_m)):
        raw = values_m[i] + offset
        if abs(raw - last) > MAX_CLIMB_MPS * (t_s[i] - t_s[i - 1]):
            offset += last - raw
            raw = last
        last = raw
        if rising:
            if raw > high:
                high = raw
            elif high - raw >= threshold_m:
                total += high - low
                low, rising = raw, False
        elif raw < low:
            low = raw
        elif raw - low >= threshold_m:
            high, rising = raw, True
    return total + (high - low if rising else 0.0)


def _gain_m(t_us: I64, altitude_dm: I64, kind: int) -> float:
    firsts = np.concatenate([[True], np.diff(t_us // _SECOND_US) > 0])
    t_us, altitude_dm = t_us[firsts], altitude_dm[firsts]
    n = len(t_us)
    if n < 3:
        return 0.0
    t_s, metres = ((t_us - t_us[0]) * 1e-6).tolist(), altitude_dm.astype(np.float64) * 0.1
    if kind == GNSS or (kind not in {BAROMETER, MAP} and _rough(altitude_dm)):
        return climbed_m(_gaussian(metres, (t_s[-1] - t_s[0]) / (n - 1)), t_s, GNSS_M)
    values, _ = smooth(t_s, metres.tolist(), [0.0] * n, [_VARIANCE_M2] * n, [True] * n, _NOISE)
    return climbed_m(values, t_s, BAROMETER_M if kind in {BAROMETER, MAP} else UNKNOWN_M)


def _rough(altitude_dm: I64) -> bool:
    return int(np.abs(np.diff(altitude_dm, 2)).sum()) > _ROUGH_DM * (len(altitude_dm) - 2)


def _gaussian(values: npt.NDArray[np.float64], interval_s: float) -> list[float]:
    """Binomial passes of variance 1/2 until the deviation is five seconds; the ends stay."""
    for _ in range(max(1, round(2.0 * 25.0 / (interval_s * interval_s)))):
        values[1:-1] = (values[:-2] + 2.0 * values[1:-1] + values[2:]) * 0.25
    return values.tolist()
