"""Refused rows: what devices near by sent and this box will never store, with the reason, kept for whoever looks after the box.

`refused.db` (SQLite, `synchronous=FULL`) holds the newest `capacity` ones; older ones go, the counts stay. A row is written here before its
refusal is acknowledged. Raw bytes are kept up to 2 KB.
"""

from __future__ import annotations

import asyncio
import sqlite3
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Final, Self

from broker.errors import Rejected, StoreError
from broker.file_version import note_version

MAX_RAW_BYTES: Final = 2048
FILE_VERSION: Final = 1
_SCHEMA: Final = """
CREATE TABLE IF NOT EXISTS refused (id INTEGER PRIMARY KEY, at_us INTEGER, topic TEXT, reason TEXT, detail TEXT, raw BLOB) STRICT;
CREATE TABLE IF NOT EXISTS counts (reason TEXT PRIMARY KEY, rows INTEGER NOT NULL) STRICT, WITHOUT ROWID;
"""


@dataclass(frozen=True, slots=True)
class RefusedRow:
    """One refusal: when (UTC microseconds), on which topic, why, and what."""

    at_us: int
    topic: str
    rejected: Rejected
    rows: int = 1  # a damaged bundle loses several rows at once


class RefusedStore:
    """The table of refused rows of one box."""

    def __init__(self, path: Path, *, capacity: int = 1000) -> None:
        self._capacity = capacity
        db: sqlite3.Connection | None = None
        try:
            self._db = db = sqlite3.connect(path, isolation_level=None, check_same_thread=False)
            db.execute("PRAGMA journal_mode=WAL")
            db.execute("PRAGMA synchronous=FULL")
            note_version(db, path, FILE_VERSION)
            db.executescript(_SCHEMA)
        except (sqlite3.Error, StoreError) as error:
            if db is not None:
                db.close()
            if isinstance(error, StoreError):
                raise
            raise StoreError(f"{path}: {error}", cure="make data_dir writable; move the file away if it is damaged") from error
        self._path = path
        self.counts: dict[str, int] = dict(self._db.execute("SELECT reason, rows FROM counts"))

    async def add(self, rows: Sequence[RefusedRow]) -> None:
        """Keep and count; returns after the durable commit. StoreError when that is impossible."""
        try:
            await asyncio.to_thread(self._write, rows)
        except sqlite3.Error as error:
            raise StoreError(f"{self._path}: {error}", cure="free disk space or replace the disk") from error
        for row in rows:
            self.counts[row.rejected.reason] = self.counts.get(row.rejected.reason, 0) + row.rows

    def newest(self, limit: int = 100) -> Iterator[tuple[int, str, str, str, bytes]]:
        """(at_us, topic, reason, detail, raw), newest first."""
        yield from self._db.execute("SELECT at_us, topic, reason, detail, raw FROM refused ORDER BY id DESC LIMIT ?", (limit,))

    def close(self) -> None:
        """Close the file."""
        self._db.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self.close()

    def _write(self, rows: Sequence[RefusedRow]) -> None:
        self._db.execute("BEGIN IMMEDIATE")
        try:
            self._db.executemany(
                "INSERT INTO refused (at_us, topic, reason, detail, raw) VALUES (?, ?, ?, ?, ?)",
                [(r.at_us, r.topic, str(r.rejected.reason), r.rejected.detail, r.rejected.raw[:MAX_RAW_BYTES]) for r in rows],
            )
            self._db.executemany(
                "INSERT INTO counts VALUES (?, ?) ON CONFLICT (reason) DO UPDATE SET rows = rows + excluded.rows",
                [(str(r.rejected.reason), r.rows) for r in rows],
            )
            self._db.execute("DELETE FROM refused WHERE id <= (SELECT max(id) FROM refused) - ?", (self._capacity,))
            self._db.execute("COMMIT")
        except BaseException:
            if self._db.in_transaction:
                self._db.execute("ROLLBACK")
            raise
