"""Segments in the live stage: feeds the positions the kernel believes to each athlete's matcher, and says what was timed.

An effort is timed at the crossing (provisional) and again with five more seconds (settled); `finish` has the last word. Athletes of
tenants without segments cost one look-up a batch.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from broker.logrecord import LogRecord
from processors import live_kernel as k
from processors.live_kernel import I64
from processors.live_state import LiveStates, Matching
from processors.matcher import Fixes, advance, settle
from processors.reference_data import ReferenceData
from processors.results import Timed, activity_id
from processors.run_kernel import Ran
from processors.samples import Samples
from processors.segments import SegmentIndex
from processors.stage import LiveEfforts, Outputs


def match_live(
    reference: ReferenceData, states: LiveStates, slots: list[int], samples: Samples, ran: Ran, seen: Mapping[int, tuple[int, int]],
    outputs: Outputs,
) -> None:  # fmt: skip
    """Advance the matchers of everyone who moved. `seen`: (position, append time) of the last record of a slot in this batch."""
    found = np.flatnonzero(ran.fixes != k.NEVER)
    if not len(found):
        return
    slot_of = np.repeat(np.asarray(slots, np.int64), samples.ends - samples.first)[found]
    order = np.argsort(slot_of, kind="stable")
    found, slot_of = found[order], slot_of[order]
    cuts = np.flatnonzero(np.concatenate([[True], (slot_of[1:] != slot_of[:-1]) | (ran.fixes[found[1:]] != ran.fixes[found[:-1]])]))
    for lo, hi in zip(cuts.tolist(), [*cuts[1:].tolist(), len(found)], strict=True):
        slot, start_us = int(slot_of[lo]), int(ran.fixes[found[lo]])
        key = states.key_of(slot)
        index = _index_of(reference, key)
        if index is None:
            continue
        timed = advance(states.matching(key, start_us).attempts, index, _fixes(samples, found[lo:hi]))
        position, appended_us = seen[slot]
        _say(key, _anchor(states, ran, slot, start_us), timed, position, appended_us, outputs)


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
    reference: ReferenceData, states: LiveStates, key: str, run: I64, samples: Samples, fixes: I64, at: tuple[int, int], outputs: Outputs,
    *, publish: bool,
) -> None:  # fmt: skip
    """The matcher's state after the whole of the current activity; `publish`: and its efforts, which are then all it has."""
    index = _index_of(reference, key)
    if index is None and key not in states.matchings:
        return
    matching = Matching(int(run[k.START]))
    timed: list[Timed] = []
    if index is not None:
        timed = advance(matching.attempts, index, _fixes(samples, np.flatnonzero(fixes == run[k.START])))
    states.set_matching(key, matching)
    if publish:
        _say(key, int(run[k.ANCHOR]), timed, *at, outputs, whole=True)


def _index_of(reference: ReferenceData, key: str) -> SegmentIndex | None:
    tenant, _, athlete = key.partition("/")
    return None if athlete.startswith("@") else reference.index(tenant)


def _fixes(samples: Samples, chosen: I64) -> Fixes:
    return Fixes(
        samples.t_us[chosen].tolist(), samples.lat[chosen].tolist(), samples.lon[chosen].tolist(), samples.accuracy_cm[chosen].tolist()
    )


def _anchor(states: LiveStates, ran: Ran, slot: int, start_us: int) -> int:
    """The anchor of the activity of a slot that began then: it goes on, or ended in this batch."""
    row = states.rows[slot]
    if row[k.START] == start_us:
        return int(row[k.ANCHOR])
    return next(int(r[k.ANCHOR]) for r in ran.closed if r[k.COLUMNS - 1] == slot and r[k.START] == start_us)


def _say(key: str, anchor_us: int, timed: list[Timed], version: int, appended_us: int, outputs: Outputs, *, whole: bool = False) -> None:
    """Put out the last word on each effort."""
    last = {(t.segment, t.ordinal): t for t in timed}
    if last or whole:
        outputs.efforts.append(LiveEfforts(key, activity_id(key, anchor_us), list(last.values()), version, appended_us, whole))
