"""What stands on the boards of a partition, as cells: efforts, awards and entries by their names, and the columns of each board in pages.

Nothing is read when a partition opens. A board is filled from its pages when an effort comes for it; an effort itself is read when somebody
is compared with it. Rows of efforts, awards and entries are cells as `row_mirror` has them, which readers follow (`state_view`); pages are
for this stage alone, and only those that changed are written at a checkpoint.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Final

import msgpack

from processors.awards import Awarded
from processors.effort_store import EffortStore, without_curve
from processors.packed_efforts import Entry, PackedEfforts, entry_of, may_be_packed
from processors.packed_holding import PackedHolding
from processors.packed_pages import fill, pages_of
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
        self._open: dict[tuple[str, str], PagedEfforts] = {}
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
        made = self._open[tenant, segment] = PagedEfforts(self, tenant, segment)
        return made

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
        self._save(self._open.pop((tenant, segment)))

    def flush(self) -> None:
        """Write the pages that changed; a checkpoint follows."""
        for board in self._open.values():
            self._save(board)
        self._written.clear()

    def pages(self, prefix: bytes) -> list[bytes]:
        """The pages of a board, in their order."""
        found = dict(self._cells.items(prefix))
        found.update((key, page) for key, page in self._written.items() if key.startswith(prefix))
        return [found[key] for key in sorted(found)]

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
            store = PagedEfforts(self, tenant, segment)
            holding = PackedHolding({}, store.effort)
            holding.packed.touched = store.touched
            store.packed = holding.packed
            holding.fill(sorted(entries, key=lambda e: (e.version, e.id)), len(entries))
            store.touched.update(range(len(entries)))
            self._save(store)


class PagedEfforts:
    """An `EffortStore` of one board, whose columns are in pages."""

    def __init__(self, cells: BoardCells, tenant: str, segment: str) -> None:
        self._cells = cells
        self._name = f"board {tenant}/{segment}"
        self._prefix = _PAGES + msgpack.packb([tenant, segment])
        self.packed: PackedEfforts | None = None
        self.touched: set[int] = set()  # slots that no page has as they are

    def effort(self, effort_id: str) -> Effort | None:
        """An effort, removed or not, without its curve."""
        found = self._cells.effort(effort_id)
        return None if found is None else without_curve(found)

    def count(self) -> int:
        """How many are held by now, removed ones too."""
        return 0 if self.packed is None else self.packed.used

    def after(self, version: int) -> Iterator[Effort]:
        """Those of a later version, in the order of versions."""
        packed = self.packed
        if packed is not None:
            for _, slot in sorted((held, slot) for slot in range(packed.used) if (held := packed.version_of(slot)) > version):
                found = self.effort(packed.id(slot))
                if found is not None:
                    yield found

    def entries_after(self, version: int) -> Iterator[Entry]:
        """What ranks of them."""
        return map(entry_of, self.after(version))

    def fill(self, holding: PackedHolding) -> bool:
        """Fill an empty holding from the pages, and write into them what changes there."""
        pages = self._cells.pages(self._prefix)
        if pages:
            fill(holding, pages, self._name)
        self.packed = holding.packed
        self.packed.touched = self.touched
        return True

    def changed(self) -> Iterator[tuple[bytes, bytes]]:
        """The pages that changed since the last call, with their keys."""
        if self.packed is not None and self.touched:
            for number, page in pages_of(self.packed, self.touched):
                yield self._prefix + number.to_bytes(4, "big"), page
            self.touched.clear()
