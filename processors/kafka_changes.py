"""Changes of reference data into the log of a cluster: `reference.changes`, all of one call or none, durable before `append` returns.

One transaction a call, because a call may be an athlete with a binding, or a whole file of segments; readers see what is committed. Any
number of processes may write at once: the topic has one partition, so all of them agree on the order, and the last value of an entity wins.
A transaction that fails is given up with its producer; a process that is killed within one holds readers of this topic back for
`TRANSACTION_MS` at most, and what Kafka needs to notice.
Refuses records of other topics. No wait is without a limit.
"""

from __future__ import annotations

import secrets
import threading
import time
from collections.abc import Sequence
from typing import Final, Self

from confluent_kafka import KafkaError, KafkaException, Message, Producer

from broker.errors import BadInputError, LinkError, StoreError
from broker.kafka import KafkaSettings
from broker.kafka_records import encode_log_record
from broker.kafka_topics import API_TRANSACTIONS, REFERENCE, platform_topics
from broker.logrecord import LogRecord
from processors.kafka_admin import KafkaAdmin, admin_options
from processors.kafka_faults import cure_of, telling

SEND_S: Final = 10.0
TRANSACTION_MS: Final = 10_000
_TOPIC: Final = tuple(topic for topic in platform_topics() if topic.name == REFERENCE)
_NOTHING: Final = "; nothing was stored"
_MAY_BE: Final = "; it may be stored all the same: send it again, a change that is there already changes nothing"


class KafkaChanges:
    """The write side. Safe to use from several threads; calls go one after the other."""

    def __init__(self, kafka: KafkaSettings, *, send_s: float = SEND_S) -> None:
        self._kafka = kafka
        self._where = f"kafka {kafka.bootstrap}: the change was not stored"
        self._send_s = send_s
        self._name = f"{API_TRANSACTIONS}{secrets.token_hex(8)}"
        self._lock = threading.Lock()
        self._producer: Producer | None = None
        self._complaint: KafkaError | None = None
        self._offsets: list[int] = []

    def append(self, records: Sequence[LogRecord]) -> int:
        """Store all of `records`, or none; the position of the first: that of the last is exact, others may have come between.

        A position is the offset plus one. StoreError names the cure.
        """
        made = [encode_log_record(record) for record in records]
        if not made or any(record.topic != REFERENCE for record in made):
            raise BadInputError("only changes of reference data are written here", cure="append frames and uploads with KafkaLog")
        with self._lock:
            producer = self._producer or self._begin()
            self._offsets.clear()
            try:
                producer.begin_transaction()
                for topic, key, value, headers in made:
                    self._produce(producer, topic, key, value, headers)
                producer.flush(self._send_s)
                producer.commit_transaction(self._send_s)
            except KafkaException as error:
                self._give_up()
                raise self._failed(error, _MAY_BE) from error
            self._complaint = None
            return max(self._offsets) + 1 - (len(made) - 1)

    def _produce(self, producer: Producer, topic: str, key: bytes, value: bytes, headers: list[tuple[str, bytes]]) -> None:
        until_s = time.monotonic() + self._send_s
        while True:
            try:
                producer.produce(topic, value, key, headers=headers, on_delivery=self._delivered)
            except BufferError as full:
                if time.monotonic() > until_s:
                    self._give_up()
                    raise StoreError(f"{self._where}: no answer in {self._send_s:.0f} s", cure=f"start Kafka again{_MAY_BE}") from full
                producer.poll(0.1)
            else:
                return

    def _begin(self) -> Producer:
        """A producer whose transactions may begin; what an earlier one of this process left open is ended by that."""
        self._look()
        self._complaint = None
        limit_ms = int(self._send_s * 1000)
        producer = Producer({
            **admin_options(self._kafka),
            "client.id": "paceline-api",
            "transactional.id": self._name,
            "transaction.timeout.ms": TRANSACTION_MS,
            "acks": "all",
            "partitioner": "murmur2_random",
            "compression.type": "zstd",
            "linger.ms": 0,
            "message.timeout.ms": min(limit_ms, TRANSACTION_MS),
            "request.timeout.ms": limit_ms // 2,
            "reconnect.backoff.max.ms": 1000,
            "log_level": 0,  # its complaints are in our errors
            "error_cb": self._complained,
        })  # fmt: skip
        try:
            producer.init_transactions(self._send_s)
        except KafkaException as error:
            raise self._failed(error, _NOTHING) from error
        self._producer = producer
        return producer

    def _look(self) -> None:
        """StoreError when the topic is not there, or would lose changes."""
        try:
            differs = KafkaAdmin(self._kafka, reach_s=self._send_s, timeout_s=self._send_s).differences(_TOPIC, 1)
        except (LinkError, BadInputError) as error:
            raise StoreError(f"{self._where}: {error.message}", cure=f"{error.cure}{_NOTHING}") from error
        for change in differs:
            if change.setting in {"", "cleanup.policy"}:
                raise StoreError(f"{self._where}: topic {change.topic}: {change.what}", cure=f"paceline topics apply{_NOTHING}")

    def _failed(self, error: KafkaException, then: str) -> StoreError:
        cause = error.args[0]
        assert isinstance(cause, KafkaError)
        words = cause.str() if self._complaint is None else f"{cause.str()} ({self._complaint.str()})"
        cure = cure_of(self._kafka, cause, self._complaint)
        return StoreError(f"{self._where}: {words}", cure=f"{cure}{then}")

    def _delivered(self, error: KafkaError | None, message: Message) -> None:
        if error is None:
            self._offsets.append(message.offset())

    def _complained(self, error: KafkaError) -> None:
        if telling(error):
            self._complaint = error

    def _give_up(self) -> None:
        """Forget the producer: the next one fences it, and so ends its transaction."""
        producer, self._producer = self._producer, None
        if producer is not None:
            producer.purge()
            producer.flush(0)

    def close(self) -> None:
        """Leave. Nothing is under way: callers have returned, or wait no longer than their limit."""
        with self._lock:
            self._give_up()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_exc: object) -> None:
        self.close()
