"""The verdict of the demo: each way of losing or counting twice shows, also where only the samples give it away."""

from __future__ import annotations

from collections import Counter

import pytest

from broker.layouts import layout_named
from paceline.verify import Stored, judge
from simulators.truth import Made

MOTION = layout_named("motion.1")
RECORD = MOTION.pack({"tick_ms": 0, "hr_bpm": 100})


def made(seq: int, owed: bool = True) -> Made:
    return Made("gym/watch", 7, seq, "gym/ann", MOTION.id, seq, seq, RECORD, owed)


def stored(seqs: dict[int, int], samples: int, boot: int = 7) -> Stored:
    return Stored({("gym/watch", boot): Counter(seqs)}, {"gym/ann": samples}, 1, {})


@pytest.mark.parametrize(
    ("held", "lost", "duplicated"),
    [
        (stored({0: 1, 1: 1, 2: 1}, 3), 0, 0),
        (stored({0: 1, 2: 1}, 2), 1, 0),
        (stored({0: 1, 1: 2, 2: 1}, 4), 0, 1),
        (stored({0: 1, 1: 1, 2: 1}, 4), 0, 1),
        (stored({0: 1, 1: 1, 2: 1}, 2), 1, 0),
        (stored({0: 1, 1: 1, 2: 1}, 3, boot=8), 3, 0),
        (stored({}, 0), 3, 0),
    ],
)
def test_verdict(held: Stored, lost: int, duplicated: int) -> None:
    verdict = judge([made(seq) for seq in range(3)], held, {}, {})
    assert (verdict.sent, verdict.lost, verdict.duplicated) == (3, lost, duplicated)
    assert bool(verdict.examples) == bool(lost or duplicated)


def test_frame_no_longer_owed_may_be_missing() -> None:
    verdict = judge([made(0), made(1, owed=False)], stored({0: 1}, 1), {}, {})
    assert (verdict.lost, verdict.duplicated) == (0, 0)


def test_frames_the_box_made_itself_are_judged_too() -> None:
    verdict = judge([], stored({0: 1, 2: 1}, 2), {("gym/watch", 7): range(3)}, {"gym/ann": 3})
    assert (verdict.sent, verdict.stored, verdict.lost) == (3, 2, 1)


def test_frames_of_strangers_are_not_judged() -> None:
    verdict = judge([], stored({0: 1}, 1), {}, {})
    assert (verdict.sent, verdict.lost, verdict.duplicated) == (0, 0, 0)
