"""Stages of a cluster killed at every point of a round, in memory: the events that are told are those of a run without kills."""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence
from pathlib import Path

import pytest

from broker.kafka_topics import event_topics
from tests.any_way import T0_US, US, Course, World, world_of
from tests.memory_cluster import MemoryCluster, Process

Way = tuple[Callable[[Process], None], Callable[[Process], None], int]
Told = dict[tuple[str, str], list[tuple[str, bytes | None]]]
TOPICS = {topic.name for topic in event_topics()}
LIVE, FINISH, BOARDS = 0, 1, 2  # their places among the processes


def nothing(process: Process) -> None:
    """Nobody is killed."""


def kill(process: Process) -> None:
    process.kill()


def kill_before_commit(process: Process) -> None:
    """The work since the checkpoint is done, killed, done again and killed again."""
    for _ in range(2):
        process.step(1000)
        process.kill()
    process.step(1000)


def kill_while_telling(process: Process) -> None:
    """What the checkpoint holds was sent, and is sent again."""
    process.step(1000)
    process.kill()
    process.step(1000)


def to_its_end(process: Process) -> None:
    """Until it has nothing to do: how many steps a replica made is not to decide in which round another hears of what it did."""
    idle = 0
    while idle < 2:  # a step may end with wakes that are due
        idle = 0 if process.step(1000) else idle + 1


def told(path: Path, world: World, before: Callable[[Process], None], after: Callable[[Process], None], at: int) -> Told:
    """The events of each entity, without repeats, in rounds of 60 records; `before` and `after` each checkpoint something happens to the
    process `at`.

    Finish tells of an effort what its checkpoint knows last, so whether an effort of the live stage is told before the final one hangs on
    whether both came to it in one round. A replica of live that was killed makes more steps in a round, and each takes the wakes of the one
    before: so in every round live goes to its end, killed or not, and says the same in the same round.
    """
    cluster, course = MemoryCluster(path / "cluster", 2, now_us=T0_US), Course(path / "course", 1)
    frames = [course.frame(f, node) for f, node in sorted(world.frames, key=lambda f: (f[0].t0_us, f[0].boot, f[0].seq))]
    try:
        cluster.append([course.reference(value) for value in world.refs])
        for first in range(0, len(frames) + 600, 60):  # empty rounds at the end: activities close
            cluster.append(frames[first : first + 60])
            cluster.now_us += (5 if first < len(frames) else 700) * US
            for number, process in enumerate(cluster.processes):
                if number == LIVE:
                    to_its_end(process)
                process.step(1000)
                if number == at:
                    before(process)
                process.checkpoint()
                if number == at:
                    after(process)
                if number == LIVE:
                    to_its_end(process)
                process.step(1000)  # tells what the checkpoint holds
        found: Told = {}
        known: dict[str, bytes | None] = {}
        for topic, message in cluster.topics.told:
            if topic in TOPICS:
                headers = {name: value.decode() for name, value in message.headers}
                if headers["ce_id"] not in known:
                    found.setdefault((topic, headers["ce_subject"]), []).append((headers["ce_type"], message.value))
                assert known.setdefault(headers["ce_id"], message.value) == message.value, "an id stands for two events"
        return found
    finally:
        cluster.close()
        course.close()


def same(path: Path, seed: int, ways: Sequence[Way]) -> None:
    world = world_of(random.Random(seed))
    world.refs = [ref for ref in world.refs if ref.entity != "binding"]
    undisturbed = told(path / "alone", world, nothing, nothing, FINISH)
    assert sum(map(len, undisturbed.values())) > 20
    for number, (before, after, at) in enumerate(ways):
        found = told(path / str(number), world, before, after, at)
        other = [entity for entity in found.keys() | undisturbed.keys() if found.get(entity) != undisturbed.get(entity)]
        assert not other, f"way {number}: {[(entity, undisturbed.get(entity), found.get(entity)) for entity in other[:2]]}"


def test_kills_of_finish_at_any_point_tell_no_event_more_and_none_less(tmp_path: Path) -> None:
    same(tmp_path, 12, [(kill_before_commit, kill_while_telling, FINISH)])


@pytest.mark.nightly
@pytest.mark.parametrize("seed", [*range(11), 13])  # in the world of 11 nearly nothing is told
def test_no_kill_of_any_stage_tells_an_event_more_or_less(tmp_path: Path, seed: int) -> None:
    befores, afters = (nothing, kill_before_commit), (nothing, kill, kill_while_telling)
    same(tmp_path, seed, [(before, after, at) for before in befores for after in afters for at in (LIVE, FINISH, BOARDS)])
