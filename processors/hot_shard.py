"""One shard of a hot board: some of its athletes, with all their efforts.

It tells what concerns an athlete alone: efforts, records, the awards among the athlete's own efforts. Of the rest the board needs to know
only which efforts came in among the first ten of this shard when they finished: who was among the first ten of the board at any time was so
with one of those. What is dealt again after a kill has a version that was taken, and is passed over.
"""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import Final

import msgpack

from broker.errors import BadInputError
from broker.events.envelope import Event
from processors.awards import BOARD_KINDS, OWN_KINDS, Awarded, among
from processors.board_book import BoardBook
from processors.board_cells import BoardCells, PagedEfforts
from processors.effort_store import without_curve
from processors.happenings import record_changed
from processors.packed_efforts import entry_of, may_be_packed
from processors.results import Effort
from processors.results_db import effort_of, effort_row
from processors.row_mirror import Cells, row_key
from processors.segment_board import BoardChange, SegmentBoard
from processors.stage_words import EffortNow, Front, How, Item, Placed, decode_board_word

_log = logging.getLogger(__name__)

MOST_OF_FRONT: Final = 500  # efforts that a word tells the board of
_TAKEN: Final = b"l"  # the version up to which a shard took what it was dealt


class ShardCells:
    """A `board_book.BoardStore` of one shard."""

    def __init__(self, cells: Cells, boards: BoardCells, tenant: str, segment: str, shard: int) -> None:
        self._cells = cells
        self._boards = boards
        self._name = tenant, segment, shard
        self.paged: PagedEfforts | None = None

    def effort(self, effort_id: str) -> Effort | None:
        """An effort of this shard, with its curve."""
        raw = self._cells.get(row_key("shard_effort", [effort_id, self._name[2]]))
        return None if raw is None else effort_of(msgpack.unpackb(raw))

    def efforts_of(self, tenant: str, segment: str) -> PagedEfforts:
        """The efforts of this shard; the board is the one it is a part of."""
        assert (tenant, segment) == self._name[:2]
        self.paged = self._boards.paged(self._name, self.effort)
        return self.paged

    def put_effort(self, e: Effort) -> None:
        """Store an effort as it is now."""
        self._cells.put(row_key("shard_effort", [e.id, self._name[2]]), msgpack.packb(effort_row(e)))

    def put_awards(self, awarded: Awarded, tenant: str, segment: str) -> None:
        """Store the own awards of an effort as they are now."""
        assert (tenant, segment) == self._name[:2]
        self.put_own(awarded.subject, awarded.effort, ",".join(awarded.after))

    def put_own(self, subject: str, effort_id: str, own: str) -> None:
        """Store the own awards of an effort, as words with commas."""
        key = row_key("shard_award", [effort_id, subject])
        if own:
            self._cells.put(key, msgpack.packb([subject, effort_id, *self._name[:2], own]))
        else:
            self._cells.drop(key)

    def closed(self, tenant: str, segment: str) -> None:
        """Its book has room for this one board."""

    def close(self) -> None:
        """The shard is not kept in memory any more."""
        self._boards.close(self._name)


class _ShardBook(BoardBook):
    """The book of one board: tells records and own awards, and notes which efforts moved at the front."""

    def __init__(self, store: ShardCells, events: list[Event], ordinals: Counter[int]) -> None:
        super().__init__(store, events, ordinals, packed_from=0, most=1)
        self.moved: dict[str, bool] = {}  # by id: whether it was at the front

    def leave(self, gone: Effort, appended_us: int) -> None:
        """Take off an effort that is somebody else's now; the effort itself is told where it goes to."""
        board = self.board(gone.tenant, gone.segment)
        change = board.apply(without_curve(gone))
        self._store.put_effort(gone)
        self._moved(board, change, gone.version, appended_us)
        for awarded in board.awarded():
            self._awarded(awarded, gone, appended_us)

    def _moved(self, board: SegmentBoard, change: BoardChange | None, version: int, appended_us: int) -> None:
        del board
        if change is not None:
            self._events += record_changed(change, version, appended_us, self._ordinal(version))

    def _awarded(self, awarded: Awarded, cause: Effort, appended_us: int) -> None:
        own, placed = among(awarded, OWN_KINDS), among(awarded, BOARD_KINDS)
        if own.before != own.after:
            super()._awarded(own, cause, appended_us)
        if placed.before != placed.after:
            self.moved[awarded.effort] = self.moved.get(awarded.effort, False) or placed.before != ()


class HotShard:
    """One shard, open. `events` are what happened since they were last taken from it."""

    def __init__(self, cells: Cells, boards: BoardCells, tenant: str, segment: str, shard: int) -> None:
        self._cells = cells
        self._of = tenant, segment
        self._shard = shard
        self._key = _TAKEN + msgpack.packb([tenant, segment, shard])
        self._store = ShardCells(cells, boards, tenant, segment, shard)
        self.events: list[Event] = []
        self._ordinals: Counter[int] = Counter()
        self._book = _ShardBook(self._store, self.events, self._ordinals)
        raw = cells.get(self._key)
        self._taken = 0 if raw is None else int(raw)

    def take(self, items: Sequence[Item], where: str) -> list[Front]:
        """Take what was dealt; what the board is to know of it, in words of bounded size. `where` is named for an effort that is none."""
        moved: list[Placed] = []
        held: list[Effort] = []
        for item in items:
            how, version = item.how, item.version
            if how == How.WHOLE:
                self._hold(held)
                held = []
                self._count_again()
                continue
            try:
                word = decode_board_word(item.word, version, where)
            except BadInputError as error:  # the others of the record are none the worse
                _log.error("boards: %s", error)
                continue
            assert isinstance(word, EffortNow)
            if how == How.HOLD:
                before = self._store.effort(word.effort.id)
                if may_be_packed(word.effort) and (before is None or before.version < word.effort.version):
                    held.append(word.effort)
                    self._store.put_effort(word.effort)
                    self._store.put_own(word.effort.subject, word.effort.id, item.own)
            elif version > self._taken:
                self._taken = version
                placed = self._leave(word, version) if how == How.LEAVE else self._put(word, version)
                moved += [] if placed is None else [placed]
        self._hold(held)
        self._ordinals.clear()
        self._cells.put(self._key, str(self._taken).encode())
        return [Front(self._shard, part) for part in _parts(moved)]

    def close(self) -> None:
        """Leave it to its pages; not to be used again."""
        self._store.close()

    def board(self) -> SegmentBoard:
        """The athletes of this shard."""
        return self._book.board(*self._of)

    def _put(self, word: EffortNow, version: int) -> Placed | None:
        now = word.effort
        if not may_be_packed(now):
            _log.error("boards: no board takes effort %s of %d ms", now.id, now.elapsed_ms)
            return None
        before = self._store.effort(now.id)
        came_back = before is not None and before.removed and word.was is not None
        self._book.put(word.was if before is None or came_back else before, now, word.appended_us)
        subjects = [now.subject] if before is None or before.subject == now.subject else [before.subject, now.subject]
        return self._placed(now, version, word.appended_us, subjects)

    def _leave(self, word: EffortNow, version: int) -> Placed | None:
        before = self._store.effort(word.effort.id)
        if before is None:
            return None
        gone = replace(before, removed=True, version=version)
        self._book.leave(gone, word.appended_us)
        return self._placed(gone, version, word.appended_us, [gone.subject])

    def _placed(self, cause: Effort, version: int, appended_us: int, subjects: Sequence[str]) -> Placed | None:
        """What the last change moved at the front."""
        board = self.board()
        moved = self._book.moved
        moved.setdefault(cause.id, False)
        came: list[Effort] = []
        went: list[str] = []
        for name, was in sorted(moved.items()):
            if not BOARD_KINDS.isdisjoint(board.awards_of(name)):
                found = self._store.effort(name)
                assert found is not None
                came.append(without_curve(found))
            elif was:
                went.append(name)
        moved.clear()
        if not came and not went:
            return None
        return Placed(version, appended_us, without_curve(cause), subjects, came, went)

    def _hold(self, efforts: Sequence[Effort]) -> None:
        """Take efforts that stood before, many at once."""
        if efforts:
            self.board()
            assert self._store.paged is not None
            assert self._store.paged.holding is not None
            self._store.paged.holding.follow([entry_of(e) for e in efforts])

    def _count_again(self) -> None:
        """Find out what is awarded after many were taken at once."""
        self.board()
        assert self._store.paged is not None
        assert self._store.paged.holding is not None
        self._store.paged.holding.award()


def _parts(moved: Sequence[Placed]) -> Iterator[list[Placed]]:
    """In pieces of `MOST_OF_FRONT` efforts, or of one change that is more."""
    part: list[Placed] = []
    size = 0
    for placed in moved:
        more = 1 + len(placed.came) + len(placed.went)
        if part and size + more > MOST_OF_FRONT:
            yield part
            part, size = [], 0
        part.append(placed)
        size += more
    if part:
        yield part
