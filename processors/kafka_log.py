"""The log on Kafka, its write side: records to their topics, dead letters to theirs, durable in every copy that must have it before
`append` returns.

One producer of librdkafka: idempotent, acks of all in-sync copies, keys placed by murmur2. An append hands all its records over and
waits for all of them at once. Before the first one, and each minute, the topics are looked at: ones that would lose or disorder records
(compacted, other partitions, too few copies) are refused, and nothing is written until they are right.
Invariants: what `append` returned for survives the loss of all machines but as many as the topic says; no wait is without a limit; `close`
ends an append that waits, at once.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Iterable, Sequence
from itertools import chain
from typing import Final, Self

from confluent_kafka import KafkaError, KafkaException, Producer

from broker.errors import BadInputError, LinkError, StoreError
from broker.kafka import KafkaSettings
from broker.kafka_records import Produced, encode_log_records
from broker.kafka_topics import DEAD, FRAMES, REFERENCE, platform_topics
from broker.logrecord import LogRecord
from processors.accept import DeadLetter
from processors.collector import waiting_collector
from processors.kafka_admin import UNREACHED_CURE, Change, KafkaAdmin, admin_options
from processors.kafka_dead import encode_dead
from processors.kafka_faults import WAITING, not_stored, telling
from processors.log import in_order

SEND_S: Final = 20.0  # longer than a cluster takes to choose another leader
CHECK_S: Final = 60.0
_REACH_S: Final = 2.0  # of one look at the topics: a stop waits for no more than it
_LOOK_S: Final = 10.0
_SLICE_S: Final = 0.2
_LATE_S: Final = 5.0  # beyond the limit of each record: the client tells of all of them by then
_WRITTEN: Final = tuple(topic for topic in platform_topics() if topic.name in {FRAMES, DEAD, REFERENCE})
_BUFFER_RECORDS: Final = 1_000_000  # an append is a few MB; a record that finds no room waits for one that leaves
_BUFFER_KB: Final = 64 * 1024


class KafkaLog:
    """The write side of the log on one cluster. Safe to use from several threads; appends go one after the other."""

    def __init__(self, kafka: KafkaSettings, *, send_s: float = SEND_S, check_s: float = CHECK_S) -> None:
        if not kafka.bootstrap:
            raise BadInputError("kafka.bootstrap is empty", cure="give host:port of a broker, or PACELINE_KAFKA__BOOTSTRAP")
        self._kafka = kafka
        self._send_s, self._check_s = send_s, check_s
        self._lock = threading.Lock()
        self._closing = threading.Event()
        self._admin: KafkaAdmin | None = None
        self._checked_at: float | None = None
        self._producer: Producer | None = None
        self._complaint: KafkaError | None = None
        self._failed: list[KafkaError] = []
        self._last_us = 0

    def check(self) -> None:
        """Look at the topics this writes to. StoreError when Kafka cannot be reached, or when records would not be safe there."""
        with self._lock:
            self._check()

    def append(self, records: Sequence[LogRecord], dead: Sequence[DeadLetter] = ()) -> None:
        """See `Appender.append`. Times never go back within this process."""
        with self._lock:
            self._stop_when_closing()
            if self._checked_at is None or time.monotonic() - self._checked_at > self._check_s:
                self._check()
            ordered = in_order(records, self._last_us)
            if ordered:
                self._last_us = ordered[-1].appended_us
            self._send(chain(encode_log_records(ordered), map(encode_dead, dead)), len(ordered) + len(dead))

    def close(self) -> None:
        """End what is under way (its `append` raises) and leave. Takes at most a few seconds, Kafka or not."""
        self._closing.set()
        with self._lock:
            self._leave()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_exc: object) -> None:
        self.close()

    def _check(self) -> None:
        try:
            changes = self._differences()
        except BadInputError as error:
            self._checked_at = None
            raise StoreError(f"kafka {self._kafka.bootstrap}: {error.message}", cure=error.cure + WAITING) from error
        except LinkError as error:
            if self._checked_at is None:
                raise StoreError(error.message, cure=error.cure + WAITING) from error
            changes = []  # they were right; whether Kafka is there the sends will tell
        harm = next(filter(_harms, changes), None)
        if harm is not None:
            self._checked_at = None
            raise self._wrong(harm)
        self._checked_at = time.monotonic()

    def _differences(self) -> list[Change]:
        """In looks of two seconds, so that a stop is never far: a cluster that starts, or has much to do, answers one of the next."""
        self._admin = self._admin or KafkaAdmin(self._kafka, reach_s=_REACH_S, timeout_s=_REACH_S)
        until_s = time.monotonic() + _LOOK_S
        while True:
            self._stop_when_closing()
            try:
                return self._admin.differences(_WRITTEN, 1)
            except LinkError as error:
                if self._checked_at is not None or error.cure != UNREACHED_CURE or time.monotonic() > until_s:
                    raise

    def _wrong(self, harm: Change) -> StoreError:
        user = self._kafka.username
        seen = f"; if it is there, let {user} see it: --writer {user}" if user and not harm.setting else ""
        what = f"is {harm.found} and must be {harm.wanted}" if harm.setting else "is missing"
        words = f"topic {harm.topic}: {harm.setting} {what}" if harm.setting else f"topic {harm.topic} {what}"
        return StoreError(f"kafka {self._kafka.bootstrap}: {words}", cure=f"paceline topics apply{seen}{WAITING}")

    def _send(self, records: Iterable[Produced], count: int) -> None:
        """Hand all over, wait for all; StoreError when one of them was not stored."""
        producer = self._producer or self._begin()
        self._failed.clear()
        until_s = time.monotonic() + self._send_s + _LATE_S
        produce, delivered = producer.produce, self._delivered
        try:
            with waiting_collector():
                for topic, key, value, headers in records:
                    try:
                        produce(topic, value, key, headers=headers, on_delivery=delivered)
                    except BufferError:
                        self._produce_late(producer, (topic, key, value, headers), until_s)
            while producer.flush(_SLICE_S):
                self._stop_when_closing()
                self._stop_when_late(until_s)
        except KafkaException as error:
            self._leave()
            raise not_stored(self._kafka, f"{count} records not stored", _cause(error), self._complaint) from error
        except StoreError:
            self._leave()
            raise
        if self._failed:
            first = self._failed[0]
            if any(error.fatal() for error in self._failed):
                self._leave()
            few = self._too_few_copies() if first.name() == "_MSG_TIMED_OUT" else ""
            raise not_stored(self._kafka, f"{len(self._failed)} of {count} records not stored", first, self._complaint, few)
        self._complaint = None

    def _too_few_copies(self) -> str:
        """Why time ran out, when that is because copies are missing; a stop that is asked for does not wait for this."""
        if self._admin is None or self._closing.is_set():
            return ""
        return self._admin.too_few_copies([topic.name for topic in _WRITTEN])

    def _produce_late(self, producer: Producer, record: Produced, until_s: float) -> None:
        """The buffer of the client is full: wait for a place in it."""
        topic, key, value, headers = record
        while True:
            try:
                producer.poll(_SLICE_S)
                self._stop_when_closing()
                self._stop_when_late(until_s)
                producer.produce(topic, value, key, headers=headers, on_delivery=self._delivered)
            except BufferError:
                continue
            else:
                return

    def _begin(self) -> Producer:
        limit_ms = int(self._send_s * 1000)
        self._complaint = None
        self._producer = Producer({
            **admin_options(self._kafka),
            "client.id": "paceline-ingest",
            "acks": "all",
            "enable.idempotence": True,
            "partitioner": "murmur2_random",
            "compression.type": self._kafka.compression,
            "linger.ms": 5,
            "message.timeout.ms": limit_ms,
            "request.timeout.ms": limit_ms // 2,
            "reconnect.backoff.max.ms": 1000,
            "queue.buffering.max.messages": _BUFFER_RECORDS,
            "queue.buffering.max.kbytes": _BUFFER_KB,
            "delivery.report.only.error": True,
            "log_level": 0,  # its complaints are in our errors
            "error_cb": self._complained,
        })  # fmt: skip
        return self._producer

    def _leave(self) -> None:
        """Forget the producer and what it still holds."""
        producer, self._producer = self._producer, None
        if producer is not None:
            producer.purge()
            producer.flush(0)

    def _stop_when_closing(self) -> None:
        if self._closing.is_set():
            raise StoreError(f"kafka {self._kafka.bootstrap}: stopped while records were on their way", cure="start again" + WAITING)

    def _stop_when_late(self, until_s: float) -> None:
        if time.monotonic() > until_s:
            raise StoreError(f"kafka {self._kafka.bootstrap}: no answer in {self._send_s:.0f} s", cure="start Kafka again" + WAITING)

    def _delivered(self, error: KafkaError | None, _message: object) -> None:
        if error is not None:
            self._failed.append(error)

    def _complained(self, error: KafkaError) -> None:
        if telling(error):
            self._complaint = error


def _cause(error: KafkaException) -> KafkaError:
    cause = error.args[0]
    assert isinstance(cause, KafkaError)
    return cause


def _harms(change: Change) -> bool:
    """Whether what differs loses or disorders records; how long they are kept is the operator's word."""
    if change.setting in {"max.message.bytes", "min.insync.replicas"}:
        return int(change.found) < int(change.wanted)
    return change.setting in {"", "cleanup.policy"}
