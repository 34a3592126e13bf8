"""Boards in columns beside boards of objects: the same bytes from any order and cut, the same answers on every view as a board grows."""

from __future__ import annotations

import random
import sqlite3
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from broker.errors import StoreError
from broker.reference import AthleteRef
from processors import packed_kernel
from processors.board_cache import BoardCache
from processors.board_views import View
from processors.directory import Directory
from processors.effort_store import SegmentEfforts
from processors.packed_efforts import Entry, PackedEfforts, entry_of
from processors.packed_holding import PackedHolding
from processors.results import Effort, Phase, Ruling, effort_id
from processors.results_db import SCHEMA, put_effort
from processors.segment_board import OVERALL, SegmentBoard
from processors.state_db import StateDb
from tests.boards import Kind, StoredBoard, board_of, of_each_kind

PEOPLE = 6
NOW_US = 1_781_085_600_000_000
DAY_US = 86_400_000_000
RULINGS: tuple[Ruling, ...] = ("", "", "", "flagged", "cleared", "hidden")


def effort(athlete: int, number: int, elapsed_ms: int, version: int, *, start_us: int = 0, phase: Phase = Phase.FINAL) -> Effort:
    subject = f"gym/a{athlete}"
    return Effort(
        effort_id(subject, "hill", number), "gym", "hill", subject, "w", number, start_us, elapsed_ms, phase, 0, None, None, (), version
    )  # fmt: skip


@st.composite
def histories(draw: st.DrawFn) -> list[Effort]:
    """Efforts with few distinct times (ties), re-timed, removed, set again, doubted, ruled on and given to others."""
    made: list[Effort] = []
    version = 0
    for number in range(draw(st.integers(1, 12))):
        athlete = draw(st.integers(0, PEOPLE - 1))
        first = effort(athlete, number, 0, 0)
        for _ in range(draw(st.integers(1, 4))):
            version += 1
            e = effort(athlete, number, draw(st.integers(59_997, 60_002)), version, phase=draw(st.sampled_from(Phase)))
            e = replace(e, id=first.id, start_us=number * 70_000_000 + draw(st.integers(0, 3)), removed=draw(st.integers(0, 3)) == 0)
            e = replace(e, subject=f"gym/a{draw(st.integers(0, PEOPLE - 1))}" if draw(st.integers(0, 4)) == 0 else e.subject)
            made.append(replace(e, kept_off=draw(st.integers(0, 3)) == 0, ruling=draw(st.sampled_from(RULINGS))))
    return made


def filled(efforts: list[Effort], cut: int) -> PackedEfforts:
    board = PackedEfforts()
    for i in range(0, len(efforts), cut):
        board.take([entry_of(e) for e in efforts[i : i + cut]])
    return board


@settings(deadline=None)
@given(histories(), st.integers(0, 1000), st.integers(1, 7))
def test_any_order_repetition_and_cut_makes_the_same_bytes(history: list[Effort], seed: int, cut: int) -> None:
    chance = random.Random(seed)
    shuffled = history + chance.sample(history, chance.randint(0, len(history)))
    chance.shuffle(shuffled)
    board = filled(shuffled, cut)
    last = {e.id: e for e in history}
    loaded = PackedEfforts()
    assert loaded.load([entry_of(e) for e in last.values()], 1) == []
    standing = {e.subject: 0 for e in last.values()}
    assert board.pages.size == loaded.pages.size == sum(loaded.best_ever(loaded.number(s)) is not None for s in standing)
    for subject in standing:
        assert board.own(board.number(subject)) == loaded.own(loaded.number(subject))
    gone = {e.subject for e in history} - standing.keys()
    assert all(board.own(board.number(subject)) == [] for subject in gone)
    assert board.encoded() == filled(history, len(history)).encoded() == loaded.encoded()


def test_the_plain_loop_takes_the_same_steps_as_the_compiled_one(monkeypatch: pytest.MonkeyPatch) -> None:
    chance = random.Random(1)
    history = [effort(n % 40, n % 90, 60_000 + chance.randrange(400), n + 1, start_us=n * 10**9) for n in range(600)]
    history = [replace(e, removed=chance.random() < 0.2) for e in history]
    board = filled(history, 97)
    for name in ("take_all", "place_of", "best_of", "seat", "index_all", "find_all"):
        plain: Callable[..., object] = getattr(getattr(packed_kernel, name), "py_func", getattr(packed_kernel, name))
        monkeypatch.setattr(f"processors.packed_efforts.{name}", plain)
    assert filled(history, 50).encoded() == board.encoded()


@pytest.mark.parametrize("change", [{"version": 1 << 48}, {"version": -1}, {"elapsed_ms": -5}, {"elapsed_ms": 1 << 31}, {"id": "A" * 26}])
def test_what_no_effort_can_be_is_refused_whole(change: dict[str, int]) -> None:
    board = PackedEfforts()
    good, bad = effort(0, 0, 60_000, 1), replace(effort(1, 0, 60_000, 2), **change)
    with pytest.raises(ValueError, match=r"version|outside|26 hex"):
        board.take([entry_of(good), entry_of(bad)])
    assert (board.used, board.athletes, board.pages.size) == (0, 0, 0)


ATHLETES = {
    f"gym/a{i}": AthleteRef.model_validate({
        "tenant": "gym", "id": f"a{i}", "name": "A", "sex": ["f", "m", "x", None][i % 4], "birth_year": None if i % 7 == 0 else 1950 + i % 60,
        "weight_kg": None if i % 5 == 0 else 50 + i % 50, "clubs": ("pier",) if i % 3 == 0 else (), "removed": i % 41 == 0,
        "follows": tuple(f"a{j}" for j in range(i % 9)), "blocks": ("a1",) if i % 13 == 0 else (),
    })
    for i in range(700)
}  # fmt: skip
VIEWS = [
    OVERALL, View(sex="f"), View(club="pier"), View(weight_class="65-74"), View(following="gym/a8"), View(age_class="35-44"),
    View(club="pier", following="gym/a17"), View.at(NOW_US, "Europe/Berlin", period="month", sex="m"),
    View.at(NOW_US, "Europe/Berlin", period="week", age_class="25-34"), View.at(NOW_US, "Europe/Berlin", period="today"),
]  # fmt: skip


def mixed(chance: random.Random, count: int, held: list[Effort]) -> list[Effort]:
    """New efforts, some in the past, re-timed ones, removed, flagged, and given to another athlete."""
    made: list[Effort] = []
    for n in range(count):
        version = len(held) + n + 1
        kind = chance.randrange(10)
        if kind < 5 or not held:
            start_us = NOW_US - chance.randrange(40 * DAY_US)
            made.append(
                effort(chance.randrange(900), 10_000 + version, 60_000 + int(chance.expovariate(1 / 3_000)), version, start_us=start_us)
            )
            continue
        old = chance.choice(held)
        change: dict[str, object] = [
            {"elapsed_ms": old.elapsed_ms + chance.randint(-900, 900)}, {"removed": True}, {"ruling": "flagged"},
            {"subject": f"gym/a{chance.randrange(900)}"}, {"phase": Phase.SETTLED},
        ][kind - 5]  # fmt: skip
        made.append(replace(old, version=version, **change))  # type: ignore[arg-type]
    return made


def seen(board: SegmentBoard, view: View, who: list[str]) -> list[object]:
    """All that a reader can ask of a view."""
    pages, cursor = [], None
    for _ in range(2):
        page = board.top(view, 300, cursor)
        pages.append(page)
        if (cursor := page.cursor) is None:
            break
    around = [(board.around(view, s, 2), board.rank(view, s), board.reference(view, s)) for s in who]
    return [pages, around, board.size(view), board.efforts(view), board.percentiles_ms(view)]


def test_a_board_of_thousands_answers_as_that_of_objects_through_changes_of_every_kind() -> None:
    chance = random.Random(11)
    athletes = dict(ATHLETES)
    first = [
        effort(a % 900, a, 60_000 + int(chance.expovariate(1 / 9_000)), a + 1, start_us=NOW_US - chance.randrange(40 * DAY_US))
        for a in range(3_000)
    ]
    plain, packed = SegmentBoard("hill", athletes, awarding=True), StoredBoard("columns", "hill", athletes, awarding=True)
    assert plain.load(first) == packed.load(first) == 3_000
    held = {e.id: e for e in first}
    for step in range(4):
        who = [f"gym/a{chance.randrange(900)}" for _ in range(4)]
        for view in VIEWS:
            assert seen(packed, view, who) == seen(plain, view, who)
        for e in mixed(chance, 120, list(held.values())):
            if held.get(e.id, e).subject != e.subject:
                assert packed.leave(e.id) == plain.leave(e.id)
            assert packed.apply(e) == plain.apply(e)
            assert packed.awarded() == plain.awarded()
            held[e.id] = e
        for n in range(step, 700, 97):
            athletes[f"gym/a{n}"] = ATHLETES[f"gym/a{n}"].model_copy(
                update={"sex": "m", "weight_kg": 70.0, "clubs": ("pier",), "blocks": ("a8",)}
            )
            packed.athlete_changed(f"gym/a{n}")
            plain.athlete_changed(f"gym/a{n}")
    for view in VIEWS:
        assert seen(packed, view, ["gym/a3", "gym/a8"]) == seen(plain, view, ["gym/a3", "gym/a8"])
    for days in (1, 7, 30):
        assert packed.most_efforts(NOW_US - days * DAY_US, NOW_US) == plain.most_efforts(NOW_US - days * DAY_US, NOW_US)
    assert [packed.awards_of(e) for e in held] == [plain.awards_of(e) for e in held]
    assert [packed.own_rank(e) for e in list(held)[:300]] == [plain.own_rank(e) for e in list(held)[:300]]
    assert packed.is_packed


def test_a_reader_follows_the_store_in_columns_as_with_objects() -> None:
    chance = random.Random(12)
    db = sqlite3.connect(":memory:")
    db.executescript(SCHEMA)
    made = mixed(chance, 2_500, [])
    for e in made[:1_500]:
        put_effort(db, e)
    plain = SegmentBoard("hill", ATHLETES, store=SegmentEfforts(db, "gym", "hill"))
    packed = SegmentBoard("hill", ATHLETES, store=SegmentEfforts(db, "gym", "hill"), packed_from=1_000)
    later = SegmentBoard("hill", ATHLETES, store=SegmentEfforts(db, "gym", "hill"), packed_from=1_550)
    boards = [plain, packed, later]
    held = {e.id: e for e in made[:1_500]}
    for first in range(1_500, 2_500, 250):
        for board in boards:
            board.follow()
        for view in VIEWS:
            want = seen(plain, view, ["gym/a3", "gym/a8"])
            assert seen(packed, view, ["gym/a3", "gym/a8"]) == want == seen(later, view, ["gym/a3", "gym/a8"])
        for e in mixed(chance, 60, list(held.values())):
            now = replace(e, version=first * 100 + e.version)
            put_effort(db, now)
            held[now.id] = now
        put_effort(db, replace(made[0], id=effort_id("strap", "hill", first), subject="gym/@strap", version=first * 100 + 9_999))
    for board in boards:
        board.follow()
    assert {board.version for board in boards} == {2_250 * 100 + 9_999}
    assert [board.is_packed for board in boards] == [False, True, True]
    assert len({len(board) for board in boards}) == 1
    assert len({repr(seen(board, view, ["gym/a3"])) for board in boards for view in [OVERALL]}) == 1


def test_a_reader_sees_one_moment_of_a_board_in_columns_while_the_runner_commits(tmp_path: Path) -> None:
    store, chance = StateDb(tmp_path / "state.db"), random.Random(14)
    made = mixed(chance, 800, [])
    first = sorted(made, key=lambda e: (e.elapsed_ms, e.start_us, e.id))

    def commit(efforts: list[Effort]) -> None:
        with store.db:
            store.db.execute("BEGIN")
            for e in efforts:
                put_effort(store.db, e)

    commit(made)
    directory = Directory(tmp_path / "state.db")
    columns = BoardCache(tmp_path / "state.db", directory, packed_from=0)
    objects = BoardCache(tmp_path / "state.db", directory)
    with columns.board("gym", "hill") as board:
        before = [row.effort for row in board.top(OVERALL, 5).rows]
        commit([replace(e, version=5_000 + n, elapsed_ms=1 + n) for n, e in enumerate(reversed(first))])
        rows = board.top(OVERALL, 1_000).rows  # most were never read before
        assert [row.effort for row in rows[:5]] == before
        assert [row.effort.elapsed_ms - before[0].elapsed_ms for row in rows] == [row.gap_leader_ms for row in rows]
    with columns.board("gym", "hill") as board, objects.board("gym", "hill") as plain:
        assert (board.is_packed, plain.is_packed) == (True, False)
        for view in VIEWS:
            assert seen(board, view, ["gym/a3", "gym/a8"]) == seen(plain, view, ["gym/a3", "gym/a8"])
        assert board.leader() == replace(first[-1], version=5_000, elapsed_ms=1)
    for closed in (columns, objects, directory, store):
        closed.close()


@of_each_kind
def test_an_effort_that_goes_to_another_athlete_without_a_word_keeps_its_awards_there(kind: Kind) -> None:
    board = board_of(kind, awarding=True)
    one, two = effort(0, 0, 60_000, 1), effort(0, 1, 60_000, 2)
    for e in (one, two, replace(one, subject="gym/a1", version=3), replace(two, subject="gym/a1", version=4)):
        board.apply(e)
    board.awarded()
    first, second = sorted([one.id, two.id])
    assert (board.awards_of(first), board.awards_of(second)) == (("record", "top_10"), ("own_2",))


@of_each_kind
def test_the_next_best_of_a_time_nobody_stood_at_stands_when_the_best_of_a_loaded_board_goes(kind: Kind) -> None:
    board = board_of(kind)
    best = [effort(n, 0, 100_000 + n, n + 1) for n in range(5)]
    board.load(best + [effort(n, 1, 200_000 + 100_003 * n, 6 + n, start_us=DAY_US) for n in range(5)])
    for e in best:
        board.apply(replace(e, version=20, removed=True))
    assert [row.effort.elapsed_ms for row in board.top().rows] == [200_000, 300_003, 400_006, 500_009, 600_012]
    assert board.percentiles_ms()[-1] == 600_012
    assert (board.rank(OVERALL, "gym/a4"), board.size()) == (5, 5)


def test_a_board_that_broke_off_on_the_way_is_made_anew(tmp_path: Path) -> None:
    store = StateDb(tmp_path / "state.db")
    good, more = effort(0, 0, 60_000, 2), effort(1, 0, 61_000, 4)
    directory = Directory(tmp_path / "state.db")
    boards = BoardCache(tmp_path / "state.db", directory, packed_from=0)
    for version, rows in ((1, [good]), (3, [good, more])):
        with store.db:
            store.db.execute("BEGIN")
            put_effort(store.db, rows[-1])
            put_effort(store.db, replace(good, id="no effort's", version=version))
        with pytest.raises(ValueError, match="26 hex"), boards.board("gym", "hill"):
            pass
        with store.db:
            store.db.execute("BEGIN")
            store.db.execute("DELETE FROM effort WHERE id=?", ("no effort's",))
        with boards.board("gym", "hill") as board:
            assert [row.effort.id for row in board.top().rows] == [e.id for e in rows]
    for closed in (boards, directory, store):
        closed.close()


def test_a_row_whose_effort_is_not_stored_says_so() -> None:
    held = PackedHolding({}, lambda _: None)
    held.fill([entry_of(effort(0, 0, 60_000, 1))], 1)
    with pytest.raises(StoreError, match="not stored"):
        held.held(effort(0, 0, 60_000, 1).id)


def test_efforts_of_other_makers_stay_objects_however_many() -> None:
    board = StoredBoard("growing", "hill")
    for n in range(9):
        board.apply(replace(effort(n, 0, 60_000 + n, n + 1), id=f"effort {n}"))
    assert not board.is_packed
    assert board.size() == 9


def test_columns_fit_what_they_hold() -> None:
    board = PackedEfforts()
    board.take([Entry(effort_id("w", "hill", 0), "gym/a", -(1 << 60), (1 << 31) - 1, (1 << 48) - 1, 2)])
    assert board.own(0) == [((1 << 31) - 1, -(1 << 60), effort_id("w", "hill", 0))]
    assert board.version_of(0) == (1 << 48) - 1
    loaded = PackedEfforts()
    loaded.load([Entry(effort_id("w", "hill", 0), "gym/a", 0, (1 << 31) - 1, 1, 2)], 1)
    assert loaded.pages.size == board.pages.size == 1
    assert sum(np.dtype(column.dtype).itemsize for column in board.columns) == 43
