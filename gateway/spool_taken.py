"""Which numbered frames this box has taken, so that a device that sends one again is acknowledged and the frame keeps its first route.

The platform counts a frame once per subject; a re-send stamped under another binding would count twice. What is remembered per numbering
(device, boot) are ranges of seq. The writer thread keeps it: rows of a commit are added after it, changed numberings are written with
every ledger, and rows from `end` on are read from the table again when the spool opens. So it never holds what was not durable.
Bounded: the least recently heard numberings, and the lowest ranges of one with many holes, are forgotten and counted, never in silence.
"""

from __future__ import annotations

import struct
import threading
from collections import OrderedDict
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from typing import Any, Final
from zlib import crc32

import msgpack

from broker.errors import Rejected
from broker.frames import read_frame
from gateway.ranges import Range, RangeSet
from gateway.spool_work import Group

TAKEN_MAGIC: Final = b"\xb7Pt1"
MAX_NUMBERINGS: Final = 4_096
MAX_PARTS: Final = 32  # of one numbering
_CAP_BYTES_EACH: Final = 4_000  # of the spool's cap: a small spool remembers fewer
_HEAD: Final = struct.Struct("<4sIH")  # magic, crc32 of the body, len(body)
_END_KEY: Final = ("", 0)  # no device has that name
_END_SLOT: Final = -1
Number = tuple[int, int]  # boot, seq


@dataclass(slots=True)
class _Numbering:
    key: tuple[str, int]  # device, boot
    slot: int
    last_n: int = -1  # the row that was taken last: the order of forgetting
    first: int = 0  # the run that grows is `first..last`, empty at first; the others are in `older`
    last: int = -1
    older: RangeSet = field(default_factory=RangeSet)

    def __contains__(self, seq: int) -> bool:
        return self.first <= seq <= self.last or seq in self.older

    def ranges(self) -> tuple[Range, ...]:
        """All that was taken, ascending."""
        every = self.older.copy()
        every.add(self.first, self.last)
        return every.ranges()


def number_of(frame: bytes) -> Number | None:
    """Boot and seq of a frame that its device numbered itself, else None (a number of the box's own is never sent to it again)."""
    found = read_frame(frame)
    if isinstance(found, Rejected) or type(found.flags) is not int or not found.self_numbered:
        return None
    return (found.boot, found.seq) if type(found.boot) is int and type(found.seq) is int else None


def capacity_of(cap_bytes: int) -> int:
    """How many numberings a spool of that cap remembers."""
    return max(64, min(MAX_NUMBERINGS, cap_bytes // _CAP_BYTES_EACH))


class Taken:
    """The memory. `has` may be called by any thread, everything else by the writer's."""

    def __init__(self, capacity: int) -> None:
        self.forgotten = 0
        self._capacity = capacity
        self._lock = threading.Lock()
        self._numberings: OrderedDict[tuple[str, int], _Numbering] = OrderedDict()
        self._latest: dict[str, _Numbering] = {}  # of each device the one heard last
        self._changed: set[tuple[str, int]] = set()

    def __len__(self) -> int:
        return len(self._numberings)

    def has(self, device: str, boot: int, seq: int) -> bool:
        """Whether this frame is, or was, in the spool."""
        with self._lock:
            numbering = self._numberings.get((device, boot))
            return numbering is not None and seq in numbering

    def add(self, first_n: int, group: Group) -> None:
        """The rows of `group`, from `first_n` on, are durable. Numbers of rows ascend from call to call."""
        touched: list[_Numbering] = []
        numberings, latest = self._numberings, self._latest
        n = first_n
        with self._lock:
            for device, number in zip(group.devices, group.numbers, strict=True):
                if number is not None:
                    boot, seq = number
                    numbering = latest.get(device)  # half the price of a look-up by (device, boot)
                    if numbering is None or numbering.key[1] != boot:
                        numbering = latest[device] = numberings.get((device, boot)) or self._new((device, boot))
                    if seq == numbering.last + 1:  # the way of a device that sends in order
                        numbering.last = seq
                    else:
                        self._jump(numbering, seq)
                    if numbering.last_n < first_n:
                        touched.append(numbering)
                    numbering.last_n = n
                n += 1
            for numbering in touched:
                key = numbering.key
                if numberings.get(key) is numbering:  # else forgotten again in this very group
                    numberings.move_to_end(key)
                    self._changed.add(key)

    def _jump(self, numbering: _Numbering, seq: int) -> None:
        numbering.older.add(numbering.first, numbering.last)
        numbering.first, numbering.last = seq, seq
        if numbering.older.parts >= MAX_PARTS:
            numbering.older.remove(*numbering.older.ranges()[0])
            self.forgotten += 1

    def _new(self, key: tuple[str, int]) -> _Numbering:
        slot = len(self._numberings)
        if slot >= self._capacity:
            old, gone = self._numberings.popitem(last=False)
            self._changed.discard(old)
            if self._latest.get(old[0]) is gone:
                del self._latest[old[0]]
            self.forgotten += 1
            slot = gone.slot
        made = self._numberings[key] = _Numbering(key, slot)
        return made

    def changed(self, end: int) -> list[tuple[int, bytes]]:
        """(slot, record) of every numbering that changed since `saved`, and the note that rows below `end` are in; empty without change."""
        if not self._changed:
            return []
        records = [(self._numberings[key].slot, _encode(key, self._numberings[key])) for key in self._changed]
        return [*records, (_END_SLOT, _encode(_END_KEY, _Numbering(_END_KEY, _END_SLOT, end)))]

    def saved(self) -> None:
        """What `changed` gave is durable."""
        self._changed.clear()

    def save_again(self) -> None:
        """The file was replaced: everything is to be written."""
        self._changed.update(self._numberings)

    def restore(self, records: Iterable[bytes]) -> int:
        """Take over records read back: damaged ones are left out, of two of one numbering the younger counts. Rows below the returned
        number are in them."""
        found: dict[tuple[str, int], tuple[int, tuple[Range, ...]]] = {}
        for record in records:
            decoded = decode_taken(record)
            if decoded is not None:
                key, last_n, ranges = decoded
                if key not in found or found[key][0] < last_n:
                    found[key] = (last_n, ranges)
        end, _ = found.pop(_END_KEY, (0, ()))
        with self._lock:
            for key in sorted(found, key=lambda k: found[k][0]):
                numbering = self._new(key)
                numbering.last_n, numbering.older = found[key][0], RangeSet(found[key][1])
            self.forgotten = 0
            self._changed.update(self._numberings)  # their slots may be others now
        return end


def _encode(key: tuple[str, int], numbering: _Numbering) -> bytes:
    body = msgpack.packb((key[0].encode(), key[1], numbering.last_n, numbering.ranges()))
    return _HEAD.pack(TAKEN_MAGIC, crc32(body), len(body)) + body


def decode_taken(raw: bytes) -> tuple[tuple[str, int], int, tuple[Range, ...]] | None:
    """((device, boot), last row, ranges) of the record `raw` begins with, None when a byte of it changed."""
    if len(raw) < _HEAD.size or raw[:4] != TAKEN_MAGIC:
        return None
    _, crc, size = _HEAD.unpack_from(raw)
    body = raw[_HEAD.size : _HEAD.size + size]
    if len(body) != size or crc32(body) != crc:
        return None
    fields: Any = msgpack.unpackb(body, use_list=False)
    device, boot, last_n, ranges = fields
    return (device.decode(errors="replace"), boot), last_n, ranges


def carve_taken(image: bytes) -> Iterator[bytes]:
    """Every undamaged record in raw bytes of a file, with repeats."""
    at = image.find(TAKEN_MAGIC)
    while at >= 0:
        record = image[at : at + _HEAD.size + 0xFFFF]
        if decode_taken(record) is not None:
            yield record[: _HEAD.size + _HEAD.unpack_from(record)[2]]
        at = image.find(TAKEN_MAGIC, at + 4)
