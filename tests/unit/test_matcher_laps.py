"""Laps of a 400 m track with 150 segments over each other, and what athletes do between a start and a finish."""

from __future__ import annotations

import math
import random
from collections import Counter
from functools import cache
from itertools import pairwise

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from processors.attempts import Attempts
from processors.geometry import units
from processors.kernels.match_columns import INLINE
from processors.matcher import Fixes, advance, match_track
from processors.results import Timed
from processors.segment_rules import segment_ref
from processors.segments import SegmentIndex
from simulators.course import moved
from tests.matching_scene import T0_US

STRAIGHT_M, RADIUS_M = 84.39, 36.5  # World Athletics Track and Field Facilities Manual, 400 m standard track
HALF_M = STRAIGHT_M + math.pi * RADIUS_M
LAP_M = 2 * HALF_M  # of the kerb
SPEED_MPS = 4.0
LAPS = 8

Place = tuple[float, float]


def on_track(m: float) -> Place:
    """Metres east and north, `m` along the kerb, anticlockwise."""
    side, rest = divmod(m % LAP_M, HALF_M)
    turned = -1.0 if side else 1.0
    if rest <= STRAIGHT_M:
        x, y = rest - STRAIGHT_M / 2, -RADIUS_M
    else:
        angle = (rest - STRAIGHT_M) / RADIUS_M
        x, y = STRAIGHT_M / 2 + RADIUS_M * math.sin(angle), -RADIUS_M * math.cos(angle)
    return turned * x, turned * y


def degrees(place: Place) -> tuple[float, float]:
    return moved(50.0, 8.0, *place)


@cache
def track_index() -> tuple[SegmentIndex, dict[str, tuple[float, float]]]:
    """150 segments of 300 to 380 m, anywhere on the lap; where each begins and how long it is."""
    rng = random.Random(5)
    cuts = {f"s{k:03}": (rng.uniform(0, LAP_M), rng.uniform(300.0, 380.0)) for k in range(150)}
    refs = [
        segment_ref("gym", name, name, "run", [degrees(on_track(start + k * length / 80)) for k in range(81)])
        for name, (start, length) in cuts.items()
    ]
    return SegmentIndex.build(refs), cuts


@cache
def laps(noise_m: float, every_s: float = 1.0, seed: int = 1) -> Fixes:
    rng = random.Random(seed)
    rows: list[tuple[int, int, int]] = []
    for k in range(int(LAPS * LAP_M / SPEED_MPS / every_s)):
        x, y = on_track(k * every_s * SPEED_MPS)
        lat, lon = units(*degrees((x + rng.gauss(0, noise_m), y + rng.gauss(0, noise_m))))
        rows.append((T0_US + round(k * every_s * 1e6), lat, lon))
    return Fixes.of([t for t, _, _ in rows], [lat for _, lat, _ in rows], [lon for _, _, lon in rows], [400] * len(rows))


def whole_laps(start_m: float, length_m: float, run_m: float, margin_m: float) -> int:
    """How often a stretch lies wholly inside a run of so many metres, that far from its ends."""
    return sum(1 for k in range(-1, LAPS + 1) if start_m + k * LAP_M >= margin_m and start_m + length_m + k * LAP_M <= run_m - margin_m)


@pytest.mark.parametrize(("noise_m", "every_s", "within_s"), [(0.0, 1.0, 0.1), (1.5, 1.0, 1.5), (0.0, 5.0, 0.6)])
def test_each_of_150_segments_is_timed_on_each_lap(noise_m: float, every_s: float, within_s: float) -> None:
    index, cuts = track_index()
    found = match_track(index, laps(noise_m, every_s))
    counts = Counter(timed.segment for timed in found)
    run_m = (len(laps(noise_m, every_s)) - 1) * every_s * SPEED_MPS
    for name, (start_m, length_m) in cuts.items():
        inside = [whole_laps(start_m, length_m, run_m, margin_m) for margin_m in (10.0, -10.0)]  # who begins on a gate may pass it
        assert inside[0] <= counts[name] <= inside[1]
    errors_s = sorted(abs(timed.elapsed_ms * 1e-3 - cuts[timed.segment][1] / SPEED_MPS) for timed in found)
    assert errors_s[len(errors_s) * 95 // 100] <= within_s


def test_dense_overlap_spills_and_is_counted_not_dropped() -> None:
    index, _ = track_index()
    attempts = Attempts()
    most = 0
    for k in range(0, 200, 10):
        advance(attempts, index, laps(0.0).part(k, k + 10))
        most = max(most, attempts.under)
    assert most > 4 * INLINE
    assert attempts.spilled > 0
    assert Attempts.decode(attempts.encode()) == attempts


@settings(max_examples=10, deadline=None)
@given(st.lists(st.integers(0, 800), max_size=6))
def test_any_cut_of_dense_laps_gives_the_same_bytes(cuts: list[int]) -> None:
    index, fixes = track_index()[0], laps(1.5)
    whole, parted = Attempts(), Attempts()
    expected = advance(whole, index, fixes)
    got: list[Timed] = []
    for lo, hi in pairwise([0, *sorted(cuts), len(fixes)]):
        got += advance(parted, index, fixes.part(lo, hi))
        parted = Attempts.decode(parted.encode())
    assert got == expected
    assert parted.encode() == whole.encode()


@given(st.permutations(range(20)))
@settings(max_examples=10, deadline=None)
def test_segments_in_any_order_and_by_any_way_of_changes_find_the_same(order: list[int]) -> None:
    refs = [
        segment_ref("gym", f"s{k:02}", f"s{k:02}", "run", [degrees(on_track(k * 17.0 + j * 8.0)) for j in range(40)]) for k in range(20)
    ]
    index = SegmentIndex.build([refs[k] for k in order[:10]]).changed([refs[k] for k in order[10:15]])
    for k in order[15:]:
        index = index.changed([refs[k]])
    built = SegmentIndex.build(refs)
    assert index == built
    assert match_track(index, laps(1.5)) == match_track(built, laps(1.5))


def straight(*legs: tuple[float, float]) -> Fixes:
    """North along a road from 100 m before its start: legs of (seconds, m/s)."""
    y, t, rows = -100.0, 0, [(T0_US, *units(*degrees((0.0, -100.0))))]
    for seconds, mps in legs:
        for _ in range(int(seconds)):
            t, y = t + 1, y + mps
            rows.append((T0_US + t * 1_000_000, *units(*degrees((0.0, y)))))
    return Fixes.of([r[0] for r in rows], [r[1] for r in rows], [r[2] for r in rows], [300] * len(rows))


def road(length_m: float) -> SegmentIndex:
    points = [degrees((0.0, length_m * k / 100)) for k in range(101)]
    return SegmentIndex.build([segment_ref("gym", "road", "road", "any", points)])


def test_a_pause_inside_counts_as_elapsed() -> None:
    (effort,) = match_track(road(1_000.0), straight((100, 4.0), (300, 0.0), (250, 4.0)))
    assert abs(effort.elapsed_ms - 550_000) < 50


def test_who_begins_inside_has_no_effort() -> None:
    assert match_track(road(1_000.0), straight((60, 4.0), (240, 4.0)).part(50, 301)) == []


def test_a_start_while_an_attempt_is_under_way_begins_another_that_counts() -> None:
    """300 m along, back behind the start, and then the whole: the last start is timed."""
    (effort,) = match_track(road(1_000.0), straight((100, 4.0), (120, -4.0), (320, 4.0)))
    assert abs(effort.elapsed_ms - 250_000) < 50
    assert abs(effort.start_us - T0_US - 265_000_000) < 500_000


@pytest.mark.parametrize("pause_s", [1, 8, 60])
def test_standing_at_the_gates_starts_once_and_ends_once(pause_s: int) -> None:
    found = match_track(road(400.0), straight((25, 4.0), (pause_s, 0.0), (100, 4.0), (pause_s, 0.0), (40, 4.0)))
    assert len(found) == 1
    assert 100_000 - 50 <= found[0].elapsed_ms <= (100 + 2 * pause_s) * 1_000 + 50
