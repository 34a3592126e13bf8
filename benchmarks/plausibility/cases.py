"""Athletes who are honest and cheats who are not, on one course, with the truth's positions seen through a receiver.

Everything is a function of the kind and a seed. Cheats are made the way people make them: a drive with the watch on, a ride saved as a
run, a motor that helps uphill, a file with a piece cut out or its times squeezed.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Final

import numpy as np

from broker.reference import SegmentRef
from processors.geometry import plane_at, units
from simulators.athlete import Athlete, Sport, State, at_start, draw_athlete, step
from simulators.course import Course, synthetic_loop
from simulators.physics import Bike, ride
from tests.gps_truth import HOME, Truth, measured, rows_of

Row = tuple[float, dict[str, float | None]]
SECONDS: Final = 1_800
LOOP: Final = synthetic_loop(6_000.0, 160.0)  # two kilometres up at 8 %, two down, two flat
SPOTS: Final = {"flat": (200.0, 1_400.0), "climb": (2_000.0, 3_400.0), "descent": (3_900.0, 5_300.0), "short": (700.0, 1_100.0)}
WHERE: Final = ("open", "suburb", "urban")


@dataclass(frozen=True, slots=True)
class Case:
    """A recording as it comes in: its rows and what its file says it is."""

    rows: list[Row]
    says: str | None


@dataclass(frozen=True, slots=True)
class Ridden:
    """A second each: metres along the course, speed, and what sensors on the body say (None: nothing)."""

    way_m: list[float]
    speed_mps: list[float]
    hr_bpm: list[float | None]
    cadence_rpm: list[float | None]
    power_w: list[float | None]


def segments() -> list[SegmentRef]:
    """Four segments of the loop, for any sport."""
    made: list[SegmentRef] = []
    for name, (from_m, to_m) in SPOTS.items():
        points = tuple(units(*_there(LOOP, from_m + k * 10.0)) for k in range(int((to_m - from_m) / 10.0) + 1))
        made.append(SegmentRef(tenant="gym", id=name, name=name, points=points))
    return made


def _there(course: Course, way_m: float) -> tuple[float, float]:
    place = course.at(way_m)
    return place.lat_deg, place.lon_deg


def honest(sport: Sport, seed: int, *, elite: bool = False) -> Ridden:
    """An athlete of the simulators; `elite`: as strong as the best of the world, going all out."""
    athlete = draw_athlete(f"a{seed}", sport, seed, noisy_gps=False)
    if elite:
        best = {"max_power_w": 6.4 * athlete.body_kg, "max_metabolic_wpkg": 20.5, "effort": 0.95, "lights": ()}
        athlete = replace(athlete, **best)  # pyright: ignore[reportArgumentType] - its own fields
    return _moved(athlete, lambda state: step(athlete, state, 1.0, LOOP), meter=seed % 3 == 0, strap=seed % 4 != 1)


def _moved(athlete: Athlete, go: Callable[[State], State], *, meter: bool, strap: bool) -> Ridden:
    state = at_start(athlete)
    made = Ridden([], [], [], [], [])
    for _ in range(SECONDS):
        state = go(state)
        made.way_m.append(state.distance_m)
        made.speed_mps.append(state.speed_mps)
        made.hr_bpm.append(round(state.hr_bpm) if strap else None)
        made.cadence_rpm.append(round(state.cadence_rpm) if meter or strap else None)
        made.power_w.append(round(state.power_w) if meter and athlete.sport is Sport.RIDE else None)
    return made


def driven(seed: int, top_kmh: float, *, stops: bool) -> Ridden:
    """A car: brisk starts, even cruising, lights every half kilometre when it `stops`; a watch on a wrist that rests, or none."""
    rng = np.random.default_rng(seed)
    top = top_kmh / 3.6 * rng.uniform(0.92, 1.05)
    faster, slower = rng.uniform(1.6, 2.6), rng.uniform(1.8, 3.0)
    strap = seed % 2 == 0
    way = speed = waits = 0.0
    red = rng.uniform(200.0, 600.0)
    made = Ridden([], [], [], [], [])
    for second in range(SECONDS):
        wish = top * (1.0 + 0.02 * math.sin(second / 17.0))
        if stops and red - way < speed * speed / (2.0 * slower):
            wish = 0.0
        if stops and wish == 0.0 and speed < 0.6:
            waits, red = rng.uniform(5.0, 40.0), way + rng.uniform(300.0, 900.0)
        waits = max(waits - 1.0, 0.0)
        wish = 0.0 if waits > 0.0 else wish
        fade = 1.0 - 0.5 * speed / 30.0  # an engine pulls less the faster it goes
        speed = max(min(wish, speed + faster * fade), speed - slower, 0.0)
        way += speed
        made.way_m.append(way)
        made.speed_mps.append(speed)
        made.hr_bpm.append(round(70.0 + 4.0 * math.sin(second / 40.0)) if strap else None)
        made.cadence_rpm.append(0.0 if seed % 3 == 0 else None)
        made.power_w.append(None)
    return made


def assisted(seed: int, top_kmh: float, motor_w: float) -> Ridden:
    """An easy rider with a motor that helps up to a speed: the heart and a meter on the crank know only the rider."""
    athlete = draw_athlete(f"e{seed}", Sport.RIDE, seed, noisy_gps=False)
    athlete = replace(athlete, effort=0.35, lights=())
    bike = Bike(mass_kg=athlete.body_kg + 23.0)
    own_w = 0.35 * athlete.max_power_w

    def go(state: State) -> State:
        after = step(athlete, state, 1.0, LOOP)
        gradient = LOOP.at(state.distance_m).gradient
        help_w = motor_w * min(max((top_kmh / 3.6 - state.speed_mps) / 0.8, 0.0), 1.0)
        speed = ride(bike, state.speed_mps, own_w + help_w, gradient, 1.0)
        return replace(after, speed_mps=speed, distance_m=state.distance_m + 0.5 * (speed + state.speed_mps), power_w=own_w)

    return _moved(athlete, go, meter=seed % 3 == 0, strap=seed % 4 != 1)


def seen(ridden: Ridden, where: str, seed: int, *, speed: bool = True, altitude: str | None = "baro") -> list[Row]:
    """Through a receiver in those surroundings, around the place of the course."""
    places = [LOOP.at(way) for way in ridden.way_m]
    plane = plane_at(*HOME)
    metres = np.array([plane.metres(*units(p.lat_deg, p.lon_deg)) for p in places])
    truth = Truth(metres[:, 0], metres[:, 1], np.array(ridden.speed_mps), np.array(ridden.way_m), np.array([p.altitude_m for p in places]))
    columns = measured(truth, where, seed)
    rows = rows_of(columns, altitude, speed=speed)
    for (_, values), second in zip(rows, columns["second"].tolist(), strict=True):
        values |= {"hr_bpm": ridden.hr_bpm[second], "cadence_rpm": ridden.cadence_rpm[second], "power_w": ridden.power_w[second]}
    return rows


def cut_out(rows: list[Row], ridden: Ridden, metres: float, seed: int, *, keep_time: bool) -> list[Row]:
    """A piece left out in the middle of each segment: with its time gone too, or (`keep_time` False) so that the file joins up."""
    rng = np.random.default_rng(seed)
    made: list[Row] = []
    gone_s = 0.0
    for t, values in rows:
        way = ridden.way_m[int(t)]
        inside = any(a + 150.0 + rng.random() * 1e-6 <= way % LOOP.length_m < a + 150.0 + metres for a, _ in SPOTS.values())
        if inside:
            gone_s += 1.0
        else:
            made.append((t - gone_s, values) if not keep_time else (t, values))
    return made


def squeezed(rows: list[Row], factor: float) -> list[Row]:
    """The times pressed together, all else as it was."""
    return [(t * factor, values) for t, values in rows]


def kinds() -> dict[str, tuple[bool, Callable[[int], Case]]]:
    """name -> (is a cheat, maker by seed)."""
    where = lambda seed: WHERE[seed % 3]  # noqa: E731
    height = lambda seed: ("baro", "gnss", None)[seed // 3 % 3]  # noqa: E731

    def of(ridden: Ridden, seed: int, says: str | None, **how: object) -> Case:
        return Case(seen(ridden, where(seed), seed, **{"altitude": height(seed), **how}), says)  # pyright: ignore[reportArgumentType]

    def cut(sport: Sport, seed: int, metres: float) -> Case:
        ridden = honest(sport, seed)
        rows = seen(ridden, where(seed), seed, altitude=height(seed))
        return Case(cut_out(rows, ridden, metres, seed, keep_time=False), "cycling" if sport is Sport.RIDE else "running")

    def thinned(seed: int, seconds: int) -> Case:
        case = of(honest(Sport.RIDE, seed), seed, "cycling")
        return Case([row for row in case.rows if int(row[0]) % seconds == 0], case.says)

    return {
        "runner": (False, lambda s: of(honest(Sport.RUN, s), s, "running")),
        "rider": (False, lambda s: of(honest(Sport.RIDE, s), s, "cycling")),
        "runner as good as the best": (False, lambda s: of(honest(Sport.RUN, s, elite=True), s, "running")),
        "rider as good as the best": (False, lambda s: of(honest(Sport.RIDE, s, elite=True), s, "cycling")),
        "rider, positions only": (False, lambda s: of(honest(Sport.RIDE, s), s, None, speed=False, altitude=None)),
        "rider, a position each 5 s": (False, lambda s: thinned(s, 5)),
        "car in town, 50 km/h": (True, lambda s: of(driven(s, 50.0, stops=True), s, "cycling")),
        "car on a road, 80 km/h": (True, lambda s: of(driven(s, 80.0, stops=False), s, "cycling")),
        "car as a run, 40 km/h": (True, lambda s: of(driven(s, 40.0, stops=True), s, "running")),
        "ride as a run": (True, lambda s: of(honest(Sport.RIDE, s), s, "running")),
        "motor to 25 km/h (250 W)": (True, lambda s: of(assisted(s, 25.0, 250.0), s, "cycling")),
        "motor to 45 km/h (600 W)": (True, lambda s: of(assisted(s, 45.0, 600.0), s, "cycling")),
        "said to be an e-bike": (True, lambda s: of(assisted(s, 25.0, 250.0), s, "e_biking")),
        "ride with 200 m cut out": (True, lambda s: cut(Sport.RIDE, s, 200.0)),
        "run with 100 m cut out": (True, lambda s: cut(Sport.RUN, s, 100.0)),
        "times squeezed by 1.25": (True, lambda s: Case(squeezed(of(honest(Sport.RIDE, s), s, "cycling").rows, 0.8), "cycling")),
        "a position each 30 s": (True, lambda s: thinned(s, 30)),
    }
