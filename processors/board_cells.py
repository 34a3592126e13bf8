"""What stands on the boards of a partition, as cells: efforts, awards and entries by their names, and the columns of each board in pages.

Nothing is read when a partition opens. A board is filled from its pages when an effort comes for it; an effort itself is read when somebody
is compared with it. Rows of efforts, awards and entries are cells as `row_mirror` has them, which readers follow (`state_view`); pages are
for this stage alone, and only those that changed are written at a checkpoint.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from typing import Final

import msgpack

from processors.awards import Awarded
from processors.effort_store import EffortStore, without_curve
from processors.packed_efforts import Entry, entry_of, may_be_packed
from processors.packed_holding import Fetch, PackedHolding
from processors.packed_pages import fill, page_count, pages_of
from processors.results import Effort
from processors.results_db import effort_of, effort_row
from processors.row_mirror import ROWS, Cells, row_key
from processors.stage import Mutation

_PAGES: Final = b"p"
_PAGED: Final = b"g"  # the cell that says that every board has its pages
_MOST_ENTERED: Final = 50_000


class BoardCells:
    """A `board_book.BoardStore` over the cells of a partition. `flush` before a checkpoint."""

    def __init__(self, cells: Cells) -> None:
        self._cells = cells
        self._open: dict[bytes, PagedEfforts] = {}
        self._written: dict[bytes, bytes] = {}  # pages that no checkpoint has yet
        self._entered: dict[bytes, int] = {}  # versions of entries of the class in progress
        self.pages_written = 0
        if cells.get(_PAGED) is None:
            self._page_rows()
            cells.put(_PAGED, b"1")

    def effort(self, effort_id: str) -> Effort | None:
        """An effort, removed or not, with its curve."""
        raw = self._cells.get(row_key("effort", [effort_id]))
        return None if raw is None else effort_of(msgpack.unpackb(raw))

    def efforts_of(self, tenant: str, segment: str) -> EffortStore:
        """The efforts of a board that is opened."""
        return self.paged([tenant, segment], self.effort)

    def put_effort(self, e: Effort) -> None:
        """Store an effort as it is now."""
        self._cells.put(row_key("effort", [e.id]), msgpack.packb(effort_row(e)))

    def put_awards(self, awarded: Awarded, tenant: str, segment: str) -> None:
        """Store the awards of an effort as they are now."""
        key = row_key("award", [awarded.effort, awarded.subject])
        if awarded.after:
            self._cells.put(key, msgpack.packb([awarded.subject, awarded.effort, tenant, segment, ",".join(awarded.after)]))
        else:
            self._cells.drop(key)

    def enter(self, mutations: Iterable[Mutation]) -> None:
        """Keep the newest of each entry of a class in progress."""
        for m in mutations:
            key = row_key("board", [m.board, m.subject, m.activity_us])
            held = self._entered.pop(key, None)
            if held is None:
                raw = self._cells.get(key)
                held = -1 if raw is None else int(msgpack.unpackb(raw)[3])
            if m.version > held:
                held = m.version
                row = (m.board, m.subject, m.activity_us, m.version, m.distance_um, m.points, int(m.removed))
                self._cells.put(key, msgpack.packb(row))
            self._entered[key] = held
        if len(self._entered) > _MOST_ENTERED:
            self._entered.clear()

    def closed(self, tenant: str, segment: str) -> None:
        """A board is not kept in memory any more."""
        self.close([tenant, segment])

    def close(self, name: Sequence[str | int]) -> None:
        """Keep a board of a name up to date no more, if it is open."""
        board = self._open.pop(_prefix(name), None)
        if board is not None:
            self._save(board)

    def paged(self, name: Sequence[str | int], effort: Fetch) -> PagedEfforts:
        """The efforts of a board of a name, as its pages and `effort` have them; kept up to date from now on."""
        made = PagedEfforts(self, name, effort)
        self._open[made.prefix] = made
        return made

    def drop(self, tenant: str, segment: str) -> Iterator[tuple[Effort, tuple[str, ...]]]:
        """Forget a board that is closed: pages, efforts and awards; what there was, one by one, each effort with its awards. It is all gone
        once the last was asked for."""
        prefix = _prefix([tenant, segment])
        holding = PackedHolding({}, self.effort)
        PagedEfforts(self, [tenant, segment], self.effort).fill(holding)
        for slot in range(holding.packed.used):
            e = self.effort(holding.packed.id(slot))
            if e is not None:
                key = row_key("award", [e.id, e.subject])
                raw = self._cells.get(key)
                if raw is not None:
                    self._cells.drop(key)
                self._cells.drop(row_key("effort", [e.id]))
                yield e, tuple(msgpack.unpackb(raw)[4].split(",")) if raw is not None else ()
        for number in range(page_count(holding.packed.used)):
            key = prefix + number.to_bytes(4, "big")
            self._cells.drop(key)
            self._written[key] = b""

    def flush(self) -> None:
        """Write the pages that changed; a checkpoint follows."""
        for board in self._open.values():
            self._save(board)
        self._written.clear()

    def pages(self, prefix: bytes) -> list[bytes]:
        """The pages of a board, in their order."""
        found = dict(self._cells.items(prefix))
        found.update((key, page) for key, page in self._written.items() if key.startswith(prefix))
        return [page for key in sorted(found) if (page := found[key])]

    def _save(self, board: PagedEfforts) -> None:
        for key, page in board.changed():
            self._cells.put(key, page)
            self._written[key] = page
            self.pages_written += 1

    def _page_rows(self) -> None:
        """Make the pages of boards whose state an older program kept as rows alone."""
        boards: dict[tuple[str, str], list[Entry]] = {}
        for key, value in self._cells.items(ROWS):
            if msgpack.unpackb(key[1:])[0] == "effort":
                e = effort_of(msgpack.unpackb(value))
                if may_be_packed(e):
                    boards.setdefault((e.tenant, e.segment), []).append(entry_of(e))
        for (tenant, segment), entries in boards.items():
            store = PagedEfforts(self, [tenant, segment], self.effort)
            holding = PackedHolding({}, store.effort)
            store.keep(holding)
            holding.fill(sorted(entries, key=lambda e: (e.version, e.id)), len(entries))
            store.touched.update(range(len(entries)))
            self._save(store)


class PagedEfforts:
    """An `EffortStore` of one board, whose columns are in pages."""

    def __init__(self, cells: BoardCells, name: Sequence[str | int], effort: Fetch) -> None:
        self._cells = cells
        self._name = "board " + "/".join(map(str, name))
        self._effort = effort
        self.prefix = _prefix(name)
        self.holding: PackedHolding | None = None
        self.touched: set[int] = set()  # slots that no page has as they are

    def effort(self, effort_id: str) -> Effort | None:
        """An effort, removed or not, without its curve."""
        found = self._effort(effort_id)
        return None if found is None else without_curve(found)

    def count(self) -> int:
        """How many are held by now, removed ones too."""
        return 0 if self.holding is None else len(self.holding)

    def after(self, version: int) -> Iterator[Effort]:
        """Those of a later version, in the order of versions."""
        if self.holding is not None:
            packed = self.holding.packed
            for _, slot in sorted((held, slot) for slot in range(packed.used) if (held := packed.version_of(slot)) > version):
                found = self.effort(packed.id(slot))
                if found is not None:
                    yield found

    def entries_after(self, version: int) -> Iterator[Entry]:
        """What ranks of them."""
        return map(entry_of, self.after(version))

    def fill(self, holding: PackedHolding) -> bool:
        """Fill an empty holding from the pages, and write into them what changes there."""
        pages = self._cells.pages(self.prefix)
        if pages:
            fill(holding, pages, self._name)
        self.keep(holding)
        return True

    def keep(self, holding: PackedHolding) -> None:
        """Have pages written of what changes in a holding from now on."""
        self.holding = holding
        holding.packed.touched = self.touched

    def changed(self) -> Iterator[tuple[bytes, bytes]]:
        """The pages that changed since the last call, with their keys."""
        if self.holding is not None and self.touched:
            for number, page in pages_of(self.holding.packed, self.touched):
                yield self.prefix + number.to_bytes(4, "big"), page
            self.touched.clear()


def _prefix(name: Sequence[str | int]) -> bytes:
    """How the keys of the pages of a board begin."""
    return _PAGES + msgpack.packb(name)
