"""The smaller modules of the kit do the same on MicroPython and on CPython."""

from __future__ import annotations

from pathlib import Path

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
