"""The kit's outbox: every row stored or refused once, never more than the window under way, one probe a back-off, live before backlog."""

from __future__ import annotations

import itertools
import random
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
from fakes.flash import Nor
from hypothesis import given, settings
from hypothesis import strategies as st
from kit.outbox import IDLE_MS, Outbox
from kit.ring import Ring
from kit.ring_files import FileRing

from broker.acks import Ack, Refusal, encode_ack, to_ranges
from broker.bundles import Bundle, decode_bundle

RETRY_MS = 3000


@dataclass
class World:
    """An outbox on a small flash, a link that can be off or full, and a clock."""

    nor: Nor = field(default_factory=lambda: Nor(6, 1024))
    folder: Path | None = None  # the ring in files, not on flash
    window: int = 8
    now_ms: int = 0
    up: bool = False
    room: int = 1000  # messages the link still takes
    sent: list[Bundle] = field(default_factory=list)
    refusals: list[tuple[int, int, str]] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.epochs = itertools.count(1 << 63)
        self.made: dict[tuple[int, int], bytes] = {}
        self.tag = 0
        self.ring: Any = None
        self.restart()

    def restart(self) -> None:
        """The device starts again on the same flash."""
        if self.folder is None:
            self.ring = Ring(self.nor, lambda: next(self.epochs), False, 64)
        else:
            if self.ring is not None:
                self.ring.flush()
            self.ring = FileRing(str(self.folder), lambda: next(self.epochs), False, 64, 32, 4)
        self.outbox = Outbox(
            self.ring,
            self.take,
            random.Random(1).randrange,
            window=self.window,
            bundle_bytes=256,
            bundle_rows=4,
            retry_ms=RETRY_MS,
            on_refused=lambda *words: self.refusals.append(words),
        )
        self.up = False

    def take(self, message: memoryview) -> bool:
        assert self.up
        if self.room <= 0:
            return False
        self.room -= 1
        bundle = decode_bundle(bytes(message))
        assert isinstance(bundle, Bundle)
        assert bundle.complete
        for n, row in enumerate(bundle.rows, bundle.first_n):
            assert self.made[bundle.epoch, n] == row
        self.sent.append(bundle)
        return True

    def append(self, count: int = 1) -> None:
        for _ in range(count):
            n = self.ring.next_n
            row = b"row %d" % self.tag + bytes(self.tag % 30)
            self.tag += 1
            if self.outbox.append(row):
                self.made[self.ring.epoch, self.ring.next_n - 1] = row
            else:
                assert n == self.ring.next_n

    def link(self, *, up: bool) -> None:
        self.up = up
        self.outbox.link(up, self.now_ms)

    def step(self, ms: int = 0) -> list[list[int]]:
        """Let time pass and step; the rows of each bundle that left."""
        self.now_ms += ms
        before = len(self.sent)
        self.outbox.step(self.now_ms)
        return [list(range(b.first_n, b.first_n + b.count)) for b in self.sent[before:]]

    def ack(self, *rows: int, refused: tuple[Refusal, ...] = ()) -> int:
        return self.outbox.ack(encode_ack(Ack(self.ring.epoch, to_ranges(rows), refused)))

    @property
    def owed(self) -> int:
        return self.ring.owed


def up(count: int, **changes: object) -> World:
    """A world whose link is up, with `count` rows that came before."""
    world = World(**changes)
    world.append(count)
    world.link(up=True)
    return world


def test_rows_go_in_bundles_up_to_the_window() -> None:
    world = up(20)
    assert world.step() == [[0, 1, 2, 3], [4, 5, 6, 7]]
    assert world.step() == []


def test_an_ack_frees_rows_and_lets_the_next_go() -> None:
    world = up(20)
    world.step()
    assert world.ack(0, 1, 2, 3) == 4
    assert world.step() == [[8, 9, 10, 11]]
    assert world.owed == 16


def test_live_rows_go_before_older_ones() -> None:
    world = up(30)
    world.step()
    world.append(2)
    world.ack(0, 1, 2, 3)
    assert world.step() == [[30, 31], [8, 9]]
    world.ack(*range(8, 10), *range(4, 8), 30, 31)
    assert world.step() == [[10, 11, 12, 13], [14, 15, 16, 17]]


def test_rows_of_the_backlog_reach_the_live_ones_and_nothing_goes_twice() -> None:
    world = up(10)
    for _ in range(40):
        world.append()
        for rows in world.step():
            world.ack(*rows)
    for _ in range(10):
        for rows in world.step():
            world.ack(*rows)
    sent = [n for b in world.sent for n in range(b.first_n, b.first_n + b.count)]
    assert sorted(sent) == list(range(50))
    assert world.owed == 0
    assert world.outbox.step(world.now_ms) == IDLE_MS


def test_a_row_without_an_answer_goes_again_while_others_are_answered() -> None:
    world = up(4)
    world.step()
    world.ack(0, 1, 3)
    assert world.step(RETRY_MS - 1) == []
    assert world.step(1) == [[2]]
    assert world.outbox.resent_rows == 1


def test_silence_brings_one_probe_a_back_off_that_doubles() -> None:
    world = up(20)
    world.step()
    waits, last = [], world.now_ms
    for _ in range(200_000 // 100):
        if world.step(100):
            waits.append(world.now_ms - last)
            last = world.now_ms
    assert [b.first_n for b in world.sent[2:]] == [0] * len(waits)
    for wait, want in zip(waits, [RETRY_MS, 3000, 6000, 12000, 24000, 30000, 30000], strict=False):
        assert 0.9 * want - 100 <= wait <= 1.1 * want + 100
    assert world.outbox.probes == len(waits) < 12


def test_the_first_ack_after_silence_ends_the_probing() -> None:
    world = up(20)
    world.step()
    world.step(10 * RETRY_MS)
    world.ack(0, 1, 2, 3)
    sent = [n for rows in world.step() for n in rows]
    assert sent == list(range(4, 12))


def test_a_refused_row_is_freed_counted_and_shown() -> None:
    world = up(4)
    world.step()
    assert world.ack(0, 1, refused=(Refusal(2, 3, "future_time"),)) == 4
    assert world.refusals == [(2, 3, "future_time")]
    assert (world.outbox.stored, world.outbox.refused, world.outbox.reasons) == (2, 2, {"future_time": 2})
    world.ack(refused=(Refusal(2, 3, "future_time"),))
    assert world.outbox.refused == 2
    assert len(world.refusals) == 1
    assert world.owed == 0


def test_acks_of_another_epoch_and_bytes_that_are_none_free_nothing() -> None:
    world = up(4)
    world.step()
    assert world.outbox.ack(encode_ack(Ack(7, ((0, 3),)))) == 0
    assert world.outbox.ack(b"\xc1") == 0
    assert world.outbox.bad_acks == 1
    assert world.owed == 4
    assert world.step(RETRY_MS)  # a stranger's ack is no answer


def test_an_ack_of_rows_that_were_never_sent_frees_none_of_them() -> None:
    world = up(4)
    world.step()
    world.append(3)  # 4, 5, 6: nobody has seen them
    everything = encode_ack(Ack(world.ring.epoch, ((0, (1 << 48) - 1),)))
    assert world.outbox.ack(encode_ack(Ack(world.ring.epoch, ((5, 6),)))) == 0
    assert world.outbox.ack(everything) == 4
    assert world.owed == 3
    assert world.step() == [[4, 5, 6]]
    assert world.outbox.ack(everything) == 3


def test_rows_that_an_earlier_start_may_have_sent_are_freed_by_a_late_ack() -> None:
    world = up(4)
    world.step()
    world.restart()
    world.append()
    assert world.outbox.ack(encode_ack(Ack(world.ring.epoch, ((0, 4),)))) == 4
    assert world.owed == 1


def test_what_was_under_way_goes_again_on_the_next_link() -> None:
    world = up(6)
    world.step()
    world.link(up=False)
    assert world.step(60_000) == []
    world.link(up=True)
    assert world.step() == [[0, 1, 2, 3]]  # half of the window: that link broke before an answer
    world.ack(0, 1, 2, 3)
    assert world.step() == [[4, 5]]


def test_links_that_break_before_an_answer_are_sent_less_until_one_comes() -> None:
    world = up(40)
    firsts = []
    for _ in range(5):
        firsts.append(world.step())
        world.link(up=False)
        world.link(up=True)
    assert firsts == [[[0, 1, 2, 3], [4, 5, 6, 7]], [[0, 1, 2, 3]], [[0, 1]], [[0]], [[0]]]
    assert world.step() == [[0]]
    world.ack(0)
    assert world.step() == [[1, 2]]
    world.ack(1, 2)
    assert world.step() == [[3, 4, 5, 6]]
    world.link(up=False)
    world.link(up=True)
    assert world.step() == [[3, 4, 5, 6]]  # that link had answered


def test_a_link_without_room_costs_nothing() -> None:
    world = up(6, room=1)
    assert world.step() == [[0, 1, 2, 3]]
    world.room = 10
    assert world.step() == [[4, 5]]


def test_rows_of_an_earlier_epoch_go_with_it_and_are_freed_by_it() -> None:
    world = World()
    world.append(60)
    first, newest = world.ring.epoch, world.ring.sector_bytes * world.ring._k
    assert newest  # not the first sector
    world.nor.image[newest + 5] ^= 1  # it cannot be read any more, so its numbers are not used again
    world.restart()
    world.append(3)
    world.link(up=True)
    for _ in range(20):
        world.step()
        for bundle in world.sent:
            world.outbox.ack(encode_ack(Ack(bundle.epoch, ((bundle.first_n, bundle.first_n + bundle.count - 1),))))
    assert {b.epoch for b in world.sent} == {first, world.ring.epoch}
    assert first != world.ring.epoch
    assert world.owed == 0


def test_a_row_that_rots_costs_only_itself() -> None:
    world = up(6)
    world.nor.image[bytes(world.nor.image).index(b"row 2")] ^= 8
    for _ in range(4):
        for rows in world.step(1000):
            world.ack(*rows)
    sent = {n for b in world.sent for n in range(b.first_n, b.first_n + b.count)}
    assert sent == {0, 1, 3, 4, 5}
    assert (world.owed, world.ring.damaged) == (0, 1)


def test_a_full_ring_counts_what_it_does_not_take() -> None:
    world = World()
    world.append(500)
    assert world.outbox.taken == world.owed
    assert world.outbox.taken + world.outbox.lost == 500


@pytest.mark.parametrize(("bundle_bytes", "bundle_rows"), [(80, 4), (256, 0), (256, 9)])
def test_settings_that_cannot_work_are_refused(bundle_bytes: int, bundle_rows: int) -> None:
    ring = Ring(Nor(2, 256), lambda: 1, False, 64)
    with pytest.raises(ValueError, match="bundle_bytes"):
        Outbox(ring, lambda message: True, lambda limit: 0, window=8, bundle_bytes=bundle_bytes, bundle_rows=bundle_rows)


@settings(max_examples=150, deadline=None)
@given(st.integers(0, 1 << 30))
def test_whatever_the_link_does_every_row_arrives(seed: int) -> None:
    """Messages and acks lost, in any order and twice; links that go; restarts: at the end all rows were delivered, and the ring is empty."""
    disturbed(World(room=1 << 30), random.Random(seed))


@settings(max_examples=60, deadline=None)
@given(st.integers(0, 1 << 30))
def test_whatever_the_link_does_every_row_in_files_arrives(tmp_path_factory: pytest.TempPathFactory, seed: int) -> None:
    disturbed(World(room=1 << 30, folder=tmp_path_factory.mktemp("ring")), random.Random(seed))


def disturbed(world: World, dice: random.Random) -> None:
    stored: set[tuple[int, int]] = set()
    acks: list[bytes] = []
    seen = 0
    for _ in range(dice.randint(20, 120)):
        action = dice.random()
        if action < 0.35:
            world.append(dice.randint(1, 5))
        elif action < 0.45:
            world.link(up=not world.up)
        elif action < 0.48:
            world.restart()
        elif acks and action < 0.7:
            world.outbox.ack(dice.choice(acks) if dice.random() < 0.2 else acks.pop(dice.randrange(len(acks))))
        elif acks and action < 0.75:
            acks.clear()
        world.step(dice.choice((0, 10, 500, RETRY_MS, 40_000)))
        assert len(world.outbox._flight) <= world.window
        for bundle in world.sent[seen:]:
            if dice.random() < 0.8:
                rows = range(bundle.first_n, bundle.first_n + bundle.count)
                stored.update((bundle.epoch, n) for n in rows)
                acks.append(encode_ack(Ack(bundle.epoch, to_ranges(rows))))
        seen = len(world.sent)
    world.link(up=True)
    for _ in range(400):
        world.step(dice.choice((0, 1000, RETRY_MS)))
        for bundle in world.sent[seen:]:
            rows = range(bundle.first_n, bundle.first_n + bundle.count)
            stored.update((bundle.epoch, n) for n in rows)
            world.outbox.ack(encode_ack(Ack(bundle.epoch, to_ranges(rows))))
        seen = len(world.sent)
        if not world.owed:
            break
    assert world.owed == 0
    assert stored == world.made.keys()
