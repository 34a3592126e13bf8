"""The words the page offers are those the boards understand."""

from __future__ import annotations

import re
from importlib import resources
from typing import get_args

from processors.age_class import AGE_CLASSES
from processors.board_views import Period, Sex


def listed(name: str) -> list[list[str]]:
    """The strings of a constant of segment.js, line by line of the list."""
    source = (resources.files("processors") / "page" / "segment.js").read_text("utf-8")
    found = re.search(rf"^const {name} = \[(.*)\];$", source, re.MULTILINE)
    assert found is not None, f"segment.js has no {name}"
    return [re.findall(r'"([^"]*)"', line) for line in found[1].split("], [")]


def test_filters_of_a_board_are_those_of_the_api() -> None:
    assert listed("AGES") == [["", *AGE_CLASSES]]
    assert {value for value, _ in listed("SEXES")} == {"", *get_args(Sex)}
    assert {value for value, _ in listed("PERIODS")} == set(get_args(Period))
