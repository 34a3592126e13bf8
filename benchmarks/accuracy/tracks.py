"""Runs and rides whose truth is known, and what a watch records of them.

The same seed makes the same track in every release (held by a test against fingerprints): the figures of docs/accuracy.md rest on it.
Truth at 20 Hz: a way of straights and turns by integrated curvature, speed that wanders, brakes in turns and before stops, hills of
four sines. The watch at 1 Hz: per axis a slow and a fast Gauss-Markov error and white noise, bursts of reflections of which half are
owned up to, spikes, dropouts, frozen fixes, Doppler speed with an error of its own, a barometer and satellite altitude that drift.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

import numpy as np
import numpy.typing as npt

from processors.kernels.compiled import compiled

Array = npt.NDArray[np.float64]

WAY_STEP_M: Final = 0.5
TRUTH_STEP_S: Final = 0.05


@dataclass(frozen=True, slots=True)
class Surroundings:
    """Errors per axis (m, s), of the stated speed (m/s) and of the stamp (s); bursts, spikes, dropouts, frozen fixes an hour."""

    slow_m: float
    slow_s: float
    fast_m: float
    fast_s: float
    white_m: float
    bursts: float
    spikes: float
    dropouts: float
    frozen: float
    doppler_mps: float
    jitter_s: float


SURROUNDINGS: Final = {
    "open": Surroundings(1.6, 120.0, 0.5, 12.0, 0.15, 1, 0.5, 1, 1, 0.10, 0.03),
    "suburb": Surroundings(2.4, 90.0, 0.9, 10.0, 0.30, 6, 2, 3, 3, 0.20, 0.05),
    "urban": Surroundings(4.0, 60.0, 1.8, 8.0, 0.50, 25, 5, 8, 6, 0.40, 0.08),
}


@dataclass(frozen=True, slots=True)
class Sport:
    """Mean speed and its spread, lateral and forward acceleration; stops an hour; how much a slope slows down."""

    speed_mps: float
    spread_mps: float
    lateral_mps2: float
    forward_mps2: float
    stops: float
    slope: float


SPORTS: Final = {"run": Sport(3.3, 0.5, 2.5, 1.2, 4, 3), "ride": Sport(8.5, 1.8, 3.0, 1.0, 5, 6)}


@dataclass(frozen=True, slots=True)
class Truth:
    """Parallel columns at 20 Hz: seconds, way (m), east, north, altitude (m), speed (m/s)."""

    t_s: Array
    way_m: Array
    east_m: Array
    north_m: Array
    altitude_m: Array
    speed_mps: Array


@dataclass(frozen=True, slots=True)
class Recording:
    """What the watch recorded, and the truth at its stamps: parallel columns of the samples that came."""

    t_s: Array
    east_m: Array
    north_m: Array
    accuracy_m: Array
    speed_mps: Array
    baro_m: Array
    gnss_m: Array
    true_east_m: Array
    true_north_m: Array
    true_speed_mps: Array
    true_altitude_m: Array


@compiled
def _decay(keep: float, fresh: float, first: float, draws: Array, out: Array) -> None:
    out[0] = first * draws[0]
    for i in range(1, len(draws)):
        out[i] = keep * out[i - 1] + fresh * draws[i]


def gauss_markov(sigma: float, tau: float, step: float, draws: Array) -> Array:
    """A first-order Gauss-Markov process of that stationary deviation out of standard normal draws."""
    keep = np.exp(-step / tau)
    out = np.empty(len(draws))
    _decay(float(keep), float(sigma * np.sqrt(1 - keep * keep)), sigma, draws, out)
    return out


@compiled
def _follow(curvature: Array, step_m: float, x: Array, y: Array) -> None:
    heading = 0.0
    for i in range(1, len(curvature)):
        heading = heading + curvature[i - 1] * step_m
        x[i] = x[i - 1] + np.cos(heading) * step_m
        y[i] = y[i - 1] + np.sin(heading) * step_m


@compiled
def _reachable(speed: Array, faster_mps2: float, slower_mps2: float, step_m: float) -> None:
    for i in range(1, len(speed)):
        most = np.sqrt(speed[i - 1] ** 2 + 2 * faster_mps2 * step_m)
        speed[i] = min(speed[i], most)
    for i in range(len(speed) - 2, -1, -1):
        most = np.sqrt(speed[i + 1] ** 2 + 2 * slower_mps2 * step_m)
        speed[i] = min(speed[i], most)


def _curvature(rng: np.random.Generator, n: int) -> Array:
    """Straights and turns, and a hand that is never quite still."""
    curvature = np.zeros(n)
    i = 0
    while i < n:
        i += int(rng.exponential(180.0) / WAY_STEP_M) + int(20 / WAY_STEP_M)
        angle = rng.choice([1.571, 0.5, 2.6, 3.14159, 0.9], p=[0.45, 0.25, 0.08, 0.04, 0.18]) * rng.choice([-1, 1])
        radius = rng.uniform(3, 12) if abs(angle) > 1.2 else rng.uniform(10, 60)
        steps = max(2, int(abs(angle) * radius / WAY_STEP_M))
        curvature[i : i + steps] = np.sign(angle) / radius * (abs(angle) / (steps * WAY_STEP_M / radius))
        i += steps
    return curvature + gauss_markov(0.003, 60 / WAY_STEP_M, 1.0, rng.standard_normal(n))


def truth_of(rng: np.random.Generator, sport: str, seconds: float) -> Truth:
    """A run or a ride of about that long."""
    of = SPORTS[sport]
    n = int(of.speed_mps * seconds / WAY_STEP_M * 0.85)
    curvature = _curvature(rng, n)
    x, y = np.zeros(n), np.zeros(n)
    _follow(curvature, WAY_STEP_M, x, y)
    way = np.arange(n) * WAY_STEP_M
    z = np.zeros(n)
    for length_m, height_m in ((4000, 40), (1300, 12), (400, 3), (120, 0.6)):
        z += height_m * np.sin(2 * np.pi * (way / length_m / rng.uniform(0.8, 1.25)) + rng.uniform(0, 6.28))
    slope = np.gradient(z, WAY_STEP_M)
    wanted = of.speed_mps * np.exp(gauss_markov(of.spread_mps / of.speed_mps, 80 / WAY_STEP_M, 1.0, rng.standard_normal(n)))
    wanted *= np.clip(1 - of.slope * slope, 0.35, 1.8)
    speed = np.minimum(wanted, np.sqrt(of.lateral_mps2 / np.maximum(np.abs(curvature), 1e-4)))
    count = rng.poisson(of.stops * seconds / 3600.0)
    stops = np.array([], np.int64)
    if count and n > 2000:
        stops = np.sort(rng.choice(np.arange(int(200 / WAY_STEP_M), n - 10), count, replace=False))
    speed[stops] = 0.05
    speed = np.maximum(speed, 0.05)
    _reachable(speed, of.forward_mps2, 1.5, WAY_STEP_M)
    t = np.concatenate([[0], np.cumsum(WAY_STEP_M / np.maximum(0.5 * (speed[1:] + speed[:-1]), 0.05))])
    for stop in stops:
        t[stop + 1 :] += rng.uniform(8, 60)
    t_s = np.arange(0, t[-1], TRUTH_STEP_S)
    at = np.interp(t_s, t, way)
    east, north, altitude = (np.interp(at, way, column) for column in (x, y, z))
    return Truth(t_s, at, east, north, altitude, np.gradient(at, TRUTH_STEP_S))


def recording_of(rng: np.random.Generator, truth: Truth, where: str | Surroundings) -> Recording:
    """What a watch makes of it at 1 Hz."""
    of = SURROUNDINGS[where] if isinstance(where, str) else where
    t = np.arange(rng.uniform(0.5, 1.0), truth.t_s[-1] - 1, 1.0)
    n = len(t)
    hours = n / 3600

    def draws() -> Array:
        return rng.standard_normal(n)

    fixed_s = t + draws() * of.jitter_s
    east, north = np.interp(fixed_s, truth.t_s, truth.east_m), np.interp(fixed_s, truth.t_s, truth.north_m)
    errors: list[Array] = []
    for _ in range(2):
        slow, fast = gauss_markov(of.slow_m, of.slow_s, 1.0, draws()), gauss_markov(of.fast_m, of.fast_s, 1.0, draws())
        errors.append(slow + fast + of.white_m * draws())
    accuracy = np.full(n, np.sqrt(of.slow_m**2 + of.fast_m**2 + of.white_m**2) * 1.5)
    stated = np.interp(fixed_s, truth.t_s, truth.speed_mps) + gauss_markov(of.doppler_mps, 3.0, 1.0, draws())
    stated = np.abs(stated + 0.03 * draws())
    _reflections(rng, of, hours, errors, accuracy)
    east, north = east + errors[0], north + errors[1]
    there = np.ones(n, np.bool_)
    for _ in range(rng.poisson(of.frozen * hours)):
        start = rng.integers(60, n)
        end = min(n, start + int(rng.uniform(2, 6)) + 1)
        for column in (east, north, stated):
            column[start:end] = column[start]
    for _ in range(rng.poisson(of.dropouts * hours)):
        start = rng.integers(60, n - 60)
        there[start : min(n - 1, start + int(rng.uniform(4, 40)))] = False
    accuracy = accuracy * np.exp(draws() * 0.2)
    true_altitude = np.interp(t, truth.t_s, truth.altitude_m)
    drift, breath = gauss_markov(2.0, 1800.0, 1.0, draws()), gauss_markov(0.25, 4.0, 1.0, draws())
    baro = np.round((true_altitude + drift + breath + 0.15 * draws()) / 0.2) * 0.2
    drift, breath = gauss_markov(2.2 * of.slow_m, 80.0, 1.0, draws()), gauss_markov(1.5 * of.fast_m, 8.0, 1.0, draws())
    gnss = true_altitude + drift + breath + 0.5 * draws()
    truths = [np.interp(t, truth.t_s, column) for column in (truth.east_m, truth.north_m, truth.speed_mps)]
    columns = (t, east, north, accuracy, stated, baro, gnss, *truths, true_altitude)
    return Recording(*(column[there] for column in columns))


def _reflections(rng: np.random.Generator, of: Surroundings, hours: float, errors: list[Array], accuracy: Array) -> None:
    """Bursts and spikes into the errors; half of the bursts into the stated accuracy."""
    n = len(accuracy)
    for _ in range(rng.poisson(of.bursts * hours)):
        start = rng.integers(60, n)
        end = min(n, start + int(rng.uniform(5, 40)))
        size, direction, length = rng.uniform(6, 25), rng.uniform(0, 6.28), end - start
        ramp = np.minimum(1, np.minimum(np.arange(length) + 1, length - np.arange(length)) / 3.0)
        for error, share in zip(errors, (np.cos(direction), np.sin(direction)), strict=True):
            error[start:end] += ramp * (size * share + gauss_markov(4.0, 5.0, 1.0, rng.standard_normal(length)))
        if rng.random() < 0.5:
            accuracy[start:end] *= rng.uniform(1.5, 4)
    for _ in range(rng.poisson(of.spikes * hours)):
        at, size, direction = rng.integers(60, n), rng.uniform(30, 200), rng.uniform(0, 6.28)
        errors[0][at] += size * np.cos(direction)
        errors[1][at] += size * np.sin(direction)
