"""What the messages of an ANT stick mean, and the messages a host sends (pure). The framing is `ant_framing`.

Data messages may be extended: behind the eight bytes a flag byte says what follows, the channel id (0x80: number, type, transmission type),
the signal (0x40) and the time of reception (0x20: 1/32768 s, wraps every 2 s). The upper half of the transmission type holds the upper
four bits of a 20-bit device number: two straps with the same lower 16 bits are two straps.
A message too short for what its flags promise keeps what is whole; a message of no known meaning is `Unknown`, never an exception.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import IntEnum
from typing import Final

from gateway.ant_framing import AGC, Id, Message

PAYLOAD_BYTES: Final = 8
ANTPLUS_FREQUENCY: Final = 57  # 2457 MHz
_RSSI_DBM: Final = 0x20  # a signal in dBm; the other kind (gain) says nothing that can be compared
_KEY_BYTES: Final = 8
_CAN_EXTEND: Final = 0x02
_CAN_SCAN: Final = 0x04


class Code(IntEnum):
    """Codes of events (an event names message id 1) and of responses to commands."""

    OK = 0
    SEARCH_TIMEOUT = 1
    MISSED = 2
    SENT = 3
    TRANSFER_RECEIVE_FAILED = 4
    TRANSFER_DONE = 5
    TRANSFER_FAILED = 6
    CHANNEL_CLOSED = 7
    BACK_TO_SEARCH = 8
    COLLISION = 9
    TRANSFER_STARTED = 10
    WRONG_STATE = 21
    NOT_OPENED = 22
    ID_NOT_SET = 24
    CLOSE_ALL_CHANNELS = 25
    TRANSFER_IN_PROGRESS = 31
    INVALID_MESSAGE = 40
    INVALID_SCAN_TRANSMIT = 49
    SERIAL_OVERFLOW = 52
    QUEUE_OVERFLOW = 53


@dataclass(frozen=True, slots=True)
class ChannelId:
    """Who transmits. `number` has 20 bits; 0 is the wildcard of a search."""

    number: int
    type: int
    transmission: int

    @property
    def device(self) -> str:
        """The id of the device on our wire."""
        return f"ant-{self.type}-{self.number}"


@dataclass(frozen=True, slots=True)
class Data:
    """A page that was heard. `id` and `rssi_dbm` only from a stick that sends extended messages; `time` in 1/32768 s of the stick."""

    kind: Id
    channel: int
    payload: bytes
    id: ChannelId | None = None
    rssi_dbm: int | None = None
    time: int | None = None
    sequence: int = 0  # of a burst packet: the upper three bits of its first byte


@dataclass(frozen=True, slots=True)
class Response:
    """The stick's answer to the command `to` on `channel`."""

    channel: int
    to: int
    code: int


@dataclass(frozen=True, slots=True)
class Event:
    """Something happened on `channel` without being asked for."""

    channel: int
    code: int


@dataclass(frozen=True, slots=True)
class Startup:
    """The stick has started afresh: everything it was told is forgotten. `cause` 0 power, 0x20 our reset, others in the protocol."""

    cause: int


@dataclass(frozen=True, slots=True)
class Capabilities:
    """What the stick can do."""

    channels: int
    networks: int
    can_scan: bool
    can_extend: bool


@dataclass(frozen=True, slots=True)
class About:
    """One thing the stick says of itself: `version` or `serial` (number)."""

    version: str = ""
    serial: int | None = None


@dataclass(frozen=True, slots=True)
class ChannelIs:
    """The channel id a channel has found, as asked for by `request`."""

    channel: int
    id: ChannelId


@dataclass(frozen=True, slots=True)
class Unknown:
    """A whole message of no meaning to us."""

    message: Message


Heard = Data | Response | Event | Startup | Capabilities | About | ChannelIs | Unknown


def channel_id(raw: bytes) -> ChannelId:
    """The id in four bytes: lower 16 bits of the number, type, transmission type with the upper four bits."""
    low, transmission = raw[0] | raw[1] << 8, raw[3]
    return ChannelId(low | (transmission >> 4) << 16, raw[2] & 0x7F, transmission)


def understand(message: Message) -> Heard:
    """The meaning of a message."""
    data = message.data
    match message.id:
        case Id.BROADCAST | Id.ACKNOWLEDGED | Id.BURST:
            return _data(Id(message.id), data)
        case Id.EVENT if len(data) >= 3:
            return Event(data[0], data[2]) if data[1] == 1 else Response(data[0], data[1], data[2])
        case Id.STARTUP:
            return Startup(data[0])
        case Id.CAPABILITIES if len(data) >= 4:
            second = data[4] if len(data) > 4 else 0
            return Capabilities(data[0], data[1], bool(second & _CAN_SCAN), bool(second & _CAN_EXTEND))
        case Id.VERSION:
            return About(version=data.rstrip(b"\0").decode("ascii", "replace"))
        case Id.SERIAL_NUMBER if len(data) == 4:
            return About(serial=int.from_bytes(data, "little"))
        case Id.CHANNEL_ID if len(data) == 5:
            return ChannelIs(data[0], channel_id(data[1:]))
        case _:
            return Unknown(message)


def _data(kind: Id, data: bytes) -> Heard:
    if len(data) < 1 + PAYLOAD_BYTES:
        return Unknown(Message(kind, data))
    channel, sequence = (data[0] & 0x1F, data[0] >> 5) if kind is Id.BURST else (data[0], 0)
    payload = data[1:9]
    if len(data) == 9:
        return Data(kind, channel, payload, sequence=sequence)
    flags, at = data[9], 10
    who = rssi = time = None
    if flags & 0x80 and len(data) >= at + 4:
        who = channel_id(data[at : at + 4])
        at += 4
    if flags & 0x40 and len(data) >= at + 3:
        rssi = int.from_bytes(data[at + 1 : at + 2], signed=True) if data[at] == _RSSI_DBM else None
        at += 4 if data[at] == AGC else 3
    if flags & 0x20 and len(data) >= at + 2:
        time = data[at] | data[at + 1] << 8
    return Data(kind, channel, payload, who, rssi, time, sequence)


def reset() -> Message:
    """Start afresh."""
    return Message(Id.RESET, b"\0")


def request(channel: int, wanted: Id) -> Message:
    """Ask for `wanted` of a channel."""
    return Message(Id.REQUEST, bytes((channel, wanted)))


def network_key(network: int, key: bytes) -> Message:
    """Give the key of a network. ValueError (without the key) when it is not 8 bytes."""
    if len(key) != _KEY_BYTES:
        raise ValueError(f"a network key has {_KEY_BYTES} bytes, this one has {len(key)}")
    return Message(Id.NETWORK_KEY, bytes((network,)) + key)


def assign(channel: int, network: int, *, receive_only: bool = False) -> Message:
    """Make a channel a slave, of both directions unless `receive_only`."""
    return Message(Id.ASSIGN, bytes((channel, 0x40 if receive_only else 0x00, network)))


def unassign(channel: int) -> Message:
    """Give a channel up, and what it has not sent yet."""
    return Message(Id.UNASSIGN, bytes((channel,)))


def set_id(channel: int, who: ChannelId) -> Message:
    """Whom a channel listens to; zeros are wildcards."""
    return Message(Id.CHANNEL_ID, bytes((channel, who.number & 0xFF, who.number >> 8 & 0xFF, who.type, who.transmission)))


def set_period(channel: int, period: int) -> Message:
    """Time between two messages of the master, in 1/32768 s."""
    return Message(Id.PERIOD, bytes((channel, period & 0xFF, period >> 8)))


def set_search_timeout(channel: int, steps: int) -> Message:
    """How long to search, in steps of 2.5 s; 255 is for ever."""
    return Message(Id.SEARCH_TIMEOUT, bytes((channel, steps)))


def set_frequency(channel: int, frequency: int) -> Message:
    """Radio frequency, in MHz above 2400."""
    return Message(Id.RADIO_FREQUENCY, bytes((channel, frequency)))


def extend(*, who: bool = True, rssi: bool = True, time: bool = True) -> Message:
    """What data messages shall carry behind their payload."""
    return Message(Id.LIBRARY, bytes((0, (0x80 if who else 0) | (0x40 if rssi else 0) | (0x20 if time else 0))))


def exclude(channel: int, who: ChannelId, place: int) -> Message:
    """One entry (of four) of the list of masters a search leaves out."""
    return Message(Id.LIST_ENTRY, set_id(channel, who).data + bytes((place,)))


def excluded(channel: int, count: int) -> Message:
    """The list holds so many masters, and they are left out."""
    return Message(Id.LIST, bytes((channel, count, 1)))


def open_channel(channel: int) -> Message:
    """Search, then track."""
    return Message(Id.OPEN, bytes((channel,)))


def open_scan() -> Message:
    """Hear everybody, on channel 0, for as long as it is open. No other channel may be open."""
    return Message(Id.OPEN_SCAN, b"\0")


def close_channel(channel: int) -> Message:
    """End searching or tracking; the event CHANNEL_CLOSED follows the response."""
    return Message(Id.CLOSE, bytes((channel,)))


def acknowledged(channel: int, payload: bytes) -> Message:
    """Eight bytes to the master of a channel; TRANSFER_DONE or TRANSFER_FAILED follows. ValueError for another length."""
    if len(payload) != PAYLOAD_BYTES:
        raise ValueError(f"a page has {PAYLOAD_BYTES} bytes, this one has {len(payload)}")
    return Message(Id.ACKNOWLEDGED, bytes((channel,)) + payload)
