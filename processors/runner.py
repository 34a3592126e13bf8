"""The embedded runner: reads the log, steps the stages, keeps boards and results; state, outputs and positions commit in one transaction.

Killed anywhere it goes on from the last commit. Everything blocking happens in one worker thread. The timer service turns due wakes into
durable WAKE records of the same log; a replay runs without it, because the wakes are in the log.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

import numpy as np

from broker.errors import BadInputError
from broker.faultpoints import hit
from broker.frames import Clock
from broker.liveness import Part, unwatched
from broker.logrecord import Kind, LogRecord
from broker.reference import decode_reference
from processors.believed_db import BelievedWriter
from processors.boards import Board, Standing
from processors.collector import waiting_collector
from processors.effort_book import EffortBook
from processors.finish import FinishStage, is_finish
from processors.live import LiveStage
from processors.live_state import LiveStates
from processors.live_step import fold, step_live
from processors.log import Log
from processors.reference_data import ReferenceData
from processors.results_db import put_reference, references
from processors.segment_file import SEGMENT_FOLDER, SegmentFiles
from processors.stage import Activity, Batch, Outputs, Wants, batches_of
from processors.stage_stats import StageStats
from processors.state_db import StateDb, older_states, state_id
from processors.wall import wall_us

_log = logging.getLogger(__name__)

HELD: Final = ("athlete", "binding", "segment", "ruling", "merge", "erasure")  # uploads are too many: they are looked up when needed
MAX_RECORDS: Final = 8192
LINGER_RECORDS: Final = 512  # after a smaller batch ...
LINGER_S: Final = 0.02  # ... wait this long: a commit costs per subject, not per frame
MAX_LOADED: Final = 100_000
BACKLOG_US: Final = 30_000_000  # a frame this old when it reaches the log was kept back by an outage: not a live latency
TIMER_S: Final = 0.25
OVERLOADED_S: Final = 5.0  # wakes wait this much longer while the log is read in full batches
WAKES_S: Final = 0.05  # work of wakes to be taken on at once
RETRY_S: Final = 1.0
_BUCKETS: Final = 60_000


@dataclass(slots=True)
class Latency:
    """Histogram of milliseconds from the last sample of a frame to its board change being committed."""

    buckets: list[int] = field(default_factory=lambda: [0] * _BUCKETS)
    n: int = 0

    def add(self, ms: int) -> None:
        self.buckets[min(max(ms, 0), _BUCKETS - 1)] += 1
        self.n += 1

    def quantiles(self) -> dict[str, float]:
        """p50, p95 and p99 in ms (0 when nothing was measured)."""
        made: dict[str, float] = {}
        cumulative = np.cumsum(self.buckets)
        for name, share in (("p50", 0.50), ("p95", 0.95), ("p99", 0.99)):
            made[name] = float(np.searchsorted(cumulative, share * self.n, "left")) if self.n else 0.0
        return made


class Runner:
    """One runner over one log and one state file."""

    def __init__(
        self, log: Log, state: Path, *, clock_us: Callable[[], int] = wall_us, max_records: int = MAX_RECORDS, tells: bool = False
    ) -> None:  # fmt: skip
        """`tells`: also keep what is believed of each sample for a while, for those who follow (`believed_db`)."""
        self._log = log
        self._store = StateDb(state)
        self._told = BelievedWriter(self._store.db) if tells else None
        self._files = SegmentFiles(state.parent / SEGMENT_FOLDER, state=state_id(self._store.db))
        self._files.sweep()
        self._older = older_states(state)
        self._states = LiveStates()
        self._boards: dict[str, Board] = {}
        self._look_up()
        self._clock_us = clock_us
        self._max_records = max_records
        self.position = self._store.position(LiveStage.name)
        self.latency = Latency()
        self.stats = StageStats()
        self._stopping, self._log_end = False, 0
        self._wake_s = 0.005  # what a wake costs, as a moving average

    def _look_up(self) -> None:
        """Read the reference data as committed, and make the stages that use it."""
        self._reference = ReferenceData(self._files)
        for entity in HELD:
            self._reference.take_stored(references(self._store.db, entity=entity))
        self._stage = LiveStage(self._reference, tells=self._told is not None)
        self._finish = FinishStage(self._reference)
        self._book = EffortBook(self._store.db, self._reference)

    def close(self) -> None:
        """Release the store."""
        self._store.close()

    def advance(self) -> int:
        """Process the next records of the log in one transaction; returns how many there were. On an error nothing is changed."""
        first, records = self._log.read(self.position, self._max_records)
        if not records:
            self._remove_older()
            return 0
        with waiting_collector():
            self._advance(first, records)
        return len(records)

    def _advance(self, first: int, records: Sequence[LogRecord]) -> None:
        db = self._store.db
        began_s = time.monotonic()
        db.execute("BEGIN IMMEDIATE")
        try:
            steps = [self._step(batch) for batch in batches_of(first, records)]
            changes = self._mutate(steps)
            changes += self._book.flush()
            position = first + len(records) - 1
            counts = self._counts(steps, changes)
            self._store.save(self._stage.name, self._states, position, counts)
            hit("runner.before_commit")
            db.execute("COMMIT")
        except BaseException:
            self._roll_back()
            raise
        self.position = position  # what is committed is done: whatever fails from here on, it is not taken twice
        self._states.saved()
        hit("runner.after_commit")
        if len(self._states) > MAX_LOADED:
            self._states.forget()
        newest_us = self._measure(steps)
        self.stats.committed(len(records), time.monotonic() - began_s, counts, newest_us, len(self._states))

    def _remove_older(self) -> None:
        """The new state has all of the log: what was set aside may hold results of athletes who were erased since."""
        for path in self._older:
            with contextlib.suppress(OSError):
                path.unlink()
                _log.info("runner: %s removed, its place is taken", path)
        self._older = []

    def _roll_back(self) -> None:
        if self._store.db.in_transaction:
            self._store.db.execute("ROLLBACK")
        if self._told is not None:
            self._told.forget()
        self._states.forget()
        self._boards.clear()
        self._look_up()

    def _step(self, batch: Batch) -> Outputs:
        kind = batch.records[0].kind
        if kind == Kind.FRAME:
            outputs = self._live(batch)
        elif kind == Kind.WAKE:
            began_s = time.monotonic()
            record = batch.records[0]
            self._store.drop_wakes([(record.key, record.body.decode())], record.appended_us)
            outputs = self._finished(batch) if is_finish(batch) else self._live(batch)
            self._wake_s += 0.2 * (time.monotonic() - began_s - self._wake_s)
        else:
            outputs = self._referred(batch)
        self._store.sink(outputs)
        if self._told is not None:
            self._told.put(outputs.believed)
        fold(self._store, outputs.compact, self._reference)
        self._book.take(outputs)
        return outputs

    def _live(self, batch: Batch) -> Outputs:
        return step_live(self._stage, self._states, self._store, batch, self._reference)

    def _finished(self, batch: Batch) -> Outputs:
        """Finish an activity. One that cannot be finished is counted and logged; what was known of it live stays."""
        self._store.save_numberings(self._states)
        inputs = self._store.inputs(self._finish.wants(batch), self._reference)
        try:
            return self._finish.step(batch, inputs)
        except Exception:
            _log.exception("runner: could not finish %s of %s", batch.records[0].body.decode(), batch.records[0].key)
            return Outputs(unfinished=1)

    def _referred(self, batch: Batch) -> Outputs:
        """Take a change of reference data. One that cannot be read is counted."""
        stage, states, store = self._stage, self._states, self._store
        try:
            value = decode_reference(batch.records[0].body, f"log position {batch.first}")
        except BadInputError as error:
            _log.error("runner: %s", error)
            return Outputs(unreadable=1)
        store.save_numberings(states)
        put_reference(store.db, value, batch.first)
        store.save_rows(stage.name, states)
        wants = stage.wants(states, batch)
        inputs = store.inputs(wants, self._reference)
        store.load(stage.name, states, Wants([*wants.keys, *stage.also_wants(batch, inputs)]))
        outputs = stage.step(states, batch, inputs)
        outputs.wakes += self._book.referred(value, batch.first, batch.records[0].appended_us)
        return outputs

    def _mutate(self, steps: list[Outputs]) -> int:
        """Apply board mutations; returns how many changed an entry."""
        taken = [m for outputs in steps for m in outputs.mutations]
        changes = 0
        for mutation in taken:
            board = self._boards.get(mutation.board)
            if board is None:
                board = self._boards[mutation.board] = Board()
                for entry in self._store.board(mutation.board):
                    board.apply(entry)
            changes += board.apply(mutation)
        self._store.boards(taken)
        return changes

    def _counts(self, steps: list[Outputs], changes: int) -> list[tuple[str, int]]:
        return [
            ("board_changes", changes),
            ("frames", sum(len(o.taken) + len(o.undated) for o in steps)),
            ("repeats", sum(o.repeats for o in steps)),
            ("unreadable", sum(o.unreadable for o in steps)),
            ("unknown_layouts", sum(o.unknown_layouts for o in steps)),
            ("unfinished", sum(o.unfinished for o in steps)),
            ("late_batches", sum(o.late_frames for o in steps)),
            ("samples", sum(f.frame.samples or 0 for o in steps for _, f in (*o.taken, *o.undated))),
        ]

    def _measure(self, steps: list[Outputs]) -> int:
        """Count the latencies; the time of the newest sample that was no recording (0: none)."""
        now_us = self._clock_us()
        newest_us = 0
        for outputs in steps:
            for _, f in outputs.taken:
                if f.frame.clock != Clock.RECORDED:
                    newest_us = max(newest_us, f.end_us)
                    late_us = now_us - f.end_us
                    if late_us < BACKLOG_US:
                        self.latency.add(late_us // 1000)
        return newest_us

    def fire_wakes(self) -> int:
        """Append wakes that are due to the log, durably, then forget them; returns how many.

        At most what takes about WAKES_S: frames that arrive meanwhile wait no longer than that behind them.
        """
        now_us = self._clock_us()
        due = self._store.due_wakes(now_us, max(1, min(int(WAKES_S / self._wake_s), 200)))
        if due:
            self._log.append([LogRecord(Kind.WAKE, key, "", "", now_us, name.encode()) for key, name in due])
            self._store.drop_wakes(due, now_us)
        return len(due)

    async def run(self, *, timers: bool = True, alive: Part | None = None) -> None:
        """Follow the log until cancelled; `alive` beats with every round. A failing store is retried; nothing is skipped."""
        next_timer = 0.0
        alive = alive or unwatched()
        while not (self._stopping and self.position >= self._log_end):
            alive.beat()
            try:
                done = await asyncio.to_thread(self.advance)
                behind = done == self._max_records  # frames first, while there are many of them
                if timers and time.monotonic() >= next_timer + (OVERLOADED_S if behind else 0):
                    fired = await asyncio.to_thread(self.fire_wakes)
                    next_timer = time.monotonic() + (0 if fired else TIMER_S)
            except Exception as error:
                self.stats.failed(f"{type(error).__name__}: {error}")
                _log.exception("runner: could not process after position %d; trying again", self.position)
                await asyncio.sleep(RETRY_S)
                continue
            if done:
                await asyncio.sleep(LINGER_S if done < LINGER_RECORDS else 0)
            else:
                await self._log.wait(self.position, TIMER_S)

    async def finish(self, task: asyncio.Task[None], timeout_s: float) -> None:
        """End `run` between two transactions, after what is in the log by now (at most `timeout_s`)."""
        self._stopping = True
        self._log_end = self._log.end()
        await asyncio.wait({task}, timeout=timeout_s)
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)

    def drain(self) -> int:
        """Process everything that is in the log now; returns the number of records."""
        total = 0
        while done := self.advance():
            total += done
        return total

    def standings(self, board: str) -> list[Standing]:
        """The lines of a board as committed."""
        held = Board()
        for entry in self._store.board(board):
            held.apply(entry)
        return held.standings()

    def activities(self, subject: str) -> list[Activity]:
        """The activities of a subject as committed, by start."""
        return self._store.activities(subject)

    def pending_wakes(self, name: str) -> int:
        """How many subjects wait for a wake of that name."""
        return self._store.pending_wakes(name)

    def raw_frames(self) -> int:
        """Frames not yet folded into track blobs."""
        return self._store.raw_frames()


def replay(log: Log, state: Path, *, max_records: int = MAX_RECORDS) -> Runner:
    """Make the state again from the whole log, in batches of at most `max_records`; the wakes in it are the timers."""
    runner = Runner(log, state, max_records=max_records)
    runner.drain()
    return runner
