"""An installed box as its own process: `paceline gateway box` (or another command that runs it), its page, and what it tells its manager."""

from __future__ import annotations

import asyncio
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from html import unescape
from pathlib import Path
from urllib.error import HTTPError
from urllib.parse import urlencode
from urllib.request import Request, urlopen

from tests.servers import PROJECT

WAIT_S = 60.0


class BoxProcess:
    """`start()`, then `await page()` while it is not set up. Its output grows in `log`.

    `options`: those of the command, else a data folder of its own.
    """

    def __init__(
        self,
        folder: Path,
        command: Sequence[str] = (sys.executable, "-m", "paceline"),
        *,
        env: Mapping[str, str] | None = None,
        options: Sequence[str] = (),
    ) -> None:
        self.data_dir = folder / "box"
        self.data_dir.mkdir(parents=True, exist_ok=True)
        self.log_path = folder / "box.log"
        self._command = [*command, "gateway", "box", *(options or ["--data", str(self.data_dir)])]
        self._env = {**os.environ, "PACELINE_BOX__PORT": "0", "PACELINE_BOX__HOST": "127.0.0.1", **(env or {})}
        self._begin = 0
        self.process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        self._begin = len(self.log_path.read_bytes()) if self.log_path.exists() else 0
        with self.log_path.open("ab") as log:
            self.process = subprocess.Popen(self._command, cwd=PROJECT, env=self._env, stdout=log, stderr=log)

    def log(self) -> str:
        """What it said since its last start."""
        return self.log_path.read_bytes()[self._begin :].decode(errors="replace")

    async def said(self, pattern: str) -> re.Match[str]:
        """Wait until its output has it."""
        deadline = time.monotonic() + WAIT_S
        while (found := re.search(pattern, self.log())) is None:
            assert self.process is not None
            assert self.process.poll() is None, f"the box ended with {self.process.returncode}:\n{self.log()}"
            assert time.monotonic() < deadline, f"never said {pattern}:\n{self.log()}"
            await asyncio.sleep(0.05)
        return found

    async def page(self) -> tuple[str, str]:
        """Where the set-up page is on loopback, and its code."""
        found = await self.said(r"or open http://\S+:(\d+)/ and give the code (\S+)")
        return f"http://127.0.0.1:{found[1]}/", found[2]

    async def end(self, number: signal.Signals = signal.SIGTERM) -> int:
        assert self.process is not None
        if self.process.poll() is None:
            self.process.send_signal(number)
        return await asyncio.to_thread(self.process.wait, WAIT_S)


async def read(url: str, form: Mapping[str, str] | None = None, **headers: str) -> tuple[int, str]:
    """Status and text of a page; with a form it is posted. A redirect is followed."""

    def ask() -> tuple[int, str]:
        request = Request(url, data=None if form is None else urlencode(form).encode(), headers=headers)
        try:
            with urlopen(request, timeout=WAIT_S) as answer:
                return answer.status, unescape(answer.read().decode())
        except HTTPError as error:
            return error.code, unescape(error.read().decode())

    return await asyncio.to_thread(ask)


async def until_shown(url: str, text: str) -> str:
    """Wait until the page has the text; the whole page."""
    async with asyncio.timeout(WAIT_S):
        while text not in (page := (await read(url))[1]):
            await asyncio.sleep(0.1)
    return page
