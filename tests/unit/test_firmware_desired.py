"""What a device takes from `cfg` is what a box takes, short of what a device cannot change."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from kit.config import Kept
from kit.desired import REST_MS, Desired, Memory, is_id, why_not

from broker import ids
from broker.errors import ConfigError
from broker.nodeconfig import parse_node_config

names = st.sampled_from(["watch-7", "strap", "ann", "A", "", "x" * 33, "a/b"])
times = st.none() | st.integers(0, 10)
bindings = st.fixed_dictionaries({"device": names, "athlete": names}, optional={"from_us": times, "to_us": times})
documents = st.fixed_dictionaries(
    {},
    optional={
        "version": st.integers(-1, 9) | st.just("newest"),
        "bindings": st.lists(bindings, max_size=4) | st.integers(),
        "frame_ms": st.sampled_from([49, 50, 250, 10_000, 10_001, "fast"]),
        "full_policy": st.sampled_from(["reject_new", "drop_oldest", "other"]),
        "unknown": st.integers(),
    },
)


@given(documents)
def test_a_device_takes_what_a_box_takes(document: dict[str, Any]) -> None:
    try:
        theirs = parse_node_config(json.dumps(document).encode(), "cfg")
    except ConfigError:
        assert why_not(document)
        return
    assert why_not(document) == ""
    desired = Desired("gym", {**document, "version": document["version"] + 1})
    assert desired.frame_ms == theirs.frame_ms
    for device in ("watch-7", "strap"):
        for utc_us in (None, *range(12)):
            athlete = theirs.athlete_at(device, utc_us)
            assert desired.subject(device, utc_us) == (f"gym/{athlete}" if athlete else "")


@given(st.text(max_size=34) | st.integers())
def test_ids_are_those_of_the_wire(text: object) -> None:
    assert is_id(text) == (isinstance(text, str) and ids.is_id(text))


@pytest.mark.parametrize(("key", "value"), [("uplink", {"host": "h", "port": 1}), ("spool_cap_bytes", 2_000_000)])
def test_what_a_device_cannot_change_is_refused_with_its_name(key: str, value: object) -> None:
    desired = Desired("gym")
    assert desired.take({"version": 1, key: value}).startswith(f"{key}: ")
    assert desired.version == 0


def test_a_document_with_a_wrong_key_changes_nothing_and_says_so() -> None:
    desired = Desired("gym", {"version": 1, "frame_ms": 500})
    assert desired.take({"version": 2, "frame_ms": 100, "colour": "red"}) == "colour: unknown key"
    assert (desired.version, desired.frame_ms) == (1, 500)


def test_an_older_document_changes_nothing() -> None:
    desired = Desired("gym", {"version": 5, "frame_ms": 500})
    assert desired.take({"version": 5, "frame_ms": 100}) == ""
    assert desired.frame_ms == 500


class Counted(Kept):
    """How often flash is written."""

    saves = 0

    def save(self, document: dict[str, Any]) -> None:
        self.saves += 1
        super().save(document)


def test_what_ran_runs_again_after_a_start(tmp_path: Path) -> None:
    document = {"version": 3, "bindings": [{"device": "watch-7", "athlete": "ann"}]}
    Memory(Kept(str(tmp_path / "desired")), "gym/watch-7").keep(document, 0)
    assert Memory(Kept(str(tmp_path / "desired")), "gym/watch-7").document == document
    assert Desired("gym", document).subject("watch-7", None) == "gym/ann"


def test_what_another_identity_was_told_is_not_taken(tmp_path: Path) -> None:
    Memory(Kept(str(tmp_path / "desired")), "gym/watch-7").keep({"version": 9}, 0)
    assert Memory(Kept(str(tmp_path / "desired")), "gym/watch-8").document is None


@pytest.mark.parametrize("said", [{}, {"who": "gym/a"}, {"who": "gym/a", "cfg": 5}, {"cfg": {"version": 1}}])
def test_what_is_no_configuration_in_the_memory_is_nothing(tmp_path: Path, said: dict[str, Any]) -> None:
    Kept(str(tmp_path / "desired")).save(said)
    assert Memory(Kept(str(tmp_path / "desired")), "gym/a").document is None


def test_a_platform_that_changes_its_mind_each_second_wears_no_flash(tmp_path: Path) -> None:
    """The first at once, then one a minute, and in the end the last; over the wrap of the ticks too."""
    kept = Counted(str(tmp_path / "desired"))
    memory = Memory(kept, "gym/a")
    first_ms = (1 << 30) - 100_000
    for second in range(600):
        memory.keep({"version": second + 1}, (first_ms + second * 1000) % (1 << 30))
    assert kept.saves == 10
    memory.settle((first_ms + 600_000 + REST_MS) % (1 << 30))
    memory.settle((first_ms + 700_000 + REST_MS) % (1 << 30))
    assert kept.saves == 11
    assert Memory(Kept(str(tmp_path / "desired")), "gym/a").document == {"version": 600}


def test_unknown_key_however_long_is_told_in_few_words() -> None:
    """What is told goes into the state, and one that does not fit the link's buffer ends the link again and again."""
    assert why_not({"version": 1, "x" * 1800: 1}) == "x" * 32 + ": unknown key"
