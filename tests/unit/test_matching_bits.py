"""The matcher gives the same bits from numba and from the interpreter, and the same whatever lies beside a segment in the tables."""

from __future__ import annotations

import subprocess
import sys

import pytest

from processors.attempts import Attempts
from processors.kernels.compiled import COMPILED
from processors.matcher import advance, match_track
from processors.segments import SegmentIndex
from tests.matching_scene import fixes, index, outcome


def test_compiled_and_plain_tell_the_same_and_leave_the_same_states() -> None:
    assert COMPILED
    said = subprocess.run([sys.executable, "-m", "tests.matching_scene"], capture_output=True, text=True, check=True, timeout=300)
    assert said.stdout.strip() == outcome()


def test_an_index_with_changes_above_it_tells_what_a_folded_one_tells() -> None:
    changed, track = index(), fixes(1, 900)
    assert len(changed.upper) == 5
    folded = changed.folded()
    assert len(folded.upper) == 0
    a, b = Attempts(), Attempts()
    assert advance(a, changed, track) == advance(b, folded, track)
    assert a.encode() == b.encode()


def test_a_state_goes_on_with_another_index_that_has_the_same_segments() -> None:
    changed, track = index(), fixes(2, 900)
    whole, parted = Attempts(), Attempts()
    expected = advance(whole, changed, track)
    got = advance(parted, changed, track.part(0, 200)) + advance(parted, changed.folded(), track.part(200, 500))
    got += advance(parted, changed, track.part(500, len(track)))
    assert got == expected
    assert parted == whole


@pytest.mark.parametrize("seed", range(3))
def test_a_sport_is_matched_as_if_others_had_no_segments(seed: int) -> None:
    changed, track = index(), fixes(seed, 600)
    assert match_track(changed.for_sport("ride"), track) == match_track(changed, track)
    assert match_track(SegmentIndex.build([]), track) == []
