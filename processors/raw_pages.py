"""Dated frames of a partition that are not folded into tracks yet: a page a checkpoint, as a cell and as bytes of a file.

Nobody asks for most of them before their activity is over, so they are stored as they come, and become rows of `raw` that SQL finds by
subject and time when somebody asks for theirs (`settle`). A cell is written over once all in its page are folded, and a file goes with the
last of its pages; who reads a cell before that knows by the table `folded` up to which frame each subject is. The files are a working
copy: they are made again from the cells.
"""

from __future__ import annotations

import os
import sqlite3
from array import array
from bisect import bisect_right
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from heapq import heappop, heappush
from itertools import accumulate
from pathlib import Path
from typing import Final

import msgpack

from broker.errors import StoreError
from processors.row_mirror import Cells
from processors.samples import TakenFrame
from processors.track_db import raw_rows, stored_frame

PAGE_BYTES: Final = 400_000
FILE_BYTES: Final = 128_000_000  # few enough to be open at once
_FRAME_BYTES: Final = 60  # of a frame beside its own bytes, about
_TOGETHER: Final = 64  # frames of a row
_RAW: Final = b"r"
_ROW: Final = "INSERT INTO raw (id, subject, node, first_us, last_us, frames, body) VALUES (?,?,?,?,?,?,?)"


class _File:
    """Pages one after the other, as long as one of them is wanted."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._at = os.open(path, os.O_RDWR | os.O_CREAT | os.O_TRUNC, 0o600)
        path.unlink()  # it goes when nobody reads it any more
        self.size = 0

    def __del__(self) -> None:
        os.close(self._at)

    def append(self, raw: bytes) -> int:
        """Where it begins."""
        start = self.size
        while raw:
            try:
                written = os.write(self._at, raw)
            except OSError as error:
                raise StoreError(f"{self._path}: {error}", cure="make room on the disk of this replica") from error
            self.size += written
            raw = raw[written:]
        return start

    def read(self, start: int, size: int) -> bytes:
        return os.pread(self._at, size, start)


@dataclass(slots=True)
class _Page:
    place: int  # of its cell
    left: int  # frames that are not folded
    file: _File
    start: int
    ends: array[int]  # of the frames
    node_numbers: array[int]


class RawPages:
    """Frames have numbers, ascending as they come."""

    def __init__(self, db: sqlite3.Connection, cells: Cells, folder: Path) -> None:
        """Read the pages of frames, without those that were folded since. `folded` is a mirrored table, read before."""
        self._db = db
        self._cells = cells
        self._folder = folder
        self._file: _File | None = None
        self._of: dict[str, array[int]] = {}  # numbers of the frames of each subject
        self._settled: dict[str, int] = {}  # how many of them are rows of `raw`
        self._names: dict[str, int] = {}  # of nodes, numbered as they came
        self._keys: list[str] = []  # of frames since the last checkpoint, the first of which is `_first`
        self._nodes: list[str] = []
        self._bodies: list[bytes] = []
        self._pages: dict[int, _Page] = {}  # by first number, ascending
        self._free: list[int] = []
        self._places = 0
        folded: dict[str, int] = dict(db.execute("SELECT subject, id FROM folded"))
        self._first = 1 + max(folded.values(), default=0)
        self._restore(folded)

    def _restore(self, folded: dict[str, int]) -> None:
        pages = sorted((*msgpack.unpackb(value), int.from_bytes(key[1:], "big")) for key, value in self._cells.items(_RAW))
        self._places = 1 + max((place for *_, place in pages), default=-1)
        for first, keys, nodes, bodies, place in pages:
            left = 0
            for number, key in enumerate(keys, first):
                if number > folded.get(key, 0):
                    self._note(key, number)
                    left += 1
            if left:
                self._pages[first] = self._page(place, left, nodes, bodies)
            else:
                heappush(self._free, place)
            self._first = max(self._first, first + len(keys))

    def _page(self, place: int, left: int, nodes: Sequence[str], bodies: Sequence[bytes]) -> _Page:
        if self._file is None or self._file.size > FILE_BYTES:
            self._file = _File(self._folder / "frames")
        numbers = array("I", (self._names.setdefault(node, len(self._names)) for node in nodes))
        return _Page(place, left, self._file, self._file.append(b"".join(bodies)), array("I", accumulate(map(len, bodies))), numbers)

    def _note(self, key: str, number: int) -> None:
        held = self._of.get(key)
        if held is None:
            held = self._of[key] = array("q")
        held.append(number)

    def add(self, taken: Iterable[tuple[str, TakenFrame]]) -> None:
        """Take frames with the keys they came with."""
        number = self._first + len(self._keys)
        for key, frame in taken:
            self._keys.append(key)
            self._nodes.append(frame.node)
            self._bodies.append(frame.raw)
            self._note(key, number)
            number += 1

    def settle(self, subject: str) -> None:
        """Have all frames of a subject as rows of `raw`."""
        held = self._of.get(subject)
        if held is None:
            return
        starts, names = list(self._pages), list(self._names)
        for at in range(self._settled.get(subject, 0), len(held), _TOGETHER):
            numbers = held[at : at + _TOGETHER]
            rows = raw_rows([(subject, stored_frame(subject, *self._read(n, starts, names))) for n in numbers])
            self._db.executemany(_ROW, [(n, *row) for n, row in zip(numbers, rows, strict=False)])
        self._settled[subject] = len(held)

    def _read(self, number: int, starts: list[int], names: list[str]) -> tuple[str, bytes]:
        """The node and the bytes of a frame."""
        if number >= self._first:
            return self._nodes[number - self._first], self._bodies[number - self._first]
        first = starts[bisect_right(starts, number) - 1]
        page, at = self._pages[first], number - first
        start = page.ends[at - 1] if at else 0
        return names[page.node_numbers[at]], page.file.read(page.start + start, page.ends[at] - start)

    def folded(self, subject: str) -> int | None:
        """The frames of a subject, all of them settled, are in its tracks now: the number of the last one, None when there was none."""
        held = self._of.pop(subject, None)
        self._settled.pop(subject, None)
        if held is None:
            return None
        starts = list(self._pages)
        for number in held:
            if number < self._first:
                first = starts[bisect_right(starts, number) - 1]
                page = self._pages[first]
                page.left -= 1
                if not page.left:
                    del self._pages[first]
                    starts = list(self._pages)
                    heappush(self._free, page.place)
        return held[-1]

    def save(self) -> None:
        """Write the frames since the last checkpoint as pages."""
        start = size = 0
        for at, body in enumerate(self._bodies, 1):
            size += len(body) + _FRAME_BYTES
            if size > PAGE_BYTES or at == len(self._bodies):
                self._save(self._first + start, self._keys[start:at], self._nodes[start:at], self._bodies[start:at])
                start, size = at, 0
        self._first += len(self._keys)
        self._keys, self._nodes, self._bodies = [], [], []

    def _save(self, first: int, keys: list[str], nodes: list[str], bodies: list[bytes]) -> None:
        left = len(keys)
        for number, key in enumerate(keys, first):
            held = self._of.get(key)
            left -= held is None or held[0] > number  # it was folded meanwhile
        if not left:
            return
        if self._free:
            place = heappop(self._free)
        else:
            place = self._places
            self._places += 1
        self._pages[first] = self._page(place, left, nodes, bodies)
        self._cells.put(_RAW + place.to_bytes(8, "big"), msgpack.packb((first, keys, nodes, bodies)))
