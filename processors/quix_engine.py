"""The engine under the stages on Kafka: Quix Streams keeps the consumer group, the state with its changelog, recovery and checkpoints; this
hands a stage whole batches.

Quix calls a function per message. Our stages are batch-shaped, so `StageApp` replaces the step that takes one message by one that takes
what the consumer has, cut by partition, and hands each partition's part to its shard. A checkpoint (each `commit_s`) first asks every
shard to write what changed into its cells; then Quix produces the changelog, flushes, commits offsets and writes RocksDB. After a kill a
partition is at its last checkpoint again, wherever it is opened; what was sent since then is sent again, the same.
"""

from __future__ import annotations

import logging
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, NamedTuple

from confluent_kafka import KafkaException, TopicPartition
from quixstreams import Application
from quixstreams.internal_consumer import InternalConsumer
from quixstreams.internal_producer import InternalProducer
from quixstreams.kafka import ConnectionConfig
from quixstreams.kafka.consumer import raise_for_msg_error
from quixstreams.models import TopicConfig
from quixstreams.models.topics import TopicManager
from quixstreams.models.topics.exceptions import TopicConfigurationMismatch, TopicNotFoundError
from quixstreams.state import PartitionTransaction

from broker.errors import ConfigError, LinkError
from broker.kafka import KafkaSettings
from broker.metric_list import (
    STAGE_BATCHES,
    STAGE_BUSY,
    STAGE_LAG,
    STAGE_LAG_RECORDS,
    STAGE_PARTITIONS,
    STAGE_RECORDS,
    STAGE_WATERMARK_AGE,
)
from broker.metrics import Measure
from broker.watch import Watch
from processors.collector import waiting_collector
from processors.kafka_faults import cure_of
from processors.partition_reach import AsksReach, reach_of
from processors.quix_faults import broken_session
from processors.quix_fencing import is_taken_over, transaction_ms, waking_s
from processors.quix_parts import FlushingContext, LeanProducer, NamingTopics, QuietConsumer, connection_of, is_end
from processors.shards import Message, Shard, StageOnKafka, TakesTogether
from processors.stage_stats import StageStats
from processors.topic_lag import Partition, TopicLag

if TYPE_CHECKING:
    from quixstreams import Message as RawMessage

_log = logging.getLogger(__name__)

MOST_MESSAGES: Final = 32_768  # of one batch
WAIT_S: Final = 0.02  # for the first of them
MORE_S: Final = 0.005  # for the rest, which came in the same answer
FETCH_MS: Final = 40  # a broker gathers so long before it answers: to answer for each record costs it more than all else together
FETCH_BYTES: Final = 100_000  # or so much, of all partitions
TICK_S: Final = 0.1
SESSION_MS: Final = 10_000  # so long a killed replica holds its partitions
CAUGHT_UP_S: Final = 10.0  # a replica that is further behind is not ready: what it tells is old
LOOK_S: Final = 1.0  # between two looks at what waits
_STORE: Final = "default"


class Replica(NamedTuple):
    """One process of a stage. `name` is its own among the replicas, and stays the same when it starts again."""

    kafka: KafkaSettings
    state_dir: Path
    name: str
    commit_s: float = 1.0
    exactly_once: bool = False


class StageApp(Application):
    """A replica of a stage, until SIGTERM. LinkError when Kafka does not answer while it is made: make another one then."""

    def __init__(self, stage: StageOnKafka, replica: Replica, watch: Watch | None = None) -> None:
        self._watch = watch or Watch(stage.name)
        self._alive = self._watch.part("rounds")
        self.stats = StageStats()
        self._taken_ms = 0
        self._stage = stage
        self._joined = False
        producer: dict[str, Any] = {
            "linger.ms": 5,
            "compression.type": "lz4",
            "partitioner": "murmur2_random",
            "queue.buffering.max.messages": 500_000,
        }
        self._most_ms = most_ms = transaction_ms(replica.commit_s)
        if replica.exactly_once:
            producer |= {"transactional.id": f"{_group(stage)}-{replica.name}", "transaction.timeout.ms": most_ms}
        super().__init__(
            ConnectionConfig(**connection_of(replica.kafka)),
            consumer_group=_group(stage),
            auto_offset_reset="earliest",
            commit_interval=replica.commit_s,
            state_dir=replica.state_dir,
            processing_guarantee="exactly-once" if replica.exactly_once else "at-least-once",
            consumer_extra_config={
                "session.timeout.ms": SESSION_MS,
                "heartbeat.interval.ms": 2_000,
                "fetch.queue.backoff.ms": 5,
                "fetch.min.bytes": FETCH_BYTES,
                "fetch.wait.max.ms": FETCH_MS,  # a question to a broker waits behind a fetch
                "enable.partition.eof": True,  # what a transaction leaves behind is no record that waits
                "client.id": f"{stage.name}-{replica.name}",
                "group.instance.id": f"{stage.name}-{replica.name}",  # one that starts again has its partitions back at once
            },
            producer_extra_config=producer,
            auto_create_topics=False,  # `paceline topics apply` makes them, with their partitions
            broker_availability_timeout=0,  # an outage of Kafka is waited for
            loglevel=None,
        )
        self._shards: dict[int, tuple[object, Shard]] = {}
        self._next: dict[int, int] = {}
        self._ticked_s = self._looked_s = 0.0
        self._round_s = waking_s()
        self._name, self._kafka = replica.name, replica.kafka
        try:
            topic = self.topic(stage.topic, key_deserializer="bytes", value_deserializer="bytes")
            self.dataframe(topic)  # subscribes to it
            self._behind = TopicLag((stage.topic, partition) for partition in range(topic.broker_config.num_partitions))
            changelog = TopicConfig(topic.broker_config.num_partitions, topic.broker_config.replication_factor)
            self._state_manager.register_store(stage.topic, _STORE, changelog_config=changelog)
        except (TopicNotFoundError, TopicConfigurationMismatch) as error:
            raise ConfigError(f"stage {stage.name}: {error}", cure="run `paceline topics apply`; it says what cannot be mended") from error
        except KafkaException as error:
            told = error.args[0]
            raise LinkError(
                f"stage {stage.name}: kafka {replica.kafka.bootstrap}: {told.str()}", cure=cure_of(replica.kafka, told)
            ) from error
        self._processing_context = self._flushing = FlushingContext.of(self._processing_context, self._flush)
        if isinstance(stage, AsksReach):
            stage.reach_with(lambda partition: reach_of(self._consumer, stage.topic, partition))
        self._store = self._state_manager.get_store(stage.topic, _STORE)
        self._watch.ready_when("group", lambda: "" if self._joined else "has not joined its consumer group")
        self._watch.ready_when("state", lambda: "is read from the changelog" if self._state_manager.recovery_required else "")
        self._watch.ready_when(f"stage {stage.name}", self._caught_up)
        self._watch.measure(self._measures)

    def run(self) -> list[dict[str, Any]]:
        """Until it is stopped. ConfigError when another process took over its name, LinkError when the session with Kafka broke."""
        try:
            return super().run()
        except Exception as error:
            open_s = waking_s() - self._flushing.opened_s
            if is_taken_over(error, open_s, self._most_ms, joining=self._quiet.away_s > self._flushing.member_s):
                raise ConfigError(
                    f"stages.replica {self._name}: another process of stage {self._stage.name} runs under this name and took its place",
                    cure="give each replica of a stage a name of its own, stages.replica or PACELINE_STAGES__REPLICA",
                ) from error
            if (broken := broken_session(self._stage.name, self._kafka, error, open_s, self._most_ms)) is not None:
                raise broken from error
            raise

    def stop(self, fail: bool = False) -> None:
        """End after this round; not ready from now on."""
        if fail:
            error = sys.exception()
            ours = error if error is not None and broken_session(self._stage.name, self._kafka, error) is None else None
            _log.error("stage %s: ends, and is to be started again", self._stage.name, exc_info=ours)
        self._watch.drain()
        super().stop(fail)

    def _on_assign(self, *given: Any) -> None:
        super()._on_assign(*given)
        self._joined = True
        self._flushing.member_s = waking_s()

    def _on_lost(self, *given: Any) -> None:
        """The group went on without us: what was not committed belongs to others now."""
        super()._on_lost(*given)
        context = self._processing_context
        context.checkpoint.close(revoking=True)
        context.init_checkpoint()

    def _still_ours(self) -> None:
        """A round longer than the session: this process may have been stopped, and others have its partitions. The coordinator knows,
        and must be asked before the changelog is written: that takes records of anybody."""
        if waking_s() - self._round_s < SESSION_MS / 1000:
            return
        starts = self._processing_context.checkpoint._starting_tp_offsets  # noqa: SLF001 - what is committed now
        at = {**self._next, **{partition: first for (_, partition), first in starts.items()}}
        if at:
            offsets = [TopicPartition(self._stage.topic, partition, offset) for partition, offset in at.items()]
            for told in self._consumer.commit(offsets=offsets, asynchronous=False) or ():
                if told.error:
                    raise KafkaException(told.error)

    def lag(self) -> int:
        """Records of our partitions that are not taken yet, as far as the last fetch told."""
        return self._behind.records(self._end_of)[self._stage.topic]

    def _lag_s(self) -> float:
        """About how old the oldest of them is."""
        return self._behind.seconds(self._end_of, time.time())[self._stage.topic]

    def _end_of(self, partition: Partition) -> int:
        return self._consumer.get_watermark_offsets(TopicPartition(*partition), cached=True)[1]

    def _caught_up(self) -> str:
        behind_s = self._lag_s()
        return "" if behind_s <= CAUGHT_UP_S else f"{self.lag()} records behind, the oldest about {behind_s:.0f} s old"

    def _measures(self) -> Iterator[Measure]:
        name, stats = self._stage.name, self.stats
        yield STAGE_LAG_RECORDS.of(self.lag(), name)
        yield STAGE_LAG.of(self._lag_s(), name)
        yield STAGE_RECORDS.of(stats.records, name)
        yield STAGE_BATCHES.of(stats.batches, name)
        yield STAGE_BUSY.of(stats.busy_s, name)
        yield STAGE_PARTITIONS.of(len(self._shards), name)
        if self._taken_ms:
            yield STAGE_WATERMARK_AGE.of(max(time.time() - self._taken_ms / 1000, 0.0), name)

    def transaction(self, partition: int) -> PartitionTransaction:
        """The open transaction of a partition's state."""
        return self._processing_context.checkpoint.get_store_transaction(self._stage.topic, partition, _STORE)

    def committed(self, partition: int, lower: bytes, upper: bytes) -> Iterator[tuple[bytes, bytes]]:
        """Cells of the last checkpoint between two keys."""
        return self._store.partitions[partition].iter_items(lower, upper)

    def send(
        self, topic: str, key: bytes, value: bytes | None, headers: Sequence[tuple[str, bytes]] = (), partition: int | None = None
    ) -> None:
        self._producer.produce(topic, value, key, list(headers) or None, partition)

    def _get_internal_producer(self, on_error: Any = None, transactional: bool | None = None) -> InternalProducer:
        """As Quix makes it, but sent with less on the way."""
        made = super()._get_internal_producer(on_error, transactional)
        made.__class__ = LeanProducer
        return made

    def _get_internal_consumer(self, on_error: Any = None, extra_config_overrides: Any = None) -> InternalConsumer:
        """As Quix makes it; what it polls by itself has no word of an end, which Quix does not know."""
        made = super()._get_internal_consumer(on_error, extra_config_overrides)
        made.__class__ = QuietConsumer
        assert isinstance(made, QuietConsumer)
        made.note_losses()
        self._quiet = made
        return made

    def _get_topic_manager(self) -> TopicManager:
        made = super()._get_topic_manager()
        made.__class__ = NamingTopics
        made.changelog = self._stage.state  # type: ignore[attr-defined] - of NamingTopics
        return made

    def _process_message(self, dataframe_composed: Any) -> None:  # noqa: ARG002 - Quix hands it over
        """One round: a batch of messages, in place of one message through a data frame."""
        self._round_s = waking_s()
        self._alive.beat()
        self._producer.poll(0)
        with waiting_collector():  # over the whole round: a look through all states for each of its parts would cost as much as the parts
            messages = self._consumer.consume(1, WAIT_S)
            if messages:
                messages += self._consumer.consume(MOST_MESSAGES - 1, MORE_S)
            self._round(messages)
        self._run_tracker.set_message_consumed(bool(messages))

    def _round(self, messages: Sequence[RawMessage]) -> None:
        began_s = time.monotonic()
        self._keep_shards()
        parts: dict[int, list[Message]] = {}
        newest: dict[int, RawMessage] = {}
        ends: dict[int, int] = {}
        topic = self._stage.topic
        for raw in messages:
            partition = raw.partition()
            if raw.error() is not None:
                if not is_end(raw):
                    raise_for_msg_error(raw)
                if raw.topic() == topic:
                    ends[partition] = raw.offset()
            elif raw.topic() == topic:
                part = parts.get(partition)
                if part is None:
                    part = parts[partition] = []
                part.append(Message(raw.offset(), raw.key(), raw.value(), raw.headers() or ()))
                newest[partition] = raw
        self._take(parts)
        self._tell_lag(newest, ends)
        self._taken_ms = max((raw.timestamp()[1] for raw in newest.values()), default=self._taken_ms)
        if parts:
            self.stats.committed(sum(map(len, parts.values())), time.monotonic() - began_s, (), 0, 0)
        now_s = time.monotonic()
        if now_s - self._ticked_s >= TICK_S:
            self._ticked_s = now_s
            for _, shard in self._shards.values():
                shard.tick()

    def _tell_lag(self, newest: Mapping[int, RawMessage], ends: Mapping[int, int]) -> None:
        now_s, topic = time.time(), self._stage.topic
        for partition, raw in newest.items():
            if partition in self._shards:
                self._behind.taken((topic, partition), raw.offset(), raw.timestamp()[1])
        for partition, offset in ends.items():
            if partition in self._shards:
                self._behind.at_end((topic, partition), offset, now_s)
        if (since_s := time.monotonic() - self._looked_s) >= LOOK_S:
            self._looked_s += since_s
            self._behind.looked(self._end_of, now_s)

    def _take(self, parts: Mapping[int, list[Message]]) -> None:
        """Hand the parts to their shards: none of a partition that is not ours, none twice."""
        ours: dict[int, tuple[Shard, list[Message]]] = {}
        for partition, part in parts.items():
            held, after = self._shards.get(partition), self._next.get(partition, 0)
            new = part if part[0].offset >= after else [message for message in part if message.offset >= after]
            if held is not None and new:
                ours[partition] = held[1], new
        if isinstance(self._stage, TakesTogether):
            self._stage.take_together(list(ours.values()))
        else:
            for shard, part in ours.values():
                shard.take(part)
        for partition, (_, part) in ours.items():
            last = part[-1].offset
            self._next[partition] = last + 1
            self._processing_context.store_offset(self._stage.topic, partition, last)

    def _keep_shards(self) -> None:
        """A shard for each partition that is ours and recovered; none for others, also while some are read from the changelog."""
        ours = self._store.partitions
        for partition, (store, shard) in list(self._shards.items()):
            if ours.get(partition) is not store:
                del self._shards[partition]
                self._next.pop(partition, None)
                self._behind.forget((self._stage.topic, partition))
                shard.close()
        if self._state_manager.recovery_required:
            return
        for partition, store in ours.items():
            if partition not in self._shards:
                self._shards[partition] = store, self._stage.open(partition, _Cells(self, partition), self)

    def _flush(self, last: bool) -> None:
        """Changes of reference data go into the checkpoint that is made next: words that rest on them wait for no later one."""
        self._still_ours()
        with waiting_collector():
            if not last:
                self._stage.between({partition: shard for partition, (_, shard) in self._shards.items()})
            self._flush_shards()

    def _flush_shards(self) -> None:
        self._ticked_s = 0.0  # what the shards owe is told as soon as it is committed
        for partition, (store, shard) in self._shards.items():
            if self._store.partitions.get(partition) is store:
                shard.flush()


class _Cells:
    """Cells of a partition in the open checkpoint."""

    def __init__(self, app: StageApp, partition: int) -> None:
        self._app = app
        self._partition = partition

    def get(self, key: bytes) -> bytes | None:
        return self._app.transaction(self._partition).get_bytes(key, b"")

    def put(self, key: bytes, value: bytes) -> None:
        self._app.transaction(self._partition)._update_cache.set(key, value, b"")  # noqa: SLF001 - what set_bytes comes to

    def drop(self, key: bytes) -> None:
        self._app.transaction(self._partition).delete(key, b"")

    def items(self, prefix: bytes) -> Iterator[tuple[bytes, bytes]]:
        return self._app.committed(self._partition, prefix, prefix[:-1] + bytes([prefix[-1] + 1]))


def _group(stage: StageOnKafka) -> str:
    return f"paceline-{stage.name}"
