"""Crossings: a gate passed between two fixes, when exactly, and how sure that is.

Times are whole microseconds, distances to the gate whole millimetres; floats only between them, with the operations of `compiled`.
"""

from __future__ import annotations

import math
from typing import Final

from processors.kernels.compiled import compiled_inside
from processors.kernels.match_columns import (
    C_ACCURACY,
    C_AFTER_T,
    C_BEFORE_T,
    C_LEFT,
    C_LEFT_T,
    C_LEFT_V,
    C_RIGHT,
    C_RIGHT_T,
    C_RIGHT_V,
    NEVER,
    NO_SPEED,
    Grid,
)

HALF_WIDTH_M: Final = 15.0  # of a gate, plus twice the stated accuracy, at most MAX_HALF_WIDTH_M
UNSTATED_HALF_WIDTH_M: Final = 40.0
MAX_HALF_WIDTH_M: Final = 45.0
NEAR_US: Final = 15_000_000  # a fix further away in time says nothing about the speed at a gate
ACCURACY_CM: Final = 500  # taken for positions that state none
SIGMA_SHARE: Final = 2 / 3  # one standard deviation along the way, of a stated accuracy
UNSTEADY_MPS2: Final = 0.3  # acceleration one may have between two fixes
SLOWEST_MPS: Final = 0.3
HALVINGS: Final = 30


@compiled_inside
def whole(value: float) -> int:
    """The nearest whole number, halves upwards."""
    return math.floor(value + 0.5)


@compiled_inside
def half_width_m(accuracy_cm: int) -> float:
    """How far from its middle a gate may be passed."""
    if accuracy_cm < 0:
        return UNSTATED_HALF_WIDTH_M
    return min(HALF_WIDTH_M + 0.02 * accuracy_cm, MAX_HALF_WIDTH_M)


@compiled_inside
def straight_us(rows: Grid, r: int, at: int) -> int:
    """When the crossing in the columns from `at` of a row was, at even speed between the two fixes."""
    left_t, left = rows[r, at + C_LEFT_T], rows[r, at + C_LEFT]
    way = rows[r, at + C_RIGHT] - left
    return left_t + whole((rows[r, at + C_RIGHT_T] - left_t) * (-left / way))


@compiled_inside
def slope(rows: Grid, r: int, at: int, knot: int, beside: int, speed: int, span_us: int, way: float) -> float:
    """Way per span at a knot: the speed of the filter there, when it is known; else from the pace on both sides; else the even one.

    Never backwards, and so gentle that the way between the knots only grows (Fritsch and Carlson, 1980; Fritsch and Butland, 1984).
    """
    if rows[r, at + speed] != NO_SPEED:
        return min(max(rows[r, at + speed] * (span_us * 1e-6), 0.0), 3.0 * way)
    if rows[r, at + beside] == NEVER:
        return way
    beside_us = abs(rows[r, at + knot] - rows[r, at + beside])
    if beside_us > NEAR_US:
        return way
    gone = rows[r, at + knot + 1] - rows[r, at + beside + 1]
    if gone * (rows[r, at + knot] - rows[r, at + beside]) <= 0:
        return 0.0
    other = abs(gone) * (span_us / beside_us)
    near, far = 2.0 * beside_us + span_us, 2.0 * span_us + beside_us
    return (near + far) / (near / way + far / other)


@compiled_inside
def smooth_us(rows: Grid, r: int, at: int) -> int:
    """When the crossing was, by the cubic through both fixes with the speed there."""
    left_t = rows[r, at + C_LEFT_T]
    span_us = rows[r, at + C_RIGHT_T] - left_t
    start = float(rows[r, at + C_LEFT])
    way = float(rows[r, at + C_RIGHT] - rows[r, at + C_LEFT])
    enter = slope(rows, r, at, C_LEFT_T, C_BEFORE_T, C_LEFT_V, span_us, way)
    leave = slope(rows, r, at, C_RIGHT_T, C_AFTER_T, C_RIGHT_V, span_us, way)
    if enter == way and leave == way:
        return straight_us(rows, r, at)
    low, high = 0.0, 1.0
    for _ in range(HALVINGS):
        u = (low + high) * 0.5
        v = 1.0 - u
        here = start + u * (v * v * enter + u * (way * (3.0 - 2.0 * u) - v * leave))
        if here < 0.0:
            low = u
        else:
            high = u
    return left_t + whole((low + high) * 0.5 * span_us)


@compiled_inside
def sigma_us(rows: Grid, r: int, at: int) -> float:
    """One standard deviation of the time: the accuracy of the positions, and what the speed may have done between them."""
    span_s = (rows[r, at + C_RIGHT_T] - rows[r, at + C_LEFT_T]) * 1e-6
    speed_mps = max((rows[r, at + C_RIGHT] - rows[r, at + C_LEFT]) * 1e-3 / span_s, SLOWEST_MPS)
    accuracy_cm = rows[r, at + C_ACCURACY]
    if accuracy_cm < 0:
        accuracy_cm = ACCURACY_CM
    place_s = accuracy_cm * 0.01 * SIGMA_SHARE / speed_mps
    between_s = min(span_s * 0.29, UNSTEADY_MPS2 * span_s * span_s / (8.0 * speed_mps))
    return math.sqrt(place_s * place_s + between_s * between_s) * 1e6
