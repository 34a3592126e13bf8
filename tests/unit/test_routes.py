"""Route files: what users draw or record becomes lines with names, or a refusal with a cure."""

import json
import random
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from device_profiles.errors import FileError
from device_profiles.files import Point, Recording
from device_profiles.files.fit_writing import encode_fit
from device_profiles.files.polyline import decode_polyline, encode_polyline
from device_profiles.files.routes import Route, decode_routes, read_routes
from device_profiles.files.tcx import encode_tcx

LINE = [(46.5 + k * 1e-3, 7.25 - k * 2e-3) for k in range(6)]
DATA = Path(__file__).parents[3] / "shared" / "data"


def gpx(body: str) -> bytes:
    return f'<?xml version="1.0"?>\n<gpx version="1.1" xmlns="http://www.topografix.com/GPX/1/1">{body}</gpx>'.encode()


def trkseg(points: list[tuple[float, float]], name: str = "trkpt") -> str:
    return "".join(f'<{name} lat="{lat:.7f}" lon="{lon:.7f}"><ele>500.5</ele></{name}>' for lat, lon in points)


def feature(geometry: object, name: str = "") -> dict[str, object]:
    return {"type": "Feature", "properties": {"name": name} if name else None, "geometry": geometry}


def line_string(points: list[tuple[float, float]]) -> dict[str, object]:
    return {"type": "LineString", "coordinates": [[lon, lat] for lat, lon in points]}


def close(a: list[tuple[float, float]], b: list[tuple[float, float]], tolerance: float = 1e-6) -> bool:
    return len(a) == len(b) and all(abs(p - r) < tolerance and abs(q - s) < tolerance for (p, q), (r, s) in zip(a, b, strict=True))


def test_gpx_tracks_and_routes_come_with_their_names_and_altitudes():
    body = f"<metadata><name>all</name></metadata><trk><name>Col &amp; back</name><trkseg>{trkseg(LINE)}</trkseg></trk>"
    routes = decode_routes(gpx(body + f"<rte><name>Way</name>{trkseg(LINE[:3], 'rtept')}</rte>"), "f.gpx")
    assert [route.name for route in routes] == ["Col & back", "Way"]
    assert close(routes[0].points, LINE)
    assert close(routes[1].points, LINE[:3])
    assert routes[0].altitudes_m == [500.5] * 6


def test_pieces_of_a_track_that_follow_each_other_are_one_line_and_others_are_not():
    near = [(LINE[-1][0] + 1e-4, LINE[-1][1]), (LINE[-1][0] + 1e-3, LINE[-1][1])]
    far = [(40.0, 7.0), (40.001, 7.0)]
    pieces = "".join(f"<trkseg>{trkseg(piece)}</trkseg>" for piece in (LINE, near, far))
    routes = decode_routes(gpx(f"<trk><name>T</name>{pieces}</trk>"), "f.gpx")
    assert [(route.name, len(route.points)) for route in routes] == [("T (1)", 8), ("T (2)", 2)]


def test_geojson_lines_are_longitude_first_and_points_are_passed_over():
    collection = {
        "type": "FeatureCollection",
        "features": [
            feature(line_string(LINE), "Climb"),
            feature({"type": "Point", "coordinates": [7.0, 46.0]}, "Inn"),
            feature(None),
            feature({"type": "MultiLineString", "coordinates": [[[7, 46], [7.1, 46]], [[7, 47, 310.0], [7.1, 47, 320]]]}, "Two"),
            feature({"type": "GeometryCollection", "geometries": [line_string(LINE[:2])]}),
        ],
    }
    routes = decode_routes(json.dumps(collection).encode(), "f.json")
    assert [route.name for route in routes] == ["Climb", "Two (1)", "Two (2)", ""]
    assert routes[0].points == LINE
    assert routes[2].altitudes_m == [310.0, 320.0]
    assert routes[1].points == [(46.0, 7.0), (46.0, 7.1)]
    assert decode_routes(b"\xef\xbb\xbf " + json.dumps(line_string(LINE)).encode(), "f")[0].points == LINE


def test_geojson_in_other_coordinates_is_refused():
    document = {**line_string(LINE), "crs": {"type": "name", "properties": {"name": "urn:ogc:def:crs:EPSG::3857"}}}
    with pytest.raises(FileError, match="reference system"):
        decode_routes(json.dumps(document).encode(), "f.json")
    with pytest.raises(FileError, match="not on the globe"):
        decode_routes(json.dumps(line_string([(5_900_000.0, 800_000.0), (5_900_010.0, 800_000.0)])).encode(), "f.json")


def test_the_published_example_of_an_encoded_polyline():
    assert decode_polyline("_p~iF~ps|U_ulLnnqC_mqNvxq`@") == [(38.5, -120.2), (40.7, -120.95), (43.252, -126.453)]
    assert encode_polyline([(38.5, -120.2), (40.7, -120.95), (43.252, -126.453)]) == "_p~iF~ps|U_ulLnnqC_mqNvxq`@"


def test_polyline_text_has_names_comments_and_both_precisions():
    text = f"# mine\n\nCol\t{encode_polyline(LINE)}\n{encode_polyline(LINE, 6)}\n"
    first, second = decode_routes(text.encode(), "f.txt")
    assert first == Route("Col", first.points, [None] * 6)
    assert close(first.points, LINE, 6e-6)
    assert second.name == ""
    assert close(second.points, LINE)  # precision 5 leads off the globe
    near_zero = [(4.5, 3.25), (4.6, 3.25)]
    assert close(decode_routes(encode_polyline(near_zero, 6).encode(), "f", precision=6)[0].points, near_zero)
    assert close(decode_routes(b"Col\t" + encode_polyline(LINE, 6).encode(), "f", precision=6)[0].points, LINE)


@given(
    st.lists(st.tuples(st.integers(-9_000_000, 9_000_000), st.integers(-18_000_000, 18_000_000)), max_size=40), st.sampled_from([5, 6, 7])
)
def test_polylines_come_back(points: list[tuple[int, int]], precision: int):
    line = [(lat / 10**precision, lon / 10**precision) for lat, lon in points]
    assert decode_polyline(encode_polyline(line, precision), precision) == line


@pytest.mark.parametrize("encoder", [encode_fit, encode_tcx])
def test_a_recording_is_a_route(encoder: Callable[[Recording], bytes]):
    made = encoder(Recording([Point(1_700_000_000_000_000 + k * 1_000_000, lat, lon, 500.0) for k, (lat, lon) in enumerate(LINE)]))
    (route,) = decode_routes(made, "f")
    assert close(route.points, LINE)


def test_a_lone_line_without_name_gets_the_name_of_its_file(tmp_path: Path):
    path = tmp_path / "col de la lune.txt"
    path.write_text(encode_polyline(LINE))
    assert read_routes(path)[0].name == "col de la lune"
    with pytest.raises(FileError, match="cannot be read"):
        read_routes(tmp_path / "none")
    with pytest.raises(FileError, match="more than the limit"):
        read_routes(path, max_bytes=10)


@pytest.mark.parametrize(
    ("content", "says"),
    [
        (b"", "empty"),
        (b"  \n", "empty"),
        (b"# only this\n", "no line"),
        (b"<html></html>", "root is <html>"),
        (gpx("<wpt lat='1' lon='2'/>"), "no line"),
        (gpx("<trk><trkseg><trkpt lat='1' lon='2'/></trkseg></trk>"), "no line"),
        (gpx("<trk><trkseg><trkpt lat='1'/></trkseg></trk>"), "no latitude and longitude"),
        (gpx("<trk><trkseg><trkpt lat='1' lon='nan'/><trkpt lat='1' lon='2'/></trkseg></trk>"), "not on the globe"),
        (gpx(f"<trk><trkseg>{trkseg(LINE)}")[:-9], "not well-formed"),
        (b'<!DOCTYPE x [<!ENTITY a "b">]><gpx></gpx>', "declares"),
        (b'{"type": "Feature"', "not well-formed"),
        (b'{"type": "Nonsense"}', "no GeoJSON"),
        (b'["no", "GeoJSON"]', "no GeoJSON"),
        (b'{"type": "LineString", "coordinates": [["a", 1], [2, 3]]}', "not \\[longitude, latitude\\]"),
        (b'{"type": "LineString", "coordinates": [[1, 1' + b"0" * 400 + b"], [2, 3]]}", "not on the globe"),
        (b'{"a":' + b"[" * 100_000, "not well-formed"),
        (b"hello world", "no encoded polyline"),
        (b"\x00\xff\xfe", "neither"),
        (b"_p~iF~ps|U_ulLnnqC_mqN", "breaks off"),
        (b"~" * 40, "longer than 32 bits"),
    ],
)
def test_what_is_no_route_is_refused_with_a_cure(content: bytes, says: str):
    with pytest.raises(FileError, match=says) as caught:
        decode_routes(content, "given")
    assert caught.value.cure


SPICE = (b"", b"\xff\xfe", b"\0", b"<", b"&", b"[", b"]", b"{", b"1e999", b"-", b"NaN", b"null", b'"', b"\t", b"\n", b"~~~~~~~~~~")
FILES = (
    gpx(f"<trk><name>T</name><trkseg>{trkseg(LINE)}</trkseg></trk><rte>{trkseg(LINE, 'rtept')}</rte>"),
    json.dumps({"type": "FeatureCollection", "features": [feature(line_string(LINE), "a"), feature(line_string(LINE))]}).encode(),
    f"# mine\nCol\t{encode_polyline(LINE)}\n{encode_polyline(LINE, 6)}\n".encode(),
)


def routes_or_refusal(content: bytes) -> list[Route] | FileError:
    try:
        return decode_routes(content, "fuzzed")
    except FileError as refusal:
        return refusal


def test_whatever_bytes_come_there_are_sound_routes_or_a_refusal():
    rng = random.Random(4)
    read = 0
    for turn in range(1_500):
        content = bytearray(FILES[turn % 3])
        for _ in range(rng.choice((1, 1, 2, 5))):
            at = rng.randrange(len(content) + 1)
            match rng.randrange(4):
                case 0:
                    content[at : at + 1] = bytes([rng.randrange(256)])
                case 1:
                    del content[at : at + rng.randrange(1, 30)]
                case 2:
                    content[at:at] = rng.choice(SPICE)
                case _:
                    content[at:at] = content[: rng.randrange(60)]
        routes = routes_or_refusal(bytes(content))
        if isinstance(routes, FileError):
            assert routes.cure
            continue
        read += 1
        for route in routes:
            assert len(route.points) == len(route.altitudes_m) > 1
            assert all(abs(lat) <= 90 and abs(lon) <= 180 for lat, lon in route.points)
    assert 50 < read < 1_000


def test_real_routes_are_read():
    for path in sorted((DATA / "pairs").glob("*_route.gpx")):
        (route,) = read_routes(path)
        assert len(route.points) > 100
        assert route.name
