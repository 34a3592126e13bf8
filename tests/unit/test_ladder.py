"""Ladders and rank pages against plain sorted lists: the same places, small, large and at the change between."""

from __future__ import annotations

import random
from bisect import bisect_left, bisect_right
from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from processors import ladder as ladders
from processors.ladder import LAST_S, BySecond, InOneList, Key, Ladder
from processors.rank_pages import MAX_MS, RankPages

TIMES = st.one_of(
    st.integers(59_998, 60_003), st.integers(0, 7_300_000), st.sampled_from([0, 999, 1000, 3_599_999, 3_600_000, 1000 * LAST_S + 5, MAX_MS])
)


@given(
    st.lists(st.tuples(TIMES, st.integers(0, 3)), max_size=60),
    st.lists(st.tuples(TIMES, st.integers(0, 3)), max_size=10),
    st.integers(0, 70),
)
def test_lists_by_second_and_one_list_are_the_same_order(
    given_keys: list[tuple[int, int]], asked: list[tuple[int, int]], first: int
) -> None:
    keys: list[Key] = [(ms, start_us, f"e{i}") for i, (ms, start_us) in enumerate(given_keys)]
    half = len(keys) // 2
    one, other = InOneList(keys[:half]), BySecond(keys[:half])
    for key in keys[half:]:
        one.add(key)
        other.add(key)
    for key in keys[::3]:
        one.drop(key)
        other.drop(key)
    left = sorted(set(keys) - set(keys[::3]))
    assert len(one) == len(other) == len(left)
    for key in [*keys, *((ms, start_us, "e0") for ms, start_us in asked)]:
        assert one.below(key) == other.below(key) == bisect_left(left, key)
        assert one.below((key[0],)) == other.below((key[0],)) == bisect_left(left, (key[0],))
        assert one.upto(key) == other.upto(key) == bisect_right(left, key)
    for last in (first, first + 1, first + 7, 100):
        assert one.slice(first, last) == other.slice(first, last) == left[first:last]


def test_a_ladder_that_grows_and_shrinks_keeps_its_places(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ladders, "LARGE", 40)
    chance = random.Random(3)
    ladder, plain, kinds = Ladder(), dict[str, Key](), list[type]()
    for step in range(4_000):
        subject = f"a{chance.randrange(90)}"
        key = None if chance.random() < (0.9 if step % 1000 < 500 else 0.2) else (chance.randint(50_000, 190_000), step, f"e{step}")
        ladder.put(subject, key)
        plain.pop(subject, None)
        if key is not None:
            plain[subject] = key
        kinds.append(type(ladder._order))
        order = sorted(plain.values())
        assert ladder.slice(-1, len(order) + 1) == order
        assert (ladder.leader(), ladder.last()) == ((order[0], order[-1]) if order else (None, None))
        if order:
            some = chance.choice(order)
            faster = [k for k in order if k[0] < some[0]]
            assert (ladder.rank(some), ladder.index(some)) == (len(faster) + 1, order.index(some))
            assert ladder.next_faster(some) == (faster[-1] if faster else None)
            percent = chance.randint(1, 100)
            assert ladder.percentile_ms(percent) == min(k[0] for k in order if sum(o <= k for o in order) * 100 >= percent * len(order))
    assert sum(a is not b for a, b in pairwise(kinds)) >= 4


def test_nobody_has_no_percentile() -> None:
    assert Ladder().percentile_ms(50) is None


@settings(deadline=None)
@given(st.lists(TIMES, min_size=1, max_size=80), st.integers(0, 40))
def test_rank_pages_count_as_a_sorted_list(times: list[int], gone: int) -> None:
    pages = RankPages()
    half = len(times) // 2
    pages.load(np.array(times[:half], np.int64))
    pages.reserve(np.array(times, np.int64))
    for ms in times[half:]:
        pages.add(ms)
    for ms in times[:gone]:
        pages.add(ms, -1)
    left = sorted(times[gone:])
    assert pages.size == len(left)
    for ms in [*times, *(ms + 1 for ms in times), 0, MAX_MS]:
        assert pages.rank(ms) == bisect_left(left, ms) + 1
    assert [pages.at(place) for place in range(len(left))] == left
    with pytest.raises(IndexError):
        pages.at(len(left))


@pytest.mark.parametrize("ms", [-1, MAX_MS + 1])
def test_times_nobody_can_have_are_refused(ms: int) -> None:
    with pytest.raises(ValueError, match="outside"):
        RankPages().reserve(np.array([5, ms], np.int64))
