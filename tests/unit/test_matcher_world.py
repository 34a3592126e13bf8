"""What is found among segments and decoys around generated tracks, and how large their table is: the lines of the bench `matcher`.

Nightly with a million segments and ten seeds, else with one seed and the segments around its tracks; the bench reports other seeds.
"""

from __future__ import annotations

from pathlib import Path

import pytest

from benchmarks.matcher import WHERES, judged, told_by
from benchmarks.segment_world import neighbourhood, world
from processors.segment_file import open_segment_file, write_segment_file
from processors.segment_table import table_of
from processors.segments import SegmentIndex

LINES = {"open": (0.99, 0.998), "suburb": (0.975, 0.998), "urban": (0.94, 0.995)}


@pytest.mark.parametrize(("seeds", "segments"), [((9_000, 9_001), 960), pytest.param((9_010, 9_020), 1_000_000, marks=pytest.mark.nightly)])
def test_what_was_ridden_is_found_and_decoys_are_not(seeds: tuple[int, int], segments: int, tmp_path: Path) -> None:
    around = [neighbourhood(seed, sport, where) for seed in range(*seeds) for sport in ("run", "ride") for where in WHERES]
    write_segment_file(tmp_path / "world.table", "world", 1, table_of(world(around, segments)))
    index = SegmentIndex.over(open_segment_file(tmp_path / "world.table", "world", whole=True).table)
    assert (tmp_path / "world.table").stat().st_size <= 250 * segments
    found = judged(around, told_by(index, around), "")
    for where, (recall, precision) in LINES.items():
        efforts = 64 * 2 * (seeds[1] - seeds[0])  # about so many were ridden: of few, one may be missed or wrong
        assert found[f"recall_{where}"] >= min(recall, 1.0 - 1.5 / efforts)
        assert found[f"precision_{where}"] >= min(precision, 1.0 - 1.5 / efforts)
