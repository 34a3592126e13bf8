"""Virtual sensors behind real ATT: Bumble's own central reads, subscribes and writes; what it got is what the models said."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Callable
from pathlib import Path

import pytest
from bumble.controller import Controller
from bumble.core import UUID
from bumble.device import Device, Peer
from bumble.hci import Address
from bumble.host import Host

from simulators.air.room import AirRoom
from simulators.bluez.journal import Journal, read_journal
from simulators.bluez.world import World
from tests.virtual_room import HR, room, strap

LIMIT_S = 60.0
FIRST = "C0:00:00:00:00:01"


async def until(holds: Callable[[], bool]) -> None:
    async with asyncio.timeout(LIMIT_S):
        while not holds():
            await asyncio.sleep(0.02)


@pytest.fixture
async def air(tmp_path: Path) -> AsyncIterator[AirRoom]:
    world = World.model_validate(room(strap(1), strap(2)))
    served = AirRoom(world, epoch_s=time.monotonic(), journal=Journal(tmp_path / "truth.jsonl"))
    running = asyncio.create_task(served.run())
    yield served
    running.cancel()
    await asyncio.wait({running})
    served.journal.close()


@pytest.fixture
async def central(air: AirRoom) -> Device:
    controller = Controller("central", link=air.link)
    device = Device(name="central", address=Address("F0:00:00:00:00:01"), host=Host(controller, controller))
    await device.power_on()
    return device


async def connected(central: Device, address: str = FIRST) -> Peer:
    async with asyncio.timeout(LIMIT_S):
        peer = Peer(await central.connect(Address(address)))
        await peer.discover_all()
    return peer


async def test_beats_over_real_att_are_those_of_the_model_in_order(air: AirRoom, central: Device, tmp_path: Path) -> None:
    peer = await connected(central)
    got: list[bytes] = []
    await peer.subscribe(peer.get_characteristics_by_uuid(UUID(HR))[0], lambda value: got.append(bytes(value)))
    await until(lambda: len(got) >= 3)
    sent = [entry for entry in read_journal(tmp_path / "truth.jsonl") if entry.device == FIRST]
    assert got == [entry.payload for entry in sent[: len(got)]]
    numbers = [entry.number for entry in sent]
    assert numbers == list(range(numbers[0], numbers[0] + len(numbers)))


async def test_battery_is_read_and_an_unsubscribed_strap_sends_nothing(air: AirRoom, central: Device, tmp_path: Path) -> None:
    peer = await connected(central)
    level = peer.get_characteristics_by_uuid(UUID("2A19"))[0]
    assert bytes(await peer.read_value(level)) == bytes([87])
    assert not list(read_journal(tmp_path / "truth.jsonl"))


async def test_dropped_strap_advertises_and_is_connected_again(air: AirRoom, central: Device) -> None:
    peer = await connected(central)
    gone = asyncio.Event()
    peer.connection.on("disconnection", lambda _: gone.set())
    assert await air.do({"do": "drop", "device": FIRST}) == {"dropped": 1}
    async with asyncio.timeout(LIMIT_S):
        await gone.wait()
    assert (await connected(central)).get_characteristics_by_uuid(UUID(HR))


async def test_silent_strap_stays_linked_and_says_nothing_until_it_speaks_again(air: AirRoom, central: Device) -> None:
    peer = await connected(central)
    got: list[bytes] = []
    await peer.subscribe(peer.get_characteristics_by_uuid(UUID(HR))[0], lambda value: got.append(bytes(value)))
    await air.do({"do": "silent", "device": FIRST, "seconds": 3600})
    await air.do({"do": "say", "device": FIRST, "uuid": HR, "hex": "0050"})
    count = len(got)
    await air.do({"do": "silent", "device": FIRST, "seconds": 0})
    await until(lambda: len(got) > count)
    assert b"\x00\x50" not in got
