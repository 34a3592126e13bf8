"""What one commit of the spool is asked and what it answers, and the memory of which devices the last rows are of (pure)."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Final, NoReturn

from broker.frames import MAX_FRAME_BYTES
from gateway.ranges import Range, RangeSet
from gateway.spool_row import MAX_DEVICE_BYTES, SpoolRow, encode_records

ROW_OVERHEAD_BYTES: Final = 17 + 10  # head of the record, and its cell in the page: pointer, lengths, rowid
_RECENT_ROWS: Final = 20_000
_FRAME_OVERHEAD_BYTES: Final = 50  # what Python needs beside the bytes of a frame


@dataclass(frozen=True, slots=True)
class Group:
    """The rows of one append in columns, which is cheaper than an object a row; `size` is what they take in the database, in bytes."""

    frames: list[bytes]
    devices: list[str]
    numbers: list[tuple[int, int] | None]
    counts: dict[str, int]  # rows by device
    names: dict[str, bytes]  # device -> its bytes
    size: int

    def records(self, first_n: int) -> list[bytes]:
        """The rows as they are stored under numbers from `first_n` on."""
        return encode_records(first_n, map(self.names.__getitem__, self.devices), self.frames)


def group_of(rows: Sequence[SpoolRow]) -> Group:
    """At least one row as a group; ValueError when one of them cannot be stored."""
    frames = [row.frame for row in rows]
    devices = [row.device for row in rows]
    counts = Counter(devices)
    names = {device: device.encode() for device in counts}
    sizes = [*map(len, frames)]
    if not min(sizes) or max(sizes) > MAX_FRAME_BYTES or not all(0 < len(name) <= MAX_DEVICE_BYTES for name in names.values()):
        _refuse(rows)
    size = sum(sizes) + sum([len(names[device]) * count for device, count in counts.items()]) + ROW_OVERHEAD_BYTES * len(frames)
    return Group(frames, devices, [row.number for row in rows], counts, names, size)


def _refuse(rows: Sequence[SpoolRow]) -> NoReturn:
    bad = next(r for r in rows if not 0 < len(r.frame) <= MAX_FRAME_BYTES or not 0 < len(r.device.encode()) <= MAX_DEVICE_BYTES)
    raise ValueError(f"row of device {bad.device!r} with {len(bad.frame)} bytes: give 1..{MAX_FRAME_BYTES} bytes and a device name")


@dataclass(slots=True)
class Settlement:
    """Rows that leave: stored by the next hop (reason None) or refused by it, and damaged ones to quarantine."""

    gone: list[tuple[int, int, str | None]] = field(default_factory=list[tuple[int, int, "str | None"]])
    damaged: list[int] = field(default_factory=list[int])

    def by_reason(self) -> list[tuple[str | None, RangeSet]]:
        """What leaves, adjacent ranges joined."""
        sets: dict[str | None, RangeSet] = {}
        for first, last, reason in self.gone:
            sets.setdefault(reason, RangeSet()).add(first, last)
        return list(sets.items())


@dataclass(frozen=True, slots=True)
class Committed:
    """What a commit did: the first row of each group (None: refused, the spool is full) and the rows dropped to make room."""

    firsts: list[int | None]
    dropped: list[Range]


class RecentDevices:
    """Devices of the last rows, so that counting live rows out does not read them back. Rows come in consecutive order."""

    def __init__(self) -> None:
        self._first = 0
        self._devices: list[str] = []

    def add(self, first: int, devices: list[str]) -> None:
        """Rows from `first` on are of `devices`; a jump in the numbers forgets what was before."""
        if first != self._first + len(self._devices):
            self._devices.clear()
            self._first = first
        self._devices += devices
        if len(self._devices) > 2 * _RECENT_ROWS:
            del self._devices[:_RECENT_ROWS]
            self._first += _RECENT_ROWS

    def split(self, first: int, last: int) -> tuple[int, dict[str, int]]:
        """Rows by device from the returned number to `last`; those of `first` up to it are not remembered."""
        start = max(first, self._first)
        if last >= self._first + len(self._devices) or start > last:
            return last + 1, {}
        return start, Counter(self._devices[start - self._first : last + 1 - self._first])


class RecentFrames:
    """The last frames in memory, so that live rows are sent without reading them back; at most about `max_bytes`."""

    def __init__(self, max_bytes: int) -> None:
        self._max_bytes = max_bytes
        self._first = 0
        self._frames: list[bytes] = []
        self._bytes = 0

    def add(self, first: int, frames: list[bytes], size: int) -> None:
        """Rows from `first` on, taking `size` bytes; a jump in the numbers forgets what was before."""
        if first != self._first + len(self._frames):
            self._frames.clear()
            self._first, self._bytes = first, 0
        self._frames += frames
        self._bytes += size + _FRAME_OVERHEAD_BYTES * len(frames)
        while self._bytes > self._max_bytes and self._frames:
            old = self._frames[: len(self._frames) // 2 + 1]
            self._bytes -= sum(map(len, old)) + (ROW_OVERHEAD_BYTES + _FRAME_OVERHEAD_BYTES) * len(old)
            del self._frames[: len(old)]
            self._first += len(old)
        if not self._frames:
            self._bytes = 0

    def get(self, first: int, last: int) -> list[bytes]:
        """The frames of `first..last` as far as they follow each other in memory; empty when `first` is not there."""
        at = first - self._first
        return self._frames[at : last - self._first + 1] if at >= 0 else []
