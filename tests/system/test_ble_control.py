"""Control of machines over Bluetooth: answers, what the machine tells, a link that is lost inside a write, answers that are owed."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from gateway.ble_control import unwrapped, wrapped
from gateway.ble_link import Limits
from gateway.controllable import ControlLink
from simulators.bluez.process import VirtualBluetooth, virtual_bluetooth
from tests.ble_box import box_of, until
from tests.virtual_room import room, strap

BELT, TACX = "C0:00:00:00:00:01", "C0:00:00:00:00:02"
QUICK = Limits(link_s=1.5, resolve_s=20.0)
FEC = {
    "services": [
        {
            "uuid": "6e40fec1-b5a3-f393-e0a9-e50e24dcca9e",
            "characteristics": [
                {"uuid": "6e40fec2-b5a3-f393-e0a9-e50e24dcca9e", "flags": ["notify"]},
                {"uuid": "6e40fec3-b5a3-f393-e0a9-e50e24dcca9e", "flags": ["write-without-response"]},
            ],
        }
    ]
}


class Listener:
    """Notes what it is told."""

    def __init__(self) -> None:
        self.links: dict[str, ControlLink] = {}
        self.appearances = 0
        self.heard: list[tuple[str, int, bytes]] = []

    def appeared(self, device: str, link: ControlLink) -> None:
        self.links[device] = link
        self.appearances += 1

    def told(self, device: str, what: int, payload: bytes) -> None:
        self.heard.append((device, what, payload))

    def gone(self, device: str) -> None:
        self.links.pop(device, None)


@pytest.fixture
async def bluetooth(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[VirtualBluetooth]:
    belt = strap(1, advertise_s=0.2) | {"kind": "treadmill", "options": {}}
    tacx = strap(2, advertise_s=0.2) | {"kind": "table", "options": FEC}
    async with virtual_bluetooth(tmp_path / "bluez", room(belt, tacx)) as served:
        monkeypatch.setenv("DBUS_SYSTEM_BUS_ADDRESS", served.address)
        yield served


async def test_treadmill_answers_and_tells_its_status_and_what_it_can(bluetooth, tmp_path):
    listener = Listener()
    async with box_of(tmp_path / "box", limits=QUICK, allow=["Strap 1"]) as box:
        box.controllable.listen(listener)
        await until(lambda: "ble-c00000000001" in listener.links, what=box.words)
        link = listener.links["ble-c00000000001"]
        assert link.dialect == "ftms"
        assert await link.write(b"\x00", timeout_s=30) == bytes((0x80, 0x00, 0x01))
        assert await link.write(b"\x02\xe8\x03", timeout_s=30) == bytes((0x80, 0x02, 0x01))
        assert await link.write(b"\x7f", timeout_s=30) == bytes((0x80, 0x7F, 0x02))
        speeds = await link.read(0x2AD4, timeout_s=30)
        assert speeds is not None
        assert len(speeds) == 6
        assert await link.read(0x2AD8, timeout_s=30) is None  # a belt has no range of power
        await until(lambda: any(what == 0x2ADA for _, what, _ in listener.heard))
    assert listener.links == {}


async def test_link_lost_inside_a_write_is_an_error_and_the_machine_appears_anew(bluetooth, tmp_path):
    listener = Listener()
    async with box_of(tmp_path / "box", limits=QUICK, allow=["Strap 1"]) as box:
        box.controllable.listen(listener)
        await until(lambda: bool(listener.links), what=box.words)
        await bluetooth.do("fault", name="unlikely_in_write", device=BELT)
        link = listener.links["ble-c00000000001"]
        with pytest.raises(OSError, match="link lost"):
            await link.write(b"\x00", timeout_s=30)
        await until(lambda: listener.appearances == 2 and bool(listener.links), what=box.words)
        again = listener.links["ble-c00000000001"]
        assert again is not link
        assert await again.write(b"\x00", timeout_s=30) == bytes((0x80, 0x00, 0x01))


async def test_answer_that_never_comes_is_none_and_a_cancelled_command_leaves_the_next_one_alone(bluetooth, tmp_path):
    listener = Listener()
    async with box_of(tmp_path / "box", limits=QUICK, allow=["Strap 1"]) as box:
        box.controllable.listen(listener)
        await until(lambda: bool(listener.links), what=box.words)
        link = listener.links["ble-c00000000001"]
        await bluetooth.do("act", device=BELT, name="mute", value=1)
        assert await link.write(b"\x01", timeout_s=0.5) is None
        waiting = asyncio.create_task(link.write(b"\x00", timeout_s=30))
        await asyncio.sleep(0)
        waiting.cancel()
        with pytest.raises(asyncio.CancelledError):
            await waiting
        for op in (b"\x00", b"\x07", b"\x08\x01"):
            answer = await link.write(op, timeout_s=30)
            assert answer is not None
            assert answer[:2] == bytes((0x80, op[0]))


async def test_trainer_with_fe_c_in_a_vendors_service_answers_a_command_with_page_71(bluetooth, tmp_path):
    listener = Listener()
    async with box_of(tmp_path / "box", limits=QUICK, allow=["Strap 2"]) as box:
        box.controllable.listen(listener)
        await until(lambda: "ble-c00000000002" in listener.links, what=box.words)
        link = listener.links["ble-c00000000002"]
        assert link.dialect == "fec"
        command = bytes((49, 255, 255, 255, 255, 255, 0x90, 0x01))
        status = bytes((71, 49, 0, 0, 255, 255, 0x90, 0x01))
        writing = asyncio.create_task(link.write(command, timeout_s=30))
        while not writing.done():
            await bluetooth.do("say", device=TACX, uuid="6e40fec2-b5a3-f393-e0a9-e50e24dcca9e", hex=wrapped(status).hex())
            await asyncio.sleep(0.05)
        assert await writing == status
        assert unwrapped(wrapped(status)) == status
        assert ("ble-c00000000002", 71, status) in listener.heard
        assert await link.read(54, timeout_s=0.2) is None
