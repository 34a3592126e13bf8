"""The front of a hot board: the efforts that came in among the first ten of a shard when they finished, of all shards.

Few efforts do: of n athletes in the order of chance some ten times the logarithm of n. Among them are all that were ever among the first
ten of the whole board, so its first ten, its lead and the awards for them are told from here as the whole board would tell them. What a
shard says again after a kill has a version that was taken, and is passed over.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from dataclasses import replace
from typing import Final, NamedTuple

import msgpack

from broker.events.envelope import Event
from processors.awards import BOARD_KINDS, among
from processors.board_cells import BoardCells
from processors.happenings import awards_changed, first_ten_changed
from processors.results import Effort
from processors.results_db import effort_of, effort_row
from processors.row_mirror import Cells
from processors.segment_board import SegmentBoard
from processors.stage_words import Front, Placed

_EFFORTS: Final = b"f"
_TAKEN: Final = b"m"  # the version up to which each shard was heard


class _Moved(NamedTuple):
    """A `happenings.BestMoved`."""

    best_before: Effort | None
    best_after: Effort | None


class HotFront:
    """The front of one board. `events` are what happened since they were last taken from it."""

    def __init__(self, cells: Cells, boards: BoardCells, tenant: str, segment: str, shards: int) -> None:
        self._cells = cells
        self._boards = boards
        self._of = tenant, segment
        name = msgpack.packb([tenant, segment])
        self._prefix, self._taken_key = _EFFORTS + name, _TAKEN + name
        raw = cells.get(self._taken_key)
        self._taken: list[int] = [0] * shards if raw is None else msgpack.unpackb(raw)
        self._efforts: dict[str, dict[int, Effort]] = {}  # by id and shard
        for key, value in cells.items(self._prefix):
            effort_id, shard = msgpack.unpackb(key[len(self._prefix) :])
            self._efforts.setdefault(effort_id, {})[shard] = effort_of(msgpack.unpackb(value))
        self._changes = 0
        self.board = SegmentBoard(segment, awarding=True)
        self.board.load([self._numbered(latest(held)) for held in self._efforts.values()])
        self.events: list[Event] = []

    def seed(self, efforts: Iterable[tuple[Effort, int]]) -> None:
        """The efforts that are at the front of each shard of a board that was not cut until now: nothing happened."""
        for e, shard in efforts:
            self._hold(e, shard)
        self.board.load([self._numbered(latest(held)) for held in self._efforts.values()])

    def take(self, front: Front) -> None:
        """Take what moved in a shard."""
        shard = front.shard
        ordinals: Counter[int] = Counter()
        for placed in front.moved:
            if placed.version > self._taken[shard]:
                self._taken[shard] = placed.version
                self._take(placed, shard, ordinals)
        self._cells.put(self._taken_key, msgpack.packb(self._taken))

    def _take(self, placed: Placed, shard: int, ordinals: Counter[int]) -> None:
        board, cause, version = self.board, placed.cause, placed.version
        best = {subject: board.best(subject) for subject in placed.subjects}
        for e in placed.came:
            self._set(e.id, shard, replace(e, version=version))
        for effort_id in placed.went:
            self._set(effort_id, shard, None)
        top = [row.effort for row in board.top(limit=10).rows]
        for subject, before in best.items():
            moved = _Moved(before, board.best(subject))
            self.events += first_ten_changed(moved, top, version, placed.appended_us, ordinals[version])
            ordinals[version] += 1
        for awarded in board.awarded():
            told = among(awarded, BOARD_KINDS)
            if told.before != told.after:
                self._boards.put_awards(told, *self._of)
                self.events += awards_changed(told, replace(cause, version=version), placed.appended_us, ordinals[version])
                ordinals[version] += 1

    def _set(self, effort_id: str, shard: int, e: Effort | None) -> None:
        """What a shard has of an effort; of two shards that have it the later one counts."""
        before = latest(self._efforts.get(effort_id, {}))
        if e is None:
            self._efforts.get(effort_id, {}).pop(shard, None)
            self._cells.drop(self._key(effort_id, shard))
        else:
            self._hold(e, shard)
        now = latest(self._efforts.get(effort_id, {}))
        if now == before:
            return
        if now is None:
            del self._efforts[effort_id]
            assert before is not None
            self.board.apply(replace(self._numbered(before), removed=True))
        else:
            if before is not None and before.subject != now.subject:
                self.board.leave(effort_id)
            self.board.apply(self._numbered(now))

    def _hold(self, e: Effort, shard: int) -> None:
        self._efforts.setdefault(e.id, {})[shard] = e
        self._cells.put(self._key(e.id, shard), msgpack.packb(effort_row(e)))

    def _key(self, effort_id: str, shard: int) -> bytes:
        return self._prefix + msgpack.packb([effort_id, shard])

    def _numbered(self, e: Effort | None) -> Effort:
        """An effort that is newer than all before, whatever its shard calls it."""
        assert e is not None
        self._changes += 1
        return replace(e, version=self._changes)


def latest(held: dict[int, Effort]) -> Effort | None:
    """The latest of what shards have of an effort."""
    return max(held.values(), key=lambda e: e.version, default=None)
