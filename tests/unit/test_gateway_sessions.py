"""Device sessions: every sample in exactly one frame, in order, within the limits."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from broker.frames import MAX_FRAME_BYTES, Clock, Frame, encode_frame, restamp
from broker.layouts import all_layouts, layout_named
from gateway.clock import EARLIEST_UTC_US, Instant
from gateway.sessions import DeviceSession, record_body

MOTION, BEATS = layout_named("motion.1"), layout_named("beats.1")
NOW = Instant(10**12, EARLIEST_UTC_US + 5)


def body(layout, i: int) -> bytes:
    """A record without tick that carries the number `i`."""
    return record_body(layout, {"distance_m" if layout is MOTION else "rr_ms": i * (0.01 if layout is MOTION else 1)})


def samples_of(frames: list[Frame]) -> list[tuple[str, int, int]]:
    """(layout, microseconds, number) of every sample, in the order of frames."""
    out = []
    for frame in frames:
        layout = all_layouts()[frame.layout]
        at = [f.name for f in layout.fields].index("distance_m" if layout is MOTION else "rr_ms")
        out += [(layout.name, frame.t0_us + row[0] * 1000, row[at]) for row in layout.record.iter_unpack(frame.records)]
    return out


@given(
    st.lists(st.tuples(st.sampled_from([MOTION, BEATS]), st.integers(-400, 400), st.booleans()), max_size=300),
    st.integers(50, 10_000),
)
def test_every_sample_is_in_exactly_one_frame_in_order_and_limits_hold(steps, frame_ms):
    session = DeviceSession("d" * 32, 2**64 - 1, frame_ms=frame_ms)
    t_us, frames, given_samples = 10**9, [], []
    for i, (layout, step_ms, poll) in enumerate(steps):
        t_us += step_ms * 1000
        frames += session.add(layout, t_us, body(layout, i), NOW)
        given_samples.append((layout.name, t_us, i))
        if poll:
            frames += session.poll(Instant(t_us, NOW.utc_us))
    frames += session.close(NOW)
    assert samples_of(frames) == given_samples
    assert [f.seq for f in frames] == list(range(len(frames)))
    longest = f"{'t' * 32}/{'a' * 32}"
    for frame in frames:
        assert len(encode_frame(restamp(frame, subject=longest, utc_offset_us=2**62, clock=2))) <= MAX_FRAME_BYTES
        ticks = [row[0] for row in all_layouts()[frame.layout].record.iter_unpack(frame.records)]
        assert ticks == sorted(ticks)
        assert ticks[0] == 0
        assert ticks[-1] < frame_ms
        assert not frame.self_numbered


def test_frame_closes_when_it_is_old_although_no_sample_comes():
    session = DeviceSession("strap", 7)
    assert session.add(BEATS, 1_000_000, body(BEATS, 1), NOW) == []
    assert session.poll(Instant(1_249_999, NOW.utc_us)) == []
    (frame,) = session.poll(Instant(1_250_000, NOW.utc_us))
    assert frame.samples == 1
    assert session.poll(Instant(9_000_000, NOW.utc_us)) == []


def test_sample_older_than_the_one_before_starts_a_new_frame():
    session = DeviceSession("strap", 7)
    session.add(BEATS, 1_000_000, body(BEATS, 1), NOW)
    (frame,) = session.add(BEATS, 999_999, body(BEATS, 2), NOW)
    assert (frame.t0_us, frame.samples) == (1_000_000, 1)
    assert session.close(NOW)[0].t0_us == 999_999


def test_frame_is_dated_by_the_clock_at_its_close_and_undated_while_it_is_unset():
    session = DeviceSession("strap", 7)
    session.add(BEATS, 1_000_000, body(BEATS, 1), NOW)
    (undated,) = session.close(Instant(1_100_000, 100))
    assert (undated.utc_offset_us, undated.clock) == (None, Clock.UNKNOWN)
    session.add(BEATS, 2_000_000, body(BEATS, 2), NOW)
    (dated,) = session.close(Instant(2_100_000, EARLIEST_UTC_US))
    assert (dated.utc_offset_us, dated.clock) == (EARLIEST_UTC_US - 2_100_000, Clock.NETWORK)
    assert (undated.boot, undated.seq, dated.boot, dated.seq) == (7, 0, 7, 1)


def test_record_of_another_layout_is_an_error():
    with pytest.raises(ValueError, match=r"not a record of motion\.1"):
        DeviceSession("strap", 7).add(MOTION, 0, body(BEATS, 1), NOW)
