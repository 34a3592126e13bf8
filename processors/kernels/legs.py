"""Legs: where a place lies on the packed line of a segment, and where it lies to a gate.

A line is legs of (east, north, way) in 0.1 m behind each other. A place is put on the part within reach that is near it and near to
where it was expected, so that a there-and-back is not cut short; never before where the athlete was already.
"""

from __future__ import annotations

import math
from typing import Final

from processors.kernels.compiled import compiled, compiled_inside
from processors.kernels.match_columns import COSINE, FIRST, LAT, LEGS, LON, Grid
from processors.kernels.plane import METRE

UNIT_M: Final = 0.1
STRAY_WEIGHT: Final = 0.1  # how much being off the expected way counts against being off the line (both squared)
HALF_TURN: Final = 1_800_000_000
TURN: Final = 3_600_000_000


@compiled_inside
def turned(lon: int) -> int:
    """A difference of longitudes the short way round."""
    if lon > HALF_TURN:
        return lon - TURN
    if lon < -HALF_TURN:
        return lon + TURN
    return lon


@compiled_inside
def east_m(gates: Grid, g: int, lon: int) -> float:
    """Metres east of the first point of a segment."""
    return turned(lon - gates[g, LON]) * (METRE * (gates[g, COSINE] * 1e-9))


@compiled_inside
def north_m(gates: Grid, g: int, lat: int) -> float:
    """Metres north of the first point of a segment."""
    return (lat - gates[g, LAT]) * METRE


@compiled
def locate(
    gates: Grid, legs: Grid, g: int, leg: int, leg_x: int, leg_y: int, leg_at: int, x: float, y: float, from_m: float, end_m: float,
    expected_m: float,
) -> tuple[float, float, int, int, int, int]:  # fmt: skip
    """Where between `from_m` and `end_m` a place is put best: way from the start, square of the distance off (m2), and the leg it is on
    (its number, and where it begins).

    The search begins at the leg given, which begins at `leg_x`, `leg_y`, `leg_at` (0.1 m) and must not begin behind `from_m`.
    """
    first, last = gates[g, FIRST], gates[g, LEGS] - 1
    best_cost = math.inf
    best_m, best_off2 = from_m, math.inf
    best_leg, best_x, best_y, best_at = leg, leg_x, leg_y, leg_at
    while True:
        ex, ey, run = legs[first + leg, 0], legs[first + leg, 1], legs[first + leg, 2]
        start_m = leg_at * UNIT_M
        next_m = (leg_at + run) * UNIT_M
        beyond = max(start_m - expected_m, 0.0)
        if STRAY_WEIGHT * beyond * beyond >= best_cost:  # as all legs behind it
            return best_m, best_off2, best_leg, best_x, best_y, best_at
        if next_m > from_m or leg == last:
            run_m = run * UNIT_M
            bx, by = ex * UNIT_M, ey * UNIT_M
            px, py = x - leg_x * UNIT_M, y - leg_y * UNIT_M
            square = bx * bx + by * by
            share = 0.0
            if square > 0.0:
                share = min(max((px * bx + py * by) / square, 0.0), 1.0)
            at_m = start_m + share * run_m
            if at_m < from_m:
                share = min((from_m - start_m) / run_m, 1.0)
                at_m = start_m + share * run_m
            elif at_m > end_m:
                share = max((end_m - start_m) / run_m, 0.0)
                at_m = start_m + share * run_m
            dx, dy = px - share * bx, py - share * by
            off2 = dx * dx + dy * dy
            stray = at_m - expected_m
            cost = off2 + STRAY_WEIGHT * stray * stray
            if cost < best_cost:
                best_cost, best_m, best_off2 = cost, at_m, off2
                best_leg, best_x, best_y, best_at = leg, leg_x, leg_y, leg_at
        if leg == last or next_m >= end_m:
            return best_m, best_off2, best_leg, best_x, best_y, best_at
        leg += 1
        leg_x += ex
        leg_y += ey
        leg_at += run
