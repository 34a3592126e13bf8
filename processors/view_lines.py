"""Whose the lines of finished activities are, for a view of a part of the tenants: the cell of a line has the id of its activity alone.

A line is kept when its activity is known to be of this part, and passed over when it is of another. One that comes before its activity (as
compaction can have it) waits in a table, of which the oldest go: stages write both in one checkpoint, the activity first.
"""

from __future__ import annotations

import sqlite3
from typing import Final

import msgpack

MOST_WAITING: Final = 1_000
MOST_ELSEWHERE: Final = 10_000  # activities of other parts, the last ones, whose lines are still to come
_SCHEMA: Final = "CREATE TABLE IF NOT EXISTS waiting_line (seq INTEGER PRIMARY KEY, id TEXT UNIQUE, body BLOB NOT NULL)"
_TRIM: Final = "DELETE FROM waiting_line WHERE seq <= (SELECT max(seq) FROM waiting_line) - ?"


class ViewLines:
    """Over the tables of one file; `waiting_line` is its own. The caller begins and commits."""

    def __init__(self, db: sqlite3.Connection) -> None:
        self._db = db
        db.execute(_SCHEMA)
        self._ours: set[str] = set()  # in what is gathered and not written
        self._elsewhere: dict[str, None] = {}

    def told(self, activity: str, *, ours: bool) -> None:
        """An activity is of this part, or of another: the line of it that waits is taken, or goes."""
        row = self._db.execute("DELETE FROM waiting_line WHERE id=? RETURNING body", (activity,)).fetchone()
        if not ours:
            self._elsewhere[activity] = None
            return
        self._ours.add(activity)
        if row is not None:
            self._db.execute("INSERT OR REPLACE INTO final_track VALUES (?,?)", (activity, row[0]))

    def has(self, activity: str, value: bytes) -> bool:
        """Whether a line is to be kept now; one of an activity that nothing is known of waits."""
        if activity in self._elsewhere:
            return False
        if activity in self._ours or self._db.execute("SELECT 1 FROM final WHERE id=?", (activity,)).fetchone():
            return True
        self._db.execute("INSERT OR REPLACE INTO waiting_line (id, body) VALUES (?,?)", (activity, msgpack.unpackb(value)[1]))
        return False

    def gone(self, activity: str) -> None:
        """An activity or its line is none any more."""
        self._db.execute("DELETE FROM waiting_line WHERE id=?", (activity,))

    def settle(self) -> None:
        """What was gathered is written; drop what has waited for too long."""
        self._ours.clear()
        self._db.execute(_TRIM, (MOST_WAITING,))
        for activity in list(self._elsewhere)[: max(len(self._elsewhere) - MOST_ELSEWHERE, 0)]:
            del self._elsewhere[activity]
