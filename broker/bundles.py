"""Bundles: the frames of one MQTT message, consecutive rows of one spool.

Layout: `0xB1 | count u8 | first_n u48 | epoch u64 | crc32 u32` (little-endian; the CRC covers the 16 bytes before it), then per row
`length u16 | frame`. The header stands for itself, so that rows can be refused although the body is damaged; a bad frame costs only its
row.
"""

from __future__ import annotations

import struct
from collections.abc import Sequence
from typing import Final, NamedTuple, final
from zlib import crc32

from broker.errors import Reason, Rejected
from broker.frames import MAX_FRAME_BYTES

MAGIC: Final = 0xB1
MAX_ROWS: Final = 255
MAX_N: Final = (1 << 48) - 1
MAX_BUNDLE_BYTES: Final = 64 * 1024
HEADER_BYTES: Final = 20
_HEAD: Final = struct.Struct("<BBHIQ")  # magic, count, low 16 and high 32 bits of first_n, epoch
_HEADER: Final = struct.Struct("<BBHIQI")  # and the CRC of all that
_CRC: Final = struct.Struct("<I")
_LEN: Final = struct.Struct("<H")


@final
class Bundle(NamedTuple):
    """Rows `first_n .. first_n + count - 1` of spool `epoch`. `rows` may be shorter than `count` when the body is damaged.

    A tuple: one is made for every message.
    """

    epoch: int
    first_n: int
    count: int  # type: ignore[assignment] - the rows of a message; a tuple's own word is not needed
    rows: tuple[bytes, ...]

    @property
    def complete(self) -> bool:
        return len(self.rows) == self.count


def encode_bundle(epoch: int, first_n: int, rows: Sequence[bytes]) -> bytes:
    """The message of 1-255 consecutive rows. ValueError when the rows do not fit the limits."""
    if not 1 <= len(rows) <= MAX_ROWS or not 0 <= first_n <= MAX_N - len(rows):
        raise ValueError(f"{len(rows)} rows from {first_n} do not fit a bundle")
    head = _HEAD.pack(MAGIC, len(rows), first_n & 0xFFFF, first_n >> 16, epoch)
    parts = [head, _CRC.pack(crc32(head))]
    for row in rows:
        if not 0 < len(row) <= MAX_FRAME_BYTES:
            raise ValueError(f"row of {len(row)} bytes does not fit a bundle")
        parts += (_LEN.pack(len(row)), row)
    message = b"".join(parts)
    if len(message) > MAX_BUNDLE_BYTES:
        raise ValueError(f"bundle of {len(message)} bytes, at most {MAX_BUNDLE_BYTES}")
    return message


def decode_bundle(message: bytes) -> Bundle | Rejected:
    """Split a message. A damaged body gives a Bundle with fewer rows; only a header that cannot be trusted is Rejected."""
    if len(message) < HEADER_BYTES or message[0] != MAGIC:
        return Rejected(Reason.BAD_BUNDLE, "no bundle header", message)
    if len(message) > MAX_BUNDLE_BYTES:
        return Rejected(Reason.OVERSIZED, f"bundle of {len(message)} bytes, at most {MAX_BUNDLE_BYTES}", message[:HEADER_BYTES])
    _, count, low, high, epoch, crc = _HEADER.unpack_from(message)
    if crc != crc32(message[:16]) or not count:
        return Rejected(Reason.BAD_BUNDLE, "header CRC does not match", message)
    rows: list[bytes] = []
    at, end = HEADER_BYTES, len(message)
    for _ in range(count):
        first = at + 2
        if first > end:
            break
        at = first + (message[at] | message[at + 1] << 8)
        if not first < at <= end or at - first > MAX_FRAME_BYTES:
            break
        rows.append(message[first:at])
    else:
        if at != end:
            rows.clear()  # bytes left over: the lengths cannot be trusted
    return Bundle(epoch, high << 16 | low, count, tuple(rows))
