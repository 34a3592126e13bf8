"""Telling: an effort as it is told. Provisional at even speed between the fixes, unless the filter knows the speed at them; settled with
the speed around them."""

from __future__ import annotations

import math
from typing import Final

from processors.kernels.chains import END, released, unhung
from processors.kernels.compiled import compiled, compiled_inside
from processors.kernels.crossings import sigma_us, smooth_us, straight_us, whole
from processors.kernels.legs import east_m, north_m
from processors.kernels.match_columns import (
    C_AFTER,
    C_AFTER_T,
    C_LEFT_V,
    C_RIGHT_T,
    C_RIGHT_V,
    CURVE,
    E_ACCURACY_MS,
    E_ELAPSED_MS,
    E_NUMBER,
    E_ORDINAL,
    E_PHASE,
    E_PIECE,
    E_START_US,
    FINISH,
    FINISH_EAST,
    FINISH_NORTH,
    FINISH_X,
    FINISH_Y,
    MARKS,
    NEVER,
    NEXT,
    NO_SPEED,
    NUMBER,
    ORDINAL,
    PROVISIONAL,
    SETTLED,
    START,
    START_EAST,
    START_NORTH,
    START_US,
    WAITING,
    Book,
    Fixes,
    Grid,
    Index,
    T,
    Told,
)

SETTLE_US: Final = 5_000_000  # from the finish to the settled time


@compiled_inside
def speeds_known(records: Grid, r: int) -> bool:
    """Whether the filter knew the speed at all four fixes around the two gates: then nothing need be waited for."""
    start = records[r, START + C_LEFT_V] != NO_SPEED and records[r, START + C_RIGHT_V] != NO_SPEED
    return start and records[r, FINISH + C_LEFT_V] != NO_SPEED and records[r, FINISH + C_RIGHT_V] != NO_SPEED


@compiled_inside
def told_of(book: Book, r: int, phase: int, events: Grid, curves: Grid, piece: int, n: int) -> int:
    """Write the effort in record `r` to row `n` as this phase knows it; the number of the next row."""
    records = book.records
    counted_from_us = records[r, START_US]
    start_us, finish_us = counted_from_us, straight_us(records, r, FINISH)
    if phase != PROVISIONAL or speeds_known(records, r):
        start_us, finish_us = smooth_us(records, r, START), smooth_us(records, r, FINISH)
    elapsed_ms = max((finish_us - start_us + 500) // 1000, 1)
    earlier_ms = (counted_from_us - start_us) // 1000
    floor_ms = 0
    for k in range(CURVE - 1):
        at_ms = elapsed_ms
        if k < records[r, MARKS]:
            at_ms = book.curves[r, k] + earlier_ms
        floor_ms = min(max(at_ms, floor_ms), elapsed_ms)
        curves[n, k] = floor_ms
    curves[n, CURVE - 1] = elapsed_ms
    start_sigma, finish_sigma = sigma_us(records, r, START), sigma_us(records, r, FINISH)
    events[n, E_PIECE] = piece
    events[n, E_NUMBER] = records[r, NUMBER]
    events[n, E_ORDINAL] = records[r, ORDINAL]
    events[n, E_START_US] = start_us
    events[n, E_ELAPSED_MS] = elapsed_ms
    events[n, E_PHASE] = phase
    events[n, E_ACCURACY_MS] = whole(math.sqrt(start_sigma * start_sigma + finish_sigma * finish_sigma) * 1e-3)
    return n + 1


@compiled_inside
def beside_start(index: Index, book: Book, r: int, fixes: Fixes, i: int) -> None:
    """A new fix tells the speed after a start: how far beyond the start gate it is."""
    number = book.records[r, NUMBER]
    lower = len(index.lower.gates)
    gates = index.lower.gates if number < lower else index.upper.gates
    g = number if number < lower else number - lower
    ahead_m = east_m(gates, g, fixes.lon[i]) * (gates[g, START_EAST] * 1e-9) + north_m(gates, g, fixes.lat[i]) * (
        gates[g, START_NORTH] * 1e-9
    )
    book.records[r, START + C_AFTER_T] = fixes.t_us[i]
    book.records[r, START + C_AFTER] = whole(ahead_m * 1000.0)


@compiled_inside
def beside_finish(index: Index, book: Book, r: int, fixes: Fixes, i: int) -> None:
    """The same of the finish gate."""
    number = book.records[r, NUMBER]
    lower = len(index.lower.gates)
    gates = index.lower.gates if number < lower else index.upper.gates
    g = number if number < lower else number - lower
    x = east_m(gates, g, fixes.lon[i]) - gates[g, FINISH_X] * 1e-3
    y = north_m(gates, g, fixes.lat[i]) - gates[g, FINISH_Y] * 1e-3
    book.records[r, FINISH + C_AFTER_T] = fixes.t_us[i]
    book.records[r, FINISH + C_AFTER] = whole((x * (gates[g, FINISH_EAST] * 1e-9) + y * (gates[g, FINISH_NORTH] * 1e-9)) * 1000.0)


@compiled_inside
def settle_with(index: Index, book: Book, slot: int, fixes: Fixes, i: int, told: Told, piece: int, n: int) -> int:
    """A new fix tells the speed after a finish, and that five seconds have passed: SETTLED is told. The number of the next row."""
    records = book.records
    before, r = END, book.heads[slot, WAITING]
    while r != END:
        behind = records[r, NEXT]
        if records[r, NUMBER] >= 0:
            if records[r, FINISH + C_AFTER_T] == NEVER:
                beside_finish(index, book, r, fixes, i)
            if records[r, START + C_AFTER_T] == NEVER and records[r, START + C_RIGHT_T] == book.heads[slot, T]:
                beside_start(index, book, r, fixes, i)
        if fixes.t_us[i] >= straight_us(records, r, FINISH) + SETTLE_US:
            n = told_of(book, r, SETTLED, told.events, told.curves, piece, n)
            unhung(book, slot, WAITING, before, r)
            released(book, r)
        else:
            before = r
        r = behind
    return n


@compiled
def settle_due(book: Book, slot: int, now_us: int, told: Told, n: int) -> int:
    """SETTLED for what has waited five seconds by `now_us`, when no fix came to settle it. The number of the next row."""
    before, r = END, book.heads[slot, WAITING]
    while r != END:
        behind = book.records[r, NEXT]
        if now_us >= straight_us(book.records, r, FINISH) + SETTLE_US:
            n = told_of(book, r, SETTLED, told.events, told.curves, 0, n)
            unhung(book, slot, WAITING, before, r)
            released(book, r)
        else:
            before = r
        r = behind
    return n
