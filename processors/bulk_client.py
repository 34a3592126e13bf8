"""A bulk MQTT 3.1.1 client: runs of messages out of 256 KB reads, acknowledged only when the consumer says so. The shell of the codec.

One `BulkClient` keeps one session alive: connect, subscribe, hand over runs, reconnect with jitter, detect a half-open link by silence.
Back-pressure: beyond `buffer_bytes` of runs not yet settled it stops reading, so the broker keeps the rest. A run belongs to the connection
it came over: settled after that one died, its PUBACKs are dropped, and the broker delivers the messages again.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import random
import ssl
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

from broker import mqtt_codec as mqtt
from broker.cancellation import in_own_task
from broker.errors import LinkError
from broker.tls_faults import cure_of_tls, tls_error_in

log = logging.getLogger(__name__)

_READ_BYTES: Final = 256 * 1024
_MAX_UNSENT_BYTES: Final = 8 * 1024 * 1024
_CONNECT_S: Final = 10.0


@dataclass(frozen=True, slots=True)
class BulkSettings:
    """Where and as whom to connect. The client id is the user name; the session persists at the broker unless `clean`."""

    host: str
    port: int
    username: str
    password: str
    tls: ssl.SSLContext | Callable[[], ssl.SSLContext] | None = None  # a function is asked at each connection: certificates are renewed
    trusted: str = "give ingest the certificate of the one it is of"  # what to do about a broker that is not believed
    clean: bool = False
    keepalive_s: int = 20
    qos: int = 1
    buffer_bytes: int = 16 * 1024 * 1024
    packet_limit: int = 256 * 1024
    retry_min_s: float = 0.2
    retry_max_s: float = 10.0


class Connection(asyncio.BufferedProtocol):
    """One TCP connection. Made by `BulkClient`; consumers only hand it back with the run they settle."""

    def __init__(self, settings: BulkSettings, on_run: Callable[[Connection, mqtt.Run, int], None]) -> None:
        self._settings = settings
        self._on_run = on_run
        self._buffer = bytearray(_READ_BYTES)
        self._view = memoryview(self._buffer)
        self._parser = mqtt.PacketParser(settings.packet_limit)
        self._transport: asyncio.Transport | None = None
        self._unsettled_bytes = 0
        self._paused = False
        self._loop = asyncio.get_running_loop()
        self._next_pid = 0
        self._suback_pids: set[int] = set()
        self._acks: dict[int, asyncio.Future[None]] = {}
        self.heard_at = self._loop.time()
        self.connack: asyncio.Future[mqtt.Connack] = self._loop.create_future()
        self.subscribed = asyncio.Event()
        self.closed: asyncio.Future[str] = self._loop.create_future()
        self.failure: Exception | None = None  # what closed it, when that was no word of MQTT

    @property
    def alive(self) -> bool:
        return self._transport is not None and not self._transport.is_closing() and not self.closed.done()

    @property
    def paused(self) -> bool:
        """Whether reading is stopped until runs are settled."""
        return self._paused

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self._transport = transport
        s = self._settings
        self.send(mqtt.encode_connect(s.username, s.username, s.password, clean=s.clean, keepalive=s.keepalive_s))

    def get_buffer(self, sizehint: int) -> memoryview:  # noqa: ARG002 - the protocol's signature
        return self._view

    def buffer_updated(self, nbytes: int) -> None:
        self.heard_at = self._loop.time()
        run = self._parser.feed_publishes(bytes(self._view[:nbytes]))
        for event in run.others:
            self._other(event)
        for pid in run.acked:
            future = self._acks.pop(int.from_bytes(pid), None)
            if future is not None and not future.done():
                future.set_result(None)
        if run.messages or run.oversized:
            size = sum(len(payload) for _, payload in run.messages) + 64 * len(run.messages)
            self._unsettled_bytes += size
            if self._unsettled_bytes > self._settings.buffer_bytes and not self._paused and self._transport is not None:
                self._paused = True
                self._transport.pause_reading()
            self._on_run(self, run, size)

    def settle(self, pids: list[bytes], size: int, messages: bytes = b"") -> None:
        """Acknowledge the messages of a run to the broker and send `messages` before. Does nothing once the connection is gone."""
        self._unsettled_bytes -= size
        if not self.alive or self._transport is None:
            return
        if messages or pids:
            self.send(messages + mqtt.encode_pubacks(pids))
        if self._paused and self._unsettled_bytes <= self._settings.buffer_bytes // 2:
            self._paused = False
            self.heard_at = self._loop.time()
            self._transport.resume_reading()

    def send(self, data: bytes) -> None:
        """Write; a peer that takes nothing any more (8 MB unsent) is dropped."""
        if self._transport is None or self._transport.is_closing():
            return
        self._transport.write(data)
        if self._transport.get_write_buffer_size() > _MAX_UNSENT_BYTES:
            self.drop("the broker reads no more")

    def subscribe(self, filters: list[tuple[str, int]]) -> None:
        """Subscribe; `subscribed` is set once all were granted, a refusal drops the connection."""
        pid = self._pid()
        self._suback_pids.add(pid)
        self.subscribed.clear()
        self.send(mqtt.encode_subscribe(pid, filters))

    def publish(self, topic: str, payload: bytes, *, retain: bool) -> asyncio.Future[None]:
        """Publish at QoS 1; the future is done when the broker has taken it."""
        pid = self._pid()
        future: asyncio.Future[None] = self._loop.create_future()
        self._acks[pid] = future
        self.send(mqtt.encode_publish(topic, payload, 1, pid, retain=retain))
        return future

    def drop(self, why: str) -> None:
        """Close at once and say why."""
        if not self.closed.done():
            self.closed.set_result(why)
        if self._transport is not None:
            self._transport.abort()

    def leave(self) -> None:
        """Close in order: what was written is sent first."""
        if self._transport is not None and not self._transport.is_closing():
            self._transport.write(mqtt.DISCONNECT)
            self._transport.close()

    def connection_lost(self, exc: Exception | None) -> None:
        self.failure = exc
        if not self.closed.done():
            self.closed.set_result(str(exc) if exc else "the broker closed the connection")
        if not self.connack.done():
            self.connack.cancel()
        for future in self._acks.values():
            if not future.done():
                future.cancel()
        self._acks.clear()

    def _pid(self) -> int:
        while True:
            self._next_pid = self._next_pid % 0xFFFF + 1
            if self._next_pid not in self._acks:
                return self._next_pid

    def _other(self, event: mqtt.Event) -> None:
        match event:
            case mqtt.Connack():
                if not self.connack.done():
                    self.connack.set_result(event)
            case mqtt.Suback(pid=pid, codes=codes):
                self._suback_pids.discard(pid)
                if any(code > 2 for code in codes):
                    self.drop("the broker refused a subscription: the credential lacks the right")
                elif not self._suback_pids:
                    self.subscribed.set()
            case mqtt.Violation(detail=detail):
                self.drop(f"protocol violation: {detail}")
            case _:
                pass


class BulkClient:
    """Keeps a session to one broker alive until its `run` is cancelled."""

    def __init__(
        self,
        settings: BulkSettings,
        filters: list[str],
        on_run: Callable[[Connection, mqtt.Run, int], None],
        *,
        jitter: random.Random | None = None,
    ) -> None:
        self._settings = settings
        self._filters = list(filters)
        self._on_run = on_run
        self._jitter = jitter or random.Random()
        self.connection: Connection | None = None
        self.ready = asyncio.Event()
        self.connects = 0
        self.last_error = ""

    async def run(self) -> None:
        """Connect, serve, reconnect. Ends only by cancellation, then leaves in order."""
        delay_s = self._settings.retry_min_s
        loop = asyncio.get_running_loop()
        while True:
            started_at = loop.time()
            try:
                await in_own_task(self._session())
            except (OSError, LinkError, TimeoutError) as error:
                if loop.time() - started_at > self._settings.retry_max_s:  # two ingests of one credential oust each other ever more slowly
                    delay_s = self._settings.retry_min_s
                self.last_error = str(error) or f"no answer within {_CONNECT_S:.0f} s"
                if (tls := tls_error_in(error)) is not None:
                    where = f"{self._settings.host}:{self._settings.port}"
                    self.last_error += f"; cure: {cure_of_tls(tls, where, self._settings.trusted)}"
                log.warning("broker %s:%d: %s; again in %.1f s", self._settings.host, self._settings.port, self.last_error, delay_s)
            finally:
                self.ready.clear()
                self.connection = None
            await asyncio.sleep(delay_s * (0.5 + self._jitter.random()))
            delay_s = min(2 * delay_s, self._settings.retry_max_s)

    def add_filter(self, name: str) -> None:
        """Subscribe to one more filter, now and after every reconnect."""
        if name not in self._filters:
            self._filters.append(name)
            if self.connection is not None:
                self.connection.subscribe([(name, self._settings.qos)])

    async def publish(self, topic: str, payload: bytes, *, retain: bool = False, timeout_s: float = 10.0) -> None:
        """Publish at QoS 1 and wait for the broker to take it. LinkError when there is no link or no answer in time."""
        try:
            async with asyncio.timeout(timeout_s):
                await self.ready.wait()
                connection = self.connection
                if connection is not None:
                    await asyncio.shield(connection.publish(topic, payload, retain=retain))
                    return
        except TimeoutError:
            pass
        except asyncio.CancelledError:
            task = asyncio.current_task()
            if task is not None and task.cancelling():
                raise
        raise LinkError(f"topic {topic}: not taken by the broker ({self.last_error})", cure="check that the broker runs; publish again")

    async def _session(self) -> None:
        s = self._settings
        loop = asyncio.get_running_loop()
        tls = s.tls() if callable(s.tls) else s.tls
        async with asyncio.timeout(_CONNECT_S):
            _, connection = await loop.create_connection(lambda: Connection(s, self._on_run), s.host, s.port, ssl=tls)
        try:
            try:
                async with asyncio.timeout(_CONNECT_S):
                    answer = await asyncio.shield(connection.connack)
            except asyncio.CancelledError:
                task = asyncio.current_task()
                if task is not None and not task.cancelling():
                    raise LinkError(f"no answer to CONNECT: {connection.closed.result()}") from connection.failure
                raise
            if answer.code:
                cure = "check the password of the credential" if answer.code in (4, 5) else "see the broker's log"
                raise LinkError(f"user {s.username}: refused with code {answer.code}", cure=cure)
            self.connects += 1
            self.connection = connection
            connection.subscribe([(name, s.qos) for name in self._filters])
            await self._serve(connection)
        finally:
            await self._close(connection)

    async def _serve(self, connection: Connection) -> None:
        """Watch over the link: ping when idle, give up on silence. While paused nothing can be heard, so only the ping is sent."""
        loop = asyncio.get_running_loop()
        period_s = self._settings.keepalive_s / 4
        pinged_at = loop.time()
        while True:
            watch = [connection.closed] if self.ready.is_set() else [connection.closed, asyncio.ensure_future(connection.subscribed.wait())]
            await asyncio.wait(watch, timeout=period_s, return_when=asyncio.FIRST_COMPLETED)
            for extra in watch[1:]:
                extra.cancel()
            if connection.closed.done():
                raise LinkError(connection.closed.result()) from connection.failure
            if connection.subscribed.is_set():
                self.ready.set()
            now = loop.time()
            if not connection.paused and now - connection.heard_at > self._settings.keepalive_s:
                connection.drop("half-open")
                raise LinkError(f"nothing heard for {self._settings.keepalive_s} s, though asked")
            if now - pinged_at >= 2 * period_s:
                pinged_at = now
                connection.send(mqtt.PINGREQ)

    async def _close(self, connection: Connection) -> None:
        connection.leave()
        done, _ = await asyncio.wait([connection.closed], timeout=0.5)
        if not done:
            connection.drop("closed")
        with contextlib.suppress(asyncio.CancelledError):
            if not connection.connack.done():
                connection.connack.cancel()
