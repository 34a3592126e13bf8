"""What people decide reaches efforts, boards, events and awards through the runner, whenever it is said; and is undone like it was done."""

from __future__ import annotations

import json
import random
from collections.abc import Sequence
from pathlib import Path

import pytest

from broker.errors import BadInputError
from broker.frames import Frame
from broker.reference import AthleteRef, ErasureRef, MergeRef, Reference, RulingRef, decode_reference
from processors.decisions import Decisions
from processors.results import Effort, Phase
from processors.results_db import awards_of, efforts_of_segment, events, finals
from processors.segment_board import SegmentBoard
from processors.stores import ReadStore
from tests.any_way import Course, both_ways, ride, segment

HILL = segment("hill", 40, 140)


def fast(name: str = "anna", start_s: float = 0, boot: int = 1, speed_mps: float = 6) -> list[Frame]:
    return ride(random.Random(1), f"watch-{name}", boot, start_s, 100, subject=f"gym/{name}", speed_mps=speed_mps)


class Gym:
    """A course that is looked at on the way."""

    def __init__(self, path: Path) -> None:
        self.course = Course(path, 100)
        self.say(HILL)

    def ride(self, frames: Sequence[Frame], *, until_s: float = 700) -> None:
        self.course.take([self.course.frame(f, "box") for f in frames])
        self.course.settle(until_s)
        self.course.settle(until_s)

    def say(self, *values: Reference) -> None:
        self.course.take([self.course.reference(value) for value in values])
        self.course.settle(1)

    def efforts(self) -> list[Effort]:
        return sorted(
            (e for e in self._read(lambda s: [*efforts_of_segment(s.db, "gym", "hill")]) if not e.removed), key=lambda e: (e.start_us, e.id)
        )

    def rows(self) -> list[str]:
        board = SegmentBoard("hill")
        board.load(self._read(lambda s: [*efforts_of_segment(s.db, "gym", "hill")]))
        return [row.subject for row in board.top().rows]

    def told(self, of: str) -> list[dict[str, object]]:
        """The data of the events of a type (a part of its name), in order."""
        return [json.loads(row.body)["data"] for row in self._read(lambda s: events(s.db, limit=1 << 30)) if of in row.type]

    def awards(self) -> set[tuple[str, str]]:
        """(effort, kind) that were given and not taken back; each is given at most once more than it is taken back."""
        held: set[tuple[str, str]] = set()
        for row in self._read(lambda s: events(s.db, limit=1 << 30)):
            if ".award." in row.type:
                data = json.loads(row.body)["data"]
                name = data["effort"], data["kind"]
                assert ("given" in row.type) != (name in held), "given twice, or taken back twice"
                held ^= {name}
        stored = {(e.id, kind) for e in self.efforts() for kind in self._read(lambda s, e=e: awards_of(s.db, e.id))}
        assert stored == held
        return held

    def _read(self, ask):
        store = ReadStore(self.course.path / "state.db")
        try:
            return ask(store)
        finally:
            store.close()


@pytest.fixture
def gym(tmp_path: Path):
    made = Gym(tmp_path / "course")
    yield made
    made.course.close()


def ruling(ident: str, **more: object) -> RulingRef:
    return RulingRef.model_validate({"tenant": "gym", "id": ident, **more})


def test_a_flagged_effort_leaves_board_records_and_awards_and_comes_back_when_cleared(gym: Gym) -> None:
    gym.ride(fast("bob", speed_mps=5))
    gym.ride(fast("anna", 1000))
    first, second = gym.efforts()
    assert gym.rows() == ["gym/anna", "gym/bob"]
    before = gym.awards()
    assert before == {(e.id, kind) for e in (first, second) for kind in ("record", "top_10")}
    gym.say(ruling(second.id, decision="flag", why="by car"))
    assert (gym.rows(), gym.efforts()[1].ruling) == (["gym/bob"], "flagged")
    assert gym.awards() == {(first.id, "record"), (first.id, "top_10")}
    corrected = gym.told("effort.corrected")[-1]
    assert (corrected["effort"], corrected["kept_off"]) == (second.id, True)
    assert gym.told("record.withdrawn")[-1]["subject"] == "gym/anna"
    assert gym.told("lead_taken")[-1]["leader"]["subject"] == "gym/bob"  # type: ignore[index]
    gym.say(ruling(second.id, decision="clear"))
    assert (gym.rows(), gym.awards()) == (["gym/anna", "gym/bob"], before)
    gym.say(ruling(second.id, decision="flag"), ruling(second.id, removed=True))
    assert (gym.rows(), gym.awards(), gym.efforts()[1].ruling) == (["gym/anna", "gym/bob"], before, "")


def test_awards_are_told_once_though_an_effort_is_provisional_settled_and_final(gym: Gym) -> None:
    gym.ride(fast("anna"), until_s=6)
    assert {e.phase for e in gym.efforts()} == {Phase.SETTLED}
    given = [(one["effort"], one["kind"]) for one in gym.told("award.given")]
    assert sorted(kind for _, kind in given) == ["record", "top_10"]
    gym.course.end()
    assert {e.phase for e in gym.efforts()} == {Phase.FINAL}
    assert [(one["effort"], one["kind"]) for one in gym.told("award.given")] == given
    assert gym.told("award.withdrawn") == []


def test_a_hidden_activity_takes_all_its_efforts_off_whatever_was_cleared(gym: Gym) -> None:
    gym.ride(fast("anna"))
    (only,) = gym.efforts()
    gym.say(ruling(only.id, decision="clear"), ruling(only.activity, hidden=True))
    assert (gym.rows(), gym.efforts()[0].ruling, gym.awards()) == ([], "hidden", set())
    gym.say(ruling(only.activity, hidden=False))
    assert (gym.rows(), gym.efforts()[0].ruling) == (["gym/anna"], "cleared")


def test_another_sport_takes_an_activity_off_the_boards_of_the_first(gym: Gym) -> None:
    gym.say(segment("hill", 40, 140, "run"))
    gym.ride(fast("anna", speed_mps=3))
    (only,) = gym.efforts()
    gym.say(ruling(only.activity, sport="ride"))
    assert (gym.efforts(), gym.awards()) == ([], set())
    assert gym.told("activity.corrected")[-1]["sport"] == "ride"
    gym.say(ruling(only.activity, removed=True))
    assert [e.id for e in gym.efforts()] == [only.id]
    assert gym.told("activity.corrected")[-1]["sport"] == "run"


def test_two_athletes_who_are_one_have_one_row_and_get_their_own_back(gym: Gym) -> None:
    gym.ride(fast("anna"))
    gym.ride(fast("carl", 1000, speed_mps=7))
    assert gym.rows() == ["gym/carl", "gym/anna"]
    merge = MergeRef(tenant="gym", id="carl", into="anna")
    gym.say(merge)
    assert gym.rows() == ["gym/anna"]
    assert [e.subject for e in gym.efforts()] == ["gym/anna"] * 2
    second = gym.efforts()[1]
    assert {kind for of, kind in gym.awards() if of == second.id} == {"record", "top_10", "own_1"}
    gym.ride(fast("carl", 2080, boot=2, speed_mps=5))
    assert gym.efforts()[2].subject == "gym/anna"
    gym.say(merge.model_copy(update={"removed": True}))
    assert gym.rows() == ["gym/carl", "gym/anna"]
    assert [e.subject for e in gym.efforts()] == ["gym/anna", "gym/carl", "gym/carl"]
    assert {kind for of, kind in gym.awards() if of == second.id} == {"record", "top_10"}


def test_one_workout_recorded_by_two_who_are_one_counts_once(gym: Gym) -> None:
    gym.ride([*fast("anna"), *fast("carl", 1, speed_mps=6)])
    gym.say(MergeRef(tenant="gym", id="carl", into="anna"))
    assert len(gym.efforts()) == 2
    assert gym.rows() == ["gym/anna"]
    assert len({of for of, _ in gym.awards()}) == 1
    assert not any(kind.startswith("own") for _, kind in gym.awards())


def test_the_results_of_an_erased_athlete_are_gone_and_stay_gone(gym: Gym) -> None:
    gym.ride(fast("anna"))
    gym.ride(fast("bob", 1120, speed_mps=5))
    gym.say(ErasureRef(tenant="gym", id="anna"))
    gym.ride(fast("anna", 2000, boot=2))
    assert gym.rows() == ["gym/bob"]
    assert {row.summary.subject for row in gym._read(lambda s: finals(s.db))} == {"gym/bob"}
    assert gym.told("activity.removed")[-1]["subject"] == "gym/anna"
    assert gym.told("distance.corrected")[-1]["distance_m"] == 0
    stones = [e for e in gym._read(lambda s: [*efforts_of_segment(s.db, "gym", "hill")]) if e.removed]
    assert {(e.subject, e.curve_ms, e.hr_avg_bpm, e.doubts) for e in stones} == {("gym/anna", (), None, ())}
    assert all(gym.efforts()[0].id == of for of, _ in gym.awards())


def test_what_is_decided_before_and_after_ends_in_the_same(tmp_path: Path) -> None:
    frames = [*fast("anna"), *fast("bob", 300, speed_mps=5), *fast("carl", 600, speed_mps=7)]
    probe = both_ways(tmp_path / "probe", [HILL, *frames], [*frames, HILL])
    ident = next(
        part.split("id='")[1].split("'")[0] for name, part in probe.items() if name.startswith("result") and "subject='gym/anna'" in part
    )
    said: list[Reference] = [
        ruling(ident, decision="flag"), MergeRef(tenant="gym", id="carl", into="bob"), ErasureRef(tenant="gym", id="dora"),
        AthleteRef(tenant="gym", id="bob", name="Bob", clubs=("pier",)),
    ]  # fmt: skip
    both_ways(tmp_path / "first", [*said, HILL, *frames], [HILL, *frames, 700, *said])
    both_ways(tmp_path / "between", [HILL, *frames[:20], *said, *frames[20:], 5], [*said[::-1], *frames, HILL])


def test_decisions_of_a_circle_and_a_chain() -> None:
    made = Decisions()
    for of, into in (("c", "a"), ("a", "b"), ("b", "c"), ("d", "e"), ("e", "f")):
        made.apply(MergeRef(tenant="gym", id=of, into=into))
    assert {made.person(f"gym/{of}") for of in "abc"} == {"gym/a"}
    assert [made.person(f"gym/{of}") for of in "defg"] == ["gym/f", "gym/f", "gym/f", "gym/g"]
    assert made.merged("gym/e") == ["gym/e", "gym/d", "gym/f"]
    made.apply(ErasureRef(tenant="gym", id="f"))
    assert [made.is_erased(f"gym/{of}") for of in "adefg"] == [False, True, True, True, False]


@pytest.mark.parametrize(
    ("raw", "says"),
    [
        (b'{"entity":"merge","tenant":"gym","id":"a","into":"a"}', "another athlete"),
        (b'{"entity":"ruling","tenant":"gym","id":"a","decision":"burn"}', "decision"),
        (b'{"entity":"erasure","tenant":"gym","id":"a","removed":true}', "removed"),
    ],
)
def test_what_nobody_can_decide_is_refused(raw: bytes, says: str) -> None:
    with pytest.raises(BadInputError, match=says):
        decode_reference(raw)
