"""Measurements that are odd or wrong, through the log and all stages: each has the outcome docs/bad-input.md states."""

from __future__ import annotations

import math
import re
import sys
import tracemalloc
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import numpy as np
import pytest

from broker.errors import BadInputError
from broker.recorded import span_of
from broker.reference import SegmentRef
from device_profiles.errors import FileError
from device_profiles.files import Recording, decode_recording, read_recording
from processors import live_kernel as k
from processors.finishing import finish_activity
from processors.geometry import METRE_PER_UNIT, plane_at, units
from processors.results import Effort, Phase, Summary
from processors.run_kernel import run_tracks
from processors.segment_rules import segment_ref
from processors.segments import SegmentIndex
from processors.stage import Activity
from processors.tracks import tracks_of
from tests.gps_truth import START_US, frames_of_rows
from tests.unit.test_results import Platform

SHARED = Path(__file__).resolve().parents[3] / "shared" / "data"
PAGE = Path("docs/bad-input.md")
Row = tuple[float, dict[str, float | None]]
US = 1_000_000
SPEED_MPS = 4.0


@dataclass(frozen=True, slots=True)
class Came:
    """What became of a stream: efforts as they stood live, efforts at the end, and the finished activities."""

    live: list[Effort]
    final: list[Effort]
    activities: list[Summary]


class Through(Protocol):
    """Rows (seconds, SI values), the segments there are, and the order their frames come in."""

    def __call__(self, rows: Sequence[Row], segments: Sequence[SegmentRef] = (), order: Sequence[int] | None = None) -> Came: ...


@pytest.fixture
def through(tmp_path: Path) -> Iterator[Through]:
    """Runs rows (seconds, SI values) through the log, the live stage and, after ten minutes of silence, the finish stage."""
    made: list[Platform] = []

    def run(rows: Sequence[Row], segments: Sequence[SegmentRef] = (), order: Sequence[int] | None = None) -> Came:
        platform = Platform(tmp_path / str(len(made)))
        made.append(platform)
        platform.now_us = START_US
        platform.refer(*segments)
        taken = frames_of_rows(list(rows))
        for frame in taken:
            platform.now_us = max(platform.now_us, frame.end_us)
        platform.take([taken[i].frame for i in (range(len(taken)) if order is None else order)])
        live = [e for s in segments for e in platform.efforts(s.id)]
        platform.settle(700)
        return Came(live, [e for s in segments for e in platform.efforts(s.id)], platform.finals())

    yield run
    for platform in made:
        platform.close()


def north(t: float, from_deg: tuple[float, float] = (46.0, 7.0), mps: float = SPEED_MPS) -> tuple[float, float]:
    """Northwards, `t` seconds from a place."""
    return from_deg[0] + t * mps / METRE_PER_UNIT * 1e-7, from_deg[1]


def walk(seconds: Sequence[float], where: Callable[[float], tuple[float, float]] = north, **more: float | None) -> list[Row]:
    """Positions and speed at these seconds; `more` in every sample."""
    return [(t, {"lat": where(t)[0], "lon": where(t)[1], "speed_mps": SPEED_MPS, "accuracy_m": 3.0, **more}) for t in seconds]


def line(name: str, from_s: float, to_s: float, where: Callable[[float], tuple[float, float]] = north) -> SegmentRef:
    """The way between two seconds."""
    points = [where(from_s + (to_s - from_s) * i / 40) for i in range(41)]
    return segment_ref("gym", name, name, "any", points)


HILL = line("hill", 50.0, 200.0)
PLAIN = [float(t) for t in range(300)]


def test_a_plain_recording_is_what_the_odd_ones_are_held_against(through: Through) -> None:
    came = through(walk(PLAIN), [HILL])
    (live,), (final,), (activity,) = came.live, came.final, came.activities
    assert (live.phase, final.phase) == (Phase.SETTLED, Phase.FINAL)
    assert live.elapsed_ms == pytest.approx(150_000, abs=300)
    assert final.elapsed_ms == pytest.approx(150_000, abs=150)
    assert final.doubts == ()
    assert activity.distance_cm == pytest.approx(299 * 400, abs=400)


def gpx(points: Sequence[str]) -> bytes:
    return ("<gpx><trk><type>running</type><trkseg>" + "".join(points) + "</trkseg></trk></gpx>").encode()


def trkpt(t: float, lat: object, lon: object, more: str = "") -> str:
    minute, second = divmod(t, 60)
    return f'<trkpt lat="{lat}" lon="{lon}"><time>2023-11-14T22:{int(minute):02d}:{second:06.3f}Z</time>{more}</trkpt>'


def rows_of_file(recording: Recording) -> list[Row]:
    start_us, _ = span_of(recording)
    names = ("lat", "lon", "altitude_m", "accuracy_m", "speed_mps", "distance_m", "hr_bpm", "cadence_rpm", "power_w")
    return [((p.t_us - start_us) / US, {name: getattr(p, name) for name in names}) for p in recording.points]


@pytest.mark.parametrize("bad", ["NaN", "inf", "-Infinity", "1e999"])
def test_values_that_are_no_numbers_are_absent_and_counted_and_the_rest_of_the_point_counts(through: Through, bad: str) -> None:
    """not a number"""
    points = [
        trkpt(t, bad if t % 10 == 5 else north(t)[0], 7.0, f"<ele>{bad}</ele><extensions><hr>{bad if t % 2 else 140}</hr></extensions>")
        for t in PLAIN
    ]
    recording = decode_recording(gpx(points), "ride.gpx")
    assert recording.skipped == {"altitude_m_not_a_number": 300, "hr_bpm_not_a_number": 150, "lat_not_a_number": 30}
    came = through(rows_of_file(recording), [HILL])
    assert came.final[0].elapsed_ms == pytest.approx(150_000, abs=300)
    assert came.final[0].hr_avg_bpm == 140
    assert came.activities[0].gain_cm == 0


def test_a_file_whose_positions_are_all_no_numbers_has_no_way(through: Through) -> None:
    """not a number"""
    recording = decode_recording(gpx([trkpt(t, "NaN", "NaN", "<extensions><hr>140</hr></extensions>") for t in PLAIN]), "ride.gpx")
    came = through(rows_of_file(recording), [HILL])
    assert (came.final, came.activities[0].distance_cm, came.activities[0].bounds) == ([], 0, None)
    assert came.activities[0].hr_avg_bpm == 140


def test_samples_told_twice_for_one_instant_count_once(through: Through) -> None:
    """repeated time"""
    plain = through(walk(PLAIN), [HILL])
    twice = through([row for row in walk(PLAIN) for _ in range(2)], [HILL])
    assert twice.final[0].elapsed_ms == plain.final[0].elapsed_ms
    assert twice.activities[0].distance_cm == plain.activities[0].distance_cm
    assert twice.activities[0].moving_ms == plain.activities[0].moving_ms


def test_time_that_falls_is_put_in_order(through: Through) -> None:
    """backward time"""
    plain = through(walk(PLAIN), [HILL])
    shuffled = through(walk(PLAIN), [HILL], order=[0, 1, 2, 5, 4, 3, 7, 6, 8, 9])
    assert [e.elapsed_ms for e in shuffled.final] == [e.elapsed_ms for e in plain.final]
    assert shuffled.activities[0].distance_cm == plain.activities[0].distance_cm


def test_a_file_whose_time_falls_is_sorted_and_says_so() -> None:
    """backward time"""
    order = [*range(100), *range(140, 180), *range(100, 140), *range(180, 300)]
    recording = decode_recording(gpx([trkpt(t, *north(t)) for t in order]), "ride.gpx")
    assert recording.skipped == {"time_backward_sorted": 1}
    assert [p.t_us for p in recording.points] == sorted(p.t_us for p in recording.points)


def test_the_position_of_a_receiver_that_has_none_is_none(through: Through) -> None:
    """0, 0"""
    rows = walk(PLAIN)
    lost = [(t, {**v, "lat": 0.0, "lon": 0.0} if 90 <= t < 110 or t < 20 else v) for t, v in rows]
    came = through(lost, [HILL])
    assert came.final[0].elapsed_ms == pytest.approx(150_000, abs=300)
    assert came.activities[0].distance_cm == pytest.approx(299 * 400, abs=400)
    assert came.activities[0].bounds is not None
    assert came.activities[0].bounds[0] > 450_000_000


def around_pole(t: float, lat_deg: float) -> tuple[float, float]:
    """Along a circle of latitude."""
    around_m = 2 * math.pi * 6_371_008.8 * math.cos(math.radians(lat_deg))
    return lat_deg, (t * SPEED_MPS / around_m * 360.0 + 180.0) % 360.0 - 180.0


@pytest.mark.parametrize("lat_deg", [89.9, -89.9, 85.5])
def test_at_a_pole_there_is_a_way_but_no_segment(through: Through, lat_deg: float) -> None:
    """poles"""
    with pytest.raises(BadInputError, match="pole"):
        line("pole", 50.0, 200.0, lambda t: around_pole(t, lat_deg))
    came = through(walk(PLAIN, lambda t: around_pole(t, lat_deg)), [HILL])
    assert came.final == []
    assert came.activities[0].distance_cm == pytest.approx(299 * 400, abs=400)


@pytest.mark.parametrize("lat_deg", [84.9, -84.9, 70.0])
def test_up_to_five_degrees_from_a_pole_segments_are_found(through: Through, lat_deg: float) -> None:
    """poles"""
    came = through(walk(PLAIN, lambda t: around_pole(t, lat_deg)), [line("far", 50.0, 200.0, lambda t: around_pole(t, lat_deg))])
    assert [e.elapsed_ms for e in came.final] == [pytest.approx(150_000, abs=300)]


def test_over_the_very_pole_a_track_is_finished(through: Through) -> None:
    """poles"""

    def over(t: float) -> tuple[float, float]:
        lat = 89.995 + t * SPEED_MPS / METRE_PER_UNIT * 1e-7
        return (lat, 10.0) if lat <= 90.0 else (180.0 - lat, -170.0)

    came = through(walk(PLAIN, over), [HILL])
    assert came.activities[0].distance_cm == pytest.approx(299 * 400, abs=400)


@pytest.mark.parametrize("with_speed", [True, False])
@pytest.mark.parametrize("east", [True, False])
def test_a_segment_across_the_date_line_is_found(through: Through, east: bool, with_speed: bool) -> None:
    """date line"""
    turn = math.cos(math.radians(-17.0)) * METRE_PER_UNIT * 1e7

    def across(t: float) -> tuple[float, float]:
        lon = 180.0 + (1 if east else -1) * (t - 120.0) * SPEED_MPS / turn
        return -17.0, (lon + 180.0) % 360.0 - 180.0

    rows = walk(PLAIN, across, **({} if with_speed else {"speed_mps": None}))
    came = through(rows, [line("antimeridian", 50.0, 200.0, across)])
    for efforts in (came.live, came.final):
        assert [e.elapsed_ms for e in efforts] == [pytest.approx(150_000, abs=500)]
    assert came.final[0].doubts == ()
    (activity,) = came.activities
    assert activity.distance_cm == pytest.approx(299 * 400, rel=0.02)
    assert activity.bounds is not None
    assert activity.bounds[1] > 0 > activity.bounds[3]


def test_ten_samples_a_second_are_ten_times_the_samples_and_the_same_way(through: Through) -> None:
    """10 Hz"""
    for more in ({}, {"speed_mps": None}):
        came = through(walk([t * 0.1 for t in range(3000)], **more), [HILL])
        assert came.live[0].elapsed_ms == pytest.approx(150_000, abs=300)
        assert came.final[0].elapsed_ms == pytest.approx(150_000, abs=150)
        assert came.final[0].doubts == ()
        assert came.activities[0].distance_cm == pytest.approx(299.9 * 400, rel=0.01)
        assert came.activities[0].samples == 3000


@pytest.mark.parametrize("phase_s", [0.0, 7.0, 19.0])
def test_a_position_each_half_minute_is_matched_and_kept_off_the_board_for_it(through: Through, phase_s: float) -> None:
    """30 s"""
    came = through(walk([phase_s + t * 30.0 for t in range(12)]), [HILL])
    (effort,) = came.final
    assert effort.elapsed_ms == pytest.approx(150_000, abs=3000)
    assert effort.accuracy_ms > 1000
    assert set(effort.doubts) == {"gap", "coarse"}
    assert effort.kept_off
    assert came.activities[0].distance_cm == pytest.approx(330 * 400, rel=0.02)


def test_a_position_without_an_accuracy_counts_and_its_time_is_less_certain(through: Through) -> None:
    """accuracy missing"""
    came = through(walk(PLAIN, accuracy_m=None), [HILL])
    (effort,) = came.final
    assert effort.elapsed_ms == pytest.approx(150_000, abs=300)
    assert effort.doubts == ()


@pytest.mark.parametrize(("accuracy_m", "efforts"), [(0.0, 1), (99.0, 1), (101.0, 0), (127.0, 0)])
def test_a_position_known_no_better_than_100_metres_is_none(through: Through, accuracy_m: float, efforts: int) -> None:
    """accuracy absurd"""
    came = through(walk(PLAIN, accuracy_m=accuracy_m), [HILL])
    assert len(came.final) == efforts
    assert came.activities[0].distance_cm == pytest.approx(299 * 400, abs=400)  # by the stated speed
    assert all("accuracy" in e.doubts for e in came.final if accuracy_m > 30)


def a_day(hours: float) -> list[Row]:
    """Laps of a hilly loop of 2.5 km, with heart rate and altitude."""
    around = [2 * math.pi * t * SPEED_MPS / 2500.0 for t in range(int(hours * 3600))]
    return [
        (float(t), {"lat": 46.0 + 0.0036 * math.sin(a), "lon": 7.0 + 0.0051 * math.cos(a), "speed_mps": SPEED_MPS, "accuracy_m": 3.0,
                    "hr_bpm": 140 + t % 9, "altitude_m": 400.0 + 30.0 * math.sin(a), "altitude_source": 1})
        for t, a in enumerate(around)
    ]  # fmt: skip


def costs(hours: float) -> tuple[int, int, Summary, int]:
    """(peak bytes, Python calls, summary, efforts) of finishing an activity of so many hours."""
    tracks = tracks_of(frames_of_rows(a_day(hours)))
    (row,) = run_tracks(tracks, 190)
    start_us, end_us = int(row[k.START]), int(row[k.LAST_T])
    activity = Activity("gym/anna", start_us, start_us, end_us, 0, 0, 0, int(row[k.SAMPLES]), 0, 0, 0, True, 1)
    points = [units(46.0 + 0.0036 * math.sin(a), 7.0 + 0.0051 * math.cos(a)) for a in np.linspace(0.3, 2.3, 40)]
    index = SegmentIndex.build([SegmentRef(tenant="gym", id="hill", name="hill", points=tuple(points))])
    finish_activity("gym/anna", tracks, activity, None, index)  # what is made once is made
    calls = [0]

    def count(*_: object) -> None:
        calls[0] += 1

    tracemalloc.start()
    sys.setprofile(count)
    made = finish_activity("gym/anna", tracks, activity, None, index)
    sys.setprofile(None)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    return peak, calls[0], made.summary, len(made.efforts)


def test_a_day_costs_four_times_what_six_hours_cost() -> None:
    """24 hours"""
    (few_bytes, few_calls, _, few_efforts), (bytes_, calls, summary, efforts) = costs(6.0), costs(24.0)
    assert summary.distance_cm == pytest.approx(86_399 * 400, rel=0.001)
    assert efforts == pytest.approx(4 * few_efforts, abs=2)
    assert bytes_ < 4.6 * few_bytes
    assert calls < 4.6 * few_calls
    assert bytes_ < 200_000_000


def test_a_day_through_the_live_stage_is_one_activity(through: Through) -> None:
    """24 hours"""
    came = through([row for row in a_day(24.0) if row[0] % 5 == 0], [])
    assert [a.distance_cm for a in came.activities] == [pytest.approx(86_395 * 400, rel=0.001)]


def track_place(t: float) -> tuple[float, float]:
    """Round a track of 400 m: two straights of 84.39 m and bends of 36.5 m and 30 cm (World Athletics)."""
    way, bend, straight = t * SPEED_MPS % 400.0, 400.0 / 2 - 84.39, 84.39
    radius = bend / math.pi
    half, along = divmod(way, straight + bend)
    if along < straight:
        x, y = along - straight / 2, -radius
    else:
        angle = (along - straight) / radius - math.pi / 2
        x, y = straight / 2 + radius * math.cos(angle), radius * math.sin(angle)
    if half >= 1:
        x, y = -x, -y
    plane = plane_at(460_000_000, 70_000_000)
    lat, lon = plane.position(x, y)
    return lat * 1e-7, lon * 1e-7


def test_twenty_laps_of_a_track_are_twenty_efforts_on_each_part_of_it(through: Through) -> None:
    """400 m track"""
    rng = np.random.default_rng(3)
    parts = [line(name, a, b, track_place) for name, a, b in (("most", 5.0, 95.0), ("bend", 24.0, 44.0), ("half", 30.0, 80.0))]
    rows = walk([float(t) for t in range(20 * 100 + 30)], track_place)
    noisy = [(t, {**v, "lat": (v["lat"] or 0) + rng.normal(0, 8e-6), "lon": (v["lon"] or 0) + rng.normal(0, 1.2e-5)}) for t, v in rows]
    came = through(noisy, parts)
    for part in parts:
        for efforts in (came.live, came.final):
            own = sorted(e.start_us for e in efforts if e.segment == part.id)
            apart = np.diff(own) * 1e-6
            assert len(own) in {20, 21}, part.id  # the last 30 seconds reach beyond the bend
            assert (np.abs(apart - 100.0) < 3.0).all(), part.id


def test_a_pool_swim_is_as_long_as_the_device_says_and_meets_no_segment(through: Through) -> None:
    """pool swim"""
    rows: list[Row] = [(25.0 * n, {"distance_m": 25.0 * n, "speed_mps": 1.0, "hr_bpm": 130 + n % 5}) for n in range(40)]
    came = through(rows, [HILL])
    (activity,) = came.activities
    assert (activity.distance_cm, activity.bounds, activity.sport, came.final) == (39 * 2500, None, "other", [])


def test_real_pool_swims_have_the_distance_of_their_file_or_say_why_they_are_refused() -> None:
    """pool swim"""
    came: dict[str, str] = {}
    for path in sorted((SHARED / "fit").glob("*swim*.fit")):
        try:
            rows = rows_of_file(read_recording(path))
        except FileError as error:
            came[path.name] = error.detail.partition(":")[0]
            continue
        told = [v["distance_m"] for _, v in rows if v["distance_m"] is not None]
        runs = run_tracks(tracks_of(frames_of_rows(rows)), 190)
        assert sum(int(run[k.DIST_UM]) for run in runs) * 1e-6 == pytest.approx(max(told) - min(told), rel=0.01, abs=5.0), path.name
        came[path.name] = "finished"
    assert set(came.values()) == {"finished", "no times"} or not (SHARED / "fit").exists()  # one device wrote lengths without a time


def test_smart_recording_is_the_same_way_and_nearly_the_same_time(through: Through) -> None:
    """smart recording"""
    rng = np.random.default_rng(1)
    times = np.cumsum(rng.choice([1.0, 2.0, 3.0, 5.0, 7.0], 100))
    for more in ({}, {"speed_mps": None}):
        came = through(walk([float(t) for t in times if t < 320], **more), [HILL])
        assert came.final[0].elapsed_ms == pytest.approx(150_000, abs=1000)
        assert not came.final[0].kept_off
        last_s = max(t for t in times if t < 320) - times[0]
        assert came.activities[0].distance_cm == pytest.approx(last_s * 400, rel=0.02)


def test_the_page_states_an_outcome_for_every_kind_and_no_other() -> None:
    told = re.findall(r"^\| ([^|]+?) +\| [^|]+ \| [^|]+ \|$", PAGE.read_text("utf-8"), re.MULTILINE)
    kinds = {test.__doc__ for name, test in globals().items() if name.startswith("test_") and test.__doc__}
    assert set(told) - {"found", "---"} == kinds
