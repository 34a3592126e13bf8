"""MQTT 3.1.1 packets as immutable events, and the decoding of one complete packet.

Both sides of the protocol: what a client hears (ingest, fleets) and what a server hears (the replay and refusal servers of the tests).
Anything malformed is a `Violation` value, never an exception.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Final


@dataclass(frozen=True, slots=True)
class Will:
    """What the broker publishes when the connection dies."""

    topic: str
    payload: bytes
    qos: int = 0
    retain: bool = False


@dataclass(frozen=True, slots=True)
class Connack:
    """The broker's answer to CONNECT; `code` 0 is accepted, 4 and 5 are bad credentials."""

    session_present: bool
    code: int


@dataclass(frozen=True, slots=True)
class Suback:
    """The answer to SUBSCRIBE: granted QoS per filter, 0x80 is refused."""

    pid: int
    codes: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class Unsuback:
    """The answer to UNSUBSCRIBE."""

    pid: int


@dataclass(frozen=True, slots=True)
class Puback:
    """The peer has taken the QoS 1 message `pid`."""

    pid: int


@dataclass(frozen=True, slots=True)
class Publish:
    """A message; `pid` is 0 at QoS 0."""

    topic: str
    payload: bytes
    qos: int
    pid: int
    dup: bool
    retain: bool


@dataclass(frozen=True, slots=True)
class Pingresp:
    """The broker is there."""


@dataclass(frozen=True, slots=True)
class Connect:
    """A client wants in (server side)."""

    client_id: str
    username: str | None
    password: bytes | None
    clean: bool
    keepalive: int
    will: Will | None


@dataclass(frozen=True, slots=True)
class Subscribe:
    """A client subscribes (server side)."""

    pid: int
    filters: tuple[tuple[str, int], ...]


@dataclass(frozen=True, slots=True)
class Pingreq:
    """A client asks for a sign of life (server side)."""


@dataclass(frozen=True, slots=True)
class Disconnect:
    """A client leaves in order (server side)."""


@dataclass(frozen=True, slots=True)
class Violation:
    """The peer broke the protocol; nothing after it is read."""

    detail: str


Event = (
    Connack | Suback | Unsuback | Puback | Publish | Pingresp | Connect | Subscribe | Pingreq | Disconnect | Violation
)  # fmt: skip


class _Reader:
    """Takes fields off a body; ValueError when it ends too early."""

    def __init__(self, body: bytes) -> None:
        self.body = body
        self.at = 0

    def take(self, count: int) -> bytes:
        raw = self.body[self.at : self.at + count]
        if len(raw) != count:
            raise ValueError("packet ends inside a field")
        self.at += count
        return raw

    def u16(self) -> int:
        return int.from_bytes(self.take(2), "big")

    def binary(self) -> bytes:
        return self.take(self.u16())

    def text(self) -> str:
        return self.binary().decode()

    @property
    def done(self) -> bool:
        return self.at == len(self.body)


def decode_packet(first: int, body: bytes) -> Event:
    """The event of one complete packet: its first byte and what follows the remaining length."""
    kind = first >> 4
    try:
        if kind == 3:
            return _publish(first, body)
        decode = _DECODERS.get(first)
        if decode is None:
            return Violation(f"packet type {kind} with flags {first & 15} is not spoken here")
        reader = _Reader(body)
        event = decode(reader)
    except ValueError as error:  # UnicodeDecodeError is one
        return Violation(f"malformed packet of type {kind}: {error}")
    return event if reader.done else Violation(f"bytes left over after packet of type {kind}")


def _publish(first: int, body: bytes) -> Event:
    qos = first >> 1 & 3
    if qos > 1:
        return Violation(f"PUBLISH at QoS {qos}: only 0 and 1 are spoken")
    reader = _Reader(body)
    topic = reader.text()
    pid = reader.u16() if qos else 0
    if qos and not pid:
        return Violation("packet id 0")
    return Publish(topic, body[reader.at :], qos, pid, bool(first & 8), bool(first & 1))


def _connack(reader: _Reader) -> Event:
    present, code = reader.take(2)
    return Connack(bool(present & 1), code)


def _suback(reader: _Reader) -> Event:
    return Suback(reader.u16(), tuple(reader.take(len(reader.body) - 2)))


def _connect(reader: _Reader) -> Event:
    if reader.text() != "MQTT" or reader.take(1) != b"\x04":
        return Violation("not MQTT 3.1.1")
    flags, keepalive, client_id = reader.take(1)[0], reader.u16(), reader.text()
    will: Will | None = None
    if flags & 0x04:
        will = Will(reader.text(), reader.binary(), flags >> 3 & 3, bool(flags & 0x20))
    username = reader.text() if flags & 0x80 else None
    password = reader.binary() if flags & 0x40 else None
    return Connect(client_id, username, password, bool(flags & 2), keepalive, will)


def _subscribe(reader: _Reader) -> Event:
    pid = reader.u16()
    filters: list[tuple[str, int]] = []
    while not reader.done:
        name = reader.text()
        filters.append((name, reader.take(1)[0]))
    return Subscribe(pid, tuple(filters))


_DECODERS: Final[dict[int, Callable[[_Reader], Event]]] = {
    0x10: _connect,
    0x20: _connack,
    0x40: lambda r: Puback(r.u16()),
    0x82: _subscribe,
    0x90: _suback,
    0xB0: lambda r: Unsuback(r.u16()),
    0xC0: lambda _r: Pingreq(),
    0xD0: lambda _r: Pingresp(),
    0xE0: lambda _r: Disconnect(),
}  # fmt: skip
