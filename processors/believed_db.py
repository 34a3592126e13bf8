"""Blocks of believed samples in the state file, written by the runner in its own transaction when it is asked to tell them.

A queue for readers with a cursor of their own: numbers only grow, and a state that is made again has another generation. Bounded by age
and bytes: the oldest go (never the last), whether anybody read them or not; a reader sees that by the numbers.
"""

from __future__ import annotations

import secrets
import sqlite3
from collections.abc import Iterable
from typing import Final, NamedTuple

from processors.believed import Believed, encode_believed, unseen

KEEP_US: Final = 12 * 3_600_000_000
KEEP_BYTES: Final = 256 * 1024 * 1024
_SCHEMA: Final = (
    "CREATE TABLE IF NOT EXISTS believed (id INTEGER PRIMARY KEY AUTOINCREMENT, appended_us INTEGER NOT NULL, body BLOB NOT NULL)",
    "CREATE TABLE IF NOT EXISTS believed_generation (one INTEGER PRIMARY KEY CHECK (one = 1), name TEXT NOT NULL)",
    "CREATE TABLE IF NOT EXISTS believed_covered (source TEXT PRIMARY KEY, position INTEGER NOT NULL) WITHOUT ROWID",
)


class Block(NamedTuple):
    """A stored block."""

    id: int
    body: bytes


class BelievedWriter:
    """The writing side, over the runner's connection."""

    def __init__(self, db: sqlite3.Connection, *, keep_us: int = KEEP_US, keep_bytes: int = KEEP_BYTES) -> None:
        self._db = db
        self._keep_us, self._keep_bytes = keep_us, keep_bytes
        for statement in _SCHEMA:
            db.execute(statement)
        db.execute("INSERT OR IGNORE INTO believed_generation VALUES (1, ?)", (secrets.token_hex(8),))
        self._bytes: int | None = None

    def put(self, blocks: Iterable[Believed]) -> None:
        """Append blocks, inside the runner's transaction; drop the oldest beyond the bounds."""
        for block in blocks:
            if not len(block) and not block.health:
                continue
            body = encode_believed(block)
            self._db.execute("INSERT INTO believed (appended_us, body) VALUES (?,?)", (block.appended_us, body))
            self._bytes = None if self._bytes is None else self._bytes + len(body)
            self._drop(block.appended_us - self._keep_us)

    def put_once(self, source: str, block: Believed) -> None:
        """Append what of a block was not there before; `source` orders positions (a partition)."""
        row = self._db.execute("SELECT position FROM believed_covered WHERE source=?", (source,)).fetchone()
        fresh = unseen(block, -1 if row is None else int(row[0]))
        if len(fresh):
            self._db.execute("INSERT OR REPLACE INTO believed_covered VALUES (?,?)", (source, int(fresh.position[-1])))
        self.put([fresh])

    def forget(self) -> None:
        """The transaction was rolled back: count anew."""
        self._bytes = None

    def _drop(self, before_us: int) -> None:
        left = self._bytes
        if left is None:
            left = int(self._db.execute("SELECT coalesce(sum(length(body)), 0) FROM believed").fetchone()[0])
        for number, appended_us, size in self._db.execute(
            "SELECT id, appended_us, length(body) FROM believed WHERE id < (SELECT max(id) FROM believed) ORDER BY id"
        ):
            if appended_us >= before_us and left <= self._keep_bytes:
                break
            self._db.execute("DELETE FROM believed WHERE id=?", (number,))
            left -= size
        self._bytes = left


def generation(db: sqlite3.Connection) -> str | None:
    """Which making of the state this is; None while nothing was told in it."""
    if not db.execute("SELECT 1 FROM sqlite_master WHERE type='table' AND name='believed_generation'").fetchone():
        return None
    row = db.execute("SELECT name FROM believed_generation").fetchone()
    return None if row is None else str(row[0])


def blocks_after(db: sqlite3.Connection, after: int, limit: int) -> list[Block]:
    """Blocks behind a number, in order."""
    return [Block(*row) for row in db.execute("SELECT id, body FROM believed WHERE id > ? ORDER BY id LIMIT ?", (after, limit))]


def last_block(db: sqlite3.Connection) -> int:
    """The number of the last block ever told."""
    row = db.execute("SELECT seq FROM sqlite_sequence WHERE name='believed'").fetchone()
    return 0 if row is None else int(row[0])
