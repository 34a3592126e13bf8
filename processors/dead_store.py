"""Dead letters in the log's file: refused rows with their reason, each counted once however often it is sent again.

Bounded: beyond the caps the oldest are dropped and counted as dropped; the counts by reason stay. All functions work on a connection of
the log; those that write run inside its transaction.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Sequence
from dataclasses import dataclass
from hashlib import sha256
from typing import Final

from processors.accept import DeadLetter

MAX_RAW_BYTES: Final = 64 * 1024

DEAD_SCHEMA: Final = """
CREATE TABLE IF NOT EXISTS dead (
  id INTEGER PRIMARY KEY AUTOINCREMENT, ident TEXT NOT NULL UNIQUE, at_us INTEGER NOT NULL, tenant TEXT NOT NULL, node TEXT NOT NULL,
  topic TEXT NOT NULL, epoch TEXT, n INTEGER, reason TEXT NOT NULL, detail TEXT NOT NULL, raw BLOB NOT NULL,
  sent INTEGER NOT NULL DEFAULT 1, replayed_us INTEGER
);
CREATE TABLE IF NOT EXISTS dead_count (reason TEXT PRIMARY KEY, total INTEGER NOT NULL, dropped INTEGER NOT NULL) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS dead_size (one INTEGER PRIMARY KEY CHECK (one = 1), count INTEGER NOT NULL, bytes INTEGER NOT NULL);
INSERT OR IGNORE INTO dead_size VALUES (1, 0, 0);
"""


@dataclass(frozen=True, slots=True)
class DeadCaps:
    """How many dead letters are kept, and how many bytes of them."""

    count: int = 10_000
    raw_bytes: int = 64 * 1024 * 1024


@dataclass(frozen=True, slots=True)
class StoredDead:
    """A dead letter as it is kept. `sent` is how often it arrived; `replayed_us` when it was appended after a fix, or None."""

    id: int
    letter: DeadLetter
    sent: int
    replayed_us: int | None


def add_dead(db: sqlite3.Connection, dead: Sequence[DeadLetter], caps: DeadCaps) -> None:
    """Keep dead letters; one that is known already (same row of the same spool, else same bytes) only counts as sent again."""
    for letter in dead:
        epoch = None if letter.epoch is None else f"{letter.epoch:016x}"
        raw = letter.raw[:MAX_RAW_BYTES]
        known = db.execute("UPDATE dead SET sent = sent + 1 WHERE ident = ?", (ident_of(letter),)).rowcount
        if known:
            continue
        db.execute(
            "INSERT INTO dead (ident, at_us, tenant, node, topic, epoch, n, reason, detail, raw) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
            (
                ident_of(letter), letter.at_us, letter.tenant, letter.node, letter.topic, epoch, letter.n,
                str(letter.reason), letter.detail, raw,
            ),
        )  # fmt: skip
        db.execute("INSERT INTO dead_count VALUES (?, 1, 0) ON CONFLICT DO UPDATE SET total = total + 1", (str(letter.reason),))
        db.execute("UPDATE dead_size SET count = count + 1, bytes = bytes + ?", (len(raw),))
    _drop_oldest(db, caps)


def mark_replayed(db: sqlite3.Connection, ids: Sequence[int], at_us: int) -> int:
    """Note that dead letters were appended after all; how many of `ids` were not noted before."""
    return db.executemany("UPDATE dead SET replayed_us = ? WHERE id = ? AND replayed_us IS NULL", [(at_us, i) for i in ids]).rowcount


def counts_by_reason(db: sqlite3.Connection) -> dict[str, int]:
    """How many different rows were refused, ever, by reason."""
    return dict(db.execute("SELECT reason, total FROM dead_count ORDER BY reason").fetchall())


def dropped_count(db: sqlite3.Connection) -> int:
    """How many dead letters the caps have cost."""
    return int(db.execute("SELECT coalesce(sum(dropped), 0) FROM dead_count").fetchone()[0])


def select_dead(db: sqlite3.Connection, where: str, parameters: Sequence[object], limit: int) -> list[StoredDead]:
    """Dead letters that match, oldest first. `where` is SQL of ours, never of a user."""
    columns = "id, at_us, tenant, node, topic, epoch, n, reason, detail, raw, sent, replayed_us"
    rows = db.execute(f"SELECT {columns} FROM dead WHERE {where} ORDER BY id LIMIT ?", (*parameters, limit)).fetchall()
    return [_stored(row) for row in rows]


def _stored(row: tuple[int, int, str, str, str, str | None, int | None, str, str, bytes, int, int | None]) -> StoredDead:
    id_, at_us, tenant, node, topic, epoch, n, reason, detail, raw, sent, replayed_us = row
    letter = DeadLetter(at_us, tenant, node, topic, None if epoch is None else int(epoch, 16), n, reason, detail, raw)
    return StoredDead(id_, letter, sent, replayed_us)


def ident_of(letter: DeadLetter) -> str:
    """What a dead letter is known by, however often it comes: the row of its spool, else its bytes."""
    if letter.epoch is not None and letter.n is not None:
        return f"{letter.tenant}/{letter.node} {letter.epoch:016x} {letter.n}"
    return f"{letter.tenant}/{letter.node} {letter.topic} {sha256(letter.raw).hexdigest()}"


def forget_dead(db: sqlite3.Connection, ids: Sequence[int]) -> None:
    """Keep these dead letters no longer; the counts of what was ever refused stay."""
    for number in ids:
        row = db.execute("DELETE FROM dead WHERE id = ? RETURNING length(raw)", (number,)).fetchone()
        if row is not None:
            db.execute("UPDATE dead_size SET count = count - 1, bytes = bytes - ?", row)


def _drop_oldest(db: sqlite3.Connection, caps: DeadCaps) -> None:
    count, size = db.execute("SELECT count, bytes FROM dead_size").fetchone()
    while count > caps.count or size > caps.raw_bytes:
        id_, reason, length = db.execute("SELECT id, reason, length(raw) FROM dead ORDER BY id LIMIT 1").fetchone()
        db.execute("DELETE FROM dead WHERE id = ?", (id_,))
        db.execute("UPDATE dead_count SET dropped = dropped + 1 WHERE reason = ?", (reason,))
        count, size = count - 1, size - length
    db.execute("UPDATE dead_size SET count = ?, bytes = ?", (count, size))
