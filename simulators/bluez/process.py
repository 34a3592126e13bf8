"""The virtual daemon as a child process, with its private D-Bus: what a test or the demo starts, kills and starts again.

    async with virtual_bluetooth(folder, world) as bluetooth:
        os.environ["DBUS_SYSTEM_BUS_ADDRESS"] = bluetooth.address
        await bluetooth.do("drop", device="C0:00:00:00:00:01")
        await bluetooth.kill(); await bluetooth.start()      # a daemon that crashed

Every process is ended by its own id.
"""

from __future__ import annotations

import asyncio
import json
import os
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import AsyncGenerator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from broker.errors import LinkError
from simulators.bluez.journal import Entry, read_journal
from simulators.private_bus import PrivateBus, private_bus

_ROOT: Final = Path(__file__).resolve().parents[2]  # where `python -m` finds us, installed or not
_START_TIMEOUT_S: Final = 60.0
_COMMAND_TIMEOUT_S: Final = 30.0


@dataclass(slots=True)
class VirtualBluetooth:
    """A private D-Bus and the virtual daemon on it."""

    bus: PrivateBus
    folder: Path
    control: Path
    epoch_s: float
    process: asyncio.subprocess.Process | None = None

    @property
    def address(self) -> str:
        """For DBUS_SYSTEM_BUS_ADDRESS."""
        return self.bus.address

    @property
    def journal(self) -> Path:
        """The file of all that went out, over all lives of the daemon."""
        return self.folder / "journal.jsonl"

    def entries(self, device: str = "") -> list[Entry]:
        """What went out so far, of one device or of all."""
        if not self.journal.exists():
            return []
        return [entry for entry in read_journal(self.journal) if device in {"", entry.device}]

    async def start(self) -> None:
        """Start the daemon, and wait until it owns its name. LinkError says why it did not."""
        command = [sys.executable, "-m", "simulators.bluez", "--address", self.bus.address, "--control", str(self.control)]
        command += [
            "--world",
            str(self.folder / "world.json"),
            "--epoch-s",
            repr(self.epoch_s),
            "--journal",
            str(self.journal),
            "--with-parent",
        ]
        with (self.folder / "bluez.log").open("ab") as log:
            self.process = await asyncio.create_subprocess_exec(
                *command, stdout=subprocess.PIPE, stderr=log, cwd=_ROOT, start_new_session=True
            )
        assert self.process.stdout is not None
        try:
            async with asyncio.timeout(_START_TIMEOUT_S):
                line = await self.process.stdout.readline()
        except TimeoutError:
            line = b""
        if line.strip() != b"ready":
            await self.kill()
            raise LinkError(f"the virtual daemon did not start: {self.log()}", cure="read the last line above")

    async def kill(self) -> None:
        """SIGKILL, and wait: a crash."""
        await self._end(signal.SIGKILL)

    async def stop(self) -> None:
        """SIGTERM, and wait; SIGKILL after 10 s."""
        await self._end(signal.SIGTERM)

    async def do(self, what: str, **fields: object) -> dict[str, Any]:
        """One command of the control channel. LinkError when it is refused."""
        async with asyncio.timeout(_COMMAND_TIMEOUT_S):
            reader, writer = await asyncio.open_unix_connection(self.control, limit=1 << 20)
            try:
                writer.write(json.dumps({"do": what, **fields}).encode() + b"\n")
                await writer.drain()
                answer = json.loads(await reader.readline())
            finally:
                writer.close()
                await writer.wait_closed()
        if not answer["ok"]:
            raise LinkError(f"virtual daemon: {answer['error']}", cure="correct the command")
        return answer

    def log(self) -> str:
        """The end of what the daemon wrote."""
        path = self.folder / "bluez.log"
        return path.read_text(errors="replace")[-3000:] if path.exists() else ""

    async def _end(self, number: signal.Signals) -> None:
        process, self.process = self.process, None
        if process is None:
            return
        if process.returncode is None:
            process.send_signal(number)
        try:
            async with asyncio.timeout(10.0):
                await process.wait()
        except TimeoutError:
            process.kill()
            await process.wait()
        self.control.unlink(missing_ok=True)


@asynccontextmanager
async def virtual_bluetooth(folder: Path, world: Mapping[str, object]) -> AsyncGenerator[VirtualBluetooth]:
    """A virtual daemon with the room `world` (see simulators/bluez/world.py); its files are in `folder`."""
    folder = await asyncio.to_thread(folder.absolute)
    with tempfile.TemporaryDirectory(prefix="paceline-bluez-") as short:
        async with private_bus(folder) as bus:
            _write_world(folder, world)
            bluetooth = VirtualBluetooth(bus, folder, Path(short) / "control", time.monotonic())
            await bluetooth.start()
            try:
                yield bluetooth
            finally:
                await bluetooth.stop()


def _write_world(folder: Path, world: Mapping[str, object]) -> None:
    (folder / "world.json").write_text(json.dumps(world))


def environment(address: str) -> dict[str, str]:
    """The environment of a process that shall see this daemon and no other."""
    return {**os.environ, "DBUS_SYSTEM_BUS_ADDRESS": address}
