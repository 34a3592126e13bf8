"""What a shard sends: at once, or, on hold, once the checkpoint that made it is committed, and after a kill again, the same bytes.

Work since a checkpoint that is done again after a kill may come to something else if it is not done by the same reference data; who heard
the first word would never know. So from a change of reference data until a checkpoint knows of it words are cells, and leave them with the
next one. A repeat is known by who hears it: words of a stage by their places, entries by their versions, frames by their numbers.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any, Final

import msgpack

from processors.row_mirror import Cells
from processors.shards import Out

CELL_BYTES: Final = 400_000  # of one cell, about, unless one word is longer: a record of a changelog takes no more than a megabyte
_OVERHEAD_BYTES: Final = 50
_Word = tuple[str, bytes, bytes | None, Sequence[tuple[str, bytes]], int | None]  # as `Out.send` takes it


class OwedOut:
    """An `Out` of one partition: `send` within a checkpoint, `save` when it is made, `tell` in the next one."""

    def __init__(self, cells: Cells, out: Out, under: bytes) -> None:
        """`under`: what its cells begin with, as no others of the shard do."""
        self._cells = cells
        self._out = out
        self._under = under
        self._holds = False
        self._added: list[_Word] = []
        self._due: list[_Word] = []
        self._held = 0  # cells
        for _, value in cells.items(under):
            self._due += msgpack.unpackb(value, use_list=False)
            self._held += 1

    def send(
        self, topic: str, key: bytes, value: bytes | None, headers: Sequence[tuple[str, bytes]] = (), partition: int | None = None
    ) -> None:
        """Send a record, behind what is owed; on hold, owe it."""
        if self._holds:
            self._added.append((topic, key, value, headers, partition))
        else:
            self.tell()
            self._out.send(topic, key, value, headers, partition)

    def hold(self) -> None:
        """Owe what is sent from now on, until `save`."""
        self.tell()
        self._holds = True

    def tell(self) -> None:
        """Send what a committed checkpoint holds. Call it behind `save` only once that checkpoint is committed."""
        due, self._due = self._due, []
        for word in due:
            self._out.send(*word)

    def save(self) -> None:
        """Write what was owed since the last call into cells, in place of what was told. The checkpoint that is made knows why it was."""
        self.tell()  # what is held is committed; nothing may go before it was sent
        cells = 0
        for part in _parts(self._added):
            self._cells.put(self._key(cells), msgpack.packb(part))
            cells += 1
        for number in range(cells, self._held):
            self._cells.drop(self._key(number))
        self._held = cells
        self._due, self._added = self._added, []
        self._holds = False

    def _key(self, number: int) -> bytes:
        return self._under + number.to_bytes(4, "big")


def _parts(words: Sequence[_Word]) -> Iterator[list[Any]]:
    """Words in cells of a bounded size."""
    part: list[Any] = []
    size = 0
    for topic, key, value, headers, partition in words:
        more = len(key) + len(value or b"") + sum(len(name) + len(body) for name, body in headers) + _OVERHEAD_BYTES
        if part and size + more > CELL_BYTES:
            yield part
            part, size = [], 0
        part.append((topic, key, value, list(headers), partition))
        size += more
    if part:
        yield part
