"""Passes: all attempts of one athlete over one step: those under way go on, end or finish, and new ones begin (and may finish at once)."""

from __future__ import annotations

import math
from typing import Final

from processors.kernels.chains import END, appended, released, taken, unhung
from processors.kernels.compiled import compiled_inside
from processors.kernels.crossings import straight_us
from processors.kernels.following import FINISHED, GOES_ON, followed
from processors.kernels.legs import turned
from processors.kernels.match_columns import (
    B_CROSSING,
    B_NUMBER,
    C_AFTER_T,
    C_BEFORE,
    C_BEFORE_T,
    C_COUNT,
    C_LEFT,
    C_NEXT,
    C_NUMBER,
    C_RIGHT,
    C_RIGHT_T,
    COUNTS,
    CROSSING,
    FREE_COUNT,
    FREE_COUNT_N,
    INLINE,
    LATITUDE,
    LONGITUDE,
    NEVER,
    NEXT,
    NUMBER,
    ON_US,
    ORDINAL,
    PROGRESS,
    PROVISIONAL,
    RECORD_COLUMNS,
    SPILLED,
    START,
    START_US,
    UNDER,
    UNDER_N,
    WAITING,
    Book,
    Fixes,
    Grid,
    Index,
    T,
    Told,
    Whole,
)
from processors.kernels.plane import METRE, cosine
from processors.kernels.telling import beside_start, told_of

GAP_US: Final = 120_000_000  # a silence that ends every attempt ...
STAND_M: Final = 60.0  # ... unless it ends where it began: a device that stops recording at a red light
SAME_PASS_MM: Final = 45_000


@compiled_inside
def fallen_silent(heads: Grid, slot: int, fixes: Fixes, i: int) -> bool:
    """Whether the step to fix `i` is a silence that ends all attempts."""
    if fixes.t_us[i] - heads[slot, T] <= GAP_US:
        return False
    return step_m(heads, slot, fixes, i) > STAND_M


@compiled_inside
def step_m(heads: Grid, slot: int, fixes: Fixes, i: int) -> float:
    """How long the step to fix `i` is."""
    lat, lon = heads[slot, LATITUDE], heads[slot, LONGITUDE]
    x = turned(fixes.lon[i] - lon) * (METRE * cosine((lat + fixes.lat[i]) * 0.5))
    y = (fixes.lat[i] - lat) * METRE
    return math.sqrt(x * x + y * y)


@compiled_inside
def drop_all(book: Book, slot: int) -> None:
    """End all attempts under way."""
    while book.heads[slot, UNDER_N] > 0:
        r = book.heads[slot, UNDER]
        unhung(book, slot, UNDER, END, r)
        released(book, r)


@compiled_inside
def follow(index: Index, book: Book, slot: int, fixes: Fixes, i: int, finished: Whole, full_m: float) -> int:
    """All attempts under way over the step to fix `i`; how many finished (records in `finished`, one a segment: the last begun)."""
    records = book.records
    lower = len(index.lower.gates)
    n = 0
    before, r = END, book.heads[slot, UNDER]
    while r != END:
        behind = records[r, NEXT]
        number = records[r, NUMBER]
        if records[r, START + C_AFTER_T] == NEVER and records[r, START + C_RIGHT_T] < fixes.t_us[i]:
            beside_start(index, book, r, fixes, i)
        tables = index.lower if number < lower else index.upper
        came_to = followed(tables, number if number < lower else number - lower, book, r, slot, fixes, i, full_m, 1.0)
        if came_to == GOES_ON:
            before = r
        else:
            unhung(book, slot, UNDER, before, r)
            if came_to == FINISHED:
                n = _finished(book, finished, n, r)
            else:
                released(book, r)
        r = behind
    return n


@compiled_inside
def begin(
    index: Index, book: Book, slot: int, fixes: Fixes, i: int, told: Told, piece: int, n_told: int, begun: int, finished: int,
    full_m: float,
) -> int:  # fmt: skip
    """Attempts on the first `begun` starts of `told.begun`; then the `finished` first of `told.finished`, and who finishes at once, have
    arrived and are told. The number of the next row."""
    heads, records = book.heads, book.records
    lower = len(index.lower.gates)
    for b in range(begun):
        number = told.begun[b, B_NUMBER]
        back = 1 if told.begun[b, B_CROSSING + C_BEFORE_T] == NEVER or told.begun[b, B_CROSSING + C_BEFORE] < 0 else 0
        if _clear_pass(book, slot, number, back) == 0:
            continue
        r = taken(book)
        for column in range(RECORD_COLUMNS):
            records[r, column] = 0
        records[r, NUMBER] = number
        for column in range(CROSSING):
            records[r, START + column] = told.begun[b, B_CROSSING + column]
        start_us = straight_us(records, r, START)
        records[r, START_US] = start_us
        records[r, ON_US] = start_us
        left, right = records[r, START + C_LEFT], records[r, START + C_RIGHT]
        tables = index.lower if number < lower else index.upper
        out_of = right / (right - left)
        came_to = followed(tables, number if number < lower else number - lower, book, r, slot, fixes, i, full_m, out_of)
        if came_to == FINISHED:
            finished = _finished(book, told.finished, finished, r)
        else:
            if heads[slot, UNDER_N] >= INLINE:
                heads[slot, SPILLED] += 1
            appended(book, slot, UNDER, r)
    for k in range(finished):
        r = told.finished[k]
        records[r, ORDINAL] = _counted(book, slot, records[r, NUMBER])
        appended(book, slot, WAITING, r)
        n_told = told_of(book, r, PROVISIONAL, told.events, told.curves, piece, n_told)
    return n_told


@compiled_inside
def _finished(book: Book, finished: Whole, n: int, r: int) -> int:
    """Put a record among those finished on this step, in place of an earlier one of its segment; how many there are."""
    for k in range(n):
        if book.records[finished[k], NUMBER] == book.records[r, NUMBER]:
            released(book, finished[k])
            finished[k] = r
            return n
    finished[n] = r
    return n + 1


@compiled_inside
def _clear_pass(book: Book, slot: int, number: int, back: int) -> int:
    """End the attempts of a segment that began on this same pass, when one went `back` behind the gate (1); 0: there is one to keep."""
    records = book.records
    before, r = END, book.heads[slot, UNDER]
    while r != END:
        behind = records[r, NEXT]
        if records[r, NUMBER] == number and records[r, PROGRESS] <= SAME_PASS_MM:
            if back == 0:
                return 0
            unhung(book, slot, UNDER, before, r)
            released(book, r)
        else:
            before = r
        r = behind
    return 1


@compiled_inside
def _counted(book: Book, slot: int, number: int) -> int:
    """Count an effort on a segment: which one it is, from 0."""
    counts, heads = book.counts, book.heads
    c = heads[slot, COUNTS]
    while c != END:
        if counts[c, C_NUMBER] == number:
            counts[c, C_COUNT] += 1
            return counts[c, C_COUNT] - 1
        c = counts[c, C_NEXT]
    c = book.pool[FREE_COUNT]
    book.pool[FREE_COUNT] = counts[c, C_NEXT]
    book.pool[FREE_COUNT_N] -= 1
    counts[c, C_NUMBER] = number
    counts[c, C_COUNT] = 1
    counts[c, C_NEXT] = heads[slot, COUNTS]
    heads[slot, COUNTS] = c
    return 0
