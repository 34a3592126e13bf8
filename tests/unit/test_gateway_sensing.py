"""Sensing: samples of sensors become numbered frames in the spool, bounded, in order, and none is stored twice."""

from __future__ import annotations

import asyncio
import contextlib

import pytest

from broker.errors import BadInputError
from broker.frames import decode_frame
from broker.layouts import all_layouts
from broker.nodeconfig import Binding, NodeConfig
from device_profiles.samples import Sample
from gateway import sensing
from gateway.clock import EARLIEST_UTC_US, Instant
from gateway.intake import Intake
from gateway.sensing import Sensing
from gateway.spool import Spool, SpoolFullError, SpoolSettings

UTC_US = EARLIEST_UTC_US + 10**9


class Box:
    """A spool and a clock that stands still until it is moved."""

    def __init__(self, spool: Spool, config: NodeConfig) -> None:
        self.spool, self.config = spool, config
        self.mono_us = 10**9
        self.boots = iter(range(1, 10_000))
        self.intake = Intake(spool, "gym", lambda: self.config)
        self.sensing = Sensing(
            self.intake, frame_ms=lambda: self.config.frame_ms, random_boot=lambda: next(self.boots), clock=self.now, capacity=3
        )

    def now(self) -> Instant:
        return Instant(self.mono_us, UTC_US + self.mono_us)

    def beat(self, device: str, bpm: int, *, age_us: int = 0, rr_ms: int | None = None) -> None:
        values = {"hr_bpm": bpm} | ({} if rr_ms is None else {"rr_ms": rr_ms})
        self.sensing.take(device, [Sample("beats.1", age_us, values)], self.mono_us)

    def stored(self):
        return [decode_frame(raw) for _, raw in self.spool.read(0, 1000, 10**6)]


@pytest.fixture
async def box(tmp_path):
    spool = await Spool.open(tmp_path / "spool.db", SpoolSettings())
    bound = (Binding(device="ble-aabbccddeeff", athlete="ann"),)
    try:
        yield Box(spool, NodeConfig(version=1, bindings=bound))
    finally:
        await spool.close()


@contextlib.asynccontextmanager
async def running(box: Box):
    task = asyncio.create_task(box.sensing.run())
    await asyncio.sleep(0)
    try:
        yield
    finally:
        task.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await task


async def until(condition) -> None:
    async with asyncio.timeout(60):
        while not condition():
            await asyncio.sleep(0.01)


def bpms(frame) -> list[float | None]:
    return [row["hr_bpm"] for row in all_layouts()[frame.layout].unpack(frame.records)]


async def test_samples_of_a_bound_strap_are_stored_dated_stamped_and_numbered_by_the_node(box):
    async with running(box):
        for bpm in (100, 101):
            box.beat("ble-aabbccddeeff", bpm)
            box.mono_us += 100_000
        await until(box.stored)
    (frame,) = box.stored()
    assert (frame.subject, frame.device, frame.seq, frame.boot, frame.self_numbered) == ("gym/ann", "ble-aabbccddeeff", 0, 1, False)
    assert (frame.utc_offset_us, bpms(frame)) == (UTC_US, [100, 101])


async def test_what_is_open_when_the_gateway_ends_is_stored_once(box):
    async with running(box):
        await until(lambda: box.sensing._waiting == [])
        box.beat("ble-000000000001", 90)
        box.beat("ble-000000000002", 91)
    assert sorted(bpms(frame)[0] for frame in box.stored()) == [90, 91]


async def test_numbers_go_on_after_a_loss_and_no_sample_is_in_two_frames(box):
    async with running(box):
        for bpm in range(60, 90):
            box.beat("ble-000000000001", bpm)
            box.mono_us += 130_000
            if bpm % 7 == 0:
                box.sensing.lost("ble-000000000001")
            await asyncio.sleep(0.01)
    frames = box.stored()
    assert [frame.seq for frame in frames] == list(range(len(frames)))
    assert {frame.boot for frame in frames} == {1}
    assert [bpm for frame in frames for bpm in bpms(frame)] == list(range(60, 90))


async def test_beats_older_than_their_packet_keep_their_own_instant(box):
    box.sensing.take("ble-000000000001", [Sample("beats.1", 900_000, {"rr_ms": 800}), Sample("beats.1", 0, {"rr_ms": 900})], box.mono_us)
    async with running(box):
        pass
    instants = [f.t0_us + row["tick_ms"] * 1000 for f in box.stored() for row in all_layouts()[f.layout].unpack(f.records)]
    assert instants == [box.mono_us - 900_000, box.mono_us]


async def test_sample_the_layout_does_not_know_is_counted_and_the_others_stay(box):
    good, wrong = Sample("beats.1", 0, {"hr_bpm": 77}), Sample("beats.1", 0, {"pulse": 77})
    box.sensing.take("ble-000000000001", [wrong, good, Sample("none.1", 0, {"hr_bpm": 1})], box.mono_us)
    async with running(box):
        pass
    assert [bpms(frame) for frame in box.stored()] == [[77]]
    assert (box.sensing.counters.bad, box.sensing.counters.samples) == (2, 1)


async def test_device_that_is_not_an_id_is_an_error_of_the_source(box):
    with pytest.raises(BadInputError):
        box.beat("No Id", 60)


async def test_device_beyond_capacity_ends_the_numbering_of_the_one_heard_longest_ago(box):
    for i in (1, 2, 3, 1, 4, 2):
        box.beat(f"ble-{i:012x}", 60 + i)
    async with running(box):
        pass
    assert [(f.device[-1], f.boot, f.seq) for f in sorted(box.stored(), key=lambda f: f.boot)] == [
        ("1", 1, 0),
        ("2", 2, 0),
        ("3", 3, 0),
        ("4", 4, 0),
        ("2", 5, 0),
    ]


async def test_full_spool_keeps_numbered_frames_waiting_and_refuses_later_samples_with_a_count(box, monkeypatch):
    monkeypatch.setattr(sensing, "MAX_WAITING_FRAMES", 3)
    monkeypatch.setattr(sensing, "FULL_WAIT_S", 0.01)
    take, full = box.intake.take, True

    async def perhaps(frames):
        if full:
            raise SpoolFullError("full", cure="wait")
        await take(frames)

    monkeypatch.setattr(box.intake, "take", perhaps)
    async with running(box):
        for bpm in range(60, 70):
            box.beat("ble-000000000001", bpm)
            box.sensing.lost("ble-000000000001")
        await until(lambda: box.sensing.counters.full_waits > 2)
        assert (box.sensing.counters.refused, box.stored()) == (7, [])
        full = False
        await until(lambda: box.sensing.counters.frames == 3)
        box.beat("ble-000000000001", 80)
    assert [(f.seq, bpms(f)) for f in box.stored()] == [(0, [60]), (1, [61]), (2, [62]), (3, [80])]


async def test_end_in_the_middle_of_a_commit_stores_each_frame_once(box, monkeypatch):
    take, inside, go_on = box.intake.take, asyncio.Event(), asyncio.Event()

    async def slow(frames):
        inside.set()
        await go_on.wait()
        await take(frames)

    monkeypatch.setattr(box.intake, "take", slow)
    task = asyncio.create_task(box.sensing.run())
    box.beat("ble-000000000001", 60)
    box.sensing.lost("ble-000000000001")
    await inside.wait()
    task.cancel()
    await asyncio.sleep(0)
    go_on.set()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert [(f.seq, bpms(f)) for f in box.stored()] == [(0, [60])]


async def test_disk_that_does_not_answer_does_not_keep_the_gateway_from_ending(box, monkeypatch):
    monkeypatch.setattr(sensing, "LAST_STORE_S", 0.05)

    async def never(frames):
        await asyncio.Event().wait()

    monkeypatch.setattr(box.intake, "take", never)
    box.beat("ble-000000000001", 60)
    async with asyncio.timeout(60), running(box):
        pass
    assert box.sensing.counters.frames == 0
