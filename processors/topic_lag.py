"""How far a view or a stage is behind the topics it follows: in records, and in seconds. Pure: what was fetched is told, time is given.

A partition of which nothing was heard yet, neither a record nor that it holds no more, is not read: no figure is known of it. A place after
a record need not be the end where the topic has no more of them: what a transaction leaves behind counts as an offset.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import Final

Partition = tuple[str, int]
NO_TIME: Final = 0


class TopicLag:
    """What one reader was told. One thread tells, any may ask."""

    def __init__(self, partitions: Iterable[Partition]) -> None:
        self.partitions = frozenset(partitions)
        self._next: dict[Partition, int] = {}
        self._taken_ms: dict[Partition, int] = {}  # UTC, as Kafka has it
        self._even_s: dict[Partition, float] = {}

    def taken(self, partition: Partition, offset: int, at_ms: int) -> None:
        """The record at this offset was taken; Kafka got it at `at_ms`."""
        self._next[partition] = offset + 1
        self._taken_ms[partition] = at_ms

    def at_end(self, partition: Partition, offset: int, now_s: float) -> None:
        """Nothing was left in front of this offset at `now_s` (UTC)."""
        self._next[partition] = max(offset, self._next.get(partition, 0))
        self._even_s[partition] = now_s

    def looked(self, ends: Callable[[Partition], int], now_s: float) -> None:
        """Where nothing waits at `now_s`: what is seen to wait later came after that. To be told about once a second."""
        for partition, after in self._next.items():
            if ends(partition) <= after:
                self._even_s[partition] = now_s

    def forget(self, partition: Partition) -> None:
        """The partition is somebody else's now."""
        for known in (self._next, self._taken_ms, self._even_s):
            known.pop(partition, None)

    def not_read(self) -> int:
        """Of how many partitions nothing was heard yet."""
        return len(self.partitions) - len(self._next)

    def records(self, ends: Callable[[Partition], int]) -> dict[str, int]:
        """By topic, how many records are not taken yet. `ends`: the offset behind the last one, as far as it is known."""
        made = dict.fromkeys(sorted({topic for topic, _ in self.partitions}), 0)
        for partition, count in self._waiting(ends).items():
            made[partition[0]] += count
        return made

    def seconds(self, ends: Callable[[Partition], int], now_s: float) -> dict[str, float]:
        """By topic, about how old the oldest record is that waits; 0 where none does.

        It is newer than the last one taken of its partition, and came after that was seen to hold no more.
        """
        made = dict.fromkeys(sorted({topic for topic, _ in self.partitions}), 0.0)
        for partition in self._waiting(ends):
            since_s = max(self._taken_ms.get(partition, NO_TIME) / 1000, self._even_s.get(partition, 0.0))
            made[partition[0]] = max(made[partition[0]], now_s - since_s)
        return made

    def _waiting(self, ends: Callable[[Partition], int]) -> Mapping[Partition, int]:
        counted = {partition: ends(partition) - after for partition, after in list(self._next.items())}
        return {partition: count for partition, count in counted.items() if count > 0}
