"""Doubts: records as published, each cheat told by what it does, and no athlete kept off, made up or real."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from benchmarks.plausibility.cases import kinds
from benchmarks.plausibility.judged import made_up
from benchmarks.plausibility.page import PAGE, SEEDS, held, measure_made_up, measure_real, table_of_kinds, table_of_real, table_of_words
from processors.motion_evidence import Evidence, evidence_of
from processors.plausibility import DOUBTS, KEEP_PCT, WORDS, judge, judge_live
from processors.records import RIDE_WPKG, RUN_MPS, least_wpkg, record, record_of, slope_share
from processors.results import BELIEVED, CURVE_POINTS, Phase, Timed
from processors.trace import trace_of
from processors.tracks import Track
from tests.gps_truth import START_US, track_of_rows

SHARED = Path(__file__).resolve().parents[3] / "shared" / "data"
HONEST = [name for name, (cheat, _) in kinds().items() if not cheat]
CHEATS = {  # of the efforts of four seeds, kept off at least; the page has the figures of 24
    "car in town, 50 km/h": 0.95, "car on a road, 80 km/h": 0.8, "car as a run, 40 km/h": 0.8, "ride as a run": 0.7,
    "motor to 45 km/h (600 W)": 0.3, "said to be an e-bike": 1.0, "ride with 200 m cut out": 0.8, "run with 100 m cut out": 0.7,
    "a position each 30 s": 1.0,
}  # fmt: skip
Row = tuple[float, dict[str, float | None]]


def timed(elapsed_s: float, curve_s: list[float] | None = None, accuracy_ms: int = 300) -> Timed:
    curve = [elapsed_s * k / CURVE_POINTS for k in range(1, CURVE_POINTS + 1)] if curve_s is None else curve_s
    return Timed("hill", 0, START_US, round(elapsed_s * 1000), Phase.FINAL, accuracy_ms, tuple(round(s * 1000) for s in curve))


def evidence(rows: list[Row], sport: str, declared: str = "", body_kg: float | None = None) -> Evidence:
    tracks: dict[int, Track] = track_of_rows(rows)
    last_us = max(int(track.t_us[-1]) for track in tracks.values())
    return evidence_of(trace_of(tracks, START_US, last_us, 190), tracks, sport, declared, 190, body_kg)


def moving(speed_mps: float, seconds: int, gradient: float = 0.0, **more: float) -> list[Row]:
    """Northwards at an even speed on an even slope."""
    return [
        (float(t), {"lat": 46.0 + t * speed_mps / 111_195, "lon": 7.0, "speed_mps": speed_mps, "accuracy_m": 3.0,
                    "altitude_m": 300.0 + t * speed_mps * gradient, "altitude_source": 1, **more})
        for t in range(seconds)
    ]  # fmt: skip


def test_the_curves_hold_the_published_records() -> None:
    assert record(RUN_MPS, np.array([9.58, 755.36, 7235.0])) == pytest.approx([100 / 9.58, 5000 / 755.36, 42195 / 7235], rel=2e-3)
    assert record(RIDE_WPKG, np.array([5.0, 300.0, 3600.0])) == pytest.approx([24.04, 7.60, 6.40])
    every = np.geomspace(1.0, 200_000.0, 300)
    for curve in (RUN_MPS, RIDE_WPKG):
        assert (np.diff(record(curve, every)) <= 0).all()
        assert all(record_of(curve, s) <= best * (1 + 1e-12) for s, best in zip(every.tolist(), record(curve, every).tolist(), strict=True))


def test_the_least_power_of_a_ride_is_that_of_its_forces() -> None:
    assert least_wpkg(np.array([0.0]), np.array([0.1]))[0] == 0.0
    climb = least_wpkg(np.array([5.0]), np.array([0.08]))[0]
    assert climb == pytest.approx(1.1 * 9.80665 * 5.0 * (0.0797 + 0.003) / 0.98, rel=0.03)  # the air is a fortieth of it
    assert least_wpkg(np.array([15.0]), np.array([-0.05]))[0] < 0


def test_a_runner_may_be_faster_downhill_but_not_much_and_slower_uphill() -> None:
    flat, up, down = slope_share(np.array([0.0, 0.1, -0.1]))
    assert (flat, down) == (pytest.approx(1.0), pytest.approx(1.2))
    assert 0.55 < up < 0.75  # Minetti: 3.6 of 5.6 J/(kg m)


def test_every_doubt_has_words_for_people_and_the_page_has_them_all() -> None:
    assert tuple(WORDS) == DOUBTS
    assert held(PAGE.read_text("utf-8"), "words") == table_of_words()


def test_a_live_effort_at_the_record_is_believed_and_one_far_above_is_kept_off() -> None:
    assert judge_live(timed(131.96), 1000.0, "run") == BELIEVED
    far = judge_live(timed(110.0), 1000.0, "run")
    assert (far.doubts, far.kept_off) == (("speed",), True)
    assert judge_live(timed(110.0), 1000.0, "any") == BELIEVED  # a bicycle may
    assert judge_live(timed(35.0), 1000.0, "any").kept_off
    assert judge_live(timed(110.0, accuracy_ms=9000), 1000.0, "run") == BELIEVED  # timed so badly that it may have been slower


def test_a_fast_part_tells_though_the_whole_was_slow() -> None:
    curve = [10.0 * k for k in range(1, 33)] + [320.0 + 1.0 * k for k in range(1, 33)]  # the second kilometre in 32 s
    assert judge_live(timed(352.0, curve), 2000.0, "ride").kept_off


def test_a_climb_is_judged_by_power() -> None:
    able, motor = (evidence(moving(speed, 400, 0.08), "ride") for speed in (5.0, 12.0))
    assert judge(timed(200.0), 1000.0, able) == BELIEVED
    doubted = judge(timed(1000 / 12.0), 1000.0, motor)
    assert (doubted.doubts, doubted.kept_off) == (("power",), True)


def test_a_meter_that_measured_a_third_of_what_the_slope_took_is_not_believed_and_a_dead_one_says_nothing() -> None:
    for power_w, kept_off in ((110, True), (420, False), (0, False)):
        made = judge(timed(200.0), 1000.0, evidence(moving(5.0, 400, 0.08, power_w=power_w), "ride"))
        assert made.kept_off is kept_off, power_w


@pytest.mark.parametrize(("body_kg", "kept_off"), [(None, False), (50.0, False), (75.0, True)])
def test_the_weight_of_the_athlete_makes_the_meter_a_sharper_witness(body_kg: float | None, kept_off: bool) -> None:
    """Half of what 75 kg take: of a rider of 50 kg three quarters."""
    rows = moving(5.0, 400, 0.08, power_w=178)
    assert judge(timed(200.0), 1000.0, evidence(rows, "ride", body_kg=body_kg)).kept_off is kept_off


def test_a_resting_heart_near_the_records_is_not_believed_and_one_that_stands_still_says_nothing() -> None:
    rows = moving(5.0, 400, 0.08)
    for beat, kept_off in ((lambda t: 96 + t % 7, True), (lambda t: 150 + t % 7, False), (lambda t: 96, False)):
        seen = [(t, {**values, "hr_bpm": beat(int(t))}) for t, values in rows]
        assert judge(timed(200.0), 1000.0, evidence(seen, "ride")).kept_off is kept_off


def test_what_a_file_says_of_itself_counts() -> None:
    rows = moving(6.0, 300)
    assert judge(timed(166.7), 1000.0, evidence(rows, "ride", "e_bike")).doubts == ("e_bike",)
    assert judge(timed(166.7), 1000.0, evidence(rows, "other", "vehicle")).doubts == ("vehicle",)


def test_a_jump_that_stays_is_a_teleport_and_a_stray_position_or_a_thaw_is_none() -> None:
    rows = moving(6.0, 300)
    jump = [(t, {**v, "lat": (v["lat"] or 0) + (300 / 111_195 if t >= 80 else 0)}) for t, v in rows]
    stray = [(t, {**v, "lat": (v["lat"] or 0) + (300 / 111_195 if t == 80 else 0)}) for t, v in rows]
    frozen = [(t, {**v, "lat": rows[70][1]["lat"] if 70 <= t < 90 else v["lat"]}) for t, v in rows]
    span = (START_US, START_US + 166_700_000)
    assert evidence(jump, "ride").span(*span).jump_m > 200
    assert evidence(stray, "ride").span(*span).jump_m == 0
    assert evidence(frozen, "ride").span(*span).jump_m == 0
    assert "teleport" in judge(timed(166.7), 1000.0, evidence(jump, "ride")).doubts


def test_a_silence_around_a_line_is_doubted_by_how_long_it_leaves_the_time_open() -> None:
    late = [row for row in moving(6.0, 400) if not 150 < row[0] < 176]
    open_by_seconds = judge(timed(166.7), 1000.0, evidence(late, "ride"))
    assert open_by_seconds.doubts == ("gap",)
    assert not open_by_seconds.kept_off
    assert judge(timed(100.0), 600.0, evidence(late, "ride")) == BELIEVED  # not around its lines


@pytest.mark.parametrize("name", HONEST)
def test_no_honest_athlete_is_kept_off(name: str) -> None:
    tally = made_up(name, range(200, 204))
    assert tally.efforts > 5
    assert tally.kept_off == 0, tally


@pytest.mark.parametrize("name", CHEATS)
def test_cheats_are_kept_off(name: str) -> None:
    tally = made_up(name, range(200, 204))
    assert tally.efforts > 3
    assert tally.kept_off >= CHEATS[name] * tally.efforts, tally


def test_no_small_real_recording_of_a_run_or_ride_is_kept_off() -> None:
    found = measure_real(SHARED, largest=160_000)
    assert sum(tally.efforts for tally in found.values()) > 500 or not (SHARED / "fit").exists()
    assert all(tally.kept_off == 0 for name, tally in found.items() if "virtual" not in name), found


def shares(table: str) -> dict[str, float]:
    """Per line of a table of the page, how many in a hundred efforts are kept off."""
    rows = [[cell.strip() for cell in line.strip("|").split("|")] for line in table.splitlines()[2:] if line]
    return {row[0]: 100.0 * int(row[4].split(" ")[0]) / max(int(row[2]), 1) for row in rows}


@pytest.mark.nightly
def test_the_page_has_the_figures_of_today() -> None:
    """To five in a hundred: what the filter and the matcher make of a case may move by an effort."""
    text = PAGE.read_text("utf-8")
    assert shares(held(text, "kinds")) == pytest.approx(shares(table_of_kinds(measure_made_up(SEEDS))), abs=5.0)
    if (SHARED / "fit").exists():
        assert shares(held(text, "real")) == pytest.approx(shares(table_of_real(measure_real(SHARED))), abs=5.0)


def test_the_page_keeps_no_honest_athlete_and_no_real_recording_off() -> None:
    text = PAGE.read_text("utf-8")
    kept_off = shares(held(text, "kinds")) | shares(held(text, "real"))
    assert {kept_off[name] for name in (*HONEST, "runs", "rides", "others (swims, hikes, a triathlon)")} == {0.0}


def test_scores_are_whole_and_doubts_in_their_order() -> None:
    made = judge(timed(30.0), 1000.0, evidence(moving(33.0, 400, 0.05, hr_bpm=90), "ride", "vehicle"))
    assert made.doubts == tuple(word for word in DOUBTS if word in made.doubts)
    assert 0 <= made.plausibility_pct < KEEP_PCT
    assert made.kept_off


@pytest.mark.parametrize("count", [1, 2, 3, 6])
@pytest.mark.parametrize("sport", ["run", "ride", "other"])
def test_a_handful_of_samples_is_judged_without_a_word(count: int, sport: str) -> None:
    rows = [(t, {**values, "speed_mps": 650.0, "hr_bpm": 100, "power_w": 300}) for t, values in moving(12.0, count)]
    assert judge(timed(1.0), 12.0, evidence(rows, sport)).plausibility_pct >= 0
