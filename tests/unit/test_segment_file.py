"""Files of segments: what is written is what is mapped, whatever is wrong with one is said, and processes share its pages."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from zlib import crc32

import numpy as np
import pytest

from benchmarks.segment_world import neighbourhood, world
from broker.errors import StoreError
from broker.reference import SegmentRef
from processors.matcher import match_track
from processors.reference_data import ReferenceData
from processors.segment_file import SegmentFiles, open_segment_file, write_segment_file
from processors.segment_rules import segment_ref
from processors.segment_table import SegmentTable, lines_of, table_of
from processors.segments import SegmentIndex
from processors.state_db import StateDb, connect, state_id
from tests.matching_scene import LOOP, fixes


def ref_of(first: int, last: int, name: str) -> SegmentRef:
    points = list(zip(LOOP.lats_deg, LOOP.lons_deg, strict=True))
    return segment_ref("gym", name, name, "any", points[first : last + 1])


REFS = [ref_of(k * 9 % 180, k * 9 % 180 + 20, f"s{k:02}") for k in range(30)]


@pytest.fixture
def table() -> SegmentTable:
    return table_of(lines_of(REFS))


@pytest.fixture
def path(tmp_path: Path, table: SegmentTable) -> Path:
    write_segment_file(tmp_path / "gym.table", "gym", 7, table)
    return tmp_path / "gym.table"


def test_what_is_written_is_mapped_and_finds_the_same(path: Path, table: SegmentTable) -> None:
    found = open_segment_file(path, "gym", whole=True)
    assert (found.tenant, found.position) == ("gym", 7)
    assert SegmentIndex.over(found.table) == SegmentIndex.over(table)
    assert not found.table.gates.flags.writeable
    assert match_track(SegmentIndex.over(found.table), fixes(1, 600)) == match_track(SegmentIndex.over(table), fixes(1, 600))


def test_a_table_of_no_segments_is_a_file_too(tmp_path: Path) -> None:
    write_segment_file(tmp_path / "a.table", "a", 0, table_of(lines_of([])))
    assert len(SegmentIndex.over(open_segment_file(tmp_path / "a.table", "a", whole=True).table)) == 0


def nothing_since(_position: int) -> list[SegmentRef]:
    return []


Damage = Callable[[bytes], bytes]


def flipped(at: int) -> Damage:
    return lambda raw: raw[:at] + bytes([raw[at] ^ 1]) + raw[at + 1 :]


def cut(size: int) -> Damage:
    return lambda raw: raw[:size]


def longer(raw: bytes) -> bytes:
    return raw + b"x"


def of_another_kind(raw: bytes) -> bytes:
    return b"SQLite format 3\0" * (len(raw) // 16)


def of_another_version(raw: bytes) -> bytes:
    """A header that is whole, of a program to come."""
    text = raw[16 : 16 + int.from_bytes(raw[8:12], "little")].replace(b'"version":2', b'"version":3')
    head = raw[:8] + len(text).to_bytes(4, "little") + crc32(text).to_bytes(4, "little") + text
    return head.ljust(4_096, b"\0") + raw[4_096:]


DAMAGES = [
    (cut(-1), "were written"),
    (cut(5_000), "were written"),
    (longer, "were written"),
    (cut(100), "only the beginning"),
    (cut(0), "only the beginning"),
    (of_another_kind, "not a file of segments"),
    (flipped(20), "header is damaged"),
    (flipped(9), "header is damaged"),
    (of_another_version, "of version 3, this program writes 2"),
    (flipped(5_000), "not what was written"),
]


@pytest.mark.parametrize(("damage", "says"), DAMAGES)
def test_whatever_is_torn_or_damaged_is_refused_with_its_reason(path: Path, damage: Damage, says: str) -> None:
    path.write_bytes(damage(path.read_bytes()))
    with pytest.raises(StoreError, match=says) as caught:
        open_segment_file(path, "gym", whole=True)
    assert "made again" in (caught.value.cure or "")
    assert SegmentFiles(path.parent).index("gym", 7, nothing_since, whole=True) is None


def test_every_single_flipped_byte_of_the_table_is_found(path: Path) -> None:
    raw = path.read_bytes()
    for at in range(4_096, len(raw), 997):
        path.write_bytes(flipped(at)(raw))
        with pytest.raises(StoreError, match="not what was written"):
            open_segment_file(path, "gym", whole=True)


def test_another_tenants_file_and_a_missing_one_are_refused(path: Path) -> None:
    with pytest.raises(StoreError, match="of tenant 'gym', not 'other'"):
        open_segment_file(path, "other")
    with pytest.raises(StoreError, match="No such file"):
        open_segment_file(path.with_name("none"), "gym")


def test_who_has_the_old_file_open_keeps_it_when_a_new_one_takes_its_place(path: Path) -> None:
    old = open_segment_file(path, "gym")
    before = old.table.gates.copy()
    write_segment_file(path, "gym", 9, table_of(lines_of(REFS[:3])))
    assert np.array_equal(old.table.gates, before)
    assert open_segment_file(path, "gym").position == 9
    assert [p.name for p in path.parent.iterdir()] == ["gym.table"]


def test_a_start_maps_the_file_and_lays_above_it_what_changed_since(tmp_path: Path) -> None:
    files = SegmentFiles(tmp_path, file_at=10)
    stored = [(ref, 10 + k) for k, ref in enumerate(REFS)]
    first = ReferenceData(files)
    first.take_stored(stored)
    assert first.index("gym") == SegmentIndex.build(REFS)
    assert open_segment_file(files.path("gym"), "gym", whole=True).position == 39
    changed = [(ref_of(3, 50, "s04"), 50), (REFS[8].model_copy(update={"removed": True}), 51), (ref_of(60, 99, "zz"), 52)]
    now = dict({ref.id: (ref, at) for ref, at in stored}, **{ref.id: (ref, at) for ref, at in changed})
    second = ReferenceData(files)
    second.take_stored(now.values())
    index = second.index("gym")
    assert index is not None
    assert (len(index.lower), len(index.upper)) == (30, 2)
    assert index == SegmentIndex.build([ref for ref, _ in now.values()])
    second.apply(ref_of(100, 140, "later"))
    assert second.index("gym") == SegmentIndex.build([*(ref for ref, _ in now.values()), ref_of(100, 140, "later")])


@pytest.mark.parametrize("damage", [cut(-1), flipped(6_000), cut(0)])
def test_a_start_makes_a_damaged_file_again(tmp_path: Path, damage: Damage) -> None:
    files = SegmentFiles(tmp_path, file_at=10)
    stored = [(ref, 10 + k) for k, ref in enumerate(REFS)]
    ReferenceData(files).take_stored(stored)
    files.path("gym").write_bytes(damage(files.path("gym").read_bytes()))
    again = ReferenceData(files)
    again.take_stored(stored)
    assert again.index("gym") == SegmentIndex.build(REFS)
    open_segment_file(files.path("gym"), "gym", whole=True)


def test_a_file_from_after_the_position_at_hand_is_not_used_and_replaced(tmp_path: Path) -> None:
    files = SegmentFiles(tmp_path, file_at=10)
    write_segment_file(files.path("gym"), "gym", 1_000, table_of(lines_of(REFS[:3])))
    data = ReferenceData(files)
    data.take_stored([(ref, 10 + k) for k, ref in enumerate(REFS)])
    assert data.index("gym") == SegmentIndex.build(REFS)
    assert open_segment_file(files.path("gym"), "gym").position == 39


def test_a_file_of_another_state_is_not_used_and_replaced(tmp_path: Path) -> None:
    """A site that was set up anew in the same folder has other segments at the same log positions."""
    before = SegmentFiles(tmp_path, file_at=10, state=1)
    ReferenceData(before).take_stored([(ref, 10 + k) for k, ref in enumerate(REFS[:20])])
    files = SegmentFiles(tmp_path, file_at=10, state=2)
    assert files.index("gym", 100, nothing_since) is None
    with pytest.raises(StoreError, match="another state"):
        open_segment_file(files.path("gym"), "gym", state=2)
    data = ReferenceData(files)
    data.take_stored([(ref, 10 + k) for k, ref in enumerate(REFS)])
    assert data.index("gym") == SegmentIndex.build(REFS)
    assert open_segment_file(files.path("gym"), "gym", state=2, whole=True).position == 39


def test_two_states_have_ids_of_their_own_that_stay(tmp_path: Path) -> None:
    ids: list[int] = []
    for name in ("a", "b"):
        StateDb(tmp_path / name).close()
        db = connect(tmp_path / name, write=False)
        ids.append(state_id(db))
        db.close()
    made = StateDb(tmp_path / "a")
    assert state_id(made.db) == ids[0] != ids[1]
    assert 0 not in ids
    made.close()


def test_what_a_killed_writer_left_goes_at_the_next_start(tmp_path: Path, table: SegmentTable) -> None:
    files = SegmentFiles(tmp_path / "segments")
    files.sweep()  # there is no folder yet
    write_segment_file(files.path("gym"), "gym", 7, table)
    for name in ("gym.table.4711.new", "pier.table.1.new"):
        (tmp_path / "segments" / name).write_bytes(b"half a file")
    files.sweep()
    assert [path.name for path in (tmp_path / "segments").iterdir()] == ["gym.table"]


def test_few_segments_make_no_file(tmp_path: Path) -> None:
    data = ReferenceData(SegmentFiles(tmp_path))
    data.take_stored([(ref, 1) for ref in REFS])
    assert data.index("gym") == SegmentIndex.build(REFS)
    assert not list(tmp_path.iterdir())


_SHARER = """
import sys
from pathlib import Path
from processors.matcher import match_track
from processors.segment_file import open_segment_file
from processors.segments import SegmentIndex
from processors.state_db import StateDb, connect, state_id
from tests.matching_scene import fixes
path = Path(sys.argv[1])
index = SegmentIndex.over(open_segment_file(path, "gym").table)
index.lower.gates.sum(), index.lower.legs.sum()
print(len(match_track(index, fixes(1, 600))), flush=True)
sys.stdin.readline()
blocks = Path("/proc/self/smaps").read_text().split(str(path))[1:]
says = {line.split(":")[0]: int(line.split()[1]) for line in blocks[0].splitlines()[1:12] if line.endswith("kB")}
print(says["Rss"], says["Private_Clean"] + says["Private_Dirty"])
"""


def test_two_processes_share_the_pages_of_one_file(path: Path) -> None:
    found = len(match_track(SegmentIndex.build(REFS), fixes(1, 600)))
    start = [sys.executable, "-c", _SHARER, str(path)]
    both = [subprocess.Popen(start, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) for _ in range(2)]
    try:
        assert [process.stdout.readline().strip() for process in both if process.stdout] == [str(found)] * 2
        for process in both:
            out, _ = process.communicate("\n", timeout=60)
            rss_kb, private_kb = (int(word) for word in out.split())
            assert rss_kb * 1024 >= path.stat().st_size - 8_192
            if process is both[0]:
                assert private_kb == 0  # while the other one maps it too
    finally:
        for process in both:
            process.kill()
            process.wait(timeout=60)


def test_a_segment_takes_no_more_than_250_bytes() -> None:
    """On ways of the generator, 80 segments of 0.25 to 3 km around each: a million take 250 MB at most."""
    lines = world([neighbourhood(9_000, sport, "open", minutes=30.0) for sport in ("run", "ride")], 1_600)
    assert table_of(lines).nbytes <= 250 * len(lines.ids)


def test_index_stays_in_memory_when_the_disk_does_not_take_it(tmp_path: Path, table: SegmentTable) -> None:
    (tmp_path / "segments").write_text("a file where the folder should be")
    index = SegmentIndex.over(table)
    assert SegmentFiles(tmp_path / "segments").keep("gym", 7, index) is index
