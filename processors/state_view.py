"""The state of a cluster as readers know it: the tables of one machine's `state.db`, made from what the stages tell.

`live.state`, `activities.state` and `boards.state` are the changelogs of the stages; the cells that readers show become rows. The events'
topics become the outbox, and `reference.changes` the reference data. Any record may come again. So the API, the page and the tools read a
cluster as they read a box.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Iterable, Sequence
from typing import Any, Final

import msgpack
import numpy as np

from broker.events.envelope import decode_kafka
from broker.kafka_topics import ACTIVITIES_STATE, BELIEVED, BOARDS_STATE, LIVE_STATE, REFERENCE
from broker.reference import decode_reference
from processors import live_kernel as k
from processors.believed import decode_believed
from processors.believed_db import BelievedWriter
from processors.copies import is_copy
from processors.live import activity_of
from processors.live_cells import spilled_of
from processors.live_pages import Entry, entries_of
from processors.ranges import RangeSet
from processors.results_db import put_attempts, put_events, put_reference
from processors.row_mirror import ROWS, write_row
from processors.stage import Outputs
from processors.state_db import MOST_MISSING, StateDb

_SHOWN: Final = {  # the rows of each stage that readers show; those of numberings are in the cells of their subjects
    LIVE_STATE: frozenset({"undated", "activity", "wake", "reference"}),
    ACTIVITIES_STATE: frozenset({"final", "final_track"}),
    BOARDS_STATE: frozenset({"effort", "award", "board"}),
}


class StateView:
    """Writes records into a state file. The caller begins and commits."""

    def __init__(self, store: StateDb, *, tells: bool = False) -> None:
        """`tells`: also keep what is believed of samples for those who follow (`believed_db`)."""
        self._told = BelievedWriter(store.db) if tells else None
        self._store = store
        self._db: sqlite3.Connection = store.db

    def take(self, topic: str, key: bytes, value: bytes | None, headers: Sequence[tuple[str, bytes]] = (), offset: int = 0) -> None:
        """Take one record of any topic that is followed."""
        if topic in _SHOWN:
            self._cell(topic, key, value)
        elif topic == BELIEVED:
            if value is not None and self._told is not None:
                self._told.put_once(key.decode(), decode_believed(value, topic))
        elif topic == REFERENCE:
            if value is not None:
                put_reference(self._db, decode_reference(value), offset + 1)  # who follows begins at 0
        elif value is not None:
            event = decode_kafka(headers, key, value, topic)
            put_events(self._db, [(event.id, event.type, event.topic, event.key, event.tenant, event.time_us, event.body)])

    def _cell(self, topic: str, key: bytes, value: bytes | None) -> None:
        if not key.startswith(ROWS):
            if value is not None and topic == LIVE_STATE:
                self._state_of(key, value)
            return
        table, *of = msgpack.unpackb(key[1:])
        if table == "undated" and value is not None and is_copy(msgpack.unpackb(value)[1]):
            return
        if table in _SHOWN[topic]:
            write_row(self._db, key, value)
            if table == "reference":  # of an upload: its offset is of another topic, and must not stand for a change of reference data
                self._db.execute("UPDATE reference SET version=0 WHERE entity=? AND tenant=? AND id=?", of)
            if table == "activity" and value is not None:
                self._under_way(of[0])

    def _state_of(self, key: bytes, value: bytes) -> None:
        """Take a cell of subjects or of a numbering; of copies their home tells."""
        for entry in entries_of(key, value):
            if not is_copy(entry.key):
                self._subject(entry)
        spilled = spilled_of(key, value)
        if spilled is not None and not is_copy(spilled[0]):
            self._numberings(spilled[0], [spilled[1]])

    def _numberings(self, subject: str, numberings: Iterable[Sequence[Any]]) -> None:
        rows = [_numbering_row(subject, numbering) for numbering in numberings]
        self._db.executemany("INSERT OR REPLACE INTO numbering VALUES (?,?,?,?,?,?,?,?,?,?,?,?)", rows)

    def _subject(self, entry: Entry) -> None:
        subject = entry.key
        if entry.row:
            self._db.execute("INSERT OR REPLACE INTO state VALUES ('live', ?, ?)", (subject, entry.row + entry.beside))
        put_attempts(self._db, [(subject, entry.matching)])
        self._numberings(subject, entry.numberings)
        start_us, version = entry.under_way or (k.NEVER, 0)
        self._db.execute("DELETE FROM activity WHERE subject=? AND closed=0 AND start_us<>?", (subject, start_us))
        if entry.row and entry.under_way is not None:
            row = np.frombuffer(entry.row, np.int64)
            if row[k.START] == start_us:
                self._store.sink(Outputs(activities=[activity_of(subject, row, version, closed=False)]))

    def _under_way(self, subject: str) -> None:
        """The activity under way is as far as the row of its subject."""
        found = self._db.execute("SELECT row FROM state WHERE stage='live' AND key=?", (subject,)).fetchone()
        if found is None:
            return
        row = np.frombuffer(found[0], np.int64)[: k.COLUMNS]
        query = "SELECT version FROM activity WHERE subject=? AND start_us=? AND closed=0"
        version = self._db.execute(query, (subject, int(row[k.START]))).fetchone()
        if version is not None:
            self._store.sink(Outputs(activities=[activity_of(subject, row, version[0], closed=False)]))


def _numbering_row(subject: str, values: Sequence[Any]) -> tuple[Any, ...]:
    origin, boot, node, device, bounds, date_seq, *rest = values
    ranges = RangeSet.of(bounds)
    dated = None if date_seq is None else str(date_seq)
    return subject, origin, f"{boot:016x}", node, device, len(ranges), min(ranges.holes, MOST_MISSING), ranges.encode(), dated, *rest
