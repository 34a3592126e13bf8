"""Whatever happens on the way, the end is the same: frames in any order, cut and repetition, late and undated; uploads; bindings, segments
and athletes changed anywhere between; the runner killed and its memory dropped at any point; the log replayed."""

from __future__ import annotations

import random
from pathlib import Path

import pytest

from processors import runner as runner_module
from tests.any_way import Killed, any_way, differing, plain, replayed, world_of


def check(path: Path, seed: int, monkeypatch: pytest.MonkeyPatch) -> None:
    world = world_of(random.Random(seed))
    want = plain(path / "plain", world)
    rng = random.Random(seed * 7919 + 1)
    kills = rng.choice([0.0, 0.0, 0.1])

    def maybe_kill(point: str) -> None:
        if rng.random() < kills and point.startswith("runner."):
            raise Killed(point)

    with monkeypatch.context() as patch:
        patch.setattr(runner_module, "hit", maybe_kill)
        patch.setattr(runner_module, "MAX_LOADED", rng.choice([0, 2, 100_000]))
        got = any_way(path / "other", world, rng)
    assert got == want, f"seed {seed}:\n{differing(want, got)}"
    assert replayed(path / "other", rng.choice([1, 40, 4096])) == want, f"seed {seed}, replayed"


@pytest.mark.parametrize(("first", "worlds"), [(0, 12), pytest.param(1000, 400, marks=[pytest.mark.nightly, pytest.mark.timeout(1800)])])
def test_any_way_ends_in_the_same(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, first: int, worlds: int) -> None:
    for seed in range(first, first + worlds):
        check(tmp_path / str(seed), seed, monkeypatch)
