"""How far a reader of topics is behind: by record and by age, and nothing is old because nothing came for long."""

from collections.abc import Callable

from hypothesis import given
from hypothesis import strategies as st

from processors.topic_lag import Partition, TopicLag

HOUR_S = 3_600.0
LIVE, OTHER, BOARDS = ("live.state", 0), ("live.state", 1), ("boards.state", 0)


def ends() -> dict[Partition, int]:
    return {LIVE: 10, OTHER: 0, BOARDS: 5}


def at(offsets: dict[Partition, int]) -> Callable[[Partition], int]:
    return lambda partition: offsets[partition]


def test_partition_that_said_nothing_yet_is_not_read_and_has_no_figure() -> None:
    lag = TopicLag([LIVE, OTHER, BOARDS])
    assert lag.not_read() == 3
    assert lag.records(at(ends())) == {"live.state": 0, "boards.state": 0}
    lag.at_end(OTHER, 0, HOUR_S)
    lag.taken(LIVE, 3, 1_000)
    assert lag.not_read() == 1
    assert lag.records(at(ends())) == {"live.state": 6, "boards.state": 0}


def test_age_is_that_of_the_last_record_taken_while_a_backlog_is_read() -> None:
    lag = TopicLag([LIVE, BOARDS])
    lag.taken(LIVE, 3, 50_000)
    lag.taken(BOARDS, 4, 10_000)
    assert lag.seconds(at(ends()), 80.0) == {"live.state": 30.0, "boards.state": 0.0}


def test_first_record_after_a_quiet_night_is_not_a_night_old() -> None:
    lag = TopicLag([LIVE])
    lag.taken(LIVE, 8, 50_000)
    lag.at_end(LIVE, 9, 12 * HOUR_S)
    assert lag.records(at(ends())) == {"live.state": 1}
    assert lag.seconds(at(ends()), 12 * HOUR_S + 0.25) == {"live.state": 0.25}


def test_record_that_is_seen_after_a_quiet_night_is_not_older_than_the_last_look() -> None:
    lag = TopicLag([LIVE])
    lag.taken(LIVE, 8, 50_000)
    lag.at_end(LIVE, 9, 50.1)
    lag.looked(at(ends() | {LIVE: 9}), 12 * HOUR_S)
    lag.looked(at(ends()), 12 * HOUR_S + 1.0)  # one came since, and waits
    assert lag.records(at(ends())) == {"live.state": 1}
    assert lag.seconds(at(ends()), 12 * HOUR_S + 1.5) == {"live.state": 1.5}
    lag.looked(at(ends()), 12 * HOUR_S + 60.0)
    assert lag.seconds(at(ends()), 12 * HOUR_S + 60.0) == {"live.state": 60.0}


def test_look_at_a_backlog_makes_nothing_of_it_younger() -> None:
    lag = TopicLag([LIVE])
    lag.taken(LIVE, 3, 50_000)
    lag.looked(at(ends()), HOUR_S)
    assert lag.seconds(at(ends()), HOUR_S) == {"live.state": HOUR_S - 50.0}


def test_partition_that_went_to_another_has_no_figure() -> None:
    lag = TopicLag([LIVE, OTHER])
    lag.taken(LIVE, 3, 50_000)
    lag.forget(LIVE)
    assert lag.records(at(ends())) == {"live.state": 0}
    assert lag.seconds(at(ends()), HOUR_S) == {"live.state": 0.0}
    lag.looked(at(ends()), HOUR_S)
    assert lag.not_read() == 2


def test_offset_that_a_transaction_left_behind_is_no_record_that_waits() -> None:
    lag = TopicLag([BOARDS])
    lag.taken(BOARDS, 3, 1_000)  # 4 ends the transaction
    assert lag.records(at(ends())) == {"boards.state": 1}
    lag.at_end(BOARDS, 5, 2.0)
    assert lag.records(at(ends())) == {"boards.state": 0}
    assert lag.seconds(at(ends()), HOUR_S) == {"boards.state": 0.0}


def test_view_that_stands_grows_older() -> None:
    lag = TopicLag([LIVE])
    lag.at_end(LIVE, 9, 100.0)
    assert [lag.seconds(at(ends()), now_s)["live.state"] for now_s in (100.0, 160.0, 3_700.0)] == [0.0, 60.0, 3_600.0]


@given(st.lists(st.tuples(st.booleans(), st.integers(1, 5)), max_size=40))
def test_records_that_wait_are_those_of_the_topic_not_taken(moves: list[tuple[bool, int]]) -> None:
    """Records come, or as many as there are are taken; at the end of what there is the view is told so."""
    lag, end, taken = TopicLag([LIVE]), 0, 0
    lag.at_end(LIVE, 0, 0.0)
    for comes, many in moves:
        if comes:
            end += many
        for _ in range(0 if comes else min(many, end - taken)):
            lag.taken(LIVE, taken, 1_000)
            taken += 1
        if taken == end:
            lag.at_end(LIVE, end, 1.0)
        assert lag.records(lambda _of, end=end: end) == {"live.state": end - taken}
        assert (lag.seconds(lambda _of, end=end: end, 10.0)["live.state"] > 0) == (end > taken)
