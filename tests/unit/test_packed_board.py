"""Packed boards against the board of objects: any order, repetition and cut of mixed changes ends in the same bytes, ranks and names."""

from __future__ import annotations

import os
import random
import signal
import sqlite3
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from broker.errors import StoreError
from processors import packed_kernel
from processors.board_journal import BoardJournal, efforts_in_groups
from processors.packed_board import CHANGE, PackedBoard, packed
from processors.results import Effort, Phase, Ruling, effort_id
from processors.segment_board import OVERALL, SegmentBoard

PEOPLE = 6
RULINGS: tuple[Ruling, ...] = ("", "", "", "flagged", "cleared", "hidden")


def effort(
    athlete: int, number: int, elapsed_ms: int, version: int, *, start_us: int = 0, phase: Phase = Phase.FINAL, removed: bool = False
) -> Effort:
    subject = f"gym/a{athlete}"
    return Effort(
        effort_id(subject, "hill", number), "gym", "hill", subject, "w", number, start_us, elapsed_ms, phase, 0, None, None, (), version, removed
    )  # fmt: skip


@st.composite
def histories(draw: st.DrawFn) -> list[Effort]:
    """Efforts with few distinct times (ties), re-timed, removed, set again, doubted and ruled on: each state has a version of its own."""
    made: list[Effort] = []
    version = 0
    for number in range(draw(st.integers(1, 12))):
        athlete = draw(st.integers(0, PEOPLE - 1))
        for _ in range(draw(st.integers(1, 4))):
            version += 1
            e = effort(
                athlete,
                number,
                draw(st.integers(59_997, 60_002)),
                version,
                start_us=draw(st.integers(0, 3)),
                phase=draw(st.sampled_from(Phase)),
                removed=draw(st.integers(0, 3)) == 0,
            )
            made.append(replace(e, kept_off=draw(st.integers(0, 3)) == 0, ruling=draw(st.sampled_from(RULINGS))))
    return made


def numbers(efforts: list[Effort]) -> list[int]:
    return [int(e.subject.removeprefix("gym/a")) for e in efforts]


def filled(efforts: list[Effort], cut: int, folder: Path | None = None) -> PackedBoard:
    board = PackedBoard(folder)
    for i in range(0, len(efforts), cut):
        board.apply(packed(numbers(efforts[i : i + cut]), efforts[i : i + cut]))
    return board


@settings(deadline=None)
@given(histories(), st.integers(0, 1000), st.integers(1, 7))
def test_any_order_repetition_and_cut_makes_the_same_bytes_and_the_board_of_objects(history: list[Effort], seed: int, cut: int) -> None:
    chance = random.Random(seed)
    shuffled = history + chance.sample(history, chance.randint(0, len(history)))
    chance.shuffle(shuffled)
    board, straight = filled(shuffled, cut), filled(history, len(history))
    assert board.encoded() == straight.encoded()
    model = SegmentBoard("hill")
    model.load(history)
    rows = model.top(OVERALL, 1000).rows
    assert [(f"gym/a{p.athlete}", p.key[2], board.rank(p.key)) for p in board.slice(0, 100)] == [
        (r.subject, r.effort.id, r.rank) for r in rows
    ]
    assert (len(board), board.version) == (len(rows), model.version)
    assert board.standing_efforts() == sum(len(model.own(f"gym/a{a}")) for a in range(PEOPLE))
    for athlete in range(PEOPLE + 1):
        best = model.best(f"gym/a{athlete}")
        assert board.key_of(athlete) == (None if best is None else (best.elapsed_ms, best.start_us, best.id))
        assert board.rank_of(athlete) == model.rank(OVERALL, f"gym/a{athlete}")
        assert [p.athlete for p in board.around(athlete, 1)] == [int(r.subject[5:]) for r in model.around(OVERALL, f"gym/a{athlete}", 1)]
        assert board.version_of(athlete) == max((e.version for e in history if e.subject == f"gym/a{athlete}"), default=0)
    for row in rows:
        key = (row.effort.elapsed_ms, row.effort.start_us, row.effort.id)
        faster = board.next_faster(key)
        assert (None if faster is None else key[0] - faster.key[0]) == row.gap_faster_ms
        assert board.slice(board.index(key), board.index_after(key))[0].key == key
    assert board.percentile_ms(50) == (rows[(len(rows) + 1) // 2 - 1].effort.elapsed_ms if rows else None)
    assert (board.leader(), board.last()) == ((board.slice(0, 1)[0], board.slice(len(board) - 1, len(board))[0]) if rows else (None, None))


@settings(deadline=None, max_examples=40)
@given(histories())
def test_each_change_says_whether_a_row_moved(history: list[Effort]) -> None:
    board, model = PackedBoard(), SegmentBoard("hill")
    for e in history:
        board.slice(0, 3)  # the kept first places follow
        before = model.best(e.subject)
        model.apply(e)
        after = model.best(e.subject)
        moved = [None if b is None else (b.elapsed_ms, b.start_us, b.id) for b in (before, after)]
        assert board.apply(packed(numbers([e]), [e])).tolist() == [2 if moved[0] != moved[1] else 1]
        assert board.apply(packed(numbers([e]), [e])).tolist() == [0]
        assert [p.key[2] for p in board.slice(0, 9)] == [r.effort.id for r in model.top(OVERALL, 9).rows]


def test_the_plain_loop_takes_the_same_steps_as_the_compiled_one(monkeypatch: pytest.MonkeyPatch) -> None:
    chance = random.Random(1)
    history = [effort(n % 40, n % 90, 60_000 + chance.randrange(400), n + 1, removed=chance.random() < 0.2) for n in range(600)]
    board = filled(history, 97)
    plain: Callable[..., object] = getattr(packed_kernel.take_all, "py_func", packed_kernel.take_all)
    monkeypatch.setattr("processors.packed_board.take_all", plain)
    assert filled(history, 50).encoded() == board.encoded()


def test_what_is_kept_off_stands_nowhere_until_it_is_cleared() -> None:
    board = PackedBoard()
    fast, slow = effort(0, 0, 50_000, 1), effort(0, 1, 60_000, 2)
    board.apply(packed([0, 0], [replace(fast, kept_off=True), slow]))
    assert board.best_ms(0) == 60_000
    cleared = packed([0], [replace(fast, version=3)])
    assert board.apply(cleared).tolist() == [2]
    assert board.best_ms(0) == 50_000


def test_places_behind_the_first_thousand_are_named_exactly(tmp_path: Path) -> None:
    chance = random.Random(2)
    history = [effort(a, 0, 60_000 + chance.randrange(2_000), a + 1, start_us=chance.randrange(5)) for a in range(3_000)]
    board = filled(history, 500, tmp_path)
    order = sorted((e.elapsed_ms, e.start_us, e.id) for e in history)
    for first in (0, 990, 1_000, 1_777, 2_995):
        assert [p.key for p in board.slice(first, first + 20)] == order[first : first + 20]
    assert [p.key for p in board.around(5, 3)] == order[max(order.index(board.key_of(5)) - 3, 0) : order.index(board.key_of(5)) + 4]
    assert board.changed_since(2_990).tolist() == list(range(2_990, 3_000))
    assert not list(tmp_path.iterdir())  # mapped files are scratch
    again = PackedBoard()
    again.apply(board.held())
    assert again.encoded() == board.encoded()


@pytest.mark.parametrize("change", [{"version": 1 << 48}, {"version": -1}, {"elapsed_ms": -5}])
def test_what_no_effort_can_be_is_refused_whole(change: dict[str, int]) -> None:
    board = PackedBoard()
    good, bad = effort(0, 0, 60_000, 1), replace(effort(1, 0, 60_000, 2), **change)
    with pytest.raises(ValueError, match=r"version|outside"):
        board.apply(packed([0, 1], [good, bad]))
    assert (len(board), board.efforts) == (0, 0)
    with pytest.raises(ValueError, match="26 hex"):
        packed([0], [replace(good, id="abc")])


def test_a_journal_gives_the_same_boards_in_any_order_and_after_it_began_anew(tmp_path: Path) -> None:
    chance = random.Random(5)
    history = [
        replace(
            effort(chance.randrange(30), n % 50, 60_000 + chance.randrange(99), n + 1, removed=n % 7 == 0),
            segment=chance.choice(["hill", "pier"]),
        )
        for n in range(400)
    ]
    by_effort = {(e.id, e.segment): e.subject for e in history}
    history = [e for e in history if by_effort[e.id, e.segment] == e.subject]
    made: list[dict[str, bytes]] = []
    for number in range(3):
        path = tmp_path / f"{number}.db"
        journal = BoardJournal(path)
        for group in efforts_in_groups(history + history[: 100 * number], 37):
            journal.commit(group)
        if number == 1:
            journal.shorten("hill")
        encoded = {segment: journal.encoded(segment) for segment in journal.segments()}
        journal.close()
        again = BoardJournal(path)
        assert {segment: again.encoded(segment) for segment in again.segments()} == encoded
        assert again.number(again.subjects[3]) == 3
        again.close()
        made.append(encoded)
        chance.shuffle(history)
    assert made[0] == made[1] == made[2]
    assert set(made[0]) == {"hill", "pier"}


def test_a_damaged_row_of_the_journal_is_named(tmp_path: Path) -> None:
    path = tmp_path / "boards.db"
    journal = BoardJournal(path)
    journal.commit([effort(0, 0, 60_000, 1)])
    journal.close()
    with sqlite3.connect(path) as db:
        db.execute("UPDATE journal SET body=substr(body, 1, 20)")
    db.close()
    with pytest.raises(StoreError, match="damaged"):
        BoardJournal(path)


def test_a_journal_that_cannot_begin_anew_takes_further_changes(tmp_path: Path) -> None:
    path = tmp_path / "boards.db"
    journal = BoardJournal(path)
    journal.commit([effort(0, 0, 60_000, 1)])
    with sqlite3.connect(path) as db:  # as a full disk refuses it, in the middle
        db.execute("CREATE TRIGGER full BEFORE DELETE ON journal BEGIN SELECT RAISE(ABORT, 'database or disk is full'); END")
    with pytest.raises(sqlite3.Error, match="disk is full"):
        journal.shorten("hill")
    journal.commit([effort(1, 0, 50_000, 2)])
    encoded = journal.encoded("hill")
    journal.close()
    again = BoardJournal(path)
    assert again.encoded("hill") == encoded
    again.close()


def test_a_group_that_is_refused_leaves_journal_board_and_roster_as_they_were(tmp_path: Path) -> None:
    journal = BoardJournal(tmp_path / "boards.db")
    journal.commit([effort(0, 0, 60_000, 1)])
    before = journal.encoded("hill")
    with pytest.raises(ValueError, match="outside"):
        journal.commit([effort(1, 0, 50_000, 2), effort(2, 0, -1, 3)])
    assert (journal.encoded("hill"), journal.number("gym/a1")) == (before, None)
    journal.close()
    again = BoardJournal(tmp_path / "boards.db")
    assert again.encoded("hill") == before
    again.close()


CHILD = """
import sys
from pathlib import Path
from processors.board_journal import BoardJournal, efforts_in_groups
from tests.unit.test_packed_board import kill_history
journal = BoardJournal(Path(sys.argv[1]))
for number, group in enumerate(efforts_in_groups(kill_history(), 25)):
    journal.commit(group)
    print(number, flush=True)
    if number % 5 == 4:
        journal.shorten("hill")
"""


def kill_history() -> list[Effort]:
    chance = random.Random(8)
    return [effort(n % 23, n % 69, 60_000 + chance.randrange(50), n + 1, removed=chance.random() < 0.15) for n in range(500)]


@pytest.mark.parametrize("point", ["boards.before_commit:7", "boards.after_commit:7", "boards.before_shorten:2", "boards.before_commit:1"])
def test_a_kill_around_the_group_commit_loses_nothing_acknowledged_and_counts_nothing_twice(tmp_path: Path, point: str) -> None:
    path, history = tmp_path / "boards.db", kill_history()
    env = {**os.environ, "PACELINE_KILL_AT": point}
    done = subprocess.run([sys.executable, "-c", CHILD, str(path)], env=env, capture_output=True, text=True, check=False, timeout=120)
    assert done.returncode == -signal.SIGKILL, done.stderr
    groups = list(efforts_in_groups(history, 25))
    acknowledged = len(done.stdout.split())
    journal = BoardJournal(path)
    got = journal.board("hill").encoded()
    possible = [filled([e for g in groups[:n] for e in g], 25).encoded() for n in (acknowledged, acknowledged + 1)]
    assert got in possible
    for group in groups:  # all is sent again
        journal.commit(group)
    assert journal.board("hill").encoded() == filled(history, 500).encoded()
    journal.close()


def test_changes_are_48_bytes_and_columns_fit_what_they_hold() -> None:
    assert CHANGE.itemsize == 48
    board = filled([effort(0, 0, 60_000, (1 << 48) - 1, start_us=-(1 << 60))], 1)
    assert (board.version_of(0), board.key_of(0)[1]) == ((1 << 48) - 1, -(1 << 60))
    assert board.held()["athlete"].dtype == np.dtype("<u4")
