"""The live stage, keyed by subject: counts each frame once, orders, fuses, and keeps activities, efforts and the live board up to date.

Repeats are found by (origin, boot, seq). Frames in order go through the kernel, and the positions it believes through the matcher. Samples
behind what is held are late, as are those of uploaded files: a wake re-runs every activity they touch from its whole track, so the final
state is a function of the set of frames, not of their arrival. Undated frames wait, and take the date of the lowest-numbered dated frame
of their boot. A changed binding makes all samples of its device late where it changes anything.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from functools import lru_cache
from typing import Final

import numpy as np

from broker.errors import Rejected
from broker.ids import unbound_of
from broker.layouts import all_layouts
from broker.logrecord import Kind, LogRecord
from processors import live_kernel as k
from processors.anchors import anchors_us, uploads_end_us
from processors.attribution import Attribution, Touched, touch
from processors.believed import believed_again, believed_of
from processors.copies import Date, is_copy
from processors.kernel_jobs import KernelJob, Steps, finish
from processors.live_changes import Owns, concerned_by, owns_all, take_change, wants_of_change
from processors.live_kernel import I64
from processors.live_matching import first_frames, match_again, match_live, settle_waiting
from processors.live_row import DEFAULT_PERSON, person_of
from processors.live_state import LiveStates
from processors.live_wakes import (
    CLOSE,
    CLOSE_AFTER_US,
    REBUILD,
    SETTLE,
    SETTLE_AFTER_US,
    again_span,
    again_wake,
    ask,
    awake,
    finish_wake,
    is_asked,
    is_late,
    late_came,
    rebuild_due,
)
from processors.reference_data import UNKNOWN_HR_MAX_BPM, ReferenceData
from processors.results import UPLOAD_NODE, activity_id
from processors.run_kernel import run_tracks_whole
from processors.samples import Samples, TakenFrame
from processors.stage import Activity, Batch, Begun, Inputs, Mutation, Outputs, TrackWindow, Wants

FOLD_FRAMES: Final = 500  # a rebuild that read this many frames folds them into blobs, so that the next one reads fast
FILE_ENDS_US: Final = 30_000_000  # an uploaded file that reaches this near to the end of an activity says that it is over


# columns of a row that `_after` reads: what it waits for, then those of an `Activity`
ACTIVITY_FACTS: Final = [  # columns of a state row, as an activity has them behind its subject
    k.START, k.ANCHOR, k.LAST_T, k.DIST_UM, k.POINTS, k.MOVING_US, k.SAMPLES, k.HR_SUM, k.HR_N, k.HR_MAX,
]  # fmt: skip
_PUBLISHED: Final = [k.APPENDED, k.WAKES, k.LATE_TO, *ACTIVITY_FACTS]


@lru_cache(maxsize=65536)
def live_board(subject: str) -> str:
    """The board of everyone live of the subject's tenant."""
    return f"live/{subject.partition('/')[0]}"


class LiveStage:
    """See the module. Takes changes of reference data into `reference` as they come."""

    name = "live"
    state_version = 5

    def __init__(self, reference: ReferenceData, *, tells: bool = False, owns: Owns = owns_all) -> None:
        """`tells`: also put out what is believed of each sample. `owns`: whose activities are made here; frames that count for others are
        stored, and shared (`Outputs.shared`)."""
        self._reference = reference
        self._tells = tells
        self._owns = owns
        self._attribution = Attribution(reference, owns)

    def key(self, record: LogRecord) -> str:
        return record.key

    def wants(self, states: LiveStates, batch: Batch) -> Wants:
        record = batch.records[0]
        if record.kind == Kind.REFERENCE:
            return wants_of_change(record, self._reference)
        if record.kind == Kind.WAKE:
            span = again_span(record.body.decode())
            if span is not None:
                return Wants([record.key], window=TrackWindow(record.key, *span))
            row = states.peek(record.key)
            if record.body.decode() == REBUILD and row is not None and is_late(row) and record.appended_us >= rebuild_due(row):
                return Wants([record.key], window=TrackWindow(record.key, int(row[k.LATE_FROM]), int(row[k.LATE_TO])))
            return Wants([record.key])
        numbered = {of: None for of in batch.numbered if of is not None}
        keys = {of.key: None for of in numbered}
        for of in numbered:
            if self._reference.is_bound(of.origin) or is_copy(of.key):  # a copy may be here before the binding it is for is known
                keys.update({b.subject: None for b in self._reference.bindings(of.origin)} | {unbound_of(of.origin): None})
        return Wants(list(keys), list(numbered))

    def also_wants(self, batch: Batch, inputs: Inputs) -> Sequence[str]:
        """More keys to load before `step` takes a change of reference data, known only with the inputs."""
        return concerned_by(batch.records[0], inputs, self._reference)

    def step(self, states: LiveStates, batch: Batch, inputs: Inputs) -> Outputs:
        return finish(self.steps(states, batch, inputs))

    def steps(self, states: LiveStates, batch: Batch, inputs: Inputs) -> Steps[Outputs]:
        """`step`, its frames for the kernel to be run by whoever drives it. Nothing it loaded may be dropped meanwhile."""
        outputs = Outputs()
        record = batch.records[0]
        if record.kind == Kind.REFERENCE:
            take_change(self._reference, states, record, inputs, outputs, self._owns)
        elif record.kind == Kind.WAKE:
            self._wake(states, batch, inputs, outputs)
        else:
            yield from self._frames(states, batch, outputs)
        return outputs

    # frames

    def _frames(self, states: LiveStates, batch: Batch, outputs: Outputs) -> Steps[None]:
        kernel_slots: list[int] = []
        kernel_frames: list[TakenFrame] = []
        at: list[tuple[int, int]] = []
        touched: dict[str, Touched] = {}
        copied: Mapping[int, Date] = batch.copied
        for position, (record, frame, of) in enumerate(zip(batch.records, batch.frames, batch.numbered, strict=True), batch.first):
            if isinstance(frame, Rejected) or of is None:
                outputs.unreadable += 1
                continue
            numbering = states.numbering(of)
            date = copied.get(position) if copied else None
            if date is not None:
                self._attribution.date_copies(states, of, numbering, date, record, position, touched)
            if not numbering.take(frame, record.node):
                outputs.repeats += 1
                continue
            if numbering.is_dated(frame) and date is None and record.node != UPLOAD_NODE and not self._reference.is_bound(of.origin):
                taken, whole = TakenFrame(of.origin, record.node, frame, record.body, frame.utc_offset_us or 0), True
                slot = touch(states, of.key, position, record.appended_us, touched)
            else:
                slot, taken, whole = self._attribution.of_frame(states, of, numbering, frame, record, position, touched, outputs, date)
            (outputs.taken if frame.utc_offset_us is not None else outputs.undated).append((record.key, taken))
            if frame.layout not in all_layouts():
                outputs.unknown_layouts += 1
            if whole and (frame.utc_offset_us is not None or numbering.date_seq is not None):
                kernel_slots.append(slot)
                at.append((position, record.appended_us))
                kernel_frames.append(taken)
        if kernel_frames:
            yield from self._run(states, kernel_slots, kernel_frames, at, touched, outputs)
        self._after(states, touched, outputs)

    def _person(self, key: str) -> tuple[int, int]:
        """What a person's points, zones and load depend on: HR_REF and PERSON."""
        athlete = self._reference.athlete(key)
        if athlete is None:
            return UNKNOWN_HR_MAX_BPM, DEFAULT_PERSON
        return athlete.hr_max_bpm, person_of(athlete.zones_bpm, woman=athlete.sex == "f")

    def _run(
        self, states: LiveStates, slots: list[int], frames: list[TakenFrame], at: list[tuple[int, int]], touched: dict[str, Touched],
        outputs: Outputs,
    ) -> Steps[None]:  # fmt: skip
        """The kernel and the matcher over frames in order; publishes what ended on the way."""
        self._meet(states, touched)
        samples, ran = yield KernelJob(states.rows, states.sides, slots, frames)
        if self._tells:
            outputs.believed.append(believed_of(states.key_of, slots, samples, ran, outputs.taken, at))
        for ended in ran.closed:
            row, key = ended.row, states.key_of(ended.slot)
            seen = touched[key]
            position, appended_us = at[ended.frame]
            _begins(states, samples, slots, {seen.slot: row}, at, outputs)
            seen.start_us = int(row[k.START])
            self._publish(activity_of(key, row, position, closed=True), appended_us, outputs)
        at_slots = [seen.slot for seen in touched.values()]
        starts: list[int] = states.rows[at_slots, k.START].tolist()
        begun = [s.slot for s, start_us in zip(touched.values(), starts, strict=True) if start_us not in (k.NEVER, s.start_us)]
        _begins(states, samples, slots, {slot: states.rows[slot] for slot in begun}, at, outputs)
        match_live(self._reference, states, slots, samples, ran, at, outputs)

    def _meet(self, states: LiveStates, touched: dict[str, Touched]) -> None:
        """Before a batch: note what of each subject it will change, and what a person's points and load depend on."""
        slots = [seen.slot for seen in touched.values()]
        for seen, start_us in zip(touched.values(), states.rows[slots, k.START].tolist(), strict=True):
            seen.start_us = start_us
        states.rows[slots, k.APPENDED] = [seen.appended_us for seen in touched.values()]
        known = [self._person(key) for key in touched]
        states.rows[slots, k.HR_REF] = [hr_max_bpm for hr_max_bpm, _ in known]
        states.rows[slots, k.PERSON] = [person for _, person in known]

    def _after(self, states: LiveStates, touched: dict[str, Touched], outputs: Outputs) -> None:
        """Publish what a batch made of its subjects, and ask for the wakes they need."""
        facts: list[list[int]] = states.rows[[seen.slot for seen in touched.values()]][:, _PUBLISHED].tolist()
        for (key, seen), (appended_us, wakes, late_to, *fact) in zip(touched.items(), facts, strict=True):
            if fact[0] != k.NEVER and appended_us == seen.appended_us:
                self._publish(_activity(key, fact, seen.position, closed=False), appended_us, outputs)
                if not is_asked(wakes, CLOSE):
                    ask(states.rows[seen.slot], key, CLOSE, appended_us + CLOSE_AFTER_US, outputs)
                matching = states.matchings.get(key)
                if matching is not None and matching.attempts.waiting:
                    ask(states.rows[seen.slot], key, SETTLE, appended_us + SETTLE_AFTER_US, outputs)
            if late_to != k.NEVER:
                late_came(states.rows[seen.slot], key, seen.appended_us, outputs)
            states.mark(key)

    def _publish(self, activity: Activity, appended_us: int, outputs: Outputs) -> None:
        outputs.activities.append(activity)
        outputs.mutations.append(_mutation(activity))
        if activity.closed:
            outputs.wakes.append(finish_wake(activity.subject, activity.start_us, appended_us))

    # wakes

    def _wake(self, states: LiveStates, batch: Batch, inputs: Inputs, outputs: Outputs) -> None:
        record = batch.records[0]
        name = record.body.decode()
        row = states.peek(record.key)
        if row is None and again_span(name) is not None:
            row = states.row(record.key)
        if row is None:
            return
        awake(row, name)
        if again_span(name) is not None:
            self._rebuild(states, row, batch, inputs, outputs)
        elif name == REBUILD and is_late(row):
            due = rebuild_due(row)
            if record.appended_us < due:
                ask(row, record.key, REBUILD, due, outputs)
            else:
                row[k.LATE_FROM], row[k.LATE_TO] = -k.NEVER, k.NEVER
                self._rebuild(states, row, batch, inputs, outputs)
        elif name == CLOSE and row[k.START] != k.NEVER:
            due = int(row[k.APPENDED]) + CLOSE_AFTER_US
            if record.appended_us < due:
                ask(row, record.key, CLOSE, due, outputs)
            else:
                self._publish(activity_of(record.key, row, batch.first, closed=True), record.appended_us, outputs)
                outputs.compact.append(record.key)
        elif name == SETTLE and settle_waiting(self._reference, states, batch.first, record, row, outputs):
            ask(row, record.key, SETTLE, record.appended_us + SETTLE_AFTER_US, outputs)
        states.mark(record.key)

    def _rebuild(self, states: LiveStates, row: I64, batch: Batch, inputs: Inputs, outputs: Outputs) -> None:
        """Run the touched activities again from their whole tracks; the current one continues from the result."""
        key, appended_us, version = batch.records[0].key, batch.records[0].appended_us, batch.first
        row[k.HR_REF], row[k.PERSON] = self._person(key)
        if inputs.raw_frames >= FOLD_FRAMES:
            outputs.compact.append(key)
        again = run_tracks_whole(inputs.tracks, int(row[k.HR_REF]), int(row[k.PERSON]))
        runs = again.rows
        if self._tells and runs:
            outputs.believed.append(believed_again(key, again.samples, again.ran, (version, appended_us)))
        for run, anchor_us in zip(runs, anchors_us(inputs.tracks, runs), strict=True):
            run[k.ANCHOR] = anchor_us
        old = {a.start_us: a for a in inputs.activities}
        was_current = int(row[k.START])
        covers_current = was_current == k.NEVER or was_current in old or (bool(runs) and runs[-1][k.LAST_T] >= row[k.LAST_T])
        is_open = False
        if covers_current:
            if was_current not in (k.NEVER, *old):  # a later one takes its place
                self._publish(activity_of(key, row, version, closed=True), appended_us, outputs)
            if not runs and inputs.before is not None:
                outputs.wakes.append(again_wake(key, inputs.before.start_us, inputs.before.end_us, appended_us))
            now = runs[-1] if runs else k.fresh_row()
            row[: k.LATE_FROM] = now[: k.LATE_FROM]
            row[k.INTS :] = now[k.INTS :]
            states.set_side(states.slot(key), again.side)
            over = bool(runs) and uploads_end_us(inputs.tracks) >= now[k.LAST_T] - FILE_ENDS_US
            is_open = bool(runs) and not over and appended_us < row[k.APPENDED] + CLOSE_AFTER_US
        for run in runs:
            current = covers_current and run is runs[-1]
            self._publish(activity_of(key, run, version, closed=not (current and is_open)), appended_us, outputs)
            if current and is_open:
                ask(row, key, CLOSE, int(row[k.APPENDED]) + CLOSE_AFTER_US, outputs)
                if int(run[k.ANCHOR]) not in {a.anchor_us for a in old.values()}:
                    outputs.begun.append(_begun(key, run, version, appended_us))
        self._take_back(key, old, runs, version, appended_us, outputs)
        if covers_current and runs:
            match_again(self._reference, states, key, runs[-1], again.samples, again.ran, (version, appended_us), outputs, publish=is_open)
            matching = states.matchings.get(key)
            if is_open and matching is not None and matching.attempts.waiting:
                ask(row, key, SETTLE, appended_us + SETTLE_AFTER_US, outputs)

    def _take_back(
        self, key: str, old: dict[int, Activity], runs: list[I64], version: int, appended_us: int, outputs: Outputs
    ) -> None:  # fmt: skip
        """Activities that are none any more: their frames count for another one, or for somebody else. So are ids whose anchor moved."""
        ids = {activity_id(key, int(run[k.ANCHOR])) for run in runs}
        starts = {int(run[k.START]) for run in runs}
        for start_us, gone in old.items():
            if start_us not in starts:
                outputs.removed.append(gone)
                outputs.mutations.append(Mutation(live_board(key), key, start_us, version, 0, 0, removed=True))
            gone_id = activity_id(key, gone.anchor_us)
            if gone_id not in ids:
                heirs = [run for run in runs if run[k.START] <= gone.end_us and run[k.LAST_T] >= start_us]
                heir = activity_id(key, int(heirs[0][k.ANCHOR])) if heirs else None
                outputs.begun.append(Begun(key, gone_id, gone.anchor_us, version, appended_us, over=True, merged_into=heir))


def _begins(
    states: LiveStates, samples: Samples, slots: list[int], begun: dict[int, I64], at: list[tuple[int, int]], outputs: Outputs
) -> None:  # fmt: skip
    """Tell of activities (rows by slot) that were not there before, at the records that began them."""
    starts = {slot: int(row[k.START]) for slot, row in begun.items()}
    for slot, frame in first_frames(samples, slots, starts).items():
        outputs.begun.append(_begun(states.key_of(slot), begun[slot], *at[frame]))


def _begun(key: str, row: I64, version: int, appended_us: int) -> Begun:
    anchor_us = int(row[k.ANCHOR])
    return Begun(key, activity_id(key, anchor_us), anchor_us, version, appended_us)


def activity_of(key: str, row: I64 | Iterable[int], version: int, *, closed: bool) -> Activity:
    """The activity a state row is in."""
    r = np.asarray(row).tolist()
    return _activity(key, [r[column] for column in ACTIVITY_FACTS], version, closed=closed)


def _activity(key: str, fact: Sequence[int], version: int, *, closed: bool) -> Activity:
    start_us, anchor_us, end_us, distance_um, points, moving_us, samples, hr_sum, hr_n, hr_max = fact
    return Activity(
        key, start_us, anchor_us, end_us, distance_um, points, moving_us, samples, hr_sum, hr_n, hr_max, closed, version
    )  # fmt: skip


def _mutation(a: Activity) -> Mutation:
    return Mutation(live_board(a.subject), a.subject, a.start_us, a.version, a.distance_um, a.points)
