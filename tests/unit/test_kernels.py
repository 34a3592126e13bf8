"""What each kernel makes of what devices say, bad input included."""

from __future__ import annotations

import math

import numpy as np
import pytest

from processors.kernels import beats, climb, heart, load, plane, position, power, travel
from processors.kernels import columns as c
from processors.kernels.athlete import take
from processors.kernels.compiled import Row

NAN = math.nan
RUN, BARO, MAN = np.array(position.RUN), np.array(climb.BAROMETER), np.array(load.MAN)


def row() -> Row:
    return np.array(c.fresh_row())


def fed(of: Row, t: float, east: float, north: float = 0.0, accuracy: float = 4.0, speed: float = NAN) -> int:
    return position.feed(of, RUN, t, east, north, accuracy, speed, of, 0)


def running(seconds: int, step: float = 1.0) -> Row:
    """A runner east at 3 m/s, exactly measured."""
    of = row()
    for i in range(int(seconds / step) + 1):
        fed(of, i * step, 3.0 * i * step)
    return of


def took(of: Row, t: float, lat: float = NAN, lon: float = NAN, *, accuracy: float = 4.0, speed: float = NAN, bpm: float = NAN) -> int:
    return take(of, RUN, BARO, MAN, t, lat, lon, accuracy, speed, NAN, bpm, NAN, NAN)


def test_a_steady_run_is_found_to_be_one() -> None:
    of = running(60)
    assert of[c.X] == pytest.approx(180, abs=0.5)
    assert of[c.V] == pytest.approx(3, abs=0.1)
    assert of[c.W] == pytest.approx(0, abs=0.01)


@pytest.mark.parametrize("step", [0.1, 5.0, 30.0])
def test_ten_a_second_or_one_in_thirty_seconds_come_to_the_same_run(step: float) -> None:
    of = running(300, step)
    assert of[c.X] == pytest.approx(900, abs=1.0)
    assert of[c.V] == pytest.approx(3, abs=0.15)


@pytest.mark.parametrize("t", [60.0, 59.0, -1e9, NAN])
def test_repeated_backward_and_absent_time_changes_nothing(t: float) -> None:
    of = running(60)
    before = np.array(of)
    assert fed(of, t, 500.0) == position.LATE
    assert np.array_equal(before, of, equal_nan=True)


@pytest.mark.parametrize("place", [(NAN, 0.0), (0.0, NAN), (math.inf, 0.0), (1e12, 0.0)])
def test_a_sample_without_a_position_carries_the_athlete_on(place: tuple[float, float]) -> None:
    of = running(60)
    assert fed(of, 61.0, *place) == position.ABSENT
    assert of[c.X] == pytest.approx(183, abs=0.6)


def test_a_spike_is_refused_and_a_jump_that_lasts_is_followed() -> None:
    of = running(60)
    assert fed(of, 61.0, 1_183.0) == position.REFUSED
    assert of[c.X] == pytest.approx(183, abs=0.6)
    for i in range(62, 80):
        fed(of, float(i), 1_000.0 + 3 * i)
    assert of[c.X] == pytest.approx(1_237, abs=3)


def test_a_frozen_fix_is_not_heard_while_moving() -> None:
    of = running(60)
    for i in range(61, 65):
        assert fed(of, float(i), 180.0, speed=3.0) == position.FROZEN
    assert of[c.X] == pytest.approx(192, abs=1)


def test_a_stated_standstill_stills_the_filter() -> None:
    of = running(60)
    for i in range(61, 66):
        fed(of, float(i), 180.0, speed=0.0)
    assert abs(of[c.V]) < 0.1


def test_a_silence_begins_anew() -> None:
    of = running(60)
    assert fed(of, 130.0, 5_000.0) == position.STARTED
    assert of[c.X] == 5_000.0


@pytest.mark.parametrize(
    ("stated", "deviation"), [(NAN, 4.0), (0.0, 4.0), (-3.0, 4.0), (0.01, 0.5), (6.0, 4.0), (1e9, 150.0), (math.inf, 150.0)]
)
def test_accuracy_missing_or_absurd_has_a_stated_deviation(stated: float, deviation: float) -> None:
    of = row()
    fed(of, 0.0, 0.0, accuracy=stated)
    assert of[c.SIGMA] == deviation


@pytest.mark.parametrize(
    "place", [(0.0, 0.0), (NAN, 7e7), (46e7, NAN), (900_000_000.0, 7e7), (-899_000_000.0, 7e7), (46e7, 1.9e9), (math.inf, 0.0)]
)
def test_what_is_no_place_on_the_globe_is_no_position(place: tuple[float, float]) -> None:
    of = row()
    assert took(of, 0.0, *place) == position.ABSENT
    assert took(of, 1.0, 46e7, 7e7) == position.STARTED
    assert took(of, 2.0, *place) == position.ABSENT


def test_the_date_line_is_no_border_and_no_ride_too_long_for_the_plane() -> None:
    of = row()
    for i in range(3_000):  # 20 m/s east along 10 degrees south: 60 km, over the line, two planes on
        lon = plane.wrapped(1_799_000_000 + i * 20 / (plane.METRE * plane.cosine(100_000_000.0)))
        took(of, float(i), -100_000_000.0, lon)
    assert abs(plane.wrapped(plane.longitude(of) - lon)) * of[c.EAST_M] < 3
    assert abs(plane.latitude(of) + 100_000_000.0) < 100
    assert of[c.V] == pytest.approx(20, abs=0.3)
    assert of[c.DISTANCE_M] == pytest.approx(60_000, rel=0.01)


def test_distance_is_the_integral_of_stated_speed_whatever_positions_do() -> None:
    of, rng = row(), np.random.default_rng(1)
    for i in range(601):
        took(of, float(i), 46e7 + rng.normal(0, 1_000), 7e7 + rng.normal(0, 1_000), speed=2.0)
    assert of[c.DISTANCE_M] == pytest.approx(1_200)
    assert of[c.MOVING_S] == pytest.approx(600)


def test_standing_ten_seconds_is_a_pause_and_walking_off_ends_it() -> None:
    of = row()
    for i in range(40):
        travel.move(of, float(i), 3.0 if i < 20 else 0.0)
        assert of[c.PAUSED] == float(i >= 30)
    travel.move(of, 40.0, 0.6)
    assert of[c.PAUSED] == 1.0
    travel.move(of, 41.0, 1.0)
    assert of[c.PAUSED] == 0.0


def test_a_day_is_summed_without_loss() -> None:
    of = row()
    for i in range(86_401):
        travel.move(of, 1.7e9 + i, 2.0)
    assert of[c.DISTANCE_M] == pytest.approx(172_800, abs=1e-3)
    assert of[c.MOVING_S] == pytest.approx(86_400, abs=1e-3)


def climbed(metres: list[float], step: float = 1.0) -> float:
    of = row()
    for i, value in enumerate(metres):
        climb.rise(of, BARO, i * step, value)
    return of[c.GAIN_M]


def test_a_hill_is_climbed_once_and_its_foot_counts() -> None:
    hill = [300 + min(i, 400 - i) * 0.25 for i in range(401)]
    assert climbed(hill) == pytest.approx(50, abs=1.0)


def test_a_breathing_barometer_climbs_nothing() -> None:
    rng = np.random.default_rng(2)
    assert climbed((300 + rng.normal(0, 0.15, 3_600)).tolist()) == 0.0


def test_a_calibration_and_a_spike_are_no_climb() -> None:
    assert climbed([300.0] * 100 + [380.0] * 300) == 0.0
    assert climbed([300.0] * 100 + [380.0] + [300.0] * 100) == 0.0


@pytest.mark.parametrize("value", [NAN, -501.0, 9_001.0, math.inf])
def test_absurd_altitude_changes_nothing(value: float) -> None:
    assert climbed([300.0] * 50 + [value] * 50 + [300.0] * 50) == 0.0


def beaten(of: Row, rates: list[float], start: float = 0.0) -> list[float]:
    return [heart.beat(of, start + i, rate) for i, rate in enumerate(rates)]


def test_dropouts_and_spikes_of_the_heart_rate_are_bridged() -> None:
    out = beaten(row(), [140.0] * 30 + [0.0] * 5 + [NAN] * 5 + [240.0, 30.0] + [140.0] * 10)
    assert all(abs(rate - 140) < 1 for rate in out)


def test_a_run_of_the_step_rate_is_held_off_and_what_stays_longer_than_any_such_run_accepted() -> None:
    steady = [120.0 + i % 2 for i in range(60)]
    out = beaten(row(), steady + [175.0 + i % 2 for i in range(180)])
    assert max(out[60:149]) < 125
    assert out[-1] == pytest.approx(175.5, abs=1)
    assert max(beaten(row(), steady + [175.0] * 60 + steady)) < 125


def test_a_heart_that_went_on_unseen_is_believed_at_once() -> None:
    out = beaten(row(), [120.0 + i % 2 for i in range(60)] + [0.0] * 20 + [141.0, 142.0, 143.0])
    assert out[-1] == pytest.approx(142, abs=3)


def test_a_frozen_rate_stands_still_and_the_next_one_is_believed() -> None:
    rising = [100.0 + i for i in range(30)]
    out = beaten(row(), [*rising, *([129.0] * 20), 140.0, 141.0, 142.0])
    assert all(abs(rate - 133) < 6 for rate in out[30:50])
    assert out[-1] == pytest.approx(141, abs=3)


def test_a_rate_stated_ten_times_as_often_comes_to_the_same() -> None:
    slow, fast = row(), row()
    for i in range(600):
        heart.beat(fast, i / 10, 100.0 + i // 10)
    for i in range(60):
        heart.beat(slow, float(i), 100.0 + i)
    assert fast[c.HEART_BPM] == pytest.approx(slow[c.HEART_BPM], abs=1.0)


def test_a_heart_that_rises_is_followed() -> None:
    out = beaten(row(), [100.0 + 0.8 * i for i in range(60)])
    assert abs(out[-1] - 147.2) < 4


def test_a_long_silence_of_the_strap_leaves_no_rate() -> None:
    of = row()
    beaten(of, [140.0] * 10)
    assert math.isnan(heart.beat(of, 100.0, 0.0))
    assert heart.beat(of, 101.0, 90.0) == 90.0


def test_zones_and_the_impulse_of_an_hour_are_what_the_formulas_say() -> None:
    of = row()
    for i in range(3_601):
        load.strain(of, MAN, float(i), 140.0)
    share = 80 / 130
    assert [of[c.ZONE_S + i] for i in range(5)] == [0, 0, 3_600, 0, 0]
    assert of[c.TRIMP] == pytest.approx(60 * share * 0.64 * math.exp(1.92 * share), rel=1e-6)


def test_a_rate_counts_for_zones_ten_seconds_at_most() -> None:
    of = row()
    load.strain(of, MAN, 0.0, 140.0)
    load.strain(of, MAN, 600.0, 140.0)
    load.strain(of, MAN, 599.0, 140.0)
    assert of[c.ZONE_S + 2] == 10.0


def test_a_person_without_a_reserve_has_zones_and_no_impulse() -> None:
    of, nobody = row(), MAN.copy()
    nobody[load.REST] = nobody[load.MOST]
    load.strain(of, nobody, 0.0, 140.0)
    load.strain(of, nobody, 1.0, 140.0)
    assert (of[c.ZONE_S + 2], of[c.TRIMP]) == (1.0, 0.0)


def test_rmssd_is_of_successive_normal_intervals() -> None:
    of = row()
    for rr in (800.0, 820.0, 810.0, 830.0):
        assert beats.interval(of, rr) == 1
    assert beats.rmssd_ms(of) == pytest.approx(math.sqrt((400 + 100 + 400) / 3))


def test_an_ectopic_beat_takes_no_part_and_a_new_rhythm_is_learnt() -> None:
    of = row()
    normal = [beats.interval(of, rr) for rr in [800.0] * 10 + [450.0, 1_150.0] + [800.0] * 10]
    assert normal.count(0) == 2
    assert beats.rmssd_ms(of) == 0.0
    assert [beats.interval(of, 500.0) for _ in range(8)] == [0] * 5 + [1] * 3
    assert beats.interval(of, 5_000.0) == beats.interval(of, NAN) == 0


def test_variability_is_unknown_before_two_beats() -> None:
    assert math.isnan(beats.rmssd_ms(row()))


def pedalled(watts: list[float], step: float = 1.0) -> Row:
    of = row()
    for i, value in enumerate(watts):
        power.push(of, i * step, value)
    return of


def normalised(watts: list[float]) -> float:
    """Normalised power by its definition, seconds of 1 Hz."""
    means = np.convolve(watts, np.ones(30) / 30, "valid")
    return float(np.mean(means**4) ** 0.25)


def test_normalised_power_is_the_definition_over_whole_seconds() -> None:
    rng = np.random.default_rng(4)
    watts = np.abs(rng.normal(200, 120, 1_201)).tolist()
    of = pedalled(watts)
    assert power.normalised_w(of) == pytest.approx(normalised(watts[:-1]), rel=1e-9)
    assert of[c.WORK_J] == pytest.approx(sum(watts[:-1]))


def test_four_readings_a_second_come_to_the_same_power() -> None:
    of = pedalled([250.0] * 2_401, 0.25)
    assert power.normalised_w(of) == pytest.approx(250)
    assert of[c.WORK_J] == pytest.approx(150_000)


def test_a_power_spike_is_doubted_and_a_sprint_believed() -> None:
    of = pedalled([200.0] * 60)
    assert power.push(of, 60.0, 1_900.0) == 200.0
    assert power.push(of, 61.0, 210.0) == 210.0
    assert power.push(of, 62.0, 1_100.0) == 210.0
    assert power.push(of, 63.0, 1_150.0) == 1_150.0
    assert power.push(of, 64.0, 9_000.0) == 1_150.0


@pytest.mark.parametrize("watts", [NAN, -5.0])
def test_no_power_is_no_reading(watts: float) -> None:
    of = pedalled([200.0] * 10)
    before = np.array(of)
    power.push(of, 10.0, watts)
    power.push(of, 9.0, 300.0)
    assert np.array_equal(before, of, equal_nan=True)


def test_a_silent_meter_counts_three_seconds_and_then_zeros() -> None:
    of = pedalled([300.0] * 60)
    power.push(of, 119.0, 300.0)
    assert of[c.WORK_J] == pytest.approx(59 * 300 + 3 * 300)
    assert power.normalised_w(of) < 300
