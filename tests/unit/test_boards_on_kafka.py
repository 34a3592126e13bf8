"""Boards whose state is cells and pages: cut, killed, closed and opened again in any way, they end as on one machine."""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import msgpack
import pytest

from broker.errors import StoreError
from broker.kafka import partition_of
from processors import hot_board, hot_shard, quix_boards
from processors.board_cells import BoardCells
from processors.hot_board import NONE_HOT, HotRule, shard_key, shard_of
from processors.hot_shard import HotShard
from processors.packed_holding import PackedHolding
from processors.packed_pages import PAGE_BYTES, SLOTS
from processors.quix_boards import BoardsOnKafka
from processors.results import Effort, Phase, effort_id
from processors.results_db import effort_row
from processors.row_mirror import MemoryCells, row_key
from processors.stage_words import EffortNow, How, Item, encode_board_word
from tests.any_way import differing
from tests.board_words import NOW_US, BoardsAlone, on_one_machine, shown, words_of


def killed(folder: Path, seed: int, segments: int, count: int, hot: HotRule = NONE_HOT, cold: int = 0) -> None:
    """`cold`: so many words come before the rule of hot boards holds."""
    rng = random.Random(seed)
    words = words_of(rng, 14, count, [f"s{n}" for n in range(segments)])
    alone = shown(on_one_machine(folder / f"alone{seed}", words))
    boards = BoardsAlone(BoardsOnKafka if cold else lambda: BoardsOnKafka(hot))
    while words:
        if cold and len(words) <= count - cold:
            boards.process.make = lambda: BoardsOnKafka(hot)
            boards.process.checkpoint()
            boards.process.kill()
        n = rng.choice([1, 20, 60])
        boards.say(words[:n])
        words = words[n:]
        boards.drain(rng)
    together = shown(boards.view(folder / f"together{seed}"))
    assert alone == together, f"seed {seed}: {differing(alone, together)}"
    anew = shown(boards.view(folder / f"anew{seed}", rng))
    assert alone == anew, f"seed {seed}, read in another order: {differing(alone, anew)}"


@pytest.mark.parametrize("seed", range(2))
def test_boards_in_pages_end_as_on_one_machine(tmp_path: Path, seed: int) -> None:
    killed(tmp_path, seed, 2, 200)


def test_boards_closed_for_want_of_room_come_back_as_they_were(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(quix_boards, "MOST_BOARDS", 2)
    killed(tmp_path, 7, 9, 200)


@pytest.mark.parametrize("seed", range(20, 22))
def test_a_hot_board_in_shards_ends_as_on_one_machine(tmp_path: Path, seed: int) -> None:
    killed(tmp_path, seed, 2, 200, HotRule(["gym/s0"], 1 + seed % 4))


@pytest.mark.parametrize("seed", range(30, 32))
def test_a_board_that_becomes_hot_ends_as_on_one_machine(tmp_path: Path, seed: int) -> None:
    killed(tmp_path, seed, 1, 200, HotRule(["*"], 3), cold=100)


def test_shards_closed_for_want_of_room_come_back_as_they_were(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(quix_boards, "MOST_SHARDS", 1)
    killed(tmp_path, 23, 2, 200, HotRule(["*"], 3), cold=60)


def heard_in_turns(folder: Path, words: Sequence[EffortNow], cold: int) -> None:
    """A board becomes hot after some words, and its shards, each in a partition of its own, are heard one after the other: each until
    nothing is left."""
    alone = shown(on_one_machine(folder / "undisturbed", words))
    boards = BoardsAlone(BoardsOnKafka, 16)
    boards.say(words[:cold])
    boards.drain()
    boards.process.make = lambda: BoardsOnKafka(HotRule(["*"], 4))
    boards.process.kill()
    boards.say(words[cold:])
    own, *parts = (partition_of(key, 16) for key in [b"gym/s0", *(shard_key("gym", "s0", shard) for shard in range(4))])
    assert len({own, *parts}) == 5
    process = boards.process
    every = process.shards
    for part in (own, *parts):
        for only in (part, own):
            process.shards = {only: every[only]}
            while process.step(100):
                pass
    process.shards = every
    boards.drain()
    together = shown(boards.view(folder / "turns"))
    assert alone == together, differing(alone, together)


def test_who_comes_in_for_one_of_another_shard_is_awarded_though_nothing_moved_in_the_own_shard(tmp_path: Path) -> None:
    """Ten of the first shard, and one of the last who was the eleventh until one of those was found to be none."""
    athletes = [f"gym/a{n}" for n in range(200)]
    first = [name for name in athletes if shard_of(name, 4) == 0][:10]
    last = next(name for name in athletes if shard_of(name, 4) == 3)
    efforts = [replace(effort(n), id=effort_id("w", "s0", n), segment="s0", subject=name) for n, name in enumerate([*first, last])]
    words = [EffortNow(e, NOW_US) for e in [*efforts, replace(efforts[4], removed=True)]]
    heard_in_turns(tmp_path, words, len(efforts))


def test_an_effort_that_is_none_leaves_the_others_of_its_record() -> None:
    cells, good = MemoryCells(), [encode_board_word(EffortNow(effort(n), NOW_US)) for n in range(2)]
    shard = HotShard(cells, BoardCells(cells), "gym", "hill", 0)
    items = [Item(How.TAKE, 1, good[0]), Item(How.TAKE, 2, b"\x93\x04no"), Item(How.TAKE, 3, good[1])]
    (front,) = shard.take(items, "stage.boards[0] 7")
    assert [placed.version for placed in front.moved] == [1, 3]
    assert len(shard.board()) == 2


def test_what_a_shard_tells_is_cut_into_words_of_bounded_size(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(hot_shard, "MOST_OF_FRONT", 4)
    cells = MemoryCells()
    shard = HotShard(cells, BoardCells(cells), "gym", "hill", 0)
    items = [Item(How.TAKE, n + 1, encode_board_word(EffortNow(effort(n), NOW_US))) for n in range(5)]
    told = shard.take(items, "stage.boards[0] 7")
    assert [[placed.version for placed in front.moved] for front in told] == [[1, 2], [3, 4], [5]]


def test_more_boards_than_names_that_are_known_at_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(hot_board, "MOST_KNOWN", 2)
    killed(tmp_path, 8, 9, 200, HotRule(["gym/s0"], 2))


@pytest.mark.nightly
@pytest.mark.timeout(3_600)
def test_no_cut_and_no_kill_changes_a_board(tmp_path: Path) -> None:
    for seed in range(100, 250):
        heard_in_turns(tmp_path / f"{seed}", words_of(random.Random(seed), 60, 400, ["s0"]), 200)
        killed(tmp_path, seed, 1 + seed % 4, 400)
        killed(tmp_path, seed + 1_000, 1 + seed % 2, 400, HotRule(["*"], 1 + seed % 5))
        killed(tmp_path, seed + 2_000, 1 + seed % 2, 400, HotRule(["gym/s0"], 1 + seed % 5), cold=50 * (seed % 6) + 50)


def effort(number: int, version: int = 1) -> Effort:
    return Effort(effort_id("w", "hill", number), "gym", "hill", f"gym/a{number}", "w", number, NOW_US + number, 60_000 + number,
                  Phase.FINAL, 100, None, None, (), version)  # fmt: skip


def paged(cells: MemoryCells) -> dict[bytes, bytes]:
    return {key: value for key, value in cells.held.items() if key.startswith(b"p")}


def opened(cells: MemoryCells) -> tuple[BoardCells, PackedHolding]:
    held = BoardCells(cells)
    holding = PackedHolding({}, held.effort)
    held.efforts_of("gym", "hill").fill(holding)
    return held, holding


def put(held: BoardCells, holding: PackedHolding, e: Effort) -> None:
    holding.take(e)
    held.put_effort(e)


def test_a_checkpoint_writes_only_pages_that_changed() -> None:
    cells = MemoryCells()
    held, holding = opened(cells)
    for n in range(3 * SLOTS + 1):
        put(held, holding, effort(n))
    held.flush()
    assert held.pages_written == len(paged(cells)) == 4
    assert {len(page) for page in paged(cells).values()} == {PAGE_BYTES, PAGE_BYTES // SLOTS}
    before = paged(cells)
    put(held, holding, replace(effort(SLOTS), elapsed_ms=1_000, version=2))
    put(held, holding, effort(3 * SLOTS + 1))
    held.flush()
    assert sum(before[key] != page for key, page in paged(cells).items()) == 2
    assert held.pages_written == 6
    held.flush()
    assert held.pages_written == 6


def test_a_board_opens_from_its_pages_without_reading_an_effort() -> None:
    cells = MemoryCells()
    held, holding = opened(cells)
    for n in range(200):
        put(held, holding, effort(n))
    held.flush()
    for key in [key for key in cells.held if key.startswith(b"t")]:
        del cells.held[key]
    _, again = opened(cells)
    assert again.packed.encoded() == holding.packed.encoded()
    assert again.packed.pages.rank(60_100) == 101


def test_state_of_rows_alone_gets_its_pages() -> None:
    cells = MemoryCells()
    for n in range(100):
        cells.put(row_key("effort", [effort(n).id]), msgpack.packb(effort_row(effort(n, n))))
    _, holding = opened(cells)
    assert holding.packed.used == 100
    assert len(paged(cells)) == -(-100 // SLOTS)
    assert holding.packed.pages.rank(60_050) == 51


def test_pages_that_are_not_a_board_are_refused_with_the_cure() -> None:
    cells = MemoryCells()
    held, holding = opened(cells)
    for n in range(2 * SLOTS):
        put(held, holding, effort(n))
    held.flush()
    del cells.held[min(paged(cells))]
    cells.put(min(paged(cells)), b"x" * 47)
    with pytest.raises(StoreError, match="board gym/hill: 1 pages of 47 bytes") as refused:
        opened(cells)
    assert "paceline-boards" in refused.value.cure
