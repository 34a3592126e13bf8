"""docs/sensors.md says what the profiles say: its tables are made from them, and every profile stands in the comparison.

`python -m device_profiles.coverage docs/sensors.md` writes the tables anew after a wanted change.
"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from device_profiles.catalogue import Catalogue, catalogue
from device_profiles.coverage import NAMES, load_peers, main, marks, own_mark, part, rewritten

DOCUMENT = Path("docs/sensors.md")


def test_the_document_is_what_the_profiles_make() -> None:
    text = DOCUMENT.read_text("utf-8")
    assert rewritten(text) == text


def test_every_profile_stands_in_the_comparison() -> None:
    named = [name for row in load_peers().rows for name in row.profiles]
    assert {profile.name for profile in catalogue().all()} == set(named)


def test_a_mark_is_earned() -> None:
    rows = {row.what: row for row in load_peers().rows}
    treadmill, merging = rows["FTMS treadmill (2ACD)"], rows["one FTMS record over two packets (More Data)"]
    whole = catalogue()
    assert own_mark(treadmill, whole) == "y"
    assert own_mark(rows["ANT-FS (files of watches)"], whole) == "."
    assert own_mark(rows["FTMS control point, status, training status, features, ranges"], whole) == "c"
    bare = {**whole.by_name, "treadmill_data": replace(whole.by_name["treadmill_data"], golden=())}
    assert own_mark(treadmill, Catalogue(bare, {})) == "p"
    single = {**whole.by_name, "rower_data": replace(whole.by_name["rower_data"], more_mask=0)}
    assert own_mark(merging, Catalogue(single, {})) == "p"
    assert own_mark(treadmill, Catalogue({}, {})) == "."


def test_no_kind_is_read_by_half() -> None:
    assert [row.what for row in load_peers().rows if own_mark(row, catalogue()) == "p"] == []


def test_a_document_without_its_marks_is_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "bare.md").write_text("nothing", "utf-8")
    assert main([str(tmp_path / "bare.md")]) == 2
    assert "the marks of part 'profiles' are missing" in capsys.readouterr().err
    assert main([str(tmp_path / "none.md")]) == 2


def test_the_parts_are_printed_or_written(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main([]) == 0
    printed = capsys.readouterr().out
    path = tmp_path / "sensors.md"
    path.write_text("".join(f"{begin}\nold\n{end}\n" for begin, end in map(marks, NAMES)), "utf-8")
    assert main([str(path)]) == 0
    for name in NAMES:
        assert part(name) in printed
        assert part(name) in path.read_text("utf-8")
