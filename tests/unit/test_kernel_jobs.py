"""Partitions whose frames go through the kernel together end with the bytes of those that are taken one after the other."""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import fields
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pytest

from broker.columns import dtype_of
from broker.frames import Frame
from broker.kafka_topics import BOARD_WORDS
from broker.layouts import layout_named
from processors import kernel_jobs
from processors.kernel_jobs import KernelDone, KernelJob, run_job, run_jobs
from processors.live_row import fresh_row
from processors.run_kernel import Sides
from processors.samples import TakenFrame
from processors.shards import Message
from tests.any_way import T0_US, US, Course, World, world_of
from tests.memory_cluster import MemoryCluster

MOTION = layout_named("motion.1")


class Made(NamedTuple):
    """What a live stage wrote and sent; words of boards come in any order from several partitions."""

    cells: dict[int, dict[bytes, bytes]]
    lanes: dict[tuple[str, int], list[Message]]
    boards: list[tuple[bytes | None, bytes | None]]


def made_of(path: Path, world: World, rng: random.Random, *, together: bool) -> Made:
    """The live stage alone over a world whose frames come nearly in time, cut at random, with checkpoints and silence between."""
    cluster, course = MemoryCluster(path, 5, now_us=T0_US, tells=True), Course(path / "course", 1)
    live = cluster.processes[0]
    try:
        cluster.append([course.reference(ref) for ref in world.refs if ref.entity != "binding"])
        frames = sorted(world.frames, key=lambda f: f[0].t0_us + rng.uniform(0, 60) * US)
        while frames:
            n = rng.choice([10, 40, 200])
            cluster.append([course.frame(*frame) for frame in frames[:n]])
            frames = frames[n:]
            while live.step(rng.choice([1, 2, 7, 1000]), together=together):
                pass
            if rng.random() < 0.3:
                live.checkpoint()
        for _ in range(3):
            cluster.now_us += 700 * US
            while live.step(1000, together=together):
                pass
        live.checkpoint()
        held = cluster.topics.held
        lanes = {at: lane for at, lane in held.items() if at[0] != BOARD_WORDS}
        boards = sorted((m.key, m.value) for (topic, _), lane in held.items() for m in lane if topic == BOARD_WORDS)
        return Made({partition: cells.committed for partition, cells in live.cells.items()}, lanes, boards)
    finally:
        cluster.close()
        course.close()


@pytest.mark.parametrize(("seed", "alone_frames"), [(1, 128), (2, 4), (3, 128)])
def test_partitions_taken_together_end_with_the_bytes_of_each_taken_alone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, seed: int, alone_frames: int
) -> None:
    monkeypatch.setattr(kernel_jobs, "ALONE_FRAMES", alone_frames)
    shared: list[int] = []

    def counted(jobs: Sequence[KernelJob]) -> list[KernelDone]:
        shared.append(len(jobs))
        return run_jobs(jobs)

    monkeypatch.setattr(kernel_jobs, "run_jobs", counted)
    world = world_of(random.Random(seed))
    each = made_of(tmp_path / "each", world, random.Random(seed), together=False)
    assert not shared
    together = made_of(tmp_path / "together", world, random.Random(seed), together=True)
    assert max(shared) > 1
    assert together == each


def test_jobs_together_leave_rows_and_what_is_beside_them_as_each_by_itself() -> None:
    """Athletes with two watches, now and then an hour away: sources prove themselves beside the row, activities end."""
    rng = random.Random(5)
    each, together = ([(np.tile(fresh_row(), (3, 1)), Sides()) for _ in range(4)] for _ in range(2))
    beside = ended = now_s = 0
    for _ in range(120):
        now_s += rng.choice([5, 5, 5, 5, 5, 5, 5, 3600])
        slots = [[rng.randrange(3) for _ in range(rng.choice([1, 2, 5]))] for _ in each]
        frames = [[watched(rng, slot, now_s) for slot in of] for of in slots]
        alone = [run_job(KernelJob(*state, *given)) for state, given in zip(each, zip(slots, frames, strict=True), strict=True)]
        at_once = run_jobs([KernelJob(*state, *given) for state, given in zip(together, zip(slots, frames, strict=True), strict=True)])
        for (samples, ran), (samples_too, ran_too) in zip(alone, at_once, strict=True):
            assert [getattr(samples, f.name).tolist() for f in fields(samples)] == [
                getattr(samples_too, f.name).tolist() for f in fields(samples)
            ]
            assert ran.out.tobytes() == ran_too.out.tobytes()
            assert [(e.row.tobytes(), e.frame, e.slot) for e in ran.closed] == [(e.row.tobytes(), e.frame, e.slot) for e in ran_too.closed]
            ended += len(ran.closed)
        for (rows, sides), (rows_too, sides_too) in zip(each, together, strict=True):
            assert rows.tobytes() == rows_too.tobytes()
            assert {slot: side.tobytes() for slot, side in sides.items()} == {slot: side.tobytes() for slot, side in sides_too.items()}
            beside += len(sides)
    assert beside
    assert ended


def watched(rng: random.Random, athlete: int, now_s: int) -> TakenFrame:
    """Five seconds of one of the two watches of an athlete."""
    rows = np.zeros(5, dtype_of(MOTION.id))
    for of in MOTION.fields:
        rows[of.name] = 0 if of.absent is None else of.absent
    rows["tick_ms"], rows["accuracy_m"], rows["hr_bpm"] = np.arange(5) * 1000, 8, 140
    rows["lat"], rows["lon"] = 510_000_000 + athlete * 1000 + (now_s + np.arange(5)) * 270, 70_000_000
    watch = f"gym/w{athlete}{rng.choice('ab')}"
    frame = Frame(MOTION.id, 1, watch, 7, now_s, now_s * US, 0, 2, f"gym/a{athlete}", rows.tobytes())
    return TakenFrame(watch, "box", frame, b"", T0_US)
