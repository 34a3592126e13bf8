"""The index of a cluster's dead letters: each once, whatever is sent again, and what was replayed is known as such."""

import threading
import time
from collections.abc import Iterator
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from broker.errors import BadInputError, LinkError, Reason
from processors.accept import DeadLetter
from processors.dead_count import DeadCount
from processors.dead_index import REPLAYED, DeadIndex, IndexedDead, Place, Wanted
from processors.kafka_dead import decode_dead, encode_dead
from processors.kafka_dead_letters import place_of

FIRST = DeadLetter(1_000, "gym", "box", "pl/1/gym/box/up", 7, 1, Reason.BAD_FRAME, "not a frame array", b"junk")
OTHER = replace(FIRST, at_us=500, tenant="club", node="hall", n=2, reason=Reason.FUTURE_TIME)


def taken(*letters: DeadLetter) -> DeadIndex:
    index = DeadIndex()
    index.take((Place(0, offset), encode_dead(letter).key.decode(), letter) for offset, letter in enumerate(letters))
    return index


def marked(letter: DeadLetter, at_us: int = 9_000) -> DeadLetter:
    return replace(letter, reason=REPLAYED, at_us=at_us, raw=b"")


def test_letter_sent_again_is_one_at_its_first_place() -> None:
    with taken(FIRST, OTHER, replace(FIRST, at_us=2_000)) as index:
        assert index.select(Wanted(), 10) == [
            IndexedDead(Place(0, 1), 500, "club", "hall", 2, "future_time", "not a frame array", 1, None),
            IndexedDead(Place(0, 0), 1_000, "gym", "box", 1, "bad_frame", "not a frame array", 2, None),
        ]
        assert index.counts(Wanted()) == {"bad_frame": 1, "future_time": 1}
        assert [each.at_us for each in index.select(Wanted(), 1)] == [500]


@pytest.mark.parametrize(
    ("wanted", "found"),
    [
        (Wanted(reason="bad_frame"), [1_000]),
        (Wanted(tenant="club"), [500]),
        (Wanted(node="box"), [1_000]),
        (Wanted(from_us=501), [1_000]),
        (Wanted(until_us=1_000), [500]),
        (Wanted(from_us=500, until_us=1_001), [500, 1_000]),
        (Wanted(reason="bad_frame", tenant="club"), []),
    ],
)
def test_filters_hold_together(wanted: Wanted, found: list[int]) -> None:
    with taken(FIRST, OTHER) as index:
        assert [each.at_us for each in index.select(wanted, 10)] == found
        assert sum(index.counts(wanted).values()) == len(found)
        assert len(list(index.places(wanted))) == len(found)


def test_tally_counts_each_letter_once_with_those_that_were_replayed() -> None:
    with taken(FIRST, marked(OTHER), OTHER, marked(FIRST), replace(FIRST, at_us=2_000), OTHER) as index:
        assert index.tallies() == {("gym", "bad_frame"): 1, ("club", "future_time"): 1}
        index.take([(Place(0, 9), "another", replace(FIRST, n=9))])
        assert index.tallies()["gym", "bad_frame"] == 2


class Away:
    """Says that it cannot be read, then all it has, and again from the beginning when asked again."""

    def __init__(self, *letters: DeadLetter) -> None:
        self.letters, self.asked = letters, 0

    def followed(self, stop: threading.Event) -> Iterator[Iterator[tuple[Place, str, DeadLetter]]]:
        self.asked += 1
        if self.asked == 1:
            raise LinkError("kafka is away", cure="start it")
        for offset, letter in enumerate(self.letters):
            yield iter([(Place(0, offset), encode_dead(letter).key.decode(), letter)])
        if self.asked == 2:
            raise LinkError("kafka is away", cure="start it")
        stop.wait(60)


def test_count_of_a_cluster_goes_on_when_kafka_comes_back_and_counts_nothing_twice() -> None:
    away = Away(FIRST, OTHER, replace(FIRST, n=2))
    with DeadCount(away, again_s=0.001) as dead:
        deadline_s = time.monotonic() + 60
        while away.asked < 3 or dead.of("gym") < 2:
            assert time.monotonic() < deadline_s
            time.sleep(0.001)
        assert (dead.of("gym"), dead.of("club"), dead.of("nobody")) == (2, 1, 0)
        assert dead.by_reason() == {"bad_frame": 2, "future_time": 1}


def test_replayed_letter_is_left_out_unless_it_is_asked_for() -> None:
    with taken(FIRST, OTHER, marked(FIRST), replace(FIRST, at_us=9_500), marked(FIRST, 9_900)) as index:
        assert [each.at_us for each in index.select(Wanted(), 10)] == [500]
        assert [each.replayed_us for each in index.select(Wanted(replayed=True), 10)] == [None, 9_000]
        assert index.replayed(encode_dead(FIRST).key.decode())
        assert not index.replayed(encode_dead(OTHER).key.decode())


def test_mark_whose_letter_is_no_longer_kept_is_no_letter() -> None:
    with taken(marked(FIRST)) as index:
        assert index.select(Wanted(replayed=True), 10) == []
        assert index.counts(Wanted(replayed=True)) == {}


@given(st.lists(st.tuples(st.integers(0, 5), st.booleans()), max_size=40))
def test_any_order_of_letters_and_marks_counts_each_letter_once(told: list[tuple[int, bool]]) -> None:
    letters = [marked(replace(FIRST, n=n)) if mark else replace(FIRST, n=n) for n, mark in told]
    there, gone = {n for n, mark in told if not mark}, {n for n, mark in told if mark}
    with taken(*letters) as index:
        assert {each.n for each in index.select(Wanted(replayed=True), 100)} == there
        assert {each.n for each in index.select(Wanted(), 100)} == there - gone


def test_mark_has_the_key_of_its_letter_and_reads_as_a_letter() -> None:
    sent = encode_dead(marked(FIRST))
    assert sent.key == encode_dead(FIRST).key
    assert decode_dead(sent.value, sent.headers) == marked(FIRST)


def test_place_is_named_as_it_is_listed() -> None:
    assert place_of(str(Place(3, 1723))) == Place(3, 1723)
    for wrong in ("17", "3@1", "-1-2", "3-", "\u0663-1"):
        with pytest.raises(BadInputError, match="PARTITION-OFFSET"):
            place_of(wrong)
