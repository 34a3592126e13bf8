"""The partition table of an ESP32 as bytes: entries of 32 bytes, then an MD5 of them, padded to 0xC00 (ESP-IDF, partition tables). Pure."""

from __future__ import annotations

import hashlib
import struct
from collections.abc import Sequence
from typing import Final

from paceline.device.board import Partition

TABLE_BYTES: Final = 0xC00
_TYPES: Final = {"app": 0, "data": 1}


def partition_table(partitions: Sequence[Partition]) -> bytes:
    """The table to be flashed at 0x8000."""
    body = b"".join(
        struct.pack("<HBBII16sI", 0x50AA, _TYPES[part.type], part.subtype, part.offset, part.bytes, part.name.encode(), 0)
        for part in partitions
    )
    return (body + b"\xeb\xeb" + b"\xff" * 14 + hashlib.md5(body, usedforsecurity=False).digest()).ljust(TABLE_BYTES, b"\xff")
