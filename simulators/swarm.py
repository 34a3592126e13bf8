"""Hundreds or thousands of simulated nodes over real sockets in one asyncio process, each with its own connection and credential.

One task per node connects, subscribes to its acks and reconnects with back-off and jitter; one task ticks them all. The link faults
of a node's plan are applied here, between node and socket. Time is true time by `clock`: the wall, or a map of it that runs faster.
Invariants: bounded connects under way, no write into a full socket, every wait has a timeout; `stop` leaves no task and no socket
behind.
"""

from __future__ import annotations

import asyncio
import logging
import ssl
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Final

from broker.errors import LinkError
from broker.mqtt_codec import (
    DISCONNECT,
    PINGREQ,
    Connack,
    PacketParser,
    Suback,
    Violation,
    Will,
    encode_connect,
    encode_pubacks,
    encode_publish,
    encode_subscribe,
)
from simulators.device import Message, SimNode
from simulators.faults import FaultPlan, FaultyLink
from simulators.noise import key_of, uniform

log = logging.getLogger(__name__)

Passwords = Mapping[str, str] | str  # by user name, or one for all
_KEEPALIVE_S: Final = 60
_CONNECT_TIMEOUT_S: Final = 10.0
_CONNECTS_AT_ONCE: Final = 64
_TICK_S: Final = 0.02


@dataclass(frozen=True, slots=True)
class Endpoint:
    """Where a broker listens; `tls` None is plain TCP."""

    host: str
    port: int
    tls: ssl.SSLContext | None = None


@dataclass(frozen=True, slots=True)
class SwarmNode:
    """A node, the brokers it may roam between (at first the first), and the faults of its link."""

    node: SimNode
    endpoints: tuple[Endpoint, ...]
    faults: FaultPlan = field(default_factory=FaultPlan)


def wall_us() -> int:
    """UTC now."""
    return time.time_ns() // 1000


def password_of(passwords: Passwords, username: str) -> str:
    """The password of `username`; LinkError when there is none."""
    if isinstance(passwords, str):
        return passwords
    try:
        return passwords[username]
    except KeyError:
        raise LinkError(f"no password for {username}", cure="add the credential and hand its secret to the simulator") from None


class _Connection(asyncio.Protocol):
    """One MQTT connection: handshake, acks in, publishes out."""

    def __init__(self, peer: SwarmNode, password: str, on_message: Callable[[str, bytes], None]) -> None:
        self.ready: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self.closed = asyncio.Event()
        self.writable = True
        self._node = peer.node
        self._password = password
        self._on_message = on_message
        self._parser = PacketParser()
        self._transport: asyncio.Transport | None = None
        self._pid = 0
        self._written_s = 0.0

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self._transport = transport
        name = self._node.who.username
        will = Will(*self._node.state(online=False), qos=1, retain=True)
        self._write(encode_connect(name, name, self._password, clean=True, keepalive=_KEEPALIVE_S, will=will))

    def data_received(self, data: bytes) -> None:
        run = self._parser.feed_publishes(data)
        for event in run.others:
            if isinstance(event, Connack):
                if event.code:
                    self._fail(f"broker refused {self._node.who.username} with code {event.code}", "check user name and password")
                else:
                    self._write(encode_subscribe(1, [(self._node.ack_topic, 1)]))
            elif isinstance(event, Suback):
                if 0x80 in event.codes:
                    self._fail(f"broker refused {self._node.ack_topic}", "check the access rules of the broker")
                elif not self.ready.done():
                    self.publish([self._node.state(online=True)], retain=True)
                    self.ready.set_result(None)
            elif isinstance(event, Violation):
                self._fail(f"broker broke the protocol: {event.detail}", "is this an MQTT 3.1.1 broker?")
        if run.pids:
            self._write(encode_pubacks(run.pids))
        for name, payload in run.messages:
            self._on_message(name.decode(), payload)

    def connection_lost(self, exc: Exception | None) -> None:
        if not self.ready.done():
            self.ready.set_exception(
                LinkError(f"connection of {self._node.who.username} closed in the handshake: {exc or 'by the broker'}")
            )
            self.ready.exception()
        self.closed.set()

    def pause_writing(self) -> None:
        self.writable = False

    def resume_writing(self) -> None:
        self.writable = True

    def publish(self, messages: Sequence[Message], *, retain: bool = False) -> None:
        """Send at QoS 1; the broker's PUBACK says nothing about storage, so nobody waits for it."""
        parts: list[bytes] = []
        for name, payload in messages:
            self._pid = self._pid % 0xFFFF + 1
            parts.append(encode_publish(name, payload, 1, self._pid, retain=retain))
        self._write(b"".join(parts))

    def keep_alive(self, now_s: float) -> None:
        """Ping when nothing was written for half the keep-alive."""
        if now_s - self._written_s > _KEEPALIVE_S / 2:
            self._write(PINGREQ)

    def abort(self) -> None:
        """Close without a word: the broker publishes the will."""
        if self._transport:
            self._transport.abort()

    def leave(self) -> None:
        """Say that we are off, and close in order."""
        if self._transport and not self._transport.is_closing():
            self.publish([self._node.state(online=False)], retain=True)
            self._transport.write(DISCONNECT)
            self._transport.close()

    def _write(self, data: bytes) -> None:
        if self._transport and data and not self._transport.is_closing():
            self._written_s = asyncio.get_running_loop().time()
            self._transport.write(data)

    def _fail(self, message: str, cure: str) -> None:
        if not self.ready.done():
            self.ready.set_exception(LinkError(message, cure=cure))
            self.ready.exception()
        self.abort()


class _Member:
    """A node and its current connection."""

    def __init__(self, peer: SwarmNode, seed: int) -> None:
        self.peer = peer
        self.node = peer.node
        self.link: FaultyLink[Message] = FaultyLink(peer.faults, seed, peer.node.who.username)
        self.connection: _Connection | None = None
        self.moves = peer.node.moves
        self.was_half_open = False
        self.sessions = 0


class Swarm:
    """Runs nodes until told to stop."""

    def __init__(
        self, nodes: Sequence[SwarmNode], passwords: Passwords, *, seed: int = 0, start_us: int, clock: Callable[[], int] = wall_us
    ) -> None:
        self._members = [_Member(peer, seed) for peer in nodes]
        self._passwords = passwords
        self._seed = seed
        self._start_us = start_us
        self._clock = clock
        self._connects = asyncio.Semaphore(_CONNECTS_AT_ONCE)
        self._tasks: list[asyncio.Task[None]] = []
        self._last_error: Exception | None = None
        self.connects = 0

    @property
    def linked(self) -> int:
        """Nodes connected and subscribed now."""
        return sum(member.node.linked for member in self._members)

    @property
    def vanished(self) -> int:
        """Messages the faulty links swallowed."""
        return sum(member.link.vanished for member in self._members)

    @property
    def done(self) -> bool:
        """Every node has made its last frame and owes nothing."""
        return all(member.node.done for member in self._members)

    async def start(self, timeout_s: float = 60.0) -> None:
        """Start, and wait until every node that its faults let was connected once. LinkError, with the broker's answer, when not in
        time."""
        for member in self._members:
            password_of(self._passwords, member.node.who.username)
        self._tasks = [asyncio.create_task(self._serve(member)) for member in self._members]
        self._tasks.append(asyncio.create_task(self._tick_all()))
        deadline_s = asyncio.get_running_loop().time() + timeout_s
        while any(not m.sessions and not m.link.dead(self._time_s()) and m.node.powered for m in self._members):
            self._check()
            if asyncio.get_running_loop().time() > deadline_s:
                await self.stop()
                raise LinkError(
                    f"not all nodes connected in {timeout_s:g} s: {self._last_error}", cure="is the broker up, with these credentials?"
                )
            await asyncio.sleep(_TICK_S)

    async def wait_done(self, timeout_s: float) -> bool:
        """Wait until `done`; False when the time is up."""
        deadline_s = asyncio.get_running_loop().time() + timeout_s
        while not self.done:
            if asyncio.get_running_loop().time() > deadline_s:
                return False
            self._check()
            await asyncio.sleep(_TICK_S)
        return True

    async def stop(self) -> None:
        """Say goodbye on every connection and end all tasks. Safe to call twice."""
        tasks, self._tasks = self._tasks, []
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        open_now = [member.connection for member in self._members if member.connection]
        for connection in open_now:
            connection.leave()
        if open_now:
            await asyncio.wait([asyncio.ensure_future(c.closed.wait()) for c in open_now], timeout=2.0)
        for member in self._members:
            if member.connection:
                member.connection.abort()
                member.connection = None
        await asyncio.sleep(0)

    def _check(self) -> None:
        """Raise what ended one of our tasks: none ends by itself."""
        for task in self._tasks:
            if task.done():
                task.result()

    def _time_s(self) -> float:
        return (self._clock() - self._start_us) / 1e6

    async def _serve(self, member: _Member) -> None:
        """Keep one node connected."""
        failures = 0
        key = key_of(self._seed, "reconnect", member.node.who.username)
        while True:
            if member.link.dead(self._time_s()) or not member.node.powered:
                await asyncio.sleep(_TICK_S)
                continue
            try:
                await self._session(member)
                failures = 0
            except (OSError, TimeoutError, LinkError) as error:
                self._last_error = error
                failures += 1
                log.debug("%s: %s", member.node.who.username, error)
            wait_s = min(0.1 * 2**failures, 5.0)
            await asyncio.sleep(uniform(key, member.sessions + failures, 0.5 * wait_s, wait_s))

    async def _session(self, member: _Member) -> None:
        """One connection from connect to close."""
        endpoint = member.peer.endpoints[member.node.moves % len(member.peer.endpoints)]
        member.moves = member.node.moves
        password = password_of(self._passwords, member.node.who.username)
        connection = _Connection(member.peer, password, lambda name, payload: self._arrived(member, name, payload))
        try:
            async with self._connects, asyncio.timeout(_CONNECT_TIMEOUT_S):
                await asyncio.get_running_loop().create_connection(lambda: connection, endpoint.host, endpoint.port, ssl=endpoint.tls)
                await connection.ready
            member.connection = connection
            member.sessions += 1
            self.connects += 1
            member.node.on_link(up=True)
            await connection.closed.wait()
            member.connection = None
        except BaseException:
            if member.connection is not connection:  # else `stop` closes it in order
                connection.abort()
            raise
        finally:
            if member.node.linked:
                member.node.on_link(up=False)

    def _arrived(self, member: _Member, name: str, payload: bytes) -> None:
        now_s = self._time_s()
        member.link.put(now_s, "down", [(name, payload)])
        self._deliver(member, now_s)

    def _deliver(self, member: _Member, now_s: float) -> None:
        for name, payload in member.link.take(now_s, "down"):
            member.node.on_message(name, payload)

    async def _tick_all(self) -> None:
        loop = asyncio.get_running_loop()
        while True:
            now_us, now_s = self._clock(), loop.time()
            for member in self._members:
                self._tick(member, now_us, now_s)
            await asyncio.sleep(_TICK_S)

    def _tick(self, member: _Member, now_us: int, now_s: float) -> None:
        node, connection = member.node, member.connection
        if connection and not connection.writable:
            return
        time_s = (now_us - self._start_us) / 1e6
        messages = node.tick(now_us)
        if member.peer.faults.faults:
            self._break(member, time_s)
            member.link.put(time_s, "up", messages)
            messages = member.link.take(time_s, "up")
            self._deliver(member, time_s)
        if connection is None or member.connection is None:
            return
        if messages:
            connection.publish(messages)
        else:
            connection.keep_alive(now_s)

    def _break(self, member: _Member, time_s: float) -> None:
        """Close the connection where the plan says so: cut, end of half open, power off, roaming."""
        plan, connection = member.peer.faults, member.connection
        half_open = plan.active("half_open", time_s) is not None
        gone = plan.active("cut", time_s) is not None or not member.node.powered or member.moves != member.node.moves
        if connection and (gone or (member.was_half_open and not half_open)):
            connection.abort()
            member.connection = None
        member.was_half_open = half_open
