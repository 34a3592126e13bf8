"""Smaller parts of the gateway: keeping, the uplink switch, the fleet view, refused rows, the lock, and a file source that must wait."""

from __future__ import annotations

import asyncio
from collections import Counter

import pytest

from broker.errors import ConfigError, Reason, Rejected, StoreError
from broker.frames import SELF_NUMBERED, Clock, Frame, decode_frame
from broker.layouts import layout_named
from broker.nodeconfig import NodeConfig, NodeState
from device_profiles.files import Point, Points, Recording, write_gpx
from gateway import file_source
from gateway.clock import EARLIEST_UTC_US, Instant
from gateway.data_lock import locked_directory
from gateway.file_source import FileSource
from gateway.fleet import MAX_STATE_BYTES, Fleet
from gateway.intake import Intake
from gateway.keeping import FIRST_BACKOFF_S, LAST_BACKOFF_S, keep_running
from gateway.refused import MAX_RAW_BYTES, RefusedRow, RefusedStore
from gateway.replay_book import ReplayBook
from gateway.settings import FileReplay
from gateway.spool import Spool, SpoolFullError, SpoolSettings
from gateway.uplink_switch import UplinkSwitch


async def test_crashing_part_is_started_again_with_growing_delays_until_it_returns():
    crashes, delays, runs = Counter(), [], 0

    async def work() -> None:
        nonlocal runs
        runs += 1
        if runs < 12:
            raise RuntimeError("no")

    async def sleep(seconds: float) -> None:
        delays.append(seconds)

    await keep_running("near", work, crashes, random=lambda: 0.5, sleep=sleep)
    assert (runs, crashes["near"]) == (12, 11)
    assert delays[0] == FIRST_BACKOFF_S
    assert delays == sorted(delays)
    assert delays[-1] == LAST_BACKOFF_S


async def test_cancelled_part_is_not_started_again():
    task = asyncio.create_task(keep_running("x", lambda: asyncio.sleep(60), Counter(), random=lambda: 0.5))
    await asyncio.sleep(0)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task


class Line:
    """An uplink that is healthy when told so and notes how it ended."""

    def __init__(self, number: int, *, healthy: bool) -> None:
        self.number, self._healthy, self.ended = number, healthy, False
        self.began = asyncio.Event()

    async def run(self) -> None:
        self.began.set()
        try:
            await asyncio.sleep(60)
        finally:
            self.ended = True

    async def wait_healthy(self, timeout_s: float) -> bool:
        await asyncio.sleep(0)
        return self._healthy


async def test_switch_ends_the_old_uplink_before_the_new_one_and_asks_only_the_new_one():
    lines: list[Line] = []

    def make() -> Line:
        assert all(line.ended for line in lines)
        lines.append(Line(len(lines), healthy=bool(lines)))
        return lines[-1]

    switch = UplinkSwitch(make, Counter(), random=lambda: 0.5)
    assert not await switch.wait_healthy(0.01)
    task = asyncio.create_task(switch.run())
    assert not await switch.wait_healthy(1)
    switch.replace()
    assert await switch.wait_healthy(1)
    assert (len(lines), lines[0].ended, lines[1].ended) == (2, True, False)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert lines[1].ended


def test_fleet_reads_states_and_health_and_is_bounded():
    fleet, health = Fleet(capacity=2), layout_named("health.1")
    fleet.told("w-1", NodeState(online=True, spool_rows=4).model_dump_json().encode(), 1)
    records = health.pack({"tick_ms": 0, "battery_pct": 9}) + health.pack({"tick_ms": 5, "battery_pct": 8})
    fleet.health("w-1", Frame(health.id, SELF_NUMBERED, "w-1", 1, 1, 0, None, Clock.UNKNOWN, "", records), 2)
    (node,) = fleet.nodes()
    assert (node.online, node.state.spool_rows, node.health["battery_pct"], node.heard_us) == (True, 4, 8, 2)
    for bad in (b"{", b'{"online": "perhaps"}', b" " * (MAX_STATE_BYTES + 1)):
        fleet.told("w-1", bad, 3)
    assert fleet.bad_states == 3
    assert fleet.nodes()[0].online
    fleet.told("w-1", b"", 4)
    assert not fleet.nodes()[0].online
    for name in ("w-2", "w-3"):
        fleet.counted(name, 5, frames=1)
    assert [node.name for node in fleet.nodes()] == ["w-2", "w-3"]


async def test_refused_rows_are_bounded_but_their_counts_survive(tmp_path):
    path = tmp_path / "refused.db"
    with RefusedStore(path, capacity=10) as store:
        for i in range(5):
            await store.add([RefusedRow(i, "t", Rejected(Reason.BAD_FRAME, str(i * 5 + j), bytes(5000))) for j in range(5)])
        await store.add([RefusedRow(9, "t", Rejected(Reason.BAD_BUNDLE, "half", b""), rows=40)])
    with RefusedStore(path, capacity=10) as store:
        assert store.counts == {"bad_frame": 25, "bad_bundle": 40}
        rows = list(store.newest())
        assert [row[3] for row in rows] == ["half", *(str(i) for i in range(24, 15, -1))]
        assert len(rows[1][4]) == MAX_RAW_BYTES


def test_damaged_refused_store_is_an_error_with_a_cure(tmp_path):
    (tmp_path / "refused.db").write_bytes(b"no database at all" * 100)
    with pytest.raises(StoreError, match="refused") as failure:
        RefusedStore(tmp_path / "refused.db")
    assert failure.value.cure


def test_directory_is_locked_once_and_free_again_afterwards(tmp_path):
    with (
        locked_directory(tmp_path / "new"),
        pytest.raises(ConfigError, match="in use by another gateway"),
        locked_directory(tmp_path / "new"),
    ):
        pass
    with locked_directory(tmp_path / "new"):
        pass
    (tmp_path / "file").write_text("")
    with pytest.raises(StoreError, match="file"), locked_directory(tmp_path / "file"):
        pass


class FullAtTimes(Intake):
    """The real intake on a real spool, refusing or failing where a list says so."""

    def __init__(self, spool: Spool, troubles: list[Exception | None]) -> None:
        super().__init__(spool, "gym", lambda: NodeConfig(version=0))
        self._troubles = troubles

    async def append(self, rows):
        trouble = self._troubles.pop(0) if self._troubles else None
        if trouble is not None:
            raise trouble
        return await super().append(rows)


async def test_file_waits_for_a_full_spool_and_goes_on_after_a_crash_without_loss_or_repeat(tmp_path, monkeypatch):
    monkeypatch.setattr(file_source, "FULL_WAIT_S", 0.0)
    monkeypatch.setattr(file_source, "BATCH_FRAMES", 4)
    start = 1_780_000_000_000_000
    path = tmp_path / "walk.gpx"
    write_gpx(Recording(Points.of([Point(start + i * 1_000_000, lat=48.0, lon=11.0) for i in range(600)])), path)
    spool = await Spool.open(tmp_path / "spool.db", SpoolSettings())
    troubles = [None, SpoolFullError("full"), StoreError("read-only"), None, RuntimeError("bug"), None]
    source = FileSource(
        FileReplay(path=path, athlete="ann", speed=0, shift="now"),
        FullAtTimes(spool, troubles),
        "gym",
        book=ReplayBook(tmp_path),
        random_boot=iter([1, 2, 3]).__next__,
        clock=lambda: Instant(0, EARLIEST_UTC_US + 10**12),
    )
    with pytest.raises(RuntimeError, match="bug"):
        await source.run()
    await source.run()
    assert (source.status.state, source.status.frames, source.status.full_waits) == ("done", 20, 2)
    frames = [decode_frame(raw) for _, raw in spool.read(1, 100, 100_000)]
    await spool.close()
    assert [(f.boot, f.seq, f.samples, f.subject) for f in frames] == [(1, seq, 30, "gym/ann") for seq in range(20)]
    last = frames[-1]
    assert last.t0_us + last.utc_offset_us + 29_000_000 == EARLIEST_UTC_US + 10**12  # the last sample is now
