"""What changes come to: nothing for nothing, and the same in the end whatever the way."""

from __future__ import annotations

from dataclasses import replace
from itertools import count

import pytest
from hypothesis import given
from hypothesis import strategies as st

from broker.events.envelope import Event, decode_structured
from broker.events.folding import Present, fold
from processors.happenings import activity_finished, activity_started, activity_withdrawn, board_changed, effort_changed
from processors.results import Effort, Lap, Phase, Summary
from processors.segment_board import SegmentBoard

DAY_US = 86_400_000_000
NOW_US = 1_777_600_000_000_000
EFFORT = Effort("e1", "gym", "hill", "gym/ann", "a1", 0, NOW_US, 60_000, Phase.PROVISIONAL, 400, None, None, (), 5)
SUMMARY = Summary(
    "a1", "gym/ann", NOW_US, NOW_US + 3_600_000_000, "ride", 1_234_567, 3_600_000, 3_500_000, 12_345, 140, 171, None, 45_678,
    (1, 2, 3, 4, 5), (Lap(NOW_US, 1_000, 100_001, 120, None),), (525_000_000, 134_000_000, 525_100_000, 134_100_000), ("gym/watch",), 3_600,
)  # fmt: skip


def short(events: list[Event]) -> list[str]:
    return [event.type.removeprefix("paceline.").removesuffix(".v1") for event in events]


def test_a_workout_starts_at_its_anchor() -> None:
    event = activity_started("gym/ann", NOW_US, "a1", 3, NOW_US + 9)
    assert (event.type, event.key, event.entity, event.tenant) == ("paceline.user.activity.started.v1", "gym/ann", "a1", "gym")
    assert (event.time_us, event.recorded_us, event.phase) == (NOW_US, NOW_US + 9, "provisional")


def test_a_first_outcome_closes_and_credits() -> None:
    events = activity_finished(None, SUMMARY, 9, NOW_US)
    assert short(events) == ["user.activity.closed", "promo.distance.credited"]
    assert events[0].data.model_dump()["distance_m"] == 12_345.67
    assert events[1].data.model_dump() == {
        "credit": "a1:2026-05-01", "activity": "a1", "subject": "gym/ann", "day": "2026-05-01", "distance_m": 12_345.67,
    }  # fmt: skip
    assert {event.phase for event in events} == {"final"}


def test_no_change_that_is_told_is_no_event() -> None:
    assert activity_finished(SUMMARY, SUMMARY, 10, NOW_US) == []
    assert activity_finished(SUMMARY, replace(SUMMARY, bounds=None, origins=("gym/other",)), 10, NOW_US) == []
    assert activity_finished(None, None, 10, NOW_US) == []
    assert effort_changed(EFFORT, replace(EFFORT, version=6, curve_ms=(1,)), 6, NOW_US) == []
    assert effort_changed(None, replace(EFFORT, removed=True), 6, NOW_US) == []


def test_a_correction_names_its_fields_and_the_difference() -> None:
    events = activity_finished(SUMMARY, replace(SUMMARY, distance_cm=1_234_500, hr_avg_bpm=None), 10, NOW_US)
    assert short(events) == ["user.activity.corrected", "promo.distance.corrected"]
    assert events[0].data.model_dump()["change"] == {"fields": ("distance_m", "hr_avg_bpm")}
    assert events[1].data.model_dump()["change"] == {"delta_m": -0.67}
    assert short(activity_finished(SUMMARY, replace(SUMMARY, sport="run"), 10, NOW_US)) == ["user.activity.corrected"]


def test_a_workout_that_becomes_part_of_another_gives_its_distance_back() -> None:
    events = activity_finished(SUMMARY, None, 10, NOW_US, merged_into="a0")
    assert short(events) == ["user.activity.removed", "promo.distance.corrected"]
    assert events[0].data.model_dump()["change"] == {"merged_into": "a0"}
    assert events[1].data.model_dump()["distance_m"] == 0
    assert fold([*activity_finished(None, SUMMARY, 9, NOW_US), *events]) == {}


def test_no_distance_is_no_credit() -> None:
    still = replace(SUMMARY, distance_cm=0)
    assert short(activity_finished(None, still, 9, NOW_US)) == ["user.activity.closed"]
    assert short(activity_finished(still, SUMMARY, 10, NOW_US)) == ["user.activity.corrected", "promo.distance.credited"]


def test_another_day_takes_from_the_one_and_gives_to_the_other() -> None:
    events = activity_finished(SUMMARY, replace(SUMMARY, start_us=NOW_US - DAY_US), 10, NOW_US)
    moved = [(e.data.model_dump()["day"], e.data.model_dump()["distance_m"]) for e in events if e.topic == "paceline.promo.distance.v1"]
    assert moved == [("2026-05-01", 0.0), ("2026-04-30", 12_345.67)]
    assert len({event.id for event in events}) == len(events)


@pytest.mark.parametrize(
    ("before", "after", "kind", "phase"),
    [
        (None, EFFORT, "recorded", "provisional"),
        (None, replace(EFFORT, phase=Phase.FINAL), "recorded", "final"),
        (EFFORT, replace(EFFORT, phase=Phase.SETTLED), "corrected", "provisional"),
        (EFFORT, replace(EFFORT, phase=Phase.FINAL), "corrected", "final"),
        (replace(EFFORT, phase=Phase.FINAL), replace(EFFORT, phase=Phase.FINAL, elapsed_ms=59_000), "corrected", "correction"),
        (EFFORT, replace(EFFORT, removed=True), "removed", "correction"),
        (replace(EFFORT, removed=True), EFFORT, "recorded", "provisional"),
    ],
)
def test_an_effort_tells_how_sure_it_is(before: Effort | None, after: Effort, kind: str, phase: str) -> None:
    (event,) = effort_changed(before, after, 7, NOW_US)
    assert (event.type, event.phase) == (f"paceline.social.effort.{kind}.v1", phase)
    assert kind == "removed" or event.time_us == after.start_us + 1000 * after.elapsed_ms


class Book:
    """Applies efforts as the platform does: board, events."""

    def __init__(self) -> None:
        self.board, self.events, self._ordinals = SegmentBoard("hill"), list[Event](), count()
        self._held: dict[str, Effort] = {}

    def put(self, effort: Effort) -> list[str]:
        before, ordinal = self._held.get(effort.id), next(self._ordinals)
        self._held[effort.id] = effort
        change = self.board.apply(effort)
        made = effort_changed(before, effort, effort.version, NOW_US, ordinal)
        if change is not None:
            made += board_changed(change, [row.effort for row in self.board.top(limit=10).rows], effort.version, NOW_US, ordinal)
        self.events += made
        return [named(event) for event in made][1:]


def named(event: Event) -> str:
    cause = event.data.model_dump().get("change", {}).get("cause")
    return short([event])[0] + (f":{cause}" if cause else "")


def effort(name: str, who: str, ms: int, version: int, **values: object) -> Effort:
    return replace(EFFORT, id=name, subject=f"gym/{who}", elapsed_ms=ms, version=version, **values)


def test_a_board_tells_its_leads_and_records() -> None:
    book = Book()
    assert book.put(effort("e1", "ann", 60_000, 1)) == ["user.record.set:first", "social.board.changed", "social.board.lead_taken:faster"]
    assert book.put(effort("e2", "bob", 61_000, 2)) == ["user.record.set:first", "social.board.changed"]
    assert book.put(effort("e3", "bob", 62_000, 3)) == []
    assert book.put(effort("e4", "bob", 59_000, 4)) == ["user.record.set:faster", "social.board.changed", "social.board.lead_taken:faster"]
    assert book.put(effort("e4", "bob", 58_000, 5)) == ["user.record.set:corrected", "social.board.changed"]
    assert book.put(effort("e4", "bob", 58_000, 6, removed=True)) == [
        "user.record.set:restored", "social.board.changed", "social.board.lead_taken:inherited",
    ]  # fmt: skip
    assert book.put(effort("e1", "ann", 60_000, 7, removed=True)) == [
        "user.record.withdrawn", "social.board.changed", "social.board.lead_taken:inherited",
    ]  # fmt: skip
    present = fold(book.events)
    assert [row["effort"] for row in present["paceline.social.board.v1", "gym/hill"]["top"]] == ["e2"]
    assert present["paceline.user.record.v1", "gym/bob:hill"]["effort"] == "e2"
    assert ("paceline.user.record.v1", "gym/ann:hill") not in present


def test_only_the_first_ten_are_told() -> None:
    book = Book()
    for n in range(12):
        book.put(effort(f"e{n}", f"a{n}", 60_000 + n, n + 1))
    assert book.put(effort("e20", "late", 70_000, 20)) == ["user.record.set:first"]
    assert book.put(effort("e11", "a11", 60_011, 21, removed=True)) == ["user.record.withdrawn"]
    assert book.put(effort("e3", "a3", 60_003, 22, removed=True)) == ["user.record.withdrawn", "social.board.changed"]
    assert book.put(effort("e9", "a9", 90_000, 23)) == ["user.record.set:corrected", "social.board.changed"]
    assert len(fold(book.events)["paceline.social.board.v1", "gym/hill"]["top"]) == 10


CHANGES = st.lists(
    st.tuples(
        st.integers(0, 14), st.integers(0, 5), st.integers(50_000, 50_009), st.sampled_from(list(Phase)), st.booleans(), st.integers(0, 3)
    ),
    max_size=60,
)


@given(CHANGES)
def test_the_last_events_of_a_board_are_the_board(changes: list[tuple[int, int, int, Phase, bool, int]]) -> None:
    book = Book()
    for version, (name, _, ms, phase, removed, start) in enumerate(changes, 1):
        book.put(effort(f"e{name}", f"a{name % 12}", ms, version, phase=phase, removed=removed, start_us=NOW_US + start))
    present = fold(book.events)
    top = [(row.rank, row.subject, row.effort.id, row.effort.elapsed_ms) for row in book.board.top(limit=10).rows]
    told = present.get(("paceline.social.board.v1", "gym/hill"), {"top": []})["top"]
    assert [(row["rank"], row["subject"], row["effort"], row["elapsed_ms"]) for row in told] == top
    records = {state["subject"]: state["effort"] for (topic, _), state in present.items() if topic == "paceline.user.record.v1"}
    best = {f"gym/a{n}": book.board.best(f"gym/a{n}") for n in range(12)}
    assert records == {subject: found.id for subject, found in best.items() if found}
    leads = [event for event in book.events if event.type == "paceline.social.board.lead_taken.v1"]
    assert not top or leads[-1].data.model_dump()["leader"]["subject"] == top[0][1]


@given(CHANGES, st.randoms(use_true_random=False))
def test_another_way_to_the_same_efforts_folds_to_the_same(changes: list[tuple[int, int, int, Phase, bool, int]], random) -> None:
    last = {
        f"e{name}": effort(f"e{name}", f"a{name % 12}", ms, 1_000, phase=Phase.FINAL, removed=removed, start_us=NOW_US + start)
        for name, _, ms, _, removed, start in changes
    }
    wandering, straight = Book(), Book()
    for version, (name, _, ms, phase, removed, start) in enumerate(changes, 1):
        wandering.put(effort(f"e{name}", f"a{name % 12}", ms, version, phase=phase, removed=removed, start_us=NOW_US + start))
    ends = list(last.values())
    for book in (wandering, straight):
        random.shuffle(ends)
        for one in ends:
            book.put(one)
    assert fold(wandering.events) == fold(straight.events)


SUMMARIES = st.none() | st.builds(
    replace, st.just(SUMMARY), distance_cm=st.integers(0, 3), start_us=st.sampled_from([NOW_US, NOW_US - DAY_US]), samples=st.integers(0, 2)
)


@given(st.lists(SUMMARIES, max_size=8), SUMMARIES)
def test_any_way_to_an_outcome_folds_to_that_outcome(way: list[Summary | None], end: Summary | None) -> None:
    held, told = None, [activity_started("gym/ann", NOW_US, "a1", 0, NOW_US)]
    for version, outcome in enumerate([*way, end], 1):
        told += activity_finished(held, outcome, version, NOW_US)
        held = outcome
    if held is None:
        told.append(activity_withdrawn("gym/ann", "a1", 100, NOW_US))
    assert fold(told) == fold(activity_finished(None, end, 1, NOW_US))
    sums: dict[str, float] = {}
    for event in told:
        if event.topic == "paceline.promo.distance.v1":
            says = event.data.model_dump()
            sums[says["day"]] = round(sums.get(says["day"], 0) + says.get("change", {"delta_m": says["distance_m"]})["delta_m"], 2)
    credited = {state["day"]: state["distance_m"] for (topic, _), state in fold(told).items() if topic == "paceline.promo.distance.v1"}
    assert {day: metres for day, metres in sums.items() if metres} == credited


@given(CHANGES, st.data())
def test_repeats_change_nothing(changes: list[tuple[int, int, int, Phase, bool, int]], draw: st.DataObject) -> None:
    book = Book()
    for version, (name, _, ms, phase, removed, start) in enumerate(changes, 1):
        book.put(effort(f"e{name}", f"a{name % 12}", ms, version, phase=phase, removed=removed, start_us=NOW_US + start))
    assert len({event.id for event in book.events}) == len(book.events)
    present = Present()
    for end, event in enumerate(book.events, 1):
        present.apply(decode_structured(event.body))
        for repeat in draw.draw(st.lists(st.integers(0, end - 1), max_size=2)):
            assert not present.apply(book.events[repeat])
    assert present.states() == fold(book.events)


def test_a_start_that_comes_after_the_end_changes_nothing() -> None:
    closed = activity_finished(None, SUMMARY, 9, NOW_US)
    again = activity_started("gym/ann", NOW_US, "a1", 12, NOW_US)
    assert fold([*closed, again]) == fold(closed)
    gone = activity_finished(SUMMARY, None, 11, NOW_US)
    assert fold([*closed, *gone, again]) == fold([again])
