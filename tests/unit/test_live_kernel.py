"""The live kernel: what each kind of sample does to the row of an athlete, the same compiled and plain."""

from __future__ import annotations

import sqlite3
from pathlib import Path

import numpy as np
import pytest

from processors import live_kernel as k
from processors import live_row
from processors.kernels import columns
from processors.run_kernel import Ran, Sides, run_frames, run_tracks, run_tracks_whole
from processors.samples import Samples
from processors.state_db import SCHEMA_VERSION, StateDb, older_states
from processors.tracks import Track, tracks_of
from tests.gps_truth import frames_of_rows, gauss_markov, measured, rows_of, truth_of, units_of

Row = tuple[float, dict[str, float | None]]


def ridden(rows: list[Row], **more: str) -> dict[int, Track]:
    return tracks_of(frames_of_rows(rows, **more))


def row_of(rows: list[Row], **more: str) -> k.I64:
    (row,) = run_tracks(ridden(rows, **more), 190)
    return row


def same(a: k.I64, b: k.I64) -> bool:
    """Equal to the last bit; what is unknown in one is unknown in the other."""
    f, g = live_row.floats_of(a), live_row.floats_of(b)
    equal = (a[..., : k.INTS] == b[..., : k.INTS]).all() and (live_row.ring_of(a) == live_row.ring_of(b)).all()
    return bool(equal and ((f == g) | (np.isnan(f) & np.isnan(g))).all())


def test_the_state_of_an_athlete_is_one_kibibyte() -> None:
    row = live_row.fresh_row()
    assert row.nbytes == 1024
    assert k.INTS * 8 + live_row.floats_of(row).nbytes + live_row.ring_of(row).nbytes <= 1024
    assert not np.shares_memory(row[: k.INTS], live_row.floats_of(row))
    assert not np.shares_memory(live_row.floats_of(row), live_row.ring_of(row))


def test_any_cut_into_frames_and_batches_leaves_the_same_row() -> None:
    seen = measured(truth_of("ride", 400, 3), "urban", 3)
    rows = [
        (t, values | {"hr_bpm": 120 + i // 9, "power_w": 200 + i % 40, "cadence_rpm": 85})
        for i, (t, values) in enumerate(rows_of(seen, "baro", speed=False))
    ]
    whole = run_tracks_whole(ridden(rows), 190)
    (want,), samples, ran = whole.rows, whole.samples, whole.ran
    row = live_row.fresh_row().reshape(1, -1)
    out: list[k.I64] = []
    sides: Sides = {}
    for i in range(len(samples.t_us)):
        one = Samples(
            np.array([0]),
            np.array([1]),
            samples.org[:1],
            samples.boot[:1],
            samples.own[:1],
            *(column[i : i + 1] for column in samples.measured),
        )
        made: Ran = run_frames(row, [0], one, sides)
        out.append(made.out)
    assert same(row[0], want)
    assert np.array_equal(np.concatenate(out), ran.out)


def test_without_a_speed_field_the_filters_speed_is_summed_not_the_positions() -> None:
    truth = truth_of("run", 900, 5)
    row = row_of(rows_of(measured(truth, "suburb", 5), speed=False))
    walked = float(truth.way[-1])
    assert row[k.DIST_UM] / 1e6 == pytest.approx(walked, rel=0.05)  # a polyline through these positions is a tenth too long


def test_a_receiver_at_rest_without_a_speed_field_adds_little() -> None:
    rng = np.random.default_rng(1)
    wander = [gauss_markov(rng, 600, 2.0, 60.0) + rng.normal(0, 0.3, 600) for _ in range(2)]
    lat, lon = units_of(*wander)
    rows: list[Row] = [(float(i), {"lat": lat[i] * 1e-7, "lon": lon[i] * 1e-7, "accuracy_m": 4.0}) for i in range(600)]
    row = row_of(rows)
    polyline_m = float(np.hypot(*(np.diff(axis) for axis in wander)).sum())
    assert row[k.DIST_UM] / 1e6 < 0.03 * polyline_m
    assert row[k.PAUSED] == 1


def test_a_stated_counter_counts_before_speed_and_a_long_silence_is_bridged_by_it() -> None:
    rows: list[Row] = [(float(t), {"speed_mps": 3.0, "distance_m": 3.2 * t}) for t in (*range(30), *range(120, 150))]
    assert row_of(rows)[k.DIST_UM] == pytest.approx(3.2 * 149 * 1e6, rel=1e-3)
    bare: list[Row] = [(t, {"speed_mps": 3.0}) for t, _ in rows]
    assert row_of(bare)[k.DIST_UM] == (29 + 45 + 29) * 3_000_000


def test_a_dropout_and_a_spike_of_the_heart_rate_earn_nothing_and_are_not_the_highest() -> None:
    rows: list[Row] = [(float(i), {"hr_bpm": 230 if 50 <= i < 55 else 140}) for i in range(120)]
    row = row_of(rows)
    assert row[k.HR_MAX] == 140
    assert row[k.POINTS] == 119 * 3_000_000  # zone of 70 %: three a minute


def test_power_is_summed_without_spikes() -> None:
    rows: list[Row] = [(float(i), {"power_w": 2_000 if i == 300 else 200, "speed_mps": 8.0}) for i in range(601)]
    row = row_of(rows)
    assert live_row.work_kj(row) == pytest.approx(120.0)
    assert live_row.normalised_w(row) == pytest.approx(200.0)
    assert live_row.power_w(row) == 200


def test_climb_load_and_variability_are_known_live() -> None:
    beats: list[Row] = [(i * 0.5, {"hr_bpm": 150, "rr_ms": 400 + i % 2 * 10}) for i in range(600)]
    hill: list[Row] = [(float(i), {"speed_mps": 3.0, "altitude_m": 500 + 0.5 * min(i, 200), "altitude_source": 1}) for i in range(300)]
    tracks = tracks_of(frames_of_rows(beats, origin="gym/strap", layout="beats.1") + frames_of_rows(hill))
    (row,) = run_tracks(tracks, 190)
    assert live_row.gain_m(row) == pytest.approx(100.0, abs=1.0)
    assert live_row.rmssd_ms(row) == pytest.approx(10.0)
    assert live_row.trimp(row) > 5.0
    assert live_row.zones_s(row)[2] == pytest.approx(299.5)


def test_what_was_never_measured_is_not_known() -> None:
    row = row_of([(0.0, {"hr_bpm": 120})])
    assert (live_row.gain_m(row), live_row.normalised_w(row), live_row.work_kj(row), live_row.rmssd_ms(row)) == (None,) * 4


def test_zones_of_the_person_are_those_of_the_load() -> None:
    tracks = ridden([(float(i), {"hr_bpm": 150}) for i in range(61)])
    (row,) = run_tracks(tracks, 160, live_row.person_of((100, 110, 120, 130)))
    assert live_row.zones_s(row) == [0, 0, 0, 0, 60]
    (woman,) = run_tracks(tracks, 160, live_row.person_of((100, 110, 120, 130), woman=True))
    assert live_row.trimp(woman) != live_row.trimp(row)


def test_an_activity_that_ended_leaves_nothing_in_the_next() -> None:
    first = rows_of(measured(truth_of("run", 300, 7), "open", 7), "baro", speed=False)
    later: list[Row] = [(t + 2_000, values) for t, values in first]
    _, second = run_tracks(ridden([*first, *later]), 190)
    assert same(second, row_of(later))


def test_a_ride_is_filtered_as_one() -> None:
    row = row_of(rows_of(measured(truth_of("ride", 300, 9), "open", 9)))
    assert live_row.ring_of(row)[live_row.GAIT] > live_row.GAIT_MS
    run = row_of(rows_of(measured(truth_of("run", 300, 9), "open", 9)))
    assert live_row.ring_of(run)[live_row.GAIT] < live_row.GAIT_MS


def test_a_position_known_to_100_metres_only_is_none() -> None:
    row = row_of([(float(i), {"lat": 46.0, "lon": 7.0, "accuracy_m": 110.0, "speed_mps": 1.0}) for i in range(9)])
    assert live_row.place_of(row) is None
    assert np.isnan(live_row.floats_of(row)[columns.T])


def test_state_of_an_older_version_is_set_aside_and_a_newer_one_refused(tmp_path: Path) -> None:
    path = tmp_path / "state.db"
    StateDb(path).close()
    with sqlite3.connect(path) as db:
        db.execute("INSERT INTO position VALUES ('live', 7)")
        db.execute(f"PRAGMA user_version={SCHEMA_VERSION - 1}")
    db.close()
    made = StateDb(path)
    assert made.position("live") == 0
    made.close()
    assert path.with_name(f"state.db.{SCHEMA_VERSION - 1}").exists()
    assert older_states(path) == [path.with_name(f"state.db.{SCHEMA_VERSION - 1}")]
