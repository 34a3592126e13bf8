"""docs/virtual-sensors.md names every kind, command and fault there is, and no other."""

from __future__ import annotations

import asyncio
import re
from pathlib import Path

from simulators.bluez.control import Control
from simulators.bluez.faults import KNOWN
from simulators.bluez.room import Room
from simulators.sensors.catalogue import KINDS

TEXT = (Path(__file__).resolve().parents[2] / "docs" / "virtual-sensors.md").read_text("utf-8")


def rows(heading: str) -> list[list[str]]:
    """The cells of the first table below a heading."""
    part = TEXT.split(f"### {heading}\n", 1)[1]
    lines = re.search(r"(?:^\|.*\n)+", part, re.MULTILINE)
    assert lines is not None
    return [[cell.strip() for cell in line.strip("|\n").split("|")] for line in lines[0].splitlines()[2:]]


def test_every_kind_is_there() -> None:
    assert sorted(row[0].strip("`") for row in rows("Kinds")) == sorted(KINDS)


def test_every_fault_is_there_with_its_value_and_meaning() -> None:
    assert {row[0].strip("`"): (float(row[1]), row[2]) for row in rows("Faults")} == KNOWN


async def test_every_command_is_there() -> None:
    named = {name for row in rows("Commands") for name in re.findall(r"`(\w+)`", row[0])}
    assert named == set(Control(Room(lambda _: None, epoch_s=asyncio.get_running_loop().time()))._commands)
