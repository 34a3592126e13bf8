"""Physics, courses and athletes of the simulators: plausible, stable, and repeatable."""

from __future__ import annotations

import math
from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from broker.errors import BadInputError
from broker.layouts import layout_named
from device_profiles.errors import FileError
from device_profiles.files import Point, Points, Recording, write_gpx
from simulators.athlete import Sport, at_start, draw_athlete, observe, paused, step
from simulators.course import course_from_file, course_from_recording, course_of, distance_between_m, moved, synthetic_loop
from simulators.noise import gauss, gauss_markov, key_of, mix, uniform
from simulators.physics import GRAVITY_MPS2, Bike, approach, resistance_n, ride, run_cost_jpkgm, run_speed_mps

LOOP = synthetic_loop()
seeds = st.integers(0, 1 << 32)
sports = st.sampled_from(list(Sport))


def test_splitmix_matches_the_published_sequence_of_seed_0():
    assert [mix(0, k) for k in range(3)] == [0xE220A8397B1DCDAF, 0x6E789E6AA1B965F4, 0x06C45D188009454F]


def test_noise_has_the_moments_it_claims():
    key = key_of("moments")
    draws = [gauss(key, k) for k in range(20_000)]
    assert abs(sum(draws) / len(draws)) < 0.03
    assert abs(sum(d * d for d in draws) / len(draws) - 1) < 0.04
    flat = [uniform(key, k) for k in range(20_000)]
    assert abs(sum(flat) / len(flat) - 0.5) < 0.01
    assert min(flat) >= 0
    assert max(flat) < 1


def test_gauss_markov_is_stationary_for_any_step():
    for dt_s in (0.1, 1.0, 30.0):
        value, squares, count = 0.0, 0.0, 20_000
        for k in range(count):
            value = gauss_markov(value, 2.0, 5.0, dt_s, gauss(key_of("gm", str(dt_s)), k))
            squares += value * value
        assert math.sqrt(squares / count) == pytest.approx(2.0, rel=0.12)


# Hand-made rows of the power balance: P = v (1/2 rho CdA v^2 + m g (Crr cos a + sin a)) / efficiency
@pytest.mark.parametrize(("speed_mps", "gradient"), [(10.0, 0.0), (3.0, 0.08), (5.0, 0.03), (12.0, -0.01)])
def test_rider_settles_where_power_balances_resistance(speed_mps, gradient):
    bike = Bike()
    slope = math.atan(gradient)
    force = 0.5 * 1.2 * 0.32 * speed_mps**2 + 80.0 * GRAVITY_MPS2 * (0.005 * math.cos(slope) + math.sin(slope))
    power_w = speed_mps * force / bike.efficiency
    for start in (0.0, 18.0):
        speed = start
        for _ in range(1200):
            speed = ride(bike, speed, power_w, gradient, 1.0)
        assert speed == pytest.approx(speed_mps, rel=1e-3)


@given(power_w=st.floats(0, 1500), gradient=st.floats(-0.3, 0.3), start=st.floats(0, 18), dt_s=st.floats(0.05, 2))
def test_riding_is_stable_and_never_backwards(power_w, gradient, start, dt_s):
    speed = start
    for _ in range(200):
        speed = ride(Bike(), speed, power_w, gradient, dt_s)
        assert 0 <= speed <= 18


@given(power_w=st.floats(100, 500), gradient=st.floats(-0.02, 0.12), steeper=st.floats(0.005, 0.1))
def test_rider_is_slower_uphill_at_the_same_power(power_w, gradient, steeper):
    def after_ten_minutes(slope):
        speed = 5.0
        for _ in range(600):
            speed = ride(Bike(), speed, power_w, slope, 1.0)
        return speed

    flatter = after_ten_minutes(gradient)
    assert after_ten_minutes(gradient + steeper) < flatter or flatter == 18


@given(power_w=st.floats(0, 600), start=st.floats(1, 15), gradient=st.floats(-0.05, 0.1))
def test_work_of_the_rider_becomes_motion_height_and_losses(power_w, start, gradient):
    bike, speed, dt_s = Bike(), start, 0.05
    spent = lost_or_raised = 0.0
    for _ in range(400):
        new = ride(bike, speed, power_w, gradient, dt_s, max_speed_mps=1000)
        spent += power_w * bike.efficiency * dt_s
        lost_or_raised += resistance_n(bike, speed, gradient) * speed * dt_s
        speed = new
        if speed == 0:
            return  # stalled on a slope: the feet, not the energy, hold the rider
    kinetic = 0.5 * (bike.mass_kg + bike.wheel_kg) * (speed**2 - start**2)
    assert spent == pytest.approx(kinetic + lost_or_raised, rel=1e-6, abs=1e-3)


# Minetti 2002: 3.6 J/(kg m) on the flat; the polynomial at +-0.45 and its minimum near -0.2
@pytest.mark.parametrize(("gradient", "cost"), [(0.0, 3.6), (0.45, 19.42), (-0.45, 4.03), (-0.2, 1.80), (0.1, 5.97)])
def test_running_cost_matches_the_polynomial(gradient, cost):
    assert run_cost_jpkgm(gradient) == pytest.approx(cost, abs=0.03)


@given(wpkg=st.floats(3, 25), gradient=st.floats(0, 0.44), steeper=st.floats(0.005, 0.4))
def test_runner_is_slower_uphill(wpkg, gradient, steeper):
    if gradient + steeper <= 0.45:
        assert run_speed_mps(wpkg, gradient + steeper) < run_speed_mps(wpkg, gradient)


@given(value=st.floats(40, 200), target=st.floats(40, 200), dt_s=st.floats(0.01, 1000))
def test_first_order_answer_never_overshoots(value, target, dt_s):
    assert min(value, target) - 1e-9 <= approach(value, target, 30, dt_s) <= max(value, target) + 1e-9


@settings(max_examples=40, deadline=None)
@given(seed=seeds, sport=sports, dt_s=st.sampled_from([0.25, 1.0]))
def test_athletes_stay_within_physics_and_body(seed, sport, dt_s):
    athlete = draw_athlete("a", sport, seed)
    state = at_start(athlete)
    layout = layout_named("motion.1")
    for _ in range(300):
        new = step(athlete, state, dt_s, LOOP)
        assert 0 <= new.speed_mps <= 18
        assert athlete.rest_bpm <= new.hr_bpm <= athlete.max_bpm
        assert 0 <= new.distance_m - state.distance_m <= 18 * dt_s + 1e-9
        assert 0 <= new.cadence_rpm < 120
        assert 0 <= new.power_w < 600
        values = observe(athlete, new, LOOP)
        assert ("lat" in values) == sport.outdoors
        back = layout.unpack(layout.pack({**values, "tick_ms": 0}))[0]
        assert all(back[name] is not None for name in values), "every value fits its field"
        state = new
    assert state.distance_m > 20


@given(seed=seeds, sport=sports)
@settings(max_examples=10, deadline=None)
def test_same_seed_gives_the_same_workout_and_another_seed_another(seed, sport):
    def workout(chosen):
        athlete = draw_athlete("a", sport, chosen)
        state = at_start(athlete)
        for _ in range(30):
            state = step(athlete, state, 1.0, LOOP)
        return state

    assert workout(seed) == workout(seed)
    assert workout(seed) != workout(seed + 1)


def test_pause_stops_the_athlete_and_the_heart_recovers():
    athlete = draw_athlete("a", Sport.RIDE, 5)
    state = at_start(athlete)
    for _ in range(240):
        state = step(athlete, state, 1.0, LOOP)
    before, state = state, paused(state, 40)
    for _ in range(39):
        state = step(athlete, state, 1.0, LOOP)
    assert state.speed_mps == 0
    assert state.power_w == 0
    assert state.cadence_rpm == 0
    assert state.hr_bpm < before.hr_bpm - 5
    for _ in range(30):
        state = step(athlete, state, 1.0, LOOP)
    assert state.speed_mps > 1


def test_red_lights_and_drinks_stop_an_outdoor_athlete_some_times():
    athlete = draw_athlete("a", Sport.RIDE, 5)
    state, stops = at_start(athlete), 0
    for _ in range(3600):
        new = step(athlete, state, 1.0, LOOP)
        stops += new.paused_s > 0 and state.paused_s <= 0
        state = new
    assert 3 <= stops <= 20


def test_gps_noise_is_a_slow_bias_and_a_little_white_noise():
    athlete = replace(draw_athlete("a", Sport.RIDE, 9), lights=())
    state, errors = at_start(athlete), []
    for _ in range(2000):
        state = step(athlete, state, 1.0, LOOP)
        place, seen = LOOP.at(state.distance_m), observe(athlete, state, LOOP)
        errors.append(distance_between_m(place.lat_deg, place.lon_deg, seen["lat"], seen["lon"]))
    rms = math.sqrt(sum(e * e for e in errors) / len(errors))
    assert 2.0 < rms < 6.0
    quiet = draw_athlete("a", Sport.RIDE, 9, noisy_gps=False)
    seen = observe(quiet, step(quiet, at_start(quiet), 1.0, LOOP), LOOP)
    place = LOOP.at(step(quiet, at_start(quiet), 1.0, LOOP).distance_m)
    assert (seen["lat"], seen["lon"]) == moved(place.lat_deg, place.lon_deg, 0, 0)


def test_the_loop_is_closed_has_its_length_and_its_climb():
    assert LOOP.closed
    assert LOOP.length_m == pytest.approx(2400, abs=1)
    assert max(LOOP.altitudes_m) - min(LOOP.altitudes_m) == pytest.approx(40, abs=0.1)
    assert 0.06 < max(LOOP.at(d).gradient for d in range(0, 2400, 5)) < 0.15


@given(st.floats(0, 50_000), st.floats(0.1, 5))
def test_place_moves_as_far_as_the_distance_says(at_m, onwards_m):
    a, b = LOOP.at(at_m), LOOP.at(at_m + onwards_m)
    assert distance_between_m(a.lat_deg, a.lon_deg, b.lat_deg, b.lon_deg) <= onwards_m * 1.001 + 1e-6
    rise = b.altitude_m - a.altitude_m
    assert abs(rise) <= 0.14 * onwards_m + 1e-6


@given(st.floats(0, 20_000))
def test_laps_repeat_and_open_courses_come_back(at_m):
    again = LOOP.at(at_m + LOOP.length_m)
    assert (again.lat_deg, again.altitude_m) == pytest.approx((LOOP.at(at_m).lat_deg, LOOP.at(at_m).altitude_m), abs=1e-6)
    line = course_of([(45.0, -30.0, 0.0), (45.01, -30.0, 50.0)], closed=False)
    there = at_m % line.length_m
    out, back = line.at(there), line.at(2 * line.length_m - there)
    assert out.lat_deg == pytest.approx(back.lat_deg, abs=1e-9)
    if 1 < there < line.length_m - 1:
        assert out.gradient == pytest.approx(-back.gradient)
        assert abs(out.heading_deg - back.heading_deg) == 180


def test_a_recording_becomes_a_course_with_smooth_altitude():
    points = [(*moved(45, -30, 5.0 * k, 0), 100.0 + (5 if k % 2 else 0)) for k in range(200)]
    course = course_from_recording(points, name="zigzag")
    assert not course.closed
    assert course.length_m == pytest.approx(995, abs=2)
    assert max(abs(course.at(d).gradient) for d in range(990)) < 0.25, "the raw zigzag has gradient 1"
    ring = [(*moved(45, -30, 200 * math.cos(a / 30), 200 * math.sin(a / 30)), None) for a in range(188)]
    assert course_from_recording(ring, name="ring").closed


@pytest.mark.parametrize(
    ("points", "said"), [([], "has 0"), ([(1, 1, 0), (1, 1, 0)], "has 1"), ([(91, 0, 0), (0, 0, 0)], "not on the globe")]
)
def test_bad_courses_are_refused_by_name(points, said):
    with pytest.raises(BadInputError, match=said) as caught:
        course_of(points, closed=False, name="mine")
    assert "mine" in str(caught.value)
    assert caught.value.cure


def test_a_recorded_file_becomes_a_course(tmp_path):
    ring = [moved(45, -30, 200 * math.cos(a / 30), 200 * math.sin(a / 30)) for a in range(188)]
    points = [Point(t_us=1_700_000_000_000_000 + k * 1_000_000, lat=lat, lon=lon, altitude_m=10.0) for k, (lat, lon) in enumerate(ring)]
    path = tmp_path / "ring.gpx"
    write_gpx(Recording(points=Points.of(points)), path)
    course = course_from_file(path)
    assert course.closed
    assert course.length_m == pytest.approx(2 * math.pi * 200, rel=0.01)
    assert course.name == "ring.gpx"
    broken = tmp_path / "broken.gpx"
    broken.write_text("not a recording")
    with pytest.raises(FileError, match=r"broken\.gpx"):
        course_from_file(broken)
