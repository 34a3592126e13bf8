"""Framing of the ANT serial protocol (pure): bytes of a stick -> messages, messages -> bytes. Sans-I/O: no clock, no port.

On the wire: sync 0xA4, length of the data, message id, data, and the XOR of all bytes before it. A frame is believed when its length fits
its id (and its flags, where it is extended) and its checksum is right; otherwise only its sync byte is dropped and the search goes on
behind it. So a corrupt or lost byte costs the frame it hit and no other: whatever a wrong length swallowed is read again. One checksum
in 256 is right by chance: a frame that no sync follows gives way to one that begins inside it and that a sync or nothing follows.
Invariant: `feed` never raises, whatever comes, and keeps less than one frame between two calls.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from enum import IntEnum
from functools import reduce
from typing import Final

SYNC: Final = 0xA4
MAX_DATA_BYTES: Final = 40  # advanced burst: channel, 24 bytes, and room for what follows; everything else is shorter
AGC: Final = 0x10  # a signal measured as gain takes four bytes of an extended message, one in dBm three
_AROUND: Final = 4  # sync, length, id, checksum
_XOR: Final[Callable[[int, int], int]] = int.__xor__


class Id(IntEnum):
    """Message ids of the protocol, as far as a receiver meets them."""

    EVENT = 0x40  # a response to a command, or an event of a channel
    UNASSIGN = 0x41
    ASSIGN = 0x42
    PERIOD = 0x43
    SEARCH_TIMEOUT = 0x44
    RADIO_FREQUENCY = 0x45
    NETWORK_KEY = 0x46
    TRANSMIT_POWER = 0x47
    RESET = 0x4A
    OPEN = 0x4B
    CLOSE = 0x4C
    REQUEST = 0x4D
    BROADCAST = 0x4E
    ACKNOWLEDGED = 0x4F
    BURST = 0x50
    CHANNEL_ID = 0x51
    CHANNEL_STATUS = 0x52
    CAPABILITIES = 0x54
    LIST_ENTRY = 0x59
    LIST = 0x5A
    OPEN_SCAN = 0x5B
    SERIAL_NUMBER = 0x61
    EXTENDED = 0x66
    LIBRARY = 0x6E
    STARTUP = 0x6F
    ADVANCED_BURST = 0x72
    VERSION = 0x3E
    SERIAL_ERROR = 0xAE


_LENGTHS: Final[Mapping[int, tuple[int, int]]] = {  # id -> shortest and longest data a stick sends
    Id.EVENT: (3, 8),
    Id.BROADCAST: (9, 24),
    Id.ACKNOWLEDGED: (9, 24),
    Id.BURST: (9, 24),
    Id.ADVANCED_BURST: (9, MAX_DATA_BYTES),
    Id.CHANNEL_ID: (5, 5),
    Id.CHANNEL_STATUS: (2, 2),
    Id.CAPABILITIES: (4, 10),
    Id.VERSION: (1, 20),
    Id.SERIAL_NUMBER: (4, 4),
    Id.STARTUP: (1, 1),
    Id.SERIAL_ERROR: (1, MAX_DATA_BYTES),
}
_DATA: Final = frozenset({Id.BROADCAST, Id.ACKNOWLEDGED, Id.BURST})
_PLAIN_BYTES: Final = 9  # channel and page


@dataclass(frozen=True, slots=True)
class Message:
    """One message: its id and its data without frame."""

    id: int
    data: bytes


def encode(message: Message) -> bytes:
    """The frame of a message. ValueError when its data is too long."""
    if len(message.data) > MAX_DATA_BYTES:
        raise ValueError(f"message {message.id:#04x} with {len(message.data)} bytes: at most {MAX_DATA_BYTES}")
    body = bytes((SYNC, len(message.data), message.id)) + message.data
    return body + bytes((reduce(_XOR, body),))


class Framer:
    """Reads the stream of one stick. `skipped` counts bytes that were in no frame, `broken` frames with a wrong checksum."""

    __slots__ = ("_buffer", "broken", "skipped")

    def __init__(self) -> None:
        self._buffer = bytearray()
        self.skipped = 0
        self.broken = 0

    @property
    def waiting(self) -> int:
        """Bytes of a frame that has not come whole."""
        return len(self._buffer)

    def feed(self, data: bytes) -> list[Message]:
        """The messages that became whole with `data`, in the order they came."""
        buffer = self._buffer
        buffer += data
        messages: list[Message] = []
        at, end = 0, len(buffer)
        while at < end:
            if buffer[at] != SYNC:
                found = buffer.find(SYNC, at)
                found = end if found < 0 else found
                self.skipped += found - at
                at = found
                continue
            whole = self._whole(at, end)
            if whole is None:
                break
            if whole == 0:
                self.skipped += 1
                at += 1
                continue
            if at + whole < end and buffer[at + whole] != SYNC and (inner := self._inside(at, at + whole, end)):
                self.broken += 1
                self.skipped += inner - at
                at = inner
                continue
            messages.append(Message(buffer[at + 2], bytes(buffer[at + 3 : at + whole - 1])))
            at += whole
        del buffer[:at]
        return messages

    def give_up(self) -> list[Message]:
        """Nothing came for so long that the frame begun will never end: what else is in its bytes. Call it when the line is quiet."""
        messages: list[Message] = []
        while self._buffer:
            del self._buffer[0]
            self.skipped += 1
            messages += self.feed(b"")
        return messages

    def _inside(self, at: int, stop: int, end: int) -> int:
        """Where a whole frame begins that reaches out of the one from `at` to `stop`, and that a sync or nothing follows; 0: nowhere."""
        buffer = self._buffer
        inner = at
        while (inner := buffer.find(SYNC, inner + 1, stop)) >= 0:
            size = self._whole(inner, end)
            if size and inner + size > stop and (inner + size == end or buffer[inner + size] == SYNC):
                return inner
        return 0

    def _whole(self, at: int, end: int) -> int | None:
        """Bytes of the frame at `at`; 0 when no frame begins there, None when it may go on behind `end`."""
        buffer = self._buffer
        if at + 2 >= end:
            return 0 if at + 1 < end and buffer[at + 1] > MAX_DATA_BYTES else None
        length = buffer[at + 1]
        shortest, longest = _LENGTHS.get(buffer[at + 2], (1, 0))
        if not shortest <= length <= longest:
            return 0
        if length > _PLAIN_BYTES and buffer[at + 2] in _DATA and at + 4 + _PLAIN_BYTES <= end and not self._extended(at + 3, length, end):
            return 0
        size = length + _AROUND
        if at + size > end:
            return None
        if reduce(_XOR, buffer[at : at + size]):
            self.broken += 1
            return 0
        return size

    def _extended(self, at: int, length: int, end: int) -> bool:
        """Whether the data at `at` is as long as its flag byte says."""
        flags = self._buffer[at + _PLAIN_BYTES]
        rssi_at = at + _PLAIN_BYTES + 1 + (4 if flags & 0x80 else 0)
        if flags & 0x1F:
            return False
        wanted = _PLAIN_BYTES + 1 + (4 if flags & 0x80 else 0) + (2 if flags & 0x20 else 0)
        if flags & 0x40:
            wanted += 4 if rssi_at < end and self._buffer[rssi_at] == AGC else 3
            return length == wanted or (rssi_at >= end and length == wanted + 1)
        return length == wanted
