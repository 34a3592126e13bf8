"""The boards of a tenant at scale: packed boards behind a journal that is committed in groups; the journal is the truth.

A change counts once the commit after it has returned: a batch is one row of a SQLite file, durable, then taken into memory. After a kill
at any point the boards are those of the committed batches; what was not acknowledged is sent again, and a repeat is no news. Once the
journal has grown to several times what is held, it begins anew with that, in one transaction.
"""

from __future__ import annotations

import contextlib
import sqlite3
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Final

import numpy as np

from broker.errors import StoreError
from broker.faultpoints import hit
from processors.packed_board import CHANGE, Changes, PackedBoard, check_changes, packed
from processors.packed_kernel import MOVED
from processors.results import Effort

_SCHEMA: Final = """
CREATE TABLE IF NOT EXISTS journal (n INTEGER PRIMARY KEY, segment TEXT NOT NULL, body BLOB NOT NULL);
CREATE TABLE IF NOT EXISTS roster (number INTEGER PRIMARY KEY, subject TEXT NOT NULL UNIQUE);
"""
_LEAST: Final = 1_000_000  # changes in the journal of a segment before it may begin anew
_TIMES: Final = 4
_PIECE: Final = 1_000_000  # changes in a row when it does


class BoardJournal:
    """Opens (or makes) the file, and makes the boards again from it. `folder` beside it may hold the mapped efforts."""

    def __init__(self, path: Path, folder: Path | None = None) -> None:
        self._folder = folder
        self._db = sqlite3.connect(path, isolation_level=None, timeout=30)
        self._db.execute("PRAGMA journal_mode=WAL")
        self._db.execute("PRAGMA synchronous=FULL")
        self._db.executescript(_SCHEMA)
        self.subjects: list[str] = [subject for (subject,) in self._db.execute("SELECT subject FROM roster ORDER BY number")]
        self._numbers = {subject: number for number, subject in enumerate(self.subjects)}
        self._boards: dict[str, PackedBoard] = {}
        self._journalled: dict[str, int] = {}
        for segment, body in self._db.execute("SELECT segment, body FROM journal ORDER BY n"):
            self._take(segment, _changes(body, path))

    def close(self) -> None:
        """Release the file. Everything acknowledged is in it."""
        self._db.close()

    def board(self, segment: str) -> PackedBoard:
        """The board of a segment, empty when nothing came for it."""
        if segment not in self._boards:
            self._boards[segment] = PackedBoard(self._folder)
        return self._boards[segment]

    def segments(self) -> list[str]:
        """Of which there is a board."""
        return sorted(self._boards)

    def number(self, subject: str) -> int | None:
        """The number of an athlete on these boards."""
        return self._numbers.get(subject)

    def commit(self, efforts: Sequence[Effort]) -> int:
        """Take efforts (removed ones too) of one tenant durably, in one transaction; how many rows of boards moved."""
        known = len(self.subjects)
        groups: dict[str, list[Effort]] = {}
        for e in efforts:
            if e.subject not in self._numbers:
                self._numbers[e.subject] = len(self.subjects)
                self.subjects.append(e.subject)
            groups.setdefault(e.segment, []).append(e)
        numbers = self._numbers
        batches = [(segment, packed([numbers[e.subject] for e in group], group)) for segment, group in groups.items()]
        try:
            return self.commit_packed(batches, self.subjects[known:])
        except BaseException:
            for subject in self.subjects[known:]:
                del self._numbers[subject]
            del self.subjects[known:]
            raise

    def commit_packed(self, batches: Sequence[tuple[str, Changes]], new: Sequence[str] = ()) -> int:
        """Take packed changes by segment, durably; `new` are the subjects whose numbers follow the last known one."""
        for _, changes in batches:
            check_changes(changes)
        self._db.execute("BEGIN IMMEDIATE")
        try:
            first = len(self.subjects) - len(new)
            self._db.executemany("INSERT INTO roster VALUES (?,?)", enumerate(new, first))
            self._db.executemany("INSERT INTO journal (segment, body) VALUES (?,?)", ((s, c.tobytes()) for s, c in batches))
            hit("boards.before_commit")
            self._db.execute("COMMIT")
        except BaseException:
            if self._db.in_transaction:
                self._db.execute("ROLLBACK")
            raise
        hit("boards.after_commit")
        moved = sum(self._take(segment, changes) for segment, changes in batches)
        for segment, _ in batches:
            if self._journalled[segment] > max(_LEAST, _TIMES * self.board(segment).efforts):
                with contextlib.suppress(sqlite3.Error):  # what was to be durable is: a journal that stays long is tried again
                    self.shorten(segment)
        return moved

    def shorten(self, segment: str) -> None:
        """Begin the journal of a segment anew with what is held."""
        held = self.board(segment).held()
        pieces = [held[i : i + _PIECE] for i in range(0, len(held), _PIECE)]
        self._db.execute("BEGIN IMMEDIATE")
        try:
            self._db.execute("DELETE FROM journal WHERE segment=?", (segment,))
            self._db.executemany("INSERT INTO journal (segment, body) VALUES (?,?)", ((segment, piece.tobytes()) for piece in pieces))
            hit("boards.before_shorten")
            self._db.execute("COMMIT")
        except BaseException:
            if self._db.in_transaction:
                self._db.execute("ROLLBACK")
            raise
        self._journalled[segment] = len(held)

    def encoded(self, segment: str) -> bytes:
        """The board as bytes that do not depend on the order in which athletes were first seen."""
        held = self.board(segment).held()
        order = np.argsort(np.array(self.subjects, np.str_)) if self.subjects else np.zeros(0, np.int64)
        place = np.zeros(len(order), np.uint32)
        place[order] = np.arange(len(order), dtype=np.uint32)
        held["athlete"] = place[held["athlete"]]
        names = sorted({self.subjects[int(order[n])] for n in np.unique(held["athlete"])})
        held["athlete"] = np.searchsorted(np.unique(held["athlete"]), held["athlete"])
        ranked = [(self.subjects[p.athlete], p.key) for p in self.board(segment).slice(0, 1_000)]
        return held[np.lexsort((held["id_lo"], held["id_hi"], held["athlete"]))].tobytes() + repr((names, ranked)).encode()

    def _take(self, segment: str, changes: Changes) -> int:
        outcome = self.board(segment).apply(changes)
        self._journalled[segment] = self._journalled.get(segment, 0) + len(changes)
        return int((outcome == MOVED).sum())


def _changes(body: bytes, path: Path) -> Changes:
    if len(body) % CHANGE.itemsize:
        raise StoreError(f"{path}: a damaged row of the journal", cure="make the file again from the efforts in state.db")
    return np.frombuffer(body, CHANGE)


def efforts_in_groups(efforts: Iterable[Effort], size: int) -> Iterable[list[Effort]]:
    """Cut efforts into groups for one commit each."""
    group: list[Effort] = []
    for e in efforts:
        group.append(e)
        if len(group) == size:
            yield group
            group = []
    if group:
        yield group
