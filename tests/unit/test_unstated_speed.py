"""The position filter of a device that states no speed, and what it makes of reflections: the usual speed, the bias that jumps."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from processors import live_row
from processors.kernels import columns as c
from processors.kernels import position
from processors.kernels.compiled import Row
from processors.live_motion import WAYS, tuning

NAN = math.nan
TUNINGS = {name: np.array(getattr(position, name)) for name in ("RUN", "RIDE", "RUN_UNSTATED", "RIDE_UNSTATED", "WHOLE_RUN", "WHOLE_RIDE")}


def row() -> Row:
    return np.array(c.fresh_row())


def fed(of: Row, way: np.ndarray, t: float, east: float, north: float, accuracy: float = 6.0, speed: float = NAN) -> None:
    position.feed(of, way, t, east, north, accuracy, speed, of, 0)


def speed_of(of: Row) -> float:
    return math.hypot(of[c.V], of[c.W])


def without(way: np.ndarray, *columns: int) -> np.ndarray:
    made = way.copy()
    made[list(columns)] = 0.0
    return made


def reflected(way: np.ndarray) -> tuple[list[float], list[float]]:
    """A run east at 3 m/s for two minutes, then 20 s of reflections from walls to the north and in front: how far off the speed and the
    way to the north are while they last."""
    of, rng = row(), np.random.default_rng(4)
    off_mps: list[float] = []
    off_m: list[float] = []
    for i in range(140):
        reflection = min(i - 119, 3) * 5.0 + rng.normal(0.0, 2.0) if i >= 120 else 0.0
        fed(of, way, float(i), 3.0 * i + reflection + rng.normal(0.0, 0.3), reflection + rng.normal(0.0, 0.3))
        if i >= 120:
            off_mps.append(abs(speed_of(of) - 3.0))
            off_m.append(abs(of[c.Y]))
    return off_mps, off_m


def test_a_speed_that_is_not_stated_stays_near_the_usual_one_in_reflections() -> None:
    way = TUNINGS["RUN_UNSTATED"]
    held, loose = reflected(way)[0], reflected(without(way, position.NEAR, position.JUMP))[0]
    assert np.mean(held) < 0.7 * np.mean(loose)
    assert max(held) < max(loose)


def test_reflections_are_the_receivers_and_move_the_athlete_less() -> None:
    way = TUNINGS["RUN_UNSTATED"]
    held, loose = reflected(way)[1], reflected(without(way, position.JUMP))[1]
    assert max(held[:4]) < 0.7 * max(loose[:4])  # what lasts is believed in the end


def test_a_new_pace_becomes_the_usual_one() -> None:
    of, way, east = row(), TUNINGS["RIDE_UNSTATED"], 0.0
    for i in range(420):
        east += 8.0 if i < 180 else 1.4
        fed(of, way, float(i), east, 0.0)
        if i == 179:
            assert of[c.LAST_SPEED] == pytest.approx(8.0, rel=0.1)
    assert speed_of(of) == pytest.approx(1.4, abs=0.15)
    assert of[c.LAST_SPEED] < 3.0


def test_a_stop_leaves_the_usual_speed_nearly_what_it_was_and_pulls_nobody_off() -> None:
    of, way, rng = row(), TUNINGS["RUN_UNSTATED"], np.random.default_rng(3)
    for i in range(210):
        fed(of, way, float(i), 3.0 * min(i, 150) + rng.normal(0.0, 0.1), rng.normal(0.0, 0.1))
    assert 1.5 < of[c.LAST_SPEED] < 3.2
    assert speed_of(of) < 0.6


def test_a_stated_speed_is_the_usual_one_for_a_sample_without() -> None:
    of = row()
    for i in range(60):
        fed(of, TUNINGS["RUN"], float(i), 3.0 * i, 0.0, speed=3.2)
    fed(of, TUNINGS["RUN_UNSTATED"], 60.0, 180.0, 0.0)
    assert of[c.LAST_SPEED] == pytest.approx(3.2, abs=0.1)


def test_ten_a_second_learn_the_usual_speed_no_faster() -> None:
    usual: list[float] = []
    for step in (0.1, 1.0):
        of = row()
        for i in range(int(90 / step)):
            t = i * step
            fed(of, TUNINGS["RUN_UNSTATED"], t, 3.0 * t if t < 60 else 180.0 + 5.0 * (t - 60), 0.0)
        usual.append(of[c.LAST_SPEED])
    assert usual[0] == pytest.approx(usual[1], rel=0.06)


Step = tuple[float, float, float, float, float]
steps = st.tuples(
    st.floats(0.05, 50.0),
    st.floats(-400.0, 400.0),
    st.floats(-400.0, 400.0),
    st.one_of(st.just(NAN), st.floats(-1.0, 200.0)),
    st.one_of(st.just(NAN), st.floats(-1.0, 120.0)),
)


@settings(max_examples=60, deadline=None)
@given(st.sampled_from(sorted(TUNINGS)), st.lists(steps, min_size=2, max_size=60))
@example("RUN_UNSTATED", [(1.0, 0.0, 0.0, 1.0, NAN)] + [(1.0, 100.0, -100.0, 1.0, NAN)] * 30)
def test_whatever_comes_the_filter_stays_a_filter_and_the_bias_within_bounds(name: str, given_steps: list[Step]) -> None:
    of, t = row(), 0.0
    most_sigma_m = 0.5
    for dt, east, north, accuracy, speed in given_steps:
        t += dt
        fed(of, TUNINGS[name], t, east, north, accuracy, speed)
        most_sigma_m = max(most_sigma_m, of[c.SIGMA])
        assert all(of[column] > 0.0 for column in (c.XX, c.YY, c.VV, c.WW, c.BB, c.CC))
        bias_m = max(position.MOST_BIAS, float(TUNINGS[name][position.BIAS])) * most_sigma_m
        assert max(of[c.BB], of[c.CC]) <= 2.0 * bias_m * bias_m  # what it came to by jumps, and what it is always
        assert all(math.isfinite(of[column]) for column in range(c.X, c.SIGMA + 1))


@pytest.mark.parametrize(
    ("gait_ms", "speed_cmps", "name"),
    [
        (0, 250, "RUN"),
        (2 * live_row.GAIT_MS, 850, "RIDE"),
        (0, -1, "RUN_UNSTATED"),
        (live_row.GAIT_MS, -1, "RIDE_UNSTATED"),  # not known yet: the livelier one
        (5_000, -1, "RIDE_UNSTATED"),
    ],
)
def test_which_tuning_is_taken_depends_on_the_sport_and_on_a_stated_speed(gait_ms: int, speed_cmps: int, name: str) -> None:
    ring = np.zeros(live_row.RING_COLUMNS, np.int64)
    ring[live_row.GAIT] = gait_ms
    assert np.array_equal(WAYS[tuning(ring, speed_cmps)], TUNINGS[name])
