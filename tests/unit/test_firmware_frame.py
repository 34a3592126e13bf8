"""The kit's frame writer: when a frame is full or too old, what does not fit, whom it counts for."""

from __future__ import annotations

import pytest
from kit.frame import MAX_TICK_MS, FrameWriter
from kit.layouts import motion_1

from broker.frames import MAX_FRAME_BYTES, Frame, decode_frame
from broker.layouts import layout_named

MOTION = layout_named("motion.1")


def writer(**changes: object) -> FrameWriter:
    made = FrameWriter(motion_1, "watch-7", 77, **changes)
    made.open(5_000_000)
    return made


def closed(made: FrameWriter, seq: int = 0) -> Frame:
    frame = decode_frame(bytes(made.close(seq, None, 0)))
    assert isinstance(frame, Frame)
    return frame


def test_what_was_not_put_is_absent() -> None:
    made = writer()
    assert made.start(40)
    made.put(motion_1.HR_BPM, 141)
    made.put(motion_1.POWER_W, None)
    assert MOTION.unpack(closed(made).records) == [dict.fromkeys((f.name for f in MOTION.fields), None) | {"tick_ms": 40, "hr_bpm": 141}]


@pytest.mark.parametrize("value", [-1, 256, 70_000])
def test_a_value_beyond_its_field_is_absent_and_counted(value: int) -> None:
    made = writer()
    made.start(0)
    made.put(motion_1.HR_BPM, value)
    assert made.misfits == 1
    assert MOTION.unpack(closed(made).records)[0]["hr_bpm"] is None


@pytest.mark.parametrize("tick_ms", [-1, MAX_TICK_MS + 1])
def test_a_tick_that_does_not_fit_asks_for_the_next_frame(tick_ms: int) -> None:
    made = writer()
    assert not made.start(tick_ms)
    assert made.start(MAX_TICK_MS)


@pytest.mark.parametrize("max_bytes", [200, 512, 1024])
def test_a_full_frame_keeps_to_its_size(max_bytes: int) -> None:
    made = writer(max_bytes=max_bytes, subject="gym/ann")
    while made.start(made.count):
        made.put(motion_1.LAT, -900_000_000)
    raw = bytes(made.close((1 << 64) - 1, -(1 << 62), 3))
    assert max_bytes - MOTION.size - 30 < len(raw) <= max_bytes <= MAX_FRAME_BYTES
    frame = decode_frame(raw)
    assert isinstance(frame, Frame)
    assert [row["tick_ms"] for row in MOTION.unpack(frame.records)] == list(range(frame.samples or 0))


def test_a_frame_without_records_is_none() -> None:
    assert writer().close(0, None, 0) is None


def test_frames_after_a_binding_count_for_it() -> None:
    made = writer()
    made.start(0)
    with pytest.raises(ValueError, match="close the frame"):
        made.bind("gym/ann")
    assert closed(made).subject == ""
    made.bind("gym/ann")
    made.open(9)
    made.start(1)
    assert closed(made, 1).subject == "gym/ann"


def test_a_frame_that_holds_no_record_cannot_be_asked_for() -> None:
    with pytest.raises(ValueError, match="max_bytes 60"):
        writer(max_bytes=60)
    with pytest.raises(ValueError, match="max_bytes 1025"):
        writer(max_bytes=1025)


def test_an_undated_frame_has_no_offset() -> None:
    made = writer()
    made.start(0)
    with pytest.raises(ValueError, match="utc_offset_us"):
        made.close(0, 5, 0)
    with pytest.raises(ValueError, match="utc_offset_us"):
        made.close(0, None, 2)
