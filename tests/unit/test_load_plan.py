"""The plan of a load: every frame due once, at its time, whoever answers; and what a node owes until it is answered."""

from __future__ import annotations

import random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from broker.acks import Ack, Refusal, to_ranges
from broker.bundles import decode_bundle
from broker.errors import BadInputError
from broker.frames import decode_frame
from broker.layouts import layout_named
from simulators.load_debt import FIRST_AGAIN_US, Debt
from simulators.load_plan import Due, LoadPlan, NodePlan
from simulators.load_shape import parse_shape

START = 1_700_000_000_000_000


def turns(node: NodePlan, until_us: int) -> list[Due]:
    made: list[Due] = []
    while node.turn_us < until_us:
        made += node.take()
    return made


@settings(max_examples=25, deadline=None)
@given(st.integers(1, 700), st.integers(1, 6), st.sampled_from([1, 2, 30]), st.sampled_from([50, 250, 500]), st.integers(0, 99))
def test_every_athlete_has_a_frame_each_turn_that_ends_when_it_is_due(athletes: int, nodes: int, frame_s: int, ms: int, seed: int) -> None:
    plan = LoadPlan("gym", max(athletes, nodes), nodes, 60, START, 9, frame_s, ms, seed=seed)
    rounds, seen = 2, set[tuple[str, int]]()
    for number in range(nodes):
        node, n, last_us = NodePlan(plan, number), 0, 0
        for due in turns(node, START + rounds * plan.frame_us):
            bundle = decode_bundle(due.payload)
            assert bundle.complete
            assert (bundle.epoch, bundle.first_n, bundle.count) == (plan.epoch(number), n, due.frames)
            assert due.due_us >= last_us
            n, last_us = n + due.frames, due.due_us
            for raw in bundle.rows:
                frame = decode_frame(raw)
                rows = layout_named("motion.1").unpack(frame.records)
                began_us = frame.t0_us + frame.utc_offset_us
                ended_us = began_us + rows[-1]["tick_ms"] * 1000
                assert ended_us == due.due_us
                assert plan.frame_at(frame.subject, ended_us) == frame.seq
                assert plan.frame_at(frame.subject, ended_us + 1) is None
                assert plan.due_after(frame.subject, began_us) == due.due_us
                assert [row["distance_m"] for row in rows] == [3.0 * (frame.seq * frame_s + k) for k in range(frame_s)]
                assert (frame.subject, frame.seq) not in seen
                seen.add((frame.subject, frame.seq))
    assert len(seen) == rounds * plan.athletes
    assert {subject for subject, _ in seen} == {plan.subject(k, d) for k in range(nodes) for d in range(plan.athletes_of(k))}


def test_turns_are_spread_over_the_time_of_a_frame() -> None:
    plan = LoadPlan("gym", 3000, 3000, 60, START, frame_s=30)
    first_s = [(plan.first_us(node, 0) - START) / 1e6 for node in range(plan.connections)]
    assert all(50 < sum(lo <= s < lo + 1 for s in first_s) < 150 for lo in range(30))


def test_who_is_not_of_the_load_has_no_place_in_it() -> None:
    plan = LoadPlan("gym", 3, 2, 60, START)
    for subject in (
        "gym/load00000-0002",
        "gym/load00002-0000",
        "other/load00000-0000",
        "gym/ann",
        "gym/load00000_0000",
        "gym/load-0001-0000",
    ):
        assert plan.place_of(subject) is None
        assert plan.due_after(subject, START) is None
    assert plan.place_of("gym/load00000-0001") == (0, 1)
    assert plan.place_of("gym/load00001-0000") == (1, 0)


@pytest.mark.parametrize(
    ("field", "bad"),
    [("athletes", 1), ("frame_s", 35), ("bundle_ms", 5), ("bundle_ms", 300), ("connections", 0)],
)
def test_a_plan_that_cannot_be_is_refused_by_field(field: str, bad: int) -> None:
    given_ = {"athletes": 10, "connections": 2, field: bad}
    with pytest.raises(BadInputError, match=field) as caught:
        LoadPlan("gym", seconds=1, **given_)
    assert caught.value.cure


@pytest.mark.parametrize(
    ("text", "at"),
    [
        ("steady", {0: 1.0, 1e6: 1.0}),
        ("ramp:100", {0: 0.0, 25: 0.25, 100: 1.0, 500: 1.0}),
        ("burst:0.2@60-90", {0: 0.2, 59.9: 0.2, 60: 1.0, 89.9: 1.0, 90: 0.2}),
    ],
)
def test_shapes_are_what_their_text_says(text: str, at: dict[float, float]) -> None:
    shape = parse_shape(text)
    assert {t: shape.share(t) for t in at} == pytest.approx(at)


def test_a_day_has_a_night_and_its_most_in_the_evening() -> None:
    share = parse_shape("day:600").share
    assert max(range(600), key=share) == pytest.approx(600 * 18.5 / 24, abs=2)
    assert share(600 * 3 / 24) < 0.1
    assert share(0) == pytest.approx(share(600))


@pytest.mark.parametrize("text", ["", "steady:1", "ramp:0", "ramp:", "burst:2@1-2", "burst:0.5@2-1", "day:0", "night"])
def test_a_shape_that_is_none_is_refused_with_those_there_are(text: str) -> None:
    with pytest.raises(BadInputError, match="shape") as caught:
        parse_shape(text)
    assert "day:SECONDS" in caught.value.cure


def test_who_trains_follows_the_shape_and_rests_in_between() -> None:
    plan = LoadPlan("gym", 400, 1, 60, START, shape="burst:0.25@2-4")
    counts = dict.fromkeys(range(6), 0)
    for due in turns(NodePlan(plan, 0), START + 6_000_000):
        counts[(due.due_us - START) // 1_000_000] += due.frames
    assert counts[2] == counts[3] == 400
    assert all(60 < counts[s] < 140 for s in (0, 1, 4, 5))
    assert len({counts[s] for s in (0, 1, 4, 5)}) == 1, "the same ones"


@given(st.lists(st.integers(1, 9), min_size=1, max_size=12), st.randoms(use_true_random=False))
def test_every_row_is_settled_once_however_acks_cut_and_repeat_them(sizes: list[int], rng: random.Random) -> None:
    debt, n = Debt(5), 0
    for size in sizes:
        debt.owe(Due(1000 + n, n, size, b"x"), 1000 + n, written=True)
        n += size
    refused = {row for row in range(n) if rng.random() < 0.2}
    stored = again = 0
    told: set[int] = set()
    rows = [row for row in range(n) for _ in range(rng.choice([1, 1, 2]))]
    rng.shuffle(rows)
    gone = 0
    while rows:
        part = {rows.pop() for _ in range(min(rng.randint(1, 8), len(rows)))}
        again += len(part & told)
        told |= part
        ack = Ack(5, to_ranges(part - refused), tuple(Refusal(lo, hi, "bad_frame") for lo, hi in to_ranges(part & refused)))
        for answer in debt.settle(ack):
            stored += answer.frames if answer.stored else 0
            gone += 0 if answer.stored else answer.frames
    assert (stored, gone) == (n - len(refused), len(refused))
    assert (len(debt), debt.frames, debt.oldest_us) == (0, 0, None)
    assert debt.answered_again == again


def test_an_ack_of_another_run_answers_nothing() -> None:
    debt = Debt(5)
    debt.owe(Due(1, 0, 3, b"x"), 1, written=True)
    assert debt.settle(Ack(6, ((0, 2),))) == []
    assert debt.frames == 3


def test_a_new_link_gets_all_that_is_open_and_only_what_was_written_counts_as_sent_again() -> None:
    debt = Debt(5)
    debt.owe(Due(1, 0, 3, b"a"), 1, written=True)
    debt.owe(Due(2, 3, 4, b"b"), 2, written=False)
    assert [due.payload for due in debt.everything(10)] == [b"a", b"b"]
    assert debt.sent_again == 3
    debt.everything(20)
    assert debt.sent_again == 3 + 7


def test_what_stays_unanswered_is_sent_again_ever_more_slowly() -> None:
    debt = Debt(5)
    debt.owe(Due(0, 0, 1, b"a"), 0, written=True)
    sent_s = [s for s in range(1, 200) if debt.again(s * 1_000_000)]
    assert sent_s == [15, 45, 105, 165]
    assert FIRST_AGAIN_US == 15_000_000
