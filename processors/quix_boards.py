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
from processors.owed import Heard
from processors.packed_efforts import may_be_packed
from processors.row_mirror import Cells, check_version
from processors.segment_board import SegmentBoard
from processors.shards import Message, Out, Shard
from processors.stage_words import Entries, decode_board_word
from processors.state_db import SCHEMA_VERSION
from processors.working_copy import send_events

_log = logging.getLogger(__name__)

MOST_BOARDS: Final = 64  # of a partition, in memory: a small one in columns takes about 100 KB, and is filled in less than a millisecond


class BoardsOnKafka:
    """The stage for the engine. It looks up no reference data: what was decided is in the efforts."""

    name = "boards"
    topic = BOARD_WORDS
    state = BOARDS_STATE

    def open(self, partition: int, cells: Cells, out: Out) -> BoardsShard:
        return BoardsShard(partition, cells, out)

    def between(self, shards: Mapping[int, Shard]) -> None:
        """Nothing concerns the whole process."""


class BoardsShard:
    """One partition."""

    def __init__(self, partition: int, cells: Cells, out: Out) -> None:
        self._partition = partition
        self._out = out
        check_version(cells, "boards", SCHEMA_VERSION)
        self._heard = Heard(cells)
        self._cells = BoardCells(cells)
        self._events: list[Event] = []
        self._ordinals: Counter[int] = Counter()
        self._boards = BoardBook(self._cells, self._events, self._ordinals, packed_from=0, most=MOST_BOARDS)

    def take(self, messages: Sequence[Message]) -> None:
        for m in messages:
            try:
                word = decode_board_word(m.value or b"", m.offset + 1, f"{BOARD_WORDS}[{self._partition}] {m.offset}")
            except BadInputError as error:
                _log.error("boards: %s", error)
                continue
            if isinstance(word, Entries):
                self._cells.enter(word.mutations)
            elif word.place is not None and not self._heard.is_new(word.place):
                continue  # finish was killed, and says it again
            elif may_be_packed(word.effort):
                self._boards.put(self._cells.effort(word.effort.id), word.effort, word.appended_us)
            else:
                _log.error("boards: %s[%d] %d: no board takes an effort of %d ms", BOARD_WORDS, self._partition, m.offset,
                           word.effort.elapsed_ms)  # fmt: skip
        send_events(self._out, self._events)
        self._events.clear()
        self._ordinals.clear()

    def board(self, tenant: str, segment: str) -> SegmentBoard:
        """The board of a segment as it stands."""
        return self._boards.board(tenant, segment)

    def tick(self) -> None:
        """Nothing waits for time here."""

    def flush(self) -> None:
        self._cells.flush()
        self._heard.save()

    def close(self) -> None:
        """Nothing is held but memory."""
