"""A D-Bus of one's own: a dbus-daemon on a socket in a folder, with a configuration that lets every process of this user do everything.

    async with private_bus(folder) as bus:
        bus.address      # for DBUS_SYSTEM_BUS_ADDRESS; the socket is in a short path of its own, as Unix sockets need

It needs the dbus-daemon program: the machine's, or Debian's package unpacked without root. Nothing of the system's bus is touched.
"""

from __future__ import annotations

import asyncio
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from simulators.debian_packages import TOOLS, ToolUnavailableError, find_program, library_environment

_ROOT: Final = Path(__file__).resolve().parent.parent  # where `python -m` finds us, installed or not
_START_TIMEOUT_S: Final = 30.0
_STOP_TIMEOUT_S: Final = 10.0
_CONFIG: Final = """<!DOCTYPE busconfig PUBLIC "-//freedesktop//DTD D-Bus Bus Configuration 1.0//EN" "busconfig.dtd">
<busconfig>
  <type>system</type>
  <listen>unix:path={socket}</listen>
  <auth>EXTERNAL</auth>
  <policy context="default">
    <allow send_destination="*" eavesdrop="true"/>
    <allow eavesdrop="true"/>
    <allow own="*"/>
    <allow user="*"/>
  </policy>
  <limit name="max_incoming_bytes">1000000000</limit>
  <limit name="max_outgoing_bytes">1000000000</limit>
  <limit name="max_connections_per_user">4096</limit>
  <limit name="max_completed_connections">4096</limit>
  <limit name="max_replies_per_connection">50000</limit>
  <limit name="max_match_rules_per_connection">50000</limit>
</busconfig>
"""


@dataclass(slots=True)
class PrivateBus:
    """A running dbus-daemon."""

    address: str
    process: subprocess.Popen[bytes]

    async def kill(self) -> None:
        """SIGKILL, and wait."""
        self.process.kill()
        await asyncio.to_thread(self.process.wait, _STOP_TIMEOUT_S)


@asynccontextmanager
async def private_bus(folder: Path, tools: Path = TOOLS) -> AsyncGenerator[PrivateBus]:
    """A bus whose files are in `folder`, which ends with this process. ToolUnavailableError when there is no dbus-daemon to be had."""
    binary, folder = await asyncio.to_thread(find_program, "dbus-daemon", "dbus-daemon", tools), await asyncio.to_thread(folder.absolute)
    with tempfile.TemporaryDirectory(prefix="paceline-bus-") as short:
        place = Path(short) / "bus"
        process = _start(binary, folder, place)
        try:
            await asyncio.to_thread(_wait, process, place, folder / "bus.log")
            yield PrivateBus(f"unix:path={place}", process)
        finally:
            await asyncio.to_thread(_stop, process)


def _start(binary: Path, folder: Path, place: Path) -> subprocess.Popen[bytes]:
    folder.mkdir(parents=True, exist_ok=True)
    config = folder / "bus.conf"
    config.write_text(_CONFIG.format(socket=place))
    command = [sys.executable, "-m", "simulators.with_parent", str(binary)]
    command += [f"--config-file={config}", "--nofork", "--nopidfile", "--nosyslog"]
    with (folder / "bus.log").open("ab") as output:
        return subprocess.Popen(  # noqa: S603 - our own interpreter and module; a Ctrl-C in the terminal is for us, not for it
            command, stdout=output, stderr=output, env=library_environment(binary), cwd=_ROOT, start_new_session=True
        )


def _wait(process: subprocess.Popen[bytes], place: Path, log: Path) -> None:
    deadline = time.monotonic() + _START_TIMEOUT_S
    while not _listens(place):
        if process.poll() is not None or time.monotonic() > deadline:
            raise ToolUnavailableError(f"dbus-daemon did not start (exit {process.poll()}): {log.read_text(errors='replace')[-2000:]}")
        time.sleep(0.02)


def _listens(path: Path) -> bool:
    with socket.socket(socket.AF_UNIX) as probe:
        try:
            probe.connect(str(path))
        except OSError:
            return False
    return True


def _stop(process: subprocess.Popen[bytes]) -> None:
    process.terminate()
    try:
        process.wait(_STOP_TIMEOUT_S)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait(_STOP_TIMEOUT_S)
