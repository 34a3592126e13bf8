"""The ring on raw flash: a cut at every flash operation, under the rules of NOR, loses no committed record and shows none that never was."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from tests.firmware import LANES, run

SCRIPT = Path(__file__).parents[1] / "lanes" / "ring_cuts.py"
# sectors, bytes a sector, records, torn images per cut, every n-th operation, 1 = drop the oldest when full
NORMAL = ("2 256 60 2 1 0", "3 512 120 2 1 0", "4 512 100 2 1 1", "4 4096 300 1 1 0", "5 4096 400 1 2 1")
FULL = tuple(
    f"{sectors} {size} {records} 6 1 {drop}"
    for sectors, size, records in ((2, 256, 200), (3, 256, 300), (7, 512, 600), (2, 4096, 400), (5, 1024, 600), (8, 4096, 700))
    for drop in (0, 1)
)


def cut_everywhere(lane: str, world: str) -> dict[str, int]:
    """The figures of a run in which every operation was cut and judged."""
    said = run(lane, SCRIPT, *world.split(), heap="32m", timeout_s=1500)
    figures = {name: int(value) for name, value in re.findall(r"(\w+)=(\d+)", said)}
    print(f"{lane} {world}: {said.strip()}")
    assert figures["cuts"] > 0
    assert figures["spread"] <= 1
    return figures


@pytest.mark.parametrize("world", NORMAL)
def test_a_cut_at_every_operation_loses_nothing(world: str) -> None:
    figures = cut_everywhere("cpython", world)
    tears, every = (int(word) for word in world.split()[3:5])
    assert figures["cuts"] >= figures["operations"] // every * tears  # every operation was torn
    if " 4096 " in world:
        assert figures["amplification_permille"] <= 1100


def test_both_interpreters_write_the_same_flash() -> None:
    assert cut_everywhere("micropython", "3 512 60 1 2 0") == cut_everywhere("cpython", "3 512 60 1 2 0")


def test_a_cut_at_every_operation_under_littlefs_leaves_what_was_flushed() -> None:
    said = run("micropython", SCRIPT.with_name("ring_littlefs.py"), "1", heap="16m")
    print(said)
    figures = {name: int(value) for name, value in re.findall(r"(\w+)=(\d+)", said)}
    assert figures["cuts"] == figures["operations"] > 50


@pytest.mark.nightly
@pytest.mark.timeout(3600)
@pytest.mark.parametrize("lane", LANES)
@pytest.mark.parametrize("world", FULL)
def test_a_cut_at_every_operation_of_many_laps_loses_nothing(lane: str, world: str) -> None:
    figures = cut_everywhere(lane, world)
    assert figures["cuts"] >= figures["operations"] * 6
