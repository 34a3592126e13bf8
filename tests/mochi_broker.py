"""A second central broker for the contract of the first: `mochi/`, on the library mochi-mqtt, built by Go. Its process is ended by its id."""

from __future__ import annotations

import asyncio
import hashlib
import signal
import subprocess
import time
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Final

from paceline.ca_authority import Authority
from paceline.ca_revocation import BrokerPlace
from paceline.supervise import free_port, port_open
from tests.debian_packages import ServerUnavailableError
from tests.go_tools import go_tool
from tests.servers import PROJECT, end_process

SOURCE: Final = PROJECT / "tests" / "mochi"
START_S: Final = 300.0


def find_mochi() -> Path:
    """The program, built on the first call."""
    text = b"".join((SOURCE / name).read_bytes() for name in ("main.go", "go.mod", "go.sum"))
    return go_tool(f"mochi-{hashlib.sha256(text).hexdigest()[:16]}", ".", what="tests/mochi", cwd=SOURCE)


@asynccontextmanager
async def start_mochi(authority: Authority, folder: Path, platform: Sequence[str]) -> AsyncIterator[BrokerPlace]:
    """A broker on loopback that trusts this authority; `platform`: names of our own processes."""
    program = await asyncio.to_thread(find_mochi)
    server, place = folder / "central.pem", BrokerPlace("127.0.0.1", free_port())
    authority.keep_server(server, ("localhost", "127.0.0.1"))
    authority.publish()
    command = [str(program), f"{place.host}:{place.port}", str(server), str(authority.roots_file.parent), ",".join(platform)]
    with (folder / "mochi.log").open("ab") as log:
        process = subprocess.Popen(command, stdout=log, stderr=log)
    try:
        is_open, deadline = port_open(place.host, place.port), time.monotonic() + START_S
        while not await is_open():
            if process.poll() is not None or time.monotonic() > deadline:
                raise ServerUnavailableError(f"mochi did not start: {(folder / 'mochi.log').read_text()}")
            await asyncio.sleep(0.05)
        yield place
    finally:
        await end_process(process, signal.SIGTERM)
