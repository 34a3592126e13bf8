"""The kit's supervisor in virtual time: tasks come back, the watchdog starves when one that must report does not, safe mode runs the least."""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import Awaitable, Callable
from pathlib import Path

import pytest
from kit import app as kit_app
from kit.app import Supervisor
from kit.boots import Boots
from kit.config import Kept
from kit.log import LINE_CHARS, LINES, Log, blinks
from kit.metrics import Metrics, put_health
from kit.reset import reset_cause

WRAP = 1 << 30


class Time:
    """Virtual milliseconds: whoever sleeps wakes when they have passed, in order."""

    def __init__(self) -> None:
        self.ms = 0
        self._sleepers: list[tuple[int, asyncio.Event]] = []

    def ticks_ms(self) -> int:
        return (WRAP - 20_000 + self.ms) % WRAP  # wraps after 20 s

    async def sleep_ms(self, ms: int) -> None:
        if ms <= 0:
            await asyncio.sleep(0)
            return
        woken = asyncio.Event()
        self._sleepers.append((self.ms + ms, woken))
        await woken.wait()

    async def pass_until(self, ms: int) -> None:
        while True:
            for _ in range(20):
                await asyncio.sleep(0)
            due = min((at for at, _ in self._sleepers), default=ms + 1)
            if due > ms:
                self.ms = ms
                return
            self.ms = due
            ready = [one for one in self._sleepers if one[0] <= due]
            self._sleepers = [one for one in self._sleepers if one[0] > due]
            for _, woken in ready:
                woken.set()


@pytest.fixture
def time(monkeypatch: pytest.MonkeyPatch) -> Time:
    virtual = Time()
    monkeypatch.setattr(kit_app, "ticks_ms", virtual.ticks_ms)
    monkeypatch.setattr(kit_app, "sleep_ms", virtual.sleep_ms)
    return virtual


async def ran(supervisor: Supervisor, time: Time, ms: int) -> None:
    """Run it for so long, and end it."""
    running = asyncio.create_task(supervisor.run())
    await time.pass_until(ms)
    supervisor.stop()
    await time.pass_until(ms + 3000)
    await asyncio.wait_for(running, 60)


def failing(time: Time, after_ms: int, starts: list[int]) -> Callable[[], Awaitable[None]]:
    async def task() -> None:
        starts.append(time.ms)
        await time.sleep_ms(after_ms)
        raise RuntimeError("broken")

    return task


async def test_a_task_that_fails_comes_back_ever_later(time: Time) -> None:
    starts: list[int] = []
    faults: list[str] = []
    log = Log()
    supervisor = Supervisor(log, on_fault=lambda name, error: faults.append(f"{name}: {error}"))
    supervisor.add("sensor", failing(time, 100, starts))
    await ran(supervisor, time, 300_000)
    waits = [later - earlier for earlier, later in itertools.pairwise(starts)]
    for wait, want in zip(waits, [1000, 2000, 4000, 8000, 16_000, 32_000, 60_000, 60_000], strict=False):
        assert want <= wait <= want + 1600
    assert len(waits) >= 8
    assert supervisor.restarts == {"sensor": len(starts) - 1}
    assert faults == ["sensor: broken"] * len(starts)
    assert "RuntimeError: broken" in log.last_exception


async def test_a_task_that_ran_for_a_minute_comes_back_at_once(time: Time) -> None:
    starts: list[int] = []
    supervisor = Supervisor(Log())
    supervisor.add("sensor", failing(time, 61_000, starts))
    await ran(supervisor, time, 400_000)
    assert len(starts) == 7


async def test_the_watchdog_is_fed_while_all_report(time: Time) -> None:
    fed: list[int] = []
    supervisor = Supervisor(Log(), feed=lambda: fed.append(time.ms))

    async def good() -> None:
        while True:
            supervisor.beat("node")
            await time.sleep_ms(1000)

    supervisor.add("node", good, beat_ms=3000)
    await ran(supervisor, time, 100_000)
    assert max(later - earlier for earlier, later in itertools.pairwise(fed)) <= 500
    assert fed[-1] >= 99_000


async def test_a_task_that_goes_silent_is_started_again_and_then_the_watchdog_starves(time: Time) -> None:
    fed: list[int] = []
    starts: list[int] = []
    supervisor = Supervisor(Log(), feed=lambda: fed.append(time.ms))

    async def silent() -> None:
        starts.append(time.ms)
        if len(starts) == 1:
            supervisor.beat("node")
        await time.sleep_ms(10_000_000)

    supervisor.add("node", silent, beat_ms=5000)
    await ran(supervisor, time, 60_000)
    assert len(starts) >= 2
    assert 5000 < starts[1] < 8000
    assert 9500 <= fed[-1] <= 10_500


async def test_a_silent_task_that_reports_again_is_forgiven(time: Time) -> None:
    fed: list[int] = []
    starts: list[int] = []
    supervisor = Supervisor(Log(), feed=lambda: fed.append(time.ms))

    async def once_silent() -> None:
        starts.append(time.ms)
        while len(starts) > 1:
            supervisor.beat("node")
            await time.sleep_ms(500)
        await time.sleep_ms(10_000_000)

    supervisor.add("node", once_silent, beat_ms=5000)
    await ran(supervisor, time, 60_000)
    assert len(starts) == 2
    assert fed[-1] >= 59_000


async def test_a_task_that_goes_silent_after_a_week_is_started_again(time: Time, monkeypatch: pytest.MonkeyPatch) -> None:
    hour_ms = 3_600_000
    monkeypatch.setattr(kit_app, "_LOOK_MS", hour_ms)  # a week in few looks
    starts: list[int] = []
    supervisor = Supervisor(Log())

    async def silent_at_last() -> None:
        starts.append(time.ms)
        for _ in range(7 * 24):
            supervisor.beat("gnss")
            await time.sleep_ms(hour_ms)
        await time.sleep_ms(1000 * hour_ms)

    supervisor.add("gnss", silent_at_last, beat_ms=2 * hour_ms)
    running = asyncio.create_task(supervisor.run())
    await time.pass_until(8 * 24 * hour_ms)
    supervisor.stop()
    await time.pass_until(8 * 24 * hour_ms + 2 * hour_ms)
    await asyncio.wait_for(running, 60)
    assert len(starts) == 2
    assert 7 * 24 * hour_ms < starts[1] <= (7 * 24 + 5) * hour_ms


async def test_a_task_without_a_beat_resets_nothing(time: Time) -> None:
    fed: list[int] = []
    supervisor = Supervisor(Log(), feed=lambda: fed.append(time.ms))
    supervisor.add("gnss", failing(time, 10, []))
    await ran(supervisor, time, 60_000)
    assert fed[-1] >= 59_000


async def test_safe_mode_runs_what_brings_the_cure_only(time: Time) -> None:
    started: list[str] = []

    def named(name: str) -> Callable[[], Awaitable[None]]:
        async def task() -> None:
            started.append(name)
            await time.sleep_ms(10_000_000)

        return task

    supervisor = Supervisor(Log(), safe=True)
    for name in ("sensor", "node", "update"):
        supervisor.add(name, named(name), safe=name != "sensor")
    await ran(supervisor, time, 5000)
    assert started == ["node", "update"]


def test_a_beat_that_cannot_be_kept_is_refused() -> None:
    with pytest.raises(ValueError, match="beat_ms 10"):
        Supervisor(Log()).add("node", lambda: None, beat_ms=10)


def test_the_log_keeps_the_newest_lines_and_no_more() -> None:
    seen: list[str] = []
    log = Log(seen.append, lambda: 12)
    for i in range(3 * LINES):
        line = f"line {i} {'x' * 300}"
        log.info(line)
    assert len(log.lines) == LINES
    assert log.lines[-1].startswith(f"12 I line {3 * LINES - 1}")
    assert max(map(len, log.lines)) == LINE_CHARS
    assert len(seen) == 3 * LINES


def test_a_console_that_is_gone_costs_nothing() -> None:
    def gone(line: str) -> None:
        raise OSError(line)

    log = Log(gone)
    log.warning("first")
    log.warning("second")
    assert [line[4:] for line in log.lines] == ["first", "second"]
    assert log.warnings == 2


def test_every_reason_of_the_wire_has_its_blinks() -> None:
    from broker.errors import Reason

    unseen = {reason.value for reason in Reason if blinks(reason.value) == blinks("never heard of")}
    assert unseen <= {"bad_json"}  # devices of the kit do not send JSON frames


class Machine:
    PWRON_RESET, HARD_RESET, WDT_RESET, DEEPSLEEP_RESET, SOFT_RESET = 1, 2, 3, 4, 5

    def __init__(self, said: int) -> None:
        self.said = said

    def reset_cause(self) -> int:
        return self.said


def test_reset_causes_are_those_of_health() -> None:
    assert [reset_cause(Machine(said)) for said in (1, 2, 3, 4, 5, 99)] == [1, 1, 3, 5, 4, 0]
    assert reset_cause(object()) == 0


def test_health_is_a_frame_of_its_layout() -> None:
    from kit.frame import FrameWriter
    from kit.layouts import health_1

    from broker.frames import Frame, decode_frame
    from broker.layouts import layout_named

    writer = FrameWriter(health_1, "watch-7", 1)
    writer.open(0)
    assert put_health(writer, 0, 12, 87, -60, None, 3)
    frame = decode_frame(bytes(writer.close(0, None, 0)))
    assert isinstance(frame, Frame)
    assert layout_named("health.1").unpack(frame.records) == [
        {"tick_ms": 0, "uptime_s": 12, "battery_pct": 87, "rssi_dbm": -60, "dropped": None, "reset_cause": 3}
    ]


def test_counters_are_bounded() -> None:
    metrics = Metrics()
    for i in range(1000):
        metrics.add(f"name {i}")
    metrics.add("name 0", 5)
    assert len(metrics.counts) <= 48
    assert metrics.counts["name 0"] == 6
    assert metrics.heap() is None


async def test_a_sensor_that_is_not_there_resets_nothing_and_is_said(time: Time) -> None:
    """It fails before its first report, again and again: the others go on, it is tried ever more seldom, and what is wrong can be read."""
    fed: list[int] = []
    starts: list[int] = []
    supervisor = Supervisor(Log(), feed=lambda: fed.append(time.ms))
    supervisor.add("light", failing(time, 10, starts), beat_ms=5000)

    async def good() -> None:
        while True:
            supervisor.beat("motion")
            await time.sleep_ms(1000)

    supervisor.add("motion", good, beat_ms=5000)
    running = asyncio.create_task(supervisor.run())
    await time.pass_until(600_000)
    assert supervisor.failing == {"light": "RuntimeError: broken"}
    supervisor.stop()
    await time.pass_until(603_000)
    await asyncio.wait_for(running, 60)
    assert max(later - earlier for earlier, later in itertools.pairwise(fed)) <= 500
    assert fed[-1] >= 599_000
    assert supervisor.restarts["motion"] == 0
    assert starts[-1] - starts[-2] >= 60_000


async def test_a_sensor_that_comes_back_fails_no_more(time: Time) -> None:
    supervisor = Supervisor(Log(), feed=lambda: None)
    starts: list[int] = []

    async def late() -> None:
        starts.append(time.ms)
        if len(starts) < 3:
            raise OSError(19, "no answer")
        while True:
            supervisor.beat("light")
            await time.sleep_ms(1000)

    supervisor.add("light", late, beat_ms=5000)
    running = asyncio.create_task(supervisor.run())
    await time.pass_until(2000)
    assert "no answer" in supervisor.failing["light"]
    await time.pass_until(8000)
    assert supervisor.failing == {}
    supervisor.stop()
    await time.pass_until(11_000)
    await asyncio.wait_for(running, 60)


async def test_where_memory_has_run_out_the_watchdog_is_not_fed_for_ever(time: Time) -> None:
    fed: list[int] = []
    supervisor = Supervisor(Log(), feed=lambda: fed.append(time.ms))

    async def starved() -> None:
        await time.sleep_ms(10)
        raise MemoryError("memory allocation failed")

    supervisor.add("light", starved, beat_ms=5000)
    await ran(supervisor, time, 60_000)
    assert 9000 <= fed[-1] <= 11_000


def test_what_fails_for_a_day_writes_flash_a_few_times(tmp_path: Path) -> None:
    kept = Kept(str(tmp_path / "boots"))
    boots = Boots(kept)
    boots.begin(1)
    for i in range(1000):
        boots.fault("light: the same")
        boots.fault(f"gnss: another each time, {i}")
    assert kept.number <= 1 + 4
    again = Boots(Kept(str(tmp_path / "boots")))
    assert again.last_fault.startswith(("light", "gnss"))
