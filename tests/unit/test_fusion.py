"""Fusion: the better source of a channel counts, nothing twice at a switch, and the outcome is a function of the set of samples."""

from __future__ import annotations

import random
from collections.abc import Sequence

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from broker.frames import Frame
from broker.layouts import layout_named
from processors import live_kernel as k
from processors import live_row
from processors.finishing import finish_activity
from processors.fusion import BETTER_US, HOLD_US, MOTION_BETTER_US
from processors.live import activity_of
from processors.results_db import decode_summary, encode_summary
from processors.run_kernel import run_tracks, run_tracks_whole
from processors.samples import TakenFrame, hash64, own_of
from processors.trace import Trace, counted_of, trace_of
from processors.tracks import tracks_of
from tests.any_way import T0_US, Course, outcome
from tests.gps_truth import frames_of_rows, measured, rows_of, truth_of

Row = tuple[float, dict[str, float | None]]
WATCH, PHONE, STRAP, METER, TREADMILL = "gym/watch", "gym/box/phone", "gym/box/strap", "gym/box/meter", "gym/box/treadmill"


def traced(*frames: Sequence[TakenFrame]) -> Trace:
    tracks = tracks_of([frame for part in frames for frame in part])
    (row,) = run_tracks(tracks, 190)
    return trace_of(tracks, int(row[k.START]), int(row[k.LAST_T]), 190)


def counted(trace: Trace, of: np.ndarray) -> list[tuple[str, float, float]]:
    """Whose samples count from when to when, in seconds since the start."""
    found: list[tuple[str, float, float]] = []
    for t, origin in zip(trace.t_us[of].tolist(), trace.origin[of].tolist(), strict=True):
        name, at = trace.origins[origin], (t - trace.t_us[0]) / 1e6
        if found and found[-1][0] == name:
            found[-1] = name, found[-1][1], at
        else:
            found.append((name, at, at))
    return found


def hearts(origin: str, first: int, last: int, bpm: int, layout: str = "motion.1", step: float = 1.0) -> list[TakenFrame]:
    rr = {"rr_ms": 500} if layout == "beats.1" else {}
    times = [first + i * step for i in range(int((last - first) / step))]
    return frames_of_rows([(t, {"hr_bpm": bpm, **rr}) for t in times], origin=origin, layout=layout)


def moving(origin: str, first: int, last: int, speed: float, accuracy: float | None = None, layout: str = "motion.1") -> list[TakenFrame]:
    rows: list[Row] = []
    for i in range(first, last):
        values: dict[str, float | None] = {"speed_mps": speed}
        if accuracy is not None:
            values |= {"lat": 46.0 + 2.7e-5 * i, "lon": 7.0, "accuracy_m": accuracy}
        if layout == "machine.1":
            values |= {"kind": 1}
        rows.append((i + 0.25 * (origin != WATCH), values))
    return frames_of_rows(rows, origin=origin, layout=layout)


def test_a_strap_takes_over_from_the_wrist_after_its_hold_and_no_beat_counts_twice() -> None:
    trace = traced(hearts(WATCH, 0, 120, 90), hearts(STRAP, 30, 120, 150, "beats.1", 0.5))
    assert counted(trace, trace.beats) == [(WATCH, 0.0, 34.0), (STRAP, 35.0, 119.5)]
    assert (np.diff(trace.t_us[trace.beats]) > 0).all()
    assert trace.live_hr_bpm[trace.beats][-1] == 150  # and its rate is believed at once: its filter is its own


def test_the_wrist_takes_over_only_when_the_strap_is_silent() -> None:
    trace = traced(hearts(STRAP, 0, 40, 150, "beats.1", 0.5), hearts(WATCH, 0, 120, 90))
    assert counted(trace, trace.beats) == [(STRAP, 0.0, 39.5), (WATCH, 50.0, 119.0)]


def test_a_strap_that_comes_and_goes_does_not_take_over() -> None:
    strap = [frame for at in range(30, 110, 16) for frame in hearts(STRAP, at, at + 4, 150, "beats.1", 0.5)]
    trace = traced(hearts(WATCH, 0, 120, 90), strap)
    assert counted(trace, trace.beats) == [(WATCH, 0.0, 119.0)]


def test_of_power_the_meter_counts_over_the_machine_and_that_over_an_estimate() -> None:
    def pedals(origin: str, first: int, watts: int, layout: str = "motion.1") -> list[TakenFrame]:
        return frames_of_rows([(float(i), {"power_w": watts, "cadence_rpm": 80}) for i in range(first, 100)], origin=origin, layout=layout)

    trace = traced(pedals(WATCH, 0, 180), pedals(TREADMILL, 20, 190, "machine.1"), pedals(METER, 50, 200))
    assert [name for name, _, _ in counted(trace, trace.powers)] == [WATCH, TREADMILL, METER]
    (row,) = run_tracks(tracks_of(pedals(WATCH, 0, 180) + pedals(METER, 50, 200)), 190)
    work_j = 55 * 180 + 44 * 200  # each second once
    assert live_row.work_kj(row) == pytest.approx(work_j / 1000.0, abs=0.02)
    assert live_row.cadence_rpm(row) == 80


def test_the_more_accurate_receiver_takes_over_and_each_second_of_way_counts_once() -> None:
    tracks = tracks_of(moving(PHONE, 0, 200, 3.0, 25.0) + moving(WATCH, 60, 200, 3.0, 4.0))
    (row,) = run_tracks(tracks, 190)
    trace = trace_of(tracks, int(row[k.START]), int(row[k.LAST_T]), 190)
    assert counted(trace, trace.moves) == [(PHONE, 0.0, 74.0), (WATCH, 74.75, 198.75)]
    assert row[k.DIST_UM] == pytest.approx(198.75 * 3.0 * 1e6, abs=2)


def test_a_receiver_as_good_as_the_one_that_counts_does_not_take_over() -> None:
    trace = traced(moving(PHONE, 0, 100, 3.0, 4.0), moving("gym/box/other", 0, 100, 3.0, 4.5))
    assert len(counted(trace, trace.moves)) == 1


def test_a_watch_of_equal_accuracy_counts_over_a_phone() -> None:
    trace = traced(moving(PHONE, 0, 100, 3.0, 4.0), moving(WATCH, 10, 100, 3.0, 4.0))
    assert [name for name, _, _ in counted(trace, trace.moves)] == [PHONE, WATCH]


def test_a_receiver_that_loses_its_accuracy_loses_the_channel_and_one_bad_fix_does_not() -> None:
    rows: list[Row] = [
        (float(i), {"lat": 46.0 + 2.7e-5 * i, "lon": 7.0, "speed_mps": 3.0, "accuracy_m": 60.0 if i > 100 or i == 30 else 4.0})
        for i in range(300)
    ]
    trace = traced(frames_of_rows(rows, origin=WATCH), moving(PHONE, 0, 300, 3.0, 9.0))
    found = counted(trace, trace.moves)
    assert [name for name, _, _ in found] == [WATCH, PHONE]
    assert 100 < found[0][2] < 160


def test_a_moving_treadmill_counts_over_receivers_indoors_and_gives_back_when_it_stands() -> None:
    tread = moving(TREADMILL, 30, 150, 2.5, layout="machine.1") + moving(TREADMILL, 150, 260, 0.0, layout="machine.1")
    trace = traced(moving(WATCH, 0, 260, 1.0, 30.0), tread)
    assert [name for name, _, _ in counted(trace, trace.moves)] == [WATCH, TREADMILL, WATCH]


def test_the_filter_of_the_new_source_is_its_own_and_warm() -> None:
    """The receiver that takes over has another error: the position at the switch is where its own filter would have it."""
    seen = rows_of(measured(truth_of("run", 200, 4), "open", 4))
    worse = [(t, v | {"lat": (v["lat"] or 0) + 3e-4, "accuracy_m": 30.0}) for t, v in seen]
    alone = run_tracks_whole(tracks_of(frames_of_rows(seen[100:])), 190)
    both = run_tracks_whole(tracks_of(frames_of_rows(worse, origin=PHONE) + frames_of_rows([(t + 0.5, v) for t, v in seen[100:]])), 190)
    want = alone.ran.out[alone.ran.out[:, k.BY_MOTION] != 0]
    took = both.ran.out[(both.samples.own == 1)[_frame_of(both)] & (both.ran.out[:, k.BY_MOTION] != 0)]
    assert 0 < len(took) < len(want)
    assert np.abs(took[:, k.FIX_LAT] - want[-len(took) :, k.FIX_LAT]).max() <= 1


def _frame_of(tracked: object) -> np.ndarray:
    samples = tracked.samples  # pyright: ignore[reportAttributeAccessIssue]
    return np.repeat(np.arange(len(samples.ends)), samples.ends - samples.first)


def test_provenance_tells_whose_samples_of_each_channel_counted_from_when_to_when() -> None:
    trace = traced(hearts(WATCH, 0, 60, 90), hearts(STRAP, 20, 60, 150, "beats.1", 0.5), moving(PHONE, 0, 60, 3.0, 5.0))
    start_us = int(trace.t_us[0])
    said = [(c.channel, c.origin, (c.from_us - start_us) / 1e6, (c.to_us - start_us) / 1e6) for c in counted_of(trace)]
    assert said == [("heart_rate", WATCH, 0.0, 24.0), ("heart_rate", STRAP, 25.0, 59.5), ("motion", PHONE, 0.25, 59.25)]
    tracks = tracks_of(hearts(WATCH, 0, 60, 90) + hearts(STRAP, 20, 60, 150, "beats.1", 0.5))
    (row,) = run_tracks(tracks, 190)
    assert live_row.sources_of(row) == {"heart_rate": hash64(STRAP)}


def test_provenance_survives_the_store() -> None:
    tracks = tracks_of(hearts(WATCH, 0, 60, 90))
    (row,) = run_tracks(tracks, 190)
    activity = activity_of("gym/anna", row, 1, closed=True)
    summary = finish_activity("gym/anna", tracks, activity, None, None).summary
    assert [c.origin for c in summary.counted] == [WATCH]
    assert decode_summary(encode_summary(summary)) == summary


def test_who_numbers_itself_is_told_by_the_origin() -> None:
    assert (own_of("gym/watch"), own_of("gym/box/strap"), own_of("gym/upload/x")) == (1, 0, 1)


MOTION, BEATS, MACHINE = (layout_named(name) for name in ("motion.1", "beats.1", "machine.1"))


def world(seed: int) -> list[tuple[Frame, str]]:
    """Two minutes of up to four sources of one athlete whose accuracies, silences and kinds vary."""
    rng = random.Random(seed)
    frames: list[tuple[Frame, str]] = []
    sources = rng.sample(["watch", "phone", "pod", "strap", "tread"], rng.randint(2, 4))
    for number, device in enumerate(sources):
        own = int(device in {"watch", "phone"})
        accuracy, skew = rng.choice([3.0, 8.0, 15.0, 30.0]), rng.choice([0.0, 0.2, 0.5])
        for seq in range(30):
            if rng.random() < 0.12:
                accuracy = rng.choice([3.0, 8.0, 15.0, 30.0, 60.0])
            if rng.random() < 0.1:
                continue
            rows: list[bytes] = []
            for i in range(5):
                at = (seq * 5 + i) * 3.0
                common = {"tick_ms": i * 1000, "hr_bpm": 100 + number * 15}
                if device == "strap":
                    rows.append(BEATS.pack({**common, "rr_ms": 500}))
                elif device == "tread":
                    rows.append(MACHINE.pack({**common, "kind": 1, "speed_mps": rng.choice([0.0, 2.5, 2.5, 2.5]), "power_w": 150}))
                elif device == "pod":
                    rows.append(MOTION.pack({**common, "speed_mps": 3.0, "power_w": 210, "cadence_rpm": 85}))
                else:
                    place = {"lat": 46.0 + at * 9e-6 + rng.gauss(0, 2e-5), "lon": 7.0, "accuracy_m": accuracy}
                    rows.append(MOTION.pack({**common, **place, "speed_mps": 3.0, "power_w": 180}))
            of = {"strap": BEATS, "tread": MACHINE}.get(device, MOTION)
            t0_us = int((seq * 5 + skew) * 1e6)
            frames.append((Frame(of.id, own, device, 1, seq, t0_us, T0_US, 2, "gym/anna", b"".join(rows)), "box"))
    return frames


@given(seed=st.integers(0, 1_000_000))
@settings(max_examples=12, deadline=None)
def test_whatever_the_arrival_the_same_sources_count(tmp_path_factory: pytest.TempPathFactory, seed: int) -> None:
    base = tmp_path_factory.mktemp("fusion")
    frames = world(seed)
    rng = random.Random(seed)
    ends: list[tuple[dict[str, str], bytes]] = []
    for name in ("time", "near", "any"):
        spread_s = {"time": 0.0, "near": 12.0, "any": 1e6}[name]
        sent = sorted(frames, key=lambda f: f[0].t0_us + rng.uniform(0, spread_s) * 1e6)
        course = Course(base / name, rng.choice([1, 7, 2048]))
        while sent:
            n = rng.choice([1, 5, 30])
            course.take([course.frame(*f) for f in sent[:n]])
            sent = sent[n:]
            if rng.random() < 0.2:
                course.settle(rng.choice([1, 4]))
        course.settle(10)
        stored = course.runner._states.stored("gym/anna")
        assert stored is not None
        row = np.frombuffer(stored, np.int64).copy()
        row[k.LATE_FROM : k.INTS] = 0  # when what came is not part of the outcome
        course.close()
        ends.append((outcome(base / name / "state.db"), row.tobytes()))
    assert ends[0][0] == ends[1][0] == ends[2][0]
    assert ends[0][1] == ends[1][1] == ends[2][1]


def test_holds_are_as_stated() -> None:
    assert (HOLD_US, BETTER_US, MOTION_BETTER_US) == (10_000_000, 5_000_000, 15_000_000)
