"""What the live stage keeps of each subject, as cells: those that changed since the last checkpoint share a page.

A cell a subject and checkpoint would cost more than its frame: a record of the changelog, with headers and a report of its delivery, and a
row of RocksDB. A page is one cell for hundreds of subjects; its columns of state stand side by side, those in which all are equal once. A
page whose subjects are all in newer ones is gone and its place is taken again, so there are about as many as checkpoints between two frames
of an athlete. Who stays behind in the oldest page moves: into the newest while its activity is under way, else into a cell of its own. The
newest page that has a subject is right, and its own cell only when none has: all pages are read when a partition is opened, own cells when
they are wanted.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any, Final, NamedTuple

import msgpack
import numpy as np

from processors.live_row import COLUMNS, I64
from processors.row_mirror import Cells

PAGE_BYTES: Final = 400_000
MOST_PAGES: Final = 256  # of a partition: beyond, the oldest is emptied
_PAGE, _OWN = b"p", b"s"
_ROW_BYTES: Final = COLUMNS * 8
_NUMBERING_BYTES: Final = 100  # about


class Entry(NamedTuple):
    """One subject. Equal states give equal bytes."""

    key: str
    row: bytes  # its state row, without what is beside it; empty when it has none
    beside: bytes  # of the row, while a source proves itself
    matching: bytes
    numberings: tuple[Any, ...]  # those it used last, as `live_cells` writes them
    under_way: tuple[int, int] | None  # start and version of the activity under way
    close_us: int | None  # when its wake to close is due


Facts = tuple[bool, bytes, bytes, tuple[Any, ...], tuple[int, int] | None, int | None]
"""Of a subject beside its row: whether it has one, then as in `Entry`."""


def facts_of(entry: Entry) -> Facts:
    """What a page holds of an entry beside its row."""
    return (bool(entry.row), *entry[2:])


def encode_page(number: int, keys: Sequence[str], rows: I64, facts: Sequence[Facts]) -> bytes:
    """A page of at least one subject; who has no row has any."""
    return msgpack.packb((number, keys, _packed(rows), facts))


class Columns(NamedTuple):
    """A page as it is stored: who has no row has any in `rows`."""

    number: int  # greater than those of all pages before it
    keys: Sequence[str]
    rows: I64
    facts: Sequence[Facts]


def decode_columns(value: bytes) -> Columns:
    """Inverse of `encode_page`."""
    number, keys, packed, facts = msgpack.unpackb(value, use_list=False)
    return Columns(number, keys, _unpacked(packed, len(keys)), facts)


def decode_some(value: bytes, wanted: Callable[[str], bool]) -> Columns | None:
    """The same of the subjects that are wanted; None, and nothing but the keys is taken apart, when there are none."""
    reader = msgpack.Unpacker(use_list=False, max_buffer_size=len(value))
    reader.feed(value)
    reader.read_array_header()
    number, keys = reader.unpack(), reader.unpack()
    places = [place for place, key in enumerate(keys) if wanted(key)]
    if not places:
        return None
    if len(places) == len(keys):
        return decode_columns(value)
    rows = _unpacked(reader.unpack(), len(keys), places)
    reader.read_array_header()
    facts: list[Facts] = []
    at = 0
    for place in places:
        while at < place:
            reader.skip()
            at += 1
        facts.append(reader.unpack())
        at += 1
    return Columns(number, [keys[place] for place in places], rows, facts)


def decode_page(value: bytes) -> tuple[int, list[Entry]]:
    """The number of a page and its entries."""
    page = decode_columns(value)
    return page.number, [
        Entry(key, row.tobytes() if facts[0] else b"", *facts[1:]) for key, row, facts in zip(page.keys, page.rows, page.facts, strict=True)
    ]


def _packed(rows: I64) -> bytes:
    """The first row, which columns differ from it somewhere, and those, each by itself."""
    varying = (rows != rows[0]).any(axis=0)
    return b"".join((rows[0].tobytes(), np.packbits(varying).tobytes(), rows[:, varying].T.tobytes()))


def _unpacked(raw: bytes, count: int, places: Sequence[int] | None = None) -> I64:
    """The rows, or those at some places."""
    at = _ROW_BYTES + COLUMNS // 8
    varying = np.unpackbits(np.frombuffer(raw, np.uint8, COLUMNS // 8, _ROW_BYTES)).astype(bool)
    rows = np.tile(np.frombuffer(raw, np.int64, COLUMNS), (count if places is None else len(places), 1))
    columns = np.frombuffer(raw, np.int64, offset=at).reshape(-1, count)
    rows[:, varying] = (columns if places is None else columns[:, places]).T
    return rows


def entries_of(key: bytes, value: bytes) -> list[Entry]:
    """The subjects in a cell of either kind; none in others. The last word about a subject is the right one."""
    if key.startswith(_PAGE):
        return decode_page(value)[1]
    return [Entry(key[1:].decode(), *msgpack.unpackb(value, use_list=False))] if key.startswith(_OWN) else []


def columns_of(key: bytes, value: bytes, wanted: Callable[[str], bool] | None = None) -> Columns | None:
    """The same as columns, of all subjects or of those wanted; None for other cells, and where nobody is. An own cell has no number."""
    if key.startswith(_PAGE):
        return decode_columns(value) if wanted is None else decode_some(value, wanted)
    if not key.startswith(_OWN) or (wanted is not None and not wanted(key[1:].decode())):
        return None
    entry = Entry(key[1:].decode(), *msgpack.unpackb(value, use_list=False))
    rows = np.frombuffer(entry.row or bytes(_ROW_BYTES), np.int64).reshape(1, COLUMNS)
    return Columns(0, [entry.key], rows, [facts_of(entry)])


class LivePages:
    """The pages of one partition."""

    def __init__(self, cells: Cells) -> None:
        self._cells = cells
        self._place: dict[str, int] = {}  # the page of each subject that is in one
        self._left: dict[int, dict[str, None]] = {}  # by page: subjects that are in no newer one; the oldest page first
        self._free: list[int] = []
        self._number = 0

    def __contains__(self, key: str) -> bool:
        return key in self._place

    def __len__(self) -> int:
        return len(self._left)

    def restore(self) -> Iterator[Entry]:
        """Read all pages; gives every subject that is in one as the newest has it."""
        pages = sorted((*decode_page(value), int.from_bytes(key[1:], "big")) for key, value in self._cells.items(_PAGE))
        for number, entries, place in pages:
            self._number = number
            self._move([e.key for e in entries], place)
        places = {place for *_, place in pages}
        self._free = [place for place in range(max(places, default=-1), -1, -1) if place not in self._left]
        for _, entries, place in pages:
            yield from (e for e in entries if self._place[e.key] == place)

    def read(self, key: str) -> list[Entry]:
        """A subject, and whoever is in its page with it; its own cell when it is in none; nothing when it was never written."""
        place = self._place.get(key)
        if place is None:
            own = self._cells.get(_OWN + key.encode())
            return [] if own is None else [Entry(key, *msgpack.unpackb(own, use_list=False))]
        page = self._cells.get(_page_key(place))
        return [e for e in decode_page(page or b"")[1] if e.key in self._left[place]]

    def stragglers(self) -> list[str]:
        """Who is to be written again, or by itself, with the next page: those left in the oldest one, when there are too many."""
        return list(next(iter(self._left.values()))) if len(self._left) >= MOST_PAGES else []

    def write(self, keys: Sequence[str], rows: I64, facts: Sequence[Facts]) -> None:
        """Write new pages of subjects that changed; `rows` has one for each, whatever it is where there is none."""
        for lo, hi in _cuts(facts):
            part = keys[lo:hi]
            self._number += 1
            emptied = self._forget(part)
            place = emptied.pop() if emptied else self._free.pop() if self._free else len(self._left)
            self._drop(emptied)
            self._move(part, place)
            self._cells.put(_page_key(place), encode_page(self._number, part, rows[lo:hi], facts[lo:hi]))

    def write_own(self, entry: Entry) -> None:
        """Give a subject a cell of its own."""
        self._cells.put(_OWN + entry.key.encode(), msgpack.packb(tuple(entry)[1:]))
        self._drop(self._forget([entry.key]))

    def _move(self, keys: Iterable[str], place: int) -> None:
        self._forget(keys)
        self._left[place] = dict.fromkeys(keys)
        self._place.update(dict.fromkeys(keys, place))

    def _forget(self, keys: Iterable[str]) -> list[int]:
        """Take subjects out of their pages; those that have none left."""
        emptied: list[int] = []
        for key in keys:
            place = self._place.pop(key, None)
            if place is not None:
                left = self._left[place]
                del left[key]
                if not left:
                    del self._left[place]
                    emptied.append(place)
        return emptied

    def _drop(self, places: Iterable[int]) -> None:
        for place in places:
            self._cells.drop(_page_key(place))
            self._free.append(place)


def _cuts(facts: Sequence[Facts]) -> Iterator[tuple[int, int]]:
    """From where to where each page goes."""
    start = size = 0
    for at, (_, beside, matching, numberings, *_) in enumerate(facts):
        one = _ROW_BYTES + len(beside) + len(matching) + _NUMBERING_BYTES * len(numberings)
        if at > start and size + one > PAGE_BYTES:
            yield start, at
            start, size = at, 0
        size += one
    if facts:
        yield start, len(facts)


def _page_key(place: int) -> bytes:
    return _PAGE + place.to_bytes(4, "big")
