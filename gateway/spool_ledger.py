"""The ledger of a spool: which rows it held at one moment and what it has counted since its epoch began.

Written in the same transaction as every deletion, never with a plain append: rows from `end` on are counted again from the table when the
spool opens, so rows and counts cannot disagree. Like a row it carries a magic and a CRC, so that it is found in a damaged file.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from typing import Any, Final
from zlib import crc32

import msgpack

from gateway.ranges import Range, RangeSet

IDENTITY_MAGIC: Final = b"\xb7Pi1"
LEDGER_MAGIC: Final = b"\xb7Pl1"
MAX_LISTED_RANGES: Final = 1_000
_IDENTITY: Final = struct.Struct("<4sQI")
_HEAD: Final = struct.Struct("<4sII")  # magic, crc32 of the body, len(body)


@dataclass(slots=True)
class Tally:
    """Frames of one device since the epoch began."""

    taken: int = 0
    stored: int = 0
    refused: int = 0


@dataclass(slots=True)
class Ledger:
    """`ranges` are the rows below `end` in the table, None when they were too many to list (the table is scanned instead)."""

    serial: int = 0
    epoch: int = 0
    end: int = 1
    ranges: tuple[Range, ...] | None = ()
    devices: dict[str, Tally] = field(default_factory=dict[str, Tally])
    refused: dict[str, int] = field(default_factory=dict[str, int])
    rejected: int = 0
    dropped: int = 0
    corrupt: int = 0
    salvaged: int = 0

    def copy(self) -> Ledger:
        """An independent copy."""
        devices = {name: replace(tally) for name, tally in list(self.devices.items())}  # one step: another thread may add
        return replace(self, devices=devices, refused=dict(self.refused))

    def tally(self, device: str) -> Tally:
        """The counts of a device, made on first use."""
        tally = self.devices.get(device)
        if tally is None:
            tally = self.devices[device] = Tally()
        return tally

    def count_gone(self, devices: Mapping[str, int], reason: str | None) -> None:
        """Rows left the spool: stored when `reason` is None, else refused for it."""
        for device, rows in devices.items():
            tally = self.tally(device)
            if reason is None:
                tally.stored += rows
            else:
                tally.refused += rows
        if reason is not None:
            self.refused[reason] = self.refused.get(reason, 0) + sum(devices.values())


def listed_ranges(rows: RangeSet) -> tuple[Range, ...] | None:
    """The ranges of `rows` as a ledger lists them."""
    return rows.ranges() if rows.parts <= MAX_LISTED_RANGES else None


def encode_ledger(ledger: Ledger) -> bytes:
    """The ledger as it is written."""
    devices = {name: (t.taken, t.stored, t.refused) for name, t in ledger.devices.items()}
    counts = (ledger.rejected, ledger.dropped, ledger.corrupt, ledger.salvaged)
    body = msgpack.packb((ledger.serial, ledger.epoch, ledger.end, ledger.ranges, devices, ledger.refused, counts))
    return _HEAD.pack(LEDGER_MAGIC, crc32(body), len(body)) + body


def decode_ledger(raw: bytes) -> Ledger | None:
    """The ledger in `raw` (bytes after it are ignored), None when a byte of it changed."""
    if len(raw) < _HEAD.size or raw[:4] != LEDGER_MAGIC:
        return None
    _, crc, size = _HEAD.unpack_from(raw)
    body = raw[_HEAD.size : _HEAD.size + size]
    if len(body) != size or crc32(body) != crc:
        return None
    fields: Any = msgpack.unpackb(body, use_list=False)
    serial, epoch, end, ranges, devices, refused, counts = fields
    tallies = {name: Tally(*counted) for name, counted in devices.items()}
    return Ledger(serial, epoch, end, ranges, tallies, refused, *counts)


def encode_identity(epoch: int) -> bytes:
    """The epoch, written once on three pages of its own."""
    return _IDENTITY.pack(IDENTITY_MAGIC, epoch, crc32(epoch.to_bytes(8, "little")))


def decode_identity(raw: bytes) -> int | None:
    """The epoch in `raw`, None when a byte of it changed."""
    if len(raw) < _IDENTITY.size:
        return None
    magic, epoch, crc = _IDENTITY.unpack_from(raw)
    return epoch if magic == IDENTITY_MAGIC and crc == crc32(epoch.to_bytes(8, "little")) else None


def carve_ledgers(image: bytes) -> Iterator[Ledger]:
    """Every undamaged ledger of one piece in the raw bytes of a file."""
    at = image.find(LEDGER_MAGIC)
    while at >= 0:
        head = image[at : at + _HEAD.size]
        if len(head) == _HEAD.size:
            ledger = decode_ledger(image[at : at + _HEAD.size + min(_HEAD.unpack(head)[2], 1 << 16)])
            if ledger is not None:
                yield ledger
        at = image.find(LEDGER_MAGIC, at + 4)


def carve_epoch(image: bytes) -> int | None:
    """The first undamaged epoch in the raw bytes of a file."""
    at = image.find(IDENTITY_MAGIC)
    while at >= 0:
        epoch = decode_identity(image[at : at + _IDENTITY.size])
        if epoch is not None:
            return epoch
        at = image.find(IDENTITY_MAGIC, at + 4)
    return None
