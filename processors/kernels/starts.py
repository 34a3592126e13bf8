"""Starts: the start gates that a step between two fixes passes forwards."""

from __future__ import annotations

import math
from typing import Final

from processors.kernels.cells import bucket_of, hashed, row_of, tag_of, width_of
from processors.kernels.compiled import compiled_inside
from processors.kernels.crossings import half_width_m, whole
from processors.kernels.legs import HALF_TURN, east_m, north_m
from processors.kernels.match_columns import (
    ACCURACY,
    B_CROSSING,
    B_NUMBER,
    B_RANK,
    BEFORE_LAT,
    BEFORE_LON,
    BEFORE_T,
    BEGUN_COLUMNS,
    C_ACCURACY,
    C_AFTER,
    C_AFTER_T,
    C_BEFORE,
    C_BEFORE_T,
    C_LEFT,
    C_LEFT_T,
    C_LEFT_V,
    C_RIGHT,
    C_RIGHT_T,
    C_RIGHT_V,
    EAST,
    FIXES,
    LATITUDE,
    LONGITUDE,
    NEVER,
    NO_SPEED,
    NORTH,
    RANK,
    SPORTS,
    START_EAST,
    START_NORTH,
    Fixes,
    Grid,
    Index,
    T,
    Tables,
)  # fmt: skip

NO_ROOM: Final = -1
JITTER_M: Final = 3.0  # the direction of a shorter step says nothing
UNSURE_M: Final = 15.0  # up to here the step before is asked too
MAX_STEP_M: Final = 6_000.0  # a longer step starts nothing
PIECE: Final = 5_000  # a long step is looked at in pieces of about a cell
MAX_PIECES: Final = 1_000


@compiled_inside
def through(north_mmps: int, east_mmps: int, east: float, north: float) -> int:
    """Speed through a gate of that direction, NO_SPEED when it is not known."""
    if north_mmps == NO_SPEED or east_mmps == NO_SPEED:
        return NO_SPEED
    return whole(east_mmps * east + north_mmps * north)


@compiled_inside
def crossing(
    gates: Grid, g: int, x_m: float, y_m: float, east: float, north: float, heads: Grid, slot: int, fixes: Fixes, i: int, out: Grid,
    row: int, at: int,
) -> bool:  # fmt: skip
    """Whether the step to fix `i` passes the gate at (`x_m`, `y_m`) forwards within its half-width; then it is written to `out`."""
    ax, ay = east_m(gates, g, heads[slot, LONGITUDE]) - x_m, north_m(gates, g, heads[slot, LATITUDE]) - y_m
    left = whole((ax * east + ay * north) * 1000.0)
    if left >= 0:
        return False
    bx, by = east_m(gates, g, fixes.lon[i]) - x_m, north_m(gates, g, fixes.lat[i]) - y_m
    right = whole((bx * east + by * north) * 1000.0)
    if right < 0:
        return False
    share = -left / (right - left)
    cx, cy = ax + share * (bx - ax), ay + share * (by - ay)
    accuracy_cm = max(heads[slot, ACCURACY], fixes.accuracy_cm[i])
    if abs(cy * east - cx * north) > half_width_m(accuracy_cm):
        return False
    out[row, at + C_BEFORE_T] = NEVER
    out[row, at + C_BEFORE] = 0
    if heads[slot, FIXES] > 1:
        zx, zy = east_m(gates, g, heads[slot, BEFORE_LON]) - x_m, north_m(gates, g, heads[slot, BEFORE_LAT]) - y_m
        out[row, at + C_BEFORE_T] = heads[slot, BEFORE_T]
        out[row, at + C_BEFORE] = whole((zx * east + zy * north) * 1000.0)
    out[row, at + C_LEFT_T] = heads[slot, T]
    out[row, at + C_LEFT] = left
    out[row, at + C_RIGHT_T] = fixes.t_us[i]
    out[row, at + C_RIGHT] = right
    out[row, at + C_AFTER_T] = NEVER
    out[row, at + C_AFTER] = 0
    out[row, at + C_ACCURACY] = accuracy_cm
    out[row, at + C_LEFT_V] = through(heads[slot, NORTH], heads[slot, EAST], east, north)
    out[row, at + C_RIGHT_V] = through(fixes.north_mmps[i], fixes.east_mmps[i], east, north)
    return True


@compiled_inside
def starts(index: Index, sports: int, heads: Grid, slot: int, fixes: Fixes, i: int, begun: Grid) -> int:
    """How many of the segments for `sports` (bits) begin on the step to fix `i`: written to `begun` by name; NO_ROOM: more than fit."""
    lat, lon = heads[slot, LATITUDE], heads[slot, LONGITUDE]
    to_lat, to_lon = fixes.lat[i], fixes.lon[i]
    found = 0
    pieces = max(abs(to_lat - lat), abs(to_lon - lon)) // PIECE + 1
    if pieces > MAX_PIECES:
        if abs(to_lon - lon) <= HALF_TURN:
            return 0
        lat, lon, pieces = to_lat, to_lon, 1  # over the date line: what lies in the cell behind it
    from_lat, from_lon = lat, lon
    for k in range(1, pieces + 1):
        here_lat, here_lon = from_lat + (to_lat - from_lat) * k // pieces, from_lon + (to_lon - from_lon) * k // pieces
        south, north = min(lat, here_lat), max(lat, here_lat)
        west, east = min(lon, here_lon), max(lon, here_lon)
        for row in range(row_of(south), row_of(north) + 1):
            width = width_of(index.widths, row)
            for column in range(west // width, east // width + 1):
                cell = hashed(row, column)
                if len(index.lower.entries) > 0 and found >= 0:
                    found = _in_cell(index.lower, 0, index, cell, sports, heads, slot, fixes, i, begun, found)
                if len(index.upper.entries) > 0 and found >= 0:
                    found = _in_cell(index.upper, len(index.lower.gates), index, cell, sports, heads, slot, fixes, i, begun, found)
        lat, lon = here_lat, here_lon
    if found > 1:
        _by_name(begun, found)
    return found


@compiled_inside
def _along(gates: Grid, g: int, east: float, north: float, heads: Grid, slot: int, fixes: Fixes, i: int) -> bool:
    """Whether the step to fix `i` goes along that direction, within 60 degrees: it alone, or with the one before it, as a short step is
    turned by the noise of both its ends. A step too short to say is taken, one too long not."""
    bx, by = east_m(gates, g, fixes.lon[i]), north_m(gates, g, fixes.lat[i])
    dx, dy = bx - east_m(gates, g, heads[slot, LONGITUDE]), by - north_m(gates, g, heads[slot, LATITUDE])
    step_m = math.sqrt(dx * dx + dy * dy)
    if step_m > MAX_STEP_M:
        return False
    if step_m <= JITTER_M or 2.0 * (dx * east + dy * north) >= step_m:
        return True
    if heads[slot, FIXES] < 2 or step_m > UNSURE_M:
        return False
    dx, dy = bx - east_m(gates, g, heads[slot, BEFORE_LON]), by - north_m(gates, g, heads[slot, BEFORE_LAT])
    return 2.0 * (dx * east + dy * north) >= math.sqrt(dx * dx + dy * dy)


@compiled_inside
def _in_cell(
    tables: Tables, base: int, index: Index, cell: int, sports: int, heads: Grid, slot: int, fixes: Fixes, i: int, begun: Grid, found: int,
) -> int:  # fmt: skip
    """The starts of one cell, behind those found before."""
    bucket = bucket_of(cell, len(tables.buckets) - 1)
    tag = tag_of(cell)
    for e in range(tables.buckets[bucket], tables.buckets[bucket + 1]):
        if tables.tags[e] != tag:
            continue
        g = tables.entries[e]
        if (tables.gates[g, SPORTS] & sports) == 0 or (base == 0 and len(index.gone) > 0 and index.gone[g] != 0):
            continue
        if found >= len(begun):
            return NO_ROOM
        east, north = tables.gates[g, START_EAST] * 1e-9, tables.gates[g, START_NORTH] * 1e-9
        if not crossing(tables.gates, g, 0.0, 0.0, east, north, heads, slot, fixes, i, begun, found, B_CROSSING):
            continue
        if not _along(tables.gates, g, east, north, heads, slot, fixes, i):
            continue
        again = False
        for k in range(found):
            again = again or begun[k, B_NUMBER] == base + g
        if not again:
            begun[found, B_NUMBER] = base + g
            begun[found, B_RANK] = tables.gates[g, RANK]
            found += 1
    return found


@compiled_inside
def _by_name(begun: Grid, found: int) -> None:
    """Sort by the names of the segments: those of the upper table stand before that of the lower one with their rank."""
    for k in range(1, found):
        at = k
        while at > 0 and _after(begun, at - 1, at):
            for column in range(BEGUN_COLUMNS):
                kept = begun[at, column]
                begun[at, column] = begun[at - 1, column]
                begun[at - 1, column] = kept
            at -= 1


@compiled_inside
def _after(begun: Grid, a: int, b: int) -> bool:
    if begun[a, B_RANK] != begun[b, B_RANK]:
        return begun[a, B_RANK] > begun[b, B_RANK]
    return begun[a, B_NUMBER] > begun[b, B_NUMBER]
