"""Filters of a segment board against plain counting: weight, club, following, month and year; counts, percentiles and the local legend."""

from __future__ import annotations

from dataclasses import replace
from datetime import date, datetime
from itertools import pairwise
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given
from hypothesis import strategies as st

from broker.reference import MAX_FOLLOWS, AthleteRef, decode_reference, encode_reference
from processors.board_views import View
from processors.results import CURVE_POINTS, Effort, Phase
from processors.segment_board import OVERALL
from processors.weight_class import WEIGHT_CLASSES, weight_class
from tests.boards import Kind, board_of, of_both_kinds

BERLIN = "Europe/Berlin"
SUBJECTS = [f"gym/a{i}" for i in range(6)]
CURVE = (0,) * CURVE_POINTS


def us(*when: int, zone: str = BERLIN) -> int:
    return round(datetime(*when, tzinfo=ZoneInfo(zone)).timestamp()) * 1_000_000  # type: ignore[arg-type]


NOW_US = us(2026, 6, 10, 12)
STARTS = [us(2025, 12, 31, 23, 59), us(2026, 1, 1), us(2026, 5, 31, 23, 59), us(2026, 6, 1), us(2026, 6, 10, 8), us(2026, 6, 30, 23, 59),
          us(2026, 7, 1), us(2027, 1, 1)]  # fmt: skip


def athlete(name: str, **more: object) -> AthleteRef:
    return AthleteRef.model_validate({"tenant": "gym", "id": name, "name": name, **more})


ATHLETES = {
    "gym/a0": athlete("a0", weight_kg=64.9, clubs=("pier", "hill"), follows=("a1", "a2", "a4"), blocks=("a4",)),
    "gym/a1": athlete("a1", weight_kg=65, clubs=("pier",), sex="f"),
    "gym/a2": athlete("a2", weight_kg=101.5, blocks=("a0",)),
    "gym/a3": athlete("a3", clubs=("hill",), follows=("a0", "a5")),
    "gym/a4": athlete("a4", weight_kg=54, removed=True),
}


def effort(subject: str, number: int, elapsed_ms: int, start_us: int, **more: object) -> Effort:
    made = Effort(f"{number:026x}", "gym", "hill", subject, "w", 0, start_us, elapsed_ms, Phase.FINAL, 0, None, None, CURVE, number + 1)
    return replace(made, **more)  # type: ignore[arg-type]


@st.composite
def histories(draw: st.DrawFn) -> list[Effort]:
    return [
        effort(
            draw(st.sampled_from(SUBJECTS)), n, draw(st.integers(60_000, 60_009)), draw(st.sampled_from(STARTS)),
            removed=draw(st.integers(0, 5)) == 0, kept_off=draw(st.integers(0, 5)) == 0,
        )
        for n in range(draw(st.integers(0, 20)))
    ]  # fmt: skip


VIEWS = {
    View(weight_class="55-64"): {"gym/a0"},
    View(weight_class="65-74"): {"gym/a1"},
    View(weight_class="95+"): {"gym/a2"},
    View(weight_class="U55"): set[str](),
    View(club="pier"): {"gym/a0", "gym/a1"},
    View(club="pier", sex="f"): {"gym/a1"},
    View(club="hill", weight_class="55-64"): {"gym/a0"},
    View(following="gym/a0"): {"gym/a0", "gym/a1"},  # a2 blocks a0, a0 blocks a4
    View(following="gym/a3"): {"gym/a3", "gym/a0", "gym/a5"},  # a5 is not described
    View(following="gym/a5"): {"gym/a5"},
    View(following="gym/a2", club="pier"): set[str](),
}


@of_both_kinds
@given(histories(), st.sampled_from(list(VIEWS)), st.sampled_from(["all", "year", "month"]), st.booleans())
def test_a_filtered_board_is_that_of_those_it_asks_for(kind: Kind, history: list[Effort], who: View, period: str, kept: bool) -> None:
    view = View.at(NOW_US, BERLIN, sex=who.sex, weight_class=who.weight_class, club=who.club, following=who.following, period=period)  # type: ignore[arg-type]
    first, end = {"all": (0, 1 << 62), "year": (us(2026, 1, 1), us(2027, 1, 1)), "month": (us(2026, 6, 1), us(2026, 7, 1))}[period]
    counted = [e for e in history if e.stands and e.subject in VIEWS[who] and first <= e.start_us < end]
    best: dict[str, Effort] = {}
    for e in sorted(counted, key=lambda e: (e.elapsed_ms, e.start_us, e.id)):
        best.setdefault(e.subject, e)
    board = board_of(kind, "hill", ATHLETES)
    if kept:
        board.size(view)  # kept up to date from here on
        for e in history:
            board.apply(e)
    else:
        board.load(history)
    rows = board.top(view, 100).rows
    assert [row.effort for row in rows] == list(best.values())
    assert [row.rank for row in rows] == [1 + sum(o.elapsed_ms < e.elapsed_ms for o in best.values()) for e in best.values()]
    assert (board.size(view), board.efforts(view)) == (len(best), len(counted))
    times = [e.elapsed_ms for e in best.values()]
    reached = tuple(next(ms for n, ms in enumerate(times, 1) if 100 * n >= p * len(times)) for p in (10, 25, 50, 75, 90)) if times else ()
    assert board.percentiles_ms(view) == reached


@of_both_kinds
@given(histories(), st.integers(0, 7))
def test_the_legend_has_most_efforts_and_had_them_first(kind: Kind, history: list[Effort], first: int) -> None:
    board = board_of(kind, "hill", ATHLETES)
    board.load(history)
    mine = {s: [e.start_us for e in history if e.subject == s and e.stands and STARTS[first] <= e.start_us < STARTS[-1]] for s in SUBJECTS}
    some = [(-len(starts), max(starts), s) for s, starts in mine.items() if starts]
    assert board.most_efforts(STARTS[first], STARTS[-1]) == ((min(some)[2], -min(some)[0]) if some else None)


@of_both_kinds
@given(histories())
def test_own_efforts_have_their_own_ranks(kind: Kind, history: list[Effort]) -> None:
    board = board_of(kind)
    board.load(history)
    for e in history:
        own = [o.elapsed_ms for o in history if o.subject == e.subject and o.stands]
        assert board.own_rank(e.id) == (1 + sum(ms < e.elapsed_ms for ms in own) if e.stands else None)
    assert board.own_rank("nothing") is None


@of_both_kinds
def test_whom_somebody_follows_changes_with_the_athlete(kind: Kind) -> None:
    athletes = dict(ATHLETES)
    board = board_of(kind, "hill", athletes)
    board.load([effort(subject, n, 60_000 + n, NOW_US) for n, subject in enumerate(SUBJECTS)])
    view = View(following="gym/a0")
    assert [row.subject for row in board.top(view).rows] == ["gym/a0", "gym/a1"]
    athletes["gym/a0"] = athlete("a0", follows=("a5",))
    board.athlete_changed("gym/a0")
    assert [row.subject for row in board.top(view).rows] == ["gym/a0", "gym/a5"]
    athletes["gym/a5"] = athlete("a5", blocks=("a0",))
    board.athlete_changed("gym/a5")
    assert [row.subject for row in board.top(view).rows] == ["gym/a0"]


@of_both_kinds
def test_a_flagged_best_gives_its_row_to_the_next_best_and_takes_it_back_when_cleared(kind: Kind) -> None:
    board = board_of(kind)
    slow, fast = effort("gym/a0", 0, 70_000, 1), effort("gym/a0", 1, 60_000, 2)
    board.load([slow, fast])
    flagged = replace(fast, version=5, kept_off=True, doubts=("vehicle",))
    change = board.apply(flagged)
    assert change is not None
    assert (change.record_withdrawn, change.best_after, board.efforts(OVERALL)) == (True, slow, 1)
    cleared = board.apply(replace(fast, version=6))
    assert cleared is not None
    assert (cleared.record_set, board.efforts(OVERALL)) == (True, 2)


def test_months_and_years_are_those_of_the_place() -> None:
    december = View(None, None, "month", date(2026, 12, 24), BERLIN)
    assert december.window_us == (us(2026, 12, 1), us(2027, 1, 1))
    assert View(None, None, "month", date(2026, 12, 1), BERLIN) == december
    assert View(None, None, "year", date(2028, 2, 29), "UTC").window_us == (us(2028, 1, 1, zone="UTC"), us(2029, 1, 1, zone="UTC"))


@pytest.mark.parametrize(
    ("weight_kg", "of_class"), [(20, "U55"), (54.99, "U55"), (55, "55-64"), (94.5, "85-94"), (95, "95+"), (300, "95+")]
)
def test_weight_classes_leave_no_gap(weight_kg: float, of_class: str) -> None:
    assert weight_class(weight_kg) == of_class
    spans = list(WEIGHT_CLASSES.values())
    assert all(last + 1 == first for (_, last), (first, _) in pairwise(spans))


def test_an_athlete_with_all_that_may_be_stated_fits_into_a_record() -> None:
    names = tuple(f"{i:032}" for i in range(MAX_FOLLOWS))
    full = athlete("a" * 32, nickname="n" * 40, weight_kg=70.5, follows=names, blocks=names, clubs=names[:50])
    raw = encode_reference(full)
    assert len(raw) < 65_535
    assert decode_reference(raw) == full
