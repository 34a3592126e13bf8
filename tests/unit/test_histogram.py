"""Histograms of latencies: never too short, hardly too long, and the same however they are put together."""

from __future__ import annotations

import json
from math import ceil

import pytest
from hypothesis import given
from hypothesis import strategies as st

from broker.errors import BadInputError
from simulators.histogram import Histogram, bucket_of, last_of, merged

LATENCIES = st.integers(0, 20 * 3600 * 1_000_000)


def of(values: list[int]) -> Histogram:
    made = Histogram()
    for value in values:
        made.record(value)
    return made


@given(LATENCIES)
def test_a_bucket_tells_at_most_a_hundredth_and_twenty_eighth_too_long(us: int) -> None:
    told = last_of(bucket_of(us))
    assert us <= told <= us + us / 128
    assert bucket_of(told) == bucket_of(us)
    assert bucket_of(told + 1) == bucket_of(us) + 1


@given(st.lists(LATENCIES, min_size=1), st.floats(0, 100))
def test_a_percentile_is_that_of_the_sorted_list_but_for_the_width_of_its_bucket(values: list[int], percent: float) -> None:
    exact = sorted(values)[max(ceil(len(values) * percent / 100), 1) - 1]
    assert exact <= of(values).percentile_us(percent) <= exact + exact / 128
    assert of(values).percentile_us(100) == max(values)


@given(st.lists(st.lists(LATENCIES)), LATENCIES)
def test_parts_put_together_are_the_whole(parts: list[list[int]], bar_us: int) -> None:
    whole = of([value for part in parts for value in part])
    together = merged(Histogram.from_json(json.loads(json.dumps(of(part).to_json()))) for part in reversed(parts))
    assert together.to_json() == whole.to_json()
    assert together.count == whole.count
    own = bucket_of(bar_us)
    assert whole.over(bar_us) == sum(bucket_of(value) > own for part in parts for value in part)


def test_counts_weigh_and_a_clock_set_back_counts_as_nothing() -> None:
    made = Histogram()
    made.record(1000, 99)
    made.record(900_000)
    made.record(-5)
    assert (made.count, made.max_us, made.sum_us) == (101, 900_000, 999_000)
    assert made.percentile_us(0) == 0
    assert 1000 <= made.percentile_us(99) <= 1008
    assert Histogram().percentile_us(99) == 0


def test_what_is_no_histogram_is_refused() -> None:
    with pytest.raises(BadInputError):
        Histogram.from_json({"counts": {}})
