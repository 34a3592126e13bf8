"""What is seen of a load behind the platform: every frame once, at the time it was due, in each of its parts."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import pytest
from click.testing import CliRunner

from broker.bundles import decode_bundle
from broker.frames import decode_frame
from broker.kafka_records import encode_log_record
from broker.kafka_topics import BELIEVED, BOARD_WORDS, FRAMES, LIVE_STATE
from broker.logrecord import Kind, LogRecord
from paceline.cli import cli
from paceline.load_watch import ON_KAFKA, look
from processors.shards import Message
from simulators.load_plan import LoadPlan, NodePlan
from simulators.load_sightings import Sightings
from tests.memory_cluster import MemoryCluster

START_US = 1_790_000_000_000_000
LATE_US = 70_000


def told(folder: Path, plan: LoadPlan, until_us: int) -> tuple[MemoryCluster, int]:
    """A load through the stages of a cluster, a checkpoint after each turn; how many frames were due."""
    cluster, frames = MemoryCluster(folder, now_us=START_US, tells=True), 0
    nodes = [NodePlan(plan, k) for k in range(plan.connections)]
    while (at_us := min(node.turn_us for node in nodes)) < until_us:
        for node in nodes:
            if node.turn_us != at_us:
                continue
            for due in node.take():
                frames += due.frames
                raws = decode_bundle(due.payload).rows
                cluster.append([LogRecord(Kind.FRAME, decode_frame(raw).subject, "gym", "box", at_us, raw) for raw in raws])
        cluster.now_us = at_us
        cluster.drain()
        for process in cluster.processes:
            process.checkpoint()
    return cluster, frames


def messages(cluster: MemoryCluster, topic: str) -> list[Message]:
    lanes = [m for (name, _), lane in cluster.topics.held.items() if name == topic for m in lane]
    return [*lanes, *(m for name, m in cluster.topics.told if name == topic)]


@pytest.mark.parametrize(("frame_s", "rounds"), [(1, 8), (30, 3)])
def test_each_frame_is_seen_once_in_each_part_whose_topic_shows_it(frame_s: int, rounds: int, tmp_path: Path) -> None:
    plan = LoadPlan("gym", 7, 2, rounds * frame_s, START_US, frame_s=frame_s)
    cluster, frames = told(tmp_path, plan, plan.end_us)
    assert frames == 7 * rounds
    for part, topic in (("log", FRAMES), ("live", BELIEVED), ("state", LIVE_STATE), ("board", BOARD_WORDS)):
        assert ON_KAFKA[part] == (topic,)
        seen = Sightings(plan, START_US, newest_only=part in ("state", "board"))
        for m in messages(cluster, topic):
            look(part, seen, m, plan.end_us)
        w = seen.watched
        assert (part, w.seen, w.doubled, w.strange) == (part, frames, 0, 0)
        by_second = {second: histogram.count for second, histogram in w.times.seconds.items()}
        due_s = Counter(
            (plan.first_us(k, d) + n * plan.frame_us - START_US) // 1_000_000
            for k in range(2)
            for d in range(plan.athletes_of(k))
            for n in range(rounds)
        )
        assert by_second == due_s, part


def test_the_start_of_a_workout_is_an_event_of_its_first_frame(tmp_path: Path) -> None:
    plan = LoadPlan("gym", 5, 1, 4, START_US)
    cluster, _ = told(tmp_path, plan, plan.end_us)
    seen = Sightings(plan, START_US)
    events = [m for name, m in cluster.topics.told if name.startswith("paceline.")]
    for m in events:
        look("event", seen, m, START_US + 2_000_000)
    assert seen.watched.seen == 5
    assert seen.watched.times.seconds[0].max_us == START_US + 2_000_000 - min(plan.first_us(0, d) for d in range(5))
    look("event", seen, next(m for m in events if dict(m.headers)["ce_type"] == b"paceline.user.activity.started.v1"), START_US)
    assert seen.watched.doubled == 1


def test_a_frame_seen_twice_and_a_time_of_no_frame_are_counted_apart() -> None:
    plan = LoadPlan("gym", 2, 1, 9, START_US)
    subject, first_us = plan.subject(0, 1), plan.first_us(0, 1)
    seen = Sightings(plan, START_US)
    for t_us in (first_us, first_us, first_us + 1, first_us - plan.frame_us, first_us + plan.frame_us):
        seen.see(subject, t_us, t_us + LATE_US)
    seen.see(subject, first_us, first_us, again=True)
    seen.see("gym/ann", first_us, first_us)
    assert (seen.watched.seen, seen.watched.doubled, seen.watched.strange) == (2, 1, 2)
    assert seen.watched.times.whole.max_us == LATE_US


def test_a_frame_that_was_overtaken_counts_when_the_next_is_seen() -> None:
    plan = LoadPlan("gym", 1, 1, 9, START_US)
    subject, first_us = plan.subject(0, 0), plan.first_us(0, 0)
    seen = Sightings(plan, START_US, newest_only=True)
    for number in (0, 3, 2, 3):
        seen.see(subject, first_us + number * plan.frame_us, first_us + 3 * plan.frame_us + LATE_US)
    assert (seen.watched.seen, seen.watched.doubled) == (4, 0)
    assert seen.watched.times.whole.max_us == 3 * plan.frame_us + LATE_US
    assert seen.complete


def test_of_an_athlete_that_rests_only_what_is_seen_counts() -> None:
    plan = LoadPlan("gym", 1, 1, 9, START_US, shape="ramp:5")
    seen = Sightings(plan, START_US, newest_only=True)
    for number in (0, 3, 2, 3):
        seen.see(plan.subject(0, 0), plan.first_us(0, 0) + number * plan.frame_us, START_US)
    assert seen.watched.seen == 2
    assert not seen.complete


@pytest.mark.parametrize(
    ("args", "says"),
    [
        (["--watch", "boards"], "use log, live, state, board, event, influx"),
        (["--watch", "board"], "kafka.bootstrap is empty"),
        (["--watch", "influx"], "influx.url is empty"),
        (["--bar", "board=500"], "no part 'board' is watched"),
        (["--bar", "ack=soon"], "give PART=MS"),
        (["--seconds", "5"], "warm_s is 5, and the load is over after 5 s"),
        (["--storm-at", "30"], "storm_at_s is 30, and the load is over after 30 s"),
        (["--connections", "2"], "no password for load/load00001"),
        (["--cafile", "no/such.pem"], "cafile no/such.pem: [Errno 2]"),
        (["--draw-passwords", "no/such/file"], "give a file in a folder you may write"),
        ([], "--host needs --passwords"),
    ],
)
def test_what_cannot_be_done_is_said_before_the_load_begins(args: list[str], says: str, tmp_path: Path) -> None:
    passwords = tmp_path / "load.json"
    passwords.write_text('{"load/load00000": "x"}')
    more = ["--passwords", str(passwords)] if args else []
    command = ["simulate", "fleet", "--data", str(tmp_path), "--host", "127.0.0.1", "--port", "9", "--connections", "1", *more, *args]
    done = CliRunner().invoke(cli, command)
    assert done.exit_code != 0
    assert says in f"{done.output}{done.exception}"


def test_the_log_of_a_load_holds_its_frames_only() -> None:
    plan = LoadPlan("gym", 1, 1, 1, START_US)
    wake = encode_log_record(LogRecord(Kind.WAKE, plan.subject(0, 0), "", "", START_US, b"live"))
    seen = Sightings(plan, START_US)
    look("log", seen, Message(0, wake.key, wake.value, wake.headers), START_US)
    look("log", seen, Message(0, wake.key, None, wake.headers), START_US)
    assert seen.watched.seen == 0
