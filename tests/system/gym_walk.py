"""docs/gym.md as a script: its blocks for the platform and for the box, and the platform that runs beside the test."""

from __future__ import annotations

import asyncio
import json
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

from paceline.config import Settings
from paceline.live_client import fetch_live
from paceline.site import Site, running_site
from processors.stores import ReadStore
from tests.servers import PROJECT, free_port

WAIT_S = 120.0


@dataclass(frozen=True, slots=True)
class Block:
    """Lines to type, and where."""

    where: str
    text: str


def blocks(document: str) -> list[Block]:
    """The blocks of the walk, in order."""
    return [
        Block(where.strip(), text)
        for where, text in re.findall(r"^```sh (platform|box[a-z ]*)\n(.*?)^```$", document, re.MULTILINE | re.DOTALL)
    ]


class Platform:
    """`paceline run --data data` in a folder, and the other commands there."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        folder.mkdir(parents=True, exist_ok=True)
        self._env = {
            **os.environ,
            "PACELINE_API__PORT": str(free_port()),
            "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}",
            "PYTHONPATH": str(PROJECT),
        }
        self._process: subprocess.Popen[bytes] | None = None

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_exc: object) -> None:
        await self.stop()

    async def start(self) -> None:
        """Start the site and wait until its page answers."""
        with (self.folder / "run.log").open("ab") as log:
            self._process = subprocess.Popen(["paceline", "run", "--data", "data"], cwd=self.folder, env=self._env, stdout=log, stderr=log)
        deadline = time.monotonic() + WAIT_S
        while not (self.folder / "data/site.json").exists() or await self.live() is None:
            assert self._process.poll() is None, self.log()
            assert time.monotonic() < deadline, self.log()
            await asyncio.sleep(0.1)

    async def stop(self) -> None:
        """End it in order."""
        if self._process is not None and self._process.poll() is None:
            self._process.send_signal(signal.SIGTERM)
            await asyncio.to_thread(self._process.wait, WAIT_S)

    def log(self) -> str:
        return (self.folder / "run.log").read_text(errors="replace")[-4000:]

    def type(self, text: str) -> str:
        """Run lines of the document in a shell; what they said."""
        done = subprocess.run(
            ["sh", "-e", "-c", text], cwd=self.folder, env=self._env, capture_output=True, text=True, timeout=600, check=False
        )
        assert done.returncode == 0, f"{text}: {done.stdout}{done.stderr}"
        return done.stdout

    @property
    def site(self) -> Site:
        return running_site(Settings(data=self.folder / "data"))

    async def live(self) -> dict[str, Any] | None:
        """What the wall shows."""
        return await fetch_live(self.site)

    async def tile(self, athlete: str) -> dict[str, Any]:
        """The tile of an athlete once it shows a heart rate."""
        wall = await self.shows(lambda wall: any(tile["athlete"] == athlete and tile["hr_bpm"] for tile in wall["athletes"]))
        return next(tile for tile in wall["athletes"] if tile["athlete"] == athlete)

    async def shows(self, what: Callable[[dict[str, Any]], bool]) -> dict[str, Any]:
        """The wall once it shows that."""
        deadline = time.monotonic() + WAIT_S
        while (wall := await self.live()) is None or not what(wall):
            assert time.monotonic() < deadline, json.dumps(wall)
            await asyncio.sleep(0.1)
        return wall

    def counted(self, device: str) -> int:
        """Distinct frames of a device in the stores."""
        return self._numbers(device)[0]

    async def has_all(self, device: str, least: int) -> None:
        """Wait until at least so many frames of the device are counted and none of its numbers is missing."""
        deadline = time.monotonic() + WAIT_S
        while (numbers := self._numbers(device))[0] < least or numbers[1]:
            assert time.monotonic() < deadline, f"{numbers[0]} of at least {least} frames are counted, {numbers[1]} are missing"
            await asyncio.sleep(0.1)

    def _numbers(self, device: str) -> tuple[int, int]:
        """(frames counted, numbers missing) of a device."""
        store, tenant = ReadStore(self.site.state_db), self.site.settings.tenant
        try:
            counted = sum(count for _, name, count in store.counted(tenant) if name == device)
            return counted, store.missing(tenant).get(device, 0)
        finally:
            store.close()


def credentials(printed: str) -> dict[str, str]:
    """The form of the set-up page as `paceline node add` printed it."""
    words = dict(re.findall(r"^(host|port|user and client id|password) (\S+)$", printed, re.MULTILINE))
    return {"host": words["host"], "port": words["port"], "node": words["user and client id"], "password": words["password"]}
