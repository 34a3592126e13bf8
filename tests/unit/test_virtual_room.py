"""The virtual daemon's room without a D-Bus: whatever is done to it in whatever order, its signals tell exactly what its objects are."""

from __future__ import annotations

import asyncio
import gc
from random import Random

import pytest
from dbus_fast import Message

from broker.errors import BadInputError
from simulators.bluez.adapter import Adapter
from simulators.bluez.control import Control
from simulators.bluez.device import Device
from simulators.bluez.faults import KNOWN, Faults
from simulators.bluez.peripheral import Peripheral
from simulators.bluez.room import Room, Timing
from simulators.bluez.tree import DEVICE, BluezError, copied
from simulators.sensors.catalogue import make_sensor

QUICK = Timing(connect_s=0, resolve_s=0, disconnect_s=0, att_s=0, pair_s=0, page_s=0, forget_s=0.01)


class Follower:
    """What a client of D-Bus knows, from signals alone. Fails on a signal that cannot be."""

    def __init__(self) -> None:
        self.objects: dict[str, dict[str, dict[str, object]]] = {}

    def hear(self, message: Message) -> None:
        if message.member == "InterfacesAdded":
            path, interfaces = message.body
            assert path not in self.objects
            self.objects[path] = copied(interfaces)
        elif message.member == "InterfacesRemoved":
            path, interfaces = message.body
            assert set(self.objects.pop(path)) == set(interfaces)
        else:
            interface, changed, gone = message.body
            properties = self.objects[message.path][interface]
            properties.update(changed)
            for name in gone:
                del properties[name]


def room_of(follower: Follower, straps: int = 3, **timing: float) -> Room:
    chosen = Timing(**{name: timing.get(name, getattr(QUICK, name)) for name in Timing.__dataclass_fields__})
    room = Room(follower.hear, epoch_s=asyncio.get_running_loop().time(), timing=chosen)
    for index in range(2):
        room.add_adapter(f"hci{index}", f"00:00:5E:00:53:0{index}", slots=2)
    for number in range(straps):
        sensor = make_sensor("strap", f"S{number}", number, {"period_s": 0.01})
        rssi = {"hci0": -60, "hci1": -70}
        room.add(Peripheral(f"C0:00:00:00:00:0{number}", f"S{number}", sensor, rssi, advertise_s=0.001, passkey="000007" if number else ""))
    return room


async def one_thing(room: Room, control: Control, random: Random) -> None:
    """Somebody does something, sensible or not."""
    adapter: Adapter = random.choice(list(room.adapters.values()))
    device: Device | None = random.choice([*room.devices(), None])
    attributes = list(device.attributes) if device else []
    path, sender = random.choice(attributes or [""]), f":1.{random.randrange(3)}"
    name = adapter.name
    acts = [
        lambda: adapter.start_discovery(sender),
        lambda: adapter.stop_discovery(sender),
        lambda: adapter.set_filter(sender, {}),
        lambda: room.client_left(sender),
        lambda: room.step(room.now_s()),
        lambda: control.do({"do": "power", "adapter": name, "on": random.random() < 0.7}),
        lambda: control.do({"do": random.choice(("unplug", "plug", "plug")), "adapter": name}),
        lambda: control.do({"do": random.choice(("drop", "off", "on", "on", "rotate")), "device": random.choice(room.peripherals).address}),
        lambda: control.do({"do": "fault", "name": random.choice(list(KNOWN)), "value": 0.001}),
    ]
    if device is not None:
        act = random.choice(
            [
                device.connect, device.connect, device.disconnect, lambda: device.pair(random.choice((None, 7))),
                lambda: device.read(path), lambda: device.write(path, b"\x01"), lambda: device.start_notify(path, sender),
            ]
        )  # fmt: skip
        if random.random() < 0.6:
            await act()
            return
        acts += [lambda: device.stop_notify(path, sender), lambda: adapter.remove_path(device.path)]
    random.choice(acts)()


@pytest.mark.parametrize("seed", range(8))
async def test_signals_tell_what_the_objects_are_whatever_happens(seed: int) -> None:
    follower, random, escaped = Follower(), Random(seed), list[object]()
    asyncio.get_running_loop().set_exception_handler(lambda _, context: escaped.append(context))
    room = room_of(follower)
    control, tasks = Control(room), set[asyncio.Task[None]]()
    for _ in range(400):
        tasks.add(asyncio.create_task(one_thing(room, control, random)))
        if random.random() < 0.3:
            await asyncio.sleep(0.001)
    for result in await asyncio.gather(*tasks, return_exceptions=True):
        assert result is None or isinstance(result, BluezError | BadInputError), repr(result)
    await asyncio.sleep(0.05)  # what was to happen a little later
    gc.collect()
    assert escaped == []
    assert follower.objects == room.tree.objects
    for peripheral in room.peripherals:
        assert (peripheral.linked_to != "") == bool(room.links(peripheral))


async def test_connect_that_is_given_up_frees_the_adapter() -> None:
    room = room_of(Follower(), connect_s=60.0)
    adapter = room.adapters["hci0"]
    adapter.start_discovery(":1.1")
    await asyncio.sleep(0.005)
    room.step(room.now_s())
    one, other = list(adapter.devices.values())[:2]
    hanging = asyncio.create_task(one.connect())
    await asyncio.sleep(0.005)
    with pytest.raises(BluezError, match="InProgress"):
        await other.connect()
    await one.disconnect()
    with pytest.raises(BluezError, match="abort-by-local"):
        await hanging
    assert adapter.overlaps == 1
    again = asyncio.create_task(other.connect())
    await asyncio.sleep(0.005)
    assert not again.done()
    again.cancel()


async def test_linked_device_is_not_forgotten_and_others_are() -> None:
    room = room_of(Follower())
    adapter = room.adapters["hci0"]
    adapter.start_discovery(":1.1")
    await asyncio.sleep(0.005)
    room.step(room.now_s())
    linked = next(iter(adapter.devices.values()))
    await linked.connect()
    adapter.stop_discovery(":1.1")
    await asyncio.sleep(0.02)
    adapter.forget_old(room.now_s())
    assert list(adapter.devices.values()) == [linked]
    assert "RSSI" not in room.tree.properties(linked.path, DEVICE)


def test_fault_strikes_as_often_as_it_was_armed_and_only_whom_it_is_for() -> None:
    faults = Faults()
    faults.arm("slow_resolve", address="aa", times=2, value=1.5)
    assert faults.strikes("slow_resolve", "BB") is None
    assert [faults.strikes("slow_resolve", "AA") for _ in range(3)] == [1.5, 1.5, None]
    assert faults.struck == {"slow_resolve": 2}
