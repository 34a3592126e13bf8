"""Statements on the tables of the spool that more than one step needs: rows in, pages, devices of rows, and what was taken."""

from __future__ import annotations

import sqlite3
from collections.abc import Sequence
from typing import Final

from gateway.spool_row import SpoolRow, decode_record
from gateway.spool_taken import Taken, number_of
from gateway.spool_work import group_of


def _insert_of(count: int) -> str:
    """One statement for `count` rows that follow each other, given the first number and the records: half the CPU of one a row."""
    return "INSERT INTO rows VALUES " + ",".join(f"(?1+{i},?{i + 2})" for i in range(count))


_INSERTS: Final = tuple((count, _insert_of(count)) for count in (64, 16, 4, 1))


def insert_rows(link: sqlite3.Connection, first: int, records: Sequence[bytes]) -> None:
    """Put rows in under numbers from `first` on."""
    at = 0
    for count, statement in _INSERTS:
        while len(records) - at >= count:
            link.execute(statement, (first + at, *records[at : at + count]))
            at += count


def pages_of(link: sqlite3.Connection) -> tuple[int, int]:
    """Pages of the database and how many of them are free."""
    return link.execute("PRAGMA page_count").fetchone()[0], link.execute("PRAGMA freelist_count").fetchone()[0]


def devices_of(link: sqlite3.Connection, first: int, last: int) -> dict[str, int]:
    """Rows by device in `first..last`; a damaged record counts for nobody."""
    counts: dict[str, int] = {}
    for (record,) in link.execute("SELECT record FROM rows WHERE n BETWEEN ? AND ?", (first, last)):
        row = decode_record(record) if isinstance(record, bytes) else None
        if row is not None:
            counts[row.device] = counts.get(row.device, 0) + 1
    return counts


def load_taken(link: sqlite3.Connection, taken: Taken) -> None:
    """What the table of the taken knows, and the rows it does not know of yet: all of them, when it does not say up to where."""
    known_to = taken.restore(body for (body,) in link.execute("SELECT body FROM taken ORDER BY slot") if isinstance(body, bytes))
    for n, record in link.execute("SELECT n, record FROM rows WHERE n >= ? ORDER BY n", (known_to,)):
        row = decode_record(record) if isinstance(record, bytes) else None
        number = number_of(row.frame) if row is not None else None
        if row is not None and number is not None:
            taken.add(n, group_of([SpoolRow(row.frame, row.device, number)]))
