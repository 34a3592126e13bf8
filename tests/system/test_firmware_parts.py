"""The smaller modules of the kit do the same on MicroPython and on CPython."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.firmware import LANES, run

SCRIPT = Path(__file__).parents[1] / "lanes" / "kit_parts.py"


def test_both_interpreters_say_the_same(tmp_path: Path) -> None:
    said: list[str] = []
    for lane in LANES:
        folder = tmp_path / lane
        folder.mkdir()
        said.append(run(lane, SCRIPT, str(folder)))
    assert said[0] == said[1]
    assert "app ['broken', 'good', 'broken'] [('broken', 1), ('good', 0)] True" in said[0]


def fuzz(count: int, seed: int) -> None:
    """Both interpreters read the same of what no peer should send, and raise nothing; the time of the slowest input is printed."""
    read = [[line.split() for line in run(lane, SCRIPT.with_name("fuzz.py"), str(count), str(seed)).splitlines()] for lane in LANES]
    print([{words[0]: int(words[3]) for words in lane} for lane in read], "ms at most")
    assert [words[:3] for words in read[0]] == [words[:3] for words in read[1]]
    assert len(read[0]) == 4


def test_parsers_take_anything() -> None:
    fuzz(5_000, 3)


@pytest.mark.nightly
def test_parsers_take_anything_at_length() -> None:
    fuzz(200_000, 4)
