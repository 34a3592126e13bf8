"""Which version of a program a stored SQLite file is of.

A file that a newer program wrote is refused and left as it is: what it holds could be misread, and what is written into it could be lost.
Files of before versions were noted have none (0) and are of the first one.
"""

from __future__ import annotations

import sqlite3
from pathlib import Path

from broker.errors import StoreError


def refuse_newer(db: sqlite3.Connection, path: Path, version: int) -> int:
    """Which version a file is of, at most the one this program writes; StoreError with the cure for one that a newer program wrote."""
    found: int = db.execute("PRAGMA user_version").fetchone()[0]
    if found > version:
        raise StoreError(
            f"{path}: of version {found}, this program writes {version}",
            cure="start the newer program that wrote it, or restore the backup of before the upgrade; nothing of it was changed",
        )
    return found


def note_version(db: sqlite3.Connection, path: Path, version: int) -> None:
    """See that a file is of no newer version, and say in it that it is of this one. StoreError as above."""
    if refuse_newer(db, path, version) != version:
        db.execute(f"PRAGMA user_version={version}")
