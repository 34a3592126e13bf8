"""All figures of the accuracy bench: seeds 700-709, 45 minutes a track, run and ride in three surroundings, forty hours of hearts."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final, NamedTuple

import numpy as np

from benchmarks.accuracy.climbs import errors_pct
from benchmarks.accuracy.devices import STRETCHES, Agreement, agreements, lap_recall
from benchmarks.accuracy.hearts import measure
from benchmarks.accuracy.ours import Ours
from benchmarks.accuracy.peers import filterpy_states
from benchmarks.accuracy.positions import Errors, errors_of
from benchmarks.accuracy.timings import Gate, crossing_s, matched_s, nearest_s, slow_error_alone, stretches
from benchmarks.accuracy.tracks import SPORTS, SURROUNDINGS, Array, Recording, Truth, recording_of, truth_of

SECONDS: Final = 2_700.0
SEEDS: Final = range(700, 710)
HOURS: Final = range(700, 740)
TUNED_ON: Final = range(9_000, 9_010)
CLEAN: Final = "clean"
NEAREST: Final = "nearest fix (as Strava states it)"
CROSSING_LIVE: Final = "crossing of ours, live"
CROSSING_FINAL: Final = "crossing of ours, at the end"
MATCHED: Final = "finishing: matcher, its gates"
FLOOR: Final = "slow error of the receiver alone"
PEER_ACCELERATIONS: Final = (0.5, 1.0, 2.0, 3.0)  # m/s2

Cell = tuple[str, str]


class Elapsed(NamedTuple):
    """How far elapsed times are off (s), and the share of the stretches that have one."""

    p50_s: float
    p95_s: float
    share: float


@dataclass(frozen=True, slots=True)
class Figures:
    """Per method: means over seeds in each cell (sport, surroundings); climbs by sport and altitude; hearts; elapsed times.

    `peer_speeds`: speed RMSE of FilterPy's filter by acceleration (m/s2), over some of the seeds, with ours of the same under 0.
    `devices`: how two devices agree; `laps`: of passes on a track, recall smoothed and as recorded, and number; None without a recording.
    """

    positions: dict[str, dict[Cell, Errors]]
    climbs: dict[str, dict[Cell, float]]
    hearts: dict[str, tuple[float, float, float]]
    timings: dict[str, dict[Cell, Elapsed]]
    peer_speeds: dict[float, dict[Cell, float]]
    devices: dict[str, dict[str, Agreement]]
    laps: tuple[float, float, int] | None


def recorded(seed: int, sport: str, where: str, seconds: float = SECONDS) -> tuple[Recording, Truth]:
    """A track of the report."""
    rng = np.random.default_rng(seed)
    truth = truth_of(rng, sport, seconds)
    return recording_of(rng, truth, where), truth


def measure_all(seeds: range = SEEDS, hours: range = HOURS, seconds: float = SECONDS, stretches_a_pair: int = STRETCHES) -> Figures:
    """Everything; about three minutes of CPU in full."""
    positions: dict[str, dict[Cell, Errors]] = {}
    climbs: dict[str, dict[Cell, float]] = {}
    timings: dict[str, dict[Cell, Elapsed]] = {}
    peer_speeds: dict[float, dict[Cell, float]] = {}
    for sport in SPORTS:
        for where in SURROUNDINGS:
            tracks = [recorded(seed, sport, where, seconds) for seed in seeds]
            rows = [errors_of(seen, truth, sport) for seen, truth in tracks]
            for name in rows[0]:
                positions.setdefault(name, {})[sport, where] = _mean([row[name] for row in rows])
            _times(timings, (sport, where), tracks, [slow_error_alone(seed, sport, where, seconds) for seed in seeds])
            for of, rmse in _peer_speeds([seen for seen, _ in tracks[:2]], sport).items():
                peer_speeds.setdefault(of, {})[sport, where] = rmse
            if where == "suburb":
                lines = [errors_pct(seen) for seen, _ in tracks]
                for name, kind in lines[0]:
                    climbs.setdefault(name, {})[sport, kind] = float(np.mean([line[name, kind] for line in lines]))
                _times(timings, (sport, CLEAN), [(_clean(seen), truth) for seen, truth in tracks], [])
    return Figures(positions, climbs, measure(hours), timings, peer_speeds, agreements(stretches_a_pair), lap_recall())


def _peer_speeds(tracks: list[Recording], sport: str) -> dict[float, float]:
    found = {0.0: _speed_rmse([(Ours(seen, sport, with_speed=False).live().speed_mps, seen) for seen in tracks])}
    for acceleration in PEER_ACCELERATIONS:
        states = [(filterpy_states(seen, acceleration)[0], seen) for seen in tracks]
        found[acceleration] = _speed_rmse([(np.hypot(state[:, 1], state[:, 3]), seen) for state, seen in states])
    return found


def _speed_rmse(made: list[tuple[Array, Recording]]) -> float:
    return float(np.mean([np.sqrt(np.mean((speed - seen.true_speed_mps) ** 2)) for speed, seen in made]))


def _mean(rows: list[Errors]) -> Errors:
    columns = np.array([[row.position_ratio, row.distance_pct, row.speed_mps] for row in rows]).mean(axis=0).tolist()
    return Errors(*columns)


def _clean(seen: Recording) -> Recording:
    """The truth at the stamps, as a perfect receiver would state it."""
    return Recording(
        seen.t_s, seen.true_east_m, seen.true_north_m, np.full(len(seen.t_s), 0.5), seen.true_speed_mps, seen.baro_m, seen.gnss_m,
        seen.true_east_m, seen.true_north_m, seen.true_speed_mps, seen.true_altitude_m,
    )  # fmt: skip


def _times(found: dict[str, dict[Cell, Elapsed]], cell: Cell, tracks: list[tuple[Recording, Truth]], floors: list[Recording]) -> None:
    """Elapsed times of all stretches of a cell, each way."""
    sport = cell[0]
    off: dict[str, list[float]] = {}

    def note(way: str, elapsed_s: float, start: Gate, finish: Gate) -> None:
        off.setdefault(way, []).append(abs(elapsed_s - (finish.t_s - start.t_s)))

    for i, (seen, truth) in enumerate(tracks):
        filtered = Ours(seen, sport, with_speed=True)
        live, final = filtered.live(), filtered.final()
        velocity = final.velocity_east_mps, final.velocity_north_mps
        gates = stretches(np.random.default_rng(i), seen, truth)
        for (start, finish), matched in zip(gates, matched_s(seen, truth, sport, gates), strict=True):
            for name, rule, t, east, north in (
                (NEAREST, nearest_s, seen.t_s, seen.east_m, seen.north_m),
                ("crossing of raw fixes", crossing_s, seen.t_s, seen.east_m, seen.north_m),
                (CROSSING_LIVE, crossing_s, seen.t_s, live.east_m, live.north_m),
                (CROSSING_FINAL, crossing_s, seen.t_s, final.east_m, final.north_m),
            ):
                note(name, rule(t, east, north, finish) - rule(t, east, north, start), start, finish)
            ends = (crossing_s(seen.t_s, final.east_m, final.north_m, gate, velocity) for gate in (finish, start))
            note("the same by velocity (Hermite)", next(ends) - next(ends), start, finish)
            note(MATCHED, matched, start, finish)
            if floors:
                slow = floors[i]
                ends = (crossing_s(slow.t_s, slow.east_m, slow.north_m, gate) for gate in (finish, start))
                note(FLOOR, next(ends) - next(ends), start, finish)
    for name, values in off.items():
        met = np.array(values)[~np.isnan(values)]
        found.setdefault(name, {})[cell] = Elapsed(*(float(np.percentile(met, q)) for q in (50, 95)), len(met) / len(values))
