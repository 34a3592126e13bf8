"""Bursts of the ANT protocol (pure): many packets of eight bytes that are one message, each with a sequence number of three bits.

The first packet has sequence 0, the next 1, 2, 3, 1, 2, 3 ..., and the last has bit 2 set too. A burst with a packet missing or out of
order is dropped whole and counted: half a message is none.
"""

from __future__ import annotations

from typing import Final

from gateway.ant_framing import Id, Message
from gateway.ant_messages import PAYLOAD_BYTES, Data

MAX_BYTES: Final = 4096  # of one burst: far above any page set of ANT+; a longer one is dropped
_LAST: Final = 0b100


class Bursts:
    """Joins the packets of bursts, channel by channel. `dropped` counts those that did not come whole."""

    __slots__ = ("_open", "dropped")

    def __init__(self) -> None:
        self._open: dict[int, tuple[int, bytearray]] = {}
        self.dropped = 0

    def take(self, packet: Data) -> bytes | None:
        """The whole burst that `packet` completes, else None."""
        number, last = packet.sequence & 0b11, bool(packet.sequence & _LAST)
        begun = self._open.pop(packet.channel, None)
        if number == 0:
            self.dropped += begun is not None
            expected, content = 1, bytearray(packet.payload)
        elif begun is None or begun[0] != number or len(begun[1]) >= MAX_BYTES:
            self.dropped += begun is not None
            return None
        else:
            content = begun[1]
            content += packet.payload
            expected = number % 3 + 1
        if last:
            return bytes(content)
        self._open[packet.channel] = expected, content
        return None

    def forget(self, channel: int) -> None:
        """The stick says that the transfer failed: what was begun on this channel never ends."""
        self.dropped += self._open.pop(channel, None) is not None


def cut(channel: int, content: bytes) -> list[Message]:
    """The packets of a burst; the last is filled up with zeros. ValueError when there is nothing to send."""
    if not content:
        raise ValueError("a burst of no bytes cannot be sent")
    blocks = [content[at : at + PAYLOAD_BYTES].ljust(PAYLOAD_BYTES, b"\0") for at in range(0, len(content), PAYLOAD_BYTES)]
    messages: list[Message] = []
    for i, block in enumerate(blocks):
        number = 0 if i == 0 else (i - 1) % 3 + 1
        sequence = number | (_LAST if i == len(blocks) - 1 else 0)
        messages.append(Message(Id.BURST, bytes((channel | sequence << 5,)) + block))
    return messages
