"""The log: every accepted record in the order it became durable, at contiguous positions from 1. What the stages read and replay.

`Appender` is all that ingest needs, on Kafka too (`kafka_log.py`); `Log` adds positions and reading. `SqliteLog` is the embedded one: a row
an append (a block of encoded records and its CRC), WAL, `synchronous=FULL`.
Several processes may append and read at once. Refused rows (dead letters) commit in the same transaction as the records beside them.
Invariants: what `append` returned for survives kill -9; positions have no holes; `appended_us` never goes back, whatever the clock does.
A damaged block is a `StoreError` that names its position, never silently skipped.
"""

from __future__ import annotations

import asyncio
import sqlite3
import threading
import time
from bisect import bisect_right
from collections import OrderedDict
from collections.abc import Generator, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Final, Protocol, Self
from zlib import crc32

from broker.errors import BadInputError, StoreError
from broker.file_version import note_version
from broker.logrecord import LogRecord, decode_records, encode_records
from processors.accept import DeadLetter
from processors.dead_store import DEAD_SCHEMA, DeadCaps, add_dead, mark_replayed

CACHE_BYTES: Final = 16 * 1024 * 1024
MAX_BLOCK_BYTES: Final = 4 * 1024 * 1024
_BUSY_S: Final = 10.0
_POLL_S: Final = 0.02
FILE_VERSION: Final = 1
_SCHEMA: Final = (
    """
CREATE TABLE IF NOT EXISTS block (
  first_pos INTEGER PRIMARY KEY, count INTEGER NOT NULL, last_us INTEGER NOT NULL, crc INTEGER NOT NULL, body BLOB NOT NULL
);
"""
    + DEAD_SCHEMA
)


class Appender(Protocol):
    """Where records become durable. Safe to use from several threads."""

    def append(self, records: Sequence[LogRecord], dead: Sequence[DeadLetter] = ()) -> object:
        """Make `records` (and dead letters) durable; returns once all are, in the order given for each key.

        StoreError: not all of it was stored. All of it is to be appended again then: what was stored is there twice, as a repeat of the
        same frame (origin, boot, seq) or of the same refused row.
        """
        ...


class Log(Appender, Protocol):
    """A durable sequence of records at positions 1, 2, 3, ..."""

    def append(self, records: Sequence[LogRecord], dead: Sequence[DeadLetter] = ()) -> int:
        """See `Appender.append`, all or nothing; the position of the first. StoreError: nothing was stored."""
        ...

    def read(self, after: int, limit: int) -> tuple[int, list[LogRecord]]:
        """Up to `limit` records behind position `after`: `(position of the first, records)`.

        At the end of the log `(after + 1, [])`. The position is greater than `after + 1` when what lay between was trimmed.
        """
        ...

    def end(self) -> int:
        """The last position; 0 when nothing was ever appended."""
        ...

    async def wait(self, after: int, timeout_s: float) -> bool:
        """Whether there is a record behind `after`, waiting up to `timeout_s` for one."""
        ...

    def trim(self, before_pos: int) -> int:
        """Forget whole blocks that end before `before_pos` (never the last one); how many records went."""
        ...


class SqliteLog:
    """The embedded log in one SQLite file. Safe to use from several threads and processes."""

    def __init__(self, path: Path, caps: DeadCaps) -> None:
        self.path = path
        self._caps = caps
        self._write_lock, self._read_lock = threading.Lock(), threading.Lock()
        self._writer, self._reader, self._watch = self._connect(), self._connect(), self._connect()
        try:
            with self._errors("open"):
                note_version(self._writer, path, FILE_VERSION)
                self._writer.executescript(_SCHEMA)
        except BaseException:
            for connection in (self._watch, self._reader, self._writer):
                connection.close()
            raise
        self._cache = _Cache(CACHE_BYTES)
        self._waiters: set[tuple[asyncio.AbstractEventLoop, asyncio.Event]] = set()
        self._closed = False

    @classmethod
    def open(cls, path: Path | str, *, caps: DeadCaps | None = None) -> Self:
        """Open or create the log at `path`. StoreError when the file cannot be used."""
        return cls(Path(path), caps or DeadCaps())

    def append(self, records: Sequence[LogRecord], dead: Sequence[DeadLetter] = (), *, replayed: Sequence[int] = ()) -> int:
        """See `Log.append`. `replayed` are ids of dead letters whose rows `records` holds: marked in the same transaction.

        Records dated before the last one in the log (the clock was set back) get its time instead.
        """
        with self._write_lock, self._errors("append"), self._transaction():
            row = self._writer.execute("SELECT first_pos + count, last_us FROM block ORDER BY first_pos DESC LIMIT 1").fetchone()
            first, last_us = row or (1, 0)
            blocks = list(_blocks(in_order(records, last_us)))
            at = first
            for block in blocks:
                body = encode_records(block)
                self._writer.execute("INSERT INTO block VALUES (?, ?, ?, ?, ?)", (at, len(block), block[-1].appended_us, crc32(body), body))
                at += len(block)
            if dead:
                add_dead(self._writer, dead, self._caps)
            if replayed and mark_replayed(self._writer, replayed, records[-1].appended_us if records else last_us) < len(replayed):
                raise BadInputError(f"dead letters {list(replayed)}: one was replayed before", cure="list them again")
        at = first
        for block in blocks:
            self._cache.put(at, block)
            at += len(block)
        self._notify()
        return first

    def read(self, after: int, limit: int) -> tuple[int, list[LogRecord]]:
        """See `Log.read`."""
        with self._read_lock, self._errors("read"):
            first, found = self._block_with(max(after, 0) + 1)
            if not found:
                return max(after, 0) + 1, []
            start = max(after + 1, first)
            records = found[start - first : start - first + limit]
            at = first + len(found)
            while len(records) < limit:
                next_at, found = self._block_with(at)
                if not found or next_at != at:
                    break
                records.extend(found[: limit - len(records)])
                at += len(found)
        return start, records

    def end(self) -> int:
        """See `Log.end`."""
        with self._read_lock, self._errors("read"):
            return _end_of(self._reader)

    async def wait(self, after: int, timeout_s: float) -> bool:
        """See `Log.wait`. Appends of this process wake it at once, those of others within 20 ms."""
        loop = asyncio.get_running_loop()
        waiter = (loop, asyncio.Event())
        deadline = loop.time() + timeout_s
        version = -1
        self._waiters.add(waiter)
        try:
            while not self._closed:
                woken = waiter[1].is_set()
                waiter[1].clear()
                with self._errors("watch"):
                    seen: int = self._watch.execute("PRAGMA data_version").fetchone()[0]
                    if (woken or seen != version) and _end_of(self._watch) > after:
                        return True
                version = seen
                left = deadline - loop.time()
                if left <= 0:
                    return False
                try:
                    async with asyncio.timeout(min(_POLL_S, left)):  # wait_for of Python 3.11 can swallow a cancellation
                        await waiter[1].wait()
                except TimeoutError:
                    continue
            return False
        finally:
            self._waiters.discard(waiter)

    def trim(self, before_pos: int) -> int:
        """See `Log.trim`. Freed pages are zeroed (`secure_delete`)."""
        with self._write_lock, self._errors("trim"), self._transaction():
            old = "first_pos + count <= ? AND first_pos < (SELECT max(first_pos) FROM block)"
            gone: int = self._writer.execute(f"SELECT coalesce(sum(count), 0) FROM block WHERE {old}", (before_pos,)).fetchone()[0]
            self._writer.execute(f"DELETE FROM block WHERE {old}", (before_pos,))
        with self._read_lock:
            self._cache.clear()
        return gone

    @contextmanager
    def reading(self) -> Generator[sqlite3.Connection]:
        """The read connection, for the dead letters beside the records."""
        with self._read_lock, self._errors("read"):
            yield self._reader

    def close(self) -> None:
        """Close the file. Waiters return False."""
        self._closed = True
        self._notify()
        with self._write_lock, self._read_lock:
            for connection in (self._watch, self._reader, self._writer):
                connection.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_exc: object) -> None:
        self.close()

    def _connect(self) -> sqlite3.Connection:
        with self._errors("open"):
            connection = sqlite3.connect(self.path, timeout=_BUSY_S, isolation_level=None, check_same_thread=False)
            try:
                _to_wal(connection)
                for pragma in ("synchronous=FULL", "secure_delete=ON", "journal_size_limit=16777216"):
                    connection.execute(f"PRAGMA {pragma}").fetchall()
            except BaseException:
                connection.close()
                raise
        return connection

    @contextmanager
    def _transaction(self) -> Generator[None]:
        self._writer.execute("BEGIN IMMEDIATE")
        try:
            yield
            self._writer.execute("COMMIT")
        except BaseException:
            if self._writer.in_transaction:
                self._writer.execute("ROLLBACK")
            raise

    @contextmanager
    def _errors(self, doing: str) -> Generator[None]:
        try:
            yield
        except sqlite3.Error as error:
            cure = "free space or repair the disk; nothing was acknowledged, senders keep their rows"
            if isinstance(error, sqlite3.OperationalError) and "locked" in str(error):
                cure = "another process holds the log for more than 10 s: stop it"
            raise StoreError(f"log {self.path}: cannot {doing}: {error}", cure=cure) from error

    def _block_with(self, pos: int) -> tuple[int, list[LogRecord]]:
        """The block that holds `pos`, or the first behind it; an empty list when there is none."""
        cached = self._cache.get(pos)
        if cached is not None:
            return cached
        columns = "SELECT first_pos, count, crc, body FROM block"
        row = self._reader.execute(f"{columns} WHERE first_pos <= ? ORDER BY first_pos DESC LIMIT 1", (pos,)).fetchone()
        if row is None or row[0] + row[1] <= pos:
            # ">=": a block at `pos` itself may have been committed between the two queries
            row = self._reader.execute(f"{columns} WHERE first_pos >= ? ORDER BY first_pos LIMIT 1", (pos,)).fetchone()
        if row is None:
            return pos, []
        first, count, crc, body = row
        records: list[LogRecord] = []
        if crc32(body) == crc:
            records = decode_records(body)
        if len(records) != count:
            raise StoreError(
                f"log {self.path}: the block at positions {first} to {first + count - 1} is damaged",
                cure=f"restore the file from a copy, or go on without the block: read after {first + count - 1}",
            )
        self._cache.put(first, records)
        return first, records

    def _notify(self) -> None:
        for loop, event in tuple(self._waiters):
            if not loop.is_closed():
                loop.call_soon_threadsafe(event.set)


class _Cache:
    """Decoded blocks by position, the oldest dropped beyond a size: a follower of the tail decodes nothing twice."""

    def __init__(self, cap_bytes: int) -> None:
        self._cap = cap_bytes
        self._lock = threading.Lock()
        self._blocks: OrderedDict[int, tuple[list[LogRecord], int]] = OrderedDict()
        self._firsts: list[int] = []
        self._bytes = 0

    def put(self, first: int, records: list[LogRecord]) -> None:
        size = sum(len(r.body) + 200 for r in records)
        with self._lock:
            if first in self._blocks or size > self._cap:
                return
            self._blocks[first] = (records, size)
            self._firsts.insert(bisect_right(self._firsts, first), first)
            self._bytes += size
            while self._bytes > self._cap:
                oldest, (_, gone) = self._blocks.popitem(last=False)
                self._firsts.pop(bisect_right(self._firsts, oldest) - 1)
                self._bytes -= gone

    def get(self, pos: int) -> tuple[int, list[LogRecord]] | None:
        with self._lock:
            i = bisect_right(self._firsts, pos) - 1
            if i < 0:
                return None
            first = self._firsts[i]
            records = self._blocks[first][0]
            return (first, records) if pos < first + len(records) else None

    def clear(self) -> None:
        with self._lock:
            self._blocks.clear()
            self._firsts.clear()
            self._bytes = 0


def _end_of(connection: sqlite3.Connection) -> int:
    row = connection.execute("SELECT first_pos + count - 1 FROM block ORDER BY first_pos DESC LIMIT 1").fetchone()
    return row[0] if row else 0


def _to_wal(connection: sqlite3.Connection) -> None:
    """Switch to WAL. SQLite does not wait for a lock here, so two processes that open a new file at once would fail without the retry."""
    deadline = time.monotonic() + _BUSY_S
    while True:
        try:
            connection.execute("PRAGMA journal_mode=WAL").fetchall()
        except sqlite3.OperationalError as error:
            if "locked" not in str(error) or time.monotonic() > deadline:
                raise
            time.sleep(_POLL_S)
        else:
            return


def in_order(records: Sequence[LogRecord], last_us: int) -> list[LogRecord]:
    """The records with times that never go back, neither below `last_us` nor among themselves."""
    ordered: list[LogRecord] = []
    for record in records:
        if record.appended_us < last_us:
            ordered.append(record._replace(appended_us=last_us))
        else:
            last_us = record.appended_us
            ordered.append(record)
    return ordered


def _blocks(records: list[LogRecord]) -> Iterator[list[LogRecord]]:
    """Blocks of at most about 4 MB."""
    start, size = 0, 0
    for i, record in enumerate(records):
        size += len(record.body)
        if size > MAX_BLOCK_BYTES:
            yield records[start : i + 1]
            start, size = i + 1, 0
    if start < len(records):
        yield records[start:]
