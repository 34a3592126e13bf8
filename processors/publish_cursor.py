"""How far the outbox is published: a small file beside the state, replaced whole.

A cursor names the last published event by number and by id. State that was made again has other numbers for the same ids, so a number
alone is not believed: the id is looked up, and when it is nowhere all is published again, which consumers drop by the id.
"""

from __future__ import annotations

import json
import sqlite3
from dataclasses import dataclass
from pathlib import Path

from broker.errors import StoreError
from broker.replace_file import replace_file


@dataclass(frozen=True, slots=True)
class Cursor:
    """The last published event; `seq` 0: none yet."""

    seq: int = 0
    id: str = ""


def read_cursor(path: Path) -> Cursor:
    """The stored cursor, that of the beginning when there is no file. StoreError names a file that cannot be read."""
    try:
        found = json.loads(path.read_text("utf-8"))
        return Cursor(int(found["seq"]), str(found["id"]))
    except FileNotFoundError:
        return Cursor()
    except (OSError, ValueError, TypeError, KeyError) as error:
        raise StoreError(f"{path}: not a cursor: {error}", cure="remove it: all events are published again, with the same ids") from error


def write_cursor(path: Path, cursor: Cursor) -> None:
    """Store a cursor durably. StoreError when it cannot be written."""
    try:
        replace_file(path, json.dumps({"seq": cursor.seq, "id": cursor.id}).encode())
    except OSError as error:
        raise StoreError(f"{path}: {error.strerror}", cure="check path and disk") from error


def found_in(db: sqlite3.Connection, cursor: Cursor) -> int:
    """The number in this outbox behind which is what was not published: 0 when the event of the cursor is not here."""
    row = db.execute("SELECT seq FROM outbox WHERE id=?", (cursor.id,)).fetchone()
    return 0 if row is None else int(row[0])
