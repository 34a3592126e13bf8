"""Ingest: messages of the nodes -> the log, then acks. The shell around `accept`; it keeps no state of its own.

Received runs wait in one bounded list; a worker thread turns all that wait into one durable append, and what arrives meanwhile is the next
batch (group commit that adapts to the load). Acks and PUBACKs leave only after the append has returned. An append that fails (disk full,
Kafka away) is an alarm and is tried again: nothing is acknowledged, reading stops when the buffer is full, and the broker and the nodes
keep the rest. A broker that ends a link which reads no more, and is connected to again, adds nothing to what is held.
"""

from __future__ import annotations

import asyncio
import logging
import random
from collections import Counter, OrderedDict, deque
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Final

from broker import mqtt_codec as mqtt
from broker.errors import StoreError
from broker.faultpoints import hit
from broker.liveness import Part, unwatched
from broker.logrecord import LogRecord
from broker.topics import ROOT, UP_FILTERS, Address, parse_topic
from processors.accept import UP_LEAVES, Accepted, DeadLetter, accept, merged_acks
from processors.bulk_client import BulkClient, BulkSettings, Connection
from processors.collector import waiting_collector
from processors.log import Appender
from processors.wall import wall_us

log = logging.getLogger(__name__)

BATCH_BYTES: Final = 4 * 1024 * 1024
_RETRY_S: Final = (0.1, 0.2, 0.5, 1.0, 2.0)
_TOPICS_KEPT: Final = 100_000
OnMessage = Callable[[Address, bytes], None]


@dataclass(slots=True)
class IngestStats:
    """Counters since the start. `refused` by reason counts what arrived refused, repeats included; the dead letters count each row once."""

    messages: int = 0
    frames: int = 0
    bytes: int = 0
    batches: int = 0
    unknown_layouts: int = 0
    append_errors: int = 0
    alarm: str = ""
    refused: Counter[str] = field(default_factory=Counter[str])


@dataclass(frozen=True, slots=True)
class _Pending:
    connection: Connection
    run: mqtt.Run
    size: int


@dataclass(frozen=True, slots=True)
class _Batch:
    """What one durable append holds, and what is due to the senders after it."""

    pending: list[_Pending]
    records: list[LogRecord]
    dead: list[DeadLetter]
    acks: list[tuple[str, bytes]]
    messages: int
    unknown_layouts: int


class IngestService:
    """One ingest process. `await run()` until cancelled; one instance at a time a credential (the broker ends the older session).

    Several with credentials of their own and the same `share` divide what the nodes send; which of them acknowledges is all the same.
    """

    def __init__(
        self,
        settings: BulkSettings,
        to: Appender,
        *,
        clock_us: Callable[[], int] = wall_us,
        jitter: random.Random | None = None,
        share: str = "",
        alive: Part | None = None,
    ) -> None:
        self._alive = alive or unwatched()
        self._log = to
        self._clock_us = clock_us
        self._waiting: deque[_Pending] = deque()
        self._heard: Connection | None = None
        self._wake = asyncio.Event()
        self._listeners: dict[str, OnMessage] = {}
        self._addresses: OrderedDict[bytes, tuple[str, Address | None]] = OrderedDict()
        filters = [f"$share/{share}/{name}" if share else name for name in UP_FILTERS]
        self._client = BulkClient(settings, filters, self._on_run, jitter=jitter)
        self.stats = IngestStats()

    @property
    def ready(self) -> asyncio.Event:
        """Set while connected and subscribed."""
        return self._client.ready

    @property
    def connects(self) -> int:
        """How often a connection was accepted by the broker."""
        return self._client.connects

    @property
    def trouble(self) -> str:
        """What keeps it from acknowledging: the log, else the link; empty when nothing does."""
        return self.stats.alarm or ("" if self.ready.is_set() else self._client.last_error or "not connected yet")

    async def run(self) -> None:
        """Serve until cancelled; what is being appended is finished, what waits unacknowledged is left to the broker."""
        async with asyncio.TaskGroup() as group:
            group.create_task(self._client.run())
            group.create_task(self._consume())

    async def publish(self, topic: str, payload: bytes, *, retain: bool = False, timeout_s: float = 10.0) -> None:
        """Publish for the platform (`cfg`, `cmd`), QoS 1. LinkError when the broker did not take it in time."""
        await self._client.publish(topic, payload, retain=retain, timeout_s=timeout_s)

    def listen(self, leaf: str, callback: OnMessage) -> None:
        """Call `callback(address, payload)` for every message on `pl/1/+/+/{leaf}` (`state`, `rsp`), retained ones at each connect."""
        self._listeners[leaf] = callback
        self._client.add_filter(f"{ROOT}/+/+/{leaf}")

    def _on_run(self, connection: Connection, run: mqtt.Run, size: int) -> None:
        if connection is not self._heard:  # a new link: what waits of those before it the broker, or the node, sends again
            self._heard = connection
            self._waiting = deque(pending for pending in self._waiting if pending.connection.alive)
        self._waiting.append(_Pending(connection, run, size))
        self._wake.set()

    async def _consume(self) -> None:
        while True:
            await self._wake.wait()
            self._wake.clear()
            while self._waiting:
                self._alive.beat()
                taken = self._take()
                for pending in taken:
                    self._dispatch(pending.run)
                batch = await asyncio.to_thread(self._prepare, taken)
                await self._append(batch)
                self._settle(batch)
            self._alive.rest()

    def _take(self) -> list[_Pending]:
        """Everything that waits, up to the batch limit; at least one run."""
        taken: list[_Pending] = []
        size = 0
        while self._waiting and size < BATCH_BYTES:
            taken.append(self._waiting.popleft())
            size += taken[-1].size
        return taken

    def _dispatch(self, run: mqtt.Run) -> None:
        """Messages that are not data go to their listener; a listener that fails costs only its message."""
        if not self._listeners:
            return
        for raw_topic, payload in run.messages:
            _, address = self._address(raw_topic)
            listener = self._listeners.get(address.leaf) if address is not None else None
            if listener is not None and address is not None:
                try:
                    listener(address, payload)
                except Exception:
                    log.exception("topic %s: the listener failed", raw_topic.decode("utf-8", "replace"))

    def _address(self, raw: bytes) -> tuple[str, Address | None]:
        known = self._addresses.get(raw)
        if known is None:
            name = raw.decode("utf-8", "replace")
            known = self._addresses[raw] = (name, parse_topic(name))
            if len(self._addresses) > _TOPICS_KEPT:
                self._addresses.popitem(last=False)
        return known

    def _prepare(self, taken: list[_Pending]) -> _Batch:
        """Check every message of the runs (worker thread)."""
        now_us = self._clock_us()
        accepted = Accepted()
        messages = 0
        with waiting_collector():
            for pending in taken:
                for raw_topic, payload in pending.run.messages:
                    name, address = self._address(raw_topic)
                    if address is None or address.leaf in UP_LEAVES:
                        accept(name, payload, now_us, into=accepted)
                        messages += 1
                for raw_topic, prefix, length in pending.run.oversized:
                    accept(self._address(raw_topic)[0], prefix, now_us, length=length, into=accepted)
                    messages += 1
        return _Batch(taken, accepted.records, accepted.dead, merged_acks([accepted]), messages, accepted.unknown_layouts)

    async def _append(self, batch: _Batch) -> None:
        """Make the batch durable, however often it takes."""
        hit("ingest.before_append")
        tries = 0
        while batch.records or batch.dead:
            try:
                await asyncio.to_thread(self._log.append, batch.records, batch.dead)
            except StoreError as error:
                self.stats.append_errors += 1
                self._alive.beat()
                if not self.stats.alarm:
                    log.error("nothing is acknowledged until the log can be written: %s", error)  # noqa: TRY400 - no traceback a retry
                self.stats.alarm = error.message
                await asyncio.sleep(_RETRY_S[min(tries, len(_RETRY_S) - 1)])
                tries += 1
            else:
                break
        self.stats.alarm = ""
        hit("ingest.after_append")

    def _settle(self, batch: _Batch) -> None:
        """Acks to the nodes over the link of now, PUBACKs to the broker over the link each run came by."""
        stats = self.stats
        stats.messages += batch.messages
        stats.frames += len(batch.records)
        stats.unknown_layouts += batch.unknown_layouts
        stats.batches += 1
        stats.refused.update(str(letter.reason) for letter in batch.dead)
        if self._client.connection is not None and batch.acks:
            self._client.connection.send(b"".join(mqtt.encode_publish(name, payload) for name, payload in batch.acks))
        for pending in batch.pending:
            stats.bytes += pending.size
            pending.connection.settle(pending.run.pids, pending.size)
        hit("ingest.after_ack")
