"""The kernels give the same bits from numba, the interpreter and C, whatever comes and however it is cut."""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from benchmarks.c_twin import compiler, library
from benchmarks.kernel import MODULES, TUNINGS, by_c, by_numba, frames, same_bits
from processors.kernels import athlete, backwards, channels, level, whole
from processors.kernels import columns as c
from processors.kernels.columns import COLUMNS, fresh_row
from processors.kernels.compiled import COMPILED, SOURCES
from processors.kernels.load import MAN, exponential
from processors.kernels.plane import cosine
from processors.kernels.position import RIDE, RIDE_UNSTATED, RUN_UNSTATED, STEP, WHOLE_RIDE, feed
from tests.plain_kernels import plain

ATHLETES = 4

Tunings = tuple[Sequence[float], ...]


def rough(seconds: int = 240) -> tuple[np.ndarray, np.ndarray, list[np.ndarray]]:
    """Frames with everything in them that a device may say: absences, repeats, steps back in time, spikes, nonsense."""
    slots, ends, columns = frames(ATHLETES, seconds)
    rng = np.random.default_rng(3)
    n = len(columns[0])
    for column in columns[1:]:
        column[rng.random(n) < 0.15] = np.nan
        column[rng.random(n) < 0.02] = 0.0
        column[rng.random(n) < 0.02] *= 30.0
        column[rng.random(n) < 0.01] = np.inf
        column[rng.random(n) < 0.01] = -1e300
    columns[0][rng.random(n) < 0.02] -= 40.0
    columns[0][rng.random(n) < 0.01] = np.nan
    columns[0][n // 2 :] += 200.0
    return slots, ends, columns


def unstated() -> tuple[np.ndarray, np.ndarray, list[np.ndarray]]:
    """`rough` of devices that state hardly any speed, with reflections."""
    slots, ends, columns = rough()
    rng = np.random.default_rng(5)
    columns[4][rng.random(len(columns[4])) < 0.95] = np.nan
    columns[2][rng.random(len(columns[2])) < 0.2] += 4_000.0
    return slots, ends, columns


def by_lists(given: tuple[np.ndarray, np.ndarray, list[np.ndarray]], tunings: Tunings) -> np.ndarray:
    (module,) = plain("athlete")
    rows = [fresh_row() for _ in range(ATHLETES)]
    slots, ends, columns = given
    module.run(rows, slots.tolist(), ends.tolist(), len(slots), *tunings, *(column.tolist() for column in columns))
    return np.array(rows)


@pytest.mark.parametrize(
    ("given", "way"),
    [(frames(ATHLETES, 240), RIDE), (rough(), RIDE), (unstated(), RIDE_UNSTATED), (unstated(), RUN_UNSTATED)],
    ids=["clean", "rough", "unstated ride", "unstated run"],
)
def test_compiled_plain_and_c_leave_the_same_rows(
    given: tuple[np.ndarray, np.ndarray, list[np.ndarray]], way: Sequence[float], tmp_path: Path
) -> None:
    assert COMPILED
    tunings = (way, *TUNINGS[1:])
    rows, _ = by_numba(ATHLETES, *given, tunings)
    assert same_bits(rows, by_lists(given, tunings))
    if compiler() is not None:
        assert same_bits(rows, by_c(library(MODULES, "run", tmp_path), ATHLETES, *given, tunings)[0])


def test_any_cut_into_batches_leaves_the_same_rows() -> None:
    slots, ends, columns = rough()
    whole, _ = by_numba(ATHLETES, slots, ends, columns)
    rows = np.tile(np.array(fresh_row()), (ATHLETES, 1))
    tunings = [np.array(tuning) for tuning in TUNINGS]
    for i, slot in enumerate(slots.tolist()):
        at = slice(0 if i == 0 else int(ends[i - 1]), int(ends[i]))
        for k in range(at.start, at.stop):
            athlete.run(rows, np.array([slot]), np.array([1.0]), 1, *tunings, *(column[k : k + 1] for column in columns))
    assert same_bits(whole, rows)


def test_whatever_comes_no_sum_is_lost_to_nonsense() -> None:
    rows, _ = by_numba(ATHLETES, *rough())
    known = [c.T, c.X, c.Y, c.V, c.W, c.XX, c.YY, c.DISTANCE_M, c.MOVING_S, c.ALT_M, c.GAIN_M, c.TRIMP, c.WORK_J, c.FOURTHS, c.BEAT_SQUARES]
    assert np.isfinite(rows[:, known]).all()
    assert (rows[:, [c.XX, c.YY, c.VV, c.WW, c.BB, c.CC, c.ALT_VAR]] > 0).all()
    assert (rows[:, c.DISTANCE_M] < 40_000).all()


def test_a_compiled_kernel_is_kept_only_while_no_kernel_changes() -> None:
    for kernel in (athlete.run, feed, backwards.smooth):
        assert kernel._cache._cache_file._source_stamp[-1] == SOURCES


def test_the_row_of_an_athlete_is_a_kibibyte() -> None:
    assert COLUMNS * 8 == 1024
    assert len(fresh_row()) == COLUMNS


def test_smoothing_is_the_same_compiled_and_plain() -> None:
    *_, columns = rough(120)
    t, lat, lon, accuracy, speed = (column[:400] for column in columns[:5])
    order = np.argsort(t, kind="stable")
    east, north = (lon[order] - 7e7) * 0.0077, (lat[order] - 46e7) * 0.0111
    given = [t[order], east, north, accuracy[order], speed[order]]
    made: list[np.ndarray] = []
    for fed, back, tuning, arrays in ((feed, backwards.smooth, np.array(TUNINGS[0]), True), (*_plain_pair(), TUNINGS[0], False)):
        n = len(t)
        row: object = np.array(fresh_row()) if arrays else fresh_row()
        journal: object = np.zeros((n, STEP)) if arrays else [[0.0] * STEP for _ in range(n)]
        out: object = np.zeros((n, 4)) if arrays else [[0.0] * 4 for _ in range(n)]
        kept = 0
        for i in range(n):
            if fed(row, tuning, *(float(column[i]) for column in given), journal[kept], 1) not in {0, 1} or journal[kept][27]:
                kept += 1
            kept = min(kept, n - 1)
        back(journal, 0, kept - 1, out, np.zeros(6) if arrays else [0.0] * 6)
        made.append(np.array(out)[:kept])
    assert same_bits(*made)
    assert np.isfinite(made[0]).all()


def _plain_pair() -> tuple[object, object]:
    position, back = plain("position", "backwards")
    return position.feed, back.smooth


def _rows(arrays: bool, rows: int, width: int) -> Any:
    return np.zeros((rows, width)) if arrays else [[0.0] * width for _ in range(rows)]


def test_whole_tracks_are_the_same_compiled_and_plain_and_in_any_blocks() -> None:
    *_, columns = frames(1, 600)
    t, lat, lon, accuracy, speed = columns[:5]
    rng = np.random.default_rng(4)
    east, north = (lon - 7e7) * 0.0077, (lat - 46e7) * 0.0111
    east[rng.random(len(t)) < 0.02] += 300.0
    east[300:] += 5_000.0
    speed[rng.random(len(t)) < 0.3] = np.nan
    accuracy[rng.random(len(t)) < 0.1] = np.nan
    t = np.cumsum(np.where(rng.random(len(t)) < 0.01, 70.0, np.where(rng.random(len(t)) < 0.1, 0.1, 1.0)))
    n = len(t)
    made: list[np.ndarray] = []
    for module, arrays, block in ((whole, True, 64), (whole, True, n), (plain("whole")[0], False, 100)):
        given = [column if arrays else column.tolist() for column in (t, east, north, accuracy, speed)]
        row, tuning = (np.array(of) if arrays else list(of) for of in (fresh_row(), WHOLE_RIDE))
        starts, journal, scratch, out = (_rows(arrays, rows, width) for rows, width in ((n, 40), (block, STEP), (block, 4), (n, 4)))
        outcomes: Any = np.zeros(n) if arrays else [0.0] * n
        zeros: Any = np.zeros(6) if arrays else [0.0] * 6
        module.smooth_whole(*given, n, tuning, block, starts, row, journal, scratch, zeros, out, outcomes)
        made.append(np.column_stack([np.array(out), np.array(outcomes)]))
    assert same_bits(made[0], made[1])
    assert same_bits(made[0], made[2])
    assert np.isfinite(made[0]).all()
    assert {int(outcome) for outcome in made[0][:, 4]} >= {2, 3, 5}


def test_levels_are_the_same_compiled_and_plain() -> None:
    rng = np.random.default_rng(6)
    n = 500
    t = np.cumsum(np.where(rng.random(n) < 0.01, 100.0, 1.0))
    value = 300 + np.cumsum(rng.normal(0, 0.3, n)) + np.where(rng.random(n) < 0.02, 80.0, 0.0)
    value[250:] += 50.0
    compiled_, plain_ = (_rows(arrays, n, level.LEVEL_STEP) for arrays in (True, False))
    level.level(t, value, n, 0.01, 0.12, 9.0, 5.0, compiled_)
    plain("level")[0].level(t.tolist(), value.tolist(), n, 0.01, 0.12, 9.0, 5.0, plain_)
    assert same_bits(compiled_, np.array(plain_))


def test_whole_channels_are_the_same_compiled_and_plain() -> None:
    *_, columns = rough()
    t, bpm, rr_ms, watts = (columns[i][:1_500] for i in (0, 6, 7, 8))
    made: list[np.ndarray] = []
    for module, arrays in ((channels, True), (plain("channels")[0], False)):
        row: Any = np.array(fresh_row()) if arrays else fresh_row()
        of = [column if arrays else column.tolist() for column in (t, bpm, rr_ms, watts)]
        hearts, powers = (np.zeros(len(t)) if arrays else [0.0] * len(t) for _ in range(2))
        module.hearts(row, np.array(MAN) if arrays else list(MAN), of[0], of[1], len(t), hearts)
        module.intervals(row, of[0], of[2], len(t))
        module.powers(row, of[0], of[3], len(t), powers)
        made.append(np.concatenate([np.array(row), np.array(hearts), np.array(powers)]))
    assert same_bits(*made)


def test_series_stand_for_the_functions_of_the_library() -> None:
    for i in range(91):
        assert abs(cosine(i * 1e7) - math.cos(math.radians(i))) < 1e-9
    for i in range(41):
        assert abs(exponential(i / 10) / math.exp(i / 10) - 1) < 1e-7
