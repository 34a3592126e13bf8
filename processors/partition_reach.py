"""How far a partition reaches: what is still to be taken of it, as Kafka says."""

from __future__ import annotations

from collections.abc import Callable
from typing import Final, NamedTuple, Protocol, runtime_checkable

from confluent_kafka import KafkaException, TopicPartition

REACH_S: Final = 1.0  # so long Kafka has to say it


class Reach(NamedTuple):
    """Offsets of a partition: of the next record when it was opened, or a later one, and behind the last that is there."""

    next: int
    end: int


class _Consumer(Protocol):
    def committed(self, partitions: list[TopicPartition], timeout: float | None = ...) -> list[TopicPartition]: ...
    def get_watermark_offsets(self, partition: TopicPartition, timeout: float | None = ..., cached: bool = ...) -> tuple[int, int]: ...


@runtime_checkable
class AsksReach(Protocol):
    """A stage that asks how far its partitions reach."""

    def reach_with(self, reach: Callable[[int], Reach | None]) -> None:
        """How it can ask, of a partition that is open; the answer is None while Kafka does not say. Told before the first one is opened."""
        ...


def reach_of(consumer: _Consumer, topic: str, partition: int) -> Reach | None:
    """What a group of consumers has committed of a partition, and its end."""
    at = TopicPartition(topic, partition)
    try:
        (committed,) = consumer.committed([at], timeout=REACH_S)
        first, end = consumer.get_watermark_offsets(at, timeout=REACH_S)
    except KafkaException:
        return None
    return None if committed.error else Reach(max(committed.offset, first), end)
