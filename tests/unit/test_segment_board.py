"""Segment boards against a model that sorts everything from scratch: order-safe, idempotent, complete pages, true gaps."""

from __future__ import annotations

import random
from collections.abc import Iterable
from dataclasses import replace
from datetime import UTC, date, datetime
from itertools import permutations
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given
from hypothesis import strategies as st

from broker.errors import BadInputError
from broker.reference import AthleteRef
from processors.age_class import age_class
from processors.board_views import View
from processors.effort_holding import MAX_VIEWS
from processors.ladder import decode_cursor, encode_cursor
from processors.results import CURVE_POINTS, Effort, Phase, effort_id
from processors.segment_board import OVERALL, BoardChange, SegmentBoard
from tests.boards import Kind, board_of, of_both_kinds, of_each_kind

BERLIN = "Europe/Berlin"
MINUTE_US = 60_000_000
DAY_US = 1440 * MINUTE_US
SUBJECTS = [f"gym/a{i}" for i in range(6)]


def us(*when: int, zone: str = "UTC") -> int:
    return round(datetime(*when, tzinfo=ZoneInfo(zone)).timestamp()) * 1_000_000  # type: ignore[arg-type]


NOW_US = us(2026, 6, 10, 12, zone=BERLIN)  # a Wednesday


def curve(elapsed_ms: int) -> tuple[int, ...]:
    return tuple(elapsed_ms * i // CURVE_POINTS for i in range(1, CURVE_POINTS + 1))


def named(name: str) -> str:
    """The id of an effort that a test calls so."""
    return effort_id(name, "hill", 0)


def effort(subject: str, elapsed_ms: int, *, of: str = "", start_us: int = NOW_US, version: int = 1, **more: object) -> Effort:
    made = Effort(
        named(of or f"{subject}.{start_us}"), "gym", "hill", subject, f"activity of {subject}", 0, start_us, elapsed_ms, Phase.FINAL, 300,
        None, None, curve(elapsed_ms), version,
    )  # fmt: skip
    return replace(made, **more)  # type: ignore[arg-type]


def athlete(name: str, sex: str | None = None, birth_year: int | None = None) -> AthleteRef:
    return AthleteRef.model_validate({"tenant": "gym", "id": name, "name": name, "sex": sex, "birth_year": birth_year})


ATHLETES = {
    "gym/a0": athlete("a0", "f", 2000),
    "gym/a1": athlete("a1", "f", 1991),  # 35 in 2026, 34 the year before
    "gym/a2": athlete("a2", "m", 1991),
    "gym/a3": athlete("a3", "m", 2010),
    "gym/a4": athlete("a4", "x", 1940),
    "gym/a5": athlete("a5"),
}
VIEWS = [
    View.at(NOW_US, BERLIN, sex=sex, age_class=of_class, period=period)  # type: ignore[arg-type]
    for sex in (None, "f", "m")
    for of_class in (None, "25-34", "35-44")
    for period in ("all", "week", "today")
]


def stands(view: View, subject: str, start_us: int) -> bool:
    """Whether an effort belongs to a view, by plain calendar arithmetic."""
    who = ATHLETES[subject]
    local = datetime.fromtimestamp(start_us / 1e6, ZoneInfo(view.zone))
    now = datetime.fromtimestamp(NOW_US / 1e6, ZoneInfo(BERLIN))
    if view.sex is not None and who.sex != view.sex:
        return False
    if view.age_class is not None and (who.birth_year is None or age_class(who.birth_year, local.year) != view.age_class):
        return False
    if view.period == "week":
        return local.date().isocalendar()[:2] == now.date().isocalendar()[:2]
    return view.period == "all" or local.date() == now.date()


def model(efforts: Iterable[Effort], view: View = OVERALL) -> list[tuple[int, Effort, int, int | None]]:
    """(rank, effort, gap to leader, gap to next faster) from scratch."""
    last: dict[str, Effort] = {}
    for e in efforts:
        if e.id not in last or e.version > last[e.id].version:
            last[e.id] = e
    best: dict[str, Effort] = {}
    for e in sorted(last.values(), key=lambda e: (e.elapsed_ms, e.start_us, e.id)):
        if not (e.removed or e.kept_off) and stands(view, e.subject, e.start_us):
            best.setdefault(e.subject, e)
    rows = list(best.values())
    made = []
    for e in rows:
        faster = [other.elapsed_ms for other in rows if other.elapsed_ms < e.elapsed_ms]
        made.append((1 + len(faster), e, e.elapsed_ms - rows[0].elapsed_ms, e.elapsed_ms - max(faster) if faster else None))
    return made


def shown(board: SegmentBoard, view: View = OVERALL) -> list[tuple[int, Effort, int, int | None]]:
    return [(r.rank, r.effort, r.gap_leader_ms, r.gap_faster_ms) for r in board.top(view, 1000).rows]


STARTS = [NOW_US - 200 * DAY_US, NOW_US - 8 * DAY_US, NOW_US - 2 * DAY_US, us(2026, 6, 8, 0, 0, zone=BERLIN), NOW_US - 1, NOW_US,
          us(2026, 6, 9, 23, 59, zone=BERLIN), us(2026, 6, 10, 0, 0, zone=BERLIN), us(2026, 6, 15, 0, 0, zone=BERLIN)]  # fmt: skip


@st.composite
def histories(draw: st.DrawFn) -> list[Effort]:
    """Efforts of six athletes with few distinct times (ties), each re-timed or removed up to three times."""
    made: list[Effort] = []
    for number in range(draw(st.integers(1, 14))):
        subject = draw(st.sampled_from(SUBJECTS))
        for version in range(1, draw(st.integers(1, 4)) + 1):
            start_us, elapsed_ms = draw(st.sampled_from(STARTS)), draw(st.integers(60_000, 60_006))
            phase, removed = draw(st.sampled_from(Phase)), draw(st.booleans()) and draw(st.booleans())
            e = effort(subject, elapsed_ms, of=f"e{number}", start_us=start_us, version=version, phase=phase, removed=removed)
            e = replace(e, kept_off=draw(st.integers(0, 3)) == 0)
            made.append(e)
    return made


@of_each_kind
@given(histories(), st.integers(0, 1000), st.sampled_from(VIEWS))
def test_any_order_and_repetition_makes_the_board_of_the_model(kind: Kind, history: list[Effort], seed: int, view: View) -> None:
    chance = random.Random(seed)
    board = board_of(kind, "hill", ATHLETES)
    shuffled = history + chance.sample(history, chance.randint(0, len(history)))
    chance.shuffle(shuffled)
    for e in shuffled[: len(shuffled) // 2]:
        board.apply(e)
    assert shown(board, view) == model(shuffled[: len(shuffled) // 2], view)  # from here on the view is kept, not made
    for e in shuffled[len(shuffled) // 2 :]:
        board.apply(e)
    for each in (OVERALL, view):
        assert shown(board, each) == model(history, each)
    loaded = board_of(kind, "hill", ATHLETES)
    loaded.load(reversed(shuffled))
    assert shown(loaded, view) == shown(board, view)
    assert loaded.version == board.version
    for subject in SUBJECTS:
        assert loaded.own(subject) == board.own(subject)


@of_both_kinds
@given(histories())
def test_every_view_is_kept_up_to_date_by_each_change(kind: Kind, history: list[Effort]) -> None:
    board = board_of(kind, "hill", ATHLETES)
    for view in VIEWS:
        board.size(view)
    for i, e in enumerate(history):
        board.apply(e)
        for view in (VIEWS[i % len(VIEWS)], VIEWS[-1 - i % len(VIEWS)]):
            assert shown(board, view) == model(history[: i + 1], view)
    for view in VIEWS:
        assert shown(board, view) == model(history, view)
        assert board.size(view) == len(model(history, view))


@of_both_kinds
@given(histories())
def test_a_change_tells_what_differs_between_before_and_after(kind: Kind, history: list[Effort]) -> None:
    board = board_of(kind, "hill", ATHLETES)
    applied: list[Effort] = []
    for e in history:
        before = {line[1].subject: line for line in model(applied)}
        leader_before = next((line[1] for line in model(applied)), None)
        change = board.apply(e)
        applied.append(e)
        after = {line[1].subject: line for line in model(applied)}
        was, now = before.get(e.subject), after.get(e.subject)
        if change is None:
            assert (was is None) == (now is None)
            assert was is None or now is None or replace(was[1], version=now[1].version) == now[1]
            continue
        assert (change.subject, change.effort) == (e.subject, e)
        assert (change.rank_before, change.best_before) == (was[:2] if was else (None, None))
        assert (change.rank_after, change.best_after) == (now[:2] if now else (None, None))
        assert change.leader_before == leader_before
        assert change.leader_after == next((line[1] for line in model(applied)), None)


@of_both_kinds
@given(histories(), st.integers(1, 5), st.sampled_from(VIEWS))
def test_pages_hold_every_row_once(kind: Kind, history: list[Effort], limit: int, view: View) -> None:
    board = board_of(kind, "hill", ATHLETES)
    board.load(history)
    rows, cursor, pages = [], None, 0
    while pages == 0 or cursor is not None:
        assert pages <= len(history)  # it ends
        page = board.top(view, limit, cursor)
        assert len(page.rows) <= limit
        assert page.size == board.size(view)
        rows += page.rows
        cursor = page.cursor
        pages += 1
    assert [(r.rank, r.effort, r.gap_leader_ms, r.gap_faster_ms) for r in rows] == model(history, view)
    assert pages == max(-(-len(rows) // limit), 1)


@of_both_kinds
@given(histories(), st.integers(0, 4), st.sampled_from(VIEWS))
def test_around_me_is_a_cut_of_the_board(kind: Kind, history: list[Effort], k: int, view: View) -> None:
    board = board_of(kind, "hill", ATHLETES)
    board.load(history)
    lines = model(history, view)
    for subject in SUBJECTS:
        place = next((i for i, line in enumerate(lines) if line[1].subject == subject), None)
        got = [(r.rank, r.effort, r.gap_leader_ms, r.gap_faster_ms) for r in board.around(view, subject, k)]
        assert got == ([] if place is None else lines[max(place - k, 0) : place + k + 1])
        assert board.rank(view, subject) == (None if place is None else lines[place][0])
        row = board.row(view, subject)
        assert (row and row.effort) == (None if place is None else lines[place][1])


@of_both_kinds
@given(histories(), st.sampled_from(VIEWS))
def test_references_are_leader_next_faster_and_own_best(kind: Kind, history: list[Effort], view: View) -> None:
    board = board_of(kind, "hill", ATHLETES)
    board.load(history)
    lines = [line[1] for line in model(history, view)]
    best = {line[1].subject: line[1] for line in model(history)}
    for subject in SUBJECTS:
        got = board.reference(view, subject)
        mine = next((e for e in lines if e.subject == subject), None)
        faster = lines if mine is None else [e for e in lines if e.elapsed_ms < mine.elapsed_ms]
        assert (got.leader, got.next_faster, got.own_best) == (
            lines[0] if lines else None,
            faster[-1] if faster else None,
            best.get(subject),
        )


@of_both_kinds
def test_equal_times_share_a_rank_and_the_earlier_effort_holds_the_tie(kind: Kind) -> None:
    board = board_of(kind)
    for subject, elapsed_ms, start_us in (("gym/late", 60_000, 30), ("gym/third", 60_001, 10), ("gym/early", 60_000, 20)):
        board.apply(effort(subject, elapsed_ms, start_us=start_us))
    rows = board.top().rows
    assert [(r.rank, r.subject, r.gap_leader_ms, r.gap_faster_ms) for r in rows] == [
        (1, "gym/early", 0, None), (1, "gym/late", 0, None), (3, "gym/third", 1, 1)
    ]  # fmt: skip
    assert board.leader() == rows[0].effort


@of_both_kinds
def test_removal_restores_the_next_best_and_a_late_older_version_stays_out(kind: Kind) -> None:
    board = board_of(kind)
    slow, fast = effort("gym/ann", 70_000, of="slow"), effort("gym/ann", 60_000, of="fast", version=2)
    assert _flags(board.apply(slow)) == (True, False, True)
    assert _flags(board.apply(fast)) == (True, False, False)
    gone = board.apply(replace(fast, version=3, removed=True))
    assert _flags(gone) == (False, True, False)
    assert gone is not None
    assert (gone.best_before, gone.best_after) == (fast, slow)
    assert board.apply(fast) is None
    assert board.best("gym/ann") == slow
    last = board.apply(replace(slow, version=4, removed=True))
    assert _flags(last) == (False, True, False)
    assert board.top().rows == board.around(OVERALL, "gym/ann") == ()
    assert board.leader() is None


def _flags(change: BoardChange | None) -> tuple[bool, bool, bool]:
    assert change is not None
    return change.record_set, change.record_withdrawn, change.lead_taken


@of_both_kinds
def test_a_retimed_best_is_a_correction_until_another_effort_is_better(kind: Kind) -> None:
    board = board_of(kind)
    board.apply(effort("gym/ann", 65_000, of="other"))
    first = effort("gym/ann", 60_000, of="best")
    board.apply(first)
    assert _flags(board.apply(replace(first, elapsed_ms=59_000, version=2))) == (False, False, False)
    assert _flags(board.apply(replace(first, elapsed_ms=61_000, version=3))) == (False, False, False)
    assert _flags(board.apply(replace(first, elapsed_ms=66_000, version=4))) == (False, True, False)


@of_both_kinds
def test_the_lead_is_taken_by_passing_and_by_inheriting(kind: Kind) -> None:
    board = board_of(kind)
    board.apply(effort("gym/ann", 60_000))
    bob = effort("gym/bob", 59_000)
    taken = board.apply(bob)
    assert _flags(taken) == (True, False, True)
    assert taken is not None
    assert (taken.rank_before, taken.rank_after) == (None, 1)
    back = board.apply(replace(bob, version=2, removed=True))
    assert back is not None
    assert back.lead_taken
    assert back.leader_after == board.best("gym/ann")


@of_both_kinds
def test_a_slower_effort_and_a_new_version_of_the_same_change_no_row(kind: Kind) -> None:
    board = board_of(kind)
    best = effort("gym/ann", 60_000, of="best")
    board.apply(best)
    assert board.apply(effort("gym/ann", 61_000, of="slower", start_us=NOW_US + 1, version=5)) is None
    assert board.apply(replace(best, version=6)) is None
    assert board.version == 6
    marked = board.apply(replace(best, version=7, hr_avg_bpm=150))
    assert marked is not None
    assert (marked.record_set, marked.rank_before, marked.rank_after) == (False, 1, 1)
    assert [e.id for e in board.own("gym/ann")] == [named("best"), named("slower")]


@of_both_kinds
@pytest.mark.parametrize("flip", [False, True])
def test_two_states_of_one_version_end_in_the_later_phase_in_any_order(kind: Kind, flip: bool) -> None:
    states = [effort("gym/ann", 60_000, of="e", phase=Phase.PROVISIONAL), effort("gym/ann", 60_100, of="e", phase=Phase.SETTLED)]
    board = board_of(kind)
    for state in reversed(states) if flip else states:
        board.apply(state)
    assert board.best("gym/ann") == states[1]
    row = board.row(OVERALL, "gym/ann")
    assert row is not None
    assert row.provisional
    board.apply(replace(states[0], phase=Phase.FINAL, version=2))
    row = board.row(OVERALL, "gym/ann")
    assert row is not None
    assert not row.provisional


@of_both_kinds
@pytest.mark.parametrize("subject", ["gym/@strap", "gym/@box/strap"])
def test_devices_nobody_wears_are_kept_off(kind: Kind, subject: str) -> None:
    board = board_of(kind)
    assert board.apply(effort(subject, 10_000)) is None
    assert (board.size(), board.own(subject), board.version) == (0, [], 1)


@of_both_kinds
def test_efforts_of_others_are_a_mistake(kind: Kind) -> None:
    board = board_of(kind)
    board.apply(effort("gym/ann", 60_000, of="e"))
    with pytest.raises(ValueError, match="gym/valley"):
        board.apply(effort("gym/ann", 60_000, segment="valley"))
    with pytest.raises(ValueError, match="club/hill"):
        board.apply(effort("gym/ann", 60_000, tenant="club"))
    assert board.size() == 1


@of_both_kinds
def test_an_effort_that_turns_out_to_be_another_athletes_moves_to_that_row_in_any_order(kind: Kind) -> None:
    states = [effort("gym/ann", 60_000, of="e"), effort("gym/bob", 60_000, of="e", version=2), effort("gym/ann", 70_000, of="other")]
    for order in permutations(states):
        board = board_of(kind)
        for state in order:
            board.apply(state)
        assert [(r.subject, r.effort.id) for r in board.top().rows] == [("gym/bob", named("e")), ("gym/ann", named("other"))]
    left = board.leave(named("e"))
    assert left is not None
    assert (left.subject, left.record_withdrawn, left.lead_taken, board.size()) == ("gym/bob", True, True, 1)
    assert board.leave(named("e")) is None
    assert board.apply(effort("gym/ann", 60_000, of="e", version=3)) is not None
    assert [r.effort.id for r in board.top().rows] == [named("e")]


@of_both_kinds
def test_of_two_recordings_of_one_crossing_the_better_known_counts_in_any_order(kind: Kind) -> None:
    watch = effort("gym/ann", 60_000, of="watch", activity="w", accuracy_ms=200)
    phone = effort("gym/ann", 59_000, of="phone", activity="p", accuracy_ms=900, start_us=NOW_US + 5_000_000, version=2)
    later = effort("gym/ann", 65_000, of="later", activity="p", start_us=NOW_US + 31_000_000, version=3)  # shares less than half
    for order in permutations([watch, phone, later]):
        board = board_of(kind, awarding=True)
        for state in order:
            board.apply(state)
        assert [e.id for e in board.own("gym/ann")] == [named("watch"), named("later")]
        assert (board.best("gym/ann"), board.efforts(), board.own_rank(named("phone"))) == (watch, 2, None)
        board.apply(replace(watch, version=4, removed=True))
        assert board.best("gym/ann") == phone
        assert board.own_rank(named("phone")) == 1
        board.apply(replace(watch, version=5))
        assert [e.id for e in board.own("gym/ann")] == [named("watch"), named("later")]


@of_both_kinds
def test_a_page_goes_on_at_its_place_when_rows_come_and_go(kind: Kind) -> None:
    board = board_of(kind)
    everyone = [effort(f"gym/r{i}", 60_000 + i) for i in range(10)]
    board.load(everyone)
    first = board.top(limit=4)
    board.apply(effort("gym/new", 59_000))
    board.apply(replace(everyone[3], version=2, removed=True))  # the very row the cursor names
    rest = board.top(limit=10, cursor=first.cursor)
    assert [r.subject for r in rest.rows] == [f"gym/r{i}" for i in range(4, 10)]
    assert rest.cursor is None


@of_both_kinds
@pytest.mark.parametrize("text", ["", "1", "1.2", "a.b.c", ".2.c"])
def test_a_foreign_cursor_is_refused(kind: Kind, text: str) -> None:
    with pytest.raises(BadInputError, match="cursor"):
        board_of(kind).top(cursor=text)


@of_both_kinds
@pytest.mark.parametrize(("text", "left"), [(f"{-(1 << 70)}.0.x", 3), ("-5.0.x", 3), (f"{1 << 40}.0.x", 0), (f"{1 << 70}.{1 << 70}.x", 0)])
def test_a_cursor_of_a_time_that_no_effort_has_is_a_place_before_or_behind_all(kind: Kind, text: str, left: int) -> None:
    board = board_of(kind)
    board.load([effort(f"gym/r{i}", 60_000 + 7_200_000 * i) for i in range(3)])
    assert len(board.top(cursor=text).rows) == left


@given(st.tuples(st.integers(0, 1 << 40), st.integers(-(1 << 60), 1 << 60), st.text(max_size=30)))
def test_cursors_come_back_as_they_were(key: tuple[int, int, str]) -> None:
    assert decode_cursor(encode_cursor(key)) == key


@of_both_kinds
@pytest.mark.parametrize("limit", [0, -1, 1001])
def test_a_page_has_bounds(kind: Kind, limit: int) -> None:
    with pytest.raises(BadInputError, match="limit"):
        board_of(kind).top(limit=limit)
    with pytest.raises(BadInputError, match="around"):
        board_of(kind).around(OVERALL, "gym/ann", limit if limit < 0 else 501)


@of_both_kinds
def test_an_athlete_who_states_sex_and_year_moves_to_those_views(kind: Kind) -> None:
    athletes: dict[str, AthleteRef] = {}
    board = board_of(kind, "hill", athletes)
    board.apply(effort("gym/ann", 60_000))
    women, veterans = View(sex="f"), View(age_class="35-44", zone=BERLIN)
    assert (board.size(women), board.size(veterans), board.size()) == (0, 0, 1)
    athletes["gym/ann"] = athlete("ann", "f", 1988)
    board.athlete_changed("gym/ann")
    assert (board.size(women), board.size(veterans)) == (1, 1)
    athletes["gym/ann"] = athlete("ann", "f", 1988).model_copy(update={"removed": True})
    board.athlete_changed("gym/ann")
    assert (board.size(women), board.size(veterans), board.size()) == (0, 0, 1)


@of_both_kinds
def test_views_forgotten_are_made_again(kind: Kind) -> None:
    board = board_of(kind)
    days = [View(None, None, "today", date(2026, month, day), BERLIN) for month in (1, 2) for day in range(1, 21)]
    board.apply(effort("gym/ann", 60_000, of="a", start_us=us(2026, 1, 3, 8)))
    for view in days:
        board.size(view)
    assert len(board._holding._views) == MAX_VIEWS < len(days)
    board.apply(effort("gym/bob", 61_000, of="b", start_us=us(2026, 1, 3, 9)))
    assert [board.size(view) for view in days] == [2 if view.day == date(2026, 1, 3) else 0 for view in days]


@of_both_kinds
def test_an_athlete_changes_class_at_local_new_year(kind: Kind) -> None:
    board = board_of(kind, "hill", ATHLETES)  # a1 turns 35 in 2026
    before, after = us(2025, 12, 31, 23, 59, zone=BERLIN), us(2026, 1, 1, zone=BERLIN)
    assert datetime.fromtimestamp(after / 1e6, UTC).year == 2025
    board.apply(effort("gym/a1", 60_000, start_us=before))
    board.apply(effort("gym/a1", 61_000, start_us=after))
    young, old = View(age_class="25-34", zone=BERLIN), View(age_class="35-44", zone=BERLIN)
    assert [board.top(v).rows[0].effort.elapsed_ms for v in (young, old)] == [60_000, 61_000]
    assert board.size(View(age_class="35-44", zone="UTC")) == 0
