"""Segments from lines: ids that read like names, nothing twice, and a refused line keeps no other one back."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from broker.ids import is_id
from broker.reference import SegmentRef
from processors.segment_import import free_id, segments_given

Points = list[tuple[float, float]]


def line(lat: float, count: int = 12) -> Points:
    return [(lat, 7.0 + k * 2e-4) for k in range(count)]


@given(st.lists(st.text(max_size=90), max_size=12))
def test_every_name_gives_an_id_of_its_own(names: list[str]) -> None:
    taken: list[str] = []
    for name in names:
        taken.append(free_id(name, taken))
    assert all(map(is_id, taken))
    assert len(set(taken)) == len(taken)


def test_ids_read_like_the_names() -> None:
    assert free_id("Col de l'Été (Süd)", ()) == "col-de-l-ete-sud"
    assert free_id("峠", ["segment", "segment-2"]) == "segment-3"


@given(st.lists(st.tuples(st.sampled_from(["a", "b", ""]), st.integers(0, 3)), max_size=8), st.integers(0, 8))
def test_giving_lines_again_makes_nothing_new(lines: list[tuple[str, int]], cut: int) -> None:
    given_lines = [(name, line(40.0 + n)) for name, n in lines]
    first = segments_given("gym", given_lines, [])
    held = {made.ref.id: made.ref for made in first if made.ref is not None}
    assert len({(ref.name, ref.points) for ref in held.values()}) == len(held)
    named = [one for one in given_lines[:cut] if one[0]]  # without a name it is called by its place
    again = segments_given("gym", named, held.values())
    assert all(made.known for made in again)
    assert {made.ref.id for made in again if made.ref} <= held.keys()


def test_refused_line_keeps_no_other_back() -> None:
    made = segments_given("gym", [("one", line(40)), ("short", line(41, 3)), ("two", line(42))], [])
    assert [m.refusal is None for m in made] == [True, False, True]
    assert made[1].refusal is not None
    assert made[1].refusal.cure
    assert [m.ref.id for m in made if m.ref] == ["one", "two"]


def test_removed_one_stands_again_and_a_change_of_sport_keeps_the_id() -> None:
    (made,) = segments_given("gym", [("one", line(40))], [])
    assert isinstance(made.ref, SegmentRef)
    (back,) = segments_given("gym", [("one", line(40))], [made.ref.model_copy(update={"removed": True})])
    assert (back.ref, back.known) == (made.ref, False)
    (ride,) = segments_given("gym", [("one", line(40))], [made.ref], "ride")
    assert ride.ref == made.ref.model_copy(update={"sport": "ride"})
    assert not ride.known
