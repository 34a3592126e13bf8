"""kill -9 of the process that writes results, around its group commit: boards, awards, decisions and events end as if nothing had happened."""

from __future__ import annotations

import os
import random
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from broker.frames import Frame
from broker.reference import ErasureRef, MergeRef, Reference, RulingRef
from processors.results import activity_id, effort_id
from tests.any_way import T0_US, Course, World, differing, outcome, plain, ride, segment

CHILD = """
import sys
from pathlib import Path
from tests.any_way import Course
course = Course(Path(sys.argv[1]), int(sys.argv[2]))
course.end()
course.close()
"""


def world() -> World:
    made = World()
    for name, start_s, speed_mps in (("anna", 0, 6), ("bob", 3, 5), ("carl", 9, 7), ("dora", 1000, 6), ("anna", 1500, 8)):
        frames = ride(random.Random(1), f"watch-{name}", start_s + 1, start_s, 120, subject=f"gym/{name}", speed_mps=speed_mps)
        made.frames += [(frame, "box") for frame in frames]
    activity = activity_id("gym/anna", T0_US)
    made.refs = [
        segment("hill", 40, 140), segment("long", 20, 300), RulingRef(tenant="gym", id=effort_id(activity, "hill", 0), decision="flag"),
        RulingRef(tenant="gym", id=activity, decision="clear"), MergeRef(tenant="gym", id="carl", into="bob"),
        ErasureRef(tenant="gym", id="dora"), MergeRef(tenant="gym", id="carl", into="bob", removed=True),
        segment("hill", 60, 200), RulingRef(tenant="gym", id=effort_id(activity, "hill", 0), hidden=True),
    ]  # fmt: skip
    return made


def shuffled(made: World, rng: random.Random) -> list[Frame | Reference]:
    """Frames as they come, what is decided anywhere between in its own order."""
    items: list[Frame | Reference] = [frame for frame, _ in made.frames]
    rng.shuffle(items)
    for slot, value in zip(sorted(rng.randint(0, len(items)) for _ in made.refs)[::-1], made.refs[::-1], strict=True):
        items.insert(slot, value)
    return items


@pytest.mark.parametrize(("seed", "kills"), [(1, 8), pytest.param(2, 60, marks=[pytest.mark.nightly, pytest.mark.timeout(1800)])])
def test_kills_around_the_group_commit_change_no_board_award_or_event(tmp_path: Path, seed: int, kills: int) -> None:
    made, rng = world(), random.Random(seed)
    want = plain(tmp_path / "plain", made)
    course = Course(tmp_path / "killed", 50)
    items = [course.frame(one, "box") if isinstance(one, Frame) else course.reference(one) for one in shuffled(made, rng)]
    course.log.append(items)
    course.close()
    died = 0
    for _ in range(kills):
        point = f"runner.{rng.choice(['before', 'after'])}_commit:{rng.randint(1, 3)}"
        env = {**os.environ, "PACELINE_KILL_AT": point}
        args = [sys.executable, "-c", CHILD, str(tmp_path / "killed"), str(rng.choice([3, 5, 17]))]
        done = subprocess.run(args, env=env, capture_output=True, text=True, check=False, timeout=300)
        assert done.returncode in {-signal.SIGKILL, 0}, done.stderr
        died += done.returncode != 0
        if done.returncode == 0:
            break
    assert died >= min(kills, 4)
    course = Course(tmp_path / "killed", 50)
    course.end()
    course.close()
    got = outcome(tmp_path / "killed" / "state.db")
    assert got == want, differing(want, got)
