"""Fusion: whose samples of a channel count (decision 0205).

An athlete's origins become one: of each channel one source counts at a time. Another one takes over when it was better without a break
for a while (`BETTER_US`, `MOTION_BETTER_US`), or when the one that counts was silent for `HOLD_US`. How good a source is, its rank, is
said by the sample: what it comes from, and for positions how accurate they are said to be. The order that decides is that of the
samples' times, so a sample whose arrival order disagrees is *late*, and the stage runs the activity again.

`side` holds what is remembered beside the row while another source proves itself: per channel two entries of source, since when it has been
better, its last sample and its lowest rank since then.
"""

from __future__ import annotations

from typing import Any, Final

from processors.kernels.compiled import compiled
from processors.live_row import MV_RUN, NEVER, RANK_AT, RANKS

HOLD_US: Final = 10_000_000  # silence of a source before another one of the athlete takes over
BETTER_US: Final = 5_000_000  # a better one proves itself so long ...
MOTION_BETTER_US: Final = 15_000_000  # ... and for motion, where accuracies come and go, so long
RANK_STAYS_US: Final = 30_000_000  # what counts is judged anew no sooner than this after it was

ORG: Final = 0  # of the three columns of a channel: whose samples count,
RUN: Final = 1  # since when it is known that they do,
LAST: Final = 2  # the last one
HEART, MOTION, POWER, CADENCE = range(4)

REJECTED: Final = 0  # another source counts
TAKEN: Final = 1
LATE: Final = -1
PROVING: Final = 10  # rejected, but better: entry 0 or 1 is added
PROVED: Final = 20  # taken from another source for being better: the entry is added
SILENT: Final = 30  # taken from another source for its silence; one more is the entry of the new one, when it was proving itself

ENTRIES: Final = 2
SIDE: Final = 4 * ENTRIES * 4
_OF, _SINCE, _SEEN, _LEAST = range(4)

# ranks
_STRAP, _OPTICAL, _GRIPS = 3, 2, 1
_METER, _MACHINE, _PASSED_ON = 3, 2, 1
_MACHINE_MOVES, _PLACED, _POD, _UNPLACED, _MACHINE_STANDS = 20, 8, 5, 4, 3
MOTION_KIND, BEATS_KIND, MACHINE_KIND = 1, 2, 3  # layouts


@compiled
def heart_rank(kind: int) -> int:
    """A strap (it tells beats) over a rate measured on the skin or passed on, that over hand grips."""
    if kind == BEATS_KIND:
        return _STRAP
    return _GRIPS if kind == MACHINE_KIND else _OPTICAL


@compiled
def pedal_rank(kind: int, own: int) -> int:
    """Of power and cadence: a meter heard by a box over a machine, that over what a device that numbers itself passes on or estimates."""
    if kind == MACHINE_KIND:
        return _MACHINE
    return _PASSED_ON if own == 1 else _METER


@compiled
def motion_rank(kind: int, own: int, placed: int, accuracy_cm: int, speed_cmps: int) -> int:
    """A machine that moves is where its user is. Else positions over none: by accuracy, then those of a device that numbers itself (a
    watch) over those passed on (a phone). Without any: a wheel or foot pod, a device that numbers itself, a machine that stands."""
    if kind == MACHINE_KIND:
        return _MACHINE_MOVES if speed_cmps >= 50 else _MACHINE_STANDS
    if placed == 0:
        return _UNPLACED if own == 1 else _POD
    grade = 1  # not stated
    if accuracy_cm >= 0:
        grade = 3 if accuracy_cm <= 500 else 2 if accuracy_cm <= 1_000 else 1 if accuracy_cm <= 2_000 else 0
    return _PLACED + 2 * grade + own


@compiled
def since_of(side: Any, number: int, e: int) -> int:
    """Since when an entry has been better, 0 or NEVER when it is not."""
    return side[(number * ENTRIES + e) * 4 + _SINCE]


@compiled
def accepts(st: Any, side: Any, channel: int, number: int, t: int, org: int, rank: int) -> int:
    """Whether the channel (its first column and number) takes this sample; see the outcomes above.

    A new run begins when the source changes or was silent for long: what another source measured before it may have taken over, so that is
    late. At the very instant a run began the canonical order decides whose it is, so another source's sample there counts as late too.
    """
    last = st[channel + LAST]
    if last == NEVER:
        _take(st, channel, number, t, org, rank)
        return TAKEN
    if org == st[channel + ORG]:
        if t <= last:
            return LATE
        if t - last > HOLD_US:
            _take(st, channel, number, t, org, rank)
        elif number == MOTION:
            _judge(st, t, rank)
        st[channel + LAST] = t
        return TAKEN
    if t - last > HOLD_US:
        e = _entry(side, number, org)
        if e >= 0 and since_of(side, number, e) == NEVER:
            e = -1
        _clear(side, number)
        _take(st, channel, number, t, org, rank)
        return SILENT + 1 + e
    if t <= st[channel + RUN]:
        return LATE
    verdict = _prove(st, side, number, t, org, rank)
    if verdict >= PROVED:
        if t <= last or _other_seen(side, number, verdict - PROVED, t) == 1:
            return LATE
        rank = side[(number * ENTRIES + verdict - PROVED) * 4 + _LEAST]
        _clear(side, number)
        _take(st, channel, number, t, org, rank)
    return verdict


@compiled
def _take(st: Any, channel: int, number: int, t: int, org: int, rank: int) -> None:
    st[channel + ORG] = org
    st[channel + RUN] = t
    st[channel + LAST] = t
    st[RANKS] = (st[RANKS] & ~(255 << (8 * number))) | (rank << (8 * number))
    if number == MOTION:
        st[RANK_AT] = NEVER


@compiled
def _judge(st: Any, t: int, rank: int) -> None:
    """The rank of the motion that counts, as it is now: it takes effect `HOLD_US` later, by when nothing of that time was judged yet."""
    if st[RANK_AT] != NEVER:
        if t < st[RANK_AT] + RANK_STAYS_US:
            return
        after = (st[RANKS] >> 32) & 255
        st[RANKS] = (st[RANKS] & ~(255 << (8 * MOTION))) | (after << (8 * MOTION))
        st[MV_RUN] = max(st[MV_RUN], st[RANK_AT])
        st[RANK_AT] = NEVER
    if rank != (st[RANKS] >> (8 * MOTION)) & 255:
        st[RANKS] = (st[RANKS] & 0xFFFFFFFF) | (rank << 32)
        st[RANK_AT] = t + HOLD_US


@compiled
def _prove(st: Any, side: Any, number: int, t: int, org: int, rank: int) -> int:
    """A sample of a source that does not count. In motion a worse one breaks the proof, and is remembered to know when it was."""
    now = (st[RANKS] >> (8 * number)) & 255
    if number == MOTION and st[RANK_AT] != NEVER and t >= st[RANK_AT]:
        now = (st[RANKS] >> 32) & 255
    e = _entry(side, number, org)
    if rank <= now and number != MOTION:
        return REJECTED
    if e < 0:
        e = _room(side, number, t)
        if e < 0:
            return LATE if rank > now else REJECTED
        at = (number * ENTRIES + e) * 4
        side[at + _OF], side[at + _SINCE], side[at + _SEEN], side[at + _LEAST] = org, NEVER, NEVER, rank
    at = (number * ENTRIES + e) * 4
    seen = side[at + _SEEN]
    if seen != NEVER and t <= seen:
        return LATE
    side[at + _SEEN] = t
    if rank <= now:
        side[at + _SINCE] = NEVER
        return REJECTED
    if side[at + _SINCE] == NEVER or t - seen > HOLD_US:
        side[at + _SINCE], side[at + _LEAST] = t, rank
    side[at + _LEAST] = min(side[at + _LEAST], rank)
    if t - side[at + _SINCE] >= (MOTION_BETTER_US if number == MOTION else BETTER_US):
        return PROVED + e
    return PROVING + e


@compiled
def _entry(side: Any, number: int, org: int) -> int:
    """The entry of a source, -1 when it has none."""
    for e in range(ENTRIES):
        at = (number * ENTRIES + e) * 4
        if side[at + _SEEN] != 0 and side[at + _OF] == org:
            return e
    return -1


@compiled
def _room(side: Any, number: int, t: int) -> int:
    """An entry that is free, or whose source is silent; -1 when there is none."""
    for e in range(ENTRIES):
        at = (number * ENTRIES + e) * 4
        if side[at + _SEEN] == 0 or t - side[at + _SEEN] > HOLD_US:
            return e
    return -1


@compiled
def _other_seen(side: Any, number: int, e: int, t: int) -> int:
    """1 when another source already was heard after `t`: it would have to prove itself anew from there."""
    for other in range(ENTRIES):
        at = (number * ENTRIES + other) * 4
        if other != e and side[at + _SEEN] >= t and side[at + _SINCE] != NEVER:
            return 1
    return 0


@compiled
def _clear(side: Any, number: int) -> None:
    for i in range(number * ENTRIES * 4, (number + 1) * ENTRIES * 4):
        side[i] = 0
