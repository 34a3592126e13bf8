"""Ours over a recording: the very kernels of the live stage, and what finishing makes of their journal."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

import numpy as np

from benchmarks.accuracy.tracks import Array, Recording
from processors.kernels.backwards import smooth, smooth_lagged
from processors.kernels.columns import DISTANCE_M, SPEED_MPS, V, W, X, Y, fresh_row
from processors.kernels.compiled import compiled
from processors.kernels.position import RIDE, RIDE_UNSTATED, RUN, RUN_UNSTATED, STEP, WHOLE_RIDE, WHOLE_RUN, feed
from processors.kernels.travel import filtered_mps, move

WAYS: Final = {("run", True): RUN, ("ride", True): RIDE, ("run", False): RUN_UNSTATED, ("ride", False): RIDE_UNSTATED}
WHOLE: Final = {"run": WHOLE_RUN, "ride": WHOLE_RIDE}
LAG_S: Final = 5.0


@dataclass(frozen=True, slots=True)
class Filtered:
    """Parallel columns: position (m), velocity (m/s), speed; and the distance at the end (m)."""

    east_m: Array
    north_m: Array
    velocity_east_mps: Array
    velocity_north_mps: Array
    speed_mps: Array
    distance_m: float


@compiled
def _filter(row: Array, way: Array, columns: Array, with_speed: bool, journal: Array, out: Array) -> None:
    for i in range(columns.shape[1]):
        stated = columns[4, i] if with_speed else np.nan
        feed(row, way, columns[0, i], columns[1, i], columns[2, i], columns[3, i], stated, journal[i], 1)
        move(row, columns[0, i], stated if with_speed else filtered_mps(row, way))
        out[i, 0], out[i, 1], out[i, 2], out[i, 3] = row[X], row[Y], row[V], row[W]
        out[i, 4] = np.sqrt(row[V] * row[V] + row[W] * row[W]) if with_speed else row[SPEED_MPS]
    out[0, 5] = row[DISTANCE_M]


class Ours:
    """The filter over a recording of a sport, with its stated speed or without."""

    def __init__(self, seen: Recording, sport: str, *, with_speed: bool, way: tuple[float, ...] | None = None) -> None:
        self._columns = np.array([seen.t_s, seen.east_m, seen.north_m, seen.accuracy_m, seen.speed_mps])
        self._sport, self._with_speed, self._t_s = sport, with_speed, np.ascontiguousarray(seen.t_s)
        self._journal, self._live = self._run(way or WAYS[sport, with_speed])

    def live(self) -> Filtered:
        """What is known at each sample when it comes."""
        x, y, v, w, speed, _ = self._live.T.copy()
        return Filtered(x, y, v, w, speed, self._distance_m)

    def lagged(self) -> Filtered:
        """What is known five seconds later."""
        out, scratch = np.zeros((len(self._t_s), 4)), np.zeros((len(self._t_s), 4))
        smooth_lagged(self._journal, self._t_s, len(self._t_s), LAG_S, out, scratch, np.zeros(6))
        return self._of(out)

    def final(self, way: tuple[float, ...] | None = None) -> Filtered:
        """What is known at the end: the whole track filtered for that purpose, and smoothed backwards."""
        journal, _ = self._run(way or WHOLE[self._sport])
        out = np.zeros((len(self._t_s), 4))
        smooth(journal, 0, len(self._t_s) - 1, out, np.zeros(6))
        return self._of(out)

    @property
    def _distance_m(self) -> float:
        return float(self._live[0, 5])

    def _run(self, way: tuple[float, ...]) -> tuple[Array, Array]:
        journal, live = np.zeros((len(self._t_s), STEP)), np.zeros((len(self._t_s), 6))
        _filter(np.array(fresh_row()), np.array(way), self._columns, self._with_speed, journal, live)
        return journal, live

    def _of(self, out: Array) -> Filtered:
        x, y, v, w = out.T.copy()
        return Filtered(x, y, v, w, np.hypot(v, w), self._distance_m)
