"""Altitude: the climb of a whole track, by what measured it.

A barometer follows the ground closely: smoothed in time (steady rate of climb, forwards and backwards), then the rises between turning
points of more than `BAROMETER_M`. Altitude of a satellite receiver wanders by metres in a minute, however far one goes in it: averaged
over the way, with a Gaussian of `GNSS_WAY_M`, for hills are as long on foot as by bike; then turning points of more than `GNSS_M`. Of an
unknown source the roughness tells. Turning points, unlike a hysteresis, lose nothing of a climb.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

import numpy as np
import numpy.typing as npt

from processors.live_kernel import I64
from processors.smoothing import smooth_level

F64 = npt.NDArray[np.float64]

BAROMETER: Final = 1
GNSS: Final = 2
MAP: Final = 3
BAROMETER_M: Final = 1.0
UNKNOWN_M: Final = 2.0  # smooth, but perhaps by a receiver's own filter
GNSS_WAY_M: Final = 30.0  # this and the next found on seeds 9000-9059 of the generator (benchmarks/accuracy)
GNSS_M: Final = 6.0
MAX_CLIMB_MPS: Final = 5.0  # nobody climbs faster: such a step is a calibration
_STEEPEST: Final = 0.5  # nobody goes up a steeper way
_SECOND_US: Final = 1_000_000
_CELL_M: Final = 10.0
_CELL_UM: Final = 10_000_000
_PASSES: Final = round(2.0 * GNSS_WAY_M * GNSS_WAY_M / (_CELL_M * _CELL_M))  # each of variance 1/2
_DEVIATION_M: Final = 0.35
_AGILITY: Final = 0.01  # m2/s3
_GATE: Final = 9.0
_FAR_M: Final = 5.0
_ROUGH_DM: Final = 7  # mean second difference from which altitude of an unknown source is that of a satellite receiver


def gain_cm(t_us: I64, altitude_dm: I64, source: I64, receiver: I64, way_um: I64) -> int:
    """Metres climbed, in centimetres, of altitudes that were measured at rising times by `receiver`s, `way_um` from the start. Those of the
    source with most samples count."""
    if not len(t_us):
        return 0
    kinds, counts = np.unique(source, return_counts=True)
    kind = int(kinds[int(np.argmax(counts))])
    chosen = source == kind
    total_m = 0.0
    for of in np.unique(receiver[chosen]).tolist():
        at = np.flatnonzero(chosen & (receiver == of))
        total_m += _gain_m(t_us[at], altitude_dm[at], way_um[at], kind)
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


def _gain_m(t_us: I64, altitude_dm: I64, way_um: I64, kind: int) -> float:
    firsts = np.concatenate([[True], np.diff(t_us // _SECOND_US) > 0])
    t_us, altitude_dm, way_um = t_us[firsts], altitude_dm[firsts], way_um[firsts]
    if len(t_us) < 3:
        return 0.0
    if kind == GNSS or (kind not in {BAROMETER, MAP} and _rough(altitude_dm)):
        return _over_the_way_m(altitude_dm, (way_um - way_um[0]) // _CELL_UM)
    t_s, metres = ((t_us - t_us[0]) * 1e-6).tolist(), (altitude_dm * 0.1).tolist()
    values = smooth_level(t_s, metres, agility=_AGILITY, variance=_DEVIATION_M * _DEVIATION_M, gate=_GATE, far=_FAR_M)
    return climbed_m(values, t_s, BAROMETER_M if kind in {BAROMETER, MAP} else UNKNOWN_M)


def _rough(altitude_dm: I64) -> bool:
    return int(np.abs(np.diff(altitude_dm, 2)).sum()) > _ROUGH_DM * (len(altitude_dm) - 2)


def _over_the_way_m(altitude_dm: I64, cell: I64) -> float:
    """The climb of cells of the way (rising numbers): of each the mean, between them straight lines, then the Gaussian."""
    cells, first = np.unique(cell, return_index=True)
    sums = np.add.reduceat(altitude_dm, first)
    means = sums / (np.diff(np.append(first, len(cell))) * 10.0)
    n = int(cells[-1]) + 1
    at = np.minimum(np.searchsorted(cells, np.arange(n), "right") - 1, max(len(cells) - 2, 0))
    after = np.minimum(at + 1, len(cells) - 1)
    share = (np.arange(n) - cells[at]) / np.maximum(cells[after] - cells[at], 1)
    line: F64 = means[at] + (means[after] - means[at]) * share
    for _ in range(_PASSES):  # binomial; the ends stay
        line[1:-1] = (line[:-2] + 2.0 * line[1:-1] + line[2:]) * 0.25
    steps = np.arange(n) * (_CELL_M * _STEEPEST / MAX_CLIMB_MPS)  # as if each cell took the time of its steepest climb
    return climbed_m(line.tolist(), steps.tolist(), GNSS_M)
