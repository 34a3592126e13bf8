"""The kinds of segment boards for suites that hold them to one contract: objects, columns, and one that changes over under way.

A board in columns reads its efforts from a real state database in memory, which has each one as it was applied last.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Iterable, Mapping
from typing import Literal

import pytest

from broker.reference import AthleteRef
from processors.effort_holding import order_of
from processors.effort_store import SegmentEfforts
from processors.results import Effort
from processors.results_db import SCHEMA, effort, put_effort
from processors.segment_board import BoardChange, SegmentBoard

Kind = Literal["objects", "columns", "growing"]
FROM = {"objects": 1 << 60, "columns": 0, "growing": 4}
of_both_kinds = pytest.mark.parametrize("kind", ["objects", "columns"])
of_each_kind = pytest.mark.parametrize("kind", list(FROM))


class WholeEfforts(SegmentEfforts):
    """Efforts with their curves, so that rows of every kind are compared to the last value."""

    def effort(self, effort_id: str) -> Effort | None:
        return effort(self._db, effort_id)


class StoredBoard(SegmentBoard):
    """A board whose efforts are stored behind it as they are applied, as the runner does."""

    def __init__(self, kind: Kind, segment: str, athletes: Mapping[str, AthleteRef] | None = None, *, awarding: bool = False) -> None:
        self.db = sqlite3.connect(":memory:")
        self.db.executescript(SCHEMA)
        store = WholeEfforts(self.db, "gym", segment)
        super().__init__(segment, athletes, awarding=awarding, store=store, packed_from=FROM[kind])

    def apply(self, effort: Effort) -> BoardChange | None:
        change = super().apply(effort)
        self.store([effort])
        return change

    def load(self, efforts: Iterable[Effort]) -> int:
        efforts = list(efforts)
        self.store(efforts)
        return super().load(efforts)

    def store(self, efforts: Iterable[Effort]) -> None:
        """Put what is newer than what is there."""
        for e in efforts:
            held = effort(self.db, e.id)
            if held is None or order_of(held) < order_of(e):
                put_effort(self.db, e)


def board_of(
    kind: Kind, segment: str = "hill", athletes: Mapping[str, AthleteRef] | None = None, *, awarding: bool = False
) -> SegmentBoard:
    """A board of a kind. Objects need no store."""
    return (
        SegmentBoard(segment, athletes, awarding=awarding) if kind == "objects" else StoredBoard(kind, segment, athletes, awarding=awarding)
    )
