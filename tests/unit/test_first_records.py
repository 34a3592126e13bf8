"""The first record of a partition counts: whoever follows by versions begins at 0, where a position of Kafka begins too."""

from __future__ import annotations

from contextlib import closing
from pathlib import Path

from broker.kafka_topics import BOARD_WORDS, REFERENCE
from broker.reference import encode_reference
from processors.directory import Directory
from processors.quix_boards import BoardsOnKafka
from processors.results import Effort, Phase, effort_id
from processors.row_mirror import MemoryCells
from processors.shards import Message
from processors.stage_words import EffortNow, encode_board_word
from processors.state_db import StateDb
from processors.state_view import Record, StateView
from tests.any_way import T0_US, segment
from tests.memory_cluster import Topics


def effort(name: str, elapsed_ms: int) -> Effort:
    return Effort(effort_id(name, "hill", 0), "gym", "hill", f"gym/{name}", name, 0, T0_US, elapsed_ms, Phase.FINAL, 100, None, None, (), 0)


def test_the_effort_of_the_first_word_stands_when_its_boards_are_opened_again() -> None:
    cells, topics = MemoryCells(), Topics(1)
    for offset, now in enumerate((effort("ann", 60_000), effort("bob", 70_000))):
        shard = BoardsOnKafka().open(0, cells, topics)
        shard.take([Message(offset, b"gym/hill", encode_board_word(EffortNow(now, T0_US)), ())])
        shard.flush()
        shard.close()
    board = BoardsOnKafka().open(0, cells, topics).board("gym", "hill")
    assert [row.effort.subject for row in board.top().rows] == ["gym/ann", "gym/bob"]
    leads = [m for topic, m in topics.told if topic.startswith("paceline.social.board") and b"leader" in (m.value or b"")]
    assert len(leads) == 1
    assert BoardsOnKafka.topic == BOARD_WORDS


def test_the_first_change_of_reference_data_is_known_to_who_follows_it(tmp_path: Path) -> None:
    store = StateDb(tmp_path / "state.db")
    value = segment("hill", 40, 140)
    StateView(store).take([Record(REFERENCE, 0, 0, b"gym/segment/hill", encode_reference(value), ())])
    with closing(Directory(tmp_path / "state.db")) as directory:
        assert set(directory.of("gym").segments) == {"hill"}
    store.close()
