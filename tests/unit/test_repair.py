"""Repair: what a finished activity says of heart and power is of what is believed, and absent where nothing was measured."""

from __future__ import annotations

import math

import pytest

from broker.reference import AthleteRef
from processors.results import Finished
from processors.results_db import decode_summary, encode_summary
from processors.tracks import tracks_of
from tests.gps_truth import frames_of_rows
from tests.unit.test_finishing import ANNA, activity_in, finish, finish_activity

Row = tuple[float, dict[str, float | None]]


def of_heart(rates: list[int], **athlete: object) -> Finished:
    tracks = tracks_of(frames_of_rows([(float(i), {"hr_bpm": rate}) for i, rate in enumerate(rates)]))
    anna = AthleteRef.model_validate({"tenant": "gym", "id": "anna", "name": "Anna", **athlete}) if athlete else None
    return finish_activity(ANNA, tracks, activity_in(tracks), anna, None)


def test_a_spike_and_a_lock_are_in_no_zone_and_not_on_the_line() -> None:
    steady = [118 + i % 3 for i in range(120)]
    made = of_heart([*steady, 239, *steady, *([176] * 40), *steady])
    assert made.summary.zones_ms[1] == made.summary.elapsed_ms
    assert max(made.track.hr_bpm) < 125


def test_the_impulse_is_that_of_the_formula_by_sex_and_maximum() -> None:
    rates = [150 + i % 2 for i in range(601)]
    for athlete, factor, exponent, most in (({}, 0.64, 1.92, 190), ({"sex": "f", "hr_max_bpm": 180}, 0.86, 1.67, 180)):
        share = (150.5 - 60) / (most - 60)
        assert of_heart(rates, **athlete).summary.trimp == pytest.approx(10_000 * share * factor * math.exp(exponent * share), rel=0.005)


def test_work_and_normalised_power_are_of_watts_without_spikes() -> None:
    rows: list[Row] = [(float(i), {"speed_mps": 8.0, "power_w": 2_400.0 if i == 100 else 200.0}) for i in range(601)]
    made = finish(tracks_of(frames_of_rows(rows))).summary
    assert (made.work_j, made.normalised_power_w, made.power_avg_w) == (120_000, 200, 200)
    hard: list[Row] = [(float(i), {"speed_mps": 8.0, "power_w": 100.0 if i // 60 % 2 else 300.0}) for i in range(1_201)]
    uneven = finish(tracks_of(frames_of_rows(hard))).summary
    assert uneven.normalised_power_w is not None
    assert uneven.power_avg_w is not None
    assert uneven.normalised_power_w > uneven.power_avg_w + 20


def test_variability_is_of_the_strap_and_knows_its_silences() -> None:
    def beats(seconds: range, even: int, odd: int) -> list[Row]:
        return [(s * 0.8, {"hr_bpm": 75, "rr_ms": even if s % 2 else odd}) for s in seconds]

    strap = frames_of_rows(beats(range(200), 790, 810) + beats(range(400, 600), 790, 810), origin="gym/box/strap", layout="beats.1")
    assert finish(tracks_of(strap)).summary.rmssd_ms == 20
    other = frames_of_rows(beats(range(20), 700, 900), origin="gym/box/other", layout="beats.1")
    assert finish(tracks_of(strap + other)).summary.rmssd_ms == 20


def test_what_was_not_measured_is_absent() -> None:
    made = finish(tracks_of(frames_of_rows([(float(i), {"speed_mps": 3.0}) for i in range(60)]))).summary
    assert (made.trimp, made.work_j, made.normalised_power_w, made.rmssd_ms) == (None, None, None, None)
    short = finish(tracks_of(frames_of_rows([(float(i), {"speed_mps": 8.0, "power_w": 200.0}) for i in range(10)]))).summary
    assert (short.work_j, short.normalised_power_w) == (1_800, None)


def test_a_summary_keeps_them_in_the_store() -> None:
    made = of_heart([150 + i % 2 for i in range(100)]).summary
    assert decode_summary(encode_summary(made)) == made
