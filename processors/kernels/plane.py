"""Plane: latitude and longitude in units of 1e-7 degrees to metres around the athlete, and on.

The plane touches where the athlete is; beyond REACH_M of its origin it moves along, so a ride of any length, over the date line too,
stays in it (equirectangular; mean Earth radius of the IUGG). Outcomes: latitude or longitude not a number, off the globe, (0, 0) as
receivers without a fix state it, or nearer than a degree to a pole: no position.
"""

from __future__ import annotations

from typing import Final

from processors.kernels.columns import EAST_M, LAST_EAST, LAST_NORTH, ORIGIN_LAT, ORIGIN_LON, X, Y
from processors.kernels.compiled import Row, compiled

METRE: Final = 6371008.8 * 3.141592653589793 / 180.0 * 1e-7  # per unit to the north
REACH_M: Final = 20_000.0
NEAR_POLE: Final = 890_000_000.0
HALF_TURN: Final = 1_800_000_000.0
TURN: Final = 3_600_000_000.0


@compiled
def cosine(units: float) -> float:
    """Cosine of a latitude in 1e-7 degrees, right to 1e-11: the series to the sixteenth power."""
    x = units * (3.141592653589793 / 180.0 * 1e-7)
    z = x * x
    return 1.0 - z / 2.0 * (
        1.0 - z / 12.0 * (1.0 - z / 30.0 * (1.0 - z / 56.0 * (1.0 - z / 90.0 * (1.0 - z / 132.0 * (1.0 - z / 182.0 * (1.0 - z / 240.0))))))
    )


@compiled
def usable(lat: float, lon: float) -> int:
    """1 when there is a position to speak of."""
    if lat != lat or lon != lon or abs(lat) > NEAR_POLE or abs(lon) > HALF_TURN or (lat == 0.0 and lon == 0.0):
        return 0
    return 1


@compiled
def wrapped(lon: float) -> float:
    """A difference of longitudes the short way round."""
    if lon > HALF_TURN:
        return lon - TURN
    if lon < -HALF_TURN:
        return lon + TURN
    return lon


@compiled
def place(row: Row, lat: float, lon: float) -> None:
    """Lay the plane where the first position is, and again where the athlete is out of its reach; the state of the filter moves with it."""
    if row[ORIGIN_LAT] == row[ORIGIN_LAT]:
        east, north = wrapped(lon - row[ORIGIN_LON]) * row[EAST_M], (lat - row[ORIGIN_LAT]) * METRE
        if abs(east) <= REACH_M and abs(north) <= REACH_M:
            return
        row[X] -= east
        row[Y] -= north
        row[LAST_EAST] -= east
        row[LAST_NORTH] -= north
    row[ORIGIN_LAT] = lat
    row[ORIGIN_LON] = lon
    row[EAST_M] = METRE * cosine(lat)


@compiled
def east_of(row: Row, lon: float) -> float:
    """Metres east of the origin."""
    return wrapped(lon - row[ORIGIN_LON]) * row[EAST_M]


@compiled
def north_of(row: Row, lat: float) -> float:
    """Metres north of the origin."""
    return (lat - row[ORIGIN_LAT]) * METRE


@compiled
def latitude(row: Row) -> float:
    """Where the filter sees the athlete."""
    return row[ORIGIN_LAT] + row[Y] / METRE


@compiled
def longitude(row: Row) -> float:
    """Where the filter sees the athlete."""
    return wrapped(row[ORIGIN_LON] + row[X] / row[EAST_M])
