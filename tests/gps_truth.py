"""Runs and rides whose truth is known, and what a receiver, a barometer and a heart-rate strap make of them: for tests of smoothing and climb.

Truth: a path of straights and turns, speed that wanders and brakes in turns, a few stops, hills of four sines. Receiver at 1 Hz: slow, fast and
white errors of three surroundings, bursts of reflections (half of them owned up to), spikes, gaps and frozen fixes.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from itertools import pairwise

import numpy as np

from broker.frames import Clock, Frame, encode_frame
from broker.layouts import layout_named
from processors.geometry import METRE_PER_UNIT, plane_at
from processors.samples import TakenFrame
from processors.tracks import Track, tracks_of

MOTION = layout_named("motion.1")
START_US = 1_700_000_000_000_000
HOME = (460_000_000, 70_000_000)
STEP_S = 0.1
SETTINGS = {  # slow m, fast m, fast s, white m, spread of the stated speed; per hour: bursts, spikes, gaps, frozen fixes
    "open": (1.6, 120.0, 0.5, 12.0, 0.15, 0.10, 1.0, 0.5, 1.0, 1.0),
    "suburb": (2.4, 90.0, 0.9, 10.0, 0.3, 0.20, 6.0, 2.0, 3.0, 3.0),
    "urban": (4.0, 60.0, 1.8, 8.0, 0.5, 0.40, 25.0, 5.0, 8.0, 6.0),
}
SPORTS = {"run": (3.3, 2.5), "ride": (8.5, 3.0)}  # mean speed, lateral acceleration


@dataclass(frozen=True)
class Truth:
    """Once a second: metres east and north, speed, way so far, altitude."""

    east: np.ndarray
    north: np.ndarray
    speed: np.ndarray
    way: np.ndarray
    altitude: np.ndarray

    @property
    def gain_m(self) -> float:
        """Climb of the true line: rises between turning points of more than 0.5 m."""
        turns = [self.altitude[0]]
        for value in self.altitude[1:]:
            if len(turns) > 1 and (turns[-1] - turns[-2]) * (value - turns[-1]) >= 0:
                turns[-1] = value
            elif abs(value - turns[-1]) > 0.5 or len(turns) == 1:
                turns.append(value)
        return float(sum(max(b - a, 0.0) for a, b in pairwise(turns)))


def gauss_markov(rng: np.random.Generator, n: int, sigma: float, tau_s: float, dt_s: float = 1.0) -> np.ndarray:
    """A first-order Gauss-Markov process of that stationary deviation."""
    keep = float(np.exp(-dt_s / tau_s))
    noise = rng.standard_normal(n) * sigma * np.sqrt(1 - keep * keep)
    out = np.empty(n)
    value = rng.standard_normal() * sigma
    for i in range(n):
        value = value * keep + noise[i]
        out[i] = value
    return out


@lru_cache(maxsize=8)
def truth_of(sport: str, seconds: int, seed: int) -> Truth:
    """What happened."""
    rng = np.random.default_rng(seed)
    mean, lateral = SPORTS[sport]
    curvature = _curvature(rng, int(seconds * mean * 3))
    heading = np.concatenate([[0.0], np.cumsum(curvature * 0.5)])
    path = np.stack([np.cumsum(np.cos(heading)), np.cumsum(np.sin(heading))], 1) * 0.5
    wish = mean * np.exp(gauss_markov(rng, int(seconds / STEP_S), 0.15, 25.0, STEP_S))
    stops = np.sort(rng.uniform(60, seconds, rng.poisson(4.5 * seconds / 3600)))
    pauses = [(s, s + rng.uniform(8, 60)) for s in stops]
    speed = way = 0.0
    rows = []
    ahead = int(mean * 4)
    for i in range(int(seconds / STEP_S)):
        t = i * STEP_S
        at = min(int(way * 2), len(curvature) - ahead * 2 - 1)
        tight = float(np.abs(curvature[at : at + ahead]).max())
        limit = min(wish[i], np.sqrt(lateral / max(tight, 1e-4)))
        if any(a <= t < b for a, b in pauses):
            limit = 0.0
        speed = max(min(limit, speed + 1.1 * STEP_S), speed - 1.5 * STEP_S)
        way += speed * STEP_S
        if i % int(1 / STEP_S) == 0:
            rows.append((way, speed))
    ways, speeds = np.array(rows).T
    marks = np.arange(len(path)) * 0.5
    hills = sum(
        rng.uniform(0.3, 1.0) * length / 90 * np.sin(2 * np.pi * (ways / length + rng.uniform())) for length in (250, 700, 1700, 4000)
    )
    return Truth(np.interp(ways, marks, path[:, 0]), np.interp(ways, marks, path[:, 1]), speeds, ways, 300 + np.asarray(hills))


def _curvature(rng: np.random.Generator, points: int) -> np.ndarray:
    pieces: list[np.ndarray] = []
    total = 0
    while total < points:
        straight = int((20 + rng.exponential(180)) * 2)
        angle = np.radians(rng.choice([90, 29, 52, 149, 180], p=[0.45, 0.25, 0.18, 0.08, 0.04])) * rng.choice([-1, 1])
        radius = rng.uniform(3, 12) if rng.random() < 0.6 else rng.uniform(10, 60)
        turn = max(int(abs(angle) * radius * 2), 1)
        pieces += [gauss_markov(rng, straight, 0.003, 60.0, 0.5), np.full(turn, angle / (turn * 0.5))]
        total += straight + turn
    return np.concatenate(pieces)


def measured(truth: Truth, where: str, seed: int) -> dict[str, np.ndarray]:
    """What devices make of it: parallel columns of the samples that came (`second`, `east`, `north`, `accuracy`, `speed`, altitudes)."""
    rng = np.random.default_rng(seed + 10_000)
    n = len(truth.way)
    slow, slow_s, fast, fast_s, white, doppler, bursts, spikes, gaps, frozen = SETTINGS[where]
    error = np.stack(
        [gauss_markov(rng, n, slow, slow_s) + gauss_markov(rng, n, fast, fast_s) + rng.standard_normal(n) * white for _ in range(2)], 1
    )
    sigma = float(np.sqrt(slow**2 + fast**2 + white**2))
    accuracy = 1.5 * sigma * np.exp(rng.standard_normal(n) * 0.2)
    hours = n / 3600
    for start in rng.integers(0, n, rng.poisson(bursts * hours)):
        size = int(rng.integers(5, 40))
        part = slice(start, min(start + size, n))
        length = part.stop - part.start
        direction = rng.uniform(0, 2 * np.pi)
        offset = rng.uniform(6, 25)
        for axis, share in enumerate((np.cos(direction), np.sin(direction))):
            error[part, axis] += offset * share + gauss_markov(rng, length, 4.0, 5.0)
        if rng.random() < 0.5:
            accuracy[part] += offset
    for at in rng.integers(0, n, rng.poisson(spikes * hours)):
        direction = rng.uniform(0, 2 * np.pi)
        error[at] += rng.uniform(30, 200) * np.array([np.cos(direction), np.sin(direction)])
    east, north = truth.east + error[:, 0], truth.north + error[:, 1]
    for at in rng.integers(1, n, rng.poisson(frozen * hours)):
        part = slice(at, min(at + int(rng.integers(2, 6)), n))
        east[part], north[part] = east[at - 1], north[at - 1]
    there = np.ones(n, bool)
    for at in rng.integers(1, n, rng.poisson(gaps * hours)):
        there[at : at + int(rng.integers(4, 40))] = False
    speed = np.maximum(truth.speed + gauss_markov(rng, n, doppler, 3.0), 0)
    baro = truth.altitude + gauss_markov(rng, n, 2.0, 1800.0) + gauss_markov(rng, n, 0.25, 4.0) + rng.standard_normal(n) * 0.15
    gnss = truth.altitude + gauss_markov(rng, n, 2.2 * slow, 80.0) + gauss_markov(rng, n, 1.5 * slow, 8.0) + rng.standard_normal(n) * 0.5
    columns = {"second": np.arange(n), "east": east, "north": north, "accuracy": accuracy, "speed": speed, "baro": baro, "gnss": gnss}
    return {name: column[there] for name, column in columns.items()}


def units_of(east: np.ndarray, north: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Latitude and longitude in 1e-7 degrees of metres around `HOME`."""
    plane = plane_at(*HOME)
    return np.rint(HOME[0] + north / METRE_PER_UNIT).astype(np.int64), np.rint(HOME[1] + east / plane.east_m).astype(np.int64)


def frames_of_rows(
    rows: list[tuple[float, dict[str, float | None]]], *, origin: str = "gym/watch", boot: int = 1, layout: str = "motion.1"
) -> list[TakenFrame]:
    """Frames of up to 30 samples and a minute from (seconds since `START_US`, SI values)."""
    made: list[TakenFrame] = []
    of = layout_named(layout)
    device = origin.rpartition("/")[2]
    blocks: list[list[tuple[float, dict[str, float | None]]]] = []
    for row in rows:
        if not blocks or len(blocks[-1]) == 30 or row[0] - blocks[-1][0][0] > 60:
            blocks.append([])
        blocks[-1].append(row)
    for seq, block in enumerate(blocks):
        t0_us = round(block[0][0] * 1e6)
        records = b"".join(of.pack({"tick_ms": round((t * 1e6 - t0_us) / 1000), **values}) for t, values in block)
        frame = Frame(of.id, 1, device, boot, seq, t0_us, START_US, Clock.GNSS, "gym/anna", records)
        made.append(TakenFrame(origin, "box", frame, encode_frame(frame), START_US))
    return made


def track_of_rows(rows: list[tuple[float, dict[str, float | None]]], **who: str | int) -> dict[int, Track]:
    """The tracks of `frames_of_rows`."""
    return tracks_of(frames_of_rows(rows, **who))  # pyright: ignore[reportArgumentType]


def rows_of(seen: dict[str, np.ndarray], altitude: str | None = None, *, speed: bool = True) -> list[tuple[float, dict[str, float | None]]]:
    """Samples as a device would state them."""
    lat, lon = units_of(seen["east"], seen["north"])
    rows: list[tuple[float, dict[str, float | None]]] = []
    for i, second in enumerate(seen["second"]):
        values: dict[str, float | None] = {"lat": lat[i] * 1e-7, "lon": lon[i] * 1e-7, "accuracy_m": seen["accuracy"][i]}
        if speed:
            values["speed_mps"] = seen["speed"][i]
        if altitude:
            values |= {"altitude_m": seen[altitude][i], "altitude_source": {"baro": 1, "gnss": 2}[altitude]}
        rows.append((float(second), values))
    return rows
