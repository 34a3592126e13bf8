"""Smoothing: a whole track filtered forwards and then backwards, so that each point knows what came after it.

Constant velocity per axis in a local plane, process noise by sport, measurement noise from the stated accuracy; fixed-interval smoother of
Rauch, Tung and Striebel (AIAA Journal 3(8), 1965). A fix far off counts less the farther it is (soft gate), one out of all proportion not
at all, unless the next ones agree with it: then a new piece begins there, as it does after a silence. A receiver that repeats a position
while it moves is not heard. Only + - * / on floats in a fixed order, rounded to whole units at the end: the same bits everywhere.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Final

import numpy as np

from processors import live_kernel as k
from processors.geometry import METRE_PER_UNIT, plane_at
from processors.live_kernel import I64

SILENCE_S: Final = 60.0  # a longer one begins a new piece
NEAR_POLE: Final = 890_000_000  # nearer to a pole the plane is none: such a track stays as it is
_HALF_TURN: Final = 1_800_000_000
_TURN: Final = 3_600_000_000
_FROZEN_CMPS: Final = 100  # at this stated speed a position that stays the same is not a new one


@dataclass(frozen=True, slots=True)
class Noise:
    """What a smoother assumes: `agility` is the spectral density of acceleration (m2/s3), `speed_mps` the spread of speed when nothing is
    known; the deviation of a fix is `share` of its stated accuracy, at least `floor_m`, and `unstated_m` when none is stated. The soft gate
    is a squared deviation in units of the variance; out of proportion is 100 times the variance and `far_m`, for up to `patience` fixes."""

    agility: float
    speed_mps: float
    share: float
    floor_m: float
    unstated_m: float
    gate: float
    far_m: float
    patience: int


RUN: Final = Noise(agility=0.4, speed_mps=3.0, share=0.8, floor_m=0.3, unstated_m=1.0, gate=9.0, far_m=15.0, patience=5)
RIDE: Final = Noise(agility=3.0, speed_mps=8.0, share=0.8, floor_m=0.3, unstated_m=1.0, gate=9.0, far_m=25.0, patience=5)


def smooth_positions(t_us: I64, lat: I64, lon: I64, accuracy_cm: I64, speed_cmps: I64, noise: Noise) -> tuple[I64, I64]:
    """Smoothed positions in 1e-7 degrees for strictly rising times; `accuracy_cm` and `speed_cmps` are -1 where not stated."""
    if len(t_us) < 3 or int(np.abs(lat).max()) > NEAR_POLE:
        return lat, lon
    plane = plane_at(int(lat[0]), int(lon[0]), (int(lat.min()) + int(lat.max())) // 2)
    x = _wrapped(lon - lon[0]) * plane.east_m
    y = (lat - lat[0]) * METRE_PER_UNIT
    deviation = np.where(accuracy_cm >= 0, np.maximum(accuracy_cm * (noise.share / 100.0), noise.floor_m), noise.unstated_m)
    heard = np.ones(len(t_us), np.bool_)
    heard[1:] = (lat[1:] != lat[:-1]) | (lon[1:] != lon[:-1]) | (speed_cmps[1:] < _FROZEN_CMPS)
    seconds = (t_us - t_us[0]) * 1e-6
    xs, ys = smooth(seconds.tolist(), x.tolist(), y.tolist(), (deviation * deviation).tolist(), heard.tolist(), noise)
    east, north = np.rint(np.array(xs) / plane.east_m), np.rint(np.array(ys) / METRE_PER_UNIT)
    new_lat = np.clip(lat[0] + north.astype(np.int64), -900_000_000, 900_000_000)
    return new_lat, _wrapped(lon[0] + east.astype(np.int64))


def smooth(
    t_s: Sequence[float], x: Sequence[float], y: Sequence[float], variance: Sequence[float], heard: Sequence[bool], noise: Noise
) -> tuple[list[float], list[float]]:
    """Two coordinates smoothed together: parallel times (strictly rising), values in metres, variances in square metres, and whether a
    value is a measurement at all."""
    spread, far2 = noise.speed_mps * noise.speed_mps, noise.far_m * noise.far_m
    fixed = (noise.agility, spread, noise.gate, far2, noise.patience)
    n = len(t_s)
    if k.COMPILED:
        columns = [np.array(column, np.float64) for column in (t_s, x, y, variance)]
        state, gains = np.zeros((n, 4)), np.zeros((n, 4))
        _run(*columns, np.array(heard, np.bool_), *fixed, state, gains)
        return state[:, 0].tolist(), state[:, 1].tolist()
    rows, steps = [[0.0] * 4 for _ in range(n)], [[0.0] * 4 for _ in range(n)]
    _run(t_s, x, y, variance, heard, *fixed, rows, steps)
    return [row[0] for row in rows], [row[1] for row in rows]


def warm_up() -> None:
    """Compile (or load the cached) smoother before the first activity is finished."""
    smooth((), (), (), (), (), RUN)


def _smooth(
    t: Any, x: Any, y: Any, variance: Any, heard: Any, q: float, spread: float, gate: float, far2: float, patience: int, state: Any,
    gains: Any,
) -> None:  # fmt: skip
    """Piece by piece, forwards and then backwards. `state` is x, y and their speeds per fix, `gains` those of the step to it."""
    start = 0
    while start < len(t):
        end = _forward(t, x, y, variance, heard, q, spread, gate, far2, patience, state, gains, start)
        _backward(t, state, gains, start, end)
        start = end


def _forward(
    t: Any, x: Any, y: Any, variance: Any, heard: Any, q: float, spread: float, gate: float, far2: float, patience: int, state: Any,
    gains: Any, start: int,
) -> int:  # fmt: skip
    """Filter from `start` to the end of its piece, at least one fix; the first fix of the next. One covariance serves both coordinates."""
    px, py, vx, vy = x[start], y[start], 0.0, 0.0
    p00, p01, p11 = variance[start], 0.0, spread
    refused = 0
    state[start][0], state[start][1], state[start][2], state[start][3] = px, py, vx, vy
    for i in range(start + 1, len(t)):
        dt = t[i] - t[i - 1]
        if dt > SILENCE_S:
            return i
        f00, f10 = p00 + dt * p01, p01 + dt * p11
        q_dt = q * dt
        n00 = f00 + dt * f10 + q_dt * dt * dt / 3.0
        n01 = f10 + q_dt * dt / 2.0
        n11 = p11 + q_dt
        det = n00 * n11 - n01 * n01
        gain = gains[i]
        if det > 0.0:
            gain[0] = (f00 * n11 - p01 * n01) / det
            gain[1] = (p01 * n00 - f00 * n01) / det
            gain[2] = (f10 * n11 - p11 * n01) / det
            gain[3] = (p11 * n00 - f10 * n01) / det
        else:
            gain[0], gain[1], gain[2], gain[3] = 1.0, 0.0, 0.0, 1.0
        px, py = px + dt * vx, py + dt * vy
        p00, p01, p11 = n00, n01, n11
        if heard[i]:
            rx, ry = x[i] - px, y[i] - py
            off = rx * rx + ry * ry
            s = p00 + variance[i]
            if off > 100.0 * s and off > far2:
                refused += 1
                if refused == patience:
                    return i - refused + 1  # they agree with one another: the next piece is theirs
            else:
                refused = 0
                if off > gate * s:
                    s = off / gate
                k0, k1 = p00 / s, p01 / s
                px, py, vx, vy = px + k0 * rx, py + k0 * ry, vx + k1 * rx, vy + k1 * ry
                p00, p01, p11 = p00 - k0 * p00, p01 - k0 * p01, p11 - k1 * p01
        state[i][0], state[i][1], state[i][2], state[i][3] = px, py, vx, vy
    return len(t)


def _backward(t: Any, state: Any, gains: Any, start: int, end: int) -> None:
    """Smooth a piece in its place, from its last fix to its first."""
    sx, sy, svx, svy = state[end - 1][0], state[end - 1][1], state[end - 1][2], state[end - 1][3]
    for i in range(end - 2, start - 1, -1):
        dt = t[i + 1] - t[i]
        row, gain = state[i], gains[i + 1]
        x, y, vx, vy = row[0], row[1], row[2], row[3]
        ex, ey = sx - (x + dt * vx), sy - (y + dt * vy)
        ux, uy = svx - vx, svy - vy
        sx, sy = x + gain[0] * ex + gain[1] * ux, y + gain[0] * ey + gain[1] * uy
        svx, svy = vx + gain[2] * ex + gain[3] * ux, vy + gain[2] * ey + gain[3] * uy
        row[0], row[1] = sx, sy


_run: Callable[..., None] = _smooth
if k.numba is not None:
    _jit: Any = k.numba.njit(cache=True, fastmath=False, error_model="numpy")
    _forward, _backward = _jit(_forward), _jit(_backward)
    _run = _jit(_smooth)


def _wrapped(lon: I64) -> I64:
    return (lon + _HALF_TURN) % _TURN - _HALF_TURN
