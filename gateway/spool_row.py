"""The bytes of one spool row: a record that stands for itself, so that it can be found again in the ruins of a database.

`magic 4s | crc32 u32 | n u48 | len(frame) u16 | len(device) u8 | device | frame`, little-endian; the CRC covers all after it. A record is
shorter than a page of the database, so SQLite keeps it in one piece and `carve` finds it in any part of a damaged file.
"""

from __future__ import annotations

import struct
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Final
from zlib import crc32

from broker.frames import MAX_FRAME_BYTES

ROW_MAGIC: Final = b"\xb7Pr1"
MAX_DEVICE_BYTES: Final = 255
MAX_RECORD_BYTES: Final = 17 + MAX_DEVICE_BYTES + MAX_FRAME_BYTES
_BODY: Final = struct.Struct("<IHHB")  # low 32 and high 16 bits of n, len(frame), len(device)
_MARK: Final = struct.Struct("<4sI")  # magic, crc32 of all after it
_HEAD_BYTES: Final = 17


@dataclass(frozen=True, slots=True)
class SpoolRow:
    """What is appended: the bytes of a frame, the device it is counted for, and (boot, seq) when that device may send it again."""

    frame: bytes
    device: str
    number: tuple[int, int] | None = None


@dataclass(frozen=True, slots=True)
class StoredRow:
    """A row read back with its CRC checked."""

    n: int
    device: str
    frame: bytes


def encode_records(first_n: int, devices: Iterable[bytes], frames: Sequence[bytes]) -> list[bytes]:
    """The records of consecutive rows from `first_n` on; in one loop because this is the hot path (0.5 us a row)."""
    pack_body, pack_mark = _BODY.pack, _MARK.pack
    high, low = first_n >> 32, first_n & 0xFFFFFFFF
    if low + len(frames) > 1 << 32:  # the upper bits change on the way, once in four billion rows
        split, names = (1 << 32) - low, list(devices)
        return encode_records(first_n, names[:split], frames[:split]) + encode_records(first_n + split, names[split:], frames[split:])
    records: list[bytes] = []
    for n, device, frame in zip(range(low, low + len(frames)), devices, frames, strict=True):
        body = pack_body(n, high, len(frame), len(device)) + device + frame
        records.append(pack_mark(ROW_MAGIC, crc32(body)) + body)
    return records


def decode_record(record: bytes) -> StoredRow | None:
    """The row in `record`, None when a byte of it changed."""
    if len(record) < _HEAD_BYTES or _MARK.unpack_from(record) != (ROW_MAGIC, crc32(memoryview(record)[8:])):
        return None
    low, high, frame_bytes, device_bytes = _BODY.unpack_from(record, 8)
    at = _HEAD_BYTES + device_bytes
    if at + frame_bytes != len(record):
        return None
    return StoredRow(high << 32 | low, record[_HEAD_BYTES:at].decode(errors="replace"), record[at:])


def carve(image: bytes) -> Iterator[tuple[StoredRow, bytes]]:
    """Every undamaged record in raw bytes of a file, in file order, with repeats; `(row, record)`."""
    at, end = image.find(ROW_MAGIC), len(image)
    while at >= 0:
        head = image[at : at + _HEAD_BYTES]
        if len(head) == _HEAD_BYTES:
            _, _, frame_bytes, device_bytes = _BODY.unpack_from(head, 8)
            stop = at + _HEAD_BYTES + device_bytes + frame_bytes
            if stop <= end and frame_bytes <= MAX_FRAME_BYTES:
                record = image[at:stop]
                row = decode_record(record)
                if row is not None:
                    yield row, record
                    at = image.find(ROW_MAGIC, stop)
                    continue
        at = image.find(ROW_MAGIC, at + 1)
