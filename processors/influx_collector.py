"""Reads what the platform's stores came to and puts it into the outbox as lines, each look in one commit with how far it read.

Sources: blocks of believed samples (`believed_db`), the outbox of events (efforts, boards), erasures, and every ten seconds the counters of
the pipeline and the health of nodes. All but the last are read by position, so nothing is left out while this is not running.
"""

from __future__ import annotations

import logging
import sqlite3
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import Final

from broker.errors import BadInputError, StoreError
from broker.events.envelope import Event, decode_structured
from broker.events.models import Effort as EffortData
from broker.events.models import EffortRemoved
from broker.reference import ErasureRef
from broker.view_part import WHOLE, ViewPart
from processors.believed import Believed, decode_believed, gathered
from processors.believed_db import Block, blocks_after, generation
from processors.dead_store import counts_by_reason
from processors.influx_batch import Batch
from processors.influx_lines import LineMaker
from processors.influx_minutes import MinuteBook
from processors.influx_outbox import Change, Cursor, Outbox
from processors.influx_points import (
    NodeHealth,
    Row,
    Written,
    board_rows,
    effort_rows,
    health_points,
    node_points,
    pipe_points,
    segment_points,
    tele_points,
)
from processors.influx_schema import BUCKETS
from processors.log import SqliteLog
from processors.pulse import Pulse, read_pulse
from processors.results_db import events, final, references
from processors.series_guard import SeriesGuard, buckets_of
from processors.stores import ReadStore
from processors.view_file import check_part

_log = logging.getLogger(__name__)

GAUGES_US: Final = 10_000_000
TIDY_US: Final = 600_000_000
BLOCKS: Final = 2_000  # read at once, and about so many samples and bytes in them: a second of 100,000 athletes
MOST_SAMPLES: Final = 100_000
MOST_BYTES: Final = 8 * 1024 * 1024
EVENTS: Final = 1_000
STALE_PULSE_US: Final = 60_000_000


class Collector:
    """Over one state file; `log` is the log beside it, `pulse` what its process left, `node` the name of this machine in `ops`. `part`: of
    which tenants the file must be."""

    def __init__(self, outbox: Outbox, state: Path, log: Path, pulse: Path, node: str, part: ViewPart = WHOLE) -> None:
        self._outbox = outbox
        self._part = part
        self._state, self._log_path, self._pulse_path, self._node = state, log, pulse, node
        self._store: ReadStore | None = None
        self._log: SqliteLog | None = None
        self._opened = 0
        self._gauged_us = self._tidied_us = 0
        self._remember()

    def _remember(self) -> None:
        """Take up what is stored: at the start, and at the look after a commit that failed (what cannot commit may not be able to read)."""
        self.buckets = buckets_of(self._part)
        self._guard = SeriesGuard({bucket: self._outbox.series(bucket) for bucket in BUCKETS}, self.buckets)
        self._minutes = MinuteBook(self._outbox)
        self._erased: set[str] | None = None
        self._in_doubt = False

    def close(self) -> None:
        if self._store is not None:
            self._store.close()
        if self._log is not None:
            self._log.close()
        self._store = self._log = None

    @property
    def series_states(self) -> dict[str, str]:
        """See `SeriesGuard.states`."""
        return self._guard.states()

    def look(self, now_us: int) -> bool:
        """Read on once; whether there is more. StoreError: nothing was changed, look again later."""
        if self._outbox.is_full:
            return False
        if self._in_doubt:
            self._remember()
        store = self._open()
        change = Change()
        lines = LineMaker(self._guard, now_us, change)
        try:
            more = False
            if store is not None:
                self._erasures(store, change)  # first: what follows leaves an erased athlete out
                more = self._samples(store, lines, now_us, change)
                self._minutes.refilling &= more
                more |= self._events(store, lines, change)
            for points in self._minutes.due(now_us, change):
                lines.add(points)
            if now_us - self._gauged_us >= GAUGES_US:
                self._gauges(store, lines, now_us)
            lines.seal()
            if change.batches or change.cursors or change.counts or change.minutes:
                self._outbox.commit(change)
        except sqlite3.Error as error:
            self._in_doubt = True
            self.close()  # what is wrong with a file shows when it is opened anew
            cure = "check path and disk; paceline replay makes it again from the log; it is tried again"
            raise StoreError(f"{self._state}: cannot be read: {error}", cure=cure) from error
        except BaseException:
            self._in_doubt = True
            raise
        if now_us - self._gauged_us >= GAUGES_US:
            self._gauged_us = now_us
        self._minutes.committed(now_us)
        self._tidy(now_us)
        return more

    def _open(self) -> ReadStore | None:
        """The store, opened again when the state was set aside for another; None while there is none."""
        if not self._state.exists():
            return None
        inode = self._state.stat().st_ino
        if self._store is not None and inode != self._opened:
            self._store.close()
            self._store = None
        if self._store is None:
            check_part(self._state, self._part, filled=False)
            self._store, self._opened = ReadStore(self._state), inode
            self._erased = None
        if self._log is None and self._log_path.exists():
            self._log = SqliteLog.open(self._log_path)
        return self._store

    # samples

    def _samples(self, store: ReadStore, lines: LineMaker, now_us: int, change: Change) -> bool:
        name = generation(store.db)
        if name is None:
            return False
        cursor = self._outbox.cursor("believed")
        after = cursor.at if cursor.name == name else 0
        found = blocks_after(store.db, after, BLOCKS, MOST_BYTES)
        if not found:
            return False
        if cursor.name == name and found[0].id > after + 1:
            change.count("lost_blocks", found[0].id - after - 1)
            _log.error("influx: %d blocks of samples are gone: this sink was away for too long", found[0].id - after - 1)
        if cursor.name not in ("", name):
            self._restart(found[0], name, now_us, change)
        erased = self._erased_subjects(store)
        at, samples = after, 0
        held: list[Believed] = []  # blocks come small, one of each partition: a part of the cost is of a block
        for number, body in found:
            at = number
            try:
                block = decode_believed(body, f"block {number}")
            except StoreError as error:
                _log.error("influx: %s", error)
                change.count("unreadable", 1)
                continue
            samples += len(block)
            if block.again:  # takes back what was told: by itself, behind what came before
                self._blocks(held, lines, erased, now_us, change)
                self._blocks([block], lines, erased, now_us, change)
                held = []
            else:
                held.append(block)
            if samples >= MOST_SAMPLES:
                break
        self._blocks(held, lines, erased, now_us, change)
        change.cursors["believed"] = Cursor(at, name)
        return samples >= MOST_SAMPLES or len(found) == BLOCKS or sum(len(one.body) for one in found) >= MOST_BYTES

    def _restart(self, first: Block, name: str, now_us: int, change: Change) -> None:
        """The state was made again and tells everything once more: its points overwrite themselves, its totals are counted anew."""
        _log.info("influx: %s was made again: what it has of samples is written once more", self._state)
        first_us = 0
        if first.id > 1:  # it forgot some already
            with suppress(StoreError):
                first_us = decode_believed(first.body).appended_us
        self._minutes.restart(0 if first_us <= MinuteBook.floor(now_us) else first_us, Cursor(0, name), self._part, change)

    def _blocks(self, blocks: Sequence[Believed], lines: LineMaker, erased: set[str], now_us: int, change: Change) -> None:
        if not blocks:
            return
        block = gathered(blocks)
        lines.add(tele_points(block, erased))
        if block.health:
            lines.add(health_points(block.health))
        self._minutes.take(block, now_us, change)

    def _erased_subjects(self, store: ReadStore) -> set[str]:
        if self._erased is None:
            self._erased = {f"{ref.tenant}/{ref.id}" for ref, _ in references(store.db, entity="erasure")}
        return self._erased

    def _erasures(self, store: ReadStore, change: Change) -> None:
        """An erased athlete's points are deleted behind what is owed of them by now; all again once the state was made again, as what
        they were written from may have been told before it knew of them."""
        name = generation(store.db) or ""
        cursor = self._outbox.cursor("erasures")
        after = cursor.at if cursor.name == name else 0
        newest = store.db.execute("SELECT coalesce(max(version), 0) FROM reference WHERE entity='erasure'").fetchone()[0]
        if newest <= after:
            return
        for ref, version in references(store.db, entity="erasure"):
            if version > after and isinstance(ref, ErasureRef):
                change.batches.append(Batch("live", "erase", "", 0, 0, f"{ref.tenant}/{ref.id}".encode()))
        change.cursors["erasures"] = Cursor(newest, name)
        self._erased = None

    # events

    def _events(self, store: ReadStore, lines: LineMaker, change: Change) -> bool:
        cursor = self._outbox.cursor("events")
        rows = events(store.db, _events_read(store.db, cursor), EVENTS)
        if not rows:
            return False
        efforts: list[Row] = []
        boards: list[Row] = []
        for row in rows:
            if not row.type.startswith(("paceline.social.effort.", "paceline.social.board.changed.")):
                continue
            try:
                event = decode_structured(row.body, f"outbox {row.seq}")
            except BadInputError as error:
                _log.error("influx: %s", error)
                change.count("unreadable", 1)
                continue
            efforts += self._effort(store, event, change)
            boards += board_rows(event)
        for points in segment_points(efforts, boards):
            lines.add(points)
        change.cursors["events"] = Cursor(rows[-1].seq, rows[-1].id)
        return len(rows) == EVENTS

    def _effort(self, store: ReadStore, event: Event, change: Change) -> Sequence[Row]:
        data = event.data
        if not isinstance(data, (EffortData, EffortRemoved)):
            return []
        before: Written | None = change.efforts[data.effort] if data.effort in change.efforts else self._outbox.effort(data.effort)
        found = final(store.db, data.activity)
        known = "other" if before is None else before.sport  # a view that is made again may have the event before the activity
        rows, now = effort_rows(event, known if found is None else found.summary.sport, before)
        if now != before:
            change.efforts[data.effort] = now
        return rows

    # gauges

    def _gauges(self, store: ReadStore | None, lines: LineMaker, now_us: int) -> None:
        pulse = read_pulse(self._pulse_path)
        nodes: Sequence[NodeHealth] = pulse.nodes if pulse is not None and now_us - pulse.t_us < STALE_PULSE_US else ()
        if nodes:
            lines.add(node_points(nodes, now_us))
        lines.add(pipe_points(self._node, self._stages(store, pulse), now_us))

    def _stages(self, store: ReadStore | None, pulse: Pulse | None) -> dict[str, dict[str, int]]:
        own = self._outbox.counters()
        stages = {
            "influx": {
                "in": own.get("made", 0), "out": own.get("sent", 0), "late": own.get("late", 0),
                "dlq": own.get("refused", 0), "lag": own["waiting_lines"],
            }
        }  # fmt: skip
        end = 0 if self._log is None else self._log.end()
        if store is None or self._log is None or end == 0:  # beyond one machine the log is elsewhere, and what its stages count too
            return stages
        counts = store.counters()
        with suppress(StoreError), self._log.reading() as db:
            stages["ingest"] = {"in": end, "out": end, "dlq": sum(counts_by_reason(db).values())}
        live = {
            "in": counts.get("frames", 0) + counts.get("repeats", 0), "out": counts.get("samples", 0),
            "late": counts.get("late_batches", 0), "dlq": counts.get("unreadable", 0), "lag": max(end - store.position(), 0),
        }  # fmt: skip
        if pulse is not None and pulse.p99_ms is not None:
            live["lag_ms"] = pulse.p99_ms
        return {**stages, "live": live}

    def _tidy(self, now_us: int) -> None:
        if now_us - self._tidied_us < TIDY_US:
            return
        self._tidied_us = now_us
        self._outbox.forget(
            minutes_before_us=MinuteBook.floor(now_us),
            last_before_us=now_us - 2 * 86_400_000_000,
            efforts_before_us=now_us - BUCKETS["seg"].keep_s * 1_000_000,
            series_before_us=self._guard.forget(now_us),
        )


def _events_read(db: sqlite3.Connection, cursor: Cursor) -> int:
    """The number of the last event that was read; 0 when it is not that one here. In a state that was made again of many partitions
    others are before it than before, so all are read once more: what comes again overwrites itself."""
    row = db.execute("SELECT 1 FROM outbox WHERE seq=? AND id=?", (cursor.at, cursor.name)).fetchone()
    return 0 if row is None else cursor.at
