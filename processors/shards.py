"""A stage cut into partitions, as an engine runs it: one shard a partition, fed with its records in order, its state in cells."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import NamedTuple, Protocol, runtime_checkable

from processors.row_mirror import Cells


class Message(NamedTuple):
    """One record of a partition."""

    offset: int
    key: bytes | None
    value: bytes | None
    headers: Sequence[tuple[str, bytes]]


class Out(Protocol):
    """Where a shard sends records: durable before the offsets of what caused them are committed, so at least once."""

    def send(
        self, topic: str, key: bytes, value: bytes | None, headers: Sequence[tuple[str, bytes]] = (), partition: int | None = None
    ) -> None:
        """Send a record; without a partition, murmur2 of the key decides."""
        ...


class Shard(Protocol):
    """One partition of a stage."""

    def take(self, messages: Sequence[Message]) -> None:
        """Work on the next records of the partition, in order, without a hole."""
        ...

    def tick(self) -> None:
        """Do what time asks for."""
        ...

    def flush(self) -> None:
        """Write all that changed into the cells: a checkpoint is about to be made."""
        ...

    def close(self) -> None:
        """The partition is somebody else's now; nothing may be written any more."""
        ...


class StageOnKafka(Protocol):
    """A stage for the engine: its name, the topic it reads, and the compacted topic that is the changelog of its cells."""

    name: str
    topic: str
    state: str

    def open(self, partition: int, cells: Cells, out: Out) -> Shard:
        """A shard of a partition, from its cells."""
        ...

    def between(self, shards: Mapping[int, Shard]) -> None:
        """Called between batches, right before a checkpoint: what concerns the whole process, as reference data."""
        ...


@runtime_checkable
class TakesTogether(Protocol):
    """A stage that works on parts of many partitions better at once than one after the other."""

    def take_together(self, parts: Sequence[tuple[Shard, Sequence[Message]]]) -> None:
        """`take` of each shard, in whatever order; what comes of it is the same."""
        ...
