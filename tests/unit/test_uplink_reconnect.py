"""Delays between connections, and telling a takeover from a broken link."""

from random import Random

import pytest

from broker.errors import ConfigError
from gateway.reconnect import Ending, Reconnect, ReconnectSettings


def reconnect(value=1.0):
    return Reconnect(ReconnectSettings(), lambda: value)


def test_delays_grow_to_the_cap_and_are_spread_down_to_the_floor():
    high, low = reconnect(1.0), reconnect(0.0)
    assert [high.ended(Ending.UNREACHABLE, 0.0) for _ in range(6)] == [0.4, 0.8, 1.6, 3.2, 4.0, 4.0]
    assert {low.ended(Ending.UNREACHABLE, 0.0) for _ in range(6)} == {0.2}


def test_ten_thousand_boxes_do_not_return_in_the_same_tenth_of_a_second():
    random = Random(4)
    delays = []
    for _ in range(10_000):
        box = Reconnect(ReconnectSettings(), random.random)
        delays.append([box.ended(Ending.UNREACHABLE, 0.0) for _ in range(6)][-1])
    busiest = max(sum(1 for d in delays if low / 10 <= d < (low + 1) / 10) for low in range(50))
    assert busiest < 400


def test_a_refused_credential_is_tried_slowly():
    assert reconnect(0.0).ended(Ending.REFUSED, 0.0) == 10.0
    assert reconnect(1.0).ended(Ending.REFUSED, 0.0) == 20.0


def test_a_session_that_lasted_starts_the_delays_afresh():
    box = reconnect()
    for _ in range(8):
        box.ended(Ending.UNREACHABLE, 0.0)
    box.established(100.0)
    assert box.ended(Ending.BROKEN, 106.0) == 0.4


def cycle(box, ending, times, every_s=2.0):
    delays, now = [], 0.0
    for _ in range(times):
        box.established(now)
        delays.append(box.ended(ending, now + 1))
        now += every_s
    return delays


def test_the_fourth_takeover_in_a_minute_makes_us_step_back_ten_seconds():
    box = reconnect()
    delays = cycle(box, Ending.CLOSED, 6)
    assert max(delays[:4]) <= 4.0
    assert min(delays[4:]) >= 10.0
    assert box.contested
    assert box.taken_over == 5


def test_contest_is_over_after_a_minute_in_peace():
    box = reconnect()
    cycle(box, Ending.CLOSED, 6)
    box.established(200.0)
    assert box.ended(Ending.CLOSED, 261.0) < 10.0
    assert not box.contested


def test_broken_links_are_no_takeovers():
    box = reconnect()
    assert max(cycle(box, Ending.BROKEN, 20)) <= 4.0
    assert box.taken_over == 0


def test_a_broker_that_restarts_is_no_takeover():
    box = reconnect()
    for turn in range(20):
        box.established(turn * 3.0)
        box.ended(Ending.CLOSED, turn * 3.0 + 1)
        box.ended(Ending.UNREACHABLE, turn * 3.0 + 2)
    assert box.taken_over == 0


def test_rare_takeovers_do_not_slow_us():
    box = reconnect()
    assert max(cycle(box, Ending.CLOSED, 10, every_s=30.0)) <= 4.0


def test_bad_delays_are_refused():
    with pytest.raises(ConfigError, match="uplink reconnect"):
        ReconnectSettings(floor_s=5.0, cap_s=1.0)
