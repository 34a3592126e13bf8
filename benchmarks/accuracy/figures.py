"""All figures of the accuracy bench: seeds 700-709, 45 minutes a track, run and ride in three surroundings, forty hours of hearts."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

import numpy as np

from benchmarks.accuracy.climbs import errors_pct
from benchmarks.accuracy.hearts import measure
from benchmarks.accuracy.ours import Ours
from benchmarks.accuracy.positions import Errors, errors_of
from benchmarks.accuracy.timings import crossing_s, nearest_s, stretches
from benchmarks.accuracy.tracks import SPORTS, SURROUNDINGS, Recording, Truth, recording_of, truth_of

SECONDS: Final = 2_700.0
SEEDS: Final = range(700, 710)
HOURS: Final = range(700, 740)
TUNED_ON: Final = range(9_000, 9_010)
CLEAN: Final = "clean"

Cell = tuple[str, str]


@dataclass(frozen=True, slots=True)
class Figures:
    """Per method: means over seeds in each cell (sport, surroundings); climbs by sport and altitude; hearts; elapsed times p50, p95."""

    positions: dict[str, dict[Cell, Errors]]
    climbs: dict[str, dict[Cell, float]]
    hearts: dict[str, tuple[float, float, float]]
    timings: dict[str, dict[Cell, tuple[float, float]]]


def recorded(seed: int, sport: str, where: str, seconds: float = SECONDS) -> tuple[Recording, Truth]:
    """A track of the report."""
    rng = np.random.default_rng(seed)
    truth = truth_of(rng, sport, seconds)
    return recording_of(rng, truth, where), truth


def measure_all(seeds: range = SEEDS, hours: range = HOURS, seconds: float = SECONDS) -> Figures:
    """Everything; about a minute of CPU in full."""
    positions: dict[str, dict[Cell, Errors]] = {}
    climbs: dict[str, dict[Cell, float]] = {}
    timings: dict[str, dict[Cell, tuple[float, float]]] = {}
    for sport in SPORTS:
        for where in SURROUNDINGS:
            tracks = [recorded(seed, sport, where, seconds) for seed in seeds]
            rows = [errors_of(seen, truth, sport) for seen, truth in tracks]
            for name in rows[0]:
                positions.setdefault(name, {})[sport, where] = _mean([row[name] for row in rows])
            _times(timings, (sport, where), tracks)
            if where == "suburb":
                lines = [errors_pct(seen) for seen, _ in tracks]
                for name, kind in lines[0]:
                    climbs.setdefault(name, {})[sport, kind] = float(np.mean([line[name, kind] for line in lines]))
                _times(timings, (sport, CLEAN), [(_clean(seen), truth) for seen, truth in tracks])
    return Figures(positions, climbs, measure(hours), timings)


def _mean(rows: list[Errors]) -> Errors:
    columns = np.array([[row.position_ratio, row.distance_pct, row.speed_mps] for row in rows]).mean(axis=0).tolist()
    return Errors(*columns)


def _clean(seen: Recording) -> Recording:
    """The truth at the stamps, as a perfect receiver would state it."""
    return Recording(
        seen.t_s, seen.true_east_m, seen.true_north_m, np.full(len(seen.t_s), 0.5), seen.true_speed_mps, seen.baro_m, seen.gnss_m,
        seen.true_east_m, seen.true_north_m, seen.true_speed_mps, seen.true_altitude_m,
    )  # fmt: skip


def _times(found: dict[str, dict[Cell, tuple[float, float]]], cell: Cell, tracks: list[tuple[Recording, Truth]]) -> None:
    off: dict[str, list[float]] = {}
    for i, (seen, truth) in enumerate(tracks):
        filtered = Ours(seen, cell[0], with_speed=True)
        live, final = filtered.live(), filtered.final()
        ways = {
            "nearest fix (as Strava states it)": (nearest_s, seen.east_m, seen.north_m),
            "crossing of raw fixes": (crossing_s, seen.east_m, seen.north_m),
            "crossing of ours, live": (crossing_s, live.east_m, live.north_m),
            "crossing of ours, at the end": (crossing_s, final.east_m, final.north_m),
        }
        for start, finish in stretches(np.random.default_rng(i), seen, truth):
            for name, (rule, east, north) in ways.items():
                elapsed = rule(seen.t_s, east, north, finish) - rule(seen.t_s, east, north, start)
                off.setdefault(name, []).append(abs(elapsed - (finish.t_s - start.t_s)))
    for name, values in off.items():
        met = np.array(values)[~np.isnan(values)]
        found.setdefault(name, {})[cell] = (float(np.percentile(met, 50)), float(np.percentile(met, 95)))
