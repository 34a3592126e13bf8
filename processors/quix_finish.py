"""The finish stage on Kafka, keyed by subject: what activities come to, and which efforts stand in them.

Words of the live stage come in the order it said them; a word that was said again after a kill is known by its place and dropped. The
book of results is the one of one machine, but efforts leave it for their boards: `stage.boards`, by board. Tracks are read from the shared
folder, which the live stage made whole before it asked. What an activity comes to hangs on tracks and reference data of the moment, so
work that is done again after a kill may come to something else: nothing is told before its checkpoint is committed (`owed.py`).
"""

from __future__ import annotations

import logging
import sqlite3
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Final

import msgpack

from broker.errors import BadInputError
from broker.events.envelope import Event, encode_kafka
from broker.kafka_topics import ACTIVITIES_STATE, BOARD_WORDS, RESULTS
from broker.logrecord import Kind, LogRecord
from broker.reference import SegmentRef
from processors.effort_book import EffortBook
from processors.finish import FinishStage
from processors.live_wakes import FINISH
from processors.owed import Owed
from processors.reference_data import ReferenceData, attributed
from processors.reference_feed import Change, ReferenceFeed
from processors.results import Effort
from processors.results_db import box_around, put_effort, touched_by_segment
from processors.row_mirror import Cells, check_version
from processors.shards import Message, Out, Shard
from processors.stage import Activity, Batch, Begun, Inputs, LiveEfforts, Outputs
from processors.stage_words import EffortNow, Result, Said, ToFinish, board_of, decode_result, encode_board_word, encode_result
from processors.state_db import SCHEMA_VERSION
from processors.track_blobs import TrackBlobs, beside_key
from processors.tracks import Track, cut, decode_track, merge, tracks_of, without_repeats
from processors.working_copy import WorkingCopy

_log = logging.getLogger(__name__)

MIRRORED: Final = ("effort", "final", "final_track", "activity", "asked")
_SAID: Final = b"w"  # the cell of the last word that was taken
_CHANGES: Final = b"c"
_ASKED: Final = "CREATE TABLE asked (subject TEXT, start_us INTEGER, body BLOB, PRIMARY KEY (subject, start_us)) WITHOUT ROWID"
_FORGET: Final = "DELETE FROM activity WHERE subject=? AND anchor_us=?"
AFTER_ALL_WORDS: Final = 10**15  # changes of reference data are as new as this plus their offset: no word has such a one


class FinishOnKafka:
    """The stage for the engine."""

    name = "finish"
    topic = RESULTS
    state = ACTIVITIES_STATE

    def __init__(self, feed: ReferenceFeed, blobs: TrackBlobs, work: Path) -> None:
        self._feed = feed
        self._blobs = blobs
        self._work = work
        self._open: dict[int, FinishShard] = {}

    def open(self, partition: int, cells: Cells, out: Out) -> FinishShard:
        shard = FinishShard(partition, cells, out, self._feed.reference, self._blobs, self._work, self._hear)
        for change in self._feed.since(shard.changes):
            shard.referred(change)
        shard.changes = max(self._feed.end, shard.changes or -1)
        self._open[partition] = shard
        return shard

    def between(self, shards: Mapping[int, Shard]) -> None:
        self._open = {partition: shard for partition, shard in shards.items() if isinstance(shard, FinishShard)}
        self._take_changes(0.0)

    def _take_changes(self, timeout_s: float) -> None:
        for change in self._feed.poll(timeout_s):
            self._feed.take(change)
            for shard in self._open.values():
                if not shard.closed:
                    shard.referred(change)

    def _hear(self, offset: int) -> None:
        """Take the changes up to an offset, which the live stage had taken. StoreError when they do not come."""
        self._feed.hear(offset, self._take_changes)


class ActivityBook(EffortBook):
    """The book of results without boards: a changed effort is kept here and handed on."""

    def __init__(self, db: sqlite3.Connection, reference: ReferenceData) -> None:
        super().__init__(db, reference)
        self.changed: dict[str, EffortNow] = {}
        self.known: dict[str, Effort | None] = {}  # what boards know of those

    def _put(self, before: Effort | None, now: Effort, appended_us: int) -> None:
        if before is None or replace(before, version=now.version) != now:
            put_effort(self._db, now)
            told = self.changed.pop(now.id, None)  # told once a checkpoint, in the order of the last changes
            if told is None:
                self.known[now.id] = before
            known = self.known[now.id]
            was = None if known is None or known.subject == now.subject else known
            self.changed[now.id] = EffortNow(now, appended_us, was=was)

    def told(self) -> list[Event]:
        """The events of activities since the last call."""
        events = list(self._events)
        self._events.clear()
        self._ordinals.clear()
        return events


class FinishShard:
    """One partition."""

    def __init__(
        self, partition: int, cells: Cells, out: Out, reference: ReferenceData, blobs: TrackBlobs, work: Path, hear: Callable[[int], None]
    ) -> None:  # fmt: skip
        self._hear = hear
        self.closed = False
        self._partition = partition
        self._cells = cells
        self._reference = reference
        self._blobs = blobs
        self._owed = Owed(partition, cells, out)
        self._stage = FinishStage(reference)
        check_version(cells, "finish", SCHEMA_VERSION)
        self._copy = WorkingCopy(work / f"finish-{partition}.db", cells, MIRRORED, _ASKED)
        self._book = ActivityBook(self._copy.db, reference)
        raw = cells.get(_SAID)
        self._said: Said = (-1, 0) if raw is None else tuple(msgpack.unpackb(raw))
        raw = cells.get(_CHANGES)
        self.changes = None if raw is None else int(raw)
        self._kept: dict[bytes, bytes] = {}
        self.unfinished = 0

    def take(self, messages: Sequence[Message]) -> None:
        self._owed.send()
        for m in messages:
            try:
                word, said = decode_result(m.value or b"", m.offset, f"{RESULTS}[{self._partition}] {m.offset}")
            except BadInputError as error:
                _log.error("finish: %s", error)
                continue
            if said > self._said:
                self._said = said
                self._word(word, m.offset)

    def _word(self, word: Result, version: int) -> None:
        if isinstance(word, Begun):
            self._book.take(Outputs(begun=[word]))
            self._known(word)
        elif isinstance(word, LiveEfforts):
            self._book.take(Outputs(efforts=[word]))
        else:
            self._hear(word.changes)
            a = word.activity
            self._copy.db.execute(_FORGET, (a.subject, a.anchor_us))
            self._copy.store.sink(Outputs(activities=[a]))
            body = encode_result(word, (0, 0))
            self._copy.db.execute("INSERT OR REPLACE INTO asked VALUES (?,?,?)", (a.subject, a.start_us, body))
            self._finish(word, version)

    def _known(self, word: Begun) -> None:
        """Note that an activity is under way, until it is finished or none any more."""
        self._copy.db.execute(_FORGET, (word.subject, word.anchor_us))
        if not word.over:
            a = Activity(word.subject, word.anchor_us, word.anchor_us, word.anchor_us, 0, 0, 0, 0, 0, 0, 0, False, word.version)
            self._copy.store.sink(Outputs(activities=[a]))

    def _finish(self, word: ToFinish, version: int) -> None:
        a = word.activity
        record = LogRecord(Kind.WAKE, a.subject, "", "", word.appended_us, f"{FINISH}{a.start_us}".encode())
        inputs = Inputs(self._tracks(word), [a], uploads=word.uploads)
        try:
            outputs = self._stage.step(Batch(version, [record]), inputs)
        except Exception:
            self.unfinished += 1
            _log.exception("finish: could not finish %d of %s", a.start_us, a.subject)
            return
        self._book.take(outputs)

    def _tracks(self, word: ToFinish) -> dict[int, Track]:
        """What counts for the subject in the span of the activity, by layout."""
        a = word.activity
        parts: dict[int, list[Track]] = {}
        for key in word.keys:
            bodies = [body for place in (key, beside_key(key)) for body in self._blobs.read(place, a.start_us, a.end_us)]
            for layout, track in tracks_of([], [decode_track(body, f"track of {key}") for body in bodies]).items():
                mine = attributed(cut(track, a.start_us, a.end_us), key, a.subject, self._reference)
                if len(mine):
                    parts.setdefault(layout, []).append(mine)
        return {layout: found[0] if len(found) == 1 else without_repeats(merge(found)) for layout, found in sorted(parts.items())}

    def referred(self, change: Change) -> None:
        """A change of reference data: what people decided is written into efforts, and what it touches is finished again."""
        db, value = self._copy.db, change.value
        version = AFTER_ALL_WORDS + change.offset
        again = [(wake.key, int(wake.name.removeprefix(FINISH))) for wake in self._book.referred(value, version, change.record.appended_us)]
        if isinstance(value, SegmentRef):
            box = box_around(value.points) if value.points and not value.removed else None
            again += touched_by_segment(db, value.tenant, value.id, box)
        for subject, start_us in again:
            row = db.execute("SELECT body FROM asked WHERE subject=? AND start_us=?", (subject, start_us)).fetchone()
            if row is not None:
                word, _ = decode_result(row[0], version)
                assert isinstance(word, ToFinish)
                self._finish(word, version)
        self.changes = change.offset

    def _owe(self) -> None:
        """Efforts as they are now, once each, and the events of their activities."""
        for word in self._book.changed.values():
            placed = replace(word, place=self._owed.place)
            self._owed.add(BOARD_WORDS, board_of(word).encode(), encode_board_word(placed))
        self._book.changed.clear()
        self._book.known.clear()
        for event in self._book.told():
            headers, key, value = encode_kafka(event)
            self._owed.add(event.topic, key, value, headers)

    def tick(self) -> None:
        """Tell what the last checkpoint holds."""
        self._owed.send()

    def flush(self) -> None:
        self._owe()
        self._owed.save()
        self._copy.save()
        self._keep(_SAID, msgpack.packb(self._said))
        if self.changes is not None:
            self._keep(_CHANGES, str(self.changes).encode())

    def _keep(self, key: bytes, value: bytes) -> None:
        """Write a cell if it is another: a checkpoint without changes costs nothing."""
        if self._kept.get(key) != value:
            self._kept[key] = value
            self._cells.put(key, value)

    def close(self) -> None:
        self.closed = True
        self._copy.close()
