"""The outbox of a simulated node: what it sends when, and that it never forgets before the ack."""

from __future__ import annotations

import itertools

import pytest
from hypothesis import given
from hypothesis import strategies as st

from broker.acks import Ack, Refusal, to_ranges
from broker.bundles import decode_bundle
from simulators.outbox import Outbox, OutboxSettings

SMALL = OutboxSettings(window_rows=8, bundle_rows=4, retry_us=1_000_000, max_retry_us=8_000_000, cap_rows=50)


def filled(count, settings=SMALL):
    box = Outbox(99, settings)
    for n in range(count):
        assert box.append(b"frame%d" % n) == n
    return box


def sent(bundles):
    return [list(range(b.first_n, b.first_n + b.count)) for b in map(decode_bundle, bundles)]


def ack(*numbers, epoch=99):
    return Ack(epoch, to_ranges(numbers))


def test_window_limits_what_is_under_way_and_acks_open_it():
    box = filled(20)
    assert sent(box.due(0)) == [[0, 1, 2, 3], [4, 5, 6, 7]]
    assert box.due(1) == []
    assert box.settle(ack(0, 1, 5)).stored == (0, 1, 5)
    assert sent(box.due(2)) == [[8, 9, 10]]
    assert len(box) == 17


def test_rows_without_answer_come_again_byte_for_byte():
    box = filled(4)
    first = box.due(0)
    box.settle(ack(1))
    box.append(b"more")
    assert sent(box.due(500_000)) == [[4]]
    again = box.due(1_000_000)
    assert sent(again) == [[0], [2, 3]]
    assert decode_bundle(again[1]).rows == decode_bundle(first[0]).rows[2:]


def test_silence_gets_one_probe_per_growing_back_off():
    box = filled(20)
    box.due(0)
    probes = [t for t in range(1_000_000, 60_000_000, 10_000) if sent(box.due(t)) == [[0, 1, 2, 3]]]
    gaps = [(b - a) / 1e6 for a, b in itertools.pairwise(probes)]
    assert probes[0] == 1_000_000
    assert len(probes) < 12
    assert all(0.88 * usual <= gap <= 1.12 * usual for gap, usual in zip(gaps, [1, 2, 4, 8, 8, 8], strict=False))
    box.settle(ack(0))
    assert sum(map(len, sent(box.due(60_000_000)))) == 8, "one answer, and the window is full speed again"


def test_new_link_sends_all_that_is_owed_again():
    box = filled(6)
    box.due(0)
    box.settle(ack(0, 3))
    box.link_changed()
    assert sent(box.due(1)) == [[1, 2], [4, 5]]


def test_refused_rows_end_and_foreign_acks_do_nothing():
    box = filled(4)
    box.due(0)
    assert box.settle(ack(0, 1, epoch=98)).stored == ()
    assert box.settle(Ack(99, (), (Refusal(1, 2, "bad_records"),))).refused == ((1, "bad_records"), (2, "bad_records"))
    assert box.settle(Ack(99, ((0, (1 << 48) - 1),))).stored == (0, 3), "a huge range costs no time"
    assert len(box) == 0
    assert box.due(10**9) == []


def test_full_outbox_rejects_new_rows_and_counts_them():
    box = filled(50)
    assert box.append(b"x") is None
    assert box.rejected == 1
    box.settle(ack(7))
    assert box.append(b"x") == 50


def test_large_frames_are_cut_below_the_message_limit():
    box = Outbox(1, OutboxSettings(window_rows=255, bundle_rows=255))
    for _ in range(200):
        box.append(bytes(1024))
    bundles = box.due(0)
    assert max(map(len, bundles)) <= 64 * 1024
    assert sum(map(len, sent(bundles))) == 200


def test_bad_settings_are_refused():
    with pytest.raises(ValueError, match="bundle_rows"):
        OutboxSettings(bundle_rows=0)


@given(st.integers(1, 40), st.randoms(use_true_random=False))
def test_whatever_is_acked_or_lost_all_rows_get_through(count, chance):
    box = filled(count)
    owed = set(range(count))
    now = 0
    for turn in range(120):
        now += chance.choice([10_000, 400_000, 3_000_000])
        for numbers in sent(box.due(now)):
            assert set(numbers) <= owed
            if chance.random() < 0.5:
                box.settle(ack(*numbers))
                owed -= set(numbers)
        assert {n for n, _ in box.unacked} == owed
        if turn == 60:
            box.link_changed()
    while owed:  # now everything is answered: a window each back-off is enough
        now += 9_000_000
        assert now < 1_000_000_000
        for numbers in sent(box.due(now)):
            box.settle(ack(*numbers))
            owed -= set(numbers)


@given(st.integers(0, 3_000_000), st.integers(0, 3_000_000))
def test_next_us_never_oversleeps(first, later):
    box = filled(10)
    box.due(first)
    now = first + later
    wake = box.next_us(now)
    for t in range(now, min(wake, now + 4_000_000), 250_000):
        assert box.due(t) == []
    assert box.due(max(now, wake)) or wake > 10**12
