"""Keys are placed as Kafka's own producer places them; settings of a cluster are whole; a cursor is believed only by its id."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from broker.errors import StoreError
from broker.events.catalogue import CATALOGUE
from broker.kafka import KafkaSettings, murmur2, partition_of
from broker.kafka_topics import FOR_EVER, FRAME_PARTITIONS, all_topics, event_topics
from processors.publish_cursor import Cursor, read_cursor, write_cursor


@pytest.mark.parametrize(
    ("key", "signed"),
    [
        (b"21", -973932308),
        (b"foobar", -790332482),
        (b"a-little-bit-long-string", -985981536),
        (b"a-little-bit-longer-string", -1486304829),
        (b"lkjh234lh9fiuh90y23oiuhsafujhadof229phr9h19h89h8", -58897971),
        (b"abc", 479470107),
    ],
)
def test_hash_is_that_of_apache_kafkas_own_tests(key: bytes, signed: int) -> None:
    assert murmur2(key) == signed % 2**32


@given(st.binary(max_size=40), st.integers(1, 128))
def test_partition_is_that_of_aiokafka(key: bytes, partitions: int) -> None:
    from aiokafka.partitioner import murmur2 as peer

    assert partition_of(key, partitions) == (peer(key) & 0x7FFFFFFF) % partitions


def test_topics_keep_what_is_kept_longest_of_their_events() -> None:
    topics = {topic.name: topic for topic in event_topics()}
    assert {kind.topic for kind in CATALOGUE.values()} == set(topics)
    for kind in CATALOGUE.values():
        assert topics[kind.topic].retention_ms >= kind.retention_days * 86_400_000
        assert topics[kind.topic].domain == kind.domain


@pytest.mark.parametrize(
    ("key", "partition"),
    [("gym/ann", 8), ("gym/a0", 16), ("gym/box/strap", 18), ("gym/watch", 2), ("ü/é", 49)],
)
def test_subject_belongs_to_the_partition_it_always_had(key: str, partition: int) -> None:
    assert partition_of(key.encode(), FRAME_PARTITIONS) == partition


def test_topics_have_names_of_their_own_and_are_kept_as_long_as_they_say() -> None:
    topics = all_topics()
    assert len({topic.name for topic in topics}) == len(topics)
    for topic in topics:
        assert (topic.retention_ms == FOR_EVER) == topic.compacted
        assert topic.config["cleanup.policy"] == ("compact" if topic.compacted else "delete")
        assert topic.config["retention.ms"] == str(topic.retention_ms)


def test_that_a_cell_is_gone_is_told_to_a_replica_that_was_away_for_weeks() -> None:
    """Kafka's own default is a day: a disk that was away for longer would have kept what is gone."""
    assert all(int(topic.config["delete.retention.ms"]) >= 30 * 86_400_000 for topic in all_topics() if topic.compacted)


@pytest.mark.parametrize(
    "wrong",
    [{"bootstrap": "kafka"}, {"bootstrap": "a:1,"}, {"bootstrap": "a:1", "security": "SASL_SSL"}, {"bootstrap": "a:1", "securty": "SSL"}],
)
def test_settings_that_are_not_whole_are_refused(wrong: dict[str, str]) -> None:
    with pytest.raises(ValidationError):
        KafkaSettings.model_validate(wrong)


def test_cursor_comes_back_and_a_damaged_one_names_the_file(tmp_path: Path) -> None:
    path = tmp_path / "published.json"
    assert read_cursor(path) == Cursor()
    write_cursor(path, Cursor(7, "ab"))
    assert read_cursor(path) == Cursor(7, "ab")
    path.write_text("{")
    with pytest.raises(StoreError, match=r"published\.json.*\n.*remove it"):
        read_cursor(path)
