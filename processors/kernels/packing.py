"""Packing: lines of positions into rows of gates and legs (`match_columns`), and start gates into buckets of cells.

A gate is a point and the direction of travel there: with the line as given, the derivative of the parabola through the points 0, 12 and
24 m from an end, so a bend does not turn the gate and a wobble hardly. Legs are the line with no more points than it takes to stay within
TOLERANCE_M of every one given (Douglas and Peucker, 1973); ways along it are those of the full line.
"""

from __future__ import annotations

import math
from typing import Final

from processors.kernels.cells import bucket_of, hashed, row_of, tag_of, width_of
from processors.kernels.compiled import Row, compiled, compiled_inside
from processors.kernels.crossings import MAX_HALF_WIDTH_M, whole
from processors.kernels.legs import HALF_TURN, turned
from processors.kernels.match_columns import (
    COSINE,
    FINISH_EAST,
    FINISH_NORTH,
    FINISH_X,
    FINISH_Y,
    FIRST,
    LAT,
    LEGS,
    LENGTH,
    LON,
    RANK,
    SHAPE,
    SPARE,
    SPORTS,
    START_EAST,
    START_NORTH,
    Grid,
    Whole,
)
from processors.kernels.plane import METRE, cosine

PACKING: Final = 1  # goes up when the same line is packed otherwise: attempts remember on which leg they are
TOLERANCE_M: Final = 3.0
END_TOLERANCE_M: Final = 1.0  # of the last END_M, where it is decided who finishes
END_M: Final = 60.0
TANGENT_M: Final = 12.0
STAYS: Final = 512  # every so many points one stays, so that no line however wound takes longer than so many looks a point
LONGEST_LEG: Final = 30_000  # in 0.1 m: a leg fits 16 bits
MARGIN_M: Final = 1.0  # of a gate beyond what may ever be crossed
GATE_PIECES: Final = 4
UNIT_RAD: Final = 3.141592653589793 / 180.0 * 1e-7
SHAPE_PRIME: Final = 16_777_619  # hash of Fowler, Noll and Vo, 32 bits


@compiled_inside
def pack(
    lat: Whole, lon: Whole, first: int, end: int, sports: int, gates: Grid, g: int, legs: Grid, at: int, x: Row, y: Row, along: Row,
    stays: Whole, spans: Whole,
) -> int:  # fmt: skip
    """Pack the line of the positions from `first` to `end` (exclusive) into row `g` and legs from row `at`; the row after the last leg.

    It needs two distinct positions. `legs` must have room for all its points and its length over LONGEST_LEG.
    """
    south, north = lat[first], lat[first]
    shape = (2_166_136_261 ^ PACKING) & 0xFFFFFFFF
    n = 0
    for k in range(first, end):
        if k == first or lat[k] != lat[k - 1] or lon[k] != lon[k - 1]:
            south, north = min(south, lat[k]), max(north, lat[k])
            shape = ((shape ^ (lat[k] & 0xFFFFFFFF)) * SHAPE_PRIME) & 0xFFFFFFFF
            shape = ((shape ^ (lon[k] & 0xFFFFFFFF)) * SHAPE_PRIME) & 0xFFFFFFFF
    middle = (south + north) // 2
    cos_middle = cosine(middle * 1.0)
    sin_middle = math.sqrt(1.0 - cos_middle * cos_middle)
    if middle < 0:
        sin_middle = -sin_middle
    gates[g, COSINE] = whole(cos_middle * 1e9)
    east_m = METRE * (gates[g, COSINE] * 1e-9)
    way = 0.0
    for k in range(first, end):
        if k == first or lat[k] != lat[k - 1] or lon[k] != lon[k - 1]:
            x[n] = turned(lon[k] - lon[first]) * east_m
            y[n] = (lat[k] - lat[first]) * METRE
            if n > 0:
                off = ((lat[k] + lat[k - 1]) * 0.5 - middle) * UNIT_RAD  # cosine of the leg: two terms of the series around the middle
                dx = turned(lon[k] - lon[k - 1]) * (METRE * (cos_middle - off * (sin_middle + 0.5 * off * cos_middle)))
                dy = (lat[k] - lat[k - 1]) * METRE
                way += math.sqrt(dx * dx + dy * dy)
            along[n] = way
            n += 1
    gates[g, LAT], gates[g, LON] = lat[first], lon[first]
    gates[g, SPORTS], gates[g, SHAPE], gates[g, RANK], gates[g, SPARE] = sports, shape - (1 << 31), 2 * g + 1, 0
    gates[g, LENGTH] = whole(way * 1000.0)
    gates[g, FINISH_X], gates[g, FINISH_Y] = whole(x[n - 1] * 1000.0), whole(y[n - 1] * 1000.0)
    east, north_share = tangent(x, y, along, n, 0)
    gates[g, START_EAST], gates[g, START_NORTH] = whole(east * 1e9), whole(north_share * 1e9)
    east, north_share = tangent(x, y, along, n, 1)
    gates[g, FINISH_EAST], gates[g, FINISH_NORTH] = whole(east * 1e9), whole(north_share * 1e9)
    thin(x, y, along, n, stays, spans)
    gates[g, FIRST] = at
    last_x, last_y, last_way = 0, 0, 0
    for k in range(1, n):
        if stays[k] == 0:
            continue
        to_x, to_y, to_way = whole(x[k] * 10.0), whole(y[k] * 10.0), whole(along[k] * 10.0)
        if to_way == last_way and (k < n - 1 or last_way > 0):
            continue
        pieces = max(to_way - last_way, abs(to_x - last_x), abs(to_y - last_y)) // LONGEST_LEG + 1
        from_x, from_y, from_way = last_x, last_y, last_way
        for piece in range(1, pieces + 1):
            here_x, here_y = from_x + (to_x - from_x) * piece // pieces, from_y + (to_y - from_y) * piece // pieces
            here_way = from_way + (to_way - from_way) * piece // pieces
            legs[at, 0], legs[at, 1], legs[at, 2] = here_x - last_x, here_y - last_y, max(here_way - last_way, 1)
            last_x, last_y, last_way = here_x, here_y, here_way
            at += 1
    gates[g, LEGS] = at - gates[g, FIRST]
    return at


@compiled_inside
def point_at(x: Row, y: Row, along: Row, n: int, m: float) -> tuple[float, float]:
    """The place `m` metres along a line, its ends beyond them."""
    if m <= 0.0:
        return x[0], y[0]
    low, high = 0, n - 1
    if m >= along[high]:
        return x[high], y[high]
    while high - low > 1:
        middle = (low + high) // 2
        if along[middle] <= m:
            low = middle
        else:
            high = middle
    share = (m - along[low]) / (along[high] - along[low])
    return x[low] + share * (x[high] - x[low]), y[low] + share * (y[high] - y[low])


@compiled_inside
def tangent(x: Row, y: Row, along: Row, n: int, back: int) -> tuple[float, float]:
    """The unit direction of travel at the start of a line, or at its end (`back` 1): its shares to the east and north."""
    length = along[n - 1]
    near = min(TANGENT_M, length / 2.0)
    at = (length - near, length - 2.0 * near) if back == 1 else (near, 2.0 * near)
    x0, y0 = (x[n - 1], y[n - 1]) if back == 1 else (x[0], y[0])
    x1, y1 = point_at(x, y, along, n, at[0])
    x2, y2 = point_at(x, y, along, n, at[1])
    sign = -1.0 if back == 1 else 1.0
    east, north = sign * (4.0 * x1 - 3.0 * x0 - x2), sign * (4.0 * y1 - 3.0 * y0 - y2)
    size = math.sqrt(east * east + north * north)
    if size < 1e-6:
        east, north = sign * (x1 - x0), sign * (y1 - y0)
        size = math.sqrt(east * east + north * north)
    if size == 0.0:
        return 1.0, 0.0
    return east / size, north / size


@compiled_inside
def thin(x: Row, y: Row, along: Row, n: int, stays: Whole, spans: Whole) -> None:
    """Mark in `stays` the points that the line needs."""
    for k in range(n):
        stays[k] = 0
    first = 0
    while first < n - 1:
        last = min(first + STAYS, n - 1)
        at_end = along[n - 1] - along[first] <= END_M
        if not at_end:
            while last > first + 1 and along[n - 1] - along[last - 1] < END_M:
                last -= 1
        tolerance_m = END_TOLERANCE_M if at_end else TOLERANCE_M
        stays[first], stays[last] = 1, 1
        spans[0], spans[1] = first, last
        top = 1
        while top > 0:
            top -= 1
            a, b = spans[2 * top], spans[2 * top + 1]
            worst, at = tolerance_m * tolerance_m, 0
            east, north = x[b] - x[a], y[b] - y[a]
            square = east * east + north * north
            part = 1.0 / square if square > 0.0 else 0.0
            for k in range(a + 1, b):
                dx, dy = x[k] - x[a], y[k] - y[a]
                share = min(max((dx * east + dy * north) * part, 0.0), 1.0)
                dx, dy = dx - share * east, dy - share * north
                off = dx * dx + dy * dy
                if off > worst:
                    worst, at = off, k
            if at > 0:
                stays[at] = 1
                spans[2 * top], spans[2 * top + 1], spans[2 * top + 2], spans[2 * top + 3] = a, at, at, b
                top += 2
        first = last


@compiled
def pack_all(
    lat: Whole, lon: Whole, offsets: Whole, sports: Whole, gates: Grid, legs: Grid, x: Row, y: Row, along: Row, stays: Whole, spans: Whole
) -> int:
    """`pack` for each line: the positions of line `g` are those from `offsets[g]` to `offsets[g + 1]`; how many legs there are."""
    at = 0
    for g in range(len(offsets) - 1):
        at = pack(lat, lon, offsets[g], offsets[g + 1], sports[g], gates, g, legs, at, x, y, along, stays, spans)
    return at


@compiled
def most_legs(lat: Whole, lon: Whole, offsets: Whole) -> int:
    """No fewer legs than `pack_all` makes of these lines: one a point, and the pieces of long ones."""
    most = len(lat)
    for g in range(len(offsets) - 1):
        for k in range(offsets[g] + 1, offsets[g + 1]):
            wide = max(abs(lat[k] - lat[k - 1]), abs(turned(lon[k] - lon[k - 1])))
            if wide > LONGEST_LEG * 4:
                most += wide // (LONGEST_LEG * 4) + 1
    return most


@compiled_inside
def gate_cells(gates: Grid, g: int, widths: Whole, cells: Whole) -> int:
    """The hashes of the cells that the start gate of a segment touches, as wide as it may ever be crossed; how many."""
    reach = MAX_HALF_WIDTH_M + MARGIN_M
    east_m = METRE * (gates[g, COSINE] * 1e-9)
    aside_x, aside_y = -reach * (gates[g, START_NORTH] * 1e-9), reach * (gates[g, START_EAST] * 1e-9)
    n = 0
    for piece in range(GATE_PIECES):
        a, b = 1.0 - 2.0 * piece / GATE_PIECES, 1.0 - 2.0 * (piece + 1) / GATE_PIECES
        lat_a, lat_b = gates[g, LAT] + whole(aside_y * a / METRE), gates[g, LAT] + whole(aside_y * b / METRE)
        lon_a = turned(gates[g, LON] + whole(aside_x * a / east_m))
        lon_b = turned(gates[g, LON] + whole(aside_x * b / east_m))
        if abs(lon_b - lon_a) > HALF_TURN:
            lon_a = lon_b
        south, north = min(lat_a, lat_b) - 2, max(lat_a, lat_b) + 2
        west, east = min(lon_a, lon_b) - 2, max(lon_a, lon_b) + 2
        for row in range(row_of(south), row_of(north) + 1):
            width = width_of(widths, row)
            for column in range(west // width, east // width + 1):
                cell = hashed(row, column)
                again = False
                for k in range(n):
                    again = again or cells[k] == cell
                if not again:
                    cells[n] = cell
                    n += 1
    return n


@compiled
def fill_counts(gates: Grid, counts: Whole, widths: Whole, cells: Whole) -> int:
    """Count the gates of each bucket into `counts[bucket + 1]`; how many entries there are in all."""
    total = 0
    for g in range(len(gates)):
        n = gate_cells(gates, g, widths, cells)
        for k in range(n):
            counts[bucket_of(cells[k], len(counts) - 1) + 1] += 1
        total += n
    return total


@compiled
def fill_entries(gates: Grid, places: Whole, entries: Whole, tags: Whole, widths: Whole, cells: Whole) -> None:
    """Put each gate into its buckets, in the order of segments; `places[bucket]` is where its next entry goes."""
    for g in range(len(gates)):
        n = gate_cells(gates, g, widths, cells)
        for k in range(n):
            bucket = bucket_of(cells[k], len(places))
            at = places[bucket]
            entries[at] = g
            tags[at] = tag_of(cells[k])
            places[bucket] = at + 1
