"""Who gets in: every connection's CONNECT is read and judged here, before amqtt knows of it.

A stranger, a client id that is not the user name, or a will to a foreign topic is answered with a CONNACK and never touches a session, so
it cannot end one. A second connection of a credential ends the first completely, then is admitted. After that amqtt reads through
`PacketReader`, which hands it whole packets only; one that is too large, QoS 2 or malformed closes the connection.
"""

from __future__ import annotations

import asyncio
import logging
from collections import Counter, OrderedDict
from typing import Final

from amqtt.adapters import BufferReader, ReaderAdapter, StreamWriterAdapter
from amqtt.errors import AMQTTError, MQTTError, NoDataError
from amqtt.mqtt.connack import (
    CONNECTION_ACCEPTED,
    IDENTIFIER_REJECTED,
    NOT_AUTHORIZED,
    SERVER_UNAVAILABLE,
    UNACCEPTABLE_PROTOCOL_VERSION,
)
from amqtt.mqtt.connect import ConnectPacket

from broker.amqtt_router import LISTENER, Router
from broker.credentials import Verifier, read_passwords
from broker.embedded import EmbeddedSettings
from broker.errors import ConfigError
from broker.topics import may_publish

_log = logging.getLogger(__name__)
_CONNECT: Final = 1
_PUBLISH: Final = 3
_MQTT_3_1_1: Final = 4
_KEEPALIVE_GRACE: Final = 1.5  # MQTT 3.1.1, 3.1.2.10
_CLOSE_TIMEOUT_S: Final = 10.0
_MAX_BACKLOG: Final = 64
_MAX_RUN: Final = 32  # packets of one connection in a row; one acknowledgement a turn would starve a busy subscriber
_LOCKS: Final = 4096


class PacketError(Exception):
    """A packet this broker does not take; its connection is closed."""


class PacketReader(ReaderAdapter):
    """Whole MQTT packets of one connection, read by amqtt in pieces."""

    def __init__(self, stream: asyncio.StreamReader, max_packet_bytes: int) -> None:
        self._stream = stream
        self._limit = max_packet_bytes
        self._packet: bytes = b""
        self._at: int = 0
        self._run = 0
        self._router: Router | None = None
        self._client_id = ""
        self.heard_s = asyncio.get_running_loop().time()
        self.fault = ""

    async def next_packet(self) -> bytes:
        """The next packet with its header. PacketError when it must not be taken, IncompleteReadError at the end of the stream."""
        head = await self._stream.readexactly(2)
        if (head[0] >> 4 == _CONNECT) is not (self._router is None):
            raise PacketError("the first packet, and only the first, must be CONNECT")
        length, shift = head[1] & 0x7F, 7
        while head[-1] & 0x80:
            if shift > 21:
                raise PacketError("length of more than four bytes")
            head += await self._stream.readexactly(1)
            length |= (head[-1] & 0x7F) << shift
            shift += 7
        self.heard_s = asyncio.get_running_loop().time()
        if length > self._limit:
            raise PacketError(f"packet of {length} bytes, at most {self._limit}")
        if head[0] >> 4 == _PUBLISH and head[0] & 0x04:
            raise PacketError("QoS 2 is not served here")
        body = await self._stream.readexactly(length) if length else b""
        self.heard_s = asyncio.get_running_loop().time()
        return head + body

    def replay(self, packet: bytes, router: Router, client_id: str) -> None:
        """Let amqtt read `packet` first, then the stream."""
        self._packet, self._at = packet, 0
        self._router, self._client_id = router, client_id

    async def read(self, n: int = -1) -> bytes:
        """Exactly `n` bytes of the packet under way, or of the next one; b"" at the end."""
        if self._at == len(self._packet):
            try:
                await self._room()
                self._packet = await self.next_packet()
            except (asyncio.IncompleteReadError, OSError):
                await asyncio.sleep(0)  # amqtt starts a task a packet, and at the end cancels those not yet begun, a DISCONNECT among them
                return b""
            except PacketError as error:
                self.fault = str(error)
                return b""
            self._at = 0
        if n < 0 or self._at + n > len(self._packet):
            self.fault = "a field longer than its packet"
            raise PacketError(self.fault)
        piece = self._packet[self._at : self._at + n]
        self._at += n
        return piece

    def feed_eof(self) -> None:
        """End the stream."""
        self._stream.feed_eof()

    async def _room(self) -> None:
        """Give way to other connections now and then, and do not read on while messages wait to be routed: TCP then holds it back."""
        self._run += 1
        if self._run >= _MAX_RUN:
            self._run = 0
            await asyncio.sleep(0)
        while self._router is not None and self._router.backlog(self._client_id) >= _MAX_BACKLOG:  # noqa: ASYNC110 - turns route them
            await asyncio.sleep(0)


class _Connection:
    """One open socket."""

    def __init__(self, stream: asyncio.StreamReader, writer: asyncio.StreamWriter, max_packet_bytes: int) -> None:
        self.reader = PacketReader(stream, max_packet_bytes)
        self.writer = writer
        self.peer = str(writer.get_extra_info("peername"))
        self.keepalive_s = 0
        self.done = asyncio.Event()

    def abort(self) -> None:
        self.writer.transport.abort()


async def _parse_connect(packet: bytes) -> ConnectPacket:
    try:
        return await ConnectPacket.from_stream(BufferReader(packet))
    except Exception as error:  # amqtt raises what its struct formats raise
        raise PacketError(f"CONNECT cannot be read: {type(error).__name__}") from error


class Gate:
    """Accepts connections, admits or refuses them, and ends them. Counts are kept in `counts`."""

    def __init__(self, settings: EmbeddedSettings) -> None:
        self.counts: Counter[str] = Counter()
        self._settings = settings
        self._verifier = Verifier(settings.password_file)
        self._router = Router(settings, self.counts)
        self._open: set[_Connection] = set()
        self._users: dict[str, _Connection] = {}
        self._locks: OrderedDict[str, asyncio.Lock] = OrderedDict()
        self._closing = False

    async def open(self) -> None:
        """Start routing. ConfigError when the password file cannot be read."""
        read_passwords(self._settings.password_file)
        await self._router.start()

    async def watch(self) -> None:
        """Until cancelled: cut connections that are silent for longer than one and a half keepalives (half-open links)."""
        loop = asyncio.get_running_loop()
        while True:
            await asyncio.sleep(1.0)
            now = loop.time()
            for connection in list(self._open):
                silent_s = now - connection.reader.heard_s
                if connection.keepalive_s and silent_s > connection.keepalive_s * _KEEPALIVE_GRACE:
                    self.counts["cut_keepalive"] += 1
                    _log.warning("%s: silent for %.0f s: cut", connection.peer, silent_s)
                    connection.abort()

    async def close_connections(self) -> None:
        """End every connection and wait for them."""
        self._closing = True
        connections = list(self._open)
        for connection in connections:
            connection.abort()
        if connections:
            await asyncio.wait([asyncio.ensure_future(c.done.wait()) for c in connections], timeout=_CLOSE_TIMEOUT_S)

    async def close(self) -> None:
        """Stop routing."""
        await self._router.shutdown()

    async def connected(self, stream: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Serve one connection to its end (the callback of `asyncio.start_server`)."""
        connection = _Connection(stream, writer, self._settings.max_packet_bytes)
        if self._closing or len(self._open) >= self._settings.max_connections:
            self.counts["refused_connections"] += 1
            _log.warning("%s: refused, %d connections are open", connection.peer, len(self._open))
            connection.abort()
            return
        self._open.add(connection)
        try:
            await self._serve(connection)
        except asyncio.IncompleteReadError:
            _log.debug("%s: left before CONNECT", connection.peer)
        except (TimeoutError, OSError, AMQTTError, MQTTError, NoDataError, PacketError) as error:
            connection.reader.fault = connection.reader.fault or f"{type(error).__name__}: {error}"
        except Exception:
            _log.exception("%s: connection ended by an error of the broker", connection.peer)
        finally:
            if connection.reader.fault:
                self.counts["cut_faulty"] += 1
                _log.warning("%s: cut: %s", connection.peer, connection.reader.fault)
            self._open.discard(connection)
            connection.abort()
            connection.done.set()

    async def _serve(self, connection: _Connection) -> None:
        async with asyncio.timeout(self._settings.connect_timeout_s):
            packet = await connection.reader.next_packet()
        connect = await _parse_connect(packet)
        code = self._judge(connect)
        if code != CONNECTION_ACCEPTED:
            self.counts["refused_connect"] += 1
            _log.warning("%s: user %r, client id %r refused with code %d", connection.peer, connect.username, connect.client_id, code)
            connection.writer.write(bytes([0x20, 2, 0, code]))
            async with asyncio.timeout(self._settings.connect_timeout_s):
                await connection.writer.drain()
                connection.writer.close()
                await connection.writer.wait_closed()
            return
        client_id = connect.client_id or ""
        try:
            await self._admit(connection, connect, client_id)
            await self._router.external_connected(connection.reader, StreamWriterAdapter(connection.writer), LISTENER)
        finally:
            if self._users.get(client_id) is connection:
                await self._router.ended(client_id)
                del self._users[client_id]

    def _judge(self, connect: ConnectPacket) -> int:
        """The CONNACK code this CONNECT deserves."""
        if connect.proto_name != "MQTT" or connect.proto_level != _MQTT_3_1_1:
            return UNACCEPTABLE_PROTOCOL_VERSION
        try:
            who = self._verifier.principal(connect.username, connect.password)
        except ConfigError:
            _log.exception("nobody can be authenticated")
            return SERVER_UNAVAILABLE
        if who is None:
            return NOT_AUTHORIZED
        if connect.client_id != who.username:
            return IDENTIFIER_REJECTED
        if connect.will_flag and (connect.will_qos > 1 or not may_publish(who, connect.will_topic or "")):
            return NOT_AUTHORIZED
        return CONNECTION_ACCEPTED

    async def _admit(self, connection: _Connection, connect: ConnectPacket, client_id: str) -> None:
        """End an older connection of this credential, and let amqtt read the CONNECT. Keepalive is watched here, amqtt does not hold it."""
        async with self._lock(client_id):
            older = self._users.get(client_id)
            if older is not None:
                self.counts["taken_over"] += 1
                _log.warning("%s: taken over from %s by %s: is one credential used twice?", client_id, older.peer, connection.peer)
                older.abort()
                async with asyncio.timeout(_CLOSE_TIMEOUT_S):
                    await older.done.wait()
            self._users[client_id] = connection
            await self._router.prepare(connect)
        assert connect.variable_header is not None
        connection.keepalive_s, connect.variable_header.keep_alive = connect.variable_header.keep_alive, 0
        connection.reader.replay(connect.to_bytes(), self._router, client_id)

    def _lock(self, client_id: str) -> asyncio.Lock:
        """One lock a user, oldest forgotten: only credentials that were verified get here."""
        lock = self._locks.setdefault(client_id, asyncio.Lock())
        self._locks.move_to_end(client_id)
        if len(self._locks) > _LOCKS:
            oldest = next(iter(self._locks))
            if not self._locks[oldest].locked():
                del self._locks[oldest]
        return lock
