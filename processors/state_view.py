"""The state of a cluster as readers know it: the tables of one machine's `state.db`, made from what the stages tell.

`live.state`, `activities.state` and `boards.state` are the changelogs of the stages; the cells that readers show become rows. The events'
topics become the outbox, and `reference.changes` the reference data. Any record may come again. So the API, the page and the tools read a
cluster as they read a box. Records come in batches, and of several states of one thing only the last is written: however the same records
are cut into batches, the tables end the same.

A view of a part of the tenants (`view_part`) comes to what the whole one has of them. What is of others is passed over as early as it is
known: by the key where that begins with the tenant, else by as little of the value as says whose it is.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Iterable, Sequence
from typing import Any, Final, NamedTuple

import msgpack
import numpy as np

from broker.errors import BadInputError, StoreError
from broker.events.envelope import decode_kafka
from broker.kafka_topics import ACTIVITIES_STATE, BELIEVED, BOARDS_STATE, LIVE_STATE, REFERENCE
from broker.reference import decode_reference
from broker.view_part import WHOLE, ViewPart
from processors import live_kernel as k
from processors.believed import chosen_of
from processors.believed_db import BelievedWriter
from processors.board_rows import SHARDS, TABLES, BoardRows
from processors.copies import is_copy
from processors.live import activity_of
from processors.live_cells import spilled_of
from processors.live_pages import columns_of
from processors.results_db import put_events, put_reference
from processors.row_mirror import ROWS, RowWriter
from processors.stage import Outputs
from processors.state_db import StateDb
from processors.view_lines import ViewLines
from processors.view_subjects import Subjects

_SHOWN: Final = {  # the rows of each stage that readers show, but those of shards; those of numberings are in the cells of their subjects
    LIVE_STATE: frozenset({"undated", "activity", "wake", "reference"}),
    ACTIVITIES_STATE: frozenset({"final", "final_track"}),
    BOARDS_STATE: frozenset({"effort", "award", "board"}),
}
_IN_KEY: Final = {"activity": 0, "wake": 0, "reference": 1, "award": 1, "shard_award": 1, "board": 1}  # which column says whose a row is
_IN_ROW: Final = {"undated": 1, "final": 1, "effort": 1, "shard_effort": 1}


class Record(NamedTuple):
    """One record of any topic that is followed."""

    topic: str
    partition: int
    offset: int
    key: bytes
    value: bytes | None
    headers: Sequence[tuple[str, bytes]]


class StateView:
    """Writes records into a state file. The caller begins and commits."""

    def __init__(self, store: StateDb, *, tells: bool = False, part: ViewPart = WHOLE) -> None:
        """`tells`: also keep what is believed of samples for those who follow (`believed_db`). `part`: whose."""
        self._part = part
        self._wanted = None if part.is_whole else part.has_subject
        self._lines = None if part.is_whole else ViewLines(store.db)
        self.passed = 0  # records of which nothing is of this part
        self._told = BelievedWriter(store.db) if tells else None
        self._boards = BoardRows(store.db)
        self._store = store
        self._db: sqlite3.Connection = store.db
        self._subjects = Subjects(store.db)
        self._rows = RowWriter(store.db)
        self._cells: dict[bytes, bytes | None] = {}
        self._events: list[tuple[str, str, str, str, str, int, bytes]] = []

    def take(self, records: Iterable[Record]) -> list[tuple[Record, BadInputError | StoreError]]:
        """Take records, those of a partition in order; those that cannot be read, and why."""
        refused: list[tuple[Record, BadInputError | StoreError]] = []
        for record in records:
            try:
                self._take(record)
            except (BadInputError, StoreError) as error:
                refused.append((record, error))
        self._subjects.write()
        self._rows.write(self._cells)
        self._cells.clear()
        if self._lines is not None:
            self._lines.settle()
        put_events(self._db, self._events)
        self._events.clear()
        if self._told is not None:
            self._told.settle()
        return refused

    def _take(self, record: Record) -> None:
        topic, _, offset, key, value, headers = record
        if topic in _SHOWN:
            self._cell(topic, key, value)
        elif value is None:
            return
        elif topic == BELIEVED:
            self._believed(key, value)
        elif self._wanted is not None and not self._part.has_key(key):
            self.passed += 1
        elif topic == REFERENCE:
            put_reference(self._db, decode_reference(value), offset + 1)  # who follows begins at 0
        else:
            event = decode_kafka(headers, key, value, topic)
            self._events.append((event.id, event.type, event.topic, event.key, event.tenant, event.time_us, event.body))

    def _believed(self, key: bytes, value: bytes) -> None:
        if self._told is None:
            return
        ours = value if self._wanted is None else chosen_of(value, self._part.has, BELIEVED)
        if ours is None:
            self.passed += 1
        else:
            self._told.put_once(key.decode(), ours, BELIEVED)

    def _cell(self, topic: str, key: bytes, value: bytes | None) -> None:
        if not key.startswith(ROWS):
            if value is not None and topic == LIVE_STATE:
                self._state_of(key, value)
            return
        table, *of = msgpack.unpackb(key[1:])
        if self._lines is not None and not self._is_ours(self._lines, table, of, value):
            self.passed += 1
            return
        if table == "undated" and value is not None and is_copy(msgpack.unpackb(value)[1]):
            return
        if topic == BOARDS_STATE and table in TABLES and self._of_shards(table, key, value):
            return
        if table not in _SHOWN[topic]:
            return
        if table == "activity":
            self._activity(of[0], key, value)
        elif table == "reference":  # of an upload: its offset is of another topic, and must not stand for a change of reference data
            self._rows.write({key: value})
            self._db.execute("UPDATE reference SET version=0 WHERE entity=? AND tenant=? AND id=?", of)
        else:
            self._cells[key] = value

    def _is_ours(self, lines: ViewLines, table: str, of: Sequence[Any], value: bytes | None) -> bool:
        """Whether a row is of a tenant of this part; of one that is gone without saying whose it was, yes: nothing is removed then."""
        if table in _IN_KEY:
            owner = str(of[_IN_KEY[table]])
        elif value is None:
            if table in ("final", "final_track"):
                lines.gone(of[0])
            return True
        elif table == "final_track":
            return lines.has(of[0], value)
        elif table not in _IN_ROW:
            return True
        else:
            owner = str(_column(value, _IN_ROW[table]))
        ours = self._part.has_subject(owner)
        if table == "final":
            lines.told(of[0], ours=ours)
        return ours

    def _of_shards(self, table: str, key: bytes, value: bytes | None) -> bool:
        """Take a row of a board once any is cut into shards; False for one that is as on one machine."""
        if table in SHARDS and not self._boards.cut:
            self._rows.write(self._cells)  # what came of whole boards
            self._cells.clear()
            self._boards.cut = True
        if self._boards.cut:
            self._boards.take(key, value)
        return self._boards.cut or (table == "effort" and value is None)  # which went to a shard: its row comes

    def _state_of(self, key: bytes, value: bytes) -> None:
        """Take a cell of subjects or of a numbering."""
        page = columns_of(key, value, self._wanted)
        if page is not None:
            self._subjects.add(page)
            return
        spilled = spilled_of(key, value, self._wanted)
        if spilled is not None:
            self._subjects.add_numbering(*spilled)
        elif self._wanted is not None:
            self.passed += 1

    def _activity(self, subject: str, key: bytes, value: bytes | None) -> None:
        if subject in self._subjects:
            self._subjects.write()
        self._rows.write({key: value})
        self._subjects.forget(subject)
        if value is not None:
            self._under_way(subject)

    def _under_way(self, subject: str) -> None:
        """The activity under way is as far as the row of its subject."""
        found = self._db.execute("SELECT row FROM state WHERE stage='live' AND key=?", (subject,)).fetchone()
        if found is None:
            return
        row = np.frombuffer(found[0], np.int64)[: k.COLUMNS]
        query = "SELECT version FROM activity WHERE subject=? AND start_us=? AND closed=0"
        version: Any = self._db.execute(query, (subject, int(row[k.START]))).fetchone()
        if version is not None:
            self._store.sink(Outputs(activities=[activity_of(subject, row, version[0], closed=False)]))


def _column(value: bytes, column: int) -> Any:
    """One column of a row, without taking the ones behind it apart."""
    reader = msgpack.Unpacker(max_buffer_size=len(value))
    reader.feed(value)
    reader.read_array_header()
    for _ in range(column):
        reader.skip()
    return reader.unpack()
