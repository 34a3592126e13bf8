"""Smoothing: the positions of a whole activity in the light of all that came before and after, by the kernels of `processors/kernels`.

Positions go through the filter of the sport in one plane, and backwards (`kernels.whole`); so do altitudes (`kernels.level`). Compiled or
not, the same bits. A fix the filter refused stands where the filter sees the athlete, but where a jump lasted, those before it was
believed belong behind it.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from processors.geometry import METRE_PER_UNIT, plane_at
from processors.kernels.columns import LAST_SPEED, fresh_row
from processors.kernels.compiled import COMPILED
from processors.kernels.level import LEVEL_STEP, level
from processors.kernels.position import REFUSED, STEP, WHOLE_RIDE, WHOLE_RUN
from processors.kernels.whole import smooth_whole
from processors.live_kernel import I64

F64 = npt.NDArray[np.float64]

NO_SPEED: Final = -(2**31)
NEAR_POLE: Final = 890_000_000  # nearer to a pole the plane is none: such a track stays as it is
BLOCK: Final = 2_048  # samples noted at a time: 1.3 MB
TUNINGS: Final = {"ride": WHOLE_RIDE}  # any other sport goes on foot, or about as fast
UNSTATED_CM: Final = 150  # a receiver that states no accuracy has filtered its positions itself: they are changed little
_BELONGS: Final = 4.0  # a refused fix lies behind a jump when it is so many times nearer to what follows than to what was before
_HALF_TURN: Final = 1_800_000_000
_TURN: Final = 3_600_000_000


@dataclass(frozen=True, slots=True)
class Smoothed:
    """Parallel columns: positions in 1e-7 degrees, velocities to the north and east in mm/s (NO_SPEED where none is known)."""

    lat: I64
    lon: I64
    north_mmps: I64
    east_mmps: I64


def smooth_positions(t_us: I64, lat: I64, lon: I64, accuracy_cm: I64, speed_cmps: I64, sport: str) -> Smoothed:
    """Smooth positions in 1e-7 degrees at strictly rising times; `accuracy_cm` and `speed_cmps` are -1 where not stated."""
    n = len(t_us)
    if n < 3 or int(np.abs(lat).max()) > NEAR_POLE:
        unknown = np.full(n, NO_SPEED, np.int64)
        return Smoothed(lat, lon, unknown, unknown)
    plane = plane_at(int(lat[0]), int(lon[0]), (int(lat.min()) + int(lat.max())) // 2)
    east: F64 = _wrapped(lon - lon[0]) * np.float64(plane.east_m)
    north: F64 = (lat - lat[0]) * np.float64(METRE_PER_UNIT)
    seconds: F64 = (t_us - t_us[0]) * np.float64(1e-6)
    accuracy_cm = np.where(accuracy_cm >= 0, accuracy_cm, UNSTATED_CM)
    columns = (seconds, east, north, _stated(accuracy_cm), _stated(speed_cmps))
    made, outcomes = _whole(columns, TUNINGS.get(sport, WHOLE_RUN))
    x, y, v, w = made.T
    for i in np.flatnonzero(outcomes == REFUSED)[::-1].tolist():
        _behind_a_jump(i, east, north, x, y, outcomes)
    new_lat = lat[0] + np.rint(y / METRE_PER_UNIT).astype(np.int64)
    new_lon = _wrapped(lon[0] + np.rint(x / plane.east_m).astype(np.int64))
    return Smoothed(np.clip(new_lat, -900_000_000, 900_000_000), new_lon, _mmps(w), _mmps(v))


def smooth_level(t_s: Sequence[float], values: Sequence[float], *, agility: float, variance: float, gate: float, far: float) -> list[float]:
    """Values at rising seconds, smoothed (`kernels.level`)."""
    n = len(t_s)
    given: Any = (t_s, values)
    steps: Any = [[0.0] * LEVEL_STEP for _ in range(n)]
    if COMPILED:
        given, steps = [np.array(column, np.float64) for column in given], np.zeros((n, LEVEL_STEP))
    _level(*given, n, agility, variance, gate, far, steps)
    return [float(step[0]) for step in steps]


def warm_up() -> None:
    """Compile (or load the cached) smoothers before the first activity is finished."""
    still = np.zeros(3)
    _whole((np.arange(3.0), still, still, still, still), WHOLE_RUN)
    smooth_level((0.0, 1.0), (0.0, 0.0), agility=0.01, variance=0.1, gate=9.0, far=5.0)


def _whole(columns: Sequence[F64], tuning: Sequence[float]) -> tuple[F64, F64]:
    """East, north and their speeds, shape (n, 4), and the outcome of each sample."""
    n = len(columns[0])
    block = min(n, BLOCK)
    shapes = (-(-n // block), LAST_SPEED + 1), (block, STEP), (block, 4), (n, 4)
    if COMPILED:
        starts, journal, scratch, made = (np.zeros(shape) for shape in shapes)
        outcomes: Any = np.zeros(n)
        _kernel(*columns, n, np.array(tuning), block, starts, np.array(fresh_row()), journal, scratch, np.zeros(6), made, outcomes)
        return made, outcomes
    starts, journal, scratch, made = ([[0.0] * width for _ in range(rows)] for rows, width in shapes)
    outcomes = [0.0] * n
    _kernel(*(c.tolist() for c in columns), n, tuning, block, starts, fresh_row(), journal, scratch, [0.0] * 6, made, outcomes)
    return np.array(made), np.array(outcomes)


_kernel: Callable[..., None] = smooth_whole  # these take arrays when compiled, lists when not
_level: Callable[..., None] = level


def _behind_a_jump(i: int, east: F64, north: F64, x: F64, y: F64, outcomes: F64) -> None:
    """Put a refused fix where it was measured when it agrees with the next place and not with the one before it."""
    if i == 0 or i + 1 == len(x):
        return
    before = i - 1
    while before > 0 and outcomes[before] == REFUSED:
        before -= 1
    to_next = (east[i] - x[i + 1]) * (east[i] - x[i + 1]) + (north[i] - y[i + 1]) * (north[i] - y[i + 1])
    to_last = (east[i] - x[before]) * (east[i] - x[before]) + (north[i] - y[before]) * (north[i] - y[before])
    if to_next * (_BELONGS * _BELONGS) <= to_last:
        x[i], y[i] = east[i], north[i]


def _stated(values: I64) -> F64:
    """Hundredths as units, absent as NaN."""
    return np.where(values >= 0, values * 0.01, np.nan)


def _mmps(speed: F64) -> I64:
    return np.rint(np.clip(speed * 1000.0, -1e9, 1e9)).astype(np.int64)


def _wrapped(lon: I64) -> I64:
    return (lon + _HALF_TURN) % _TURN - _HALF_TURN
