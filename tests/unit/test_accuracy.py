"""The accuracy bench: ours beside the peers over a few tracks here, the lines of docs/accuracy.md in full at night."""

from __future__ import annotations

from functools import lru_cache
from pathlib import Path

import numpy as np
import pytest

from benchmarks.accuracy.climbs import METHODS as CLIMBS
from benchmarks.accuracy.climbs import live_m
from benchmarks.accuracy.devices import agreements, compared, lap_recall, missing
from benchmarks.accuracy.figures import CROSSING_LIVE, FLOOR, MATCHED, NEAREST, Figures, measure_all, recorded
from benchmarks.accuracy.hearts import METHODS as HEARTS
from benchmarks.accuracy.hearts import OURS
from benchmarks.accuracy.hearts import STAGED as STAGED_HEART
from benchmarks.accuracy.lines import Line, limits_of, lines_of
from benchmarks.accuracy.ours import Ours
from benchmarks.accuracy.page import page
from benchmarks.accuracy.peers import PEERS, constant_velocity, constant_velocity_smoothed, savitzky_golay
from benchmarks.accuracy.plots import draw
from benchmarks.accuracy.timings import Gate, crossing_s, nearest_s
from processors.kernels.backwards import smooth, smooth_lagged
from processors.matcher import Fixes

# Lines that are not reached: docs/accuracy.md says by how much, and what is behind them.
OPEN = {
    "speed_gain_urban", "heart_zone_wrong_pct", "elapsed_p95_s_ride_open", "elapsed_p95_s_run_urban",
    "devices_07_06_p50_s", "devices_07_06_recall",
}  # fmt: skip


@lru_cache
def few() -> Figures:
    return measure_all(range(710, 712), range(710, 713), 900.0, 60)


def lines() -> dict[str, Line]:
    return {line.key: line for line in lines_of(few())}


def test_the_filter_is_nearer_the_truth_than_raw_fixes_and_every_causal_peer() -> None:
    of = lines()
    for key in ("position_live_ratio", "position_final_ratio"):
        assert of[key].ours < of[key].peer < 1.0
    assert of["position_live_ratio_worst"].ours < 1.0


def test_the_smoother_knows_more_than_the_filter() -> None:
    for cell, live in few().positions["ours, live"].items():
        assert few().positions["ours, at the end"][cell].position_ratio < live.position_ratio


def test_speed_without_a_stated_one_beats_the_constant_velocity_filter() -> None:
    assert all(lines()[f"speed_gain_{where}"].ours > 1.0 for where in ("open", "suburb", "urban"))


def test_a_gate_crossing_beats_the_nearest_fix() -> None:
    of = lines()
    for sport in ("run", "ride"):
        median_s, nearest_fix_s = (few().timings[name][sport, "clean"].p50_s for name in (CROSSING_LIVE, NEAREST))
        assert median_s < 0.1 < nearest_fix_s
        assert few().timings[MATCHED][sport, "clean"].p50_s < 0.1
    assert of["elapsed_p95_s_ride_open"].ours < of["elapsed_p95_s_ride_open"].peer


def test_climb_and_heart_beat_the_causal_rules() -> None:
    of = lines()
    assert of["gain_baro_live_pct"].ours < of["gain_baro_live_pct"].peer
    assert of["heart_rmse_bpm"].ours < few().hearts["GoldenCheetah's rule (offline)"][0]


def test_the_matcher_finds_what_was_ridden_and_no_filter_beats_the_floor_by_much() -> None:
    for cell, of in few().timings[MATCHED].items():
        assert of.share > 0.9, cell
    for cell, floor in few().timings[FLOOR].items():
        assert few().timings[MATCHED][cell].p50_s > 0.5 * floor.p50_s, cell


def test_the_live_stage_shows_what_its_kernels_see() -> None:
    positions = few().positions
    for cell, kernel in positions["ours, live"].items():
        assert positions["live stage"][cell].position_ratio == pytest.approx(kernel.position_ratio, abs=0.06), cell
        assert positions["live stage"][cell].distance_pct == pytest.approx(kernel.distance_pct, abs=0.1), cell
        assert positions["live stage, no stated speed"][cell].distance_pct < 4, cell
    for cell, live in few().climbs["ours, live"].items():
        assert cell[1] == "gnss" or few().climbs["live stage"][cell] == pytest.approx(live, abs=2.0), cell
    assert few().hearts[STAGED_HEART][0] == pytest.approx(few().hearts[OURS][0], abs=0.2)


def test_every_open_line_has_the_limit_behind_it_on_the_page() -> None:
    stands = Path("docs/accuracy.md").read_text("utf-8")
    assert limits_of(few()).keys() | {"speed_gain_open"} >= OPEN & {line.key for line in lines_of(few())}
    assert "## Lines that are not met" in stands


def test_two_devices_agree_better_by_a_gate_than_by_the_nearest_fix(tmp_path: Path) -> None:
    t_us = np.arange(600) * 1_000_000
    lat, lon = 480_000_000 + np.arange(600) * 270, np.full(600, 110_000_000)  # 3 m/s to the north
    a = Fixes.of(t_us, lat, lon, np.full(600, -1))
    b = Fixes.of(t_us[:-3] + 400_000, lat[:-3] + 108, lon[:-3] + 50, np.full(597, -1))  # the same run, stamped between
    slow = Fixes.of(*(column[::6] for column in (b.t_us, b.lat, b.lon, b.accuracy_cm)))
    made = compared(a, slow, 20, {})
    assert made["nearest fix"].p50_s > 10 * made["fixes as recorded"].p50_s
    assert made["smoothed, as finishing does"].recall == 1.0
    assert lap_recall(tmp_path) is None
    assert agreements(5, tmp_path) == {}
    assert len(missing(tmp_path)) == 13


def test_the_cubic_by_velocities_is_the_way_of_an_even_acceleration() -> None:
    t = np.arange(0.0, 60.0, 5.0)
    east, speed = 0.1 * t * t, 0.2 * t
    gate = Gate(0.1 * 17**2, 0.0, 1.0, 0.0, 17.0)
    assert crossing_s(t, east, 0 * t, gate, (speed, 0 * t)) == pytest.approx(17.0, abs=1e-6)
    assert abs(crossing_s(t, east, 0 * t, gate) - 17.0) > 0.1


def test_pictures_are_drawn(tmp_path: Path) -> None:
    for path in draw(few(), tmp_path):
        assert path.read_bytes()[:4] == b"\x89PNG"
        assert path.stat().st_size < 100_000


def test_the_page_names_every_method_and_line() -> None:
    made = page(few())
    for name in [*PEERS, *CLIMBS, *HEARTS, *(line.words for line in lines().values())]:
        assert name in made


def test_the_page_in_the_repository_is_that_of_these_lines() -> None:
    stands = Path("docs/accuracy.md").read_text("utf-8")
    assert all(f"| {line.words} | " in stands for line in lines().values())


def test_the_same_recording_gives_the_same_figures_twice() -> None:
    seen, _ = recorded(710, "run", "open", 300.0)
    once, again = (Ours(seen, "run", with_speed=True) for _ in range(2))
    assert np.array_equal(once.final().east_m, again.final().east_m)
    assert live_m(seen.t_s, seen.baro_m, 1, seen.t_s) == live_m(seen.t_s, seen.baro_m, 1, seen.t_s)


def test_a_lag_of_a_whole_track_is_the_smoother_at_the_end() -> None:
    seen, _ = recorded(710, "ride", "suburb", 300.0)
    of = Ours(seen, "ride", with_speed=True)
    n = len(seen.t_s)
    whole, lagged, scratch = (np.zeros((n, 4)) for _ in range(3))
    smooth(of._journal, 0, n - 1, whole, np.zeros(6))
    smooth_lagged(of._journal, of._t_s, n, 1e9, lagged, scratch, np.zeros(6))
    assert np.array_equal(whole, lagged)


def test_the_peers_are_what_they_are_called() -> None:
    seen, _ = recorded(710, "run", "open", 300.0)
    t = np.arange(60.0)
    line = type(seen)(t, 3 * t, -t, np.full(60, 4.0), *(np.zeros(60) for _ in range(7)))
    for peer in (savitzky_golay, constant_velocity, constant_velocity_smoothed):
        made = peer(line, "run")
        assert np.abs(made.east_m - 3 * t)[20:].max() < 0.3
        assert made.speed_mps[30] == pytest.approx(np.sqrt(10), abs=0.05)


def test_a_gate_is_crossed_between_two_fixes_and_along_the_way_only() -> None:
    t = np.arange(20.0)
    gate = Gate(31.5, 0.0, 1.0, 0.0, 10.0)
    assert crossing_s(t, 3 * t, 0 * t, gate) == pytest.approx(10.5)
    assert nearest_s(t, 3 * t, 0 * t, gate) in {10.0, 11.0}
    assert np.isnan(crossing_s(t, 60 - 3 * t, 0 * t, gate))
    assert np.isnan(crossing_s(t, 3 * t, 0 * t + 50, gate))


@pytest.mark.nightly
def test_every_line_but_the_open_ones_is_met_in_full() -> None:
    assert {line.key for line in lines_of(measure_all()) if not line.met} <= OPEN
