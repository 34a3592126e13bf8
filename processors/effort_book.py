"""The book of results: takes what stages timed and finished, compares it with what is stored, and writes rows, boards and events.

Works inside the runner's transaction, on its connection. Nothing is written or told when only the version differs, so results may be
computed any number of times and are told once. A final effort is not moved by a live one: only finishing again changes it. What people
decided (`referred`) is written into the efforts it concerns when it is said, and into those that are timed later.
"""

from __future__ import annotations

import sqlite3
from collections import Counter
from dataclasses import replace

from broker.events.envelope import Event
from broker.reference import ErasureRef, MergeRef, Reference, RulingRef
from processors.board_book import BoardBook, RowStore
from processors.happenings import activity_finished, activity_started, activity_withdrawn
from processors.live_wakes import finish_wake
from processors.plausibility import judge_live
from processors.reference_data import ReferenceData
from processors.results import BELIEVED, Effort, FinalEffort, Phase, Timed, Verdict, effort_id
from processors.results_db import (
    FinalRow,
    activities_of_subject,
    bare,
    drop_final,
    effort,
    efforts_of_activity,
    final,
    put_events,
    put_final,
)
from processors.segment_table import SPORTS
from processors.stage import Begun, FinishedActivity, LiveEfforts, Outputs, Wake


class EffortBook:
    """One book over one connection. After a roll back it must be made anew."""

    def __init__(self, db: sqlite3.Connection, reference: ReferenceData) -> None:
        self._db = db
        self._reference = reference
        self._decisions = reference.decisions
        self._events: list[Event] = []
        self._ordinals: Counter[int] = Counter()
        self._boards = BoardBook(RowStore(db), self._events, self._ordinals)

    def take(self, outputs: Outputs) -> None:
        """Take all results of one step, in their order: what ended first, then what began, then efforts, then the finished.

        A step has at most one word on an effort at a position of the log: of a frame the last one, of a wake the only one, and an activity
        that is over is none of those it times. So each word is newer than the one before it.
        """
        for begun in sorted(outputs.begun, key=lambda b: not b.over):
            self._begun(begun)
        for efforts in outputs.efforts:
            self._live(efforts)
        for finished in outputs.finished:
            self._finished(finished)

    def referred(self, value: Reference, version: int, appended_us: int) -> list[Wake]:
        """Take what people decided into the efforts that are there; returns the wakes that make an activity anew."""
        if isinstance(value, RulingRef):
            found = effort(self._db, value.id)
            for one in [found] if found is not None else efforts_of_activity(self._db, value.id):
                self._decide(one, one.subject, version, appended_us)
            held = final(self._db, value.id)
            return [] if held is None else [finish_wake(held.summary.subject, held.live_start_us, appended_us)]
        if isinstance(value, MergeRef | ErasureRef):
            group = self._decisions.merged(f"{value.tenant}/{value.id}")
            return [wake for subject in group for wake in self._regard(subject, version, appended_us)]
        return []

    def _regard(self, subject: str, version: int, appended_us: int) -> list[Wake]:
        """Give the results of a subject to the person it is, or take them away when that one's are erased."""
        person, erased = self._decisions.person(subject), self._decisions.is_erased(subject)
        wakes: list[Wake] = []
        for activity, closed_us in activities_of_subject(self._db, subject).items():
            held = final(self._db, activity)
            for one in efforts_of_activity(self._db, activity):
                if erased:
                    self._remove(bare(one), version, appended_us)
                else:
                    self._decide(one, person, version, appended_us)
            if erased:
                self._withdraw(subject, activity, held, version, appended_us, None)
            elif held is None and closed_us is not None:
                wakes.append(finish_wake(subject, closed_us, appended_us))
        return wakes

    def _decide(self, one: Effort, subject: str, version: int, appended_us: int) -> None:
        """Write what was decided into an effort that is there."""
        if not one.removed:
            ruling = self._decisions.ruled(one.tenant, one.id, one.activity)
            self._put(one, replace(one, subject=subject, ruling=ruling, version=version), appended_us)

    def _withdraw(
        self, subject: str, activity: str, held: FinalRow | None, version: int, appended_us: int, merged_into: str | None
    ) -> None:
        """An activity is none any more, or of nobody."""
        ordinal = self._ordinal(version)
        if held is None:
            self._events.append(activity_withdrawn(subject, activity, version, appended_us, merged_into, ordinal))
        else:
            drop_final(self._db, activity)
            self._events += activity_finished(held.summary, None, version, appended_us, merged_into, ordinal)

    def flush(self) -> int:
        """Put the events into the outbox; returns how many rows of segment boards changed since the last time."""
        rows = [(e.id, e.type, e.topic, e.key, e.tenant, e.time_us, e.body) for e in self._events]
        if rows:
            put_events(self._db, rows)
        moves, self._boards.moves = self._boards.moves, 0
        self._events.clear()
        self._ordinals.clear()
        return moves

    def _begun(self, begun: Begun) -> None:
        if self._is_nobody(begun.subject):
            if begun.over:
                drop_final(self._db, begun.activity)
            return
        if not begun.over:
            ordinal = self._ordinal(begun.version)
            self._events.append(activity_started(begun.subject, begun.anchor_us, begun.activity, begun.version, begun.appended_us, ordinal))
            return
        for one in efforts_of_activity(self._db, begun.activity):
            self._remove(one, begun.version, begun.appended_us)
        held = final(self._db, begun.activity)
        self._withdraw(begun.subject, begun.activity, held, begun.version, begun.appended_us, begun.merged_into)

    def _live(self, change: LiveEfforts) -> None:
        if self._is_nobody(change.subject):
            return
        held = {one.id: one for one in efforts_of_activity(self._db, change.activity)}
        seen: set[str] = set()
        for timed in change.timed:
            verdict = self._live_verdict(change.subject, timed)
            now = self._effort(change.subject, change.activity, FinalEffort(timed, None, None, verdict), change.version)
            seen.add(now.id)
            before = held.get(now.id)
            if before is None or before.removed or before.phase is not Phase.FINAL:
                self._put(before, now, change.appended_us)
        if change.whole:
            for one in held.values():
                if one.id not in seen and one.phase is not Phase.FINAL:
                    self._remove(one, change.version, change.appended_us)

    def _finished(self, change: FinishedActivity) -> None:
        summary = change.finished.summary
        if self._decisions.is_erased(summary.subject):
            return
        before = final(self._db, summary.id)
        put_final(self._db, FinalRow(summary, change.start_us, change.version), change.finished.track)
        if self._is_nobody(summary.subject):
            return
        held = {one.id: one for one in efforts_of_activity(self._db, summary.id)}
        seen: set[str] = set()
        for made in change.finished.efforts:
            now = self._effort(summary.subject, summary.id, made, change.version)
            seen.add(now.id)
            self._put(held.get(now.id), now, change.appended_us)
        for one in held.values():
            if one.id not in seen:
                self._remove(one, change.version, change.appended_us)
        self._events += activity_finished(
            before.summary if before else None, summary, change.version, change.appended_us, ordinal=self._ordinal(change.version)
        )

    def _live_verdict(self, subject: str, timed: Timed) -> Verdict:
        """How far a live effort is believed: by its speeds on the segment as it is now."""
        index = self._reference.index(subject.partition("/")[0])
        segment = index.segments.get(timed.segment) if index else None
        return BELIEVED if segment is None else judge_live(timed, segment.length_m, "run" if segment.sports == SPORTS["run"] else "any")

    def _remove(self, one: Effort, version: int, appended_us: int) -> None:
        if not one.removed:
            self._put(one, replace(one, version=version, removed=True), appended_us)

    def _put(self, before: Effort | None, now: Effort, appended_us: int) -> None:
        """An effort is another one than before, or only of a newer version."""
        self._boards.put(before, now, appended_us)

    def _ordinal(self, version: int) -> int:
        ordinal = self._ordinals[version]
        self._ordinals[version] += 1
        return ordinal

    def _is_nobody(self, subject: str) -> bool:
        """Whether a subject is an unbound device, or its results are erased: nobody's activity is told to nobody."""
        return subject.partition("/")[2].startswith("@") or self._decisions.is_erased(subject)

    def _effort(self, subject: str, activity: str, made: FinalEffort, version: int) -> Effort:
        timed, verdict, tenant = made.timed, made.verdict, subject.partition("/")[0]
        name = effort_id(activity, timed.segment, timed.ordinal)
        return Effort(
            name, tenant, timed.segment, self._decisions.person(subject), activity, timed.ordinal,
            timed.start_us, timed.elapsed_ms, timed.phase, timed.accuracy_ms, made.hr_avg_bpm, made.power_avg_w,
            timed.curve_ms, version, False, verdict.doubts, verdict.plausibility_pct, verdict.kept_off,
            self._decisions.ruled(tenant, name, activity),
        )  # fmt: skip
