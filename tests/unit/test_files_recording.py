"""Points in columns behave as a sequence of points."""

import subprocess
import sys
from array import array

import pytest

from device_profiles.files import Point, Points

A = Point(1_000_000, lat=46.5, lon=7.25, hr_bpm=120.0)
B = Point(2_000_000, power_w=0.0)
C = Point(3_000_000)


def test_points_come_back_as_they_went_in_and_absent_is_none():
    points = Points.of([A, B, C])
    assert list(points) == [A, B, C]
    assert [points[0], points[1], points[-1]] == [A, B, C]
    assert len(points) == 3
    assert points[1].lat is None
    assert points[1].power_w == 0.0


def test_slices_are_points_and_equality_is_by_value():
    points = Points.of([A, B, C])
    assert isinstance(points[1:], Points)
    assert list(points[1:]) == [B, C]
    assert points == Points.of(iter([A, B, C]))
    assert points != Points.of([A, B])
    assert points != Points.of([A, C, B])
    assert B in points


def test_only_fields_that_are_measured_take_room():
    assert Points.of([A, B, C]).fields == ("lat", "lon", "hr_bpm", "power_w")
    assert Points.of([C]).fields == ()


def test_columns_of_unequal_length_are_refused():
    with pytest.raises(ValueError, match="equally long"):
        Points(array("q", [1, 2]), {"lat": array("d", [1.0])})


def test_an_index_beyond_the_end_is_an_index_error():
    with pytest.raises(IndexError):
        Points.of([A])[1]


def test_reading_files_imports_no_numpy_and_fitparse_only_for_fit():
    code = (
        "import sys, device_profiles.files as f\n"
        "try: f.decode_recording(b'<gpx/>', 'x')\n"
        "except Exception as e: assert type(e).__name__ == 'FileError', e\n"
        "assert 'fitparse' not in sys.modules\n"
        "try: f.decode_recording(b'\\x0e\\x20\\0\\0\\0\\0\\0\\0.FIT\\0\\0\\0\\0', 'x')\n"
        "except Exception as e: assert type(e).__name__ == 'FileError', e\n"
        "assert 'fitparse' in sys.modules and 'numpy' not in sys.modules\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 0, done.stderr
