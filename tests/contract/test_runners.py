"""Both runners end in the same: the stages of a cluster, cut, killed and started again in any way, against the embedded runner undisturbed.

The cluster is in memory here, its stages are the real ones; on Kafka and with real kills it is `system/test_quix.py`.
"""

from __future__ import annotations

import random
from pathlib import Path

import pytest

from broker.errors import StoreError
from processors.row_mirror import MemoryCells, check_version
from tests.any_way import T0_US, US, Course, World, differing, outcome, plain, world_of
from tests.memory_cluster import MemoryCluster


def world(seed: int) -> World:
    """A small world in which every device keeps its athlete."""
    made = world_of(random.Random(seed))
    made.refs = [ref for ref in made.refs if ref.entity != "binding"]
    return made


def clustered(path: Path, of: World, rng: random.Random | None) -> dict[str, str]:
    """What readers of a cluster see at the end."""
    cluster = MemoryCluster(path, rng=rng, now_us=T0_US)
    course = Course(path / "course", 1)  # only makes records
    try:
        frames = sorted(of.frames, key=lambda f: (f[0].t0_us, f[0].boot, f[0].seq))
        cluster.append([course.reference(value) for value in of.refs])
        records = [course.frame(f, node) for f, node in frames]
        while records:
            n = len(records) if rng is None else rng.choice([1, 10, 40])
            cluster.append(records[:n])
            records = records[n:]
            cluster.drain()
            if rng is not None and rng.random() < 0.1:
                cluster.pass_time(5 * US)
        for _ in range(4):
            cluster.pass_time(700 * US)
        return outcome(cluster.view(), cluster.blobs)
    finally:
        cluster.close()
        course.close()


@pytest.mark.parametrize("seed", range(2))
def test_a_cluster_ends_as_one_machine_does(tmp_path: Path, seed: int) -> None:
    alone, together = plain(tmp_path / "alone", world(seed)), clustered(tmp_path / "together", world(seed), None)
    assert alone == together, differing(alone, together)


@pytest.mark.parametrize("seed", range(10, 14))
def test_kills_and_cuts_change_nothing(tmp_path: Path, seed: int) -> None:
    alone, together = plain(tmp_path / "alone", world(seed)), clustered(tmp_path / "together", world(seed), random.Random(seed))
    assert alone == together, differing(alone, together)


@pytest.mark.nightly
@pytest.mark.parametrize("first", range(100, 400, 50))
def test_no_kill_and_no_cut_changes_anything(tmp_path: Path, first: int) -> None:
    for seed in range(first, first + 50):
        alone = plain(tmp_path / f"alone{seed}", world(seed))
        together = clustered(tmp_path / f"together{seed}", world(seed), random.Random(seed))
        assert alone == together, f"seed {seed}: {differing(alone, together)}"


def test_state_of_another_version_is_refused_with_its_cure() -> None:
    cells = MemoryCells()
    check_version(cells, "live", 4)
    check_version(cells, "live", 4)
    with pytest.raises(StoreError, match=r"stage live: state of version 4, this program writes 5") as refused:
        check_version(cells, "live", 5)
    assert "paceline-live" in refused.value.cure
