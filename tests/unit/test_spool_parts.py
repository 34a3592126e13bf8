"""The pure parts of the spool: ranges, records, ledger, pace."""

from __future__ import annotations

import random
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.ranges import RangeSet
from gateway.spool_disk import split_cap
from gateway.spool_ledger import Ledger, carve_epoch, carve_ledgers, decode_ledger, encode_identity, encode_ledger
from gateway.spool_pace import FillRate, Pace
from gateway.spool_row import SpoolRow, carve, decode_record, encode_records
from gateway.spool_work import RecentDevices, RecentFrames, Settlement, group_of

SPANS = st.lists(st.tuples(st.booleans(), st.integers(0, 60), st.integers(0, 12)), max_size=40)


@given(SPANS, st.integers(0, 60), st.integers(0, 20))
def test_ranges_behave_like_a_set(spans, first, width):
    ranges, model = RangeSet(), set()
    for put_in, a, w in spans:
        numbers = set(range(a, a + w))
        if put_in:
            ranges.add(a, a + w - 1)
            model |= numbers
        else:
            taken = {n for x, y in ranges.remove(a, a + w - 1) for n in range(x, y + 1)}
            assert taken == model & numbers
            model -= numbers
    parts = ranges.ranges()
    assert [n for x, y in parts for n in range(x, y + 1)] == sorted(model)
    assert all(y + 1 < x for (_, y), (x, _) in pairwise(parts))
    assert len(ranges) == len(model)
    assert {n for x, y in ranges.within(first, first + width) for n in range(x, y + 1)} == {n for n in model if first <= n <= first + width}
    assert [n for x, y in ranges.lowest(width) for n in range(x, y + 1)] == sorted(model)[:width]


def test_appending_to_ranges_keeps_one_range():
    ranges = RangeSet([(1, 5)])
    ranges.add(6, 9)
    assert ranges.ranges() == ((1, 9),)


ROWS = st.lists(st.tuples(st.text(min_size=1, max_size=20), st.binary(min_size=1, max_size=1024)), min_size=1, max_size=8)


@given(st.integers(0, (1 << 48) - 20), ROWS, st.binary(max_size=50))
def test_records_round_trip_and_are_carved_out_of_anything(first, rows, noise):
    group = group_of([SpoolRow(frame, device) for device, frame in rows])
    records = group.records(first)
    assert group.size == sum(map(len, records)) + 10 * len(records)
    for n, record, (device, frame) in zip(range(first, first + len(rows)), records, rows, strict=True):
        row = decode_record(record)
        assert row is not None
        assert (row.n, row.device, row.frame) == (n, device, frame)
    image = noise.join([b"", *records, b""])
    assert [n for _, n in sorted((row.n, row.n) for row, _ in carve(image))] == [*range(first, first + len(rows))]


def test_numbers_that_pass_four_billion_in_the_middle_of_a_group():
    first = (1 << 32) * 3 - 2
    records = encode_records(first, [b"a", b"b", b"c", b"d"], [b"0", b"1", b"2", b"3"])
    rows = [row for row in map(decode_record, records) if row is not None]
    assert [(row.n, row.device, row.frame) for row in rows] == [(first + i, "abcd"[i], b"%d" % i) for i in range(4)]
    assert [int.from_bytes(record[8:14], "little") for record in records] == [*range(first, first + 4)]


def test_any_flipped_bit_of_a_record_is_noticed():
    [record] = encode_records(77, [b"strap-1"], [bytes(range(40))])
    for bit in range(len(record) * 8):
        damaged = bytearray(record)
        damaged[bit // 8] ^= 1 << bit % 8
        assert decode_record(bytes(damaged)) is None


@pytest.mark.parametrize(("frame", "device"), [(b"", "a"), (b"x" * 1025, "a"), (b"x", ""), (b"x", "d" * 256)])
def test_rows_that_cannot_be_stored_are_refused(frame, device):
    with pytest.raises(ValueError, match="1024 bytes"):
        group_of([SpoolRow(b"good", "a"), SpoolRow(frame, device)])


def test_ledger_round_trips_and_survives_carving():
    ledger = Ledger(serial=4, epoch=1 << 63, end=99, ranges=((1, 5), (50, 98)), refused={"bad_frame": 2}, rejected=1, dropped=2, corrupt=3)
    ledger.tally("strap-1").taken = 98
    ledger.count_gone({"strap-1": 3}, None)
    ledger.count_gone({"strap-1": 1, "strap-2": 1}, "bad_frame")
    raw = encode_ledger(ledger)
    assert decode_ledger(raw) == ledger
    assert list(carve_ledgers(b"?" * 33 + raw + b"?")) == [ledger]
    assert ledger.refused == {"bad_frame": 4}
    for at in range(len(raw)):
        assert decode_ledger(raw[:at] + bytes([raw[at] ^ 8]) + raw[at + 1 :]) is None
    assert carve_epoch(b"--" + encode_identity(12345) + b"--") == 12345


def test_window_follows_the_commit_time_within_its_limits():
    pace = Pace(0.02, 0.25, None)
    assert pace.window_s == 0.02
    for _ in range(50):
        pace.observe(0.03, 4096)
    assert pace.window_s == pytest.approx(0.15)
    for _ in range(50):
        pace.observe(2.0, 4096)
    assert pace.window_s == 0.25


def test_write_budget_of_a_card_stretches_the_window():
    pace = Pace(0.02, 0.25, 4e9)
    for _ in range(50):
        pace.observe(0.001, 8192)
    assert pace.window_s == pytest.approx(8192 / (4e9 / 86_400))


def test_fill_rate_is_that_of_the_last_minutes():
    fill = FillRate(1_000.0)
    assert fill.bytes_per_s(1_001.0) is None
    for second in range(1_000, 1_100):
        fill.add(float(second), 500)
    assert fill.bytes_per_s(1_100.0) == pytest.approx(500)
    assert fill.bytes_per_s(3_000.0) is None


def test_recent_devices_know_what_they_do_not_know():
    recent = RecentDevices()
    recent.add(10, ["a", "b", "a"])
    assert recent.split(10, 12) == (10, {"a": 2, "b": 1})
    assert recent.split(5, 11) == (10, {"a": 1, "b": 1})
    assert recent.split(1, 4) == (5, {})
    assert recent.split(11, 40) == (41, {})
    recent.add(100, ["c"])
    assert recent.split(10, 12)[1] == {}
    for first in range(101, 60_000, 100):
        recent.add(first, ["d"] * 100)
    assert recent.split(59_901, 60_000) == (59_901, {"d": 100})


def test_settlement_joins_neighbours():
    rng = random.Random(1)
    order = list(range(1, 101))
    rng.shuffle(order)
    settle = Settlement([(n, n, None if n % 50 else "bad_frame") for n in order])
    assert {reason: ranges.ranges() for reason, ranges in settle.by_reason()} == {
        None: ((1, 49), (51, 99)),
        "bad_frame": ((50, 50), (100, 100)),
    }


def test_parts_of_a_cap_stay_below_it():
    for cap in (1_000_000, 5_000_000, 256_000_000, 8_000_000_000):
        limits = split_cap(cap, 10**12)
        assert 2 * limits.wal_bytes + limits.reserve_bytes + limits.max_pages * 4096 <= cap
        assert 0 < limits.rows_pages < limits.max_pages


def test_recent_frames_stay_within_their_bytes():
    recent = RecentFrames(10_000)
    for first in range(1, 2_000, 10):
        recent.add(first, [bytes([n & 0xFF]) * 100 for n in range(first, first + 10)], 10 * 127)
        assert recent.get(first, first + 9) == [bytes([n & 0xFF]) * 100 for n in range(first, first + 10)]
        assert recent._bytes == 177 * len(recent._frames) <= 10_000
    assert recent.get(1, 5) == []
    recent.add(9_000, [b"x"], 28)
    assert recent.get(1_999, 9_000) == []
    assert recent.get(9_000, 9_999) == [b"x"]
    nothing = RecentFrames(0)
    nothing.add(1, [b"x"], 28)
    assert nothing.get(1, 1) == []
