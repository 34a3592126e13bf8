"""Rows of a SQLite file as cells of a key-value store: what changed since the last look, and the rows again from the cells.

A stage on Kafka keeps its rare rows in a working copy, so that its rules ask SQL as they do on one machine; what must survive are the
cells. A cell's key is the table and the row's primary key, its value the whole row, both msgpack. A row that is gone is a cell
that is gone.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final, Protocol

import msgpack

from broker.errors import StoreError

ROWS: Final = b"t"  # cells of rows begin with this byte
_VERSION: Final = b"v"


class Cells(Protocol):
    """One partition of a key-value store. Written cells are read back at once; `items` gives those of the last commit."""

    def get(self, key: bytes) -> bytes | None:
        """The value of a cell, None when there is none."""
        ...

    def put(self, key: bytes, value: bytes) -> None:
        """Write a cell."""
        ...

    def drop(self, key: bytes) -> None:
        """Remove a cell, if it is there."""
        ...

    def items(self, prefix: bytes) -> Iterator[tuple[bytes, bytes]]:
        """Committed cells whose key begins so."""
        ...


def check_version(cells: Cells, stage: str, version: int) -> None:
    """Note which version of a stage keeps its state in these cells; StoreError when it is another one."""
    raw = cells.get(_VERSION)
    if raw is None:
        cells.put(_VERSION, str(version).encode())
    elif int(raw) != version:
        raise StoreError(
            f"stage {stage}: state of version {raw.decode()}, this program writes {version}",
            cure=f"run the program that wrote it, or make the state again: delete the group paceline-{stage} and its changelog",
        )


class MemoryCells:
    """Cells in memory: for tests, and what a benchmark compares with."""

    def __init__(self) -> None:
        self.held: dict[bytes, bytes] = {}

    def get(self, key: bytes) -> bytes | None:
        return self.held.get(key)

    def put(self, key: bytes, value: bytes) -> None:
        self.held[key] = value

    def drop(self, key: bytes) -> None:
        self.held.pop(key, None)

    def items(self, prefix: bytes) -> Iterator[tuple[bytes, bytes]]:
        return iter(sorted((key, value) for key, value in self.held.items() if key.startswith(prefix)))


@dataclass(frozen=True, slots=True)
class _Table:
    """How a table is read and written."""

    columns: tuple[str, ...]
    keys: tuple[str, ...]

    @classmethod
    def of(cls, db: sqlite3.Connection, name: str) -> _Table:
        told = db.execute(f"PRAGMA table_info({name})").fetchall()
        keyed = sorted((pk, column) for _, column, _, _, _, pk in told if pk)
        return cls(tuple(column for _, column, *_ in told), tuple(column for _, column in keyed))


class RowMirror:
    """Follows some tables of one connection. Rows are marked by triggers, so whoever writes them need not know."""

    def __init__(self, db: sqlite3.Connection, tables: Sequence[str]) -> None:
        self._db = db
        self._tables = {name: _Table.of(db, name) for name in tables}
        most = max(len(table.keys) for table in self._tables.values())
        keys = ", ".join(f"k{n}" for n in range(most))
        db.execute(f"CREATE TEMP TABLE marked (name, {keys})")
        for name, table in self._tables.items():
            for when, row in (("INSERT", "NEW"), ("UPDATE", "NEW"), ("DELETE", "OLD")):
                values = [f"{row}.{key}" for key in table.keys] + ["0"] * (most - len(table.keys))
                db.execute(
                    f"CREATE TEMP TRIGGER mark_{name}_{when} AFTER {when} ON main.{name} "
                    f"BEGIN INSERT INTO marked VALUES ('{name}', {', '.join(values)}); END"
                )

    def restore(self, cells: Cells) -> int:
        """Write the rows of all cells; returns how many. They are not changes."""
        by_table: dict[str, list[Sequence[Any]]] = {}
        for key, value in cells.items(ROWS):
            by_table.setdefault(msgpack.unpackb(key[1:])[0], []).append(msgpack.unpackb(value))
        for name, rows in by_table.items():
            if name in self._tables:
                self._db.executemany(f"INSERT OR REPLACE INTO {name} VALUES ({','.join('?' * len(rows[0]))})", rows)
        self._db.execute("DELETE FROM marked")
        return sum(map(len, by_table.values()))

    def save(self, cells: Cells) -> None:
        """Write what changed since the last call into the cells."""
        for key, value in self.changes():
            if value is None:
                cells.drop(key)
            else:
                cells.put(key, value)

    def changes(self) -> Iterator[tuple[bytes, bytes | None]]:
        """The cells that changed since the last call, None for those that are gone."""
        found = self._db.execute("SELECT DISTINCT * FROM marked").fetchall()
        if found:
            self._db.execute("DELETE FROM marked")
        for name, *marks in found:
            table = self._tables[name]
            values = marks[: len(table.keys)]
            where = " AND ".join(f"{key}=?" for key in table.keys)
            row = self._db.execute(f"SELECT {', '.join(table.columns)} FROM {name} WHERE {where}", values).fetchone()
            yield row_key(name, values), None if row is None else msgpack.packb(row)


def row_key(table: str, key: Iterable[Any]) -> bytes:
    """The key of a row's cell."""
    return ROWS + msgpack.packb([table, *key])


class RowWriter:
    """Takes cells of rows into a file with the same tables: what a reader of all partitions does."""

    def __init__(self, db: sqlite3.Connection) -> None:
        self._db = db
        self._statements: dict[str, tuple[str, str]] = {}

    def write(self, cells: Mapping[bytes, bytes | None]) -> None:
        """Write the rows of cells, and remove those that are gone."""
        here: dict[str, list[Sequence[Any]]] = {}
        gone: dict[str, list[Sequence[Any]]] = {}
        for key, value in cells.items():
            name, *values = msgpack.unpackb(key[1:])
            if value is None:
                gone.setdefault(name, []).append(values)
            else:
                here.setdefault(name, []).append(msgpack.unpackb(value))
        for name, rows in gone.items():
            self._db.executemany(self._of(name)[1], rows)
        for name, rows in here.items():
            self._db.executemany(self._of(name)[0], rows)

    def _of(self, name: str) -> tuple[str, str]:
        """What writes a row of a table in its place, and what removes one."""
        found = self._statements.get(name)
        if found is None:
            table = _Table.of(self._db, name)
            rest = ", ".join(f"{column}=excluded.{column}" for column in table.columns if column not in table.keys)
            insert = f"INSERT INTO {name} VALUES ({','.join('?' * len(table.columns))}) ON CONFLICT ({', '.join(table.keys)})"
            removed = f"DELETE FROM {name} WHERE {' AND '.join(f'{key}=?' for key in table.keys)}"
            found = self._statements[name] = (f"{insert} DO UPDATE SET {rest}", removed)
        return found
