"""Commands to equipment as the platform keeps them: sent until a box answers, and what the boxes answered.

`equipment.db` (SQLite): a command is in it before it is published, so a restart goes on sending what is still good. A command is published
again every `AGAIN_S` until its box answers (and more slowly until the final answer) or it expires: boxes carry an id out once. An answer
counts only from the box the command went to. Kept for `KEEP_US`. Blocking and thread-safe; one owner a file.
"""

from __future__ import annotations

import sqlite3
import threading
from collections.abc import Generator, Iterable
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from broker.commands import Answer, Command, CommandReason, CommandState, Notice, Reply, decode_command, encode_answer, encode_command
from broker.errors import StoreError
from broker.file_version import note_version
from broker.topics import topic

AGAIN_S: Final = 2.0
ACCEPTED_AGAIN_S: Final = 10.0
SILENT_US: Final = 30_000_000  # after the end of a command: then nobody answers any more
KEEP_US: Final = 7 * 86_400_000_000
SENT: Final = "sent"  # the state of a command no box has answered
_FINAL, _OPEN, _GIVEN_UP = 0, 1, 2  # given up: a late answer of the box still counts
FILE_VERSION: Final = 1
_SCHEMA: Final = """
CREATE TABLE IF NOT EXISTS commands (
  n INTEGER PRIMARY KEY, tenant TEXT NOT NULL, id TEXT NOT NULL, node TEXT NOT NULL, device TEXT NOT NULL, sent_us INTEGER NOT NULL,
  expires_us INTEGER NOT NULL, state TEXT NOT NULL, open INTEGER NOT NULL, body BLOB NOT NULL, answer BLOB, answered_us INTEGER,
  UNIQUE (tenant, id)
) STRICT;
CREATE INDEX IF NOT EXISTS of_device ON commands (tenant, device, n);
CREATE INDEX IF NOT EXISTS still_open ON commands (n) WHERE open=1;
CREATE TABLE IF NOT EXISTS notices (
  n INTEGER PRIMARY KEY, tenant TEXT NOT NULL, node TEXT NOT NULL, device TEXT NOT NULL, heard_us INTEGER NOT NULL, body BLOB NOT NULL
) STRICT;
CREATE INDEX IF NOT EXISTS about_device ON notices (tenant, device, n);
"""


@dataclass(frozen=True, slots=True)
class SentCommand:
    """A command, where it went and how far it is. `state` is a `CommandState` or `SENT`; times UTC microseconds."""

    tenant: str
    node: str
    command: Command
    sent_us: int
    state: str
    reply: Reply | None
    answered_us: int | None


@dataclass(frozen=True, slots=True)
class HeardNotice:
    """What a box told of a machine, and when that came here."""

    node: str
    notice: Notice
    heard_us: int


@dataclass(frozen=True, slots=True)
class Outgoing:
    """One publication, and when it is due again."""

    topic: str
    payload: bytes
    again_s: float


class EquipmentDesk:
    """The commands of all tenants of a platform. StoreError when the file fails."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._lock = threading.Lock()
        self.changed = threading.Event()  # something is to be published
        with self._mapped():
            self._db = sqlite3.connect(path, check_same_thread=False)
            try:
                self._db.execute("PRAGMA journal_mode=WAL")
                self._db.execute("PRAGMA synchronous=FULL")
                note_version(self._db, path, FILE_VERSION)
                self._db.executescript(_SCHEMA)
            except (sqlite3.Error, StoreError):
                self._db.close()
                raise

    def send(self, tenant: str, node: str, command: Command, now_us: int) -> SentCommand:
        """Take a command that is to go to `node`. One whose id this tenant used before is what it was, and nothing new is sent."""
        with self._transaction() as db:
            db.execute(
                "INSERT OR IGNORE INTO commands (tenant, id, node, device, sent_us, expires_us, state, open, body)"
                " VALUES (?,?,?,?,?,?,?,1,?)",
                (tenant, command.id, node, command.device, now_us, command.expires_us, SENT, encode_command(command)),
            )
        self.changed.set()
        found = self.find(tenant, command.id)
        assert found is not None
        return found

    def due(self, now_us: int) -> list[Outgoing]:
        """All that waits for its box and is still good; what is over without an answer ends as lost."""
        with self._transaction() as db:
            self.changed.clear()
            over = db.execute("SELECT n, id, device FROM commands WHERE open=1 AND expires_us + ? < ?", (SILENT_US, now_us)).fetchall()
            for n, ident, device in over:
                lost = Reply(
                    id=ident, device=device, state=CommandState.LOST, reason=CommandReason.NO_ANSWER, detail="the box did not answer"
                )
                db.execute(
                    "UPDATE commands SET open=?, state=?, answer=?, answered_us=? WHERE n=?",
                    (_GIVEN_UP, lost.state, encode_answer(lost), now_us, n),
                )
            rows = db.execute(
                "SELECT tenant, node, body, state FROM commands WHERE open=1 AND expires_us > ? ORDER BY n", (now_us,)
            ).fetchall()
            return [
                Outgoing(topic(tenant, node, "cmd"), body, AGAIN_S if state == SENT else ACCEPTED_AGAIN_S)
                for tenant, node, body, state in rows
            ]

    def answered(self, tenant: str, node: str, answer: Answer, now_us: int) -> bool:
        """Take what a box said on its `rsp`; whether that changed anything. A final answer stays, whatever comes later."""
        raw = encode_answer(answer)
        with self._transaction() as db:
            if isinstance(answer, Notice):
                db.execute(
                    "INSERT INTO notices (tenant, node, device, heard_us, body) VALUES (?,?,?,?,?)",
                    (tenant, node, answer.device, now_us, raw),
                )
                return True
            changed = db.execute(
                "UPDATE commands SET state=?, open=?, answer=?, answered_us=? WHERE tenant=? AND id=? AND node=? AND open<>?",
                (answer.state, _FINAL if answer.state.final else _OPEN, raw, now_us, tenant, answer.id, node, _FINAL),
            )
            return changed.rowcount > 0

    def find(self, tenant: str, ident: str) -> SentCommand | None:
        """A command of a tenant."""
        return next(iter(self._commands("tenant=? AND id=?", (tenant, ident), 1)), None)

    def of_device(self, tenant: str, device: str | None, limit: int) -> list[SentCommand]:
        """The latest commands of a tenant, to one device or to all, the newest first."""
        if device is None:
            return self._commands("tenant=?", (tenant,), limit)
        return self._commands("tenant=? AND device=?", (tenant, device), limit)

    def notices(self, tenant: str, device: str | None, limit: int) -> list[HeardNotice]:
        """What boxes told of machines, the newest first."""
        where, of = ("tenant=?", (tenant,)) if device is None else ("tenant=? AND device=?", (tenant, device))
        with self._lock, self._mapped():
            rows = self._db.execute(
                f"SELECT node, body, heard_us FROM notices WHERE {where} ORDER BY n DESC LIMIT ?", (*of, limit)
            ).fetchall()
        return [HeardNotice(node, Notice.model_validate_json(body), heard_us) for node, body, heard_us in rows]

    def forget(self, now_us: int) -> None:
        """Drop what is older than `KEEP_US`."""
        with self._transaction() as db:
            db.execute("DELETE FROM commands WHERE sent_us < ?", (now_us - KEEP_US,))
            db.execute("DELETE FROM notices WHERE heard_us < ?", (now_us - KEEP_US,))

    def close(self) -> None:
        """Close the file."""
        with self._lock:
            self._db.close()

    def _commands(self, where: str, values: Iterable[str], limit: int) -> list[SentCommand]:
        with self._lock, self._mapped():
            rows = self._db.execute(
                f"SELECT tenant, node, body, sent_us, state, answer, answered_us FROM commands WHERE {where} ORDER BY n DESC LIMIT ?",
                (*values, limit),
            ).fetchall()
        return [
            SentCommand(
                tenant, node, decode_command(body), sent_us, state, None if answer is None else Reply.model_validate_json(answer), at_us
            )
            for tenant, node, body, sent_us, state, answer, at_us in rows
        ]  # fmt: skip

    @contextmanager
    def _transaction(self) -> Generator[sqlite3.Connection]:
        with self._lock, self._mapped(), self._db:
            yield self._db

    @contextmanager
    def _mapped(self) -> Generator[None]:
        try:
            yield
        except sqlite3.Error as error:
            raise StoreError(f"{self._path}: {error}", cure="free disk space or make the folder writable") from error
