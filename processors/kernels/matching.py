"""Matching: fixes of many athletes in time order against an index of segments, into attempts, arrivals and what is told of them.

A start is a step between two fixes that passes a start gate forwards, close to its middle. From there the way along the line must grow:
each fix is put on the line within reach of what was travelled; too long off the line, a long silence or an overrun finish end the attempt.
An effort is a passed finish gate at the end of the way; it is told PROVISIONAL at once and SETTLED five seconds later. Several attempts
may run at once, also on one segment; a start repeated on the same pass replaces the first. Any cut into calls gives the same.

No allocation: when memory or room to tell runs out, `run` stops before the fix in question and says what is short.
"""

from __future__ import annotations

from processors.kernels.compiled import compiled, compiled_inside
from processors.kernels.match_columns import (
    ACCURACY,
    BEFORE_LAT,
    BEFORE_LON,
    BEFORE_T,
    EAST,
    FIXES,
    FREE_COUNT_N,
    FREE_N,
    LATITUDE,
    LONGITUDE,
    NORTH,
    UNDER_N,
    WAITING_N,
    Book,
    Fixes,
    Index,
    T,
    Told,
    Whole,
)
from processors.kernels.passes import begin, drop_all, fallen_silent, follow, step_m
from processors.kernels.starts import NO_ROOM, starts
from processors.kernels.telling import settle_with

DONE, MORE_EVENTS, MORE_BEGUN, MORE_RECORDS, MORE_COUNTS = range(5)


@compiled
def run(
    index: Index, sports: int, book: Book, slots: Whole, ends: Whole, fixes: Fixes, told: Told, piece: int, i: int, n_told: int
) -> tuple[int, int, int, int]:
    """Go on with fix `i` of `piece`: the fixes up to `ends[p]` (exclusive) are of the athlete `slots[p]`. What stopped it (DONE or what
    is short), the piece and fix to go on with, and how many are told by now."""
    heads = book.heads
    while piece < len(slots):
        slot = slots[piece]
        end = ends[piece]
        while i < end:
            if heads[slot, FIXES] > 0 and fixes.t_us[i] <= heads[slot, T]:
                i += 1
                continue
            if heads[slot, FIXES] > 0:
                silent = fallen_silent(heads, slot, fixes, i)
                begun = 0 if silent else starts(index, sports, heads, slot, fixes, i, told.begun)
                if begun == NO_ROOM:
                    return MORE_BEGUN, piece, i, n_told
                most = heads[slot, UNDER_N] + begun
                if len(told.events) - n_told < heads[slot, WAITING_N] + most:
                    return MORE_EVENTS, piece, i, n_told
                if len(told.finished) < most:
                    return MORE_BEGUN, piece, i, n_told
                if book.pool[FREE_N] < begun:
                    return MORE_RECORDS, piece, i, n_told
                if book.pool[FREE_COUNT_N] < most:
                    return MORE_COUNTS, piece, i, n_told
                if heads[slot, WAITING_N] > 0:
                    n_told = settle_with(index, book, slot, fixes, i, told, piece, n_told)
                if silent:
                    drop_all(book, slot)
                    heads[slot, FIXES] = 0
                elif heads[slot, UNDER_N] > 0 or begun > 0:
                    full_m = step_m(heads, slot, fixes, i)
                    finished = follow(index, book, slot, fixes, i, told.finished, full_m)
                    n_told = begin(index, book, slot, fixes, i, told, piece, n_told, begun, finished, full_m)
            _remember(book, slot, fixes, i)
            i += 1
        piece += 1
    return DONE, piece, i, n_told


@compiled_inside
def _remember(book: Book, slot: int, fixes: Fixes, i: int) -> None:
    """The fix becomes the last one."""
    heads = book.heads
    if heads[slot, FIXES] > 0:
        heads[slot, BEFORE_T] = heads[slot, T]
        heads[slot, BEFORE_LAT] = heads[slot, LATITUDE]
        heads[slot, BEFORE_LON] = heads[slot, LONGITUDE]
    heads[slot, FIXES] = min(heads[slot, FIXES] + 1, 2)
    heads[slot, T] = fixes.t_us[i]
    heads[slot, LATITUDE] = fixes.lat[i]
    heads[slot, LONGITUDE] = fixes.lon[i]
    heads[slot, ACCURACY] = fixes.accuracy_cm[i]
    heads[slot, NORTH] = fixes.north_mmps[i]
    heads[slot, EAST] = fixes.east_mmps[i]
