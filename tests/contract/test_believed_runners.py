"""What is told of samples is the same from both runners, whatever is killed: a follower of a cluster's view ends with the same totals."""

from __future__ import annotations

import random
from contextlib import closing
from dataclasses import replace
from pathlib import Path

import pytest

from broker.frames import encode_frame
from broker.ids import route_of
from broker.logrecord import Kind, LogRecord
from processors.believed import Believed, decode_believed, parts_of, unseen
from processors.believed_db import blocks_after
from processors.log import SqliteLog
from processors.minute_totals import Last, Minute, minutes_in, take
from processors.runner import Runner
from processors.state_db import connect
from tests.any_way import T0_US, US, World, ride, world_of
from tests.memory_cluster import MemoryCluster


def in_order(seed: int) -> list[LogRecord]:
    """Three athletes' frames as they are measured, one of them twice."""
    rng = random.Random(seed)
    frames = [f for n, name in enumerate(("anna", "bob", "carl")) for f in ride(rng, f"w-{name}", n + 1, 0, 400, subject=f"gym/{name}")]
    frames.sort(key=lambda f: (f.t0_us, f.device))
    return records_of(World([(f, "box") for f in [*frames[:40], *frames[20:]]], []))


def scrambled(seed: int) -> list[LogRecord]:
    """Late frames, undated ones, several sources."""
    made = world_of(random.Random(seed))
    return records_of(World([(f, node) for f, node in made.frames if node != "upload"], []))


def records_of(world: World) -> list[LogRecord]:
    return [
        LogRecord(
            Kind.FRAME, route_of("gym", node, f.device, f.subject, self_numbered=f.self_numbered), "gym", node, T0_US + 3_000 * US,
            encode_frame(f),
        )
        for f, node in world.frames
    ]  # fmt: skip


def alone(path: Path, records: list[LogRecord]) -> Path:
    path.mkdir()
    now_us = T0_US + 3_000 * US
    with SqliteLog.open(path / "log.db") as log:
        runner = Runner(log, path / "state.db", clock_us=lambda: now_us, tells=True)
        log.append(records)
        runner.drain()
        for _ in range(4):
            now_us += 700 * US
            while runner.fire_wakes():
                runner.drain()
        runner.close()
    return path / "state.db"


def together(path: Path, records: list[LogRecord], rng: random.Random | None) -> Path:
    cluster = MemoryCluster(path, rng=rng, now_us=T0_US + 3_000 * US, tells=True)
    try:
        while records:
            n = len(records) if rng is None else rng.choice([1, 10, 40])
            cluster.append(records[:n])
            records = records[n:]
            cluster.drain()
        for _ in range(4):
            cluster.pass_time(700 * US)
        return cluster.view()
    finally:
        cluster.close()


def blocks(state: Path) -> list[Believed]:
    with closing(connect(state, write=False)) as db:
        return [decode_believed(block.body) for block in blocks_after(db, 0, 1_000_000)]


def counted(found: list[Believed]) -> dict[int, dict[str, list[int]]]:
    """Totals by minute, as the sink counts them."""
    held: dict[int, Minute] = {}
    last: dict[str, Last] = {}
    for block in found:
        for start_us in minutes_in(block):
            held.setdefault(start_us, Minute(start_us))
        take(block, held, last)
    return {start_us: dict(sorted(minute.rows.items())) for start_us, minute in sorted(held.items()) if minute.rows}


def told(found: list[Believed]) -> dict[tuple[str, int], tuple[int, int, int]]:
    """The last word on each sample."""
    return {
        (block.subjects[of], t_us): rest
        for block in found
        for of, t_us, *rest in zip(
            block.subject_of.tolist(), block.t_us.tolist(), block.lat.tolist(), block.hr_bpm.tolist(), block.dist_um.tolist(), strict=True
        )
    }  # fmt: skip


@pytest.mark.parametrize("seed", [None, 1, 2, 3])
def test_a_cluster_tells_each_sample_once_whatever_is_killed(tmp_path: Path, seed: int | None) -> None:
    records = in_order(5)
    one = blocks(alone(tmp_path / "alone", records))
    many = blocks(together(tmp_path / "together", records, None if seed is None else random.Random(seed)))
    assert told(many) == told(one)
    assert counted(many) == counted(one)
    assert sum(row[0] for minute in counted(one).values() for row in minute.values()) == 1_200


@pytest.mark.parametrize("seed", [11, 12, 13])
def test_late_and_undated_samples_end_in_the_same_totals(tmp_path: Path, seed: int) -> None:
    records = scrambled(seed)
    one = blocks(alone(tmp_path / "alone", records))
    many = blocks(together(tmp_path / "together", records, random.Random(seed)))
    ends = {block.subjects[0]: told([block]) for block in one if block.again}
    for subject, last in ends.items():
        assert {key: value for key, value in told(many).items() if key in last and key[0] == subject} == last


def test_parts_of_a_block_are_the_block_and_none_is_told_twice(tmp_path: Path) -> None:
    for block in blocks(alone(tmp_path / "alone", in_order(6))):
        for one in (block, replace(block, again=True, position=block.position * 0 + 5 * 256)):
            for most in (1, 7, 100):
                parts = parts_of(one, most)
                assert told(parts) == told([one])
                covered, fresh = -1, []
                for part in [*parts, *parts]:
                    new = unseen(part, covered)
                    if len(new):
                        fresh.append(new)
                        covered = int(new.position[-1])
                assert sum(map(len, fresh)) == len(one) or len(parts) > 256
                if not one.again:
                    assert counted(fresh) == counted([one])
