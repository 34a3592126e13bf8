"""The live stage, keyed by subject: counts each frame once, orders, fuses, and keeps activities and the live board up to date.

Repeats are found by (origin, boot, seq). Frames in order go through the kernel; samples behind what is held are late: a wake re-runs
every activity they touch from its whole track, so the final state is a function of the set of frames, not of their arrival. Undated
frames wait, and take the date of the lowest-numbered dated frame of their boot.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from functools import lru_cache
from typing import Final

import numpy as np

from broker.errors import Rejected
from broker.layouts import all_layouts
from broker.logrecord import Kind, LogRecord
from processors import live_kernel as k
from processors.live_kernel import I64
from processors.live_state import LiveStates, Numbering
from processors.run_kernel import run_frames, run_tracks
from processors.samples import TakenFrame, samples_of
from processors.stage import Activity, Batch, Inputs, Mutation, Outputs, TrackWindow, Wake, Wants

REBUILD: Final = "rebuild"
CLOSE: Final = "close"
REBUILD_AFTER_US: Final = 3_000_000  # late frames come in runs: one rebuild when no more have come for this long ...
REBUILD_WITHIN_US: Final = 60_000_000  # ... but no later than this after the first
FOLD_FRAMES: Final = 500  # a rebuild that read this many frames folds them into blobs, so that the next one reads fast
CLOSE_AFTER_US: Final = k.GAP_US
_BITS: Final = {REBUILD: 1, CLOSE: 2}


@lru_cache(maxsize=65536)
def live_board(subject: str) -> str:
    """The board of everyone live of the subject's tenant."""
    return f"live/{subject.partition('/')[0]}"


@dataclass(slots=True)
class _Touched:
    """What a batch did to one subject."""

    slot: int
    position: int
    appended_us: int


class LiveStage:
    """See the module."""

    name = "live"
    state_version = 1

    def key(self, record: LogRecord) -> str:
        return record.key

    def wants(self, states: LiveStates, batch: Batch) -> Wants:
        record = batch.records[0]
        if record.kind == Kind.WAKE:
            row = states.peek(record.key)
            if (
                record.body.decode() == REBUILD
                and row is not None
                and row[k.LATE_TO] != k.NEVER
                and record.appended_us >= _rebuild_due(row)
            ):
                return Wants([record.key], window=TrackWindow(record.key, int(row[k.LATE_FROM]), int(row[k.LATE_TO])))
            return Wants([record.key])
        numbered = {of: None for of in batch.numbered if of is not None}
        return Wants(list({of.key: None for of in numbered}), list(numbered))

    def step(self, states: LiveStates, batch: Batch, inputs: Inputs) -> Outputs:
        outputs = Outputs()
        if batch.records[0].kind == Kind.WAKE:
            self._wake(states, batch, inputs, outputs)
        else:
            self._frames(states, batch, outputs)
        return outputs

    def _frames(self, states: LiveStates, batch: Batch, outputs: Outputs) -> None:
        kernel_slots: list[int] = []
        positions: list[int] = []
        kernel_frames: list[TakenFrame] = []
        touched: dict[str, _Touched] = {}
        for position, (record, frame, of) in enumerate(zip(batch.records, batch.frames, batch.numbered, strict=True), batch.first):
            if isinstance(frame, Rejected) or of is None:
                outputs.unreadable += 1
                continue
            numbering = states.numbering(of)
            if not numbering.take(frame, record.node):
                outputs.repeats += 1
                continue
            slot = states.slot(record.key)
            touched[record.key] = _Touched(slot, position, record.appended_us)
            taken = _dated(numbering, states.rows[slot], TakenFrame(of.origin, record.node, frame, record.body, frame.utc_offset_us or 0))
            states.rows[slot, k.FRAMES] += 1
            (outputs.taken if frame.utc_offset_us is not None else outputs.undated).append((record.key, taken))
            if frame.layout not in all_layouts():
                outputs.unknown_layouts += 1
            if frame.utc_offset_us is not None or numbering.date_seq is not None:
                kernel_slots.append(slot)
                positions.append(position)
                kernel_frames.append(taken)
        closed = run_frames(states.rows, kernel_slots, samples_of(kernel_frames)).closed if kernel_frames else []
        for row in closed:
            subject = states.key_of(int(row[k.COLUMNS - 1]))
            self._publish(subject, row, positions[int(row[k.COLUMNS - 2])], outputs, closed=True)
        for key, seen in touched.items():
            row = states.rows[seen.slot]
            row[k.APPENDED] = seen.appended_us
            if row[k.START] != k.NEVER:
                self._publish(key, row, seen.position, outputs, closed=False)
                _ask(row, key, CLOSE, seen.appended_us + CLOSE_AFTER_US, outputs)
            if row[k.LATE_TO] != k.NEVER:
                outputs.late_frames += 1
                if not row[k.WAKES] & _BITS[REBUILD]:
                    row[k.LATE_SINCE] = seen.appended_us
                row[k.LATE_AT] = seen.appended_us
                _ask(row, key, REBUILD, seen.appended_us + REBUILD_AFTER_US, outputs)
            states.mark(key)

    def _publish(self, key: str, row: I64, version: int, outputs: Outputs, *, closed: bool) -> None:
        activity = activity_of(key, row, version, closed=closed)
        outputs.activities.append(activity)
        outputs.mutations.append(_mutation(activity))

    def _wake(self, states: LiveStates, batch: Batch, inputs: Inputs, outputs: Outputs) -> None:
        record = batch.records[0]
        row = states.peek(record.key)
        if row is None:
            return
        name = record.body.decode()
        row[k.WAKES] &= ~_BITS.get(name, 0)
        if name == REBUILD and row[k.LATE_TO] != k.NEVER:
            due = _rebuild_due(row)
            if record.appended_us < due:
                _ask(row, record.key, REBUILD, due, outputs)
            else:
                self._rebuild(record.key, row, batch.first, inputs, outputs)
        elif name == CLOSE and row[k.START] != k.NEVER:
            due = int(row[k.APPENDED]) + CLOSE_AFTER_US
            if record.appended_us < due:
                _ask(row, record.key, CLOSE, due, outputs)
            else:
                outputs.activities.append(activity_of(record.key, row, batch.first, closed=True))
                outputs.compact.append(record.key)
        states.mark(record.key)

    def _rebuild(self, key: str, row: I64, version: int, inputs: Inputs, outputs: Outputs) -> None:
        """Run the touched activities again from their whole tracks; the current one continues from the result."""
        row[k.LATE_FROM], row[k.LATE_TO] = -k.NEVER, k.NEVER
        if inputs.raw_frames >= FOLD_FRAMES:
            outputs.compact.append(key)
        runs = run_tracks(inputs.tracks, int(row[k.HR_REF]))
        if not runs:
            return
        old = {a.start_us: a for a in inputs.activities}
        covers_current = row[k.START] == k.NEVER or int(row[k.START]) in old or runs[-1][k.LAST_T] >= row[k.LAST_T]
        if covers_current:
            row[: k.LATE_FROM] = runs[-1][: k.LATE_FROM]
        new = [activity_of(key, run, version, closed=not (covers_current and run is runs[-1])) for run in runs]
        for activity in new:
            outputs.activities.append(activity)
            outputs.mutations.append(_mutation(activity))
        for start_us in old.keys() - {a.start_us for a in new}:
            gone = old[start_us]
            outputs.removed.append(gone)
            outputs.mutations.append(Mutation(live_board(key), key, start_us, version, 0, 0, removed=True))


def _rebuild_due(row: I64) -> int:
    """When the late frames of a subject are to be worked in: once they pause, but within a minute."""
    return min(int(row[k.LATE_AT]) + REBUILD_AFTER_US, int(row[k.LATE_SINCE]) + REBUILD_WITHIN_US)


def _dated(numbering: Numbering, row: I64, taken: TakenFrame) -> TakenFrame:
    """The frame with the date it has or gets from its boot. A new date of the boot makes its earlier undated frames late."""
    frame = taken.frame
    if frame.utc_offset_us is None:
        numbering.note_undated(frame)
        if numbering.date_seq is None:
            return taken
        return TakenFrame(taken.origin, taken.node, frame, taken.raw, numbering.date_offset_us)
    if numbering.date_seq is None or frame.seq < numbering.date_seq:
        spans = list(numbering.undated_spans(frame.utc_offset_us))
        numbering.date_seq, numbering.date_offset_us = frame.seq, frame.utc_offset_us
        for lo, hi in spans:
            row[k.LATE_FROM] = min(int(row[k.LATE_FROM]), lo)
            row[k.LATE_TO] = max(int(row[k.LATE_TO]), hi)
    return taken


def _ask(row: I64, key: str, name: str, at_us: int, outputs: Outputs) -> None:
    """One wake of a name at a time per subject."""
    if not row[k.WAKES] & _BITS[name]:
        row[k.WAKES] |= _BITS[name]
        outputs.wakes.append(Wake(key, name, at_us))


def activity_of(key: str, row: I64 | Iterable[int], version: int, *, closed: bool) -> Activity:
    """The activity a state row is in."""
    r = np.asarray(row).tolist()
    return Activity(
        key, r[k.START], r[k.LAST_T], r[k.DIST_UM], r[k.POINTS], r[k.MOVING_US], r[k.SAMPLES],
        r[k.HR_SUM], r[k.HR_N], r[k.HR_MAX], closed, version,
    )  # fmt: skip


def _mutation(a: Activity) -> Mutation:
    return Mutation(live_board(a.subject), a.subject, a.start_us, a.version, a.distance_um, a.points)
