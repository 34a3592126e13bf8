"""kill -9 of a process that appends: what an append returned is there, once, unchanged, under its number; counts agree with rows."""

from __future__ import annotations

import os
import random
import subprocess
import sys
import time
from pathlib import Path

import pytest

from gateway.spool import Spool, SpoolSettings

CHILD = Path(__file__).with_name("spool_child.py")
ROOT = Path(__file__).parents[2]
POINTS = ["spool.before_commit", "spool.after_commit", "spool.before_free"]


def run_until_killed(path: Path, seed: int, *, point: str | None = None, after_s: float = 0.0) -> list[str]:
    """The whole lines the child said before it died."""
    env = {**os.environ, "PYTHONPATH": str(ROOT)}
    if point:
        env["PACELINE_KILL_AT"] = point
    out = path.with_suffix(".out")
    with out.open("wb") as stdout:
        child = subprocess.Popen([sys.executable, str(CHILD), str(path), str(seed)], stdout=stdout, env=env)
        if not point:
            deadline = time.monotonic() + 60
            while not out.read_bytes() and time.monotonic() < deadline:
                time.sleep(0.005)
            time.sleep(after_s)
            child.kill()
        assert child.wait(timeout=60) == -9
    text = out.read_text()
    return text[: text.rfind("\n") + 1].splitlines()


class Witness:
    """Everything the children said, over all their lives."""

    def __init__(self) -> None:
        self.rows: dict[int, str] = {}
        self.freed: set[int] = set()
        self.epochs: set[str] = set()

    def hear(self, lines: list[str]) -> None:
        for line in lines:
            word, *rest = line.split(" ")
            if word == "open":
                self.epochs.add(rest[0])
            elif word == "free":
                self.freed.update(range(int(rest[0]), int(rest[1]) + 1))
            else:
                n = int(rest[0])
                assert n not in self.rows, f"{n} was given twice"
                self.rows[n] = rest[1]

    async def compare(self, path: Path) -> None:
        spool = await Spool.open(path, SpoolSettings())
        assert {str(spool.epoch)} == self.epochs
        owed = spool.read(0, 1_000_000, 1_000_000_000)
        numbers = [n for n, _ in owed]
        assert numbers == sorted(set(numbers)) == [n for a, b in spool.ranges() for n in range(a, b + 1)]
        there = {n: frame.hex() for n, frame in owed}
        assert not [n for n in self.rows if n not in there and n not in self.freed], "acknowledged rows are lost"
        assert not [n for n, frame in there.items() if self.rows.get(n, frame) != frame], "a number stands for other bytes"
        assert len(set(there.values())) == len(there), "a row is there twice"
        stats = spool.stats()
        assert sum(d.taken for d in stats.devices) - sum(d.stored + d.refused for d in stats.devices) == len(owed) == stats.rows
        assert (stats.corrupt, stats.dropped, stats.rejected) == (0, 0, 0)
        await spool.close()


async def kill_often(path: Path, seed: int, kills: list[tuple[str | None, float]]) -> int:
    witness = Witness()
    for life, (point, after_s) in enumerate(kills):
        witness.hear(run_until_killed(path, seed * 1_000 + life, point=point, after_s=after_s))
        await witness.compare(path)
    return len(witness.rows)


@pytest.mark.parametrize("point", POINTS)
async def test_killed_at_each_point_nothing_is_lost(tmp_path, point):
    assert await kill_often(tmp_path / "spool.db", 1, [(f"{point}:{count}", 0.0) for count in (1, 7, 40)]) > 50


async def test_killed_at_random_nothing_is_lost(tmp_path):
    rng = random.Random(5)
    assert await kill_often(tmp_path / "spool.db", 2, [(None, rng.uniform(0.0, 0.5)) for _ in range(6)]) > 100


@pytest.mark.nightly
@pytest.mark.parametrize("seed", range(10))
async def test_killed_fifty_times_nothing_is_lost(tmp_path, seed):
    rng = random.Random(seed)
    kills = [(f"{rng.choice(POINTS)}:{rng.randint(1, 200)}" if rng.random() < 0.5 else None, rng.uniform(0.0, 1.0)) for _ in range(50)]
    assert await kill_often(tmp_path / "spool.db", seed, kills) > 1_000
