"""The world of the demo: in half a minute riders and runners cross segments, for any number of members and any seed."""

from __future__ import annotations

from collections import Counter
from io import StringIO

import pytest
from rich.console import Console

from broker.layouts import all_layouts
from broker.reference import AthleteRef
from paceline.demo_world import SPREAD_M, demo_references, demo_segments
from paceline.table import live_table, segment_table
from processors.matcher import Fixes, match_track
from processors.segments import SegmentIndex
from simulators.athlete import Sport, draw_athlete
from simulators.course import synthetic_loop
from simulators.gym import GymSettings, build_nodes, member_athletes, member_names, stranger_names
from simulators.truth import Truth

LOOP = synthetic_loop()
START_US = 1_790_000_000_000_000


def gym(members: int, seed: int, samples: int) -> GymSettings:
    return GymSettings(
        "127.0.0.1", 1, "demo", members, "", seed=seed, samples=samples, start_us=START_US, spread_m=SPREAD_M, strangers=1
    )  # fmt: skip


def efforts(members: int, seed: int, seconds: int) -> dict[str, Counter[str]]:
    """Per sport, how many times each segment is crossed by what the members' devices measure in so many seconds."""
    settings, truth = gym(members, seed, seconds), Truth()
    for node, _ in build_nodes(settings, LOOP, START_US, truth):
        node.tick(START_US + (seconds + 2) * 1_000_000)
    fixes: dict[str, list[tuple[int, int, int, int]]] = {}
    for one in truth:
        for sample in all_layouts()[one.layout].unpack(one.records):
            if sample["lat"] is not None and sample["lon"] is not None:
                at = round(sample["lat"] * 1e7), round(sample["lon"] * 1e7)
                fixes.setdefault(one.subject, []).append((one.utc_us, *at, round((sample["accuracy_m"] or 0.0) * 100)))
    index = SegmentIndex.build(demo_segments("demo", LOOP))
    found = {sport: Counter[str]() for sport in Sport}
    for body in member_athletes(settings):
        if rows := sorted(fixes.get(f"demo/{body.name}", [])):
            timed = match_track(index, Fixes.of(*(list(column) for column in zip(*rows, strict=True))))
            found[body.sport].update(t.segment for t in timed)
    return {sport.value: count for sport, count in found.items() if count}


@pytest.mark.parametrize(("members", "riders", "runners"), [(24, 6, 2), (200, 60, 12)])
def test_riders_and_runners_cross_within_half_a_minute(members: int, riders: int, runners: int) -> None:
    for seed in (1, 2, 3):
        found = efforts(members, seed, 27)
        assert found.keys() == {"ride", "run"}
        assert found["ride"].total() >= riders
        assert found["run"].total() >= runners
        assert set(found["ride"] + found["run"]) == {"lighthouse-straight", "harbour-dash", "pier-sprint"}


def test_those_who_stay_cross_the_climb_and_the_way_back() -> None:
    found = efforts(4, 1, 600)
    assert {"gannet-climb", "back-to-the-harbour"} <= set(found["ride"])


def test_every_member_is_somebody_and_the_strap_is_nobody() -> None:
    settings = gym(1000, 1, 1)
    known = demo_references("demo", LOOP, member_athletes(settings), draw_athlete("rider", Sport.RIDE, 1))
    people = [ref for ref in known if isinstance(ref, AthleteRef)]
    assert [ref.id for ref in people] == [*member_names(settings), "rider"]
    assert len({ref.name for ref in people}) == len(people)
    first = people[:24]
    assert {ref.show for ref in first} == {"yes", "no", "nickname"}
    assert {ref.sex for ref in first} == {"f", "m", "x"}
    assert len({ref.birth_year for ref in first}) > 12

    truth = Truth()
    for node, _ in build_nodes(gym(1, 1, 2), LOOP, START_US, truth):
        node.tick(START_US + 5_000_000)
    assert stranger_names(gym(1, 1, 2)) == ["strap-1"]
    assert {(one.subject, one.origin) for one in truth} == {("demo/member0000", "demo/member0000"), ("demo/@strap-1", "demo/strap-1")}


def test_terminal_shows_the_segment_board_with_gaps_beside_the_athletes() -> None:
    lines = [
        {"rank": 1, "name": "Ada [b]", "elapsed_ms": 59_960, "gap_ms": 0, "phase": "final"},
        {"rank": 2, "name": "Ben", "elapsed_ms": 63_449, "gap_ms": 3_489, "phase": "settled"},
        {"rank": 3, "name": "Cy", "elapsed_ms": 70_000, "gap_ms": 10_040, "phase": "provisional"},
    ]
    board = {"segment_name": "Pier sprint", "lines": lines}
    console = Console(width=110, record=True, file=StringIO())
    console.print(segment_table(board, 2))
    shown = [line.split() for line in console.export_text().splitlines()]
    assert shown == [["#", "Pier", "sprint", "time", "gap"], ["1", "Ada", "[b]", "1:00.0"], ["2", "Ben", "~1:03.4", "+3.5"]]

    athlete = {"name": "Ada", "status": "live", "rank": 1, "hr_bpm": 140, "speed_mps": None, "distance_m": 12.0, "points": 0.5}
    snapshot = {
        "athletes": [athlete], "devices": [], "frames_stored": 1, "dead_letters": 0, "latency_ms": {"p50": 1.0, "p99": 2.0}, "board": board,
    }  # fmt: skip
    console.print(live_table(3.0, snapshot, "http://page/", 5))
    (row,) = [line for line in console.export_text().splitlines() if line.split()[:2] == ["1", "Ada"]]
    assert row.split()[-4:] == ["1", "Ada", "[b]", "1:00.0"]
    console.print(live_table(3.0, {**snapshot, "board": None}, "http://page/", 5))
    assert "Pier" not in console.export_text()
