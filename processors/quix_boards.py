"""The boards stage on Kafka, keyed by board: efforts on a segment, and entries of the class in progress.

An effort that changed comes from the finish stage; the boards of one machine compare it with what stands, move it, give and take awards
and tell what happened. What finish says again after a kill has a place that was heard, and is dropped. The version of an effort is the
offset of its word and one more, so it grows along a board as readers expect, who follow one from 0. All boards are in columns here, whose
state is pages (`board_cells.py`).
"""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Final

from broker.errors import BadInputError
from broker.events.envelope import Event
from broker.kafka_topics import BOARD_WORDS, BOARDS_STATE
from processors.board_book import BoardBook
from processors.board_cells import BoardCells
from processors.hot_board import NONE_HOT, HotBoards, HotRule
from processors.hot_shard import HotShard
from processors.owed import Heard
from processors.packed_efforts import may_be_packed
from processors.row_mirror import Cells, check_version
from processors.segment_board import SegmentBoard
from processors.shards import Message, Out, Shard
from processors.stage_words import Dealt, EffortNow, Entries, Front, board_key, decode_board_word, encode_board_word, whose_of
from processors.state_db import SCHEMA_VERSION
from processors.working_copy import send_events

_log = logging.getLogger(__name__)

MOST_BOARDS: Final = 64  # of a partition, in memory: a small one in columns takes about 100 KB, and is filled in less than a millisecond
MOST_SHARDS: Final = 64  # of hot boards, the same


class BoardsOnKafka:
    """The stage for the engine. It looks up no reference data: what was decided is in the efforts. `hot` says which boards are cut into
    shards."""

    name = "boards"
    topic = BOARD_WORDS
    state = BOARDS_STATE

    def __init__(self, hot: HotRule = NONE_HOT) -> None:
        self._hot = hot

    def open(self, partition: int, cells: Cells, out: Out) -> BoardsShard:
        return BoardsShard(partition, cells, out, self._hot)

    def between(self, shards: Mapping[int, Shard]) -> None:
        """Nothing concerns the whole process."""


class BoardsShard:
    """One partition: whole boards, hot ones, and shards of hot ones."""

    def __init__(self, partition: int, cells: Cells, out: Out, hot: HotRule) -> None:
        self._partition = partition
        self._out = out
        self._raw = cells
        check_version(cells, "boards", SCHEMA_VERSION)
        self._heard = Heard(cells)
        self._cells = BoardCells(cells)
        self._events: list[Event] = []
        self._ordinals: Counter[int] = Counter()
        self._boards = BoardBook(self._cells, self._events, self._ordinals, packed_from=0, most=MOST_BOARDS)
        self._hot = HotBoards(cells, self._cells, self._boards, hot)
        self._parts: dict[tuple[str, str, int], HotShard] = {}

    def take(self, messages: Sequence[Message]) -> None:
        fronts: dict[bytes, list[Front]] = {}
        for m in messages:
            raw, where = m.value or b"", f"{BOARD_WORDS}[{self._partition}] {m.offset}"
            whose = whose_of(raw)
            hot = None if whose is None else self._hot.of(m.key or b"", self._out)
            if whose is not None and whose.place is not None and not self._heard.is_new(whose.place):
                continue  # finish was killed, and says it again
            if whose is not None and hot is not None:
                hot.deal(raw, whose, m.offset + 1, self._out)
                continue
            try:
                word = decode_board_word(raw, m.offset + 1, where)
                if isinstance(word, Dealt):
                    fronts.setdefault(board_key(word.tenant, word.segment), []).extend(self._part(word).take(word.items, where))
                elif isinstance(word, Front):
                    self._front(word, m.key or b"", where)
                elif isinstance(word, Entries):
                    self._cells.enter(word.mutations)
                else:
                    self._put(word, where)
            except BadInputError as error:
                _log.error("boards: %s", error)
        self._send(fronts)

    def board(self, tenant: str, segment: str) -> SegmentBoard:
        """The board of a segment as it stands."""
        return self._boards.board(tenant, segment)

    def front(self, tenant: str, segment: str) -> SegmentBoard:
        """The front of a hot board. KeyError when it is none."""
        hot = self._hot.of(board_key(tenant, segment), self._out)
        if hot is None:
            raise KeyError(f"{tenant}/{segment}")
        return hot.front.board

    def tick(self) -> None:
        """Nothing waits for time here."""

    def flush(self) -> None:
        self._cells.flush()
        self._heard.save()

    def close(self) -> None:
        """Nothing is held but memory."""

    def _put(self, word: EffortNow, where: str) -> None:
        if may_be_packed(word.effort):
            self._boards.put(self._cells.effort(word.effort.id), word.effort, word.appended_us)
        else:
            _log.error("boards: %s: no board takes an effort of %d ms", where, word.effort.elapsed_ms)

    def _front(self, word: Front, key: bytes, where: str) -> None:
        hot = self._hot.of(key, self._out)
        if hot is None:
            raise BadInputError(f"{where}: a shard of a board that is not hot", cure="only the boards stage writes such words")
        hot.front.take(word)
        self._events += hot.front.events
        hot.front.events.clear()

    def _part(self, word: Dealt) -> HotShard:
        name = word.tenant, word.segment, word.shard
        part = self._parts.pop(name, None)
        if part is None:
            part = HotShard(self._raw, self._cells, *name)
            if len(self._parts) >= MOST_SHARDS:
                self._close(next(iter(self._parts)))  # the one that was not asked for longest
        self._parts[name] = part
        return part

    def _close(self, name: tuple[str, str, int]) -> None:
        part = self._parts.pop(name)
        self._events += part.events
        part.close()

    def _send(self, fronts: Mapping[bytes, Sequence[Front]]) -> None:
        for part in self._parts.values():
            self._events += part.events
            part.events.clear()
        send_events(self._out, self._events)
        self._events.clear()
        self._ordinals.clear()
        for key, told in fronts.items():
            for front in told:
                self._out.send(BOARD_WORDS, key, encode_board_word(front))
        for hot in self._hot.open():
            hot.send(self._out)
