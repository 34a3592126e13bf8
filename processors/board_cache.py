"""Segment boards in memory, for readers: filled when first asked for, followed by versions from then on, forgotten for want of room.

Efforts are held without their curves; a curve is read when somebody is compared with it. A large board holds only what ranks (some 100
bytes an effort instead of a thousand) and reads the efforts it shows, in the same read transaction that brought it up to date: ranks and
rows are of one moment. One lock a tenant: a board that is being filled keeps nobody of another tenant waiting. Any thread may ask.
"""

from __future__ import annotations

import sqlite3
import threading
from collections import OrderedDict
from collections.abc import Generator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from broker.reference import AthleteRef
from processors.directory import Directory, Known
from processors.effort_store import SegmentEfforts
from processors.results import Effort
from processors.results_db import board_version, effort
from processors.segment_board import PACKED_FROM, SegmentBoard
from processors.stores import ReadStore

MAX_BYTES: Final = 400_000_000  # of the boards in memory, of a tenant
MAX_CURVES: Final = 2_000


@dataclass(slots=True)
class _Held:
    board: SegmentBoard
    stamp: int


@dataclass(slots=True)
class _Tenant:
    """What is held of one tenant, behind one lock."""

    store: ReadStore
    lock: threading.RLock = field(default_factory=threading.RLock)
    known: Known | None = None
    athletes: dict[str, AthleteRef] = field(default_factory=dict[str, AthleteRef])
    boards: OrderedDict[str, _Held] = field(default_factory=OrderedDict[str, _Held])
    curves: OrderedDict[tuple[str, int], tuple[int, ...]] = field(default_factory=OrderedDict[tuple[str, int], tuple[int, ...]])


class BoardCache:
    """The boards of one state file. `packed_from`: efforts from which a board is held in columns."""

    def __init__(self, state: Path, directory: Directory, *, packed_from: int = PACKED_FROM) -> None:
        self._state = state
        self._packed_from = packed_from
        self._directory = directory
        self._lock = threading.Lock()
        self._tenants: dict[str, _Tenant] = {}

    def close(self) -> None:
        with self._lock:
            for tenant in self._tenants.values():
                with tenant.lock:
                    tenant.store.close()
            self._tenants.clear()

    @contextmanager
    def board(self, tenant: str, segment: str) -> Generator[SegmentBoard]:
        """The board of a segment as the store has it now; nobody else changes it, and the store stands still, until the block ends."""
        held = self._of(tenant)
        with held.lock, _one_moment(held.store.db):
            self._follow_athletes(held, tenant)
            yield self._followed(held, tenant, segment).board

    def curve(self, tenant: str, of: Effort) -> tuple[int, ...]:
        """The curve of an effort, empty when it is gone since."""
        held = self._of(tenant)
        with held.lock:
            name = (of.id, of.version)
            curve = held.curves.pop(name, None)
            if curve is None:
                found = effort(held.store.db, of.id)
                curve = () if found is None or found.removed else found.curve_ms
            held.curves[name] = curve
            if len(held.curves) > MAX_CURVES:
                held.curves.popitem(last=False)
            return curve

    def _of(self, tenant: str) -> _Tenant:
        with self._lock:
            held = self._tenants.get(tenant)
            if held is None:
                held = self._tenants[tenant] = _Tenant(ReadStore(self._state))
            return held

    def _follow_athletes(self, held: _Tenant, tenant: str) -> None:
        """Bring sex and age of everybody up to date, on the boards that are held too."""
        known = self._directory.of(tenant)
        if held.known is known:
            return
        held.known = known
        changed = [subject for subject, athlete in known.athletes.items() if held.athletes.get(subject) is not athlete]
        for subject in changed:
            held.athletes[subject] = known.athletes[subject]
        for one in held.boards.values():
            for subject in changed:
                one.board.athlete_changed(subject)

    def _followed(self, held: _Tenant, tenant: str, segment: str) -> _Held:
        stamp = held.store.stamp()
        one = held.boards.pop(segment, None)  # back once it is followed: one that broke off on the way is made anew
        if one is None:
            store = SegmentEfforts(held.store.db, tenant, segment)
            one = _Held(SegmentBoard(segment, held.athletes, store=store, packed_from=self._packed_from), stamp)
            one.board.follow()
        elif one.stamp != stamp:
            if board_version(held.store.db, tenant, segment) != one.board.version:
                one.board.follow()
            one.stamp = stamp
        held.boards[segment] = one
        self._make_room(held)
        return one

    def _make_room(self, held: _Tenant) -> None:
        total = sum(one.board.nbytes for one in held.boards.values())
        while total > MAX_BYTES and len(held.boards) > 1:
            _, gone = held.boards.popitem(last=False)
            total -= gone.board.nbytes


@contextmanager
def _one_moment(db: sqlite3.Connection) -> Generator[None]:
    """A read transaction around a block, if there is none around it."""
    if db.in_transaction:
        yield
        return
    db.execute("BEGIN")
    try:
        yield
    finally:
        db.execute("COMMIT")
