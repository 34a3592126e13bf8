"""The virtual Bluetooth daemon against unmodified bleak, over a real dbus-daemon."""

from __future__ import annotations

import asyncio
import contextlib
import os
import subprocess
import sys
from collections.abc import AsyncIterator, Callable, Mapping
from pathlib import Path
from typing import Self

import pytest
from bleak import BleakClient, BleakScanner
from bleak.assigned_numbers import AdvertisementDataType
from bleak.backends.device import BLEDevice
from bleak.exc import BleakBluetoothNotAvailableError, BleakDBusError, BleakDeviceNotFoundError, BleakError, BleakGATTProtocolError
from dbus_fast.aio import MessageBus
from dbus_fast.service import ServiceInterface, dbus_method

from broker.errors import LinkError
from simulators.bluez.process import VirtualBluetooth, virtual_bluetooth
from tests.virtual_room import HR, room, strap

LIMIT_S = 60.0
ONE, TWO = "C0:00:00:00:00:01", "C0:00:00:00:00:02"
BATTERY = "00002a19-0000-1000-8000-00805f9b34fb"
CONTROL = "00002a39-0000-1000-8000-00805f9b34fb"
SECRET = "0000aaaa-0000-1000-8000-00805f9b34fb"
GUARDED = {
    "kind": "table",
    "address": "C0:00:00:00:00:AA",
    "name": "Guarded",
    "passkey": "123456",
    "options": {"services": [{"uuid": "AAA0", "characteristics": [{"uuid": "AAAA", "flags": ["read"], "value": "07", "encrypted": True}]}]},
}


@pytest.fixture
async def bluetooth(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, request: pytest.FixtureRequest) -> AsyncIterator[VirtualBluetooth]:
    """Two adapters and four sensors. One that is found is known for twenty seconds more, however slow who connects is; the parameter is another time."""
    forget_s = getattr(request, "param", 20.0)
    straps = (strap(1), strap(2, rssi={"hci0": -80, "hci1": -50}), strap(3))
    world = room(*straps, GUARDED, adapters=2, slots=2, page_s=0.3, forget_s=forget_s)
    async with virtual_bluetooth(tmp_path / "bluez", world) as served:
        monkeypatch.setenv("DBUS_SYSTEM_BUS_ADDRESS", served.address)
        yield served


async def until(holds: Callable[[], bool]) -> None:
    async with asyncio.timeout(LIMIT_S):
        while not holds():
            await asyncio.sleep(0.02)


async def find(address: str, adapter: str = "hci0") -> BLEDevice:
    device = await BleakScanner.find_device_by_address(address, timeout=LIMIT_S, bluez={"adapter": adapter})
    assert device is not None
    return device


async def found_again(address: str, adapter: str) -> None:
    """Find it on an adapter that has just come back: the news of it may still be under way."""
    async with asyncio.timeout(LIMIT_S):
        while True:
            with contextlib.suppress(BleakError):
                await find(address, adapter)
                return
            await asyncio.sleep(0.02)


class Watched:
    """A scan that stays on, as a gateway's does: devices keep known."""

    def __init__(self, adapter: str = "hci0", bluez: Mapping[str, object] | None = None, **arguments: object) -> None:
        self.seen: dict[str, tuple[BLEDevice, int, list[str]]] = {}
        self.scanner = BleakScanner(self._heard, bluez={"adapter": adapter, **(bluez or {})}, **arguments)

    def _heard(self, device: BLEDevice, data: object) -> None:
        self.seen[device.address] = (device, data.rssi, data.service_uuids)

    async def device(self, address: str) -> BLEDevice:
        await until(lambda: address in self.seen)
        return self.seen[address][0]

    async def __aenter__(self) -> Self:
        await self.scanner.start()
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.scanner.stop()


async def test_scan_finds_every_strap_with_its_name_service_and_rssi(bluetooth: VirtualBluetooth) -> None:
    async with Watched() as watched:
        await until(lambda: len(watched.seen) == 4)
    device, rssi, services = watched.seen[ONE]
    assert (device.name, services) == ("Strap 1", ["0000180d-0000-1000-8000-00805f9b34fb"])
    assert -70 < rssi < -50


async def test_scan_for_a_service_leaves_other_devices_out(bluetooth: VirtualBluetooth) -> None:
    async with Watched(service_uuids=["0000180d-0000-1000-8000-00805f9b34fb"]) as watched:
        await until(lambda: len(watched.seen) == 3)
    assert GUARDED["address"] not in watched.seen


async def test_passive_scan_finds_what_its_pattern_fits(bluetooth: VirtualBluetooth) -> None:
    patterns = [(0, AdvertisementDataType.COMPLETE_LIST_SERVICE_UUID16, bytes.fromhex("0d18"))]
    async with Watched(scanning_mode="passive", bluez={"or_patterns": patterns}) as watched:
        await until(lambda: len(watched.seen) == 3)
        assert (await bluetooth.do("state"))["adapters"]["hci0"]["monitors"] == 1
    assert (await bluetooth.do("state"))["adapters"]["hci0"]["monitors"] == 0


async def test_second_adapter_hears_the_same_strap_better(bluetooth: VirtualBluetooth) -> None:
    async with Watched("hci0") as far, Watched("hci1") as near:
        await far.device(TWO)
        await near.device(TWO)
    assert near.seen[TWO][1] > far.seen[TWO][1]


async def test_notifications_are_the_bytes_of_the_journal_in_order(bluetooth: VirtualBluetooth) -> None:
    got: list[bytes] = []
    async with BleakClient(await find(ONE)) as client:
        await client.start_notify(HR, lambda _, data: got.append(bytes(data)))
        await until(lambda: len(got) >= 3)
        await client.stop_notify(HR)
        said = bluetooth.entries(ONE)
        await until(lambda: len(got) == len(said))
    assert got == [entry.payload for entry in said]


async def test_notifications_through_a_socket_are_the_same(bluetooth: VirtualBluetooth) -> None:
    got: list[bytes] = []
    async with BleakClient(await find(ONE)) as client:
        await client.start_notify(HR, lambda _, data: got.append(bytes(data)), bluez={"use_start_notify": False})
        await until(lambda: len(got) >= 3)
        await client.stop_notify(HR)
        said = bluetooth.entries(ONE)
    assert got == [entry.payload for entry in said][: len(got)]


async def test_values_are_read_and_written(bluetooth: VirtualBluetooth) -> None:
    async with BleakClient(await find(ONE)) as client:
        assert await client.read_gatt_char(BATTERY) == bytes([87])
        await client.write_gatt_char(CONTROL, b"\x01", response=True)
        with pytest.raises(BleakGATTProtocolError):
            await client.read_gatt_char(CONTROL)


async def test_dropped_link_is_told_and_strap_can_be_connected_again(bluetooth: VirtualBluetooth) -> None:
    gone = asyncio.Event()
    async with asyncio.timeout(LIMIT_S), Watched() as watched:
        device = await watched.device(ONE)
        async with BleakClient(device, disconnected_callback=lambda _: gone.set()) as client:
            await bluetooth.do("drop", device=ONE)
            await gone.wait()
            assert not client.is_connected
        async with BleakClient(device) as client:
            assert client.is_connected


async def test_killed_daemon_says_nothing_and_a_new_client_finds_the_same_heart(bluetooth: VirtualBluetooth) -> None:
    client = BleakClient(await find(ONE))
    await client.connect()
    await client.start_notify(HR, lambda *_: None)
    await until(lambda: bool(bluetooth.entries()))
    await bluetooth.kill()
    await bluetooth.start()
    assert client.is_connected  # bleak alone never notices
    with pytest.raises((BleakError, TimeoutError)):
        await client.disconnect()
    got: list[bytes] = []
    async with BleakClient(await find(ONE)) as again:
        await again.start_notify(HR, lambda _, data: got.append(bytes(data)))
        await until(lambda: bool(got))
    numbers = [entry.number for entry in bluetooth.entries()]
    assert numbers == sorted(set(numbers))


async def test_overlapping_connects_on_one_adapter_are_refused(bluetooth: VirtualBluetooth) -> None:
    async with Watched() as watched:
        clients = [BleakClient(await watched.device(address)) for address in (ONE, TWO)]
        results = await asyncio.gather(*(client.connect() for client in clients), return_exceptions=True)
        assert [type(result) for result in results].count(BleakDBusError) == 1
        assert (await bluetooth.do("state"))["adapters"]["hci0"]["overlaps"] == 1
        for client in clients:
            await client.disconnect()


async def test_adapter_takes_no_more_links_than_it_has_slots(bluetooth: VirtualBluetooth) -> None:
    async with Watched() as watched:
        devices = [await watched.device(address) for address in (ONE, "C0:00:00:00:00:03", TWO)]
        async with BleakClient(devices[0]), BleakClient(devices[1]):
            with pytest.raises(BleakDBusError, match="connection-limit"):
                await BleakClient(devices[2]).connect()


@pytest.mark.parametrize(
    ("fault", "error"),
    [("in_progress", "InProgress"), ("connect_fails", "le-connection-unknown"), ("hang_connect", "le-connection-unknown")],
)
async def test_armed_connect_fault_strikes_once(bluetooth: VirtualBluetooth, fault: str, error: str) -> None:
    async with Watched() as watched:
        device = await watched.device(ONE)
        await bluetooth.do("fault", name=fault, device=ONE, **({"value": 0.2} if fault == "hang_connect" else {}))
        with pytest.raises(BleakDBusError, match=error):
            await BleakClient(device).connect()
        async with BleakClient(device) as client:
            assert client.is_connected
        assert (await bluetooth.do("state"))["struck"] == {fault: 1}


async def test_connect_aborted_by_local_is_retried_by_bleak_itself(bluetooth: VirtualBluetooth) -> None:
    async with Watched() as watched:
        device = await watched.device(ONE)
        await bluetooth.do("fault", name="abort_by_local", device=ONE)
        async with BleakClient(device) as client:
            assert client.is_connected
    assert (await bluetooth.do("state"))["struck"] == {"abort_by_local": 1}


async def test_slow_services_come_late_and_a_drop_before_them_is_an_error(bluetooth: VirtualBluetooth) -> None:
    async with Watched() as watched:
        device = await watched.device(ONE)
        await bluetooth.do("fault", name="slow_resolve", device=ONE, value=0.5)
        began = asyncio.get_running_loop().time()
        async with BleakClient(device):
            assert asyncio.get_running_loop().time() - began >= 0.5
        await bluetooth.do("fault", name="drop_in_resolve", device=ONE)
        with pytest.raises(BleakError, match="disconnected"):
            await BleakClient(device).connect()


async def test_write_that_meets_the_end_of_the_link_fails_with_0x0e_first(bluetooth: VirtualBluetooth) -> None:
    gone = asyncio.Event()
    async with asyncio.timeout(LIMIT_S), BleakClient(await find(ONE), disconnected_callback=lambda _: gone.set()) as client:
        await bluetooth.do("fault", name="busy_write", device=ONE, times=2)
        await client.write_gatt_char(CONTROL, b"\x01", response=True)  # bleak repeats a busy write
        await bluetooth.do("fault", name="unlikely_in_write", device=ONE)
        with pytest.raises(BleakGATTProtocolError) as caught:
            await client.write_gatt_char(CONTROL, b"\x01", response=True)
        assert caught.value.code == 0x0E
        await gone.wait()


@pytest.mark.parametrize("bluetooth", [0.4], indirect=True, ids=["soon"])
async def test_unconnected_device_is_forgotten_after_the_scan(bluetooth: VirtualBluetooth) -> None:
    device = await find(ONE)
    async with asyncio.timeout(LIMIT_S):
        while (await bluetooth.do("state"))["adapters"]["hci0"]["devices"]:
            await asyncio.sleep(0.05)
    with pytest.raises((BleakDeviceNotFoundError, BleakError), match="not found"):
        await BleakClient(device).connect()


async def test_adapter_off_ends_links_and_scans_until_it_is_on_again(bluetooth: VirtualBluetooth) -> None:
    gone = asyncio.Event()
    async with asyncio.timeout(LIMIT_S), BleakClient(await find(ONE), disconnected_callback=lambda _: gone.set()):
        for adapter in ("hci0", "hci1"):
            await bluetooth.do("power", adapter=adapter, on=False)
        await gone.wait()
    with pytest.raises((BleakBluetoothNotAvailableError, BleakDBusError), match=r"powered|Not Ready"):
        await BleakScanner.discover(timeout=0.1)
    await bluetooth.do("power", adapter="hci0", on=True)
    await found_again(ONE, "hci0")


async def test_unplugged_adapter_takes_its_devices_along(bluetooth: VirtualBluetooth) -> None:
    gone = asyncio.Event()
    async with asyncio.timeout(LIMIT_S):
        client = BleakClient(await find(TWO, adapter="hci1"), disconnected_callback=lambda _: gone.set())
        await client.connect()
        await bluetooth.do("unplug", adapter="hci1")
        await gone.wait()
        await client.disconnect()
        await bluetooth.do("plug", adapter="hci1")
        await found_again(TWO, "hci1")


async def test_rotated_strap_comes_under_its_new_address(bluetooth: VirtualBluetooth) -> None:
    async with Watched() as watched:
        await watched.device(ONE)
        address = (await bluetooth.do("rotate", device=ONE))["address"]
        assert (await watched.device(address)).name == "Strap 1"
        with pytest.raises(BleakError, match=r"le-connection-unknown|not found"):
            await BleakClient(await watched.device(ONE)).connect()


async def test_silent_strap_is_linked_and_says_nothing(bluetooth: VirtualBluetooth) -> None:
    got: list[bytes] = []
    async with BleakClient(await find(ONE)) as client:
        await client.start_notify(HR, lambda _, data: got.append(bytes(data)))
        await until(lambda: bool(got))
        await bluetooth.do("silent", device=ONE, seconds=3600)
        had = len(bluetooth.entries(ONE))
        async with asyncio.timeout(LIMIT_S):  # the beats of others go on
            while (await bluetooth.do("look", device=ONE))["state"]["reports"] < had + 3:
                await asyncio.sleep(0.05)
        assert client.is_connected
        assert len(bluetooth.entries(ONE)) == had


async def test_subscription_ends_with_the_connection_that_asked_for_it(bluetooth: VirtualBluetooth) -> None:
    async with BleakClient(await find(ONE)) as client:
        await client.start_notify(HR, lambda *_: None)
        assert (await bluetooth.do("state"))["sensors"][ONE]["subscribed"] == [HR]
    async with Watched() as watched, BleakClient(await watched.device(ONE)):
        assert (await bluetooth.do("state"))["sensors"][ONE]["subscribed"] == []


class Agent(ServiceInterface):
    """A pairing agent with one answer."""

    def __init__(self, passkey: int) -> None:
        super().__init__("org.bluez.Agent1")
        self._passkey = passkey

    @dbus_method()
    def RequestPasskey(self, device: "o") -> "u":  # noqa: F821, UP037
        return self._passkey


async def register_agent(passkey: int) -> MessageBus:
    bus = await MessageBus(bus_address=os.environ["DBUS_SYSTEM_BUS_ADDRESS"]).connect()
    bus.export("/agent", Agent(passkey))
    introspection = '<node><interface name="org.bluez.AgentManager1"><method name="RegisterAgent"><arg type="o" direction="in"/><arg type="s" direction="in"/></method></interface></node>'
    manager = bus.get_proxy_object("org.bluez", "/org/bluez", introspection).get_interface("org.bluez.AgentManager1")
    await manager.call_register_agent("/agent", "KeyboardOnly")
    return bus


async def test_guarded_value_needs_pairing_with_the_right_passkey(bluetooth: VirtualBluetooth) -> None:
    async with Watched() as watched:
        device = await watched.device(GUARDED["address"])
        async with BleakClient(device) as client:
            with pytest.raises(BleakDBusError, match="Not paired"):
                await client.read_gatt_char(SECRET)
            with pytest.raises(BleakDBusError, match="Authentication"):
                await client.pair()
            bus = await register_agent(123456)
            await client.pair()
            assert await client.read_gatt_char(SECRET) == b"\x07"
            bus.disconnect()
        await bluetooth.do("rotate", device=GUARDED["address"])  # a paired device keeps its identity
        async with BleakClient(device) as client:
            assert await client.read_gatt_char(SECRET) == b"\x07"


async def test_scan_goes_on_after_a_stop_that_was_refused(bluetooth: VirtualBluetooth) -> None:
    await bluetooth.do("fault", name="stop_in_progress")
    await find(ONE)
    await find(TWO)
    assert (await bluetooth.do("state"))["struck"] == {"stop_in_progress": 1}


async def test_sensor_that_enters_later_is_heard_and_says_what_it_is_told(bluetooth: VirtualBluetooth) -> None:
    thermometer = {"uuid": "181A", "characteristics": [{"uuid": "2A6E", "flags": ["notify"]}]}
    spec = {"kind": "table", "address": "C0:00:00:00:00:BB", "name": "Room", "options": {"services": [thermometer]}}
    await bluetooth.do("add", sensor=spec)
    got: list[bytes] = []
    async with BleakClient(await find("C0:00:00:00:00:BB")) as client:
        await client.start_notify("2a6e", lambda _, data: got.append(bytes(data)))
        assert (await bluetooth.do("say", device="C0:00:00:00:00:BB", uuid="2A6E", hex="2209"))["links"] == 1
        await until(lambda: got == [bytes.fromhex("2209")])


KEEPER = """
import asyncio, sys
from pathlib import Path
from simulators.bluez.process import virtual_bluetooth
async def main():
    async with virtual_bluetooth(Path(sys.argv[1]), {}) as served:
        print(served.bus.process.pid, served.process.pid, flush=True)
        await asyncio.Event().wait()
asyncio.run(main())
"""


def is_alive(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0] != "Z"
    except OSError:
        return False


async def test_room_ends_with_the_process_that_made_it_however_that_ends(tmp_path: Path) -> None:
    keeper = await asyncio.create_subprocess_exec(sys.executable, "-c", KEEPER, str(tmp_path), stdout=subprocess.PIPE)
    assert keeper.stdout is not None
    bus, daemon = map(int, (await asyncio.wait_for(keeper.stdout.readline(), LIMIT_S)).split())
    assert is_alive(bus)
    assert is_alive(daemon)
    keeper.kill()
    await keeper.wait()
    await until(lambda: not is_alive(bus) and not is_alive(daemon))


async def test_thousands_of_notifications_arrive_in_order(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    got: dict[str, list[bytes]] = {}
    straps = [strap(number, options={"period_s": 0.005}) for number in range(1, 9)]
    async with virtual_bluetooth(tmp_path / "bluez", room(*straps)) as bluetooth, contextlib.AsyncExitStack() as stack:
        monkeypatch.setenv("DBUS_SYSTEM_BUS_ADDRESS", bluetooth.address)
        watched = await stack.enter_async_context(Watched())
        for sensor in straps:
            client = await stack.enter_async_context(BleakClient(await watched.device(str(sensor["address"]))))
            heard = got.setdefault(client.address, [])
            await client.start_notify(HR, lambda _, data, heard=heard: heard.append(bytes(data)))
        await until(lambda: sum(map(len, got.values())) > 3000)
        await bluetooth.do("hush")
        said = {address: [entry.payload for entry in bluetooth.entries(address)] for address in got}
        await until(lambda: got == said)


@pytest.mark.parametrize(
    ("command", "error"),
    [
        ({"what": "dance"}, "use one of state"),
        ({"what": "drop", "device": "C0:00:00:00:00:99"}, "no peripheral"),
        ({"what": "fault", "name": "rain"}, "slow_resolve"),
        ({"what": "silent", "device": ONE}, "seconds"),
        ({"what": "add", "sensor": {"kind": "strap", "address": "x"}}, "address"),
        ({"what": "power", "adapter": "hci7", "on": True}, "hci0, hci1"),
    ],
)
async def test_wrong_command_is_refused_by_name(bluetooth: VirtualBluetooth, command: dict[str, object], error: str) -> None:
    with pytest.raises(LinkError, match=error):
        await bluetooth.do(command.pop("what"), **command)
