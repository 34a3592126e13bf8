"""Geometry against the great circle, and lines with fewer points."""

import math
import random
from itertools import pairwise

from hypothesis import given
from hypothesis import strategies as st

from processors.geometry import bearing_deg, cumulative_m, distance_m, length_m, plane_at, simplified, units
from simulators.course import distance_between_m, moved

NEAR = st.tuples(st.floats(-80, 80), st.floats(-180, 180), st.floats(-5_000, 5_000), st.floats(-5_000, 5_000))


@given(NEAR)
def test_distance_is_that_of_the_great_circle(at: tuple[float, float, float, float]):
    lat, lon, east, north = at
    other = moved(lat, lon, east, north)
    true_m = distance_between_m(lat, lon, *other)
    assert abs(distance_m(units(lat, lon), units(*other)) - true_m) <= 0.03 + 1e-4 * true_m  # the last terms: 1e-7 degrees, flat earth


@given(NEAR)
def test_plane_metres_come_back_as_the_position(at: tuple[float, float, float, float]):
    lat, lon, east, north = at
    here = units(lat, lon)
    plane = plane_at(*here)
    position = plane.position(east, north)
    back = plane.metres(*position)
    assert abs(back[0] - east) <= 0.006
    assert abs(back[1] - north) <= 0.006


def test_the_date_line_is_no_gap():
    a, b = units(10.0, 179.9999), units(10.0, -179.9999)
    assert abs(distance_m(a, b) - distance_m(units(10.0, 0.0), units(10.0, 0.0002))) < 1e-6
    assert plane_at(*a).metres(*b)[0] > 0
    assert plane_at(*b).metres(*a)[0] < 0
    assert abs(bearing_deg(a, b) - 90.0) < 1e-6


def test_bearings_go_clockwise_from_north():
    here = units(45.0, 7.0)
    got = [bearing_deg(here, units(*moved(45.0, 7.0, *to))) for to in ((0, 50), (50, 50), (50, 0), (0, -50), (-50, 0))]
    assert [round(value, 1) for value in got] == [0.0, 45.0, 90.0, 180.0, 270.0]


def test_lengths_take_the_cosine_leg_by_leg():
    line = [units(45.0 + k * 0.1, 7.0 + k * 0.1) for k in range(20)]
    legs = [distance_between_m(*(v * 1e-7 for v in (*a, *b))) for a, b in pairwise(line)]
    assert abs(length_m(line) - sum(legs)) < 1e-5 * sum(legs)
    assert cumulative_m([]) == []
    assert cumulative_m(line[:1]) == [0.0]


def test_a_simplified_line_stays_within_the_tolerance_of_every_point():
    rng = random.Random(1)
    east = north = 0.0
    line: list[tuple[int, int]] = []
    for _ in range(3_000):
        east, north = east + rng.uniform(0, 6), north + rng.gauss(0, 1.5)
        line.append(units(*moved(47.0, 8.0, east, north)))
    for tolerance_m in (1.0, 3.0, 10.0):
        thin = simplified(line, tolerance_m)
        assert thin[0] == line[0]
        assert thin[-1] == line[-1]
        plane = plane_at(*line[0])
        corners = [plane.metres(*point) for point in thin]
        for point in line[::7]:
            assert min(_off_m(plane.metres(*point), a, b) for a, b in pairwise(corners)) <= tolerance_m + 0.2
    assert len(simplified(line, 10.0)) < len(simplified(line, 1.0)) < len(line)
    assert simplified(line[:2], 1.0) == line[:2]


def test_a_straight_line_keeps_its_ends_and_every_512th_point():
    line = [units(47.0, 8.0 + k * 1e-5) for k in range(1_200)]
    assert simplified(line, 1.0) == [line[0], line[512], line[1_024], line[-1]]


def _off_m(p: tuple[float, float], a: tuple[float, float], b: tuple[float, float]) -> float:
    size = math.dist(a, b) ** 2
    share = min(max(((p[0] - a[0]) * (b[0] - a[0]) + (p[1] - a[1]) * (b[1] - a[1])) / size, 0.0), 1.0) if size else 0.0
    return math.dist(p, (a[0] + share * (b[0] - a[0]), a[1] + share * (b[1] - a[1])))
