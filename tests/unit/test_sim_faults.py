"""The fault plan as text, and what a faulty link does to messages."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from broker.errors import BadInputError
from simulators.faults import KNOWN, Fault, FaultPlan, FaultyLink, parse_faults


def pass_all(plan, count=400, seed=1, direction="up", gap_s=0.05):
    link = FaultyLink[int](plan, seed, "x")
    seen = []
    for k in range(count):
        link.put(k * gap_s, direction, [k])
        seen += link.take(k * gap_s, direction)
    return seen + link.take(1e9, direction), link


def test_plan_is_read_from_text():
    plan = parse_faults(" drop:0.3@10-20 ,clock_skew:-5, dead_battery:1@12-15%25,roaming@7")
    assert plan.faults == (
        Fault("drop", 0.3, 10, 20),
        Fault("clock_skew", -5),
        Fault("dead_battery", 1, 12, 15, 0.25),
        Fault("roaming", 1, 7),
    )
    assert plan.active("drop", 9.99) is None
    assert plan.active("drop", 10) == 0.3
    assert plan.active("drop", 20) is None
    assert parse_faults("").faults == ()
    assert plan.end_s() == 20


@pytest.mark.parametrize("name", sorted(KNOWN))
def test_every_known_fault_parses_with_its_usual_value(name):
    assert parse_faults(name).faults[0].value == KNOWN[name][0]


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("dorp", "not known"),
        ("drop:2", "outside"),
        ("drop@20-10", "stop must be after"),
        ("drop:0.1.2", "could not convert"),
        ("drop%0", "share"),
        ("drop@a", "not known"),
        ("one_way:-1", "outside"),
    ],
)
def test_bad_plans_name_the_part_and_the_cure(text, said):
    with pytest.raises(BadInputError, match=said) as caught:
        parse_faults(f"delay:1,{text}")
    assert text in caught.value.message
    assert caught.value.cure


def test_share_hits_about_that_many_members_and_always_the_same():
    plan = parse_faults("drop:0.5%25")
    hit = [name for name in map(str, range(1000)) if plan.for_member(3, name).faults]
    assert 200 < len(hit) < 300
    assert hit == [name for name in map(str, range(1000)) if plan.for_member(3, name).faults]
    assert hit != [name for name in map(str, range(1000)) if plan.for_member(4, name).faults]


def test_edges_come_once_however_time_is_cut():
    plan = parse_faults("cut@1-3,roaming@2,drop@3-5")
    whole = plan.edges(-1, 10)
    cut = [edge for k in range(-4, 40) for edge in plan.edges(k / 4, (k + 1) / 4)]
    assert cut == whole
    assert [at for at, _, _ in whole] == [1, 2, 3, 3, 5]
    assert plan.next_edge_s(1) == 2
    assert plan.next_edge_s(5) == float("inf")


@given(st.lists(st.integers(), max_size=50))
def test_quiet_link_passes_everything_in_order(items):
    link = FaultyLink[int](FaultPlan(), 1)
    link.put(0, "up", items)
    assert link.take(0, "up") == items
    assert link.vanished == 0


def test_drop_loses_its_share():
    seen, link = pass_all(parse_faults("drop:0.3"), 2000)
    assert seen == sorted(set(seen))
    assert link.vanished == 2000 - len(seen)
    assert 500 < link.vanished < 700


def test_duplicate_and_reorder_lose_nothing():
    seen, _ = pass_all(parse_faults("duplicate:0.3,reorder:0.3"), 1000)
    assert set(seen) == set(range(1000))
    assert 200 < len(seen) - 1000 < 400
    assert seen != sorted(seen)


def test_delay_keeps_the_order():
    link = FaultyLink[int](parse_faults("delay:2"), 1)
    for k in range(10):
        link.put(k, "down", [k])
    assert [link.take(t, "down") for t in (1.9, 2, 4, 100)] == [[], [0], [1, 2], list(range(3, 10))]
    assert link.next_s() == float("inf")


@pytest.mark.parametrize("name", ["cut", "half_open"])
def test_dead_link_swallows_both_ways_and_what_is_under_way(name):
    plan = parse_faults(f"{name}@5-10,delay:1")
    link = FaultyLink[int](plan, 1)
    link.put(4.5, "up", [1])
    assert link.take(6, "up") == []
    assert link.vanished == 1
    link.put(7, "down", [2])
    link.put(10, "up", [3])
    assert link.take(20, "down") == []
    assert link.take(20, "up") == [3]


@pytest.mark.parametrize(("value", "passes"), [(0, "up"), (1, "down")])
def test_one_way_link_passes_one_way(value, passes):
    for direction in ("up", "down"):
        seen, _ = pass_all(parse_faults(f"one_way:{value}"), 20, direction=direction)
        assert bool(seen) == (direction == passes)


def test_link_is_repeatable_by_seed():
    plan = parse_faults("drop:0.2,duplicate:0.2,reorder:0.5")
    assert pass_all(plan, seed=7)[0] == pass_all(plan, seed=7)[0] != pass_all(plan, seed=8)[0]


def test_every_fault_is_documented_with_its_default_and_range():
    page = (Path(__file__).resolve().parents[2] / "docs" / "simulators.md").read_text("utf-8")
    for name, (usual, low, high, meaning) in KNOWN.items():
        assert f"| `{name}` | {usual:g} | {low:g} to {high:g} | {meaning} |" in page
