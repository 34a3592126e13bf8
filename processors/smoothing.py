"""Smoothing: a whole track filtered forwards and then backwards, so that each point knows what came after it.

Constant velocity per axis in a local plane, process noise by sport, measurement noise from the stated accuracy; fixed-interval smoother of
Rauch, Tung and Striebel (AIAA Journal 3(8), 1965). A fix far off counts less the farther it is (soft gate), one out of all proportion not
at all, unless the next ones agree with it: then a new piece begins there, as it does after a silence. A receiver that repeats a position
while it moves is not heard. Only + - * / on floats in a fixed order, rounded to whole units at the end: the same bits everywhere.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Final

import numpy as np

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


@dataclass(slots=True)
class _Pass:
    """What the forward pass leaves for the backward one, per fix of a piece: filtered state and the gain of the step to the next."""

    dt: list[float] = field(default_factory=list[float])
    x: list[float] = field(default_factory=list[float])
    y: list[float] = field(default_factory=list[float])
    vx: list[float] = field(default_factory=list[float])
    vy: list[float] = field(default_factory=list[float])
    gains: list[tuple[float, float, float, float]] = field(default_factory=list[tuple[float, float, float, float]])


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
    xs: list[float] = []
    ys: list[float] = []
    while len(xs) < len(t_s):
        piece = _forward(t_s, x, y, variance, heard, noise, len(xs))
        _backward(piece, xs, ys)
    return xs, ys


def _forward(
    t_s: Sequence[float], x: Sequence[float], y: Sequence[float], variance: Sequence[float], heard: Sequence[bool], noise: Noise, start: int
) -> _Pass:
    """Filter from `start` to the end of its piece, at least one fix. The covariance is the same for both coordinates."""
    made = _Pass()
    q, gate, far2 = noise.agility, noise.gate, noise.far_m * noise.far_m
    px, py, vx, vy = x[start], y[start], 0.0, 0.0
    p00, p01, p11 = variance[start], 0.0, noise.speed_mps * noise.speed_mps
    refused = 0
    made.x.append(px)
    made.y.append(py)
    made.vx.append(vx)
    made.vy.append(vy)
    for i in range(start + 1, len(t_s)):
        dt = t_s[i] - t_s[i - 1]
        if dt > SILENCE_S:
            break
        f00, f10 = p00 + dt * p01, p01 + dt * p11
        q_dt = q * dt
        n00 = f00 + dt * f10 + q_dt * dt * dt / 3.0
        n01 = f10 + q_dt * dt / 2.0
        n11 = p11 + q_dt
        det = n00 * n11 - n01 * n01
        if det > 0.0:
            gains = (
                (f00 * n11 - p01 * n01) / det,
                (p01 * n00 - f00 * n01) / det,
                (f10 * n11 - p11 * n01) / det,
                (p11 * n00 - f10 * n01) / det,
            )
        else:
            gains = (1.0, 0.0, 0.0, 1.0)
        px, py = px + dt * vx, py + dt * vy
        p00, p01, p11 = n00, n01, n11
        if heard[i]:
            rx, ry = x[i] - px, y[i] - py
            off = rx * rx + ry * ry
            s = p00 + variance[i]
            if off > 100.0 * s and off > far2:
                refused += 1
                if refused == noise.patience:
                    return _without(made, refused - 1)
            else:
                refused = 0
                if off > gate * s:
                    s = off / gate
                k0, k1 = p00 / s, p01 / s
                px, py, vx, vy = px + k0 * rx, py + k0 * ry, vx + k1 * rx, vy + k1 * ry
                p00, p01, p11 = p00 - k0 * p00, p01 - k0 * p01, p11 - k1 * p01
        made.dt.append(dt)
        made.gains.append(gains)
        made.x.append(px)
        made.y.append(py)
        made.vx.append(vx)
        made.vy.append(vy)
    return made


def _without(made: _Pass, last: int) -> _Pass:
    """A piece without its last fixes: they belong to the next one."""
    keep = len(made.x) - last
    return _Pass(made.dt[: keep - 1], made.x[:keep], made.y[:keep], made.vx[:keep], made.vy[:keep], made.gains[: keep - 1])


def _backward(piece: _Pass, xs: list[float], ys: list[float]) -> None:
    """Append the smoothed coordinates of a piece."""
    sx, sy, svx, svy = piece.x[-1], piece.y[-1], piece.vx[-1], piece.vy[-1]
    found_x, found_y = [sx], [sy]
    for i in range(len(piece.dt) - 1, -1, -1):
        dt, vx, vy = piece.dt[i], piece.vx[i], piece.vy[i]
        c00, c01, c10, c11 = piece.gains[i]
        ex, ey = sx - (piece.x[i] + dt * vx), sy - (piece.y[i] + dt * vy)
        ux, uy = svx - vx, svy - vy
        sx, sy = piece.x[i] + c00 * ex + c01 * ux, piece.y[i] + c00 * ey + c01 * uy
        svx, svy = vx + c10 * ex + c11 * ux, vy + c10 * ey + c11 * uy
        found_x.append(sx)
        found_y.append(sy)
    xs.extend(reversed(found_x))
    ys.extend(reversed(found_y))


def _wrapped(lon: I64) -> I64:
    return (lon + _HALF_TURN) % _TURN - _HALF_TURN
