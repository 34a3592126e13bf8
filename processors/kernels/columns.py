"""Columns of the float row of one athlete: 128 of them, 1 KiB, all state of the kernels between two samples."""

from __future__ import annotations

from typing import Final

COLUMNS: Final = 128

# Position filter: time; east, speed east, bias east, the same north; their covariance, upper triangle by rows; what the gates remember;
# the last stated speed, or the usual one of a device that states none.
(
    T, X, V, B, Y, W, C,
    XX, XV, XB, XY, XW, XC, VV, VB, VY, VW, VC, BB, BY, BW, BC, YY, YW, YC, WW, WC, CC,
    SIGMA, REFUSED_T, LAST_EAST, LAST_NORTH, LAST_SPEED,
) = range(33)  # fmt: skip
# Plane of the positions: its origin in 1e-7 degrees, metres to the east per unit.
ORIGIN_LAT, ORIGIN_LON, EAST_M = range(33, 36)
# Altitude: time, altitude, climb rate, covariance; the turning point, climb so far and whether it rises.
ALT_T, ALT_M, CLIMB_MPS, ALT_VAR, ALT_COV, CLIMB_VAR, LOW_M, HIGH_M, RISING, GAIN_M, ALT_REFUSED_T = range(36, 47)
# Heart: time of the last believed rate, rate, variance, trend, covariance of both, variance of the trend; time of the last sample, what it
# stated and since when, the rate that is held back.
HEART_T, HEART_BPM, HEART_VAR, HEART_TREND, HEART_COV, HEART_TREND_VAR, HEART_AT, HEART_STATED_BPM, HEART_SAME_T, HEART_OTHER_BPM = range(
    47, 57
)
# Load: last time of the zones; seconds in five zones; TRIMP.
LOAD_T, ZONE_S, TRIMP = 57, 58, 63
# Beats: last interval, running mean, sum of squared differences, how many, how many artefacts, how many of them in a row.
BEAT_MS, BEAT_MEAN_MS, BEAT_SQUARES, BEAT_PAIRS, BEAT_ARTEFACTS, BEAT_RUN = range(64, 70)
# Power: time, last, doubted one, work, seconds that went through the ring, sum of fourth powers; the second and its joules so far; what is
# usual.
POWER_T, POWER_W, DOUBT_W, WORK_J, RING_N, FOURTHS, SECOND, SECOND_J, TYPICAL_W = range(70, 79)
LIVE: Final = 79  # the live stage keeps the columns before this one; distance it sums in integers, and the ring it keeps in whole numbers
# Distance: sum, speed, since when standing, paused, time under way.
DISTANCE_M, SPEED_MPS, STILL_T, PAUSED, MOVING_S, TRAVEL_T = range(79, 85)
RING: Final = 85  # of power: 30 s
RING_S: Final = 30  # ends at column 115


def fresh_row() -> list[float]:
    """The row of an athlete never seen: nothing is known, nothing summed."""
    row = [0.0] * COLUMNS
    for column in _UNKNOWN:
        row[column] = float("nan")
    return row


_UNKNOWN: Final = (
    T, REFUSED_T, LAST_EAST, LAST_NORTH, LAST_SPEED, ORIGIN_LAT, ORIGIN_LON, SPEED_MPS, STILL_T, TRAVEL_T, ALT_T, ALT_REFUSED_T, HEART_T,
    HEART_BPM, HEART_AT, HEART_STATED_BPM, HEART_SAME_T, HEART_OTHER_BPM, LOAD_T, BEAT_MS, BEAT_MEAN_MS, POWER_T, POWER_W, DOUBT_W, SECOND,
    TYPICAL_W,
)  # fmt: skip
