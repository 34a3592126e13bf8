"""MQTT 3.1.1 without I/O: packets as bytes, bytes as events. For bulk ingest, load generators and tests.

`PacketParser.feed` gives every packet as an event; `PacketParser.feed_publishes` is the hot path: runs of PUBLISH as plain
`(topic, payload)` pairs at about 0.6 us each, their packet ids ready to be acknowledged in one write.
A peer that breaks the protocol yields one `Violation` value and nothing after it: the shell closes the connection.
Invariants: any split of the stream gives the same events; never more than one packet of `limit` bytes is buffered; QoS 2 is not spoken.
"""

from __future__ import annotations

import struct
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Final

from broker.mqtt_packets import (
    Connack,
    Connect,
    Disconnect,
    Event,
    Pingreq,
    Pingresp,
    Puback,
    Publish,
    Suback,
    Subscribe,
    Unsuback,
    Violation,
    Will,
    decode_packet,
)

__all__ = [
    "DEFAULT_LIMIT",
    "DISCONNECT",
    "PINGREQ",
    "PINGRESP",
    "Connack",
    "Connect",
    "Disconnect",
    "Event",
    "PacketParser",
    "Pingreq",
    "Pingresp",
    "Puback",
    "Publish",
    "Run",
    "Suback",
    "Subscribe",
    "Unsuback",
    "Violation",
    "Will",
    "encode_connack",
    "encode_connect",
    "encode_puback",
    "encode_pubacks",
    "encode_publish",
    "encode_suback",
    "encode_subscribe",
    "encode_unsubscribe",
]

DEFAULT_LIMIT: Final = 256 * 1024  # bytes of one packet that may be buffered
PINGREQ: Final = b"\xc0\x00"
PINGRESP: Final = b"\xd0\x00"
DISCONNECT: Final = b"\xe0\x00"
_MAX_REMAINING: Final = 268_435_455  # MQTT 3.1.1, section 2.2.3
_PUBACK: Final = b"\x40\x02"
_PREFIX_BYTES: Final = 1024
_U16: Final = struct.Struct(">H")


def encode_connect(
    client_id: str, username: str | None, password: str | bytes | None, *, clean: bool, keepalive: int, will: Will | None = None
) -> bytes:
    """CONNECT. `keepalive` in seconds, 0-65535; an empty `client_id` needs `clean`. ValueError when a string is too long."""
    flags = (0x02 if clean else 0) | (0x80 if username is not None else 0) | (0x40 if password is not None else 0)
    parts = [_string(client_id)]
    if will is not None:
        flags |= 0x04 | will.qos << 3 | (0x20 if will.retain else 0)
        parts += (_string(will.topic), _string(will.payload))
    if username is not None:
        parts.append(_string(username))
    if password is not None:
        parts.append(_string(password))
    return _packet(0x10, b"\x00\x04MQTT\x04" + bytes((flags,)) + _U16.pack(keepalive) + b"".join(parts))


def encode_connack(session_present: bool, code: int) -> bytes:
    """CONNACK (server side)."""
    return bytes((0x20, 2, session_present, code))


def encode_subscribe(pid: int, filters: Sequence[tuple[str, int]]) -> bytes:
    """SUBSCRIBE to `(filter, qos)` pairs."""
    return _packet(0x82, _U16.pack(pid) + b"".join(_string(name) + bytes((qos,)) for name, qos in filters))


def encode_suback(pid: int, codes: Sequence[int]) -> bytes:
    """SUBACK (server side)."""
    return _packet(0x90, _U16.pack(pid) + bytes(codes))


def encode_unsubscribe(pid: int, filters: Sequence[str]) -> bytes:
    """UNSUBSCRIBE."""
    return _packet(0xA2, _U16.pack(pid) + b"".join(_string(name) for name in filters))


def encode_publish(topic: str | bytes, payload: bytes, qos: int = 0, pid: int = 0, *, retain: bool = False, dup: bool = False) -> bytes:
    """PUBLISH at QoS 0 or 1; `pid` is 1-65535 exactly when `qos` is 1. ValueError otherwise, and when it is too long."""
    name = topic.encode() if isinstance(topic, str) else topic
    if qos not in (0, 1) or (qos == 1) != (pid != 0):
        raise ValueError(f"publish with qos {qos} and packet id {pid}")
    if len(name) > 0xFFFF:
        raise ValueError(f"topic of {len(name)} bytes, at most 65535")
    first = 0x30 | (0x08 if dup else 0) | qos << 1 | (1 if retain else 0)
    head = _U16.pack(len(name))
    return _packet(first, head + name + _U16.pack(pid) + payload if qos else head + name + payload)


def encode_puback(pid: int) -> bytes:
    """PUBACK of one packet id."""
    return _PUBACK + _U16.pack(pid)


def encode_pubacks(pids: Sequence[bytes]) -> bytes:
    """The PUBACKs of `Run.pids` in one piece."""
    return _PUBACK + _PUBACK.join(pids) if pids else b""


def _string(value: str | bytes) -> bytes:
    raw = value.encode() if isinstance(value, str) else value
    if len(raw) > 0xFFFF:
        raise ValueError(f"string of {len(raw)} bytes, at most 65535")
    return _U16.pack(len(raw)) + raw


def _packet(first: int, body: bytes) -> bytes:
    length = len(body)
    if length < 128:
        return bytes((first, length)) + body
    if length < 16384:
        return bytes((first, length & 127 | 128, length >> 7)) + body
    if length > _MAX_REMAINING:
        raise ValueError(f"packet of {length} bytes, at most {_MAX_REMAINING}")
    head = bytearray((first,))
    while length >= 128:
        head.append(length & 127 | 128)
        length >>= 7
    head.append(length)
    return bytes(head) + body


@dataclass(slots=True)
class Run:
    """What one `feed_publishes` found.

    `messages` are `(topic, payload)` in order of arrival; `pids` the 2-byte packet ids of those at QoS 1 (give them to `encode_pubacks`
    once the messages are durable); `acked` the packet ids of PUBACKs received; `others` every other packet. A PUBLISH beyond the limit is
    not buffered: `oversized` has its `(topic, first bytes of payload, payload length)`, its packet id is in `pids` like any other.
    """

    messages: list[tuple[bytes, bytes]] = field(default_factory=list[tuple[bytes, bytes]])
    pids: list[bytes] = field(default_factory=list[bytes])
    acked: list[bytes] = field(default_factory=list[bytes])
    others: list[Event] = field(default_factory=list[Event])
    oversized: list[tuple[bytes, bytes, int]] = field(default_factory=list[tuple[bytes, bytes, int]])


class PacketParser:
    """Splits a byte stream into packets. One parser a connection; use either `feed` or `feed_publishes` on it."""

    def __init__(self, limit: int = DEFAULT_LIMIT) -> None:
        self._limit = limit
        self._parts: list[bytes] = []
        self._held = 0
        self._need = 2  # bytes that must be there before looking again
        self._skip = 0  # bytes of an oversized PUBLISH still to be thrown away
        self._broken = False

    @property
    def buffered(self) -> int:
        """Bytes held of a packet that is not complete."""
        return self._held

    def feed(self, data: bytes) -> list[Event]:
        """All packets completed by `data`. A packet beyond the limit is a `Violation`."""
        events: list[Event] = []
        stream = self._take(data)
        at, end = 0, len(stream)
        while not self._broken:
            body, stop = _extent(stream, at, end)
            if body < 0:
                self._broken = True
                events.append(Violation("remaining length of more than four bytes"))
            elif stop - at > self._limit:
                self._broken = True
                events.append(Violation(f"packet of {stop - at} bytes, at most {self._limit}"))
            elif not body or stop > end:
                self._keep(stream, at, stop - at if body else 2)
                break
            else:
                event = decode_packet(stream[at], stream[body:stop])
                events.append(event)
                self._broken = type(event) is Violation
                at = stop
        return events

    def feed_publishes(self, data: bytes) -> Run:
        """All packets completed by `data`, PUBLISH at QoS 0 and 1 as pairs. Topics are bytes as they came."""
        run = Run()
        stream = self._take(data)
        at, end = 0, len(stream)
        while not self._broken:
            at = _publishes(stream, at, end, self._limit, run)
            after = _pubacks(stream, at, end, run)
            if after != at:
                at = after
                continue
            body, stop = _extent(stream, at, end)
            if body and stop - at > self._limit:
                at = self._oversized(run, stream, at, body, stop)
                if at < 0:
                    break
            elif body < 0:
                self._violate(run, "remaining length of more than four bytes")
            elif not body or stop > end:
                self._keep(stream, at, stop - at if body else 2)
                break
            else:
                event = decode_packet(stream[at], stream[body:stop])
                run.others.append(event)
                self._broken = type(event) is Violation
                at = stop
        return run

    def _take(self, data: bytes) -> bytes:
        """The bytes to look at now: what was held and `data`, or nothing while a known length is still missing."""
        if self._broken:
            return b""
        if self._skip:
            dropped = min(self._skip, len(data))
            self._skip -= dropped
            data = data[dropped:]
        if not self._parts:
            return data
        self._parts.append(data)
        self._held += len(data)
        if self._held < self._need:
            return b""
        stream = b"".join(self._parts)
        self._parts, self._held = [], 0
        return stream

    def _keep(self, stream: bytes, at: int, need: int) -> None:
        if self._parts:  # nothing was taken: still collecting
            return
        self._need = need
        if at < len(stream):
            self._parts = [stream[at:]]
            self._held = len(stream) - at

    def _violate(self, run: Run, detail: str) -> None:
        self._broken = True
        run.others.append(Violation(detail))

    def _oversized(self, run: Run, stream: bytes, at: int, body: int, stop: int) -> int:
        """Report the PUBLISH beyond the limit at `at` and pass over it; -1 when the rest of `stream` is used up."""
        first, end = stream[at], len(stream)
        if first & 0xF0 != 0x30 or first & 0x06 > 0x02:
            self._violate(run, f"packet of {stop - at} bytes, at most {self._limit}")
            return -1
        text = body + 2
        rest = text + (stream[body] << 8 | stream[body + 1]) if text <= end else end
        tail = rest + 2 if first & 0x06 else rest
        if text > end or tail > end:
            self._keep(stream, at, max(text, tail) + 1 - at)
            return -1
        if tail > stop:
            self._violate(run, "PUBLISH shorter than its topic")
            return -1
        run.oversized.append((stream[text:rest], stream[tail : min(stop, tail + _PREFIX_BYTES)], stop - tail))
        if first & 0x06:
            run.pids.append(stream[rest:tail])
        if stop <= end:
            return stop
        self._skip = stop - end
        return -1


def _publishes(stream: bytes, at: int, end: int, limit: int, run: Run) -> int:
    """The hot loop: complete PUBLISH packets from `at` on; returns where something else begins."""
    message, pid = run.messages.append, run.pids.append
    while end - at >= 2:
        first, length = stream[at], stream[at + 1]
        body = at + 2
        if length >= 128:  # the two-byte form written out: nearly every bundle has it
            if body >= end:
                break
            high = stream[body]
            body += 1
            length += (high << 7) - 128
            if high >= 128:
                body, stop = _extent(stream, at, end)
                if body <= 0:
                    break
                length = stop - body
        stop = body + length
        if first & 0xF0 != 0x30 or stop > end or stop - at > limit or length < 2:
            break
        text = body + 2
        rest = text + (stream[body] << 8 | stream[body + 1])
        if first & 0x06 == 0x02:
            tail = rest + 2
            if tail > stop:
                break
            message((stream[text:rest], stream[tail:stop]))
            pid(stream[rest:tail])
        elif first & 0x06 or rest > stop:
            break
        else:
            message((stream[text:rest], stream[rest:stop]))
        at = stop
    return at


def _pubacks(stream: bytes, at: int, end: int, run: Run) -> int:
    """Complete PUBACK packets from `at` on; returns where something else begins."""
    acked = run.acked.append
    while end - at >= 4 and stream[at] == 0x40 and stream[at + 1] == 2:
        acked(stream[at + 2 : at + 4])
        at += 4
    return at


def _extent(stream: bytes, at: int, end: int) -> tuple[int, int]:
    """Where body and packet end at `at`: `(body, stop)`; body 0 when the length is not all there, -1 when it is malformed."""
    length, shift = 0, 0
    for i in range(at + 1, min(at + 5, end)):
        byte = stream[i]
        length |= (byte & 127) << shift
        if byte < 128:
            return i + 1, i + 1 + length
        shift += 7
    return (-1, 0) if end - at >= 5 else (0, 0)
