"""Segments in the live stage: feeds the positions the kernel believes to each athlete's matcher, and says what was timed.

An effort is timed at the crossing (provisional) and again with five more seconds (settled); `finish` has the last word. Athletes of
tenants without segments cost one look-up a batch.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import pairwise
from typing import NamedTuple

import numpy as np

from broker.logrecord import LogRecord
from processors import live_kernel as k
from processors.live_kernel import I64
from processors.live_state import LiveStates, Matching
from processors.matcher import Attempts, Fixes, advance, advance_all, settle
from processors.reference_data import ReferenceData
from processors.results import Timed, activity_id
from processors.run_kernel import Ran
from processors.samples import Samples
from processors.segments import SegmentIndex
from processors.stage import LiveEfforts, Outputs


def match_live(
    reference: ReferenceData, states: LiveStates, slots: list[int], samples: Samples, ran: Ran, at: Sequence[tuple[int, int]],
    outputs: Outputs,
) -> None:  # fmt: skip
    """Advance the matchers of everyone who moved, frame by frame. `at`: (position, append time) of the record of each frame.

    So an effort belongs to the record that brought it, whatever else is in the batch, and boards take efforts in the order of the log.
    """
    tenants: dict[str, SegmentIndex | None] = {}
    indexes: dict[int, SegmentIndex | None] = {}
    for slot in set(slots):
        tenant, _, athlete = states.key_of(slot).partition("/")
        if tenant not in tenants:
            tenants[tenant] = reference.index(tenant)
        indexes[slot] = None if athlete.startswith("@") else tenants[tenant]
    if not any(tenants.values()):
        return
    found = np.flatnonzero(ran.fixes != k.NEVER)
    if not len(found):
        return
    frame_of = np.repeat(np.arange(len(slots)), samples.ends - samples.first)[found]
    starts = ran.fixes[found]
    cuts = np.flatnonzero(np.concatenate([[True], (frame_of[1:] != frame_of[:-1]) | (starts[1:] != starts[:-1])]))
    fixes = _fixes(samples, ran, found)
    bounds: list[int] = [*cuts.tolist(), len(found)]
    frames: list[int] = frame_of[cuts].tolist()
    begun: list[int] = starts[cuts].tolist()
    groups: dict[int, list[_Piece]] = {}  # by index: all subjects of a tenant at once
    for (lo, hi), frame, start_us in zip(pairwise(bounds), frames, begun, strict=True):
        index = indexes[slots[frame]]
        if index is not None:
            attempts = states.matching(states.key_of(slots[frame]), start_us).attempts
            groups.setdefault(id(index), []).append(_Piece(frame, start_us, lo, hi, index, attempts))
    timed: dict[tuple[int, int], list[Timed]] = {}
    for pieces in groups.values():
        for number, one in _advanced(pieces, fixes):
            timed.setdefault((pieces[number].frame, pieces[number].start_us), []).append(one)
    for frame, start_us in sorted(timed):
        slot = slots[frame]
        _say(states.key_of(slot), _anchor(states, ran, slot, start_us), timed[frame, start_us], *at[frame], outputs)


class _Piece(NamedTuple):
    """Fixes `lo` to before `hi` of one activity in one frame, and who they are matched for."""

    frame: int
    start_us: int
    lo: int
    hi: int
    segments: SegmentIndex
    attempts: Attempts


def _advanced(pieces: Sequence[_Piece], fixes: Fixes) -> list[tuple[int, Timed]]:
    """The efforts that pieces of one index bring, each with its piece."""
    ends = np.cumsum([piece.hi - piece.lo for piece in pieces])
    if int(ends[-1]) < len(fixes):
        fixes = fixes.chosen(np.concatenate([np.arange(piece.lo, piece.hi) for piece in pieces]))
    return advance_all([piece.attempts for piece in pieces], pieces[0].segments, fixes, ends)


def first_frames(samples: Samples, slots: Sequence[int], begun: Mapping[int, int]) -> dict[int, int]:
    """The frame in which the activity of each slot (slot -> its start) begins, for those that begin here."""
    found: dict[int, int] = {}
    if not begun:
        return found
    for frame, slot in enumerate(slots):
        start_us = begun.get(slot)
        if start_us is not None and slot not in found:
            times = samples.t_us[samples.first[frame] : samples.ends[frame]]
            if (times == start_us).any():
                found[slot] = frame
    return found


def settle_waiting(
    reference: ReferenceData, states: LiveStates, version: int, record: LogRecord, row: I64, outputs: Outputs
) -> bool:  # fmt: skip
    """Time again what waited for more positions that did not come; whether something still waits."""
    matching, index = states.matchings.get(record.key), _index_of(reference, record.key)
    if matching is None or index is None or matching.start_us != row[k.START]:
        return False
    silent_us = max(record.appended_us - int(row[k.APPENDED]), 0)
    timed = settle(matching.attempts, index, int(row[k.LAST_T]) + silent_us)
    if timed:
        states.set_matching(record.key, matching)
    _say(record.key, int(row[k.ANCHOR]), timed, version, record.appended_us, outputs)
    return bool(matching.attempts.waiting)


def match_again(
    reference: ReferenceData, states: LiveStates, key: str, run: I64, samples: Samples, ran: Ran, at: tuple[int, int], outputs: Outputs,
    *, publish: bool,
) -> None:  # fmt: skip
    """The matcher's state after the whole of the current activity; `publish`: and its efforts, which are then all it has."""
    index = _index_of(reference, key)
    if index is None and key not in states.matchings:
        return
    matching = Matching(int(run[k.START]), Attempts(states.arena))
    timed: list[Timed] = []
    if index is not None:
        timed = advance(matching.attempts, index, _fixes(samples, ran, np.flatnonzero(ran.fixes == run[k.START])))
    states.set_matching(key, matching)
    if publish:
        _say(key, int(run[k.ANCHOR]), timed, *at, outputs, whole=True)


def _index_of(reference: ReferenceData, key: str) -> SegmentIndex | None:
    tenant, _, athlete = key.partition("/")
    return None if athlete.startswith("@") else reference.index(tenant)


def _fixes(samples: Samples, ran: Ran, chosen: I64) -> Fixes:
    """Positions and velocities as the filter has them, accuracies as they were stated."""
    lat, lon, north, east = (ran.out[chosen, column] for column in (k.FIX_LAT, k.FIX_LON, k.FIX_NORTH, k.FIX_EAST))
    return Fixes(samples.t_us[chosen], lat, lon, samples.accuracy_cm[chosen], north, east)


def _anchor(states: LiveStates, ran: Ran, slot: int, start_us: int) -> int:
    """The anchor of the activity of a slot that began then: it goes on, or ended in this batch."""
    row = states.rows[slot]
    if row[k.START] == start_us:
        return int(row[k.ANCHOR])
    return next(int(ended.row[k.ANCHOR]) for ended in ran.closed if ended.slot == slot and ended.row[k.START] == start_us)


def _say(key: str, anchor_us: int, timed: list[Timed], version: int, appended_us: int, outputs: Outputs, *, whole: bool = False) -> None:
    """Put out the last word on each effort."""
    last = {(t.segment, t.ordinal): t for t in timed}
    if last or whole:
        outputs.efforts.append(LiveEfforts(key, activity_id(key, anchor_us), list(last.values()), version, appended_us, whole))
