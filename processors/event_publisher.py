"""Publishes the outbox to Kafka: every event at least once, the events of a key in order, CloudEvents in binary mode.

The events of one key go one after the other, each when the one before is acknowledged; different keys go side by side. So a send that
fails leaves no later event of its key on the topic before it. After any failure the batch goes again, with the same ids. Every send has a
time limit; a stop waits for no broker.
"""

from __future__ import annotations

import asyncio
import logging
import ssl
from collections.abc import AsyncGenerator, Sequence
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, Protocol

from aiokafka import AIOKafkaProducer
from aiokafka.errors import KafkaError

from broker.errors import BadInputError, LinkError
from broker.events.envelope import decode_structured, encode_kafka
from broker.kafka import KafkaSettings
from broker.kafka_topics import event_topics
from broker.liveness import Part, unwatched
from processors.kafka_admin import KafkaAdmin
from processors.kafka_faults import COPIES, untrusted_server
from processors.publish_cursor import Cursor, found_in, read_cursor, write_cursor
from processors.results_db import OutboxRow, events
from processors.stores import ReadStore

_log = logging.getLogger(__name__)

BATCH: Final = 1_000
SEND_S: Final = 30.0
LOOK_S: Final = 1.0  # a stop waits for no more than it
STOP_S: Final = 2.0  # a producer that is stopped with its broker dead is left behind after this
POLL_S: Final = 0.1
BACK_OFF_S: Final = (0.5, 1.0, 2.0, 5.0, 10.0)


class Producer(Protocol):
    """What is needed of a Kafka producer."""

    async def send_and_wait(self, topic: str, *, value: bytes, key: bytes, headers: Sequence[tuple[str, bytes]]) -> object:
        """Send one record; returns once all in-sync replicas have it."""
        ...


@dataclass(slots=True)
class Published:
    """What was done since the start. `behind` counts events in the outbox that are not published."""

    events: int = 0
    unreadable: int = 0
    failures: int = 0
    behind: int = 0
    last_error: str = ""
    connected: bool = False


class EventPublisher:
    """Follows one outbox."""

    def __init__(self, kafka: KafkaSettings, state: Path, cursor: Path, *, send_s: float = SEND_S, alive: Part | None = None) -> None:
        self._kafka = kafka
        self._state = state
        self._cursor_file = cursor
        self._send_s = send_s
        self._alive = alive or unwatched()
        self.done = Published()

    async def run(self) -> None:
        """Publish until cancelled. What fails is tried again; StoreError when the state or the cursor cannot be read."""
        failures = 0
        while True:
            before = self.done.events
            try:
                async with _producer(self._kafka, self._send_s) as producer:
                    self.done.connected = True
                    self._alive.rest()
                    await self._follow(producer)
            except (KafkaError, LinkError, OSError, TimeoutError) as error:
                failures = 0 if self.done.events > before else failures + 1
                wait_s = BACK_OFF_S[min(failures, len(BACK_OFF_S) - 1)]
                self.done.failures += 1
                self.done.connected = False
                cure = await asyncio.to_thread(_cure, self._kafka)
                self.done.last_error = f"{type(error).__name__}: {error}{cure and f'; cure: {cure}'}"
                _log.warning("events: %s cannot be reached (%s); again in %.1f s", self._kafka.bootstrap, self.done.last_error, wait_s)
                await asyncio.sleep(wait_s)

    async def _follow(self, producer: Producer) -> None:
        while not self._state.exists():  # noqa: ASYNC110 - another process makes it
            await asyncio.sleep(POLL_S)
        opened = self._state.stat().st_ino
        store = await asyncio.to_thread(ReadStore, self._state)
        try:
            at = await asyncio.to_thread(lambda: found_in(store.db, read_cursor(self._cursor_file)))
            while True:
                rows = await asyncio.to_thread(events, store.db, at, BATCH)
                if not rows:
                    self.done.behind = 0
                    if not self._state.exists() or self._state.stat().st_ino != opened:
                        return  # the state was set aside and is made again in another file
                    await asyncio.sleep(POLL_S)
                    continue
                self._alive.work()
                await self.publish(producer, rows)
                self._alive.rest()
                at = rows[-1].seq
                await asyncio.to_thread(write_cursor, self._cursor_file, Cursor(at, rows[-1].id))
                self.done.events += len(rows)
                self.done.behind = len(rows) if len(rows) == BATCH else 0
        finally:
            store.close()

    async def publish(self, producer: Producer, rows: Sequence[OutboxRow]) -> None:
        """Send rows, each key in order; returns once all are acknowledged. One that cannot be read is counted, logged and passed over."""
        lanes: dict[tuple[str, str], list[OutboxRow]] = {}
        for row in rows:
            lanes.setdefault((row.topic, row.key), []).append(row)
        try:
            async with asyncio.TaskGroup() as group:
                for lane in lanes.values():
                    group.create_task(self._lane(producer, lane))
        except BaseExceptionGroup as failed:  # the others were cancelled: all goes again
            raise failed.exceptions[0] from None

    async def _lane(self, producer: Producer, rows: Sequence[OutboxRow]) -> None:
        for row in rows:
            try:
                headers, key, value = encode_kafka(decode_structured(row.body, f"outbox {row.seq}"))
            except BadInputError as error:
                self.done.unreadable += 1
                _log.error("events: %s", error)
                continue
            async with asyncio.timeout(self._send_s):
                await producer.send_and_wait(row.topic, value=value, key=key, headers=headers)


def _cure(kafka: KafkaSettings) -> str:
    """What to do about a send that failed, as far as a look at the cluster tells; empty: it looks well. Takes a second or two."""
    untrusted = untrusted_server(kafka) if kafka.security.endswith("SSL") else ""
    if untrusted:
        return untrusted
    try:
        admin = KafkaAdmin(kafka, reach_s=LOOK_S, timeout_s=LOOK_S)
        admin.look()
    except (LinkError, BadInputError) as error:
        return error.cure
    few = admin.too_few_copies([topic.name for topic in event_topics()])
    return f"{COPIES}: {few}" if few else ""


@asynccontextmanager
async def _producer(kafka: KafkaSettings, send_s: float) -> AsyncGenerator[Producer]:
    """A started producer: idempotent, acknowledged by all in-sync replicas, zstd."""
    producer = AIOKafkaProducer(
        acks="all", enable_idempotence=True, compression_type="zstd", linger_ms=2, request_timeout_ms=int(send_s * 1000),
        **client_options(kafka),
    )  # fmt: skip
    try:
        async with asyncio.timeout(send_s):
            await producer.start()
        yield producer
    finally:
        with suppress(TimeoutError, KafkaError, OSError):
            async with asyncio.timeout(STOP_S):
                await producer.stop()


def client_options(kafka: KafkaSettings) -> dict[str, Any]:
    """Options of any aiokafka client. BadInputError when the CA file cannot be read."""
    options: dict[str, Any] = {"bootstrap_servers": kafka.servers, "security_protocol": kafka.security}
    if kafka.security.startswith("SASL"):
        options |= {
            "sasl_mechanism": kafka.mechanism,
            "sasl_plain_username": kafka.username,
            "sasl_plain_password": kafka.password.get_secret_value(),
        }
    if kafka.security.endswith("SSL"):
        try:
            options["ssl_context"] = ssl.create_default_context(cafile=kafka.cafile or None)
        except OSError as error:
            raise BadInputError(f"kafka.cafile {kafka.cafile}: {error}", cure="name the certificate of your authority") from error
    return options
