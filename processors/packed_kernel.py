"""Changes of a packed board, one after the other: the loop that numba compiles; plain Python takes the same steps with the same integers.

Efforts of an athlete are a chain: `head[athlete]` is the slot of one + 1, `following[slot]` that of the next one, 0 ends it.
"""

from __future__ import annotations

from typing import Any, Final

import numpy as np

from processors import live_kernel as k
from processors.rank_pages import moved

STANDING: Final = 4  # a state below it stands
NEWS: Final = 1
MOVED: Final = 2
FAR_MS: Final = 1 << 31


def _newer(version: int, state: int, start_us: int, ms: int, version_b: int, state_b: int, start_us_b: int, ms_b: int) -> bool:
    """Whether the first of two states of one effort wins: by version, then in any fixed order."""
    if version != version_b:
        return version > version_b
    if state != state_b:
        return state > state_b
    if start_us != start_us_b:
        return start_us > start_us_b
    return ms > ms_b


def _before(slot: int, other: int, ms: Any, start_us: Any, hi: Any, lo: Any) -> bool:
    """Whether an effort stands before another: faster, then earlier, then by id."""
    if ms[slot] != ms[other]:
        return ms[slot] < ms[other]
    if start_us[slot] != start_us[other]:
        return start_us[slot] < start_us[other]
    if hi[slot] != hi[other]:
        return hi[slot] < hi[other]
    return lo[slot] < lo[other]


def _best_of(first: Any, following: Any, state: Any, ms: Any, start_us: Any, hi: Any, lo: Any) -> int:
    """The slot of the best standing effort of a chain, -1 when none stands."""
    best, slot = -1, first
    while slot:
        slot -= 1
        if state[slot] < STANDING and (best < 0 or _before(slot, best, ms, start_us, hi, lo)):
            best = slot
        slot = following[slot]
    return best


if k.numba is not None:
    _inlined: Any = k.numba.njit(cache=True, fastmath=False, error_model="numpy", inline="always")
    _newer = _inlined(_newer)
    _before = _inlined(_before)
    _best_of = k.numba.njit(cache=True, fastmath=False, error_model="numpy")(_best_of)


def take_all(  # noqa: C901 - one loop for numba
    c_athlete: Any, c_ms: Any, c_start_us: Any, c_version: Any, c_hi: Any, c_lo: Any, c_state: Any,
    hi: Any, lo: Any, start_us: Any, version: Any, ms: Any, state: Any, following: Any,
    head: Any, best_ms: Any, version_low: Any, version_high: Any,
    page_of: Any, buckets: Any, seconds: Any, minutes: Any, hours: Any, used: int, outcome: Any,
) -> tuple[int, int, Any]:  # fmt: skip
    """Take changes (columns `c_*`) into the efforts of a board; says how each came out.

    Returns how many slots are in use now, how many athletes more stand, and the least time that came or went.
    """
    more, lowest_ms = 0, FAR_MS
    for i in range(len(c_athlete)):
        athlete: Any = np.int64(c_athlete[i])
        slot: Any = np.int64(head[athlete]) - 1
        while slot >= 0 and (hi[slot] != c_hi[i] or lo[slot] != c_lo[i]):
            slot = np.int64(following[slot]) - 1
        held_ms: Any = np.int64(best_ms[athlete])
        stands, stood = c_state[i] < STANDING, False
        if slot >= 0:
            if not _newer(c_version[i], c_state[i], c_start_us[i], c_ms[i], version[slot], state[slot], start_us[slot], ms[slot]):
                continue
            stood = state[slot] < STANDING
        held_version = (np.int64(version_high[athlete]) << 32) | np.int64(version_low[athlete])
        if c_version[i] > held_version:
            version_low[athlete] = c_version[i] & 0xFFFFFFFF
            version_high[athlete] = c_version[i] >> 32
        outcome[i] = NEWS
        concerned = (stands and (held_ms < 0 or c_ms[i] <= held_ms)) or (stood and ms[slot] == held_ms)
        was: Any = np.int64(-1)
        was_start_us: Any = np.int64(0)
        if concerned and held_ms >= 0:
            was = np.int64(_best_of(np.int64(head[athlete]), following, state, ms, start_us, hi, lo))
            was_start_us = np.int64(start_us[was])
        if slot < 0:
            slot = np.int64(used)
            used += 1
            hi[slot], lo[slot] = c_hi[i], c_lo[i]
            following[slot] = head[athlete]
            head[athlete] = slot + 1
        version[slot], state[slot], start_us[slot], ms[slot] = c_version[i], c_state[i], c_start_us[i], c_ms[i]
        if not concerned:
            continue
        best: Any = np.int64(_best_of(np.int64(head[athlete]), following, state, ms, start_us, hi, lo))
        now_ms: Any = np.int64(ms[best]) if best >= 0 else np.int64(-1)
        if best == was and now_ms == held_ms and (best < 0 or start_us[best] == was_start_us):
            continue
        outcome[i] = MOVED
        if held_ms >= 0:
            lowest_ms = min(lowest_ms, held_ms)
        if now_ms >= 0:
            lowest_ms = min(lowest_ms, now_ms)
        if now_ms != held_ms:
            if held_ms >= 0:
                moved(page_of, buckets, seconds, minutes, hours, held_ms, -1)
                more -= 1
            if now_ms >= 0:
                moved(page_of, buckets, seconds, minutes, hours, now_ms, 1)
                more += 1
            best_ms[athlete] = now_ms
    return used, more, lowest_ms


def find_between(best_ms: Any, lo_ms: int, hi_ms: int, found: Any) -> None:
    """Fill `found` with the athletes whose best time lies between two (both included): as many as there are."""
    count = 0
    if count == len(found):
        return
    for athlete in range(len(best_ms)):
        if lo_ms <= best_ms[athlete] <= hi_ms:
            found[count] = athlete
            count += 1
            if count == len(found):
                return


if k.numba is not None:
    find_between = k.numba.njit(cache=True, fastmath=False, error_model="numpy")(find_between)
    take_all = k.numba.njit(cache=True, fastmath=False, error_model="numpy")(take_all)
