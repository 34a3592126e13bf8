"""The verdict of the demo: each way of losing or counting twice shows, also where only the samples give it away."""

from __future__ import annotations

from collections import Counter

import pytest

from broker.layouts import layout_named
from broker.reference import BindingRef
from paceline.verify import Stored, as_bound, judge, ride_owed
from processors.reference_data import ReferenceData
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


def test_frames_of_a_device_that_somebody_bound_meanwhile_count_for_the_athlete() -> None:
    known = ReferenceData()
    known.apply(BindingRef(tenant="gym", id="b1", device="watch", athlete="bob", from_us=2))
    bound = list(as_bound([made(seq) for seq in range(4)], known))
    assert [one.subject for one in bound] == ["gym/ann", "gym/ann", "gym/bob", "gym/bob"]
    held = Stored({("gym/watch", 7): Counter(dict.fromkeys(range(4), 1))}, {"gym/ann": 2, "gym/bob": 2}, 2, {})
    assert judge(bound, held, {}, {}).examples == ()
    assert judge([made(seq) for seq in range(4)], held, {}, {}).lost == 2


def test_frames_of_strangers_are_not_judged() -> None:
    verdict = judge([], stored({0: 1}, 1), {}, {})
    assert (verdict.sent, verdict.lost, verdict.duplicated) == (0, 0, 0)


RIDE = "gym/ride"


def test_finished_ride_owes_every_frame_and_every_sample_of_its_file() -> None:
    owed = ride_owed(RIDE, (2, 2, 1), {}, {(RIDE, 7): [0]})
    assert (dict(owed.frames), owed.samples) == ({(RIDE, 7): range(3)}, 5)


def test_ride_of_which_nothing_arrived_is_lost_whole() -> None:
    owed = ride_owed(RIDE, (2, 2, 1), {}, {("gym/other", 1): [0]})
    assert judge([], stored({}, 0), owed.frames, {"gym/ann": owed.samples}).lost == 3


@pytest.mark.parametrize(("taken", "held", "frames", "samples"), [(2, [0], 2, 4), (1, [0, 1], 2, 4), (0, [], 0, 0), (3, [0, 1, 2], 3, 5)])
def test_ride_cut_short_owes_what_was_taken(taken: int, held: list[int], frames: int, samples: int) -> None:
    owed = ride_owed(RIDE, (2, 2, 1), {7: taken}, {(RIDE, 7): held})
    assert (dict(owed.frames), owed.samples) == ({(RIDE, 7): range(frames)}, samples)


def test_ride_begun_anew_after_its_end_is_judged_as_two() -> None:
    owed = ride_owed(RIDE, (2, 2, 1), {8: 1}, {(RIDE, 7): range(3), (RIDE, 8): [0]})
    assert (dict(owed.frames), owed.samples) == ({(RIDE, 7): range(3), (RIDE, 8): range(1)}, 7)
