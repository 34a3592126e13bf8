"""The stages of a cluster in one process and in memory: topics as lists, cells as dictionaries, checkpoints and kills as a test wants them.

What Quix Streams and Kafka promise stands here in a few lines: a partition in order, what was sent before a checkpoint is sent again after
a kill, cells as of the last checkpoint. The real ones are under `system/test_quix*.py`.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from broker.kafka import partition_of
from broker.kafka_records import decode_log_record, encode_log_record
from broker.kafka_topics import BOARD_WORDS, FRAMES, REFERENCE, RESULTS
from broker.logrecord import LogRecord
from broker.reference import decode_reference
from processors.hot_board import NONE_HOT, HotRule
from processors.partition_reach import AsksReach, Reach
from processors.quix_boards import BoardsOnKafka
from processors.quix_finish import FinishOnKafka
from processors.quix_live import LiveOnKafka
from processors.reference_feed import Change, TakenChanges
from processors.shards import Message, Shard, StageOnKafka, TakesTogether
from processors.state_db import StateDb
from processors.state_view import Record, StateView
from processors.track_folder import FolderBlobs


@dataclass
class Topics:
    """What was sent, by topic and partition."""

    partitions: int
    held: dict[tuple[str, int], list[Message]] = field(default_factory=dict)
    told: list[tuple[str, Message]] = field(default_factory=list)
    lanes: list[tuple[str, int]] = field(default_factory=list)  # the partition of each of them

    def send(
        self, topic: str, key: bytes, value: bytes | None, headers: Sequence[tuple[str, bytes]] = (), partition: int | None = None
    ) -> None:
        if topic in (FRAMES, RESULTS, BOARD_WORDS):
            at = partition_of(key, self.partitions) if partition is None else partition
            lane = self.held.setdefault((topic, at), [])
            lane.append(Message(len(lane), key, value, headers))
        else:
            self.told.append((topic, Message(len(self.told), key, value, headers)))
            self.lanes.append((topic, partition_of(key, self.partitions) if partition is None else partition))


class Feed(TakenChanges):
    """Reference data from a list."""

    def __init__(self, records: list[LogRecord]) -> None:
        super().__init__()
        self.records = records
        self.at = 0
        for change in self.poll():
            self.take(change)

    def poll(self, timeout_s: float = 0.0) -> list[Change]:
        made = [Change(n, r, decode_reference(r.body)) for n, r in enumerate(self.records[self.at :], self.at)]
        self.at = len(self.records)
        return made


class Cells:
    """Cells of a partition: written ones, and those of the last checkpoint."""

    def __init__(self) -> None:
        self.committed: dict[bytes, bytes] = {}
        self.written: dict[bytes, bytes | None] = {}

    def get(self, key: bytes) -> bytes | None:
        return self.written[key] if key in self.written else self.committed.get(key)

    def put(self, key: bytes, value: bytes) -> None:
        self.written[key] = value

    def drop(self, key: bytes) -> None:
        self.written[key] = None

    def items(self, prefix: bytes) -> Iterator[tuple[bytes, bytes]]:
        return iter(sorted((key, value) for key, value in self.committed.items() if key.startswith(prefix)))

    def commit(self, changelog: str, topics: Topics, partition: int) -> None:
        for key, value in self.written.items():
            topics.send(changelog, key, value, partition=partition)
            if value is None:
                self.committed.pop(key, None)
            else:
                self.committed[key] = value
        self.written.clear()


@dataclass
class Transaction:
    """What a replica sends with `stages.exactly_once`: there for others once its checkpoint is committed, and never after a kill before that."""

    topics: Topics
    open: list[tuple[str, bytes, bytes | None, Sequence[tuple[str, bytes]], int | None]] = field(default_factory=list)

    def send(
        self, topic: str, key: bytes, value: bytes | None, headers: Sequence[tuple[str, bytes]] = (), partition: int | None = None
    ) -> None:
        self.open.append((topic, key, value, headers, partition))

    def commit(self) -> None:
        for word in self.open:
            self.topics.send(*word)
        self.open.clear()


class Process:
    """One replica of a stage that has all partitions."""

    def __init__(
        self, make: Callable[[], StageOnKafka], topics: Topics, cells: dict[int, Cells], offsets: dict[int, int],
        exactly_once: bool = False,
    ) -> None:  # fmt: skip
        self.make, self.topics, self.cells, self.offsets = make, topics, cells, offsets
        self.transaction = Transaction(topics) if exactly_once else None
        self.start()

    def start(self) -> None:
        self.stage = self.make()
        if isinstance(self.stage, AsksReach):
            self.stage.reach_with(lambda n: Reach(self.offsets.get(n, 0), len(self.topics.held.get((self.stage.topic, n), ()))))
        self.at = dict(self.offsets)
        self.shards: dict[int, Shard] = {}
        for partition in range(self.topics.partitions):
            cells = self.cells.setdefault(partition, Cells())
            self.shards[partition] = self.stage.open(partition, cells, self.topics if self.transaction is None else self.transaction)

    def step(self, most: int, *, together: bool = True) -> int:
        parts: list[tuple[Shard, Sequence[Message]]] = []
        for partition, shard in self.shards.items():
            lane = self.topics.held.get((self.stage.topic, partition), [])
            at = self.at.get(partition, 0)
            part = lane[at : at + most]
            if part:
                parts.append((shard, part))
                self.at[partition] = at + len(part)
        if together and isinstance(self.stage, TakesTogether):
            self.stage.take_together(parts)
        else:
            for shard, part in parts:
                shard.take(part)
        self.stage.between(self.shards)
        for shard in self.shards.values():
            shard.tick()
        return sum(len(part) for _, part in parts)

    def checkpoint(self) -> None:
        for partition, shard in self.shards.items():
            shard.flush()
            self.cells[partition].commit(self.stage.state, self.topics, partition)
        if self.transaction is not None:
            self.transaction.commit()
        self.offsets.update(self.at)

    def kill(self) -> None:
        """As kill -9: what was not in a checkpoint is forgotten; what was sent stays sent, unless it was in a transaction."""
        if self.transaction is not None:
            self.transaction.open.clear()
        for partition, shard in self.shards.items():
            shard.close()
            self.cells[partition].written.clear()
        self.start()


class MemoryCluster:
    """Live, finish and boards over shared topics and one folder of tracks."""

    def __init__(
        self, path: Path, partitions: int = 3, rng: random.Random | None = None, now_us: int = 0,
        *, tells: bool = False, hot: HotRule = NONE_HOT, exactly_once: bool = False,
    ) -> None:  # fmt: skip
        self.tells = tells
        self.path, self.rng, self.now_us = path, rng, now_us
        self.topics = Topics(partitions)
        self.references: list[LogRecord] = []
        self.blobs = FolderBlobs(path / "tracks")
        work = path / "work"
        makes: list[Callable[[], StageOnKafka]] = [
            lambda: LiveOnKafka(
                Feed(self.references), self.blobs, work, lambda: self.now_us, partitions=partitions, tells=tells, exactly_once=exactly_once
            ),
            lambda: FinishOnKafka(Feed(self.references), self.blobs, work),
            lambda: BoardsOnKafka(hot),
        ]
        self.processes = [Process(make, self.topics, {}, {}, exactly_once) for make in makes]

    def append(self, records: Sequence[LogRecord]) -> None:
        for record in records:
            made = encode_log_record(record)
            if made.topic == REFERENCE:
                self.references.append(decode_log_record(made.key, made.value, made.headers))
                self.topics.told.append((REFERENCE, Message(len(self.references) - 1, made.key, made.value, made.headers)))
                self.topics.lanes.append((REFERENCE, 0))
            else:
                self.topics.send(made.topic, made.key, made.value, made.headers)

    def drain(self) -> None:
        """Until nobody has anything to do, nor owes anything to the others."""
        idle = 0
        while idle < 3:  # what a change moves is owed in one round, told in the next and taken in the one after
            most = 1000 if self.rng is None else self.rng.choice([1, 2, 7, 40, 1000])
            done = 0
            for process in self.processes:
                done += process.step(most)
                if self.rng is not None:
                    if self.rng.random() < 0.3:
                        process.checkpoint()
                    elif self.rng.random() < 0.1:
                        process.kill()
                        done += 1
            if not done:
                for process in self.processes:
                    process.checkpoint()
            idle = 0 if done else idle + 1

    def pass_time(self, us: int) -> None:
        """What is due by then is done, and what comes of it."""
        self.now_us += us
        self.drain()

    def view(self) -> Path:
        """What readers see, as a state file."""
        for process in self.processes:
            process.checkpoint()
        path = self.path / "view.db"
        path.unlink(missing_ok=True)
        store = StateDb(path)
        view = StateView(store, tells=self.tells)
        store.db.execute("BEGIN")
        view.take([Record(topic, 0, m.offset, m.key or b"", m.value, m.headers) for topic, m in self.topics.told])
        store.db.execute("COMMIT")
        store.close()
        return path

    def close(self) -> None:
        for process in self.processes:
            for shard in process.shards.values():
                shard.close()
