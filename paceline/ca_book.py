"""The book of the authority: roots, nodes, enrolment codes and every certificate that was made, with its state, in SQLite.

Committed before anything is handed out (`synchronous=FULL`), so that a serial that exists anywhere can be revoked. Codes are kept as their
SHA-256. Several processes may have it open; a change is one immediate transaction.
"""

from __future__ import annotations

import os
import sqlite3
import threading
from collections.abc import Generator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Final, Literal, Self

from broker.errors import StoreError

Role = Literal["node", "server", "platform", "probe"]
RootState = Literal["signing", "trusted", "retired"]
VERSION: Final = 1
_SCHEMA: Final = """
CREATE TABLE root (
  number INTEGER PRIMARY KEY, fingerprint TEXT NOT NULL UNIQUE, der BLOB NOT NULL, vouched BLOB,
  state TEXT NOT NULL CHECK (state IN ('signing', 'trusted', 'retired')), made_s INTEGER NOT NULL) STRICT;
CREATE TABLE node (name TEXT PRIMARY KEY, added_s INTEGER NOT NULL, revoked_s INTEGER) STRICT, WITHOUT ROWID;
CREATE TABLE code (
  hash BLOB PRIMARY KEY, name TEXT NOT NULL REFERENCES node, expires_s INTEGER NOT NULL, serial TEXT) STRICT, WITHOUT ROWID;
CREATE INDEX code_of_node ON code (name);
CREATE TABLE certificate (
  serial TEXT PRIMARY KEY, name TEXT NOT NULL, role TEXT NOT NULL, root INTEGER NOT NULL REFERENCES root, key_hash BLOB NOT NULL,
  not_before_s INTEGER NOT NULL, not_after_s INTEGER NOT NULL, revoked_s INTEGER, der BLOB NOT NULL) STRICT, WITHOUT ROWID;
CREATE INDEX certificate_of_node ON certificate (name, not_after_s);
CREATE INDEX revoked_certificate ON certificate (root, serial) WHERE revoked_s IS NOT NULL;
CREATE TABLE counter (name TEXT PRIMARY KEY, value INTEGER NOT NULL) STRICT, WITHOUT ROWID;
"""


@dataclass(frozen=True, slots=True)
class Root:
    """A root of the authority. `vouched` is the same root signed by the one before, for nodes that know only that."""

    number: int
    fingerprint: str
    der: bytes
    vouched: bytes | None
    state: RootState
    made_s: int


@dataclass(frozen=True, slots=True)
class Kept:
    """A certificate as the book has it; times in UTC seconds."""

    serial: str
    name: str
    role: Role
    root: int
    key_hash: bytes
    not_before_s: int
    not_after_s: int
    revoked_s: int | None
    der: bytes


@dataclass(frozen=True, slots=True)
class Code:
    """An enrolment code: for whom, until when, and the certificate it came to."""

    name: str
    expires_s: int
    serial: str | None


@dataclass(frozen=True, slots=True)
class Node:
    """A node that was added."""

    name: str
    added_s: int
    revoked_s: int | None


class Book:
    """`with Book.open(path) as book`. StoreError when the file cannot be used."""

    def __init__(self, db: sqlite3.Connection, path: Path) -> None:
        self._db = db
        self._path = path
        self._lock = threading.RLock()

    @classmethod
    def open(cls, path: Path) -> Self:
        """Open or make the file, mode 0600."""
        try:
            os.close(os.open(path, os.O_RDWR | os.O_CREAT, 0o600))
            db = sqlite3.connect(path, timeout=30, isolation_level=None, check_same_thread=False)
            db.execute("PRAGMA journal_mode=WAL")
            db.execute("PRAGMA synchronous=FULL")
            db.execute("PRAGMA foreign_keys=ON")
            book = cls(db, path)
            with book.change():
                version = db.execute("PRAGMA user_version").fetchone()[0]
                if version == 0:
                    for statement in _SCHEMA.split(";\n"):
                        db.execute(statement)
                    db.execute(f"PRAGMA user_version={VERSION}")
        except (OSError, sqlite3.Error) as error:
            raise StoreError(
                f"{path}: {error}", cure="restore the authority's folder from a backup, or give its owner the rights"
            ) from error
        if version not in (0, VERSION):
            db.close()
            raise StoreError(f"{path}: version {version} of the book is not known", cure="use the Paceline that wrote it, or a newer one")
        return book

    def close(self) -> None:
        self._db.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_exc: object) -> None:
        self.close()

    @contextmanager
    def change(self) -> Generator[None]:
        """One transaction: all of it, or none."""
        with self._lock:
            try:
                self._db.execute("BEGIN IMMEDIATE")
                try:
                    yield
                except BaseException:
                    self._db.execute("ROLLBACK")
                    raise
                self._db.execute("COMMIT")
            except sqlite3.Error as error:
                raise StoreError(f"{self._path}: {error}", cure="give the disk room, and its owner the rights") from error

    def _rows(self, query: str, *values: object) -> list[tuple[object, ...]]:
        with self._lock:
            try:
                return self._db.execute(query, values).fetchall()
            except sqlite3.Error as error:
                raise StoreError(f"{self._path}: {error}", cure="restore the authority's folder from a backup") from error

    # -- roots

    def roots(self) -> list[Root]:
        """All of them, the oldest first."""
        return [Root(*row) for row in self._rows("SELECT number, fingerprint, der, vouched, state, made_s FROM root ORDER BY number")]  # type: ignore[arg-type]

    def add_root(self, root: Root) -> None:
        """The one that signs from now on; whoever signed before is trusted still. Within a change."""
        self._db.execute("UPDATE root SET state = 'trusted' WHERE state = 'signing'")
        self._db.execute(
            "INSERT INTO root VALUES (?, ?, ?, ?, ?, ?)", (root.number, root.fingerprint, root.der, root.vouched, root.state, root.made_s)
        )

    def retire_roots(self) -> None:
        """Trust only the one that signs. Within a change."""
        self._db.execute("UPDATE root SET state = 'retired' WHERE state = 'trusted'")

    # -- nodes and codes

    def add_node(self, name: str, now_s: int) -> None:
        """Known, and not revoked (any more). Within a change."""
        self._db.execute("INSERT INTO node VALUES (?, ?, NULL) ON CONFLICT (name) DO UPDATE SET revoked_s = NULL", (name, now_s))

    def node(self, name: str) -> Node | None:
        rows = self._rows("SELECT name, added_s, revoked_s FROM node WHERE name = ?", name)
        return Node(*rows[0]) if rows else None  # type: ignore[arg-type]

    def nodes(self) -> list[Node]:
        """By name."""
        return [Node(*row) for row in self._rows("SELECT name, added_s, revoked_s FROM node ORDER BY name")]  # type: ignore[arg-type]

    def add_code(self, digest: bytes, name: str, expires_s: int) -> None:
        """The only code of this node that is open: a newer one replaces it. Within a change."""
        self._db.execute("DELETE FROM code WHERE name = ? AND serial IS NULL", (name,))
        self._db.execute("INSERT INTO code VALUES (?, ?, ?, NULL)", (digest, name, expires_s))

    def code(self, digest: bytes) -> Code | None:
        rows = self._rows("SELECT name, expires_s, serial FROM code WHERE hash = ?", digest)
        return Code(*rows[0]) if rows else None  # type: ignore[arg-type]

    def open_codes(self, now_s: int) -> dict[str, int]:
        """Names with a code that still works, and until when (UTC seconds)."""
        return dict(self._rows("SELECT name, expires_s FROM code WHERE serial IS NULL AND expires_s > ?", now_s))  # type: ignore[arg-type]

    def use_code(self, digest: bytes, serial: str) -> None:
        """It came to this certificate. Within a change."""
        self._db.execute("UPDATE code SET serial = ? WHERE hash = ?", (serial, digest))

    # -- certificates

    def add_certificate(self, kept: Kept) -> None:
        """Within a change."""
        self._db.execute(
            "INSERT INTO certificate VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?)",
            (
                kept.serial, kept.name, kept.role, kept.root, kept.key_hash, kept.not_before_s, kept.not_after_s, kept.revoked_s, kept.der
            ),
        )  # fmt: skip

    def certificate(self, serial: str) -> Kept | None:
        rows = self._rows(f"SELECT {_KEPT} FROM certificate WHERE serial = ?", serial)
        return Kept(*rows[0]) if rows else None  # type: ignore[arg-type]

    def certificates(self, name: str, role: Role) -> list[Kept]:
        """Those of one name, the one that holds longest last."""
        query = f"SELECT {_KEPT} FROM certificate WHERE name = ? AND role = ? ORDER BY not_after_s, not_before_s"
        return [Kept(*row) for row in self._rows(query, name, role)]  # type: ignore[arg-type]

    def newest_of_nodes(self) -> dict[str, Kept]:
        """The certificate of each node that is of the newest root and holds longest, revoked or not."""
        query = f"SELECT {_KEPT} FROM certificate WHERE role = 'node' ORDER BY name, root, not_after_s"
        return {str(row[1]): Kept(*row) for row in self._rows(query)}  # type: ignore[arg-type]

    def revoke(self, serial: str, now_s: int) -> None:
        """Within a change."""
        self._db.execute("UPDATE certificate SET revoked_s = ? WHERE serial = ? AND revoked_s IS NULL", (now_s, serial))

    def revoke_node(self, name: str, now_s: int) -> None:
        """The node, its open code and all its certificates that have not expired. Within a change."""
        self._db.execute("UPDATE node SET revoked_s = ? WHERE name = ?", (now_s, name))
        self._db.execute("DELETE FROM code WHERE name = ? AND serial IS NULL", (name,))
        self.supersede(name, now_s)

    def supersede(self, name: str, now_s: int, but: str = "") -> None:
        """Revoke the certificates of a node but `but`. Within a change."""
        self._db.execute(
            "UPDATE certificate SET revoked_s = ? WHERE name = ? AND role IN ('node', 'platform') AND revoked_s IS NULL AND serial <> ?",
            (now_s, name, but),
        )

    def revoked(self, root: int, after_s: int) -> list[tuple[str, int]]:
        """(serial, when, UTC seconds) of the revoked of one root that would hold beyond `after_s`."""
        query = "SELECT serial, revoked_s FROM certificate WHERE root = ? AND revoked_s IS NOT NULL AND not_after_s > ? ORDER BY serial"
        return self._rows(query, root, after_s)  # type: ignore[return-value]

    def next_number(self, name: str) -> int:
        """1, 2, 3 ... of a counter. Within a change."""
        query = "INSERT INTO counter VALUES (?, 1) ON CONFLICT (name) DO UPDATE SET value = value + 1 RETURNING value"
        return int(self._db.execute(query, (name,)).fetchone()[0])


_KEPT: Final = "serial, name, role, root, key_hash, not_before_s, not_after_s, revoked_s, der"
