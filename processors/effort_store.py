"""The efforts of one segment as they are stored: the seam, and those in the state file, without their curves, which nobody is ranked by.

These are read over a connection of the caller; the runner reads behind its own transaction, readers within one, so that a row that is
shown is of the same moment as its rank.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from dataclasses import replace
from typing import Final, Protocol

from processors.packed_efforts import Entry
from processors.packed_holding import PackedHolding
from processors.packed_kernel import KEPT_OFF, REMOVED
from processors.results import Effort
from processors.results_db import effort, efforts_of_segment

_STATE: Final = f"phase + CASE WHEN removed THEN {REMOVED} WHEN stands THEN 0 ELSE {KEPT_OFF} END"


class EffortStore(Protocol):
    """The efforts of one segment as they are stored."""

    def effort(self, effort_id: str) -> Effort | None:
        """An effort, removed or not."""
        ...

    def count(self) -> int:
        """How many there are, removed ones too."""
        ...

    def after(self, version: int) -> Iterator[Effort]:
        """Those of a later version, in the order of versions."""
        ...

    def entries_after(self, version: int) -> Iterator[Entry]:
        """What ranks of them."""
        ...

    def fill(self, holding: PackedHolding) -> bool:
        """Fill an empty holding from columns that are stored; False when there are none, and efforts are to be read."""
        ...


class SegmentEfforts:
    """An `EffortStore` over `state.db`."""

    def __init__(self, db: sqlite3.Connection, tenant: str, segment: str) -> None:
        self._db = db
        self._of = tenant, segment

    def effort(self, effort_id: str) -> Effort | None:
        """An effort, removed or not."""
        return effort(self._db, effort_id, curve=False)

    def count(self) -> int:
        """How many there are, removed ones too."""
        return self._db.execute("SELECT count(*) FROM effort WHERE tenant=? AND segment=?", self._of).fetchone()[0]

    def after(self, version: int) -> Iterator[Effort]:
        """Those of a later version, in the order of versions."""
        return map(without_curve, efforts_of_segment(self._db, *self._of, version))

    def entries_after(self, version: int) -> Iterator[Entry]:
        """What ranks of them."""
        query = f"SELECT id, subject, start_us, elapsed_ms, version, {_STATE} FROM effort WHERE tenant=? AND segment=? AND version>?"
        return map(Entry._make, self._db.execute(query, (*self._of, version)))

    def fill(self, holding: PackedHolding) -> bool:
        """Only rows are stored."""
        del holding
        return False


def without_curve(e: Effort) -> Effort:
    """An effort as boards hold it."""
    return replace(e, curve_ms=())
