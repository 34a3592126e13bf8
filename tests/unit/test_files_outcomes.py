"""Every kind of bad file has a stated outcome: refused with file, finding and cure, or read with what was left out counted."""

import os
import re
from pathlib import Path

import pytest

from device_profiles.errors import FileError, ProfileError
from device_profiles.files import Point, Recording, decode_recording, read_recording
from device_profiles.files.gpx import encode_gpx

START_US = 1_609_459_200_000_000  # 2021-01-01T00:00:00Z
GPX_HEAD = '<gpx version="1.1" xmlns="http://www.topografix.com/GPX/1/1">'


def gpx(*points, head=GPX_HEAD):
    return f"{head}<trk><trkseg>{''.join(points)}</trkseg></trk></gpx>".encode()


def trkpt(second, lat="46.5", lon="7.25", more=""):
    return f'<trkpt lat="{lat}" lon="{lon}"><time>2021-01-01T00:00:{second:02d}Z</time>{more}</trkpt>'


def read(content, name="a.gpx", **options):
    return decode_recording(content, name, **options)


@pytest.mark.parametrize(
    ("content", "found"),
    [
        (b"", "the file is empty"),
        (b"hello, this is no recording", "neither FIT, GPX nor TCX: it starts with b'hello, this '"),
        (b"\x00" * 500, "500 bytes of zero"),
        (b"PK\x03\x04rest", "ZIP-packed"),
        (b"\x1f\x8brest", "gzip-packed"),
        (b"<html><body/></html>", "root is <html>"),
        (b"<?xml version='1.0'?>", "not well-formed XML"),
        (b"<", "not well-formed XML"),
        (b"<gpx/>", "no points at all .a GPX file with 0 tracks and 0 route points"),
        (gpx(), "no points at all .a GPX file with 1 tracks"),
        (
            b"<gpx><rte><rtept lat='1' lon='2'/><rtept lat='1' lon='3'/></rte></gpx>",
            "no times: none of its 2 points.*0 tracks and 2 route points",
        ),
        (b"<gpx><trk><trkseg><trkpt lat='1' lon='2'/></trkseg></trk></gpx>", "no times: none of its 1 points"),
        (gpx(trkpt(1).replace("2021", "1921")), "none of its 1 points has a time between 1970 and 2200"),
        (b"<TrainingCenterDatabase><Activities/></TrainingCenterDatabase>", "no points at all .a TCX file with 0 activities"),
        (b"<gpx><trk><trkseg><trkpt", "damaged: not well-formed XML.*no point stands before"),
        (b"<gpx>" + b"<a>" * 100, "nested more than 64 deep"),
        (gpx(trkpt(1, more=f"<ele>{'1' * 5000}</ele>")), "the text of <ele> is longer"),
        (b"<?xml version='1.0' encoding='no-such'?><gpx/>", "not well-formed XML"),
    ],
)
def test_refused_with_name_finding_and_cure(content, found):
    with pytest.raises(FileError, match=found) as caught:
        read(content)
    assert caught.value.path == "a.gpx"
    assert caught.value.cure
    assert str(caught.value).startswith("a.gpx: ")
    assert isinstance(caught.value, ProfileError)


BOMB = '<!DOCTYPE gpx [<!ENTITY a "ha"><!ENTITY b "&a;&a;&a;&a;&a;&a;&a;&a;">]>'


@pytest.mark.parametrize(
    "declaration",
    [BOMB, '<!DOCTYPE gpx [<!ENTITY x SYSTEM "file:///etc/passwd">]>', '<!DOCTYPE gpx SYSTEM "http://127.0.0.1/x.dtd">', "<!DOCTYPE gpx>"],
)
@pytest.mark.parametrize("root", ["gpx", "TrainingCenterDatabase"])
def test_entity_bombs_and_external_entities_are_refused(declaration, root):
    content = f'<?xml version="1.0"?>{declaration}<{root}><trk><name>&b;</name></trk></{root}>'
    with pytest.raises(FileError, match="declares a document type or entities") as caught:
        read(content.encode())
    assert "DOCTYPE" in caught.value.cure


def test_size_limit_is_an_argument_and_is_checked_before_reading(tmp_path):
    path = tmp_path / "big.gpx"
    with path.open("wb") as file:
        file.truncate(1 << 40)  # a hole: one terabyte that must not be read
    with pytest.raises(FileError, match=r"big\.gpx: 1099511627776 bytes are more than the limit of 67108864"):
        read_recording(path)
    content = gpx(trkpt(1))
    assert len(read(content, max_bytes=len(content)).points) == 1
    with pytest.raises(FileError, match="more than the limit"):
        read(content, max_bytes=len(content) - 1)


def test_missing_unreadable_and_irregular_files_are_refused(tmp_path):
    with pytest.raises(FileError, match=r"none\.fit: cannot be read: No such file"):
        read_recording(tmp_path / "none.fit")
    with pytest.raises(FileError, match="not a regular file"):
        read_recording(tmp_path)
    os.mkfifo(tmp_path / "pipe.fit")  # opening it would wait for ever
    with pytest.raises(FileError, match=r"pipe\.fit: not a regular file"):
        read_recording(tmp_path / "pipe.fit")
    with pytest.raises(FileError, match="cannot be read"):
        read_recording("a\0b.fit")


def test_the_ending_of_the_name_does_not_matter(tmp_path):
    path = tmp_path / "ride.fit"
    path.write_bytes(gpx(trkpt(1)))
    assert read_recording(path).format == "gpx"


def test_points_are_sorted_and_exact_repetitions_dropped_and_counted():
    got = read(gpx(trkpt(5), trkpt(3), trkpt(3, lat="46.6"), trkpt(3), trkpt(9), trkpt(9)))
    assert [(p.t_us - START_US, p.lat) for p in got.points] == [(3_000_000, 46.5), (3_000_000, 46.6), (5_000_000, 46.5), (9_000_000, 46.5)]
    assert got.skipped == {"time_backward_sorted": 1, "repeated_point": 2}


@pytest.mark.parametrize(
    ("lat", "lon", "reason"),
    [
        ("0", "0.0", "position_zero"),
        ("91", "7", "lat_out_of_range"),
        ("46", "-180.5", "lon_out_of_range"),
        ("nan", "7", "lat_not_a_number"),
        ("46", "inf", "lon_not_a_number"),
        ("here", "7", "lat_not_a_number"),
    ],
)
def test_impossible_positions_are_absent_and_counted(lat, lon, reason):
    got = read(gpx(trkpt(1, lat, lon, "<ele>5</ele>")))
    assert list(got.points) == [Point(START_US + 1_000_000, altitude_m=5.0)]
    assert got.skipped == {reason: 1}


@pytest.mark.parametrize(
    ("more", "reason"),
    [
        ("<ele>NaN</ele>", "altitude_m_not_a_number"),
        ("<hr>256</hr>", "hr_bpm_out_of_range"),
        ("<power>-1</power>", "power_w_out_of_range"),
        ("<ele>1e9</ele>", "altitude_m_out_of_range"),
    ],
)
def test_impossible_values_are_absent_and_counted(more, reason):
    got = read(gpx(trkpt(1, more=f"<extensions>{more}</extensions>")))
    assert list(got.points) == [Point(START_US + 1_000_000, 46.5, 7.25)]
    assert got.skipped == {reason: 1}


def test_points_without_a_time_among_others_are_counted():
    got = read(gpx("<trkpt lat='1' lon='2'/>", trkpt(1), "<trkpt lat='1' lon='2'><time>noon</time></trkpt>"))
    assert len(got.points) == 1
    assert got.skipped == {"point_without_time": 2, "time_unreadable": 1}


def test_broken_xml_gives_the_points_before_the_break_and_says_so():
    whole = gpx(trkpt(1), trkpt(2), trkpt(3))
    got = read(whole[:-60])
    assert len(got.points) == 2
    assert got.damage is not None
    assert got.damage.startswith("not well-formed XML")
    with pytest.raises(FileError, match="damaged"):
        read(whole[:-60], strict=True)


@pytest.mark.parametrize(
    ("text", "us"),
    [
        ("2021-01-01T00:00:01Z", 1_000_000),
        ("2021-01-01T00:00:01", 1_000_000),
        ("2021-01-01T02:00:01.5+02:00", 1_500_000),
        ("2020-12-31T18:30:01.0002-05:30", 1_000_200),
        (" 2021-01-01T00:00:01.123456789Z\n", 1_123_456),
    ],
)
def test_times_in_all_their_forms(text, us):
    assert read(gpx(f"<trkpt lat='1' lon='2'><time>{text}</time></trkpt>")).points[0].t_us == START_US + us


def test_gpx_extensions_of_any_prefix_and_version():
    more = (
        '<ele>500</ele><extensions><power>210</power><x:TrackPointExtension xmlns:x="http://www.garmin.com/xmlschemas/TrackPointExtension/v2">'
        "<x:atemp>20</x:atemp><x:hr>140</x:hr><x:cad>85</x:cad><x:speed>7.5</x:speed><x:course>270</x:course></x:TrackPointExtension>"
        '<d:distance xmlns:d="http://www.cluetrust.com/XML/GPXDATA/1/0">1000</d:distance></extensions>'
    )
    for head in (
        GPX_HEAD,
        "<gpx>",
        '<gpx xmlns="http://www.topografix.com/GPX/1/0">',
        '<g:gpx xmlns:g="http://www.topografix.com/GPX/1/1">',
    ):
        content = gpx(trkpt(1, more=more), head=head)
        if head.startswith("<g:"):
            content = content.replace(b"</gpx>", b"</g:gpx>")
        got = read(content)
        assert list(got.points) == [Point(START_US + 1_000_000, 46.5, 7.25, 500.0, None, 7.5, 270.0, 1000.0, 140.0, 85.0, 210.0)]


def test_cluetrust_and_power_extensions():
    more = "<extensions><gpxdata:hr xmlns:gpxdata='c'>140</gpxdata:hr><gpxdata:cadence xmlns:gpxdata='c'>80</gpxdata:cadence><p:PowerInWatts xmlns:p='p'>99</p:PowerInWatts></extensions>"
    assert read(gpx(trkpt(1, more=more))).points[0] == Point(START_US + 1_000_000, 46.5, 7.25, hr_bpm=140.0, cadence_rpm=80.0, power_w=99.0)


def test_gpx_1_0_speed_and_course_stand_in_the_point():
    got = read(gpx(trkpt(1, more="<speed>3.5</speed><course>90</course>"), head="<gpx version='1.0'>"))
    assert (got.points[0].speed_mps, got.points[0].heading_deg) == (3.5, 90.0)


def test_several_tracks_and_segments_are_one_recording_with_pauses():
    content = f"{GPX_HEAD}<trk><type>Running</type><trkseg>{trkpt(1)}{trkpt(2)}</trkseg><trkseg>{trkpt(5)}</trkseg></trk><trk><trkseg>{trkpt(9)}</trkseg></trk></gpx>"
    got = read(content.encode())
    assert len(got.points) == 4
    assert [((a - START_US) // 1_000_000, (b - START_US) // 1_000_000) for a, b in got.pauses_us] == [(2, 5), (5, 9)]
    assert got.sport == "running"


def test_byte_order_marks_leading_space_and_utf_16():
    text = gpx(trkpt(1)).decode()
    declared = '<?xml version="1.0" encoding="UTF-16"?>' + text
    for content in (b"\xef\xbb\xbf" + text.encode(), b"\n  <?xml version='1.0'?>" + text.encode(), declared.encode("utf-16")):
        got = read(content)
        assert len(got.points) == 1
        assert got.damage is None


TCX = """<TrainingCenterDatabase xmlns="http://www.garmin.com/xmlschemas/TrainingCenterDatabase/v2" xmlns:q="http://www.garmin.com/xmlschemas/ActivityExtension/v2"><Activities>
<Activity Sport="Biking"><Lap StartTime="2021-01-01T00:00:01Z"><AverageHeartRateBpm><Value>99</Value></AverageHeartRateBpm><Cadence>77</Cadence><Track>
<Trackpoint><Time>2021-01-01T00:00:01Z</Time><Position><LatitudeDegrees>46.5</LatitudeDegrees><LongitudeDegrees>7.25</LongitudeDegrees></Position>
<AltitudeMeters>500</AltitudeMeters><DistanceMeters>10</DistanceMeters><HeartRateBpm><Value>140</Value></HeartRateBpm><Cadence>85</Cadence>
<Extensions><q:TPX><q:Speed>7.5</q:Speed><q:Watts>210</q:Watts></q:TPX></Extensions></Trackpoint></Track>
<Track><Trackpoint><Time>2021-01-01T00:00:05Z</Time></Trackpoint></Track></Lap></Activity>
<Activity Sport="Running"><Lap StartTime="2021-01-01T00:00:09Z"><Track><Trackpoint><Time>2021-01-01T00:00:09Z</Time>
<Extensions><q:TPX><q:RunCadence>88</q:RunCadence></q:TPX></Extensions></Trackpoint></Track></Lap><Creator><Name>Watch 9</Name></Creator></Activity>
</Activities></TrainingCenterDatabase>"""


def test_tcx_with_several_activities_laps_and_tracks():
    got = read(TCX.encode(), "a.tcx")
    assert list(got.points) == [
        Point(START_US + 1_000_000, 46.5, 7.25, 500.0, None, 7.5, None, 10.0, 140.0, 85.0, 210.0),
        Point(START_US + 5_000_000),
        Point(START_US + 9_000_000, cadence_rpm=88.0),
    ]
    assert got.lap_starts_us == (START_US + 1_000_000, START_US + 9_000_000)
    assert got.pauses_us == ((START_US + 1_000_000, START_US + 5_000_000),)
    assert (got.sport, got.device, got.format) == ("cycling", "Watch 9", "tcx")


def test_every_reason_and_refusal_in_the_code_is_documented():
    root = Path(__file__).parents[2]
    code = "".join(path.read_text() for path in (root / "device_profiles" / "files").glob("*.py"))
    reasons = set(re.findall(r'skipped\[f?"([^"]+)"\]', code))
    assert len(reasons) >= 10
    page = (root / "docs" / "files.md").read_text()
    assert {r for r in reasons if re.sub(r"{\w+}", "FIELD", r) not in page} == set()


def test_a_device_name_with_control_characters_is_still_xml():
    got = read(encode_gpx(Recording([Point(START_US, 1.0, 2.0)], device="a\x00\x1b\ufffe\U0001f6b4")))
    assert got.device == "a\U0001f6b4"
