"""An index of the dead letters of a cluster, made anew from their topic by whoever asks: a temporary file, so that a topic of any length
takes no memory.

A letter is known by its key (`ident_of`): one that was sent again counts as sent again, and stays at its first place. A letter with the
reason `replayed` says that the one of its key was appended after all.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Final, NamedTuple, Self

from processors.accept import DeadLetter

REPLAYED: Final = "replayed"
_SCHEMA: Final = """
CREATE TABLE letter (
  ident TEXT PRIMARY KEY, partition INTEGER, place INTEGER, at_us INTEGER, tenant TEXT, node TEXT, n INTEGER, reason TEXT, detail TEXT,
  sent INTEGER NOT NULL DEFAULT 0, replayed_us INTEGER
) WITHOUT ROWID;
CREATE TABLE tally (tenant TEXT, reason TEXT, letters INTEGER NOT NULL, PRIMARY KEY (tenant, reason)) WITHOUT ROWID;
CREATE TRIGGER came AFTER INSERT ON letter WHEN NEW.place IS NOT NULL BEGIN
  INSERT INTO tally VALUES (NEW.tenant, NEW.reason, 1) ON CONFLICT DO UPDATE SET letters = letters + 1;
END;
CREATE TRIGGER came_after_its_replay AFTER UPDATE ON letter WHEN OLD.place IS NULL AND NEW.place IS NOT NULL BEGIN
  INSERT INTO tally VALUES (NEW.tenant, NEW.reason, 1) ON CONFLICT DO UPDATE SET letters = letters + 1;
END;
"""
_FIRST: Final = """
INSERT INTO letter VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, 1, NULL) ON CONFLICT DO UPDATE SET
  partition = coalesce(partition, excluded.partition), place = coalesce(place, excluded.place), at_us = coalesce(at_us, excluded.at_us),
  tenant = coalesce(tenant, excluded.tenant), node = coalesce(node, excluded.node), n = coalesce(n, excluded.n),
  reason = coalesce(reason, excluded.reason), detail = coalesce(detail, excluded.detail), sent = sent + 1
"""
_DONE: Final = """
INSERT INTO letter (ident, replayed_us) VALUES (?, ?) ON CONFLICT DO UPDATE SET replayed_us = coalesce(replayed_us, excluded.replayed_us)
"""


class Place(NamedTuple):
    """Where a letter lies on its topic; `PARTITION-OFFSET` is its name for people."""

    partition: int
    offset: int

    def __str__(self) -> str:
        return f"{self.partition}-{self.offset}"


@dataclass(frozen=True, slots=True)
class Wanted:
    """Which letters: each filter that is not None must hold; times are `from_us <= at_us < until_us`. Replayed ones only if asked for."""

    reason: str | None = None
    tenant: str | None = None
    node: str | None = None
    from_us: int | None = None
    until_us: int | None = None
    replayed: bool = False

    def where(self) -> tuple[str, list[object]]:
        """A condition in SQL over the columns of a letter, and its parameters."""
        tests = (
            ("reason = ?", self.reason), ("tenant = ?", self.tenant), ("node = ?", self.node),
            ("at_us >= ?", self.from_us), ("at_us < ?", self.until_us),
        )  # fmt: skip
        said = [(test, value) for test, value in tests if value is not None]
        words = [test for test, _ in said] + ([] if self.replayed else ["replayed_us IS NULL"])
        return " AND ".join(words) or "1", [value for _, value in said]


@dataclass(frozen=True, slots=True)
class IndexedDead:
    """A letter without its bytes. `sent` is how often it arrived; `replayed_us` when it was appended after all, or None."""

    place: Place
    at_us: int
    tenant: str
    node: str
    n: int | None
    reason: str
    detail: str
    sent: int
    replayed_us: int | None


class DeadIndex:
    """See the module. Gone when it is closed."""

    def __init__(self) -> None:
        self._db = sqlite3.connect("", isolation_level=None, check_same_thread=False)  # a temporary file, in memory while it is small
        self._db.executescript("PRAGMA cache_size=-8192;" + _SCHEMA)

    def take(self, letters: Iterable[tuple[Place, str, DeadLetter]]) -> None:
        """Letters with their place and key, each partition in order."""
        self._db.execute("BEGIN")
        for place, ident, letter in letters:
            if letter.reason == REPLAYED:
                self._db.execute(_DONE, (ident, letter.at_us))
            else:
                row = (letter.at_us, letter.tenant, letter.node, letter.n, str(letter.reason), letter.detail)
                self._db.execute(_FIRST, (ident, *place, *row))
        self._db.execute("COMMIT")

    def select(self, wanted: Wanted, limit: int) -> list[IndexedDead]:
        """Letters, oldest first."""
        where, parameters = wanted.where()
        columns = "partition, place, at_us, tenant, node, n, reason, detail, sent, replayed_us"
        rows = self._db.execute(
            f"SELECT {columns} FROM letter WHERE place IS NOT NULL AND {where} ORDER BY at_us, partition, place LIMIT ?",
            (*parameters, limit),
        )
        return [IndexedDead(Place(*row[:2]), *row[2:]) for row in rows]

    def places(self, wanted: Wanted) -> Iterator[Place]:
        """Where all letters lie, each partition in order; none is held."""
        where, parameters = wanted.where()
        for row in self._db.execute(
            f"SELECT partition, place FROM letter WHERE place IS NOT NULL AND {where} ORDER BY partition, place", parameters
        ):
            yield Place(*row)

    def replayed(self, ident: str) -> bool:
        """Whether the letter of a key was replayed."""
        row = self._db.execute("SELECT replayed_us FROM letter WHERE ident = ?", (ident,)).fetchone()
        return row is not None and row[0] is not None

    def counts(self, wanted: Wanted) -> dict[str, int]:
        """How many different letters, by reason."""
        where, parameters = wanted.where()
        rows = self._db.execute(
            f"SELECT reason, count(*) FROM letter WHERE place IS NOT NULL AND {where} GROUP BY reason ORDER BY reason", parameters
        )
        return dict(rows.fetchall())

    def tallies(self) -> dict[tuple[str, str], int]:
        """How many different letters by (tenant, reason), those that were replayed too: none is looked at for it."""
        return {(tenant, reason): letters for tenant, reason, letters in self._db.execute("SELECT * FROM tally")}

    def close(self) -> None:
        self._db.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_exc: object) -> None:
        self.close()
