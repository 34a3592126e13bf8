"""What is owed to InfluxDB: batches of lines in one SQLite file, committed together with how far their sources were read.

So lines and the cursor of what made them are both there or both not: nothing is lost, and nothing is made twice differently. Batches leave
oldest first, a bucket by itself; a batch goes again, the same bytes, until the server has it. Bounded: beyond the cap the oldest go and are
counted. Lines that the server refused are kept with what it said (`dead_store`), and can be owed again (`influx_refused`). One sink; any
thread; a command beside it may look, and owe again what was refused.
"""

from __future__ import annotations

import sqlite3
import threading
from collections.abc import Generator, Iterable, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final, NamedTuple

from broker.errors import StoreError
from broker.faultpoints import hit
from processors.accept import DeadLetter
from processors.dead_store import DEAD_SCHEMA, DeadCaps, StoredDead, add_dead, forget_dead, select_dead
from processors.influx_batch import Batch
from processors.influx_points import Written
from processors.influx_refused import again, of_subject
from processors.minute_totals import Last, Minute, decode_minute

VERSION: Final = 1
MOST_LINES: Final = 20_000  # of a request: the server is at its best from 5,000 on
MOST_BYTES: Final = 4 * 1024 * 1024
_SCHEMA: Final = (
    """
CREATE TABLE batch (
    id INTEGER PRIMARY KEY AUTOINCREMENT, bucket TEXT NOT NULL, kind TEXT NOT NULL, unit TEXT NOT NULL, lines INTEGER NOT NULL,
    newest_us INTEGER NOT NULL, body BLOB NOT NULL);
CREATE INDEX batch_by_bucket ON batch (bucket, id);
CREATE TABLE cursor (source TEXT PRIMARY KEY, at INTEGER NOT NULL, name TEXT NOT NULL) WITHOUT ROWID;
CREATE TABLE series (bucket TEXT, hash INTEGER, seen_us INTEGER NOT NULL, PRIMARY KEY (bucket, hash)) WITHOUT ROWID;
CREATE TABLE effort (id TEXT PRIMARY KEY, seg TEXT, sport TEXT, tenant TEXT, t_ns INTEGER, ms INTEGER) WITHOUT ROWID;
CREATE INDEX effort_by_time ON effort (t_ns);
CREATE TABLE minute (start_us INTEGER PRIMARY KEY, body BLOB NOT NULL);
CREATE TABLE last (subject TEXT PRIMARY KEY, t_us INTEGER NOT NULL, dist_um INTEGER NOT NULL) WITHOUT ROWID;
CREATE TABLE counter (name TEXT PRIMARY KEY, value INTEGER NOT NULL) WITHOUT ROWID;
"""
    + DEAD_SCHEMA
)
_LAST: Final = "INSERT INTO last VALUES (?,?,?) ON CONFLICT DO UPDATE SET t_us=excluded.t_us, dist_um=excluded.dist_um"


class Cursor(NamedTuple):
    """How far a source was read: a number, and the name of what the numbers belong to."""

    at: int = 0
    name: str = ""


class Owed(NamedTuple):
    """Batches of one bucket that may go as one request, oldest first; gzip members back to back are one stream."""

    ids: tuple[int, ...]
    batch: Batch


@dataclass(slots=True)
class Change:
    """What one look at the sources came to; committed as a whole."""

    batches: list[Batch] = field(default_factory=list[Batch])
    cursors: dict[str, Cursor] = field(default_factory=dict[str, Cursor])
    series: list[tuple[str, int, int]] = field(default_factory=list[tuple[str, int, int]])
    efforts: dict[str, Written | None] = field(default_factory=dict[str, Written | None])
    minutes: list[Minute] = field(default_factory=list[Minute])
    last: dict[str, Last] = field(default_factory=dict[str, Last])
    counts: dict[str, int] = field(default_factory=dict[str, int])
    forgets_last: bool = False  # what was stored of `last`

    def count(self, name: str, by: int) -> None:
        """Add to a counter."""
        if by:
            self.counts[name] = self.counts.get(name, 0) + by


class Outbox:
    """See the module. StoreError names the file."""

    def __init__(
        self, path: Path, *, cap_bytes: int, drop_oldest: bool = True, caps: DeadCaps | None = None, busy_s: float = 30.0
    ) -> None:  # fmt: skip
        """`busy_s`: how long another program that holds the file is waited for."""
        self._path = path
        self._cap_bytes, self._drop_oldest = cap_bytes, drop_oldest
        self._caps = caps or DeadCaps()
        self._lock = threading.Lock()
        self.batches = 0  # that were taken since it was opened
        with self._errors("open"):
            path.parent.mkdir(parents=True, exist_ok=True)
            self._db = sqlite3.connect(path, isolation_level=None, check_same_thread=False, timeout=busy_s)
            self._bytes = self._seen = 0
            try:
                self._prepare()
                self._weigh()
            except BaseException:
                self._db.close()
                raise

    def _prepare(self) -> None:
        version = self._db.execute("PRAGMA user_version").fetchone()[0]
        if version not in (0, VERSION):
            raise StoreError(
                f"{self._path}: an outbox of version {version}, this program writes {VERSION}",
                cure="stop the sink and remove the file: what is still kept by the platform is written again",
            )
        for pragma in ("auto_vacuum=INCREMENTAL", "journal_mode=WAL", "synchronous=NORMAL", "secure_delete=ON"):
            self._db.execute(f"PRAGMA {pragma}").fetchall()
        if version == 0:
            self._db.executescript(f"BEGIN; {_SCHEMA} PRAGMA user_version={VERSION}; COMMIT;")

    def _weigh(self) -> None:
        """What waits, in bytes, when another process may have added to it."""
        seen: int = self._db.execute("PRAGMA data_version").fetchone()[0]
        if seen != self._seen:
            self._bytes = self._db.execute("SELECT coalesce(sum(length(body)), 0) FROM batch").fetchone()[0]
            self._seen = seen

    def close(self) -> None:
        with self._lock:
            self._db.close()

    # the side of the sources

    def commit(self, change: Change) -> int:
        """Take a change, all or nothing; how many lines the cap has cost."""
        with self._transaction("store"):
            db = self._db
            self._insert(change.batches)
            db.executemany("INSERT OR REPLACE INTO cursor VALUES (?,?,?)", [(source, *at) for source, at in change.cursors.items()])
            db.executemany("INSERT OR REPLACE INTO series VALUES (?,?,?)", change.series)
            for name, written in change.efforts.items():
                if written is None:
                    db.execute("DELETE FROM effort WHERE id=?", (name,))
                else:
                    db.execute("INSERT OR REPLACE INTO effort VALUES (?,?,?,?,?,?)", (name, *written))
            db.executemany("INSERT OR REPLACE INTO minute VALUES (?,?)", [(m.start_us, m.encode()) for m in change.minutes])
            if change.forgets_last:
                db.execute("DELETE FROM last")
            db.executemany(_LAST, [(subject, *at) for subject, at in change.last.items()])
            size = self._bytes + sum(len(b.body) for b in change.batches)
            size, dropped = self._make_room(size)
            self._count({**change.counts, "dropped_full": change.counts.get("dropped_full", 0) + dropped})
            hit("influx.before_commit")
        self._bytes = size
        self.batches += len(change.batches)
        hit("influx.after_commit")
        return dropped

    def _make_room(self, size: int) -> tuple[int, int]:
        """Drop the oldest lines beyond the cap; the size then, and how many."""
        dropped = 0
        if not self._drop_oldest or size <= self._cap_bytes:
            return size, 0
        for number, lines, length in self._db.execute("SELECT id, lines, length(body) FROM batch WHERE kind='write' ORDER BY id"):
            if size <= self._cap_bytes:
                break
            self._db.execute("DELETE FROM batch WHERE id=?", (number,))
            size, dropped = size - length, dropped + lines
        return size, dropped

    @property
    def is_full(self) -> bool:
        """Whether the sources have to wait."""
        return not self._drop_oldest and self._bytes >= self._cap_bytes

    def cursor(self, source: str) -> Cursor:
        """How far a source was read."""
        row = self._one("SELECT at, name FROM cursor WHERE source=?", source)
        return Cursor() if row is None else Cursor(*row)

    def series(self, bucket: str) -> dict[int, int]:
        """The series a bucket has, by hash, and when each was seen last."""
        with self._reading() as db:
            return dict(db.execute("SELECT hash, seen_us FROM series WHERE bucket=?", (bucket,)))

    def effort(self, name: str) -> Written | None:
        """How an effort stands in InfluxDB."""
        row = self._one("SELECT seg, sport, tenant, t_ns, ms FROM effort WHERE id=?", name)
        return None if row is None else Written(*row)

    def minute(self, start_us: int) -> Minute | None:
        """The totals of a minute."""
        row = self._one("SELECT body FROM minute WHERE start_us=?", start_us)
        return None if row is None else decode_minute(row[0])

    def minute_starts(self) -> list[int]:
        """All minutes that are kept."""
        with self._reading() as db:
            return [start_us for (start_us,) in db.execute("SELECT start_us FROM minute ORDER BY start_us")]

    def last(self) -> dict[str, Last]:
        """Time and distance of the last sample of each subject."""
        with self._reading() as db:
            return {subject: (t_us, dist_um) for subject, t_us, dist_um in db.execute("SELECT subject, t_us, dist_um FROM last")}

    def forget(self, *, minutes_before_us: int, last_before_us: int, efforts_before_us: int, series_before_us: Mapping[str, int]) -> None:
        """Drop what is too old to matter."""
        with self._transaction("tidy"):
            self._db.execute("DELETE FROM minute WHERE start_us < ?", (minutes_before_us,))
            self._db.execute("DELETE FROM last WHERE t_us < ?", (last_before_us,))
            self._db.execute("DELETE FROM effort WHERE t_ns < ?", (efforts_before_us * 1000,))
            for bucket, before_us in series_before_us.items():
                self._db.execute("DELETE FROM series WHERE bucket=? AND seen_us < ?", (bucket, before_us))
        with self._lock, self._errors("tidy"):
            self._db.execute("PRAGMA incremental_vacuum(2000)").fetchall()

    # the side of the server

    def owed(self, bucket: str) -> Owed | None:
        """The oldest batches of a bucket as one request; None when nothing is owed."""
        with self._reading() as db:
            query = "SELECT id, kind, unit, lines, newest_us, body FROM batch WHERE bucket=? ORDER BY id LIMIT 2000"
            ids: list[int] = []
            bodies: list[bytes] = []
            kind, unit, lines, newest_us = "write", "", 0, 0
            for number, of, in_unit, count, newest, body in db.execute(query, (bucket,)):
                joins = of == "write" == kind and in_unit == unit and lines + count <= MOST_LINES
                if ids and not (joins and sum(map(len, bodies)) + len(body) <= MOST_BYTES):
                    break
                ids.append(number)
                bodies.append(body)
                kind, unit, lines, newest_us = of, in_unit, lines + count, max(newest_us, newest)
        if not ids:
            return None
        return Owed(tuple(ids), Batch(bucket, "erase" if kind == "erase" else "write", unit, lines, newest_us, b"".join(bodies)))

    def done(self, ids: Sequence[int], counts: Mapping[str, int], dead: Sequence[DeadLetter] = ()) -> None:
        """These batches are dealt with; lines that the server refused are kept aside in the same transaction."""
        hit("influx.before_done")
        with self._transaction("forget what was sent in"):
            gone = 0
            for number in ids:
                row = self._db.execute("DELETE FROM batch WHERE id=? RETURNING length(body), kind, body", (number,)).fetchone()
                gone += row[0] if row else 0
                if row and row[1] == "erase":
                    forget_dead(self._db, of_subject(row[2].decode(), self._db.execute("SELECT id, topic, raw FROM dead")))
            if dead:
                add_dead(self._db, dead, self._caps)
            self._count(counts)
        self._bytes -= gone
        hit("influx.after_done")

    def dead(self, limit: int = 1000) -> list[StoredDead]:
        """Refused lines with what the server said, oldest first."""
        with self._reading() as db:
            return select_dead(db, "1", (), limit)

    def owe_again(self, letters: Sequence[StoredDead]) -> int:
        """Owe refused lines once more, behind all that waits; how many. Those that are gone, or not whole, stay as they are, and those of
        a person whose erasure waits: behind it they would be written after all."""
        with self._transaction("owe again in"):
            kept = {number for (number,) in self._db.execute("SELECT id FROM dead")}
            for (subject,) in self._db.execute("SELECT body FROM batch WHERE kind='erase'"):
                kept.difference_update(of_subject(subject.decode(), [(s.id, s.letter.topic, s.letter.raw) for s in letters]))
            batches, ids = again([stored for stored in letters if stored.id in kept])
            self._insert(batches)
            forget_dead(self._db, ids)
            self._count({"sent_again": len(ids)})
        self._bytes += sum(len(batch.body) for batch in batches)
        return len(ids)

    def counters(self) -> dict[str, int]:
        """Totals since the file began, and what waits: `waiting_lines`, `waiting_bytes`, `dead` and `series_<bucket>`."""
        with self._reading() as db:
            found = dict(db.execute("SELECT name, value FROM counter ORDER BY name").fetchall())
            lines = db.execute("SELECT coalesce(sum(lines), 0), coalesce(sum(length(body)), 0) FROM batch").fetchone()
            dead = db.execute("SELECT count FROM dead_size").fetchone()[0]
            series = {f"series_{bucket}": n for bucket, n in db.execute("SELECT bucket, count(*) FROM series GROUP BY bucket")}
        return {**found, **series, "waiting_lines": lines[0], "waiting_bytes": lines[1], "dead": dead}

    # inside

    def _insert(self, batches: Iterable[Batch]) -> None:
        self._db.executemany(
            "INSERT INTO batch (bucket, kind, unit, lines, newest_us, body) VALUES (?,?,?,?,?,?)",
            [(b.bucket, b.kind, b.unit, b.lines, b.newest_us, b.body) for b in batches],
        )

    def _count(self, counts: Mapping[str, int]) -> None:
        rows: Iterable[tuple[str, int]] = [(name, by) for name, by in counts.items() if by]
        self._db.executemany("INSERT INTO counter VALUES (?,?) ON CONFLICT DO UPDATE SET value = value + excluded.value", rows)

    def _one(self, query: str, key: str | int) -> tuple[Any, ...] | None:
        with self._reading() as db:
            return db.execute(query, (key,)).fetchone()

    @contextmanager
    def _reading(self) -> Generator[sqlite3.Connection]:
        with self._lock, self._errors("read"):
            yield self._db

    @contextmanager
    def _transaction(self, doing: str) -> Generator[None]:
        with self._lock, self._errors(doing):
            self._db.execute("BEGIN IMMEDIATE")
            try:
                self._weigh()
                yield
                self._db.execute("COMMIT")
            except BaseException:
                if self._db.in_transaction:
                    self._db.execute("ROLLBACK")
                raise

    @contextmanager
    def _errors(self, doing: str) -> Generator[None]:
        try:
            yield
        except (sqlite3.Error, OSError) as error:
            raise StoreError(f"outbox {self._path}: cannot {doing}: {error}", cure=_cure_of(error)) from error


def _cure_of(error: sqlite3.Error | OSError) -> str:
    """What helps: by SQLite's word for what is wrong, without what it adds to it (the low byte)."""
    code = (getattr(error, "sqlite_errorcode", None) or 0) & 0xFF
    if code in (sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED):
        return "another program holds the file: end it, one sink a folder; nothing is lost: it is tried again"
    if code in (sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB):
        return "stop the sink and remove the file: what is still kept by the platform is written again"
    return "free space or repair the disk; nothing is lost: it is tried again"
