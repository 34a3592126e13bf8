"""Athletes: riders and runners with physics, on a course or on the spot. Pure: `step(athlete, state, dt) -> state`, noise by key and
counter.

Invariants: speed >= 0, rest <= heart rate <= max, distance never falls, and the same seed and steps give the same states.
`observe` gives the SI values of one `motion.1` sample, with the noise of a real GPS receiver when asked for.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from enum import StrEnum
from typing import Final

from simulators.course import Course, moved
from simulators.noise import gauss, gauss_markov, key_of, uniform
from simulators.physics import Bike, approach, ride, run_cost_jpkgm, run_speed_mps

EFFORT_SIGMA: Final = 0.06
EFFORT_TAU_S: Final = 60.0
GPS_BIAS_SIGMA_M: Final = 2.5  # slow error of a phone or watch in the open
GPS_BIAS_TAU_S: Final = 120.0
GPS_WHITE_SIGMA_M: Final = 0.5
_SPEED_TAU_RUN_S: Final = 3.0
_PAUSE_TAU_S: Final = 1.0


class Sport(StrEnum):
    """What an athlete does; the last two stay on the spot (no position)."""

    RIDE = "ride"
    RUN = "run"
    BIKE = "bike"
    TREADMILL = "treadmill"

    @property
    def is_ride(self) -> bool:
        return self in {Sport.RIDE, Sport.BIKE}

    @property
    def outdoors(self) -> bool:
        return self in {Sport.RIDE, Sport.RUN}


@dataclass(frozen=True, slots=True)
class Athlete:
    """What does not change in a workout. `effort` is the mean share of the heart-rate reserve asked for; powers are those at effort 1."""

    name: str
    sport: Sport
    key: int
    rest_bpm: float
    max_bpm: float
    tau_on_s: float
    tau_off_s: float
    effort: float
    max_power_w: float
    max_metabolic_wpkg: float
    body_kg: float
    bike: Bike
    cadence_rpm: float
    lights: tuple[tuple[float, float], ...]  # (share of the lap, chance of red)
    drink_every_s: float
    noisy_gps: bool = True


@dataclass(frozen=True, slots=True)
class State:
    """One instant of an athlete. `paused_s` is what is left of a stop; `steps` counts the draws of noise."""

    time_s: float
    distance_m: float
    speed_mps: float
    hr_bpm: float
    power_w: float
    cadence_rpm: float
    swing: float
    paused_s: float
    drink_s: float
    bias_east_m: float
    bias_north_m: float
    steps: int


def draw_athlete(name: str, sport: Sport, seed: int, *, noisy_gps: bool = True) -> Athlete:
    """The athlete of that name and seed: parameters within what healthy adults of 18 to 65 have."""
    key = key_of(seed, "athlete", name, sport)

    def between(low: float, high: float, index: int) -> float:
        return uniform(key, index, low, high)

    body_kg = between(50, 95, 0)
    return Athlete(
        name=name,
        sport=sport,
        key=key,
        rest_bpm=between(45, 70, 1),
        max_bpm=between(165, 200, 2),
        tau_on_s=between(22, 45, 3),
        tau_off_s=between(35, 70, 4),
        effort=between(0.55, 0.82, 5),
        max_power_w=body_kg * between(3.0, 5.2, 6),
        max_metabolic_wpkg=between(12, 20, 7),
        body_kg=body_kg,
        bike=Bike(mass_kg=body_kg + between(7.5, 11, 8), drag_area_m2=between(0.28, 0.38, 9), rolling=between(0.004, 0.007, 10)),
        cadence_rpm=between(78, 95, 11) if sport.is_ride else between(76, 90, 11),
        lights=((between(0.02, 0.25, 12), 0.3), (between(0.7, 0.95, 13), 0.2)) if sport.outdoors else (),
        drink_every_s=between(420, 900, 14),
        noisy_gps=noisy_gps,
    )


def at_start(athlete: Athlete, offset_m: float = 0.0) -> State:
    """Standing at `offset_m` of the course, heart a little above rest."""
    hr = athlete.rest_bpm + 0.15 * (athlete.max_bpm - athlete.rest_bpm)
    east, north = (GPS_BIAS_SIGMA_M * gauss(athlete.key, -2 - axis) if athlete.noisy_gps else 0.0 for axis in (0, 1))
    return State(0.0, offset_m, 0.0, hr, 0.0, 0.0, 0.0, 0.0, athlete.drink_every_s, east, north, 0)


def step(athlete: Athlete, state: State, dt_s: float, course: Course | None = None) -> State:
    """The state `dt_s` (> 0, about a second or less) later. `course` None, or an indoor sport: flat and on the spot."""
    noise = athlete.key ^ 0x5A5A
    n = 4 * state.steps
    swing = gauss_markov(state.swing, EFFORT_SIGMA, EFFORT_TAU_S, dt_s, gauss(noise, n))
    moving = state.paused_s <= 0
    effort = min(max(athlete.effort + swing, 0.25), 1.0) if moving else 0.0
    gradient = course.at(state.distance_m).gradient if course and athlete.sport.outdoors else 0.0
    speed, power = _drive(athlete, state, effort, gradient, dt_s)
    distance = state.distance_m + 0.5 * (state.speed_mps + speed) * dt_s
    paused, drink = _pauses(athlete, state, distance, dt_s, course)
    if athlete.noisy_gps:
        east = gauss_markov(state.bias_east_m, GPS_BIAS_SIGMA_M, GPS_BIAS_TAU_S, dt_s, gauss(noise, n + 1))
        north = gauss_markov(state.bias_north_m, GPS_BIAS_SIGMA_M, GPS_BIAS_TAU_S, dt_s, gauss(noise, n + 2))
    else:
        east = north = 0.0
    return State(
        time_s=state.time_s + dt_s,
        distance_m=distance,
        speed_mps=speed,
        hr_bpm=_heart(athlete, state.hr_bpm, effort, dt_s),
        power_w=power,
        cadence_rpm=_cadence(athlete, speed, power, moving=moving),
        swing=swing,
        paused_s=paused,
        drink_s=drink,
        bias_east_m=east,
        bias_north_m=north,
        steps=state.steps + 1,
    )


def observe(athlete: Athlete, state: State, course: Course | None = None) -> dict[str, float | None]:
    """One `motion.1` sample but its tick, in SI units, as the athlete's device would measure it."""
    sample: dict[str, float | None] = {
        "speed_mps": state.speed_mps,
        "distance_m": state.distance_m,
        "hr_bpm": state.hr_bpm,
        "cadence_rpm": state.cadence_rpm,
    }
    if athlete.sport.is_ride:
        sample["power_w"] = state.power_w
    if course and athlete.sport.outdoors:
        place = course.at(state.distance_m)
        east, north = state.bias_east_m, state.bias_north_m
        if athlete.noisy_gps:
            white = athlete.key ^ 0xA5A5
            east += GPS_WHITE_SIGMA_M * gauss(white, 2 * state.steps)
            north += GPS_WHITE_SIGMA_M * gauss(white, 2 * state.steps + 1)
        lat, lon = moved(place.lat_deg, place.lon_deg, east, north)
        sample |= {"lat": lat, "lon": lon, "altitude_m": place.altitude_m, "altitude_source": 1, "heading_deg": place.heading_deg}
        sample["accuracy_m"] = 3.0 if athlete.noisy_gps else 0.5
    return sample


def _drive(athlete: Athlete, state: State, effort: float, gradient: float, dt_s: float) -> tuple[float, float]:
    """New speed and mechanical power."""
    if effort <= 0:
        return approach(state.speed_mps, 0.0, _PAUSE_TAU_S, dt_s) if state.speed_mps > 0.05 else 0.0, 0.0
    if athlete.sport.is_ride:
        coasting = gradient < -0.05 and state.speed_mps > 13.0
        power = 0.0 if coasting else effort * athlete.max_power_w
        return ride(athlete.bike, state.speed_mps, power, gradient, dt_s), power
    metabolic = effort * athlete.max_metabolic_wpkg
    speed = approach(state.speed_mps, run_speed_mps(metabolic, gradient), _SPEED_TAU_RUN_S, dt_s)
    return speed, 0.25 * speed * run_cost_jpkgm(gradient) * athlete.body_kg  # a quarter of the metabolic power is mechanical


def _heart(athlete: Athlete, hr_bpm: float, effort: float, dt_s: float) -> float:
    """First-order answer to the share of reserve asked for: faster up than down."""
    target = athlete.rest_bpm + effort * (athlete.max_bpm - athlete.rest_bpm)
    return approach(hr_bpm, target, athlete.tau_on_s if target > hr_bpm else athlete.tau_off_s, dt_s)


def _cadence(athlete: Athlete, speed_mps: float, power_w: float, *, moving: bool) -> float:
    if not moving or speed_mps < 0.3 or (athlete.sport.is_ride and power_w <= 0):
        return 0.0
    usual = 8.0 if athlete.sport.is_ride else 3.0
    return athlete.cadence_rpm * min(1.1, 0.8 + 0.2 * speed_mps / usual)


def _pauses(athlete: Athlete, state: State, distance_m: float, dt_s: float, course: Course | None) -> tuple[float, float]:
    """What is left of the stop under way, and until the next drink. A stop begins at a red light or when it is time to drink."""
    if state.paused_s > 0:
        return max(0.0, state.paused_s - dt_s), state.drink_s
    drink = state.drink_s - dt_s
    if drink <= 0:
        return 12.0, athlete.drink_every_s
    if course:
        for index, (share, chance) in enumerate(athlete.lights):
            at = share * course.length_m
            lap = math.floor((distance_m - at) / course.length_m)
            if lap != math.floor((state.distance_m - at) / course.length_m) and uniform(athlete.key ^ index + 1, lap) < chance:
                return uniform(athlete.key ^ index + 1, lap + (1 << 20), 8.0, 30.0), drink
    return 0.0, drink


def paused(state: State, seconds: float) -> State:
    """The same athlete told to stop for `seconds` (a test's own pause)."""
    return replace(state, paused_s=seconds)
