"""Awards against a model that looks at each effort as of its finish: the same in any order, told once, taken back when they must be."""

from __future__ import annotations

import random

from hypothesis import given, settings
from hypothesis import strategies as st

from processors.awards import Awarded, Awards
from processors.ladder import Key

Held = dict[str, tuple[Key, str]]


def finish(key: Key) -> tuple[int, str]:
    return key[1] + 1000 * key[0], key[2]


def model(held: Held) -> dict[tuple[str, str], tuple[str, ...]]:
    """By plain counting over all that had finished before."""
    made: dict[tuple[str, str], tuple[str, ...]] = {}
    for key, subject in held.values():
        before = [(k, s) for k, s in held.values() if finish(k) < finish(key)]
        own = [k for k, s in before if s == subject]
        words: list[str] = []
        if all(key < k for k in own):
            faster = {s for k, s in before if k < key}
            if not faster:
                words.append("record")
            if len(faster) < 10:
                words.append("top_10")
        place = 1 + sum(k < key for k in own)
        if own and place <= 3:
            words.append(f"own_{place}")
        if words:
            made[subject, key[2]] = tuple(words)
    return made


@st.composite
def courses(draw: st.DrawFn) -> list[tuple[str, Key | None, str]]:
    """(effort, key, subject): set, re-time (a new key), move to another subject, or take away (None)."""
    steps: list[tuple[str, Key | None, str]] = []
    people, efforts = draw(st.sampled_from([2, 3, 14])), draw(st.sampled_from([2, 5, 24]))
    for _ in range(draw(st.integers(1, 40))):
        effort = f"e{draw(st.integers(0, efforts)):02}"
        gone = draw(st.integers(0, 3)) == 0
        key = (draw(st.integers(60, 75)), 1000 * draw(st.integers(0, 60)), effort)
        steps.append((effort, None if gone else key, f"gym/a{draw(st.integers(0, people - 1))}"))
    return steps


@settings(max_examples=300)
@given(courses(), st.integers(1, 5))
def test_awards_are_those_of_the_model_after_each_change_and_every_difference_is_told_once(
    steps: list[tuple[str, Key | None, str]], asked_every: int
) -> None:
    awards, held = Awards(), Held()
    told: dict[tuple[str, str], tuple[str, ...]] = {}
    for n, (effort, key, subject) in enumerate(steps, 1):
        if effort in held:
            awards.drop(*held.pop(effort))
        if key is not None:
            held[effort] = key, subject
            awards.take(key, subject)
        if n % asked_every == 0 or n == len(steps):
            for a in awards.changed():
                assert told.get((a.subject, a.effort), ()) == a.before != a.after
                told[a.subject, a.effort] = a.after
            assert {place: words for place, words in told.items() if words} == model(held)
            assert awards.changed() == []
    assert {(subject, effort): awards.of(effort) for effort, (_, subject) in held.items() if awards.of(effort)} == model(held)
    again = Awards(held.values())
    assert all(again.of(effort) == awards.of(effort) for effort in held)


def test_a_board_of_many_in_any_order_has_the_awards_of_all_at_once() -> None:
    chance = random.Random(9)
    held = {
        f"e{n:04}": ((chance.randint(50_000, 90_000), chance.randrange(10**12), f"e{n:04}"), f"gym/a{chance.randrange(150)}")
        for n in range(1_500)
    }
    at_once = Awards(held.values())
    awards = Awards()
    order = list(held)
    chance.shuffle(order)
    for effort in order:
        awards.take(*held[effort])
        awards.changed()
    assert [awards.of(effort) for effort in held] == [at_once.of(effort) for effort in held]
    assert {(s, e): at_once.of(e) for e, (_, s) in held.items() if at_once.of(e)} == model(held)


def test_a_removed_record_goes_back_to_who_had_it_and_what_came_between_was_one_too() -> None:
    awards = Awards()
    first, cheat, second = ((70, 0, "a"), "gym/ann"), ((10, 100_000, "b"), "gym/bob"), ((60, 200_000, "c"), "gym/cleo")
    for key, subject in (first, cheat, second):
        awards.take(key, subject)
    assert awards.changed() == [
        Awarded("gym/ann", "a", (), ("record", "top_10")), Awarded("gym/bob", "b", (), ("record", "top_10")),
        Awarded("gym/cleo", "c", (), ("top_10",)),
    ]  # fmt: skip
    awards.drop(*cheat)
    assert awards.changed() == [
        Awarded("gym/bob", "b", ("record", "top_10"), ()), Awarded("gym/cleo", "c", ("top_10",), ("record", "top_10")),
    ]  # fmt: skip
    awards.take(*cheat)
    assert [a.after for a in awards.changed()] == [("record", "top_10"), ("top_10",)]


def test_an_effort_that_is_timed_again_without_passing_anybody_changes_no_award() -> None:
    awards = Awards()
    awards.take((70, 0, "a"), "gym/ann")
    awards.take((80, 100_000, "b"), "gym/ann")
    assert [a.after for a in awards.changed()] == [("record", "top_10"), ("own_2",)]
    for ms in (71, 75, 79):
        awards.drop((80, 100_000, "b") if ms == 71 else (ms - 4, 100_000, "b"), "gym/ann")
        awards.take((ms, 100_000, "b"), "gym/ann")
        assert awards.changed() == []


def test_an_award_goes_when_the_effort_turns_out_slower_and_to_have_ended_earlier() -> None:
    awards = Awards()
    awards.take((50, 0, "a"), "gym/ann")
    awards.take((40, 100_000, "b"), "gym/ann")
    assert [a.after for a in awards.changed()] == [("record", "top_10"), ("record", "top_10", "own_1")]
    awards.drop((40, 100_000, "b"), "gym/ann")
    awards.take((60, 79_000, "b"), "gym/ann")  # ends 1 ms before it did
    assert awards.changed() == [Awarded("gym/ann", "b", ("record", "top_10", "own_1"), ("own_2",))]
