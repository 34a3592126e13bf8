"""The book of results: takes what stages timed and finished, compares it with what is stored, and writes rows, boards and events.

Works inside the runner's transaction, on its connection. Nothing is written or told when only the version differs, so results may be
computed any number of times and are told once. A final effort is not moved by a live one: only finishing again changes it.
"""

from __future__ import annotations

import sqlite3
from collections import Counter
from dataclasses import replace
from typing import Final

from broker.events.envelope import Event
from processors.happenings import activity_finished, activity_started, activity_withdrawn, board_changed, effort_changed
from processors.plausibility import judge_live
from processors.reference_data import ReferenceData
from processors.results import BELIEVED, Effort, FinalEffort, Phase, Timed, Verdict, effort_id
from processors.results_db import (
    FinalRow,
    drop_final,
    efforts_of_activity,
    efforts_of_segment,
    final,
    put_effort,
    put_events,
    put_final,
)
from processors.segment_board import SegmentBoard
from processors.segment_table import SPORTS
from processors.stage import Begun, FinishedActivity, LiveEfforts, Outputs

MAX_BOARDS: Final = 512  # kept in memory; the rest is read again when an effort comes


class EffortBook:
    """One book over one connection. After a roll back it must be made anew."""

    def __init__(self, db: sqlite3.Connection, reference: ReferenceData) -> None:
        self._db = db
        self._reference = reference
        self._boards: dict[tuple[str, str], SegmentBoard] = {}
        self._events: list[Event] = []
        self._ordinals: Counter[int] = Counter()
        self._moves = 0

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

    def flush(self) -> int:
        """Put the events into the outbox; returns how many rows of segment boards changed since the last time."""
        rows = [(e.id, e.type, e.topic, e.key, e.tenant, e.time_us, e.body) for e in self._events]
        if rows:
            put_events(self._db, rows)
        moves, self._moves = self._moves, 0
        self._events.clear()
        self._ordinals.clear()
        return moves

    def _begun(self, begun: Begun) -> None:
        if _nobody(begun.subject):
            if begun.over:
                drop_final(self._db, begun.activity)
            return
        if not begun.over:
            ordinal = self._ordinal(begun.version)
            self._events.append(activity_started(begun.subject, begun.anchor_us, begun.activity, begun.version, begun.appended_us, ordinal))
            return
        for effort in efforts_of_activity(self._db, begun.activity):
            self._remove(effort, begun.version, begun.appended_us)
        held = final(self._db, begun.activity)
        ordinal = self._ordinal(begun.version)
        if held is None:
            self._events.append(
                activity_withdrawn(begun.subject, begun.activity, begun.version, begun.appended_us, begun.merged_into, ordinal)
            )
        else:
            drop_final(self._db, begun.activity)
            self._events += activity_finished(held.summary, None, begun.version, begun.appended_us, begun.merged_into, ordinal)

    def _live(self, change: LiveEfforts) -> None:
        held = {effort.id: effort for effort in efforts_of_activity(self._db, change.activity)}
        seen: set[str] = set()
        for timed in change.timed:
            verdict = self._live_verdict(change.subject, timed)
            now = _effort(change.subject, change.activity, FinalEffort(timed, None, None, verdict), change.version)
            seen.add(now.id)
            before = held.get(now.id)
            if before is None or before.removed or before.phase is not Phase.FINAL:
                self._put(before, now, change.appended_us)
        if change.whole:
            for effort in held.values():
                if effort.id not in seen and effort.phase is not Phase.FINAL:
                    self._remove(effort, change.version, change.appended_us)

    def _finished(self, change: FinishedActivity) -> None:
        summary = change.finished.summary
        before = final(self._db, summary.id)
        put_final(self._db, FinalRow(summary, change.start_us, change.version), change.finished.track)
        if _nobody(summary.subject):
            return
        held = {effort.id: effort for effort in efforts_of_activity(self._db, summary.id)}
        seen: set[str] = set()
        for made in change.finished.efforts:
            now = _effort(summary.subject, summary.id, made, change.version)
            seen.add(now.id)
            self._put(held.get(now.id), now, change.appended_us)
        for effort in held.values():
            if effort.id not in seen:
                self._remove(effort, change.version, change.appended_us)
        self._events += activity_finished(
            before.summary if before else None, summary, change.version, change.appended_us, ordinal=self._ordinal(change.version)
        )

    def _live_verdict(self, subject: str, timed: Timed) -> Verdict:
        """How far a live effort is believed: by its speeds on the segment as it is now."""
        index = self._reference.index(subject.partition("/")[0])
        segment = index.segments.get(timed.segment) if index else None
        return BELIEVED if segment is None else judge_live(timed, segment.length_m, "run" if segment.sports == SPORTS["run"] else "any")

    def _remove(self, effort: Effort, version: int, appended_us: int) -> None:
        if not effort.removed:
            self._put(effort, replace(effort, version=version, removed=True), appended_us)

    def _put(self, before: Effort | None, now: Effort, appended_us: int) -> None:
        if before is not None and replace(before, version=now.version) == now:
            return
        board = self._board(now.tenant, now.segment)
        change = board.apply(now)
        put_effort(self._db, now)
        ordinal = self._ordinal(now.version)
        self._events += effort_changed(before, now, now.version, appended_us, ordinal)
        if change is not None:
            self._moves += 1
            top = [row.effort for row in board.top(limit=10).rows]
            self._events += board_changed(change, top, now.version, appended_us, ordinal)

    def _board(self, tenant: str, segment: str) -> SegmentBoard:
        board = self._boards.get((tenant, segment))
        if board is None:
            if len(self._boards) >= MAX_BOARDS:
                self._boards.pop(next(iter(self._boards)))
            board = self._boards[tenant, segment] = SegmentBoard(segment)
            board.load(efforts_of_segment(self._db, tenant, segment))
        return board

    def _ordinal(self, version: int) -> int:
        ordinal = self._ordinals[version]
        self._ordinals[version] += 1
        return ordinal


def _nobody(subject: str) -> bool:
    """Whether a subject is an unbound device: nobody's activity is told to nobody."""
    return subject.partition("/")[2].startswith("@")


def _effort(subject: str, activity: str, made: FinalEffort, version: int) -> Effort:
    timed, verdict = made.timed, made.verdict
    return Effort(
        effort_id(activity, timed.segment, timed.ordinal), subject.partition("/")[0], timed.segment, subject, activity, timed.ordinal,
        timed.start_us, timed.elapsed_ms, timed.phase, timed.accuracy_ms, made.hr_avg_bpm, made.power_avg_w,
        timed.curve_ms, version, False, verdict.doubts, verdict.plausibility_pct, verdict.kept_off,
    )  # fmt: skip
