"""Changes of every kind, mixed: any permutation, repetition and cut of the same ones ends in the same board, byte for byte, of any kind."""

from __future__ import annotations

import random
from dataclasses import replace

from hypothesis import given, settings
from hypothesis import strategies as st

from broker.reference import AthleteRef
from processors.board_views import View
from processors.results import CURVE_POINTS, Effort, Phase
from processors.segment_board import OVERALL, SegmentBoard
from tests.boards import Kind, board_of, of_each_kind

NOW_US = 1_781_085_600_000_000
SUBJECTS = [f"gym/a{i}" for i in range(4)]
CURVE = (0,) * CURVE_POINTS
VIEWS = [
    OVERALL, View(sex="f"), View(club="pier"), View(weight_class="65-74"), View(following="gym/a0"),
    View.at(NOW_US, "Europe/Berlin", period="month"), View.at(NOW_US, "Europe/Berlin", sex="m", period="today"),
]  # fmt: skip
ATHLETES = {
    f"gym/{one['id']}": AthleteRef.model_validate({"tenant": "gym", "name": "A", **one})
    for one in (
        {"id": "a0", "sex": "f", "clubs": ("pier",), "follows": ("a2",)},
        {"id": "a1", "sex": "m", "weight_kg": 70},
        {"id": "a2", "sex": "m", "clubs": ("pier",), "weight_kg": 71.5},
    )
}


@st.composite
def mutations(draw: st.DrawFn) -> list[Effort]:
    """Efforts added, timed again, removed and set again, doubted and believed, flagged, cleared and hidden, given to another athlete, and
    second recordings of the same crossing; each state of an effort with a version of its own."""
    made: list[Effort] = []
    version = 0
    for number in range(draw(st.integers(1, 10))):
        start_us = NOW_US - draw(st.sampled_from([0, 5, 40, 86_400, 40 * 86_400])) * 1_000_000
        e = Effort(
            f"{number:026x}", "gym", "hill", draw(st.sampled_from(SUBJECTS)), f"w{draw(st.integers(0, 2))}", number, start_us,
            draw(st.integers(60_000, 60_008)), Phase.PROVISIONAL, draw(st.sampled_from([100, 300])), None, None, CURVE, 0,
        )  # fmt: skip
        for _ in range(draw(st.integers(1, 5))):
            version += 1
            kind = draw(st.sampled_from(["set", "retime", "remove", "doubt", "rule", "move", "final"]))
            change: dict[str, object] = {
                "set": {"removed": False, "kept_off": False},
                "retime": {"elapsed_ms": draw(st.integers(60_000, 60_008)), "start_us": start_us - draw(st.integers(0, 2))},
                "remove": {"removed": True},
                "doubt": {"kept_off": draw(st.booleans()), "plausibility_pct": draw(st.integers(0, 100))},
                "rule": {"ruling": draw(st.sampled_from(["", "flagged", "cleared", "hidden"]))},
                "move": {"subject": draw(st.sampled_from(SUBJECTS))},
                "final": {"phase": Phase.FINAL},
            }[kind]
            e = replace(e, version=version, **change)  # type: ignore[arg-type]
            made.append(e)
    return made


def encoded(board: SegmentBoard) -> bytes:
    """All that a reader can see of a board."""
    seen = [(board.top(view, 100), board.size(view), board.efforts(view), board.percentiles_ms(view)) for view in VIEWS]
    around = [board.around(view, subject, 1) for view in VIEWS for subject in SUBJECTS]
    own = [(board.own(subject), [board.own_rank(e.id) for e in board.own(subject)]) for subject in SUBJECTS]
    awards = [board.awards_of(f"{n:026x}") for n in range(10)]
    return repr((seen, around, own, awards, board.most_efforts(0, 1 << 62), board.version)).encode()


@of_each_kind
@settings(max_examples=150, deadline=None)
@given(mutations(), st.integers(0, 10_000))
def test_any_permutation_repetition_and_cut_ends_in_the_same_bytes(kind: Kind, made: list[Effort], seed: int) -> None:
    chance = random.Random(seed)
    last = SegmentBoard("hill", ATHLETES, awarding=True)
    last.load({e.id: e for e in made}.values())
    shuffled = made + chance.sample(made, chance.randint(0, len(made)))
    chance.shuffle(shuffled)
    board, cut = board_of(kind, "hill", ATHLETES, awarding=True), chance.randint(0, len(shuffled))
    loaded = chance.random() < 0.5
    if loaded:
        board.load(shuffled[:cut])
    else:
        encoded(board)  # every view is kept from here on
        for e in shuffled[:cut]:
            board.apply(e)
    for e in shuffled[cut:]:
        board.apply(e)
        if chance.random() < 0.3:
            board.awarded()
    board.awarded()
    last.awarded()
    assert encoded(board) == encoded(last)


@of_each_kind
@settings(max_examples=100, deadline=None)
@given(mutations())
def test_every_change_of_a_row_is_said_and_no_other(kind: Kind, made: list[Effort]) -> None:
    board = board_of(kind, "hill", ATHLETES)
    for e in made:
        before = {row.subject: row.effort.id for row in board.top().rows}
        left = None
        held = next((o for o in reversed(made[: made.index(e)]) if o.id == e.id), None)
        if held is not None and held.subject != e.subject:
            left = board.leave(e.id)
        change = board.apply(e)
        after = {row.subject: row.effort.id for row in board.top().rows}
        moved = {subject for subject in before.keys() | after.keys() if before.get(subject) != after.get(subject)}
        assert moved <= {c.subject for c in (left, change) if c is not None}
