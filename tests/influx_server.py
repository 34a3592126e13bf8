"""A real InfluxDB for tests: influxd 1.8.10 with its v2 write and Flux APIs, its own process on loopback.

    async with start_influx(tmp_path) as influx:
        influx.url, influx.token                              # for influxdb-client; a bucket is "database/policy"
        await influx.kill(); await influx.start()             # kill -9, and again with its data

Go builds it from its module once, into `.cache/tools` (pure Go; 2.7 needs Rust and a quarter of an hour: `influx_two_server`): two minutes of a
core, so `make test` begins it ahead (`tests/made_ahead.py`), with low priority, and the tests that need it wait. What only
2.x has (delete, buckets, tasks) is not there: one class holds those calls. The process is ended by its own id.
"""

from __future__ import annotations

import asyncio
import signal
import subprocess
import time
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from paceline.supervise import free_port
from tests.debian_packages import ServerUnavailableError
from tests.go_tools import go_tool
from tests.servers import end_process

INFLUX: Final = "1.8.10"
START_TIMEOUT_S: Final = 600.0  # it syncs its files before it answers: minutes on a disk that others use hard


def find_influxd() -> Path:
    """The server, built on the first call (about two minutes of one core)."""
    return go_tool(f"influxd-{INFLUX}", f"github.com/influxdata/influxdb/cmd/influxd@v{INFLUX}", what=f"influxd {INFLUX}")


@dataclass(slots=True)
class Influx:
    """A server process with its data."""

    binary: Path
    home: Path
    port: int
    rpc_port: int
    process: subprocess.Popen[bytes] | None = None
    asks_log_in: bool = False
    token: str = "tests:tests"  # 1.8 takes user:password for a token, and any while it asks nobody to log in
    org: str = "-"

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def log(self) -> str:
        """The end of what the process wrote."""
        path = self.home / "out"
        return path.read_text(errors="replace")[-4000:] if path.exists() else ""

    async def start(self) -> None:
        """Start with the data it has, and wait until it answers."""
        with (self.home / "out").open("ab") as log:
            command = [str(self.binary), "run", "-config", str(self.home / "influxd.toml")]
            self.process = subprocess.Popen(command, stdout=log, stderr=log)
        deadline = time.monotonic() + START_TIMEOUT_S
        while not await asyncio.to_thread(self._answers):
            if self.process.poll() is not None or time.monotonic() > deadline:
                raise ServerUnavailableError(f"influxd did not start on port {self.port} (exit {self.process.poll()}):\n{self.log()}")
            await asyncio.sleep(0.05)

    async def kill(self) -> None:
        """SIGKILL, and wait."""
        await self._end(signal.SIGKILL)

    async def stop(self) -> None:
        """SIGTERM, and wait; SIGKILL after a minute."""
        await self._end(signal.SIGTERM)

    def create_database(self, name: str) -> None:
        """Make a database; its bucket is `name/autogen`."""
        self.say(f'CREATE DATABASE "{name}"')

    def say(self, statement: str, database: str = "") -> None:
        """Run a statement of InfluxQL, as the user of `token` where it asks for one."""
        user, _, password = self.token.partition(":")
        query = urllib.parse.urlencode({"db": database, **({"u": user, "p": password} if self.asks_log_in else {})})
        urllib.request.urlopen(f"{self.url}/query?{query}", urllib.parse.urlencode({"q": statement}).encode(), timeout=30).close()

    async def _end(self, how: signal.Signals) -> None:
        process, self.process = self.process, None
        if process is not None:
            await end_process(process, how)

    def _answers(self) -> bool:
        try:
            urllib.request.urlopen(f"{self.url}/ping", timeout=2).close()
        except (OSError, urllib.error.URLError):
            return False
        return True

    def write_config(self) -> None:
        """Only on loopback, nothing reported home, Flux on."""
        self.home.mkdir(parents=True, exist_ok=True)
        (self.home / "influxd.toml").write_text(
            f'reporting-disabled = true\nbind-address = "127.0.0.1:{self.rpc_port}"\n'
            f'[meta]\ndir = "{self.home}/meta"\n'
            f'[data]\ndir = "{self.home}/data"\nwal-dir = "{self.home}/wal"\nindex-version = "tsi1"\nmax-series-per-database = 0\n'
            f'[http]\nbind-address = "127.0.0.1:{self.port}"\nflux-enabled = true\nlog-enabled = false\n'
            f"auth-enabled = {str(self.asks_log_in).lower()}\n"
            "[monitor]\nstore-enabled = false\n"
        )


@asynccontextmanager
async def start_influx(folder: Path, *, asks_log_in: bool = False) -> AsyncIterator[Influx]:
    """A running server without data. `asks_log_in`: its first statement has to make the user of `token`."""
    binary = await asyncio.to_thread(find_influxd)
    influx = Influx(binary, folder / "influx", free_port(), free_port(), asks_log_in=asks_log_in)
    influx.write_config()
    try:
        await influx.start()
        yield influx
    finally:
        await influx.stop()
