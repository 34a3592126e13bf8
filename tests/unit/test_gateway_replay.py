"""Replay: frames of a recording are deterministic and decode back to its points within the resolution of the layouts."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from broker.errors import BadInputError
from broker.frames import Clock, Frame, decode_frame, encode_frame, restamp
from broker.layouts import layout_named
from broker.recorded import MAX_GAP_US, Identity, frames_of, identity_of, last_instant_us
from device_profiles.files.recording import FIELDS, Beat, Point, Points, Recording
from gateway.clock import EARLIEST_UTC_US, Instant
from gateway.file_source import read_file, samples_of_frame, timing
from gateway.settings import FileReplay

DATA = Path(__file__).resolve().parents[2].parent / "shared" / "data"
FILES = sorted(p for kind in ("fit", "gpx", "tcx", "pairs") for p in (DATA / kind).glob("*.*") if p.suffix in {".fit", ".gpx", ".tcx"})
WHO = Identity("f-000000000000", 99)
MOTION, BEATS = layout_named("motion.1"), layout_named("beats.1")


def frames_at(recording: Recording, samples: int = 30) -> list[Frame]:
    points = [*(p.t_us for p in recording.points), *(b.t_us for b in recording.beats)]
    return list(frames_of(recording, WHO, samples=samples, utc_offset_us=min(points)))


def decoded(frames: Sequence[Frame], layout) -> list[tuple[int, dict]]:
    """(UTC microseconds, values) of all samples of one layout, after the way over the wire."""
    out = []
    for frame in frames:
        back = decode_frame(encode_frame(frame))
        assert isinstance(back, Frame)
        if back.layout == layout.id:
            assert back.utc_offset_us is not None
            rows = layout.unpack(back.records)
            out += [(back.t0_us + back.utc_offset_us + round(row["tick_ms"]) * 1000, row) for row in rows]
    return out


def check_same(recording: Recording, frames: Sequence[Frame]) -> None:
    """Points and beats equal what the frames hold: time within half a millisecond, each field within half its resolution."""
    motion = decoded(frames, MOTION)
    assert len(motion) == len(recording.points)
    for point, (t_us, row) in zip(recording.points, motion, strict=True):
        assert abs(t_us - point.t_us) <= 500
        for name in FIELDS:
            field, value = MOTION.field(name), getattr(point, name)
            low, high = field.limits
            if value is None or not low <= round((value - field.offset) / field.scale) <= high:
                assert row[name] is None or abs(row[name] - (value or 0)) <= field.scale
            elif row[name] is None:
                assert round((value - field.offset) / field.scale) == field.absent
            else:
                assert abs(row[name] - value) <= field.scale * 0.5 + 1e-9 * abs(field.scale) + 1e-12
    beats = decoded(frames, BEATS)
    assert [(abs(t - b.t_us) <= 500, row["rr_ms"]) for b, (t, row) in zip(recording.beats, beats, strict=True)] == [
        (True, b.rr_ms) for b in recording.beats
    ]
    assert [f.seq for f in frames] == list(range(len(frames)))


times = st.lists(st.integers(-3_000_000, 200_000_000), min_size=1, max_size=120)


@given(times, times, st.integers(1, 30))
def test_any_times_forwards_and_backwards_come_back(point_steps, beat_steps, samples):
    t_us, points = 1_700_000_000_000_000, []
    for i, step in enumerate(point_steps):
        t_us += step
        points.append(Point(t_us, lat=48 + i * 1e-5, lon=-11.5, altitude_m=-3.1 + i, speed_mps=3.33, hr_bpm=140, power_w=None))
    t_us, beats = 1_700_000_000_000_000, []
    for i, step in enumerate(beat_steps):
        t_us += step
        beats.append(Beat(t_us, 400 + i))
    recording = Recording(Points.of(points), tuple(beats))
    frames = frames_at(recording, samples)
    check_same(recording, frames)
    longest = f"{'t' * 32}/{'a' * 32}"
    assert all(len(encode_frame(restamp(f, subject=longest, utc_offset_us=2**62, clock=4))) <= 1024 for f in frames)
    assert frames == frames_at(recording, samples)


def test_gap_longer_than_65_s_starts_a_new_frame():
    start = 1_700_000_000_000_000
    points = Points.of([Point(start, hr_bpm=1), Point(start + MAX_GAP_US, hr_bpm=2), Point(start + 2 * MAX_GAP_US + 1, hr_bpm=3)])
    frames = frames_at(Recording(points))
    assert [f.samples for f in frames] == [2, 1]
    assert [last_instant_us(f) for f in frames] == [MAX_GAP_US, 2 * MAX_GAP_US + 1]


def test_identity_is_of_the_bytes_and_a_given_device_keeps_the_boot():
    one, two = identity_of(b"one"), identity_of(b"two")
    assert one == identity_of(b"one")
    assert one.device != two.device
    assert one.boot != two.boot
    assert identity_of(b"one", "ride") == Identity("ride", one.boot)


@pytest.mark.parametrize(("speed", "expected_us"), [(1, 0), (60, -600_000_000)])
def test_shift_now_never_dates_into_the_future(speed, expected_us):
    start = 1_500_000_000_000_000
    recording = Recording(Points.of([Point(start), Point(start + 600_000_000)]))
    now = Instant(5, EARLIEST_UTC_US + 10**12)
    replay = FileReplay(path=Path("x.gpx"), speed=speed, shift="now")
    assert timing(replay, recording, now) == (now.utc_us + expected_us, Clock.NETWORK)
    assert timing(replay, recording, Instant(5, 5)) == (None, Clock.UNKNOWN)
    assert timing(FileReplay(path=Path("x.gpx")), recording, now) == (start, Clock.RECORDED)


def test_live_replay_sends_small_frames_and_a_recorded_one_always_the_same():
    start = 1_500_000_000_000_000
    recording = Recording(Points.of([Point(start + i * 1_000_000) for i in range(601)]))

    def samples(**more) -> int:
        return samples_of_frame(FileReplay(path=Path("x.gpx"), **more), recording)

    assert [samples(shift="now", speed=s) for s in (1, 20, 1000, 0)] == [1, 5, 30, 30]
    assert [samples(speed=s) for s in (1, 20, 0)] == [30, 30, 30]


def test_a_file_that_is_not_one_is_refused_with_its_name(tmp_path):
    bad = tmp_path / "ride.fit"
    bad.write_bytes(b"not a fit file")
    with pytest.raises(BadInputError, match=r"ride\.fit"):
        read_file(bad, None)
    with pytest.raises(BadInputError, match=r"none\.gpx"):
        read_file(tmp_path / "none.gpx", None)
    (tmp_path / "empty.gpx").write_text('<?xml version="1.0"?><gpx version="1.1" xmlns="http://www.topografix.com/GPX/1/1"></gpx>')
    with pytest.raises(BadInputError, match=r"empty\.gpx"):
        read_file(tmp_path / "empty.gpx", None)


def read_or_refusal(path: Path) -> tuple[Recording, Identity, BadInputError | None]:
    """What the file holds, or why it is refused."""
    try:
        return *read_file(path, None), None
    except BadInputError as error:
        return Recording(Points.of([])), WHO, error


def named(path: Path):
    """A file as a parameter; one of 100,000 points takes half a minute of CPU and runs in nightly."""
    big = path.stat().st_size > 2_000_000
    return pytest.param(path, id=path.name, marks=pytest.mark.nightly if big else ())


@pytest.mark.parametrize("path", [named(path) for path in FILES])
def test_real_file_comes_back_as_frames_or_is_refused_by_name(path):
    recording, who, refusal = read_or_refusal(path)
    if refusal is not None:
        assert path.name in refusal.message
        assert refusal.cure
        return
    frames = frames_at(recording)
    check_same(recording, frames)
    assert who.device.startswith("f-")
