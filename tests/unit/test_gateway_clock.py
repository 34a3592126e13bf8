"""The clock model: minimum delay, drift, jumps of either clock, and a system clock that is not set."""

from __future__ import annotations

import random

from broker.frames import SELF_NUMBERED, Clock, Frame
from broker.layouts import layout_named
from gateway.clock import EARLIEST_UTC_US, UNDATED, Instant, OriginClock, OriginClocks, box_dating

S = 1_000_000
UTC = EARLIEST_UTC_US + 1000 * S


def feed_live(clock: OriginClock, *, offset_us: int, seconds: float, start_us: int = 0, seed: int = 1, drift: float = 0.0) -> None:
    """Samples at 4 Hz whose delay is 5 ms and an exponential tail of 40 ms."""
    rng = random.Random(seed)
    for i in range(int(seconds * 4)):
        device_us = start_us + i * 250_000
        clock.observe(device_us, device_us + offset_us + round(drift * device_us) + 5_000 + round(rng.expovariate(1 / 40_000)))


def test_live_arrivals_give_the_offset_within_a_network_delay():
    clock = OriginClock()
    feed_live(clock, offset_us=77 * S, seconds=30)
    now = Instant(200 * S, UTC)
    dating = clock.dating(30 * S, now)
    assert dating.clock == Clock.NETWORK
    assert dating.utc_offset_us is not None
    truth = 77 * S + UTC - 200 * S
    assert 0 <= dating.utc_offset_us - truth < 20_000


def test_two_arrivals_are_not_enough():
    clock = OriginClock()
    clock.observe(0, 5 * S)
    clock.observe(10 * S, 15 * S)
    assert clock.dating(10 * S, Instant(20 * S, UTC)) == UNDATED


def test_drained_backlog_does_not_date():
    clock = OriginClock()
    for i in range(100):  # a hundred seconds of old data within one second
        clock.observe(i * S, 500 * S + i * 10_000)
    assert not clock.good


def test_live_after_backlog_dates_and_later_backlog_changes_nothing():
    clock = OriginClock()
    for i in range(100):
        clock.observe(i * S, 500 * S + i * 10_000)
    feed_live(clock, offset_us=77 * S, seconds=10, start_us=430 * S)
    dated = clock.dating(440 * S, Instant(520 * S, UTC))
    assert dated.utc_offset_us is not None
    for i in range(5):
        clock.observe(i * S, 520 * S + i * 10_000)
    assert clock.dating(440 * S, Instant(520 * S, UTC)) == dated


def test_unset_system_clock_dates_nothing_and_a_correction_dates_from_then_on():
    clock = OriginClock()
    feed_live(clock, offset_us=3 * S, seconds=10)
    assert clock.good
    assert clock.dating(10 * S, Instant(13 * S, 42 * S)) == UNDATED  # 1970
    assert box_dating(Instant(13 * S, 42 * S)) == UNDATED
    after = clock.dating(10 * S, Instant(14 * S, UTC))
    assert after.utc_offset_us is not None
    assert abs(after.utc_offset_us - (3 * S + UTC - 14 * S)) < 30_000


def test_step_of_the_system_clock_moves_later_offsets_by_exactly_the_step():
    clock = OriginClock()
    feed_live(clock, offset_us=3 * S, seconds=10)
    before = clock.dating(10 * S, Instant(13 * S, UTC)).utc_offset_us
    after = clock.dating(10 * S, Instant(13 * S, UTC + 3600 * S)).utc_offset_us
    assert before is not None
    assert after == before + 3600 * S
    first, second = box_dating(Instant(S, UTC)), box_dating(Instant(S, UTC - 5 * S))
    assert first.utc_offset_us is not None
    assert second.utc_offset_us == first.utc_offset_us - 5 * S


def test_drift_is_found_and_carried():
    clock = OriginClock()
    feed_live(clock, offset_us=50 * S, seconds=1200, drift=80e-6)
    assert 60e-6 < clock.drift < 100e-6
    now = Instant(2000 * S, UTC)
    dated = clock.dating(1200 * S, now).utc_offset_us
    assert dated is not None
    truth = 50 * S + round(80e-6 * 1200 * S) + UTC - 2000 * S
    assert abs(dated - truth) < 25_000


def test_device_clock_that_stood_still_restarts_the_model():
    clock = OriginClock()
    feed_live(clock, offset_us=50 * S, seconds=60)
    feed_live(clock, offset_us=50 * S + 90 * S, seconds=60, start_us=60 * S)  # slept 90 s
    dated = clock.dating(120 * S, Instant(300 * S, UTC)).utc_offset_us
    assert dated is not None
    assert abs(dated - (140 * S + UTC - 300 * S)) < 30_000


def test_one_absurd_stamp_cannot_date_wrongly_and_heals():
    clock = OriginClock()
    feed_live(clock, offset_us=50 * S, seconds=20)
    clock.observe(10_000 * S, 70 * S)
    assert not clock.good
    feed_live(clock, offset_us=50 * S, seconds=20, start_us=21 * S, seed=2)
    dated = clock.dating(40 * S, Instant(100 * S, UTC)).utc_offset_us
    assert dated is not None
    assert abs(dated - (50 * S + UTC - 100 * S)) < 30_000


def test_clocks_are_kept_per_boot_and_bounded():
    layout = layout_named("motion.1")
    clocks = OriginClocks(capacity=3)
    record = layout.pack({"tick_ms": 0})

    def frame(boot: int, t0_us: int) -> Frame:
        return Frame(layout.id, SELF_NUMBERED, "w-1", boot, 0, t0_us, None, Clock.UNKNOWN, "", record)

    for i in range(20):
        clocks.date(frame(1, i * 250_000), i * 250_000, Instant(5 * S + i * 250_000, UTC))
    dated = clocks.date(frame(1, 5 * S), 5 * S, Instant(10 * S, UTC))
    assert dated.utc_offset_us == 5 * S + UTC - 10 * S
    assert clocks.date(frame(2, 5 * S), 5 * S, Instant(10 * S, UTC)) == UNDATED
    for boot in range(3, 50):
        clocks.date(frame(boot, 0), 0, Instant(0, UTC))
    assert len(clocks) == 3
