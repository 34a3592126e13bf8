"""The kit's ring in files: what was flushed is there whatever is cut, what was freed goes by segments, and it is full when it is."""

from __future__ import annotations

import itertools
import shutil
from pathlib import Path

import pytest
from kit.ring_files import Cursor, FileRing

EPOCHS = itertools.count(1)


def ring_in(folder: Path, **changes: object) -> FileRing:
    return FileRing(str(folder / "ring"), lambda: next(EPOCHS), **{"max_record": 100, "batch": 4, "segments": 5, **changes})


def contents(ring: FileRing) -> list[tuple[int, int, bytes]]:
    cursor, buf, found = Cursor(), bytearray(100), []
    ring.oldest(cursor)
    while size := ring.read(cursor, buf):
        found.append((cursor.epoch, cursor.n, bytes(buf[:size])))
    return found


def filled(ring: FileRing, count: int) -> list[tuple[int, int, bytes]]:
    made = [(ring.epoch, ring.append(b"%d" % i * (1 + i % 20)), b"%d" % i * (1 + i % 20)) for i in range(count)]
    return [one for one in made if one[1] >= 0]


def test_records_come_back_in_order_from_files_and_from_memory(tmp_path: Path) -> None:
    ring = ring_in(tmp_path)
    made = filled(ring, 14)
    assert contents(ring) == made
    assert len(list((tmp_path / "ring").iterdir())) == 3


def test_a_start_finds_what_was_flushed_and_begins_a_new_epoch(tmp_path: Path) -> None:
    ring = ring_in(tmp_path)
    made = filled(ring, 14)
    assert contents(ring_in(tmp_path)) == made[:12]
    ring.flush()
    again = ring_in(tmp_path)
    assert contents(again) == made
    assert again.epoch != ring.epoch
    more = filled(again, 5)
    assert contents(again) == made + more


def test_freed_segments_are_removed_and_others_come_back_whole(tmp_path: Path) -> None:
    ring = ring_in(tmp_path)
    made = filled(ring, 16)
    assert ring.free(ring.epoch, 0, 5) == 6
    assert ring.free(ring.epoch, 0, 5) == 0
    assert contents(ring) == made[6:]
    assert ring.owed == 10
    assert contents(ring_in(tmp_path)) == made[4:]  # the second segment is owed as a whole: its rows go again


def test_a_segment_cut_at_every_byte_is_there_or_not(tmp_path: Path) -> None:
    ring = ring_in(tmp_path)
    made = filled(ring, 8)
    newest = max((tmp_path / "ring").iterdir())
    whole = newest.read_bytes()
    for cut in range(len(whole) + 1):
        shutil.rmtree(tmp_path / "again", ignore_errors=True)
        shutil.copytree(tmp_path / "ring", tmp_path / "again" / "ring")
        (tmp_path / "again" / "ring" / newest.name).write_bytes(whole[:cut])
        again = ring_in(tmp_path / "again")
        assert contents(again) == (made if cut == len(whole) else made[:4])
        more = filled(again, 4)
        assert contents(ring_in(tmp_path / "again"))[-4:] == more


def test_damage_of_any_byte_costs_its_segment_only(tmp_path: Path) -> None:
    ring = ring_in(tmp_path)
    made = filled(ring, 8)
    oldest = min((tmp_path / "ring").iterdir())
    whole = oldest.read_bytes()
    for at in range(len(whole)):
        oldest.write_bytes(whole[:at] + bytes((whole[at] ^ 0x10,)) + whole[at + 1 :])
        assert contents(ring_in(tmp_path)) == made[4:]


def test_a_full_ring_rejects_or_drops_and_counts(tmp_path: Path) -> None:
    for name in ("rejecting", "dropping"):
        (tmp_path / name).mkdir()
    rejecting = ring_in(tmp_path / "rejecting", segments=3)
    dropping = ring_in(tmp_path / "dropping", segments=3, drop_oldest=True)
    assert len(filled(rejecting, 40)) == 12 == rejecting.owed
    assert rejecting.rejected == 28
    made = filled(dropping, 40)
    assert dropping.rejected == 0
    assert dropping.dropped + dropping.owed == 40
    assert contents(dropping) == made[dropping.dropped :]


def test_a_cursor_at_the_end_sees_what_comes(tmp_path: Path) -> None:
    ring, cursor, buf = ring_in(tmp_path), Cursor(), bytearray(100)
    filled(ring, 5)
    ring.newest(cursor)
    assert ring.read(cursor, buf) == 0
    for _ in range(12):
        n = ring.append(b"later")
        assert ring.read(cursor, buf) == 5
        assert cursor.n == n


def test_a_file_that_vanished_costs_its_records_only(tmp_path: Path) -> None:
    ring = ring_in(tmp_path)
    made = filled(ring, 12)
    sorted((tmp_path / "ring").iterdir())[1].unlink()
    assert contents(ring) == made[:4] + made[8:]
    assert (ring.damaged, ring.owed) == (4, 8)


def test_sizes_that_cannot_work_are_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="segments 1"):
        ring_in(tmp_path, segments=1)
    with pytest.raises(ValueError, match="batch 0"):
        ring_in(tmp_path, batch=0)
    with pytest.raises(ValueError, match="1 to 100"):
        ring_in(tmp_path).append(bytes(101))
