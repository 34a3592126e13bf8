"""The boards stage on Kafka, keyed by board: efforts on a segment, and entries of the class in progress.

An effort that changed comes from the finish stage; the book of one machine compares it with what stands on the board, moves it, gives and
takes awards and tells what happened. Its version is the offset of the word, so it grows along a board as readers who follow one expect.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Final

from broker.errors import BadInputError
from broker.events.envelope import Event
from broker.kafka_topics import BOARD_WORDS, BOARDS_STATE
from processors.effort_book import EffortBook
from processors.reference_data import ReferenceData
from processors.results_db import effort
from processors.row_mirror import Cells, check_version
from processors.shards import Message, Out, Shard
from processors.stage import Mutation
from processors.stage_words import EffortNow, Entries, decode_board_word
from processors.state_db import SCHEMA_VERSION
from processors.working_copy import WorkingCopy, send_events

_log = logging.getLogger(__name__)

MIRRORED: Final = ("effort", "award", "board")


class BoardsOnKafka:
    """The stage for the engine. It looks up no reference data: what was decided is in the efforts."""

    name = "boards"
    topic = BOARD_WORDS
    state = BOARDS_STATE

    def __init__(self, work: Path) -> None:
        self._work = work

    def open(self, partition: int, cells: Cells, out: Out) -> BoardsShard:
        return BoardsShard(partition, cells, out, self._work)

    def between(self, shards: Mapping[int, Shard]) -> None:
        """Nothing concerns the whole process."""


class BoardBook(EffortBook):
    """The book of results of some boards: takes efforts as they are now."""

    def stand(self, word: EffortNow) -> None:
        """Move an effort to where it belongs."""
        self._put(effort(self._db, word.effort.id), word.effort, word.appended_us)

    def told(self) -> list[Event]:
        """The events of boards and efforts since the last call."""
        events = list(self._events)
        self._events.clear()
        self._ordinals.clear()
        return events


class BoardsShard:
    """One partition."""

    def __init__(self, partition: int, cells: Cells, out: Out, work: Path) -> None:
        self._partition = partition
        self._out = out
        check_version(cells, "boards", SCHEMA_VERSION)
        self._copy = WorkingCopy(work / f"boards-{partition}.db", cells, MIRRORED)
        self._book = BoardBook(self._copy.db, ReferenceData())

    def take(self, messages: Sequence[Message]) -> None:
        entries: list[Mutation] = []
        for m in messages:
            try:
                word = decode_board_word(m.value or b"", m.offset, f"{BOARD_WORDS}[{self._partition}] {m.offset}")
            except BadInputError as error:
                _log.error("boards: %s", error)
                continue
            if isinstance(word, Entries):
                entries += word.mutations
            else:
                self._book.stand(word)
        self._enter(entries)
        send_events(self._out, self._book.told())

    def _enter(self, entries: list[Mutation]) -> None:
        """Keep the newest of each entry."""
        newest: dict[tuple[str, str, int], Mutation] = {}
        for m in entries:
            of = (m.board, m.subject, m.activity_us)
            if of not in newest or m.version > newest[of].version:
                newest[of] = m
        self._copy.store.boards(list(newest.values()))

    def tick(self) -> None:
        """Nothing waits for time here."""

    def flush(self) -> None:
        self._copy.save()

    def close(self) -> None:
        self._copy.close()
