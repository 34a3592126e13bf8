"""The virtual Bluetooth daemon against unmodified bleak, over a real dbus-daemon."""

from __future__ import annotations

import asyncio
import warnings
from collections.abc import AsyncIterator, Callable
from pathlib import Path

import pytest
from bleak import BleakClient, BleakScanner
from bleak.backends.device import BLEDevice
from bleak.exc import BleakDBusError, BleakError

from simulators.bluez.process import VirtualBluetooth, virtual_bluetooth
from tests.virtual_room import HR, room, strap

LIMIT_S = 60.0


@pytest.fixture
async def bluetooth(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[VirtualBluetooth]:
    async with virtual_bluetooth(tmp_path / "bluez", room(strap(1), strap(2), strap(3))) as served:
        monkeypatch.setenv("DBUS_SYSTEM_BUS_ADDRESS", served.address)
        yield served


async def until(holds: Callable[[], bool]) -> None:
    async with asyncio.timeout(LIMIT_S):
        while not holds():
            await asyncio.sleep(0.02)


async def find(address: str, **bluez: str) -> BLEDevice:
    device = await BleakScanner.find_device_by_address(address, timeout=LIMIT_S, bluez=bluez)
    assert device is not None
    return device


async def test_scan_finds_every_strap_with_its_name_service_and_rssi(bluetooth: VirtualBluetooth) -> None:
    seen: dict[str, tuple[str | None, list[str], int]] = {}

    def heard(device: BLEDevice, data: object) -> None:
        seen[device.address] = (device.name, data.service_uuids, data.rssi)

    async with BleakScanner(heard):
        await until(lambda: len(seen) == 3)
    name, services, rssi = seen["C0:00:00:00:00:02"]
    assert (name, services) == ("Strap 2", ["0000180d-0000-1000-8000-00805f9b34fb"])
    assert -70 < rssi < -50


async def test_notifications_are_the_bytes_of_the_journal_in_order(bluetooth: VirtualBluetooth) -> None:
    got: list[bytes] = []
    async with BleakClient(await find("C0:00:00:00:00:01")) as client:
        await client.start_notify(HR, lambda _, data: got.append(bytes(data)))
        await until(lambda: len(got) >= 3)
        await client.stop_notify(HR)
    assert got == [entry.payload for entry in bluetooth.entries("C0:00:00:00:00:01")]


async def test_dropped_link_is_told_and_strap_can_be_connected_again(bluetooth: VirtualBluetooth) -> None:
    gone = asyncio.Event()
    device = await find("C0:00:00:00:00:01")
    async with asyncio.timeout(LIMIT_S):
        async with BleakClient(device, disconnected_callback=lambda _: gone.set()) as client:
            await bluetooth.do("drop", device=device.address)
            await gone.wait()
            assert not client.is_connected
        async with BleakClient(device) as client:
            assert await client.read_gatt_char("00002a19-0000-1000-8000-00805f9b34fb") == bytes([87])


async def test_killed_daemon_says_nothing_and_a_new_client_finds_the_same_heart(bluetooth: VirtualBluetooth) -> None:
    device = await find("C0:00:00:00:00:01")
    client = BleakClient(device)
    await client.connect()
    await client.start_notify(HR, lambda *_: None)
    await until(lambda: bool(bluetooth.entries()))
    await bluetooth.kill()
    await bluetooth.start()
    assert client.is_connected  # bleak alone never notices
    with pytest.raises((BleakError, TimeoutError)):
        await client.disconnect()
    got: list[bytes] = []
    async with BleakClient(await find("C0:00:00:00:00:01")) as again:
        await again.start_notify(HR, lambda _, data: got.append(bytes(data)))
        await until(lambda: bool(got))
    numbers = [entry.number for entry in bluetooth.entries()]
    assert numbers == sorted(set(numbers))


async def test_second_connect_on_one_adapter_is_refused_with_in_progress(bluetooth: VirtualBluetooth) -> None:
    await bluetooth.do("fault", name="in_progress", device="C0:00:00:00:00:02")
    device = await find("C0:00:00:00:00:02")
    with pytest.raises(BleakDBusError, match="InProgress"):
        await BleakClient(device).connect()
    async with BleakClient(device) as client:
        assert client.is_connected


@pytest.fixture(autouse=True)
def quiet_mtu() -> None:
    warnings.filterwarnings("ignore", message="Using default MTU")
