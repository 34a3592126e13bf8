"""The boards of segments as a book of results keeps them: an effort that changed is compared with what stands, stored, and told.

Where efforts and awards are stored is behind `BoardStore`: rows of `state.db` on one machine, cells on Kafka. Boards are opened when an
effort comes, and the ones that were not asked for longest are forgotten for want of room. Nothing is written or told when only the version
differs.
"""

from __future__ import annotations

import sqlite3
from collections import Counter
from dataclasses import replace
from typing import Final, Protocol

from broker.events.envelope import Event
from processors.awards import Awarded
from processors.effort_store import EffortStore, SegmentEfforts, without_curve
from processors.happenings import awards_changed, board_changed, effort_changed
from processors.results import Effort
from processors.results_db import put_awards, put_effort
from processors.segment_board import PACKED_FROM, BoardChange, SegmentBoard

MAX_BOARDS: Final = 512  # kept in memory; the rest is read again when an effort comes
MAX_BYTES: Final = 400_000_000  # of them


class BoardStore(Protocol):
    """Where efforts and awards are stored."""

    def efforts_of(self, tenant: str, segment: str) -> EffortStore:
        """The efforts of a board that is opened."""
        ...

    def put_effort(self, e: Effort) -> None:
        """Store an effort as it is now."""
        ...

    def put_awards(self, awarded: Awarded, tenant: str, segment: str) -> None:
        """Store the awards of an effort as they are now."""
        ...

    def closed(self, tenant: str, segment: str) -> None:
        """A board is not kept in memory any more."""
        ...


class RowStore:
    """A `BoardStore` of rows of `state.db`."""

    def __init__(self, db: sqlite3.Connection) -> None:
        self._db = db

    def efforts_of(self, tenant: str, segment: str) -> EffortStore:
        return SegmentEfforts(self._db, tenant, segment)

    def put_effort(self, e: Effort) -> None:
        put_effort(self._db, e)

    def put_awards(self, awarded: Awarded, tenant: str, segment: str) -> None:
        put_awards(self._db, awarded, tenant, segment)

    def closed(self, tenant: str, segment: str) -> None:
        """Rows are written when they change."""


class BoardBook:
    """Boards over one store. `events` are what happened and `ordinals` how much was told at a version: both may be shared with who tells
    of the same versions. `moves`: rows of boards that changed."""

    def __init__(
        self, store: BoardStore, events: list[Event], ordinals: Counter[int], *, packed_from: int = PACKED_FROM, most: int = MAX_BOARDS
    ) -> None:  # fmt: skip
        self._store = store
        self._packed_from = packed_from
        self._most = most
        self._boards: dict[tuple[str, str], SegmentBoard] = {}
        self._events = events
        self._ordinals = ordinals
        self.moves = 0

    def put(self, before: Effort | None, now: Effort, appended_us: int) -> None:
        """Move an effort to where it belongs; `before` is what was stored of it."""
        if before is not None and replace(before, version=now.version) == now:
            return
        board = self.board(now.tenant, now.segment)
        self._events += effort_changed(before, now, now.version, appended_us, self._ordinal(now.version))
        if before is not None and before.subject != now.subject:
            self._moved(board, board.leave(now.id), now.version, appended_us)
        change = board.apply(without_curve(now))  # before it is stored: a large board reads there what stood until now
        self._store.put_effort(now)
        self._moved(board, change, now.version, appended_us)
        for awarded in board.awarded():
            self._awarded(awarded, now, appended_us)

    def board(self, tenant: str, segment: str) -> SegmentBoard:
        """The board of a segment as it stands."""
        board = self._boards.pop((tenant, segment), None)
        if board is None:
            store = self._store.efforts_of(tenant, segment)
            board = SegmentBoard(segment, awarding=True, store=store, packed_from=self._packed_from)
            board.follow()
            self._make_room(board.nbytes)
        self._boards[tenant, segment] = board
        return board

    def forget(self, tenant: str, segment: str) -> None:
        """Close a board that is open."""
        del self._boards[tenant, segment]
        self._store.closed(tenant, segment)

    def _moved(self, board: SegmentBoard, change: BoardChange | None, version: int, appended_us: int) -> None:
        if change is not None:
            self.moves += 1
            top = [row.effort for row in board.top(limit=10).rows]
            self._events += board_changed(change, top, version, appended_us, self._ordinal(version))

    def _awarded(self, awarded: Awarded, cause: Effort, appended_us: int) -> None:
        self._store.put_awards(awarded, cause.tenant, cause.segment)
        self._events += awards_changed(awarded, cause, appended_us, self._ordinal(cause.version))

    def _make_room(self, more_bytes: int) -> None:
        """Forget the boards that were not asked for longest."""
        total = more_bytes + sum(board.nbytes for board in self._boards.values())
        while self._boards and (len(self._boards) >= self._most or total > MAX_BYTES):
            name = next(iter(self._boards))
            total -= self._boards.pop(name).nbytes
            self._store.closed(*name)

    def _ordinal(self, version: int) -> int:
        ordinal = self._ordinals[version]
        self._ordinals[version] += 1
        return ordinal
