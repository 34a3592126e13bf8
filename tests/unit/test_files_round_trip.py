"""What is written is read back within the resolution of the form, and foreign readers agree."""

import io
import itertools
from xml.etree import ElementTree as ET

import fitparse
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from device_profiles.files import Beat, Point, Recording, decode_recording, read_recording, write_fit, write_gpx, write_tcx
from device_profiles.files.fit_writing import encode_fit
from device_profiles.files.gpx import encode_gpx
from device_profiles.files.recording import FIELDS
from device_profiles.files.tcx import encode_tcx

START_US = 1_700_000_000_000_000
# half a unit of the last digit written, and what float arithmetic adds
GPX = {
    "lat": 6e-8,
    "lon": 6e-8,
    "altitude_m": 0.0051,
    "speed_mps": 0.00051,
    "heading_deg": 0.0051,
    "distance_m": 0.0051,
    "hr_bpm": 0.51,
    "cadence_rpm": 0.51,
    "power_w": 0.51,
}
TCX = {name: value for name, value in GPX.items() if name != "heading_deg"}
FIT = {
    "lat": 4.3e-8,
    "lon": 4.3e-8,
    "altitude_m": 0.101,
    "accuracy_m": 0.51,
    "speed_mps": 0.00051,
    "distance_m": 0.0051,
    "hr_bpm": 0.51,
    "cadence_rpm": 0.008,
    "power_w": 0.51,
}


def optional(low, high):
    return st.none() | st.floats(low, high, allow_nan=False)


@st.composite
def points(draw, *, step_us):
    steps = draw(st.lists(st.integers(1, 5_000), min_size=1, max_size=12))
    made = []
    for t in itertools.accumulate(steps):
        has_position = draw(st.booleans()) or not made
        made.append(
            Point(
                START_US + t * step_us,
                lat=draw(st.floats(0.001, 89.9)) * draw(st.sampled_from([1, -1])) if has_position else None,
                lon=draw(st.floats(-179.9, 179.9)) if has_position else None,
                altitude_m=draw(optional(-400, 9_000)),
                accuracy_m=draw(optional(0, 250)),
                speed_mps=draw(optional(0, 60)),
                heading_deg=draw(optional(0, 359.9)),
                distance_m=draw(optional(0, 400_000)),
                hr_bpm=draw(optional(0, 250)),
                cadence_rpm=draw(optional(0, 250)),
                power_w=draw(optional(0, 2_500)),
            )
        )
    return made


def check_same(wanted, got, resolution):
    assert len(got) == len(wanted)
    for a, b in zip(wanted, got, strict=True):
        assert b.t_us == a.t_us
        for name in FIELDS:
            if name not in resolution or getattr(a, name) is None:
                assert getattr(b, name) is None, name
            else:
                assert getattr(b, name) == pytest.approx(getattr(a, name), abs=resolution[name], rel=0), name


@settings(max_examples=60, deadline=None)
@given(points(step_us=1_000))
def test_gpx_keeps_points_that_have_a_position(made):
    read = decode_recording(encode_gpx(Recording(made, sport="running", device="A <&> B")), "a.gpx")
    check_same([p for p in made if p.lat is not None], read.points, GPX)
    assert (read.format, read.sport, read.device, read.damage, dict(read.skipped)) == ("gpx", "running", "A <&> B", None, {})


@settings(max_examples=60, deadline=None)
@given(points(step_us=1_000))
def test_tcx_keeps_all_points(made):
    read = decode_recording(encode_tcx(Recording(made, sport="cycling", device="A <&> B")), "a.tcx")
    check_same(made, read.points, TCX)
    assert (read.format, read.sport, read.device, read.damage, dict(read.skipped)) == ("tcx", "cycling", "A <&> B", None, {})


@settings(max_examples=60, deadline=None)
@given(points(step_us=1_000_000))
def test_fit_keeps_all_points(made):
    read = decode_recording(encode_fit(Recording(made, sport="rowing")), "a.fit")
    check_same(made, read.points, FIT)
    assert (read.format, read.sport, read.device, read.damage, dict(read.skipped)) == ("fit", "rowing", "development 0", None, {})


def ride(seconds=120):
    made = [
        Point(START_US + s * 1_000_000, 46.5 + s * 1e-5, 7.25, 500.2 + s / 5, 3.0, 5.0, 0.0, s * 5.0, 120.0 + s % 40, 80.5, 200.0 + s % 7)
        for s in range(seconds)
        if not 50 <= s < 60
    ]
    beats = tuple(Beat(START_US + (i + 1) * 500_000, 500) for i in range(90))
    return Recording(
        made,
        beats=beats,
        sport="cycling",
        lap_starts_us=(START_US, START_US + 60_000_000),
        pauses_us=((START_US + 49_000_000, START_US + 60_000_000),),
    )


def test_fit_keeps_laps_pauses_and_beats():
    wanted = ride()
    read = decode_recording(encode_fit(wanted), "ride.fit")
    assert read.lap_starts_us == wanted.lap_starts_us
    assert read.pauses_us == wanted.pauses_us
    assert [beat.rr_ms for beat in read.beats] == [500] * 90
    assert all(b.t_us - a.t_us == 500_000 for a, b in itertools.pairwise(read.beats))


def test_tcx_keeps_laps_and_pauses_between_tracks_of_a_lap():
    wanted = Recording(ride().points, lap_starts_us=(START_US, START_US + 80_000_000), pauses_us=ride().pauses_us)
    read = decode_recording(encode_tcx(wanted), "ride.tcx")
    assert read.lap_starts_us == wanted.lap_starts_us
    assert read.pauses_us == wanted.pauses_us
    assert len(read.points) == 110


def test_gpx_pause_is_a_gap_between_segments():
    read = decode_recording(encode_gpx(ride()), "ride.gpx")
    assert read.pauses_us == ride().pauses_us


def test_fitparse_reads_what_is_written_and_agrees_with_its_crc():
    wanted = ride()
    file = fitparse.FitFile(io.BytesIO(encode_fit(wanted)), check_crc=True)
    messages = list(file.get_messages())
    records = [m.get_values() for m in messages if m.name == "record"]
    assert len(records) == len(wanted.points)
    assert records[3]["heart_rate"] == 123
    assert records[3]["position_lat"] * 180 / 2**31 == pytest.approx(wanted.points[3].lat, abs=1e-7)
    assert records[3]["enhanced_altitude"] == pytest.approx(wanted.points[3].altitude_m, abs=0.1)
    assert [m.name for m in messages if m.name not in ("record", "hrv")] == [
        "file_id",
        "event",
        "event",
        "event",
        "event",
        "lap",
        "lap",
        "session",
        "activity",
    ]
    session = next(m for m in messages if m.name == "session").get_values()
    assert (session["sport"], session["total_elapsed_time"], session["num_laps"]) == ("cycling", 119.0, 2)


def test_written_xml_is_read_by_a_plain_parser():
    gpx = ET.fromstring(encode_gpx(ride()))
    assert len(gpx.findall(".//{http://www.topografix.com/GPX/1/1}trkpt")) == 110
    tcx = ET.fromstring(encode_tcx(ride()))
    assert len(tcx.findall(".//{*}Trackpoint")) == 110


def test_writers_take_paths_and_open_files(tmp_path):
    for write, name in ((write_fit, "a.fit"), (write_gpx, "a.gpx"), (write_tcx, "a.tcx")):
        write(ride(), tmp_path / name)
        into = io.BytesIO()
        write(ride(), into)
        assert into.getvalue() == (tmp_path / name).read_bytes()
        assert read_recording(tmp_path / name).source == name
        assert read_recording(str(tmp_path / name)).points == read_recording(tmp_path / name).points


def test_what_a_form_cannot_hold_is_said():
    with pytest.raises(ValueError, match="no point has a position"):
        encode_gpx(Recording([Point(START_US)]))
    for encode in (encode_tcx, encode_fit):
        with pytest.raises(ValueError, match="nothing to write"):
            encode(Recording([]))
    with pytest.raises(ValueError, match="between 1998 and 2125"):
        encode_fit(Recording([Point(1)]))
    read = decode_recording(encode_fit(Recording([Point(START_US, altitude_m=-600.0, hr_bpm=255.0, power_w=1.0)])), "a.fit")
    assert read.points[0] == Point(START_US, power_w=1.0)
