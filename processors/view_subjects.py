"""What pages of the live stage say of subjects, gathered until it is written: the last word of each, a table at a time.

A subject that comes several times is written once, so a view that is late catches up. What is written is what writing them one by one comes
to: a change of the activity under way amid what is gathered is written before the next word is taken.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Sequence
from typing import Any, Final

import msgpack

from processors import live_kernel as k
from processors.copies import is_copy
from processors.live import ACTIVITY_FACTS
from processors.live_pages import Columns
from processors.state_db import ACTIVITY_COLUMNS, MOST_MISSING, NUMBERING_COLUMNS, upsert

MOST_KNOWN: Final = 1_000_000  # subjects whose rows need no second look
_STATE: Final = upsert("state", 2, "stage, key, row")
_ATTEMPTS: Final = upsert("attempts", 1, "subject, body")
_NUMBERING: Final = upsert("numbering", 3, NUMBERING_COLUMNS)
_ACTIVITY: Final = upsert("activity", 2, ACTIVITY_COLUMNS)
_START: Final = ACTIVITY_FACTS.index(k.START)
_Row = tuple[Any, ...]


class Subjects:
    """Over the tables of one file. The caller begins and commits."""

    def __init__(self, db: sqlite3.Connection) -> None:
        self._db = db
        self._rows: dict[str, _Row] = {}
        self._attempts: dict[str, bytes] = {}
        self._numberings: dict[tuple[str, str, int], Sequence[Any]] = {}
        self._under_way: dict[str, tuple[int, _Row | None]] = {}  # when the activity under way began, and its row if the subject's has it
        self._open: dict[str, int] = {}  # of those that are written: no other activity is open
        self._without: set[str] = set()  # of those that are written: no attempts are there

    def __contains__(self, subject: str) -> bool:
        return subject in self._under_way

    def add(self, page: Columns) -> None:
        """Take the word of a page, or of a subject's own cell."""
        rows, size = page.rows.tobytes(), k.COLUMNS * 8
        activities: list[list[int]] = page.rows[:, ACTIVITY_FACTS].tolist()
        for at, (subject, (has_row, beside, matching, numberings, under_way, _)) in enumerate(zip(page.keys, page.facts, strict=True)):
            if is_copy(subject):  # its home tells of it
                continue
            start_us, version = under_way or (k.NEVER, 0)
            row = None
            if has_row and under_way is not None and activities[at][_START] == start_us:
                row = (subject, *activities[at], 0, version)
            before = self._under_way.get(subject)
            if before is not None and (before[0] != start_us or (row is None and before[1] is not None)):
                self.write()
            self._under_way[subject] = start_us, row
            if has_row:
                state = rows[at * size : (at + 1) * size]
                self._rows[subject] = "live", subject, state + beside if beside else state
            self._attempts[subject] = matching
            for numbering in numberings:
                self._numberings[subject, numbering[0], numbering[1]] = numbering

    def add_numbering(self, subject: str, numbering: Sequence[Any]) -> None:
        """Take a numbering that has a cell of its own."""
        if not is_copy(subject):
            self._numberings[subject, numbering[0], numbering[1]] = numbering

    def write(self) -> None:
        """Put what was gathered into the tables."""
        many = self._db.executemany
        if self._rows:
            many(_STATE, self._rows.values())
        if self._attempts:
            gone = [(subject,) for subject, body in self._attempts.items() if not body and subject not in self._without]
            many("DELETE FROM attempts WHERE subject=?", gone)
            many(_ATTEMPTS, [one for one in self._attempts.items() if one[1]])
            self._without -= {subject for subject, body in self._attempts.items() if body}
            self._without.update(subject for (subject,) in gone)
        if self._numberings:
            many(_NUMBERING, [_numbering_row(of[0], numbering) for of, numbering in self._numberings.items()])
        if self._under_way:
            other = [(subject, start_us) for subject, (start_us, _) in self._under_way.items() if self._open.get(subject) != start_us]
            many("DELETE FROM activity WHERE subject=? AND closed=0 AND start_us<>?", other)
            self._open.update(other)
            many(_ACTIVITY, [row for _, row in self._under_way.values() if row is not None])
        for held in (self._rows, self._attempts, self._numberings, self._under_way):
            held.clear()
        if len(self._open) > MOST_KNOWN:
            self._open.clear()
            self._without.clear()

    def forget(self, subject: str) -> None:
        """The activities of a subject are written by somebody else: look again."""
        self._open.pop(subject, None)


def _numbering_row(subject: str, values: Sequence[Any]) -> _Row:
    origin, boot, node, device, bounds, date_seq, *rest = values
    firsts, lasts = bounds
    if len(firsts) == 1:
        frames, missing = lasts[0] - firsts[0] + 1, firsts[0]
    else:
        frames = sum(lasts) - sum(firsts) + len(firsts)
        missing = lasts[-1] + 1 - frames if firsts else 0
    dated = None if date_seq is None else str(date_seq)
    return subject, origin, f"{boot:016x}", node, device, frames, min(missing, MOST_MISSING), msgpack.packb(bounds), dated, *rest
