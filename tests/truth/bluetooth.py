"""The real bluetoothd with a radio of virtual sensors, inside the guest: the same handle as `simulators.bluez.process.VirtualBluetooth`.

async with real_bluetooth(folder, world) as bluetooth:
    await bluetooth.do("drop", device=...)
    await bluetooth.kill(); await bluetooth.start()      # the daemon; the radio goes on
"""

from __future__ import annotations

import asyncio
import json
import os
import signal
import subprocess
import sys
from collections.abc import AsyncGenerator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from dbus_fast import BusType, Message, MessageType, Variant
from dbus_fast.aio import MessageBus

from simulators.bluez.journal import Entry, read_journal
from simulators.debian_packages import library_environment
from simulators.private_bus import PrivateBus, private_bus
from tests.truth.guest import BLUETOOTHD

LIMIT_S = 120.0  # an emulated processor is 20 times slower than a real one


@dataclass(slots=True)
class RealBluetooth:
    """A bus of its own, bluetoothd on it, and the radio behind the kernel's virtual controller."""

    bus: PrivateBus
    folder: Path
    daemon: asyncio.subprocess.Process | None = None
    radio: asyncio.subprocess.Process | None = None
    address: str = field(init=False)

    def __post_init__(self) -> None:
        self.address = self.bus.address

    def entries(self, device: str = "") -> list[Entry]:
        """What went out so far, of one device or of all."""
        journal = self.folder / "journal.jsonl"
        return [entry for entry in read_journal(journal) if device in {"", entry.device}] if journal.exists() else []

    async def start_radio(self) -> None:
        """Plug the controller in."""
        command = [sys.executable, "-m", "simulators.air", "--world", str(self.folder / "world.json")]
        command += ["--control", str(self.folder / "control"), "--journal", str(self.folder / "journal.jsonl")]
        with (self.folder / "radio.log").open("ab") as log:
            self.radio = await asyncio.create_subprocess_exec(*command, stdout=subprocess.PIPE, stderr=log)
        assert self.radio.stdout is not None
        async with asyncio.timeout(LIMIT_S):
            assert await self.radio.stdout.readline() == b"ready\n", (self.folder / "radio.log").read_text()

    async def start(self) -> None:
        """Start bluetoothd, and wait until its adapter is powered."""
        binary = Path(os.environ[BLUETOOTHD])
        environment = {**library_environment(binary.parent), "DBUS_SYSTEM_BUS_ADDRESS": self.address}
        with (self.folder / "bluetoothd.log").open("ab") as log:
            self.daemon = await asyncio.create_subprocess_exec(str(binary), "-n", stdout=log, stderr=log, env=environment)
        async with asyncio.timeout(LIMIT_S):
            while not await self._powered():
                await asyncio.sleep(0.5)  # a first try is often answered with Busy

    async def kill(self) -> None:
        """SIGKILL, and wait: a crash."""
        await _end(self.daemon, signal.SIGKILL)

    async def do(self, what: str, **fields: object) -> dict[str, Any]:
        """One command to the radio."""
        async with asyncio.timeout(LIMIT_S):
            reader, writer = await asyncio.open_unix_connection(self.folder / "control")
            writer.write(json.dumps({"do": what, **fields}).encode() + b"\n")
            answer = json.loads(await reader.readline())
            writer.close()
        assert answer["ok"], answer
        return answer

    async def stop(self) -> None:
        """End both."""
        await _end(self.daemon, signal.SIGTERM)
        await _end(self.radio, signal.SIGTERM)

    async def _powered(self) -> bool:
        bus = await MessageBus(bus_address=self.address, bus_type=BusType.SYSTEM).connect()
        try:
            body = ["org.bluez.Adapter1", "Powered", Variant("b", value=True)]
            properties = "org.freedesktop.DBus.Properties"
            call = Message(destination="org.bluez", path="/org/bluez/hci0", interface=properties, member="Set", signature="ssv", body=body)
            answer = await bus.call(call)
            return answer is not None and answer.message_type == MessageType.METHOD_RETURN
        finally:
            bus.disconnect()


async def _end(process: asyncio.subprocess.Process | None, number: signal.Signals) -> None:
    if process is None or process.returncode is not None:
        return
    process.send_signal(number)
    try:
        async with asyncio.timeout(20):
            await process.wait()
    except TimeoutError:
        process.kill()
        await process.wait()


@asynccontextmanager
async def real_bluetooth(folder: Path, world: Mapping[str, object]) -> AsyncGenerator[RealBluetooth]:
    """The room `world` (see simulators/bluez/world.py) around a real bluetoothd; its files are in `folder`."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "world.json").write_text(json.dumps(world))
    async with private_bus(folder) as bus:
        bluetooth = RealBluetooth(bus, folder)
        try:
            await bluetooth.start_radio()
            await bluetooth.start()
            yield bluetooth
        finally:
            await bluetooth.stop()
