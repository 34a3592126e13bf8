"""The store of a partition of the live stage on Kafka: what is loaded again between two checkpoints is as new as what was counted."""

from __future__ import annotations

from pathlib import Path

from processors.live_cells import LiveCells
from processors.live_state import LiveStates
from processors.row_mirror import MemoryCells
from processors.stage import Numbered, Wants
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
