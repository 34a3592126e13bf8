"""Smoothing and climb: nearer to the truth than what was measured, the same every time, and calm whatever comes."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from processors import smoothing
from processors.altitude import climbed_m, gain_cm
from processors.geometry import METRE_PER_UNIT, plane_at
from processors.smoothing import NO_SPEED, smooth_positions
from tests.gps_truth import HOME, SETTINGS, gauss_markov, measured, truth_of, units_of

SPORTS = ("run", "ride")


def rmse_m(east: np.ndarray, north: np.ndarray, lat: np.ndarray, lon: np.ndarray) -> float:
    plane = plane_at(*HOME)
    want_lat, want_lon = units_of(east, north)
    return float(np.sqrt((((lat - want_lat) * METRE_PER_UNIT) ** 2 + ((lon - want_lon) * plane.east_m) ** 2).mean()))


def ratio(sport: str, where: str, seeds: range, seconds: int) -> float:
    """Error of the smoothed positions over that of the measured ones."""
    raw = smooth = 0.0
    for seed in seeds:
        truth = truth_of(sport, seconds, seed)
        seen = measured(truth, where, seed)
        lat, lon = units_of(seen["east"], seen["north"])
        accuracy = np.rint(seen["accuracy"] * 2).astype(np.int64) * 50
        made = smooth_positions(
            seen["second"].astype(np.int64) * 1_000_000, lat, lon, accuracy, np.rint(seen["speed"] * 100).astype(np.int64), sport
        )
        east, north = truth.east[seen["second"]], truth.north[seen["second"]]
        raw += rmse_m(east, north, lat, lon)
        smooth += rmse_m(east, north, made.lat, made.lon)
    return smooth / raw


@pytest.mark.parametrize(("seeds", "seconds"), [(range(700, 702), 900), pytest.param(range(700, 710), 2700, marks=pytest.mark.nightly)])
def test_smoothed_positions_are_nearer_the_truth_than_measured_ones(seeds: range, seconds: int) -> None:
    ratios = {(sport, where): ratio(sport, where, seeds, seconds) for sport in SPORTS for where in SETTINGS}
    assert sum(value < 1.0 for value in ratios.values()) >= 5, ratios
    assert max(ratios.values()) < 1.03, ratios
    assert np.mean(list(ratios.values())) < 0.95, ratios


def straight(n: int = 60, step: int = 400) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Times, and positions 4.5 m apart to the north."""
    return np.arange(n) * 1_000_000, HOME[0] + np.arange(n) * step, np.full(n, HOME[1])


def smoothed(t_us: np.ndarray, lat: np.ndarray, lon: np.ndarray, speed: int = -1) -> tuple[np.ndarray, np.ndarray]:
    made = smooth_positions(t_us, lat, lon, np.full(len(lat), 300), np.full(len(lat), speed), "run")
    return made.lat, made.lon


def test_a_straight_line_stays_where_it_is() -> None:
    t_us, lat, lon = straight()
    new_lat, new_lon = smoothed(t_us, lat, lon)
    assert np.abs(new_lat - lat).max() * METRE_PER_UNIT < 0.6  # at its start, where the speed is not known yet
    assert np.abs(new_lat - lat)[10:].max() <= 5  # what is left of that start
    assert np.abs(new_lat - lat)[30:].max() <= 1
    assert (new_lon == lon).all()


def test_a_spike_is_taken_out() -> None:
    t_us, lat, lon = straight()
    lat[30] += 9_000  # 100 m
    new_lat, _ = smoothed(t_us, lat, lon)
    assert np.abs(new_lat - straight()[1]).max() * METRE_PER_UNIT < 1.0


def test_a_jump_that_lasts_is_believed_and_not_smeared() -> None:
    t_us, lat, lon = straight()
    lat[30:] += 90_000  # a kilometre
    new_lat, _ = smoothed(t_us, lat, lon)
    assert np.abs(new_lat - lat).max() * METRE_PER_UNIT < 2.0


def test_a_silence_begins_a_new_piece() -> None:
    t_us, lat, lon = straight()
    t_us[30:] += 120_000_000
    lat[30:] += 20_000
    before = smoothed(t_us[:30], lat[:30], lon[:30])[0]
    assert (smoothed(t_us, lat, lon)[0][:30] == before).all()


def test_a_frozen_receiver_is_not_heard_while_moving() -> None:
    t_us, lat, lon = straight(step=300)  # 3.3 m/s
    truth = lat.copy()
    lat[30:34] = lat[29]
    for speed in (-1, 330):  # the filter knows that one moves, stated or not
        assert np.abs(smoothed(t_us, lat, lon, speed=speed)[0] - truth).max() * METRE_PER_UNIT < 0.5


def test_the_date_line_is_no_border() -> None:
    t_us, lat, _ = straight()
    east = HOME[1] + np.arange(60) * 400
    over = (1_799_990_000 + np.arange(60) * 400 + 1_800_000_000) % 3_600_000_000 - 1_800_000_000
    plain, crossing = smoothed(t_us, lat, east), smoothed(t_us, lat, over)
    assert (crossing[0] == plain[0]).all()
    unwrapped = (crossing[1] - 1_799_990_000) % 3_600_000_000
    assert (unwrapped == plain[1] - HOME[1]).all()


def test_blocks_leave_no_seam(monkeypatch: pytest.MonkeyPatch) -> None:
    truth = truth_of("run", 600, 3)
    seen = measured(truth, "urban", 3)
    lat, lon = units_of(seen["east"], seen["north"])
    accuracy, speed = np.rint(seen["accuracy"] * 100).astype(np.int64), np.rint(seen["speed"] * 100).astype(np.int64)
    given_ = (seen["second"].astype(np.int64) * 1_000_000, lat, lon, accuracy, speed, "run")
    whole = smooth_positions(*given_)
    monkeypatch.setattr(smoothing, "BLOCK", 7)
    pieces = smooth_positions(*given_)
    for name in ("lat", "lon", "north_mmps", "east_mmps"):
        assert (getattr(whole, name) == getattr(pieces, name)).all()


def test_positions_without_a_stated_accuracy_are_changed_little() -> None:
    t_us, lat, lon = straight(200)
    lon = lon + np.rint(300 * np.sin(np.arange(200) / 6)).astype(np.int64)  # 2 m to either side
    little, much = (
        np.abs(smooth_positions(t_us, lat, lon, np.full(200, accuracy), np.full(200, -1), "run").lon - lon)[20:-20].max()
        for accuracy in (-1, 1_000)
    )
    assert little * METRE_PER_UNIT < 0.5
    assert little < much


def test_velocity_is_that_of_the_way() -> None:
    t_us, lat, lon = straight()
    made = smooth_positions(t_us, lat, lon, np.full(60, 300), np.full(60, -1), "run")
    assert made.north_mmps[30] == pytest.approx(400 * METRE_PER_UNIT * 1000, abs=20)
    assert abs(made.east_mmps[30]) < 20
    unknown = smooth_positions(t_us[:2], lat[:2], lon[:2], np.full(2, 300), np.full(2, -1), "run")
    assert unknown.north_mmps.tolist() == unknown.east_mmps.tolist() == [NO_SPEED, NO_SPEED]


@settings(max_examples=60, deadline=None)
@given(
    st.lists(
        st.tuples(
            st.integers(1, 200_000_000), st.integers(-900_000_000, 900_000_000), st.integers(-1_800_000_000, 1_800_000_000),
            st.integers(-1, 12_700), st.integers(-1, 65_534),
        ),
        min_size=1, max_size=40,
    )
)  # fmt: skip
def test_any_positions_stay_on_the_globe_and_come_out_the_same_twice(rows: list[tuple[int, int, int, int, int]]) -> None:
    steps, lat, lon, accuracy, speed = (np.array(column, np.int64) for column in zip(*rows, strict=True))
    once = smooth_positions(np.cumsum(steps), lat, lon, accuracy, speed, "ride")
    again = smooth_positions(np.cumsum(steps), lat, lon, accuracy, speed, "ride")
    for name in ("lat", "lon", "north_mmps", "east_mmps"):
        assert (getattr(once, name) == getattr(again, name)).all()
        assert len(getattr(once, name)) == len(rows)
    assert np.abs(once.lat).max() <= 900_000_000
    assert np.abs(once.lon).max() <= 1_800_000_000


@pytest.mark.parametrize("sport", ["run", "ride"])
def test_climb_by_a_barometer_is_right_to_five_percent(sport: str) -> None:
    errors = []
    for seed in range(730, 734):
        truth = truth_of(sport, 1200, seed)
        seen = measured(truth, "suburb", seed)
        one = np.ones(len(seen["second"]), np.int64)
        got = gain_cm(seen["second"].astype(np.int64) * 1_000_000, np.rint(seen["baro"] * 5).astype(np.int64) * 2, one, one, one)
        errors.append(got / 100 / truth.gain_m - 1)
    assert np.abs(errors).mean() <= 0.05, errors


def test_the_climb_of_a_wandering_receiver_on_the_flat_is_next_to_nothing() -> None:
    rng = np.random.default_rng(5)
    t_us = np.arange(3600) * 1_000_000
    altitude = np.rint((300 + gauss_markov(rng, 3600, 2.0, 8.0) + rng.standard_normal(3600) * 0.5) * 5).astype(np.int64) * 2
    one = np.ones(3600, np.int64)
    way_um = t_us * 3  # at 3 m/s
    assert gain_cm(t_us, altitude, one * 2, one, way_um) < 1_500
    assert gain_cm(t_us, altitude, one * 255, one, way_um) < 1_500  # the source not stated: its roughness tells
    assert gain_cm(t_us, altitude, one, one, way_um) > 10_000  # what it would be, taken for a barometer's


def test_a_calibration_of_the_altimeter_is_no_climb() -> None:
    t_us, altitude, one = np.arange(600) * 1_000_000, np.full(600, 3_000), np.ones(600, np.int64)
    altitude[300:] += 500
    assert gain_cm(t_us, altitude, one, one, t_us) == 0


def test_two_receivers_that_disagree_are_no_climb() -> None:
    t_us, altitude = np.arange(600) * 10_000_000, np.full(600, 3_000)
    altitude[300:] += 100
    one = np.ones(600, np.int64)
    assert gain_cm(t_us, altitude, one, np.arange(600) // 300, t_us) == 0


def test_climb_over_the_way_is_that_of_the_hills_and_not_of_the_time_spent_on_them() -> None:
    way_m = np.arange(0, 6_000, 4)
    altitude = np.rint(300 + 20 * np.sin(way_m * (2 * np.pi / 1_200))).astype(np.int64) * 10
    two = np.full(len(way_m), 2)
    for seconds_a_step in (1, 3):
        t_us = np.arange(len(way_m)) * seconds_a_step * 1_000_000
        assert gain_cm(t_us, altitude, two, two, way_m * 1_000_000) == pytest.approx(20_000, rel=0.05)
    still = gain_cm(np.arange(len(way_m)) * 1_000_000, altitude, two, two, way_m * 0)
    assert still == 0


def test_rises_between_turning_points_are_counted_whole() -> None:
    t_s = [10.0 * i for i in range(7)]
    assert climbed_m([0, 5, 4.5, 10, 3, 3.5, 3], t_s, 1.0) == 10.0
    assert climbed_m([0, 5, 3, 10, 3, 3.5, 3], t_s, 1.0) == 12.0
    assert climbed_m([5, 5, 5, 5, 5, 5, 5], t_s, 1.0) == 0.0


def test_no_altitude_is_no_climb() -> None:
    none = np.zeros(0, np.int64)
    assert gain_cm(none, none, none, none, none) == 0
