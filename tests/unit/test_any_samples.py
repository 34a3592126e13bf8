"""Whatever stands in the fields of samples, live and finish come to an end, and what comes out stays within its bounds."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from broker.frames import Clock, Frame, encode_frame
from broker.layouts import layout_named
from broker.reference import SegmentRef, UploadRef
from processors import live_kernel as k
from processors.finishing import finish_activity
from processors.live_row import floats_of, fresh_row
from processors.matcher import Attempts, Fixes, advance, settle, under_way
from processors.results import Finished
from processors.run_kernel import run_frames, run_tracks
from processors.samples import TakenFrame, samples_of
from processors.segments import SegmentIndex
from processors.stage import Activity
from processors.tracks import Track, tracks_of
from tests.gps_truth import START_US
from tests.unit.test_finishing import assert_sound

MOTION, BEATS, MACHINE = (layout_named(name) for name in ("motion.1", "beats.1", "machine.1"))
EDGES = {
    1: (0, 1, 127, 254, 255),
    2: (0, 1, 255, 32767, 32768, 65534, 65535),
    4: (0, 1, 2**31 - 1, 2**31, 2**32 - 1, 1_800_000_000, 900_000_000),
}
NEAR = (460_000_000, 70_000_000)
LINE = SegmentRef(tenant="gym", id="line", name="line", points=tuple((NEAR[0] + i * 1000, NEAR[1]) for i in range(30)))
FILE = "gym/upload/f-1"
WIDTHS = {"u8": 1, "i8": 1, "u16": 2, "i16": 2, "u32": 4, "i32": 4, "u64": 8}


def a_field(kind: str) -> st.SearchStrategy[bytes]:
    """Any value of an integer field, those at its edges often."""
    size = WIDTHS[kind]
    return st.one_of(st.sampled_from(EDGES[size]), st.integers(0, 256**size - 1)).map(lambda n: n.to_bytes(size, "little"))


def a_record(name: str) -> st.SearchStrategy[bytes]:
    """Any record of a layout."""
    return st.tuples(*(a_field(field.type) for field in layout_named(name).fields)).map(b"".join)


def near_by() -> st.SearchStrategy[bytes]:
    """A motion record near the segment, with anything beside its position."""
    return st.tuples(a_record("motion.1"), st.integers(-200_000, 200_000), st.integers(-200_000, 200_000)).map(
        lambda made: made[0][:2] + (NEAR[0] + made[1]).to_bytes(4, "little") + (NEAR[1] + made[2]).to_bytes(4, "little") + made[0][10:]
    )


@st.composite
def frames(draw: st.DrawFn) -> list[TakenFrame]:
    """A few frames of two devices and a file, in any order of time, also within a frame."""
    made: list[TakenFrame] = []
    for seq in range(draw(st.integers(1, 5))):
        name = draw(st.sampled_from(["motion.1", "motion.1", "near", "near", "beats.1", "machine.1"]))
        records = draw(st.lists(near_by() if name == "near" else a_record(name), min_size=1, max_size=12))
        layout = MOTION if name == "near" else layout_named(name)
        device = draw(st.sampled_from(["watch", "phone", "f-1"]))
        at_us = draw(st.integers(0, 900_000_000))
        frame = Frame(layout.id, 1, device, 1, seq, at_us, START_US, Clock.GNSS, "gym/anna", b"".join(records))
        made.append(TakenFrame(FILE if device == "f-1" else f"gym/{device}", "box", frame, encode_frame(frame), START_US))
    return made


def finished(tracks: dict[int, Track], run: k.I64, says: str | None = None) -> Finished:
    start_us, end_us = int(run[k.START]), int(run[k.LAST_T])
    activity = Activity("gym/anna", start_us, start_us, end_us, int(run[k.DIST_UM]), 0, 0, int(run[k.SAMPLES]), 0, 0, 0, True, 1)
    said = UploadRef(tenant="gym", id="f-1", athlete="anna", name="file", sport=says, format="fit", first_us=start_us, last_us=end_us)
    return finish_activity("gym/anna", tracks, activity, None, SegmentIndex.build([LINE]), [said])


def assert_row_sound(row: k.I64) -> None:
    """What holds for every state."""
    assert row[k.DIST_UM] >= 0
    assert row[k.POINTS] >= 0
    assert 0 <= row[k.MOVING_US] <= row[k.LAST_T] - row[k.START]
    assert -1 <= row[k.HR] <= 255
    assert 0 <= row[k.HR_MAX] <= 255
    assert -1 <= row[k.SPEED] <= 65_535
    assert not np.isinf(floats_of(row)).any()


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large])
@given(frames(), st.sampled_from([None, "running", "cycling", "e_biking", "driving", "swimming"]))
def test_any_samples_come_to_a_sound_state_and_a_sound_activity(taken: list[TakenFrame], says: str | None) -> None:
    rows = fresh_row().reshape(1, -1)
    ran = run_frames(rows, [0] * len(taken), samples_of(taken), {})
    for row in (*(ended.row for ended in ran.closed), rows[0]):
        if row[k.START] != k.NEVER:
            assert_row_sound(row)
    tracks = tracks_of(taken)
    for run in run_tracks(tracks, 190):
        assert_row_sound(run)
        made = finished(tracks, run, says)
        assert_sound(made)
        for effort in made.efforts:
            assert effort.timed.elapsed_ms > 0
            assert list(effort.timed.curve_ms) == sorted(effort.timed.curve_ms)
            assert effort.timed.curve_ms[0] >= 0
            assert effort.timed.curve_ms[-1] == effort.timed.elapsed_ms
            assert effort.timed.accuracy_ms >= 0
            assert 0 <= effort.verdict.plausibility_pct <= 100


FIX = st.tuples(
    st.integers(1, 200_000_000),
    st.one_of(st.integers(-900_000_000, 900_000_000), st.integers(NEAR[0] - 5000, NEAR[0] + 35_000)),
    st.one_of(st.integers(-1_800_000_000, 1_800_000_000), st.integers(NEAR[1] - 5000, NEAR[1] + 5000)),
    st.one_of(st.just(-1), st.integers(0, 13_000)),
)


@settings(max_examples=150, deadline=None)
@given(st.lists(FIX, max_size=60))
@example([(1, NEAR[0] - 2000, NEAR[1], -1), (10_000_000, NEAR[0] + 31_000, NEAR[1], -1), (10_000_000, 0, 1, -1)])
def test_any_fixes_come_to_sound_efforts(steps: list[tuple[int, int, int, int]]) -> None:
    t_us = np.cumsum([step[0] for step in steps], dtype=np.int64) + START_US
    fixes = Fixes.of(t_us, *(np.array([step[i] for step in steps], np.int64) for i in (1, 2, 3)))
    index, attempts = SegmentIndex.build([LINE]), Attempts()
    timed = [*advance(attempts, index, fixes), *settle(attempts, index, START_US + 10**12)]
    for one in timed:
        assert one.elapsed_ms > 0
        assert one.accuracy_ms >= 0
        assert one.start_us + 1_000_000_000 >= START_US
        assert list(one.curve_ms) == sorted(one.curve_ms)
    for way in under_way(attempts, index):
        assert 0 <= way.share_ppm <= 1_000_000
        assert way.elapsed_ms >= 0


@pytest.mark.parametrize("name", ["motion.1", "beats.1", "machine.1"])
@pytest.mark.parametrize("byte", [0x00, 0x7F, 0x80, 0xFF])
def test_records_of_one_byte_only_are_taken(name: str, byte: int) -> None:
    layout = layout_named(name)
    frame = Frame(layout.id, 1, "watch", 1, 0, 0, START_US, Clock.GNSS, "gym/anna", bytes([byte]) * layout.size * 5)
    taken = [TakenFrame("gym/watch", "box", frame, encode_frame(frame), START_US)]
    for run in run_tracks(tracks_of(taken), 190):
        assert_row_sound(run)
        assert_sound(finished(tracks_of(taken), run))
        assert math.isfinite(float(run[k.DIST_UM]))
