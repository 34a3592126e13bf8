"""A whole site as real processes that a test may kill: brokers, gateway and platform, each started and ended by its own process id.

The gym and the recording are deterministic, so the stores at the end can be compared bit for bit with a run in which nothing was disturbed.
"""

from __future__ import annotations

import asyncio
import os
import signal
import sys
import time
from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path

from broker.frames import Frame, encode_frame
from broker.ids import route_of
from broker.logrecord import Kind, LogRecord
from gateway.settings import FileReplay
from paceline.config import Settings
from paceline.parts import roles
from paceline.site import Site, add_nodes, open_site
from paceline.supervise import Role
from processors.log import SqliteLog
from processors.runner import Runner
from processors.stores import ReadStore, fingerprint
from simulators.gym import Gym, GymSettings, gym_usernames

TENANT = "gym"
START_US = 1_790_000_000_000_000  # 2026-09-21: long ago enough for no clock to call it the future
READY_S = 60.0


class Stack:
    """`async with Stack(tmp) as stack`: all roles up. Roles are named as in `paceline.parts.roles`."""

    def __init__(self, data: Path, gym: GymSettings, files: Iterable[FileReplay] = ()) -> None:
        replays = [file.model_dump() for file in files]
        settings = Settings.model_validate({"data": data, "tenant": TENANT, "gateway": {"files": replays}, "api": {"port": 0}})
        self.site: Site = open_site(settings)
        near = self.site.settings.near
        secrets = add_nodes(self.site, "near", gym_usernames(gym))
        self.gym_settings = replace(gym, host=near.host, port=near.port, passwords=secrets)
        self.roles: dict[str, Role] = {role.name: role for role in roles(self.site)}
        self._processes: dict[str, asyncio.subprocess.Process] = {}
        self.kills = 0

    async def __aenter__(self) -> Stack:
        for name in self.roles:
            await self.start(name)
        return self

    async def __aexit__(self, *_exc: object) -> None:
        for name in reversed(list(self._processes)):
            await self.end(name)

    async def start(self, name: str, *, kill_at: str = "", wait: bool = True) -> None:
        """Start a role (kill -9 at a named point when `kill_at` says so) and wait until it is ready or dead."""
        role = self.roles[name]
        log = (self.site.logs / f"{name}.log").open("ab")
        env = {**os.environ, **role.env, "PACELINE_KILL_AT": kill_at}
        process = await asyncio.create_subprocess_exec(sys.executable, "-m", "paceline", *role.args, env=env, stdout=log, stderr=log)
        log.close()
        self._processes[name] = process
        deadline = time.monotonic() + READY_S
        while wait and process.returncode is None and not await role.ready():
            if time.monotonic() > deadline:
                raise TimeoutError(f"{name} did not become ready: {self.tail(name)}")
            await asyncio.sleep(0.02)

    async def kill(self, name: str) -> None:
        """kill -9, now."""
        process = self._processes[name]
        if process.returncode is None:
            process.send_signal(signal.SIGKILL)
        await process.wait()
        self.kills += 1

    async def died(self, name: str, timeout_s: float) -> bool:
        """Whether the role died (at its named point) in time."""
        try:
            await asyncio.wait_for(self._processes[name].wait(), timeout_s)
        except TimeoutError:
            return False
        assert self._processes[name].returncode == -signal.SIGKILL, f"{name} ended by itself: {self.tail(name)}"
        self.kills += 1
        return True

    async def end(self, name: str) -> None:
        """SIGTERM, and kill -9 if that does not help within 15 s."""
        process = self._processes[name]
        if process.returncode is None:
            process.terminate()
            try:
                await asyncio.wait_for(process.wait(), 15)
            except TimeoutError:
                process.kill()
                await process.wait()

    def log(self, name: str) -> str:
        return (self.site.logs / f"{name}.log").read_text()

    def tail(self, name: str) -> str:
        return self.log(name)[-2000:]

    @property
    def state(self) -> Path:
        return self.site.platform_dir / "state.db"

    def gym(self) -> Gym:
        """The gym near the box, not started."""
        return Gym(self.gym_settings)

    def fingerprint(self) -> str:
        return fingerprint(self.state)

    async def settled(self, frames: int, timeout_s: float = 60) -> None:
        """Wait until that many distinct frames are counted and no late frames wait for their rebuild."""
        deadline = time.monotonic() + timeout_s
        while True:
            store = ReadStore(self.state)
            counted = sum(n for _, _, n in store.counted(TENANT))
            pending = store.pending()
            store.close()
            if counted >= frames and not pending:
                return
            if time.monotonic() > deadline:
                raise TimeoutError(f"{counted} of {frames} frames, {pending} rebuilds pending; gateway: {self.tail('gateway')}")
            await asyncio.sleep(0.1)


def undisturbed(folder: Path, frames: Iterable[tuple[str, Frame]]) -> str:
    """The fingerprint of the stores when exactly these frames (node, frame) arrive once, each node's in order."""
    folder.mkdir(parents=True)
    now_us = time.time_ns() // 1000
    with SqliteLog.open(folder / "log.db") as log:
        records = [
            LogRecord(
                Kind.FRAME,
                route_of(TENANT, node, f.device, f.subject, self_numbered=f.self_numbered),
                TENANT,
                node,
                now_us,
                encode_frame(f),
            )
            for node, f in frames
        ]
        log.append(records)
        runner = Runner(log, folder / "state.db", clock_us=lambda: now_us + 60_000_000)
        runner.drain()
        while runner.fire_wakes():
            runner.drain()
        runner.close()
    return fingerprint(folder / "state.db")
