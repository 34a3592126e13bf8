"""Both runners end in the same: the stages of a cluster, cut, killed and started again in any way, against the embedded runner undisturbed.

The cluster is in memory here, its stages are the real ones; on Kafka and with real kills it is `system/test_quix.py`.
"""

from __future__ import annotations

import random
from collections.abc import Sequence
from pathlib import Path

import pytest

from broker.errors import StoreError
from broker.frames import Frame
from broker.reference import Reference
from processors.hot_board import NONE_HOT, HotRule
from processors.row_mirror import MemoryCells, check_version
from tests.any_way import T0_US, US, Course, World, differing, outcome, plain, world_of
from tests.memory_cluster import MemoryCluster

EVERY_BOARD = HotRule(["*"], 3)


def world(seed: int, *, bound: bool = False) -> World:
    """A small world in which every device keeps its athlete, or, `bound`, one of bindings that come, move and go."""
    made = world_of(random.Random(seed))
    if not bound:
        made.refs = [ref for ref in made.refs if ref.entity != "binding"]
    return made


def in_time(of: World) -> list[tuple[Frame, str] | Reference]:
    """Reference data first, then the frames by time."""
    return [*of.refs, *sorted(of.frames, key=lambda f: (f[0].t0_us, f[0].boot, f[0].seq))]


def mixed(of: World, rng: random.Random) -> list[tuple[Frame, str] | Reference]:
    """Frames in time, nearly so or in any order, some again; changes of reference data anywhere between them, or behind them all."""
    frames = [*of.frames, *rng.sample(of.frames, min(20, len(of.frames)))]
    spread_s = rng.choice([0, 60, 100_000])
    frames.sort(key=lambda f: f[0].t0_us + rng.uniform(0, spread_s) * US)
    items: list[tuple[Frame, str] | Reference] = [*frames]
    slots = sorted(rng.randint(0, len(items)) for _ in of.refs) if rng.random() < 0.75 else [len(items)] * len(of.refs)
    for slot, ref in reversed(list(zip(slots, of.refs, strict=True))):
        items.insert(slot, ref)
    return items


def unmerged(seed: int) -> World:
    """A world in which no effort is given to somebody else: events of one before and after that come in no order from two shards."""
    made = world(seed)
    made.refs = [ref for ref in made.refs if ref.entity != "merge"]
    return made


def clustered(
    path: Path, items: Sequence[tuple[Frame, str] | Reference], rng: random.Random | None, hot: HotRule = NONE_HOT,
    *, exactly_once: bool = False,
) -> dict[str, str]:  # fmt: skip
    """What readers of a cluster see at the end."""
    cluster = MemoryCluster(path, rng=rng, now_us=T0_US, hot=hot, exactly_once=exactly_once)
    course = Course(path / "course", 1)  # only makes records
    try:
        records = [course.frame(*item) if isinstance(item, tuple) else course.reference(item) for item in items]
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
    alone, together = plain(tmp_path / "alone", world(seed)), clustered(tmp_path / "together", in_time(world(seed)), None)
    assert alone == together, differing(alone, together)


@pytest.mark.parametrize("seed", range(10, 14))
def test_kills_and_cuts_change_nothing(tmp_path: Path, seed: int) -> None:
    rng, alone = random.Random(seed), plain(tmp_path / "alone", world(seed))
    together = clustered(tmp_path / "together", in_time(world(seed)), rng)
    assert alone == together, differing(alone, together)


def with_bindings(path: Path, seed: int, *, kills: bool, exactly_once: bool = False) -> None:
    """Bindings that are made, corrected and taken back before, among and after the samples they are about move the same samples.

    Also beside a kill: what is done again by what is known now was never told by what was known then.
    """
    rng, of = random.Random(seed), world(seed, bound=True)
    alone = plain(path / f"alone{seed}", world(seed, bound=True))
    together = clustered(path / f"together{seed}", mixed(of, rng), rng if kills else None, exactly_once=exactly_once)
    assert alone == together, f"seed {seed}: {differing(alone, together)}"


@pytest.mark.parametrize("seed", range(102, 106))
def test_bindings_move_samples_of_the_past_between_partitions(tmp_path: Path, seed: int) -> None:
    with_bindings(tmp_path, seed, kills=seed % 2 == 1, exactly_once=seed == 103)


@pytest.mark.nightly
@pytest.mark.parametrize(("kills", "exactly_once"), [(False, False), (True, False), (True, True)])
@pytest.mark.parametrize("first", range(200, 600, 50))
def test_no_binding_ends_otherwise_than_on_one_machine(tmp_path: Path, first: int, kills: bool, exactly_once: bool) -> None:
    for seed in range(first, first + 50):
        with_bindings(tmp_path, seed, kills=kills, exactly_once=exactly_once)


@pytest.mark.parametrize("seed", range(20, 22))
def test_hot_boards_in_shards_end_as_on_one_machine(tmp_path: Path, seed: int) -> None:
    alone = plain(tmp_path / "alone", unmerged(seed))
    together = clustered(tmp_path / "together", in_time(unmerged(seed)), random.Random(seed), EVERY_BOARD)
    assert alone == together, differing(alone, together)


@pytest.mark.nightly
@pytest.mark.parametrize("first", range(100, 400, 50))
def test_no_kill_and_no_cut_changes_anything(tmp_path: Path, first: int) -> None:
    for seed in range(first, first + 50):
        rng, alone = random.Random(seed), plain(tmp_path / f"alone{seed}", world(seed))
        together = clustered(tmp_path / f"together{seed}", in_time(world(seed)), rng)
        assert alone == together, f"seed {seed}: {differing(alone, together)}"
        alone = plain(tmp_path / f"unmerged{seed}", unmerged(seed))
        together = clustered(tmp_path / f"hot{seed}", in_time(unmerged(seed)), random.Random(seed), EVERY_BOARD)
        assert alone == together, f"seed {seed}, hot: {differing(alone, together)}"


def with_small_limits(path: Path, seed: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """Pages of a few subjects and frames, one numbering in the entry of a subject, states forgotten at each checkpoint: what only a large
    site comes to, over and over."""
    rng = random.Random(seed)
    for name, sizes in (
        ("live_pages.MOST_PAGES", (1, 2, 6)),
        ("live_pages.PAGE_BYTES", (1_500, 4_500)),
        ("raw_pages.PAGE_BYTES", (300, 3_000)),
        ("raw_pages.FILE_BYTES", (1_000, 5_000)),
        ("live_cells.INLINE", (1,)),
        ("live_cells.COMMIT_ROWS", (1, 50)),
        ("quix_live.MAX_LOADED", (0, 3, 100_000)),
    ):
        monkeypatch.setattr(f"processors.{name}", rng.choice(sizes))
    alone, together = plain(path / f"alone{seed}", world(seed)), clustered(path / f"together{seed}", in_time(world(seed)), rng)
    assert alone == together, f"seed {seed}: {differing(alone, together)}"


def test_small_limits_change_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with_small_limits(tmp_path, 2014, monkeypatch)


@pytest.mark.nightly
@pytest.mark.parametrize("first", range(3000, 3200, 50))
def test_no_limit_changes_anything(tmp_path: Path, first: int, monkeypatch: pytest.MonkeyPatch) -> None:
    for seed in range(first, first + 50):
        with_small_limits(tmp_path, seed, monkeypatch)


def test_state_of_another_version_is_refused_with_its_cure() -> None:
    cells = MemoryCells()
    check_version(cells, "live", 4)
    check_version(cells, "live", 4)
    with pytest.raises(StoreError, match=r"stage live: state of version 4, this program writes 5") as refused:
        check_version(cells, "live", 5)
    assert "paceline-live" in refused.value.cure
