"""Changes of a packed board, one after the other: the loop that numba compiles; plain Python takes the same steps with the same integers.

An effort is a slot of the columns, found by its id in an open-addressed table (`table[place]` is a slot + 1, 0 is free). The efforts of an
athlete are a chain: `head[athlete]` is the slot of one + 1, `following[slot]` that of the next one, 0 ends it.
"""

from __future__ import annotations

from typing import Any, Final, NamedTuple

import numpy as np

from processors import live_kernel as k
from processors.rank_pages import Pages, moved

COUNTS: Final = 4  # a state below it counts
KEPT_OFF: Final = 4  # added to the phase in a state
REMOVED: Final = 8
DOUBLE: Final = 16  # a second recording of a crossing: it stands and does not count
TOLD: Final = 15  # the bits of a state that were told; DOUBLE is found out here
NEWS: Final = 1
MOVED: Final = 2
CROWDED: Final = 4
EQUAL: Final = 8
FAR_MS: Final = (1 << 31) - 1


class Columns(NamedTuple):
    """The efforts, by slot."""

    id_hi: Any
    id_lo: Any
    start_us: Any
    version_low: Any
    version_high: Any
    elapsed_ms: Any
    state: Any
    athlete: Any
    following: Any


class Told(NamedTuple):
    """Changes, one a place. A number of an athlete is an index of `head`."""

    athlete: Any
    id_hi: Any
    id_lo: Any
    start_us: Any
    version: Any
    elapsed_ms: Any
    state: Any


def place_of(table: Any, col_hi: Any, col_lo: Any, hi: Any, lo: Any) -> int:
    """The row of a name of two 64-bit numbers, or -1 - the free place of the table where it belongs."""
    mask = len(table) - 1
    at: Any = np.int64((hi ^ (hi >> np.uint64(29)) ^ lo ^ (lo >> np.uint64(17))) & np.uint64(0x3FFFFFFF)) & mask
    while table[at]:
        row: Any = np.int64(table[at]) - 1
        if col_hi[row] == hi and col_lo[row] == lo:
            return row
        at = (at + 1) & mask
    return -1 - at


def best_of(head: Any, columns: Columns, athlete: Any, from_us: Any, to_us: Any) -> int:
    """The slot of the best counting effort of an athlete that starts between two times (the end exclusive), -1 without one."""
    best: Any = np.int64(-1)
    slot: Any = np.int64(head[athlete]) - 1
    while slot >= 0:
        if columns.state[slot] < COUNTS and from_us <= columns.start_us[slot] < to_us and (best < 0 or _before(columns, slot, best)):
            best = slot
        slot = np.int64(columns.following[slot]) - 1
    return best


def _before(c: Columns, slot: Any, other: Any) -> bool:
    """Whether an effort stands before another: faster, then earlier, then by id."""
    if c.elapsed_ms[slot] != c.elapsed_ms[other]:
        return c.elapsed_ms[slot] < c.elapsed_ms[other]
    if c.start_us[slot] != c.start_us[other]:
        return c.start_us[slot] < c.start_us[other]
    if c.id_hi[slot] != c.id_hi[other]:
        return c.id_hi[slot] < c.id_hi[other]
    return c.id_lo[slot] < c.id_lo[other]


def crowded(head: Any, c: Columns, athlete: Any, slot: Any) -> bool:
    """Whether an effort shares time with another one of its athlete that stands."""
    from_us: Any = np.int64(c.start_us[slot])
    to_us: Any = from_us + 1000 * np.int64(c.elapsed_ms[slot])
    other: Any = np.int64(head[athlete]) - 1
    while other >= 0:
        shares = np.int64(c.start_us[other]) + 1000 * np.int64(c.elapsed_ms[other]) > from_us and c.start_us[other] < to_us
        if shares and other != slot and (c.state[other] & TOLD) < COUNTS:
            return True
        other = np.int64(c.following[other]) - 1
    return False


def seat(best_ms: Any, pages: Pages, athlete: Any, now_ms: Any) -> int:
    """Give an athlete a best time (-1: none); how many more stand."""
    held_ms: Any = np.int64(best_ms[athlete])
    if held_ms == now_ms:
        return 0
    more = 0
    if held_ms >= 0:
        moved(pages.page_of, pages.buckets, pages.seconds, pages.minutes, pages.hours, held_ms, -1)
        more -= 1
    if now_ms >= 0:
        moved(pages.page_of, pages.buckets, pages.seconds, pages.minutes, pages.hours, now_ms, 1)
        more += 1
    best_ms[athlete] = now_ms
    return more


if k.numba is not None:
    _jit: Any = k.numba.njit(cache=True, fastmath=False, error_model="numpy")
    place_of = _jit(place_of)
    _before = k.numba.njit(cache=True, fastmath=False, error_model="numpy", inline="always")(_before)
    best_of = _jit(best_of)
    crowded = _jit(crowded)
    seat = _jit(seat)


def take_all(  # noqa: C901, PLR0912, PLR0915 - one loop for numba
    told: Told, forced: bool, table: Any, c: Columns, head: Any, best_ms: Any, pages: Pages, used: int, outcome: Any
) -> tuple[int, int, Any]:  # fmt: skip
    """Take changes into the efforts of a board; `outcome` says per change NEWS, with MOVED when a best effort of an athlete is another or
    has another time or start, with CROWDED when efforts that share time are concerned; EQUAL when a state of that version is held already
    (`forced`: it is taken all the same); 0 for an older one.

    Returns how many slots are in use now, how many athletes more stand, and the least time that came or went.
    """
    ever_from_us: Any = np.int64(-(1 << 62))
    ever_to_us: Any = np.int64(1 << 62)
    more, lowest_ms = 0, FAR_MS
    for i in range(len(told.athlete)):
        athlete: Any = np.int64(told.athlete[i])
        slot: Any = np.int64(place_of(table, c.id_hi, c.id_lo, told.id_hi[i], told.id_lo[i]))
        was_athlete: Any = np.int64(-1)
        stood = False
        said = NEWS
        if slot >= 0:
            held_version = (np.int64(c.version_high[slot]) << 32) | np.int64(c.version_low[slot])
            if told.version[i] <= held_version and not (forced and told.version[i] == held_version):
                outcome[i] = EQUAL if told.version[i] == held_version else 0
                continue
            was_athlete = np.int64(c.athlete[slot])
            stood = (c.state[slot] & TOLD) < COUNTS
            if stood and crowded(head, c, was_athlete, slot):
                said |= CROWDED
        best: Any = np.int64(best_of(head, c, athlete, ever_from_us, ever_to_us))
        best_start_us: Any = np.int64(c.start_us[best]) if best >= 0 else np.int64(0)
        held_ms: Any = np.int64(best_ms[athlete])
        was_best = was_athlete >= 0 and was_athlete != athlete and stood and best_ms[was_athlete] == c.elapsed_ms[slot]
        if slot < 0:
            table[-1 - slot] = used + 1
            slot = np.int64(used)
            used += 1
            c.id_hi[slot], c.id_lo[slot] = told.id_hi[i], told.id_lo[i]
        elif was_athlete != athlete:
            before: Any = np.int64(-1)
            at: Any = np.int64(head[was_athlete]) - 1
            while at != slot:
                before = at
                at = np.int64(c.following[at]) - 1
            if before < 0:
                head[was_athlete] = c.following[slot]
            else:
                c.following[before] = c.following[slot]
        if was_athlete != athlete:
            c.following[slot] = head[athlete]
            head[athlete] = slot + 1
        c.version_low[slot] = told.version[i] & 0xFFFFFFFF
        c.version_high[slot] = told.version[i] >> 32
        c.start_us[slot], c.elapsed_ms[slot] = told.start_us[i], told.elapsed_ms[i]
        c.state[slot], c.athlete[slot] = told.state[i], athlete
        if c.state[slot] < COUNTS and crowded(head, c, athlete, slot):
            said |= CROWDED
        if was_best:
            other: Any = np.int64(best_of(head, c, was_athlete, ever_from_us, ever_to_us))
            lowest_ms = min(lowest_ms, np.int64(best_ms[was_athlete]))
            more += seat(best_ms, pages, was_athlete, np.int64(c.elapsed_ms[other]) if other >= 0 else np.int64(-1))
            said |= MOVED
        now: Any = np.int64(best_of(head, c, athlete, ever_from_us, ever_to_us))
        now_ms: Any = np.int64(c.elapsed_ms[now]) if now >= 0 else np.int64(-1)
        if now != best or now_ms != held_ms or (now >= 0 and c.start_us[now] != best_start_us):
            if held_ms >= 0:
                lowest_ms = min(lowest_ms, held_ms)
            if now_ms >= 0:
                lowest_ms = min(lowest_ms, now_ms)
            more += seat(best_ms, pages, athlete, now_ms)
            said |= MOVED
        outcome[i] = said
    return used, more, lowest_ms


def find_all(table: Any, col_hi: Any, col_lo: Any, hi: Any, lo: Any, found: Any) -> None:
    """The row of each name, below 0 without one."""
    for i in range(len(hi)):
        found[i] = place_of(table, col_hi, col_lo, hi[i], lo[i])


def number_all(table: Any, col_hi: Any, col_lo: Any, hi: Any, lo: Any, numbers: Any) -> int:
    """The row of each name, new names in the order in which they come, into empty columns that are long enough; how many there are."""
    rows = 0
    for i in range(len(hi)):
        row: Any = place_of(table, col_hi, col_lo, hi[i], lo[i])
        if row < 0:
            table[-1 - row] = rows + 1
            col_hi[rows], col_lo[rows] = hi[i], lo[i]
            row = rows
            rows += 1
        numbers[i] = row
    return rows


def index_all(table: Any, col_hi: Any, col_lo: Any, used: int) -> None:
    """Fill an empty table with the names of the first `used` rows."""
    for row in range(used):
        table[-1 - place_of(table, col_hi, col_lo, col_hi[row], col_lo[row])] = row + 1


if k.numba is not None:
    take_all = k.numba.njit(cache=True, fastmath=False, error_model="numpy")(take_all)
    find_all = k.numba.njit(cache=True, fastmath=False, error_model="numpy")(find_all)
    index_all = k.numba.njit(cache=True, fastmath=False, error_model="numpy")(index_all)
    number_all = k.numba.njit(cache=True, fastmath=False, error_model="numpy")(number_all)
