"""What others do over the same recordings, each on its own terms: causal unless it says offline.

FilterPy 2 (Kalman and Bayesian Filters in Python, chapters 8 and 13) and SciPy's Savitzky-Golay are run as they are; rules that are part
of a program are written again from its source. None was tuned on our tracks: windows and limits are what their sources and books say,
the noise of the constant-velocity filter half the largest acceleration of the sport (`ACCELERATION`), R the square of the stated
accuracy.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

import numpy as np
from filterpy.common import Q_discrete_white_noise
from filterpy.kalman import KalmanFilter
from scipy.signal import savgol_filter

from benchmarks.accuracy.ours import Filtered
from benchmarks.accuracy.tracks import Array, Recording

ACCELERATION: Final = {"run": 0.5, "ride": 2.0}  # m/s2
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
    """Offline: SciPy's parabola through eleven positions (Savitzky and Golay, Analytical Chemistry 36(8), 1964)."""
    del sport
    return _differenced(seen.t_s, *(savgol_filter(column, 11, 2) for column in (seen.east_m, seen.north_m)))


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
    """FilterPy's Kalman filter of position and velocity with discrete white noise."""
    return _of_state(seen.t_s, filterpy_states(seen, ACCELERATION[sport])[0])


def constant_velocity_smoothed(seen: Recording, sport: str) -> Filtered:
    """Offline: the same with FilterPy's smoother of Rauch, Tung and Striebel."""
    states, filtered = filterpy_states(seen, ACCELERATION[sport])
    smoothed = KalmanFilter(4, 2).rts_smoother(states, *filtered)[0]
    return _of_state(seen.t_s, smoothed)


def filterpy_states(seen: Recording, acceleration_mps2: float) -> tuple[Array, tuple[Array, Array, Array]]:
    """East, its speed, north, its speed after each fix; and the covariances, transitions and noises of all steps."""
    n = len(seen.t_s)
    kf = KalmanFilter(4, 2)
    kf.x = np.array([seen.east_m[0], 0.0, seen.north_m[0], 0.0])
    kf.P = np.diag([seen.accuracy_m[0] ** 2, 25.0, seen.accuracy_m[0] ** 2, 25.0])
    kf.H = np.array([[1.0, 0, 0, 0], [0, 0, 1.0, 0]])
    states, covariances = np.zeros((n, 4)), np.zeros((n, 4, 4))
    transitions, noises = np.zeros((n, 4, 4)), np.zeros((n, 4, 4))
    states[0], covariances[0], transitions[0] = kf.x, kf.P, np.eye(4)
    for i in range(1, n):
        dt = seen.t_s[i] - seen.t_s[i - 1]
        kf.F = np.array([[1, dt, 0, 0], [0, 1, 0, 0], [0, 0, 1, dt], [0, 0, 0, 1.0]])
        kf.Q = Q_discrete_white_noise(2, dt, acceleration_mps2**2, block_size=2)
        kf.predict()
        kf.update(np.array([seen.east_m[i], seen.north_m[i]]), R=np.eye(2) * seen.accuracy_m[i] ** 2)
        states[i], covariances[i], transitions[i], noises[i] = kf.x, kf.P, kf.F, kf.Q
    return states, (covariances, transitions, noises)


def doppler(seen: Recording, sport: str) -> Filtered:
    """The stated speed as it is."""
    del sport
    none = np.zeros(len(seen.t_s))
    return Filtered(seen.east_m, seen.north_m, none, none, seen.speed_mps, float(np.trapezoid(seen.speed_mps, seen.t_s)))


PEERS: Final[dict[str, Callable[[Recording, str], Filtered]]] = {
    "raw": raw,
    "moving average of 5": moving_average,
    "Savitzky-Golay 11/2 (SciPy, offline)": savitzky_golay,
    "rules shaped like Traccar's": traccar_rules,
    "constant velocity (FilterPy)": constant_velocity,
    "constant velocity + RTS (FilterPy, offline)": constant_velocity_smoothed,
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
