"""What others do, written again from their sources and books, over the same recordings: causal unless it says offline.

None was tuned on our tracks: windows, limits and noise are what their sources and books say. The noise of the constant-velocity filter is
half the largest acceleration of the sport (`ACCELERATION`).
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

import numpy as np

from benchmarks.accuracy.ours import Filtered
from benchmarks.accuracy.tracks import Array, Recording
from processors.kernels.compiled import compiled

ACCELERATION: Final = {"run": 0.5, "ride": 2.0}  # m/s2 of the constant-velocity filter, as its books set it: half the largest acceleration
FASTEST_MPS: Final = {"run": 8.0, "ride": 25.0}
TRACCAR_ACCURACY_M: Final = 50.0


def raw(seen: Recording, sport: str) -> Filtered:
    """Positions as they come, speed and distance from one to the next."""
    del sport
    return _differenced(seen.t_s, seen.east_m, seen.north_m)


def moving_average(seen: Recording, sport: str) -> Filtered:
    """The mean of the last five positions."""
    del sport
    return _differenced(seen.t_s, *(_mean_of_last(column, 5) for column in (seen.east_m, seen.north_m)))


def savitzky_golay(seen: Recording, sport: str) -> Filtered:
    """Offline: a parabola through eleven positions (Savitzky and Golay, Analytical Chemistry 36(8), 1964); the ends as measured."""
    del sport
    weights = np.linalg.pinv(np.vander(np.arange(-5.0, 6.0), 3, increasing=True))[0]
    east, north = seen.east_m.copy(), seen.north_m.copy()
    for column, of in ((east, seen.east_m), (north, seen.north_m)):
        column[5:-5] = np.convolve(of, weights[::-1], "valid")
    return _differenced(seen.t_s, east, north)


def traccar_rules(seen: Recording, sport: str) -> Filtered:
    """Rules that drop and do not smooth: stated accuracy over 50 m, faster than anybody; the position before stands instead."""
    east, north = seen.east_m.copy(), seen.north_m.copy()
    kept = 0
    for i in range(1, len(east)):
        dt = seen.t_s[i] - seen.t_s[kept]
        far = np.hypot(seen.east_m[i] - seen.east_m[kept], seen.north_m[i] - seen.north_m[kept])
        if seen.accuracy_m[i] > TRACCAR_ACCURACY_M or (far > FASTEST_MPS[sport] * dt and dt < 30):
            east[i], north[i] = east[i - 1], north[i - 1]
        else:
            kept = i
    return _differenced(seen.t_s, east, north)


def constant_velocity(seen: Recording, sport: str) -> Filtered:
    """The filter of FilterPy's book: position and velocity, discrete white noise, R from the stated accuracy."""
    state = _constant_velocity(seen, sport)[0]
    return _of_state(seen.t_s, state)


def constant_velocity_smoothed(seen: Recording, sport: str) -> Filtered:
    """Offline: the same with the smoother of Rauch, Tung and Striebel."""
    state, smoothed = _constant_velocity(seen, sport)
    del state
    return _of_state(seen.t_s, smoothed)


def doppler(seen: Recording, sport: str) -> Filtered:
    """The stated speed as it is."""
    del sport
    none = np.zeros(len(seen.t_s))
    return Filtered(seen.east_m, seen.north_m, none, none, seen.speed_mps, float(np.trapezoid(seen.speed_mps, seen.t_s)))


PEERS: Final[dict[str, Callable[[Recording, str], Filtered]]] = {
    "raw": raw,
    "moving average of 5": moving_average,
    "Savitzky-Golay 11/2 (offline)": savitzky_golay,
    "rules shaped like Traccar's": traccar_rules,
    "constant velocity (FilterPy)": constant_velocity,
    "constant velocity + RTS (offline)": constant_velocity_smoothed,
    "stated speed as it is": doppler,
}


def _mean_of_last(column: Array, n: int) -> Array:
    sums = np.concatenate([[0.0], np.cumsum(column)])
    last = np.arange(1, len(column) + 1)
    first = np.maximum(last - n, 0)
    return (sums[last] - sums[first]) / (last - first)


def _differenced(t_s: Array, east: Array, north: Array) -> Filtered:
    v, w = (np.diff(column, prepend=column[0]) / np.diff(t_s, prepend=t_s[0] - 1.0) for column in (east, north))
    length = float(np.hypot(np.diff(east), np.diff(north)).sum())
    return Filtered(east, north, v, w, np.hypot(v, w), length)


def _of_state(t_s: Array, state: Array) -> Filtered:
    x, v, y, w = state.T.copy()
    speed = np.hypot(v, w)
    return Filtered(x, y, v, w, speed, float(np.trapezoid(speed, t_s)))


def _constant_velocity(seen: Recording, sport: str) -> tuple[Array, Array]:
    n = len(seen.t_s)
    state, smoothed, covariance = np.zeros((n, 4)), np.zeros((n, 4)), np.zeros((n, 3))
    q = ACCELERATION[sport] ** 2
    _run_constant_velocity(seen.t_s, seen.east_m, seen.north_m, seen.accuracy_m, q, state, smoothed, covariance)
    return state, smoothed


@compiled
def _run_constant_velocity(
    t: Array, east: Array, north: Array, accuracy: Array, q: float, state: Array, smoothed: Array, covariance: Array
) -> None:
    """Both axes share one covariance, for they share their noise."""
    n = len(t)
    state[0, 0], state[0, 2] = east[0], north[0]
    covariance[0, 0], covariance[0, 2] = accuracy[0] * accuracy[0], 25.0
    for i in range(1, n):
        dt = t[i] - t[i - 1]
        p00, p01, p11 = covariance[i - 1, 0], covariance[i - 1, 1], covariance[i - 1, 2]
        p00 += dt * (2.0 * p01 + dt * p11) + q * dt * dt * dt * dt / 4.0
        p01 += dt * p11 + q * dt * dt * dt / 2.0
        p11 += q * dt * dt
        s = p00 + accuracy[i] * accuracy[i]
        k0, k1 = p00 / s, p01 / s
        for axis in range(2):
            measured = east[i] if axis == 0 else north[i]
            x = state[i - 1, 2 * axis] + dt * state[i - 1, 2 * axis + 1]
            state[i, 2 * axis] = x + k0 * (measured - x)
            state[i, 2 * axis + 1] = state[i - 1, 2 * axis + 1] + k1 * (measured - x)
        covariance[i, 0], covariance[i, 1], covariance[i, 2] = p00 - k0 * p00, p01 - k0 * p01, p11 - k1 * p01
    for axis in range(4):
        smoothed[n - 1, axis] = state[n - 1, axis]
    for i in range(n - 2, -1, -1):
        dt = t[i + 1] - t[i]
        c00, c01, c11 = covariance[i, 0], covariance[i, 1], covariance[i, 2]
        p00 = c00 + dt * (2.0 * c01 + dt * c11) + q * dt * dt * dt * dt / 4.0
        p01 = c01 + dt * c11 + q * dt * dt * dt / 2.0
        p11 = c11 + q * dt * dt
        det = p00 * p11 - p01 * p01
        a, b = c00 + dt * c01, c01 + dt * c11
        for axis in range(2):
            x, v = state[i, 2 * axis], state[i, 2 * axis + 1]
            ex, ev = smoothed[i + 1, 2 * axis] - x - dt * v, smoothed[i + 1, 2 * axis + 1] - v
            smoothed[i, 2 * axis] = x + ((a * p11 - c01 * p01) * ex + (c01 * p00 - a * p01) * ev) / det
            smoothed[i, 2 * axis + 1] = v + ((b * p11 - c11 * p01) * ex + (c11 * p00 - b * p01) * ev) / det
