"""What the virtual Bluetooth daemon and the real one have in common: one suite, run on the virtual one here and on both every night.

In the guest of the truth rung (tests/truth) the same file meets the kernel, bluetoothd and real ATT; here it meets `simulators.bluez`.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import time
import warnings
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import AsyncExitStack
from pathlib import Path

import pytest
from bleak import BleakClient, BleakScanner
from bleak.backends.device import BLEDevice
from bleak.exc import BleakError

from simulators.bluez.process import VirtualBluetooth, virtual_bluetooth
from tests.ble_box import Box, box_of, sent
from tests.truth.bluetooth import RealBluetooth, real_bluetooth
from tests.truth.guest import BLUETOOTHD
from tests.virtual_room import HR, room, strap

REAL = BLUETOOTHD in os.environ
CYCLES = 50 if REAL else 10
LIMIT_S = 240.0
SERVICE = "0000180d-0000-1000-8000-00805f9b34fb"
ADDRESSES = [f"C0:00:00:00:00:{number:02X}" for number in range(1, 8)]
Bluetooth = VirtualBluetooth | RealBluetooth

pytestmark = pytest.mark.timeout(900)


@pytest.fixture
async def bluetooth(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Bluetooth]:
    warnings.filterwarnings("ignore", message="Using default MTU")
    serve = real_bluetooth if REAL else virtual_bluetooth
    async with serve(tmp_path / "bluetooth", room(*(strap(number) for number in range(1, 8)), forget_s=20.0, page_s=3.0)) as served:
        monkeypatch.setenv("DBUS_SYSTEM_BUS_ADDRESS", served.address)
        yield served


async def until(holds: Callable[[], bool]) -> None:
    async with asyncio.timeout(LIMIT_S):
        while not holds():
            await asyncio.sleep(0.05)


async def seen(addresses: Sequence[str]) -> list[BLEDevice]:
    """The devices as a scan finds them just now."""
    found: dict[str, BLEDevice] = {}
    async with BleakScanner(lambda device, _: found.update({device.address: device}), service_uuids=[SERVICE]):
        await until(lambda: all(address in found for address in addresses))
    return [found[address] for address in addresses]


async def test_cycles_of_connect_notify_disconnect_give_each_beat_once(bluetooth: Bluetooth) -> None:
    address = ADDRESSES[0]
    got: list[bytes] = []
    for cycle in range(CYCLES):
        (device,) = await seen([address])
        count = len(got)
        async with BleakClient(device, timeout=60) as client:
            await client.start_notify(HR, lambda _, data: got.append(bytes(data)))
            await until(lambda count=count: len(got) > count)
            await client.stop_notify(HR)
        assert not client.is_connected, cycle
    sent = bluetooth.entries(address)
    assert got == [entry.payload for entry in sent if entry.payload in got][: len(got)]
    assert len(got) >= CYCLES
    assert len({entry.number for entry in sent}) == len(sent)


async def test_seven_at_once_each_say_what_they_said(bluetooth: Bluetooth) -> None:
    got: dict[str, list[bytes]] = {address: [] for address in ADDRESSES}
    async with AsyncExitStack() as links:
        for device in await seen(ADDRESSES):  # one connect at a time: BlueZ refuses two on one adapter
            client = await links.enter_async_context(BleakClient(device, timeout=60))
            await client.start_notify(HR, lambda _, data, address=device.address: got[address].append(bytes(data)))
        await until(lambda: all(len(beats) >= 5 for beats in got.values()))
        arrived = {address: list(beats) for address, beats in got.items()}
    for address, beats in arrived.items():
        assert beats == [entry.payload for entry in bluetooth.entries(address)][: len(beats)]


async def test_lost_link_is_told_and_the_strap_is_found_and_connected_again(bluetooth: Bluetooth) -> None:
    gone = asyncio.Event()
    (device,) = await seen(ADDRESSES[:1])
    client = BleakClient(device, disconnected_callback=lambda _: gone.set(), timeout=60)
    await client.connect()
    await bluetooth.do("drop", device=device.address)
    async with asyncio.timeout(LIMIT_S):
        await gone.wait()
    (device,) = await seen(ADDRESSES[:1])
    async with BleakClient(device, timeout=60) as again:
        assert bytes(await again.read_gatt_char("2a19")) == bytes([87])


async def test_killed_daemon_says_nothing_and_a_new_client_hears_the_strap(bluetooth: Bluetooth) -> None:
    (device,) = await seen(ADDRESSES[:1])
    client = BleakClient(device, timeout=60)
    await client.connect()
    got: list[bytes] = []
    await client.start_notify(HR, lambda _, data: got.append(bytes(data)))
    await until(lambda: bool(got))
    await bluetooth.kill()
    await bluetooth.start()
    assert client.is_connected  # what bleak alone believes
    with contextlib.suppress(BleakError, TimeoutError):  # either is right: the daemon does not know this client
        await client.disconnect()
    count = len(got)
    (device,) = await seen(ADDRESSES[:1])
    async with BleakClient(device, timeout=60) as again:
        await again.start_notify(HR, lambda _, data: got.append(bytes(data)))
        await until(lambda: len(got) > count)


async def test_box_hears_seven_straps_over_a_lost_link_and_a_killed_daemon_and_stores_each_beat_once(
    bluetooth: Bluetooth, tmp_path: Path
) -> None:
    async with box_of(tmp_path / "box") as box:
        await until(lambda: speaking(box) == 7)
        disturbed_us = time.monotonic_ns() // 1000
        await bluetooth.do("drop", device=ADDRESSES[0])
        await until(lambda: box.source.counters.losses >= 1)
        await until(lambda: speaking(box) == 7)
        await bluetooth.kill()
        await bluetooth.start()
        await until(lambda: speaking(box) == 7)
        settled_us = time.monotonic_ns() // 1000
    said = sent(bluetooth)
    assert len(said) == 7
    for device, beats in said.items():
        stored = box.stored[device]
        assert in_order(stored, beats), device
        # while there was no daemon, the kernel kept the links and the straps went on telling nobody: a packet holds at most three beats
        unheard = [one for one in bluetooth.entries() if named(one.device) == device and disturbed_us - 2_000_000 < one.t_us < settled_us]
        assert len(stored) >= len(beats) - 3 * len(unheard), device


def speaking(box: Box) -> int:
    """How many straps have said something over the link they have now."""
    return len([link for link in box.source.live if link.packets])


def named(address: str) -> str:
    """The device id a box gives to an address."""
    return f"ble-{address.replace(':', '').lower()}"


def in_order(some: Sequence[object], whole: Sequence[object]) -> bool:
    """Whether `some` is `whole` with some left out: nothing twice, nothing turned round."""
    rest = iter(whole)
    return all(one in rest for one in some)


async def test_device_not_seen_for_a_while_is_no_longer_known(bluetooth: Bluetooth) -> None:
    (device,) = await seen(ADDRESSES[:1])
    await bluetooth.do("off", device=device.address)
    with pytest.raises((BleakError, TimeoutError)):
        await BleakClient(device, timeout=45).connect()
