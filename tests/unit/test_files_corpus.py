"""Real recordings, when they are there: each reads into the points an independent reader finds, or is refused with a reason.

The oracles are fitparse used directly and a plain ElementTree; neither goes through our framing, streaming or rules.
"""

import itertools
from datetime import datetime
from pathlib import Path
from xml.etree import ElementTree as ET

import fitparse
import pytest

from device_profiles.errors import FileError
from device_profiles.files import read_recording

DATA = Path(__file__).parents[3] / "shared" / "data"
FOLDERS = ("fit", "gpx", "tcx", "pairs")
QUICK_BYTES = 130_000  # fitparse alone needs 4 s for a megabyte
EPOCH_S = 631_065_600
SEMICIRCLE = 180 / 2**31
REFUSALS = ("no times: none of its", "no points at all")


def recordings(suffix, low=0, high=1 << 40):
    files = (path for folder in FOLDERS for path in sorted(DATA.glob(f"{folder}/*.{suffix}")))
    return [path for path in files if low <= path.stat().st_size < high]


def ordered(points):
    """Sorted by time, exact repetitions dropped: what docs/files.md promises."""
    points = sorted(points, key=lambda point: point[0])
    return [p for _, group in itertools.groupby(points, key=lambda point: point[0]) for p in dict.fromkeys(group)]


def first_of(values, *names):
    return next((float(values[n]) for n in names if isinstance(values.get(n), int | float)), None)


def fit_oracle(path):
    """(t_us, lat, lon, altitude, speed, distance, hr, power) of each dated record, and whether fitparse got to the end."""
    points, whole = [], True
    try:
        for message in fitparse.FitFile(str(path), check_crc=False, data_processor=NoProcessing()).get_messages("record"):
            values = {}
            for field in message.fields:
                if field.value is not None and field.field_type != "devfield":
                    values[field.name] = field.value
            t_s = values.get("timestamp")
            if t_s is None:
                continue
            lat, lon = first_of(values, "position_lat"), first_of(values, "position_long")
            if lat is None or lon is None or lat == lon == 0:
                lat = lon = None
            points.append(
                (
                    (t_s + EPOCH_S) * 1_000_000,
                    None if lat is None else lat * SEMICIRCLE,
                    None if lon is None else lon * SEMICIRCLE,
                    first_of(values, "enhanced_altitude", "altitude"),
                    first_of(values, "enhanced_speed", "speed"),
                    first_of(values, "distance"),
                    first_of(values, "heart_rate"),
                    first_of(values, "power"),
                )
            )
    except fitparse.FitParseError:
        whole = False
    return points, whole


class NoProcessing(fitparse.FitFileDataProcessor):
    """Times stay seconds."""

    def process_type_date_time(self, field_data):
        del field_data


def row(point):
    return (point.t_us, point.lat, point.lon, point.altitude_m, point.speed_mps, point.distance_m, point.hr_bpm, point.power_w)


def read_or_refusal(path):
    try:
        return read_recording(path)
    except FileError as refusal:
        return refusal


def same(a, b):
    return a == b or (a is not None and b is not None and abs(a - b) <= 1e-9 * max(abs(a), 1))


def check_fit(paths):
    for path in paths:
        oracle, whole = fit_oracle(path)
        got = read_or_refusal(path)
        if isinstance(got, FileError):
            assert not oracle, path
            assert got.detail.startswith(REFUSALS), got
            continue
        wanted = ordered(oracle)
        ours = [row(point) for point in got.points]
        if whole:
            assert len(ours) >= len(wanted), path.name  # cadence, accuracy may tell points apart that the oracle's fields do not
            ours = ordered(ours)
            assert got.damage is None, path.name
        else:  # fitparse stops: up to there we agree, and we may know more
            far_off = got.skipped.get("time_far_off_in_damaged_file", 0)
            wanted = wanted[: len(wanted) - far_off]
            ours = ordered(ours)[: len(wanted)]
        assert len(ours) == len(wanted), path.name
        for a, b in zip(wanted, ours, strict=True):
            assert all(same(x, y) for x, y in zip(a, b, strict=True)), (path.name, a, b)


def test_small_fit_files_have_the_points_fitparse_finds():
    check_fit(recordings("fit", high=QUICK_BYTES))


@pytest.mark.nightly
@pytest.mark.timeout(1800)
def test_large_fit_files_have_the_points_fitparse_finds():
    check_fit(recordings("fit", low=QUICK_BYTES))


def microseconds(time):
    return round(datetime.fromisoformat(time.strip()).timestamp() * 1_000_000)


def text(element, name):
    found = element.find(f".//{{*}}{name}")
    return None if found is None or found.text is None else float(found.text)


def gpx_oracle(path):
    for point in ET.parse(path).getroot().findall(".//{*}trkpt"):
        time = point.find("{*}time")
        if time is not None:
            yield (
                microseconds(time.text),
                float(point.get("lat")),
                float(point.get("lon")),
                text(point, "ele"),
                text(point, "hr"),
                text(point, "cad"),
            )


def tcx_oracle(path):
    for point in ET.parse(path).getroot().findall(".//{*}Trackpoint"):
        lat, lon = text(point, "LatitudeDegrees"), text(point, "LongitudeDegrees")
        rates = [float(rate.text) for rate in point.findall("{*}HeartRateBpm/{*}Value")]
        time = microseconds(point.find("{*}Time").text)
        yield (
            time,
            lat,
            lon,
            text(point, "AltitudeMeters"),
            rates[0] if rates else None,
            text(point, "Speed"),
            text(point, "DistanceMeters"),
        )


def check_xml(path, oracle, row_of):
    wanted = list(oracle(path))
    got = read_or_refusal(path)
    if isinstance(got, FileError):
        assert not wanted, path.name
        assert got.detail.startswith(REFUSALS), got
        return
    assert got.damage is None
    assert ordered(wanted) == ordered(row_of(point) for point in got.points), path.name


def test_gpx_files_have_the_points_a_plain_parser_finds():
    for path in recordings("gpx"):
        check_xml(path, gpx_oracle, lambda p: (p.t_us, p.lat, p.lon, p.altitude_m, p.hr_bpm, p.cadence_rpm))


def test_tcx_files_have_the_points_a_plain_parser_finds():
    for path in recordings("tcx"):
        check_xml(path, tcx_oracle, lambda p: (p.t_us, p.lat, p.lon, p.altitude_m, p.hr_bpm, p.speed_mps, p.distance_m))
