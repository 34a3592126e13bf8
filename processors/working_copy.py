"""The working copy of a partition: the tables of one machine in a file that nobody needs again, because its rows are cells too."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path

from broker.events.envelope import Event, encode_kafka
from processors.row_mirror import Cells, RowMirror
from processors.shards import Out
from processors.state_db import StateDb


def fresh(path: Path) -> Path:
    """The path of a working copy, with nothing there."""
    path.parent.mkdir(parents=True, exist_ok=True)
    for suffix in ("", "-wal", "-shm"):
        path.with_name(path.name + suffix).unlink(missing_ok=True)
    return path


def unsafe(store: StateDb) -> None:
    """The cells survive, this file need not."""
    store.db.execute("PRAGMA synchronous=OFF")
    store.db.execute("PRAGMA secure_delete=OFF")


class WorkingCopy:
    """Tables of one partition, read from its cells; `tables` are mirrored, `extra` is SQL that makes more of them."""

    def __init__(self, path: Path, cells: Cells, tables: Sequence[str], extra: str = "") -> None:
        self.store = StateDb(fresh(path))
        self.db = self.store.db
        unsafe(self.store)
        if extra:
            self.db.execute(extra)
        self._cells = cells
        self._mirror = RowMirror(self.db, tables)
        self.db.execute("BEGIN")
        self._mirror.restore(cells)

    def save(self) -> None:
        """Write changed rows into the cells."""
        self._mirror.save(self._cells)
        self.db.execute("COMMIT")
        self.db.execute("BEGIN")

    def close(self) -> None:
        self.store.close()


def send_events(out: Out, events: Iterable[Event]) -> None:
    """Send events as the publisher of one machine does: binary mode, the key of their entity, ids that repeat."""
    for event in events:
        headers, key, value = encode_kafka(event)
        out.send(event.topic, key, value, headers)
