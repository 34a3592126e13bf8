"""Gaps at equal progress: straight lines between the 64 points of a reference curve."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from processors.results import CURVE_POINTS
from processors.segment_board import gap_at


@given(st.lists(st.integers(0, 5_000), min_size=CURVE_POINTS, max_size=CURVE_POINTS), st.integers(0, 300_000), st.floats(0, 1))
def test_a_gap_lies_between_the_curve_points_around_it(steps: list[int], elapsed_ms: int, share: float) -> None:
    points, total = [0], 0
    for step in steps:
        total += step
        points.append(total)
    gap = gap_at(points[1:], elapsed_ms, share)
    below = min(int(share * CURVE_POINTS), CURVE_POINTS - 1)
    assert elapsed_ms - points[below + 1] <= gap <= elapsed_ms - points[below]
    assert gap_at(points[1:], elapsed_ms, below / CURVE_POINTS) == elapsed_ms - points[below]
    assert gap_at(points[1:], elapsed_ms, 1.0) == elapsed_ms - total


def test_gaps_halfway_between_points_beyond_the_ends_and_of_bad_input() -> None:
    even = [1_000 * i for i in range(1, CURVE_POINTS + 1)]
    assert gap_at(even, 10_000, 0.5 / CURVE_POINTS) == 9_500
    assert gap_at(even, 31_000, 0.5) == -1_000
    assert (gap_at(even, 0, -0.1), gap_at(even, 65_000, 1.2)) == (0, 1_000)
    with pytest.raises(ValueError, match="64 points"):
        gap_at(even[1:], 0, 0.5)
    with pytest.raises(ValueError, match="number"):
        gap_at(even, 0, float("nan"))
