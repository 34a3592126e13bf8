"""Blocks of believed samples in the state file, written by the runner in its own transaction when it is asked to tell them.

A queue for readers with a cursor of their own: numbers only grow, and a state that is made again has another generation. Bounded by age
and bytes: the oldest go (never the last), whether anybody read them or not; a reader sees that by the numbers.
"""

from __future__ import annotations

import secrets
import sqlite3
from collections.abc import Iterable
from typing import Final, NamedTuple

from processors.believed import Believed, decode_believed, encode_believed, span_of, unseen

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
        self._newest_us: int | None = None  # of what was appended since the oldest were dropped
        self._covered: dict[str, int] = {}  # since this was stored

    def put(self, blocks: Iterable[Believed]) -> None:
        """Append blocks, inside the runner's transaction; drop the oldest beyond the bounds."""
        for block in blocks:
            if len(block) or block.health:
                self._append(encode_believed(block), block.appended_us)
        self.settle()

    def put_once(self, source: str, raw: bytes, where: str = "believed samples") -> None:
        """Append what of an encoded block was not there before; `source` orders positions (a partition). What is new as a whole is kept
        as it came. `settle` ends a run of them. StoreError names `where` when the bytes are damaged."""
        covered = self._covered.get(source)
        if covered is None:
            row = self._db.execute("SELECT position FROM believed_covered WHERE source=?", (source,)).fetchone()
            covered = -1 if row is None else int(row[0])
        span = span_of(raw, where)
        if span.samples and span.first > covered:
            self._append(raw, span.appended_us)
            self._covered[source] = span.last
            return
        fresh = unseen(decode_believed(raw, where), covered)
        if len(fresh):
            self._covered[source] = int(fresh.position[-1])
        if len(fresh) or fresh.health:
            self._append(encode_believed(fresh), fresh.appended_us)

    def settle(self) -> None:
        """Note how far each source was told, and drop the oldest beyond the bounds."""
        if self._covered:
            self._db.executemany("INSERT OR REPLACE INTO believed_covered VALUES (?,?)", self._covered.items())
            self._covered.clear()
        if self._newest_us is not None:
            self._drop(self._newest_us - self._keep_us)
            self._newest_us = None

    def _append(self, body: bytes, appended_us: int) -> None:
        self._db.execute("INSERT INTO believed (appended_us, body) VALUES (?,?)", (appended_us, body))
        self._bytes = None if self._bytes is None else self._bytes + len(body)
        self._newest_us = appended_us if self._newest_us is None else max(self._newest_us, appended_us)

    def forget(self) -> None:
        """The transaction was rolled back: count anew."""
        self._bytes = self._newest_us = None
        self._covered.clear()

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


def blocks_after(db: sqlite3.Connection, after: int, limit: int, most_bytes: int = KEEP_BYTES) -> list[Block]:
    """Blocks behind a number, in order: so many, and up to the one that makes them so many bytes."""
    found: list[Block] = []
    size = 0
    for row in db.execute("SELECT id, body FROM believed WHERE id > ? ORDER BY id LIMIT ?", (after, limit)):
        found.append(Block(*row))
        size += len(found[-1].body)
        if size >= most_bytes:
            break
    return found


def last_block(db: sqlite3.Connection) -> int:
    """The number of the last block ever told."""
    row = db.execute("SELECT seq FROM sqlite_sequence WHERE name='believed'").fetchone()
    return 0 if row is None else int(row[0])
