"""Links that come and go: every strap back, each beat stored once, nothing kept that should be gone; and a daemon that is killed."""

from __future__ import annotations

import asyncio
import gc
import time
from pathlib import Path

import pytest

from simulators.bluez.process import VirtualBluetooth, virtual_bluetooth
from tests.ble_box import Box, box_of, callbacks, descriptors, sent, until
from tests.virtual_room import room, strap

STRAPS = 30
ADAPTERS = 5
DAY = 1_000  # cycles of the nightly run


def gym_room() -> dict[str, object]:
    """Every strap is heard by two of the five adapters: all others would only be kept busy with what it advertises."""
    straps = [strap(i, advertise_s=0.3, rssi={f"hci{i % ADAPTERS}": -50, f"hci{(i + 1) % ADAPTERS}": -58}) for i in range(1, STRAPS + 1)]
    return room(*straps, adapters=ADAPTERS, slots=8)


async def drop_all(bluetooth: VirtualBluetooth) -> None:
    for i in range(1, STRAPS + 1):
        await bluetooth.do("drop", device=f"C0:00:00:00:00:{i:02X}")


def held() -> tuple[int, int, tuple[int, int, int]]:
    gc.collect()
    return len(asyncio.all_tasks()), descriptors(), callbacks()


async def settled() -> tuple[int, int, tuple[int, int, int]]:
    """What is held once nothing has changed for a second: the last connection's own task may still be ending when its strap is live."""
    last, since = held(), time.monotonic()

    def unchanged() -> bool:
        nonlocal last, since
        if (now := held()) != last:
            last, since = now, time.monotonic()
        return time.monotonic() - since >= 1

    await until(unchanged, what=lambda: f"{held()} does not settle")
    return last


async def cycles(bluetooth: VirtualBluetooth, box: Box, count: int) -> list[float]:
    """So many drops of every strap; the seconds until all were back, of each."""
    await box.until_live(STRAPS)
    before, times = await settled(), []
    for _ in range(count):
        losses = box.source.counters.losses + STRAPS
        await drop_all(bluetooth)
        await until(lambda losses=losses: box.source.counters.losses == losses, what=box.words)
        times.append(await box.until_live(STRAPS))
        await until(lambda: held() == before, what=lambda: f"{held()} instead of {before}")
    return times


@pytest.mark.parametrize("count", [20, pytest.param(DAY, marks=[pytest.mark.nightly, pytest.mark.timeout(4 * 3600)])])
async def test_thirty_straps_come_back_after_every_drop_and_each_beat_is_stored_once(count, tmp_path: Path, monkeypatch, capsys):
    async with virtual_bluetooth(tmp_path / "bluez", gym_room()) as bluetooth:
        monkeypatch.setenv("DBUS_SYSTEM_BUS_ADDRESS", bluetooth.address)
        async with box_of(tmp_path / "box", slots=8) as box:
            times = await cycles(bluetooth, box, count)
            state = await bluetooth.do("state")
            assert {name: one["overlaps"] for name, one in state["adapters"].items()} == {f"hci{i}": 0 for i in range(ADAPTERS)}
            for i in range(1, STRAPS + 1):
                await bluetooth.do("off", device=f"C0:00:00:00:00:{i:02X}")
            await until(lambda: not box.source.live, what=box.words)
        times.sort()
        if count == DAY:
            assert times[-1] < 10  # only here: a loaded machine is as slow as it likes
        with capsys.disabled():
            print(f"\n{count} cycles x {STRAPS} straps: all back after {times[len(times) // 2]:.2f} s (median), {times[-1]:.2f} s (worst)")
        counters = box.source.counters
        assert (counters.late, counters.resets, counters.renewals) == (0, 0, 0)
        assert box.stored == sent(bluetooth)


@pytest.mark.parametrize("kills", [3, pytest.param(50, marks=[pytest.mark.nightly, pytest.mark.timeout(3600)])])
async def test_daemon_that_is_killed_costs_a_moment_and_no_beat_comes_twice(kills, tmp_path: Path, monkeypatch, capsys):
    async with virtual_bluetooth(tmp_path / "bluez", gym_room()) as bluetooth:
        monkeypatch.setenv("DBUS_SYSTEM_BUS_ADDRESS", bluetooth.address)
        async with box_of(tmp_path / "box", slots=8) as box:
            await box.until_live(STRAPS)
            before, times = await settled(), []
            for _ in range(kills):
                daemons = box.source.counters.daemons + 1
                await bluetooth.kill()
                await until(lambda: not box.source.live, what=box.words)
                began = time.monotonic()
                await bluetooth.start()
                await until(lambda daemons=daemons: box.source.counters.daemons == daemons, what=box.words)
                await box.until_live(STRAPS)
                times.append(time.monotonic() - began)
                await until(lambda: held() == before, what=lambda: f"{held()} instead of {before}")
        times.sort()
        if kills > 3:
            assert times[-1] < 5  # only here, as above
        with capsys.disabled():
            words = f"{times[len(times) // 2]:.2f} s (median), {times[-1]:.2f} s (worst)"
            print(f"\ndaemon killed {kills} times: {STRAPS} straps back after {words}, its start included")
        stored, said = box.stored, sent(bluetooth)
        for device, beats in said.items():
            assert is_part(stored[device], beats)
        missing = sum(len(said[device]) - len(stored[device]) for device in said)
        assert missing <= kills * 3 * STRAPS  # what was in the queue of the daemon when it was killed


def is_part(some: list[tuple[float | None, float | None]], whole: list[tuple[float | None, float | None]]) -> bool:
    """Whether `some` is `whole` with elements left out, in order."""
    rest = iter(whole)
    return all(any(one == other for other in rest) for one in some)
