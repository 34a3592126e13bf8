"""Efforts and awards of boards as readers' rows, from the cells of whole boards and of the shards of hot ones.

Partitions are read side by side, a file that is made anew reads them in any order, and an effort can go from one shard to another: of two
rows of an effort the one of the later version stands, and readers, who follow a board by versions, see each row that comes as the newest
of its board. Of the awards of an effort on a hot board its shard has those among the athlete's own efforts, and the board the others.
"""

from __future__ import annotations

import sqlite3
from typing import Final

import msgpack

from processors.awards import BOARD_KINDS, KINDS, OWN_KINDS
from processors.results_db import board_version, effort_of, put_effort
from processors.row_mirror import RowWriter

SHARDS: Final = frozenset({"shard_effort", "shard_award"})
TABLES: Final = SHARDS | {"effort", "award"}
_SCHEMA: Final = """
CREATE TABLE IF NOT EXISTS dealt (id TEXT PRIMARY KEY, version INTEGER) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS own_award (effort TEXT, subject TEXT, kinds TEXT, PRIMARY KEY (effort, subject)) WITHOUT ROWID;
"""
_DEAL: Final = "INSERT INTO dealt VALUES (?,?) ON CONFLICT DO UPDATE SET version=excluded.version WHERE excluded.version >= version"


class BoardRows:
    """Writes into the tables of a state file; `dealt` and `own_award` are its own. `cut`: rows of shards came ever; while none did,
    those of whole boards may be written as they are."""

    def __init__(self, db: sqlite3.Connection) -> None:
        self._db = db
        self._rows = RowWriter(db)
        db.executescript(_SCHEMA)
        self.cut = db.execute("SELECT EXISTS (SELECT 1 FROM dealt) OR EXISTS (SELECT 1 FROM own_award)").fetchone()[0] == 1

    def take(self, key: bytes, value: bytes | None) -> None:
        """Take one cell of a table of `TABLES`; None when it is gone."""
        table, *of = msgpack.unpackb(key[1:])
        if table == "effort":
            if value is not None and self._is_later(of[0], effort_of(msgpack.unpackb(value)).version):
                self._rows.write({key: value})
        elif table == "shard_effort":
            if value is not None:
                self._dealt(value)
        elif table == "award":
            whole = None if value is None else msgpack.unpackb(value)
            self._awarded(of[0], of[1], whole[2:4] if whole else ("", ""), of_board=whole[4] if whole else "")
        else:
            own = None if value is None else msgpack.unpackb(value)
            kinds = own[4] if own else ""
            self._db.execute("INSERT OR REPLACE INTO own_award VALUES (?,?,?)", (of[0], of[1], kinds))
            self._awarded(of[0], of[1], own[2:4] if own else ("", ""), own=kinds)

    def _is_later(self, effort_id: str, version: int) -> bool:
        """Whether a row of a whole board is newer than what shards have of the effort; a board is cut into shards once."""
        row = self._db.execute("SELECT version FROM dealt WHERE id=?", (effort_id,)).fetchone()
        return row is None or version > row[0]

    def _dealt(self, value: bytes) -> None:
        values = msgpack.unpackb(value)
        e = effort_of(values)
        if self._db.execute(_DEAL, (e.id, e.version)).rowcount:
            newest = board_version(self._db, e.tenant, e.segment) + 1
            put_effort(self._db, effort_of([*values[:13], newest, *values[14:]]))

    def _awarded(self, effort_id: str, subject: str, name: tuple[str, str], *, of_board: str | None = None, own: str | None = None) -> None:
        """Bring a row of awards up to date: what its board says, or what a shard says."""
        held = self._db.execute("SELECT tenant, segment, kinds FROM award WHERE effort=? AND subject=?", (effort_id, subject)).fetchone()
        if of_board is not None:
            words = set(of_board.split(","))
            part = self._db.execute("SELECT kinds FROM own_award WHERE effort=? AND subject=?", (effort_id, subject)).fetchone()
            if part is not None:
                words = words & BOARD_KINDS | set(part[0].split(","))
        else:
            assert own is not None
            words = (set(held[2].split(",")) - OWN_KINDS if held else set[str]()) | set(own.split(","))
        kinds = ",".join(kind for kind in KINDS if kind in words)
        tenant, segment = name if name != ("", "") or held is None else held[:2]
        if kinds:
            self._db.execute("INSERT OR REPLACE INTO award VALUES (?,?,?,?,?)", (subject, effort_id, tenant, segment, kinds))
        else:
            self._db.execute("DELETE FROM award WHERE effort=? AND subject=?", (effort_id, subject))
