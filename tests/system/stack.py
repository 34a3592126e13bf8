"""A whole site as real processes that a test may kill: brokers, gateway and platform, each started and ended by its own process id.

The gym and the recording are deterministic, so the stores at the end can be compared bit for bit with a run in which nothing was disturbed.
"""

from __future__ import annotations

import asyncio
import json
import os
import signal
import sqlite3
import sys
import time
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, Self

from broker.frames import SELF_NUMBERED, Clock, Frame, encode_frame
from broker.ids import origin_of, route_of
from broker.logrecord import Kind, LogRecord
from gateway.settings import FileReplay
from paceline.config import Settings
from paceline.parts import roles
from paceline.site import CENTRAL_PLATFORM, Site, add_nodes, open_site
from paceline.supervise import Role
from processors.log import SqliteLog
from processors.runner import Runner
from processors.stores import ReadStore, fingerprint
from simulators.gym import Gym, GymSettings, gym_usernames
from simulators.truth import Made
from tests.servers import ServedBroker

TENANT = "gym"
START_US = 1_790_000_000_000_000  # 2026-09-21: long ago enough for no clock to call it the future
READY_S = 120.0
CENTRAL_USERS = (f"{TENANT}/box", *CENTRAL_PLATFORM)


class Stack:
    """`async with Stack(tmp) as stack`: all roles up. Roles are named as in `paceline.parts.roles`; those of a box added later carry its name.

    `central` is a broker of the test's own in place of the embedded one; it must know `CENTRAL_USERS`. `gateway`: what the box is told besides,
    `settings` and `env`: what the site and the environment of each role hold besides.
    """

    def __init__(
        self,
        data: Path,
        gym: GymSettings | None = None,
        files: Iterable[FileReplay] = (),
        *,
        central: ServedBroker | None = None,
        gateway: Mapping[str, object] | None = None,
        settings: Mapping[str, object] | None = None,
        env: Mapping[str, str] | None = None,
    ) -> None:
        box: dict[str, object] = {"files": [file.model_dump() for file in files], **(gateway or {})}
        tree: dict[str, object] = {"data": data, "tenant": TENANT, "gateway": box, "api": {"port": 0}, **(settings or {})}
        self.external = central
        if central is not None:
            tree["central"] = {"kind": "external", "host": central.host, "port": central.port}
            _keep_secrets(data, {f"central:{user}": central.password(user) for user in CENTRAL_USERS})
        self.site: Site = open_site(Settings.model_validate(tree))
        self.gym_settings = self.members(gym) if gym else None
        self.roles: dict[str, Role] = {role.name: replace(role, env={**(env or {}), **role.env}) for role in roles(self.site)}
        self._processes: dict[str, asyncio.subprocess.Process] = {}
        self.kills = 0
        self.owed: list[tuple[str, Frame]] = []
        self._checks = 0

    def add_box(self, name: str, node: str) -> Site:
        """A further gateway with a near broker of its own, not started: roles `gateway-NAME` and `broker-near-NAME`."""
        user = f"{TENANT}/{node}"
        secret = add_nodes(self.site, "central", [user])[user]
        data = self.site.data / name
        _keep_secrets(data, {f"central:{user}": secret})
        central = {"kind": "external", "host": self.site.settings.central.host, "port": self.site.settings.central.port}
        tree = {"data": data, "tenant": TENANT, "central": central, "gateway": {"node": node}, "api": {"port": 0}}
        site = open_site(Settings.model_validate(tree))
        for role in roles(site):
            if role.name != "platform":
                self.roles[f"{role.name}-{name}"] = replace(role, name=f"{role.name}-{name}")
        return site

    def route(self, role: str, port: int) -> None:
        """From its next start on this role meets the central broker at `port`."""
        self.roles[role] = replace(self.roles[role], env={**self.roles[role].env, "PACELINE_CENTRAL__PORT": str(port)})

    def members(self, gym: GymSettings, near: Site | None = None, *, broker: str = "near", then: Site | None = None) -> GymSettings:
        """The gym with an address and credentials at the near broker of a box (default: the first), or at the `central` one.

        `then` is the box its members may roam to.
        """
        site = near or self.site
        where = site.settings.near if broker == "near" else site.settings.central
        secrets = add_nodes(site, broker, gym_usernames(gym))
        if then is not None:
            _keep_secrets(then.data, {f"near:{user}": secret for user, secret in secrets.items()})
            add_nodes(then, "near", list(secrets))
            gym = replace(gym, second_broker=(then.settings.near.host, then.settings.near.port))
        return replace(gym, host=where.host, port=where.port, passwords=secrets)

    async def __aenter__(self) -> Self:
        for name in self.roles:
            await self.start(name)
        return self

    async def __aexit__(self, *_exc: object) -> None:
        for name in reversed(list(self._processes)):
            await self.end(name)

    async def start(self, name: str, *, kill_at: str = "", wait: bool = True, through: Sequence[str] = ("-m", "paceline")) -> None:
        """Start a role (kill -9 at a named point when `kill_at` says so) and wait until it is ready or dead."""
        if name == "broker-central" and self.external is not None:
            await self.external.start()
            return
        role = self.roles[name]
        log = (self.site.logs / f"{name}.log").open("ab")
        env = {**os.environ, **role.env, "PACELINE_KILL_AT": kill_at}
        process = await asyncio.create_subprocess_exec(sys.executable, *through, *role.args, env=env, stdout=log, stderr=log)
        log.close()
        self._processes[name] = process
        deadline = time.monotonic() + READY_S
        while wait and process.returncode is None and not await role.ready():
            if time.monotonic() > deadline:
                raise TimeoutError(f"{name} did not become ready: {self.tail(name)}")
            await asyncio.sleep(0.02)

    async def kill(self, name: str) -> None:
        """kill -9, now."""
        if name == "broker-central" and self.external is not None:
            await self.external.kill()
            self.kills += 1
            return
        process = self._processes[name]
        if process.returncode is None:
            process.send_signal(signal.SIGKILL)
        await process.wait()
        self.kills += 1

    def runs(self, name: str) -> bool:
        """Whether the process that was started last still runs."""
        return self._processes[name].returncode is None

    def pid(self, name: str) -> int:
        """The process id of the process that was started last."""
        return self._processes[name].pid

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
        """SIGTERM, and kill -9 if that does not help within a minute."""
        process = self._processes[name]
        if process.returncode is None:
            process.terminate()
            try:
                await asyncio.wait_for(process.wait(), 60)
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
        assert self.gym_settings is not None
        return Gym(self.gym_settings)

    def fingerprint(self) -> str:
        return fingerprint(self.state)

    async def check(self, frames: Iterable[tuple[str, Frame]] = (), timeout_s: float = 120) -> None:
        """Nothing lost, nothing twice: the stores end equal to the undisturbed run of all frames owed so far and `frames` (node, frame)."""
        self.owed += frames
        self._checks += 1
        await self.settled(len(self.owed), timeout_s)
        want = undisturbed(self.site.data / f"undisturbed-{self._checks}", self.owed)
        if self.fingerprint() != want:
            held = await asyncio.to_thread(self.difference)
            raise AssertionError(f"the stores differ from those of the undisturbed run: {held}")

    def difference(self) -> str:
        """Which frames are lost, twice or under another subject, and what is right."""
        store = ReadStore(self.state)
        held = Counter((origin, boot, seq, subject) for origin, boot, seq, subject, _ in store.frames())
        store.close()
        owed = Counter(
            (
                str(origin_of(TENANT, node, f.device, self_numbered=f.self_numbered)), f.boot, f.seq,
                str(route_of(TENANT, node, f.device, f.subject, self_numbered=f.self_numbered)),
            )
            for node, f in self.owed
        )  # fmt: skip
        lost, more = sorted((owed - held).elements()), sorted((held - owed).elements())
        return f"{len(lost)} lost {lost[:3]}, {len(more)} too many {more[:3]}; of {len(self.owed)} frames"

    def counter(self, name: str) -> int:
        """A total of the platform, such as `unknown_layouts`."""
        store = ReadStore(self.state)
        found = store.counters().get(name, 0)
        store.close()
        return found

    def counted(self, of: str) -> int:
        """Frames counted of devices whose name begins so."""
        store = ReadStore(self.state)
        found = sum(n for _, device, n in store.counted(TENANT) if device.startswith(of))
        store.close()
        return found

    async def settled(self, frames: int, timeout_s: float = 120) -> None:
        """Wait until that many distinct frames are counted and no late frames wait for their rebuild."""
        deadline = time.monotonic() + timeout_s
        while True:
            store = ReadStore(self.state)
            counted = sum(n for _, _, n in store.counted(TENANT))
            done = store.position()  # first: a wake asked for up to here is pending below, or lies in the log behind it
            pending = store.pending()
            pending += log_end(self.site.log_db) - done
            store.close()
            assert counted <= frames, f"{counted} frames are counted, {frames} were made"
            if counted == frames and pending <= 0:
                return
            if time.monotonic() > deadline:
                raise TimeoutError(f"{counted} of {frames} frames, {pending} records or rebuilds pending; gateway: {self.tail('gateway')}")
            await asyncio.sleep(0.1)


def log_end(log_db: Path) -> int:
    """The last position of a log, read beside its writer."""
    db = sqlite3.connect(f"file:{log_db}?mode=ro", uri=True)
    try:
        return db.execute("SELECT coalesce(max(first_pos + count - 1), 0) FROM block").fetchone()[0]
    finally:
        db.close()


def gym_of(seed: int, members: int, samples: int, **more: Any) -> GymSettings:
    """A gym whose frames are the same bytes in every run; `Stack.members` gives it a broker."""
    fields: dict[str, Any] = {"seed": seed, "samples": samples, "start_us": START_US, "speed": 4.0, **more}
    return GymSettings("", 0, TENANT, members, "", **fields)


def frame_of(made: Made) -> tuple[str, Frame]:
    """(node, frame) with the content of what was made, dated as it truly was (no clock of these gyms is wrong in the end)."""
    _, *node, device = made.origin.split("/")
    flags = 0 if node else SELF_NUMBERED
    return (*node, "box")[0], Frame(
        made.layout, flags, device, made.boot, made.seq, 0, made.utc_us, Clock.NETWORK, made.subject, made.records
    )


def _keep_secrets(data: Path, secrets: Mapping[str, str]) -> None:
    """Let a site have these secrets before it draws its own."""
    path = data / "secrets" / "secrets.json"
    path.parent.mkdir(parents=True, exist_ok=True)
    known = json.loads(path.read_text()) if path.exists() else {}
    path.write_text(json.dumps({**known, **secrets}))


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
