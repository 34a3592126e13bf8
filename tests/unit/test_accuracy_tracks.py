"""The tracks that docs/accuracy.md rests on: the same seed is the same track."""

from __future__ import annotations

import numpy as np
import pytest

from benchmarks.accuracy.tracks import SPORTS, SURROUNDINGS, recording_of, truth_of

# how many samples; truth: last east, north, altitude; recorded: last east, north [300], accuracy [200], speed [400], last barometer, altitude [500]
FINGERPRINTS = {
    ("run", "open", 700): (915, 28.7460869, -1189.2471137, 46.321133, 30.068229, -517.7215509, 2.581953, 1.9961598, 47.2, 6.6326739),
    ("ride", "urban", 709): (866, 768.3841463, -1201.815452, -14.2975871, 766.6289844, 891.70535, 11.163835, 4.8618492, -13.6, -14.9287301),
    ("run", "suburb", 9000): (
        741,
        -348.4033733,
        -1131.9570619,
        -26.2604634,
        -349.6862027,
        -254.557906,
        3.0796134,
        0.2355295,
        -24.8,
        -46.1632697,
    ),
}


@pytest.mark.parametrize("of", FINGERPRINTS)
def test_a_seed_makes_the_track_it_always_made(of: tuple[str, str, int]) -> None:
    sport, where, seed = of
    rng = np.random.default_rng(seed)
    truth = truth_of(rng, sport, 900.0)
    seen = recording_of(rng, truth, where)
    true = (truth.east_m[-1], truth.north_m[-1], truth.altitude_m[-1])
    recorded = (seen.east_m[-1], seen.north_m[300], seen.accuracy_m[200], seen.speed_mps[400], seen.baro_m[-1], seen.gnss_m[500])
    assert (len(seen.t_s), *true, *recorded) == pytest.approx(FINGERPRINTS[of], abs=1e-6)


@pytest.mark.parametrize("sport", SPORTS)
@pytest.mark.parametrize("where", SURROUNDINGS)
def test_recordings_are_near_the_truth_they_carry(sport: str, where: str) -> None:
    rng = np.random.default_rng(1)
    truth = truth_of(rng, sport, 900.0)
    seen = recording_of(rng, truth, where)
    off = np.hypot(seen.east_m - seen.true_east_m, seen.north_m - seen.true_north_m)
    assert 0.5 < np.median(off) < 15
    assert (np.diff(seen.t_s) > 0).all()
    assert np.abs(seen.speed_mps - seen.true_speed_mps).mean() < 0.5
