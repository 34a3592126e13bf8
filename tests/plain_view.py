"""The rules of a view, plainly: a record after the other, each written when it comes. What `state_view` must come to, whatever the batches."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import msgpack
import numpy as np

from broker.events.envelope import decode_kafka
from broker.kafka_topics import ACTIVITIES_STATE, BELIEVED, BOARDS_STATE, LIVE_STATE, REFERENCE
from broker.reference import decode_reference
from processors import live_kernel as k
from processors.believed import decode_believed, unseen
from processors.believed_db import BelievedWriter
from processors.copies import is_copy
from processors.live import activity_of
from processors.live_cells import spilled_of
from processors.live_pages import Entry, entries_of
from processors.ranges import RangeSet
from processors.results_db import put_attempts, put_events, put_reference
from processors.row_mirror import ROWS
from processors.stage import Outputs
from processors.state_db import MOST_MISSING, StateDb
from processors.state_view import Record

SHOWN = {
    LIVE_STATE: {"undated", "activity", "wake", "reference"},
    ACTIVITIES_STATE: {"final", "final_track"},
    BOARDS_STATE: {"effort", "award", "board"},
}


class PlainView:
    """Over one state file."""

    def __init__(self, store: StateDb, *, tells: bool = False) -> None:
        self._told = BelievedWriter(store.db) if tells else None
        self._covered: dict[bytes, int] = {}
        self._store, self._db = store, store.db

    def take(self, record: Record) -> None:
        topic, _, offset, key, value, headers = record
        if topic in SHOWN:
            self._cell(topic, key, value)
        elif topic == BELIEVED:
            if value is not None and self._told is not None:
                fresh = unseen(decode_believed(value), self._covered.get(key, -1))
                if len(fresh):
                    self._covered[key] = int(fresh.position[-1])
                self._told.put([fresh])
        elif topic == REFERENCE:
            if value is not None:
                put_reference(self._db, decode_reference(value), offset + 1)
        elif value is not None:
            event = decode_kafka(headers, key, value, topic)
            put_events(self._db, [(event.id, event.type, event.topic, event.key, event.tenant, event.time_us, event.body)])

    def _cell(self, topic: str, key: bytes, value: bytes | None) -> None:
        if not key.startswith(ROWS):
            for entry in entries_of(key, value) if value is not None and topic == LIVE_STATE else ():
                if not is_copy(entry.key):
                    self._subject(entry)
            spilled = spilled_of(key, value) if value is not None and topic == LIVE_STATE else None
            if spilled is not None and not is_copy(spilled[0]):
                self._numbering(*spilled)
            return
        table, *of = msgpack.unpackb(key[1:])
        if table == "undated" and value is not None and is_copy(msgpack.unpackb(value)[1]):
            return
        if table in SHOWN[topic]:
            self._row(table, of, value)
            if table == "reference":
                self._db.execute("UPDATE reference SET version=0 WHERE entity=? AND tenant=? AND id=?", of)
            if table == "activity" and value is not None:
                self._under_way(of[0])

    def _row(self, table: str, of: Sequence[Any], value: bytes | None) -> None:
        if value is not None:
            row = msgpack.unpackb(value)
            self._db.execute(f"INSERT OR REPLACE INTO {table} VALUES ({','.join('?' * len(row))})", row)
            return
        told = self._db.execute("SELECT name FROM pragma_table_info(?) WHERE pk ORDER BY pk", (table,)).fetchall()
        self._db.execute(f"DELETE FROM {table} WHERE {' AND '.join(f'{name}=?' for (name,) in told)}", of)

    def _subject(self, entry: Entry) -> None:
        subject = entry.key
        if entry.row:
            self._db.execute("INSERT OR REPLACE INTO state VALUES ('live', ?, ?)", (subject, entry.row + entry.beside))
        put_attempts(self._db, [(subject, entry.matching)])
        for numbering in entry.numberings:
            self._numbering(subject, numbering)
        start_us, version = entry.under_way or (k.NEVER, 0)
        self._db.execute("DELETE FROM activity WHERE subject=? AND closed=0 AND start_us<>?", (subject, start_us))
        if entry.row and entry.under_way is not None:
            row = np.frombuffer(entry.row, np.int64)
            if row[k.START] == start_us:
                self._store.sink(Outputs(activities=[activity_of(subject, row, version, closed=False)]))

    def _numbering(self, subject: str, numbering: Sequence[Any]) -> None:
        self._db.execute("INSERT OR REPLACE INTO numbering VALUES (?,?,?,?,?,?,?,?,?,?,?,?)", _numbering_row(subject, numbering))

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
