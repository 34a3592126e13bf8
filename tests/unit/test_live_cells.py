"""The store of a partition of the live stage on Kafka: what is loaded again between two checkpoints is as new as what was counted."""

from __future__ import annotations

from pathlib import Path

from broker.kafka_topics import LIVE_STATE
from processors.live_cells import INLINE, LiveCells
from processors.live_state import LiveStates
from processors.row_mirror import MemoryCells
from processors.stage import Numbered, Wants
from processors.state_db import StateDb
from processors.state_view import Record, StateView
from processors.track_folder import FolderBlobs


def test_a_number_counted_since_the_checkpoint_stays_counted_for_a_subject_without_a_row(tmp_path: Path) -> None:
    """Frames of a strap that count for its athlete are numbered under the strap, which has no row of its own then."""
    states, cells = LiveStates(), MemoryCells()
    store = LiveCells(tmp_path / "live.db", cells, states, FolderBlobs(tmp_path / "blobs"))
    of = Numbered("gym/@strap", "strap", 7)
    for seq in range(12):
        store.load("live", states, Wants([of.key], [of]))
        assert states.numbering(of).ranges.add(seq)
        store.load("live", states, Wants([of.key], [of]))
        assert not states.numbering(of).ranges.add(seq)
        if seq % 4 == 0:
            store.save_cells(states)
        if seq == 8:
            states.forget()
            store.forget()
    store.close()


def test_readers_know_every_boot_of_a_subject_also_those_beyond_its_entry(tmp_path: Path) -> None:
    """A backlog of a device that started again and again comes within one checkpoint."""
    states, cells = LiveStates(), MemoryCells()
    store = LiveCells(tmp_path / "live.db", cells, states, FolderBlobs(tmp_path / "blobs"))
    boots = [Numbered("gym/ann", "gym/strap", boot) for boot in range(1, 2 * INLINE)]
    view = StateDb(tmp_path / "view.db")
    for last in (3, 5):
        store.load("live", states, Wants(["gym/ann"], boots))
        for of in boots:
            for seq in range(last):
                states.numbering(of).ranges.add(seq)
        store.save_cells(states)
        for key, value in cells.items(b""):
            StateView(view).take([Record(LIVE_STATE, 0, 0, key, value, ())])
        found = view.db.execute("SELECT origin, boot, frames FROM numbering WHERE subject='gym/ann' ORDER BY boot").fetchall()
        assert found == [(of.origin, f"{of.boot:016x}", last) for of in boots]
    store.close()
    view.close()
