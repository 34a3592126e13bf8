"""What equipment control must not forget: each command's answer, so that it is carried out once, and each machine a stop is owed to.

`equipment.db` (SQLite, `synchronous=FULL`). A command is here before the first message of it goes to a machine; a machine that moves by
command is here before the message that moves it. Blocking: call it in a thread, one call at a time. A damaged file is put aside as
`equipment.db.damaged`: what it owed is not known any more, which is logged.
"""

from __future__ import annotations

import contextlib
import logging
import sqlite3
from collections.abc import Generator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Final, Self

from broker.errors import StoreError
from broker.file_version import note_version

log = logging.getLogger(__name__)

KEEP_US: Final = 86_400_000_000  # of an answer; a command is good for ten minutes at most
MAX_KEPT: Final = 100_000
MAX_RECENT: Final = 64
FILE_VERSION: Final = 1
_SCHEMA: Final = """
CREATE TABLE IF NOT EXISTS commands (
  n INTEGER PRIMARY KEY, id TEXT NOT NULL UNIQUE, device TEXT NOT NULL, taken_us INTEGER NOT NULL, final INTEGER NOT NULL,
  answer BLOB NOT NULL
) STRICT;
CREATE TABLE IF NOT EXISTS moving (device TEXT PRIMARY KEY, athlete TEXT NOT NULL, alive_us INTEGER NOT NULL) STRICT, WITHOUT ROWID;
"""


@dataclass(frozen=True, slots=True)
class Moving:
    """A machine that was moving by command for an athlete, and when that was last known (UTC microseconds of the box)."""

    device: str
    athlete: str
    alive_us: int


class CommandBook:
    """StoreError when the file cannot be opened, read or written."""

    def __init__(self, path: Path) -> None:
        self._path = path
        try:
            self._db = _open(path)
        except sqlite3.DatabaseError as error:
            if isinstance(error, sqlite3.OperationalError):
                raise StoreError(f"{path}: {error}", cure="make data_dir writable") from error
            log.error("%s is damaged and put aside: which commands were carried out, and which stops were owed, is not known", path)  # noqa: TRY400
            for end in ("", "-wal", "-shm"):
                old = path.with_name(path.name + end)
                if old.exists():
                    old.replace(path.with_name(f"{path.name}.damaged{end}"))
            with self._mapped():
                self._db = _open(path)

    def begin(self, ident: str, device: str, answer: bytes, now_us: int) -> bytes | None:
        """Take a command for the first time, with the `answer` that holds until `finish`: None. Of one taken before: its answer."""
        with self._mapped(), self._db:
            row = self._db.execute("SELECT answer FROM commands WHERE id=?", (ident,)).fetchone()
            if row is not None:
                return row[0]
            self._db.execute(
                "INSERT INTO commands (id, device, taken_us, final, answer) VALUES (?,?,?,0,?)", (ident, device, now_us, answer)
            )
            self._db.execute("DELETE FROM commands WHERE n <= (SELECT max(n) FROM commands) - ?", (MAX_KEPT,))
            return None

    def finish(self, ident: str, answer: bytes) -> None:
        """The final answer to a command."""
        with self._mapped(), self._db:
            self._db.execute("UPDATE commands SET final=1, answer=? WHERE id=?", (answer, ident))

    def unfinished(self) -> list[tuple[str, str]]:
        """(id, device) of commands without a final answer."""
        with self._mapped():
            return list(self._db.execute("SELECT id, device FROM commands WHERE final=0 ORDER BY n"))

    def recent(self, since_us: int) -> list[bytes]:
        """The final answers to commands taken since then, at most `MAX_RECENT`, the oldest first."""
        with self._mapped():
            rows = self._db.execute(
                "SELECT answer FROM commands WHERE final=1 AND taken_us >= ? ORDER BY n DESC LIMIT ?", (since_us, MAX_RECENT)
            ).fetchall()
        return [answer for (answer,) in reversed(rows)]

    def moves(self, device: str, athlete: str, now_us: int) -> None:
        """A stop is owed to `device` from now on."""
        with self._mapped(), self._db:
            self._db.execute("INSERT OR REPLACE INTO moving VALUES (?,?,?)", (device, athlete, now_us))

    def rests(self, device: str) -> None:
        """No stop is owed to `device` any more."""
        with self._mapped(), self._db:
            self._db.execute("DELETE FROM moving WHERE device=?", (device,))

    def alive(self, now_us: int) -> None:
        """All machines that move still do, at `now_us`; and answers too old for any repeat are forgotten."""
        with self._mapped(), self._db:
            self._db.execute("UPDATE moving SET alive_us=?", (now_us,))
            self._db.execute("DELETE FROM commands WHERE final=1 AND taken_us < ?", (now_us - KEEP_US,))

    def moving(self) -> list[Moving]:
        """Every machine a stop is owed to."""
        with self._mapped():
            return [Moving(*row) for row in self._db.execute("SELECT device, athlete, alive_us FROM moving ORDER BY device")]

    def close(self) -> None:
        """Close the file."""
        self._db.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self.close()

    @contextmanager
    def _mapped(self) -> Generator[None]:
        try:
            yield
        except sqlite3.Error as error:
            raise StoreError(f"{self._path}: {error}", cure="free disk space or replace the disk") from error


def _open(path: Path) -> sqlite3.Connection:
    db = sqlite3.connect(path, check_same_thread=False)
    try:
        db.execute("PRAGMA journal_mode=WAL")
        db.execute("PRAGMA synchronous=FULL")
        note_version(db, path, FILE_VERSION)
        db.executescript(_SCHEMA)
        if db.execute("PRAGMA quick_check").fetchone()[0] != "ok":
            raise sqlite3.DatabaseError("quick_check failed")
    except BaseException:
        with contextlib.suppress(sqlite3.Error):
            db.close()
        raise
    return db
