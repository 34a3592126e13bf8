"""What a shard owes to other topics: told once the checkpoint that made it is committed, and after a kill again, the same bytes.

A word that is sent before its checkpoint may be made otherwise when the work is done again, because what a stage looks up has changed by
then; who heard the first one would never know. So words are cells first. Each has a place, (source, since when it counts, number), that
grows: who hears them drops those that do not (`Heard`). A state that is made anew counts from a later time, so its words are heard.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Any, Final, NamedTuple

import msgpack

from processors.row_mirror import Cells
from processors.shards import Out
from processors.wall import wall_us

_OWED, _NEXT, _HEARD = b"o", b"n", b"h"
CELL_BYTES: Final = 400_000  # of one cell, about: a record of a changelog takes no more than a megabyte
_OVERHEAD_BYTES: Final = 100


class Place(NamedTuple):
    """Where a word stands among those of a partition of a stage."""

    source: int
    since_us: int
    number: int


class _Word(NamedTuple):
    topic: str
    key: bytes
    value: bytes | None
    headers: Sequence[tuple[str, bytes]]


class Owed:
    """The words of one partition. `add` within a checkpoint, `save` when it is made, `send` in the next one."""

    def __init__(self, source: int, cells: Cells, out: Out, clock_us: Callable[[], int] = wall_us) -> None:
        self._source = source
        self._cells = cells
        self._out = out
        raw = cells.get(_NEXT)
        self._since_us, self._number = (clock_us(), 0) if raw is None else msgpack.unpackb(raw)
        self._added: list[_Word] = []
        self._due: list[_Word] = []
        self._held: list[bytes] = []  # cells of what is due, or was sent since the checkpoint
        for key, value in cells.items(_OWED):
            self._held.append(key)
            self._due += _words(value)

    @property
    def place(self) -> Place:
        """Of the word that is added next."""
        return Place(self._source, self._since_us, self._number + len(self._added))

    def add(self, topic: str, key: bytes, value: bytes | None, headers: Sequence[tuple[str, bytes]] = ()) -> None:
        """Owe a record."""
        self._added.append(_Word(topic, key, value, headers))

    def send(self) -> None:
        """Send what a committed checkpoint holds. Call it behind `save` only once that checkpoint is committed."""
        for word in self._due:
            self._out.send(word.topic, word.key, word.value, word.headers)
        self._due = []

    def save(self) -> None:
        """Write what was added into cells, and take away those that were sent: their successors commit with that."""
        self.send()  # what is held is committed; nothing may go before it was sent
        for key in self._held:
            self._cells.drop(key)
        self._held = []
        for number, part in _parts(self._number, self._added):
            key = _OWED + number.to_bytes(8, "big")
            self._cells.put(key, msgpack.packb(part))
            self._held.append(key)
        if self._added:
            self._number += len(self._added)
            self._cells.put(_NEXT, msgpack.packb((self._since_us, self._number)))
        self._due, self._added = self._added, []


class Heard:
    """Which words of the partitions of a stage were heard already."""

    def __init__(self, cells: Cells) -> None:
        self._cells = cells
        self._last: dict[int, tuple[int, int]] = {}
        self._changed: set[int] = set()

    def is_new(self, place: Place) -> bool:
        """Whether a word is heard for the first time; it is heard from now on."""
        if place.source not in self._last:
            raw = self._cells.get(_cell(place.source))
            self._last[place.source] = (0, -1) if raw is None else tuple(msgpack.unpackb(raw))
        if place[1:] <= self._last[place.source]:
            return False
        self._last[place.source] = place.since_us, place.number
        self._changed.add(place.source)
        return True

    def save(self) -> None:
        """Write what changed into cells."""
        for source in sorted(self._changed):
            self._cells.put(_cell(source), msgpack.packb(self._last[source]))
        self._changed.clear()


def _cell(source: int) -> bytes:
    return _HEARD + source.to_bytes(4, "big")


def _words(value: bytes) -> Iterator[_Word]:
    for topic, key, body, headers in msgpack.unpackb(value, use_list=False):
        yield _Word(topic, key, body, headers)


def _parts(first: int, words: Sequence[_Word]) -> Iterator[tuple[int, list[Any]]]:
    """Words in cells of a bounded size, each with the number of its first."""
    part: list[Any] = []
    size = 0
    for number, word in enumerate(words, first):
        part.append((word.topic, word.key, word.value, list(word.headers)))
        size += len(word.value or b"") + sum(len(name) + len(body) for name, body in word.headers) + _OVERHEAD_BYTES
        if size > CELL_BYTES:
            yield number - len(part) + 1, part
            part, size = [], 0
    if part:
        yield first + len(words) - len(part), part
