"""Trace and summary: the final values are the kernel's own, and each rule on top is exact."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pytest

from broker.reference import AthleteRef
from processors import live_kernel as k
from processors.altitude import BAROMETER
from processors.repair import DEFAULT_ZONES_BPM, zones_ms
from processors.run_kernel import run_tracks
from processors.summary import Means, bounds_of, climb_cm, distance_laps, guess_sport, laps_at
from processors.trace import Trace, trace_of
from processors.tracks import Track, tracks_of
from tests.gps_truth import START_US, frames_of_rows, measured, rows_of, track_of_rows, truth_of

Row = tuple[float, dict[str, float | None]]


def traced(tracks: dict[int, Track]) -> Trace:
    row = run_tracks(tracks, 190)[-1]
    return trace_of(tracks, int(row[k.START]), int(row[k.LAST_T]), 190)


def steady(seconds: int, speed_mps: float, **more: float) -> list[Row]:
    return [(float(i), {"speed_mps": speed_mps, "distance_m": i * speed_mps, **more}) for i in range(seconds + 1)]


def test_athletes_of_no_record_have_the_zones_of_the_default() -> None:
    assert AthleteRef(tenant="gym", id="a", name="A").zones_bpm == DEFAULT_ZONES_BPM


@pytest.mark.parametrize("speed", [True, False])
def test_the_trace_ends_where_the_kernel_does(speed: bool) -> None:
    """Two receivers and a strap at once, gaps and spikes among them."""
    seen = measured(truth_of("run", 600, 3), "urban", 3)
    other = measured(truth_of("run", 600, 3), "urban", 4)
    late: list[Row] = [(t + 0.5, values) for t, values in rows_of(other, speed=speed)]
    strap: list[Row] = [(i * 0.8, {"hr_bpm": 120 + i % 40, "rr_ms": 500}) for i in range(700)]
    frames = frames_of_rows(rows_of(seen, speed=speed)) + frames_of_rows(late, origin="gym/phone")
    tracks = tracks_of(frames + frames_of_rows(strap, origin="gym/strap", layout="beats.1"))
    (row,) = run_tracks(tracks, 190)
    trace = traced(tracks)
    assert trace.distance_um[-1] == row[k.DIST_UM] > 0
    assert trace.moving_us[-1] == row[k.MOVING_US]
    assert (trace.moves | trace.beats).sum() == row[k.SAMPLES]
    assert trace.live_hr_bpm[trace.beats].sum() == row[k.HR_SUM]
    assert trace.beats.sum() == row[k.HR_N]
    assert (np.diff(trace.t_us[trace.moves]) > 0).all()
    assert set(trace.counted_origins) <= {"gym/watch", "gym/phone", "gym/strap"}


def test_power_of_one_meter_counts_at_a_time() -> None:
    left: list[Row] = [(float(i), {"power_w": 200}) for i in range(100)]
    right: list[Row] = [(i + 0.5, {"power_w": 100}) for i in range(200)]
    bike = steady(220, 8.0)
    tracks = tracks_of(frames_of_rows(bike) + frames_of_rows(left, origin="gym/left") + frames_of_rows(right, origin="gym/right"))
    trace = traced(tracks)
    power = trace.power_w[trace.powers].tolist()
    assert power == [200] * 100 + [100] * 91  # the other one after ten seconds of silence


def test_means_are_rounded_to_the_nearest_and_none_without_samples() -> None:
    means = Means(np.array([10, 20, 30]), np.array([1, 2, 2]))
    assert means.between(10, 20) == 2  # 1.5
    assert means.between(0, 100) == 2
    assert means.between(11, 19) is None


def test_time_in_zones_is_the_time_until_the_next_heart_rate_but_ten_seconds() -> None:
    rows: list[Row] = [(0, {"hr_bpm": 100}), (2, {"hr_bpm": 114}), (5, {"hr_bpm": 160}), (60, {"hr_bpm": 171}), (61, {"hr_bpm": 90})]
    trace = traced(track_of_rows(rows))
    assert zones_ms(trace.t_us[trace.beats], trace.hr_bpm[trace.beats], DEFAULT_ZONES_BPM) == (2000, 3000, 0, 10_000, 1000)


@pytest.mark.parametrize(
    ("rows", "sport"),
    [
        (steady(900, 3.2), "run"),
        (steady(900, 8.0), "ride"),
        (steady(900, 1.2), "other"),
        (steady(900, 30.0), "other"),
        ([(float(i), {"hr_bpm": 120}) for i in range(100)], "other"),
        ([(float(i), {"hr_bpm": 120, "power_w": 200}) for i in range(100)], "ride"),
        ([(0.0, {"speed_mps": 3.0})], "other"),
    ],
)
def test_sport_is_told_by_speed(rows: Sequence[Row], sport: str) -> None:
    assert guess_sport(traced(track_of_rows(list(rows)))) == sport


@pytest.mark.parametrize(("kind", "sport"), [(1, "run"), (6, "ride"), (5, "other")])
def test_sport_is_told_by_the_machine(kind: int, sport: str) -> None:
    rows: list[Row] = [(float(i), {"kind": kind, "speed_mps": 3.0}) for i in range(100)]
    assert guess_sport(traced(track_of_rows(rows, layout="machine.1"))) == sport


def test_laps_of_a_run_are_kilometres_and_the_rest() -> None:
    trace = traced(track_of_rows(steady(800, 3.125, hr_bpm=150.0)))
    laps = distance_laps(trace, "run", START_US, START_US + 800_000_000)
    assert [(lap.start_us - START_US, lap.elapsed_ms, lap.distance_cm, lap.hr_avg_bpm) for lap in laps] == [
        (0, 320_000, 100_000, 150), (320_000_000, 320_000, 100_000, 150), (640_000_000, 160_000, 50_000, 150),
    ]  # fmt: skip
    assert len(distance_laps(trace, "ride", START_US, START_US + 800_000_000)) == 1


def test_a_lap_mark_between_samples_divides_the_distance_in_proportion() -> None:
    trace = traced(track_of_rows([(0, {"speed_mps": 5.0}), (4, {"speed_mps": 5.0}), (8, {"speed_mps": 5.0})]))
    laps = laps_at(trace, [START_US, START_US + 5_000_000], START_US + 8_000_000)
    assert [(lap.elapsed_ms, lap.distance_cm) for lap in laps] == [(5000, 2500), (3000, 1500)]


def test_distances_and_times_of_laps_add_up_to_the_whole() -> None:
    trace = traced(track_of_rows(rows_of(measured(truth_of("ride", 1500, 9), "suburb", 9))))
    start_us, end_us = int(trace.t_us[0]), int(trace.t_us[-1])
    laps = distance_laps(trace, "run", start_us, end_us)
    assert len(laps) > 5
    assert sum(lap.distance_cm for lap in laps) == int(trace.distance_um[-1]) // 10_000
    assert sum(lap.elapsed_ms for lap in laps) == (end_us - start_us) // 1000


def test_bounds_across_the_date_line_have_west_east_of_east() -> None:
    lat, lon = np.array([10, 30, 20]), np.array([1_799_999_990, -1_799_999_980, 1_799_999_999])
    assert bounds_of(lat, lon) == (10, 1_799_999_990, 30, -1_799_999_980)
    assert bounds_of(lat, np.array([5, 9, 7])) == (10, 5, 30, 9)
    assert bounds_of(lat[:0], lon[:0]) is None


def test_climb_is_that_of_the_altitudes_of_what_moves() -> None:
    rows: list[Row] = [
        (float(i), {"speed_mps": 3.0, "altitude_m": 100 + 0.2 * min(i, 500), "altitude_source": float(BAROMETER)}) for i in range(900)
    ]
    assert climb_cm(traced(track_of_rows(rows))) == pytest.approx(10_000, abs=60)
