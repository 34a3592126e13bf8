"""Of which part of the tenants a state file is that a view keeps, and whether it is whole yet.

A file of another part is made again: what it lacks lies in no record that is still to come. Until such a file has caught up for the first
time it says so, and nobody serves it. One without a word is of everything, as views made them before there were parts.
"""

from __future__ import annotations

import logging
import sqlite3
from contextlib import closing
from pathlib import Path
from typing import Final

from broker.errors import ConfigError, StoreError
from broker.kafka_topics import REFERENCE
from broker.view_part import WHOLE, ViewPart, part_from
from processors.state_db import StateDb, connect

_log = logging.getLogger(__name__)

_PART: Final = "view_part"
_FILLING: Final = "view_filling"


def part_of(db: sqlite3.Connection) -> ViewPart:
    """The part a file is of."""
    row = db.execute("SELECT value FROM meta WHERE name=?", (_PART,)).fetchone()
    return WHOLE if row is None else part_from(str(row[0]))


def open_part(state: Path, part: ViewPart) -> StateDb:
    """The file for who keeps it, begun for this part; one that a view made of another part is removed first. ConfigError for one that no
    view made: it is the state of one machine."""
    store = StateDb(state, by_arrival=True)
    found, again = part_of(store.db), False
    if found != part and store.db.execute("SELECT 1 FROM position").fetchone():
        by_a_view = store.db.execute("SELECT 1 FROM position WHERE stage=?", (f"{REFERENCE}[0]",)).fetchone()
        store.close()
        if by_a_view is None:
            raise ConfigError(f"{state}: is not what a view keeps", cure="give each part of the view a data folder of its own")
        _log.warning("view: %s is of part %s of the tenants and is made again for part %s", state, found, part)
        again = True
        for suffix in ("", "-wal", "-shm"):
            state.with_name(state.name + suffix).unlink(missing_ok=True)
        store = StateDb(state, by_arrival=True)
    if again or found != part:
        store.db.executemany("INSERT OR REPLACE INTO meta VALUES (?,?)", [(_PART, str(part)), (_FILLING, 1)])
    return store


def is_filling(db: sqlite3.Connection) -> bool:
    """Whether the file was begun for its part and has not caught up yet."""
    return db.execute("SELECT 1 FROM meta WHERE name=?", (_FILLING,)).fetchone() is not None


def whole_now(db: sqlite3.Connection) -> None:
    """It has everything that was told by now."""
    db.execute("DELETE FROM meta WHERE name=?", (_FILLING,))


def check_part(state: Path, part: ViewPart, *, filled: bool = True) -> None:
    """StoreError with the cure when a state file is of another part than who reads it, or (`filled`) is not whole yet."""
    with closing(connect(state, write=False)) as db:
        found = part_of(db)
        filling = is_filling(db)
    if found != part:
        raise StoreError(
            f"{state}: is of part {found} of the tenants, view.part here is {part}",
            cure="give `paceline process view` and what reads its file the same view.part; the view makes the file again",
        )
    if filled and filling:
        raise StoreError(
            f"{state}: part {part} of the tenants is not read whole yet",
            cure="start this again when `paceline health` says that the view is ready",
        )
