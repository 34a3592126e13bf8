"""Efforts that count: of recordings of the same crossing one, whatever came and went before."""

from __future__ import annotations

from dataclasses import replace
from random import Random

from hypothesis import given
from hypothesis import strategies as st

from processors.own_efforts import OwnEfforts, key_of
from processors.results import Effort, Phase
from tests.api_stores import an_effort


def recording(number: int, activity: int, start_s: int, elapsed_s: int, accuracy_ms: int, phase: Phase) -> Effort:
    made = an_effort("gym", "ann", elapsed_s * 1000, start_us=1 + start_s * 1_000_000)
    return replace(made, id=f"{number:026x}", activity=str(activity), accuracy_ms=accuracy_ms, phase=phase)


RECORDINGS = st.lists(
    st.tuples(st.integers(0, 2), st.integers(0, 40), st.integers(0, 12), st.sampled_from([100, 200]), st.sampled_from(Phase)), max_size=10
)


def counting(efforts: list[Effort]) -> list[str]:
    """By the rule as it is stated, over all of them."""
    counted: list[Effort] = []
    for e in sorted(efforts, key=lambda e: (-e.phase, e.accuracy_ms, e.id)):
        ends = [(one.start_us, one.start_us + 1000 * one.elapsed_ms) for one in (e, *counted)]
        shared_us = [min(ends[0][1], to_us) - max(ends[0][0], from_us) for from_us, to_us in ends[1:]]
        if not any(
            other.activity != e.activity and 2 * us > 1000 * min(e.elapsed_ms, other.elapsed_ms)
            for us, other in zip(shared_us, counted, strict=True)
        ):
            counted.append(e)
    return [key[2] for key in sorted(map(key_of, counted))]


@given(RECORDINGS, st.randoms(use_true_random=False))
def test_what_counts_follows_from_what_stands_whatever_came_and_went(rows: list[tuple[int, int, int, int, Phase]], chance: Random) -> None:
    efforts = [recording(number, *row) for number, row in enumerate(rows)]
    order = [*efforts, *efforts]
    chance.shuffle(order)
    own, standing = OwnEfforts(), dict[str, Effort]()
    for e in order:  # the first time it comes, the second time it goes
        if e.id in standing:
            own.leave(standing.pop(e.id))
        else:
            standing[e.id] = e
            own.enter(e)
        assert [key[2] for key in own.of("gym/ann")] == counting(list(standing.values()))
    assert not list(own.items())
