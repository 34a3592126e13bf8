"""Position, distance and speed of one recording against its truth: ours and the peers."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from benchmarks.accuracy.ours import Filtered, Ours
from benchmarks.accuracy.peers import PEERS
from benchmarks.accuracy.staged import stage
from benchmarks.accuracy.tracks import Array, Recording, Truth

LIVE, NO_SPEED, LAGGED, FINAL = "ours, live", "ours, live, no stated speed", "ours, 5 s later", "ours, at the end"
FINAL_NO_SPEED = "ours, at the end, no stated speed"
STAGED, STAGED_NO_SPEED = "live stage", "live stage, no stated speed"


@dataclass(frozen=True, slots=True)
class Errors:
    """Position RMSE over that of the raw positions, distance error (%), speed RMSE (m/s)."""

    position_ratio: float
    distance_pct: float
    speed_mps: float


def errors_of(seen: Recording, truth: Truth, sport: str) -> dict[str, Errors]:
    """Of each method. Distance is that between the first and the last stamp."""
    stated, unstated = Ours(seen, sport, with_speed=True), Ours(seen, sport, with_speed=False)
    made = {name: peer(seen, sport) for name, peer in PEERS.items()}
    made |= {
        LIVE: stated.live(),
        NO_SPEED: unstated.live(),
        LAGGED: stated.lagged(),
        FINAL: stated.final(),
        FINAL_NO_SPEED: unstated.final(),
    }
    made |= {STAGED: stage(seen, with_speed=True).shown, STAGED_NO_SPEED: stage(seen, with_speed=False).shown}
    way_m = float(np.diff(np.interp(seen.t_s[[0, -1]], truth.t_s, truth.way_m))[0])
    raw_m = _rms(_off(made["raw"], seen))
    return {
        name: Errors(_rms(_off(of, seen)) / raw_m, abs(of.distance_m / way_m - 1) * 100, _rms(of.speed_mps - seen.true_speed_mps))
        for name, of in made.items()
    }


def _off(of: Filtered, seen: Recording) -> Array:
    return np.hypot(of.east_m - seen.true_east_m, of.north_m - seen.true_north_m)


def _rms(values: Array) -> float:
    return float(np.sqrt(np.mean(values * values)))
