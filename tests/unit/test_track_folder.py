"""The folder of tracks: what a killed process had half written is no track, and goes once it is old."""

from __future__ import annotations

import os
import time
from pathlib import Path

from processors.track_folder import STALE_S, FolderObjects


def test_half_written_track_is_none_and_only_an_old_one_is_removed(tmp_path: Path) -> None:
    objects = FolderObjects(tmp_path)
    objects.put("gym/ann", "1", b"track")
    old, new = (tmp_path / "gym" / "ann" / name for name in ("2.0a1b2c3d.making", "2.4e5f6a7b.making"))
    for path in (old, new):
        path.write_bytes(b"half")
    past_s = time.time() - 2 * STALE_S
    os.utime(old, (past_s, past_s))
    assert objects.names("gym/ann") == ["1"]
    assert not old.exists()
    assert new.read_bytes() == b"half", "another process may be writing it"
    assert objects.names("gym/ann") == ["1"]
