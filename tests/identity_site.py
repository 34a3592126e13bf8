"""A site whose nodes are known by certificates, as real processes: `paceline broker serve central` (mosquitto) and `paceline node serve`.

async with IdentitySite(tmp_path) as site:
    code = site.code("gym/box1"); site.enrolled("gym/box1")       # a line to enrol by; an identity
    PahoClient(site.broker, None, client_id="x", context=site.shown("gym/box1"))
"""

from __future__ import annotations

import asyncio
import os
import signal
import ssl
import subprocess
import sys
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Self

from broker.enrolment import EnrolmentCode
from gateway.enrolment import enrol
from gateway.identity import Identity, load_identity
from paceline.ca_authority import Authority
from paceline.config import Settings
from paceline.parts import roles
from paceline.site import Site, open_site, publish_site
from paceline.site_identity import broker_place, new_code, open_authority
from paceline.supervise import Role
from tests.servers import PROJECT, ServedBroker, end_process, find_or_install_mosquitto, library_environment

READY_S = 300.0


def identity_settings(data: Path, **more: Any) -> Settings:
    """Settings of a site whose central broker is a mosquitto that goes by certificates."""
    tree: dict[str, Any] = {"data": data, "tenant": "gym", "api": {"port": 0}, **more}
    tree["central"] = {"kind": "mosquitto", "program": str(find_or_install_mosquitto()), **tree.get("central", {})}
    return Settings.model_validate(tree)


class IdentitySite:
    """Broker and enrolment service of one site; other roles are for the test to start."""

    def __init__(self, folder: Path, **more: Any) -> None:
        self.folder = folder
        self.site: Site = open_site(identity_settings(folder / "data", **more))
        publish_site(self.site)
        self.roles: dict[str, Role] = {role.name: role for role in roles(self.site)}
        self.authority: Authority = open_authority(self.site)
        self._running: dict[str, subprocess.Popen[bytes]] = {}

    @property
    def broker(self) -> ServedBroker:
        """Its address, for clients that show a certificate."""
        place = broker_place(self.site)
        return ServedBroker("mosquitto-tls", lambda _port: (), {}, Path(), self.site.logs / "broker-central.log", place.port, place.host)

    async def __aenter__(self) -> Self:
        for name in ("broker-central", "enrol"):
            await self.start(name)
        return self

    async def __aexit__(self, *_exc: object) -> None:
        for name in reversed(list(self._running)):
            await self.end(name)
        self.authority.__exit__()

    async def start(self, name: str, *, more: Mapping[str, str] | None = None) -> None:
        """Start a role and wait until it is ready."""
        role = self.roles[name]
        deadline = time.monotonic() + READY_S
        while await role.ready():  # the child of one that was killed is still ending
            assert time.monotonic() < deadline, f"{name}: somebody else has its port"
            await asyncio.sleep(0.05)
        environment = {**os.environ, **library_environment(find_or_install_mosquitto()), **role.env, **(more or {})}
        with (self.site.logs / f"{name}.log").open("ab") as log:
            command = [sys.executable, "-m", "paceline", *role.args]
            self._running[name] = subprocess.Popen(command, stdout=log, stderr=log, env=environment, cwd=PROJECT)
        deadline = time.monotonic() + READY_S
        while not await role.ready():
            assert self._running[name].poll() is None, self.log(name)
            assert time.monotonic() < deadline, f"{name} is not ready: {self.log(name)}"
            await asyncio.sleep(0.05)

    async def end(self, name: str, number: signal.Signals = signal.SIGTERM) -> int:
        """End a role: its exit code."""
        return await end_process(self._running.pop(name), number)

    def log(self, name: str) -> str:
        return (self.site.logs / f"{name}.log").read_text(errors="replace")[-6000:]

    def code(self, name: str) -> EnrolmentCode:
        """Add a node."""
        return new_code(self.site, self.authority, name)

    def node_folder(self, name: str) -> Path:
        return self.folder / "nodes" / name.replace("/", "_")

    def enrolled(self, name: str) -> Identity:
        """A node that enrolled with the service as any does."""
        return enrol(self.code(name), self.node_folder(name))

    def shown(self, name: str) -> ssl.SSLContext:
        """A context that shows who `name` is: a node (enrolled here if it is not yet), or one of our own processes."""
        if name.startswith("platform/"):
            return certified(self.authority, name, self.folder)
        folder = self.node_folder(name)
        return (load_identity(folder) or self.enrolled(name)).files.context()


def certified(authority: Authority, name: str, folder: Path) -> ssl.SSLContext:
    """A context that shows a certificate which the authority made for `name` without being asked by it, kept in `folder`."""
    path = folder / f"{name.replace('/', '_')}.pem"
    authority.keep_client(path, name)
    context = ssl.create_default_context(cafile=str(authority.roots_file))
    context.load_cert_chain(path)
    return context


async def until(condition: Callable[[], object], why: Callable[[], str] = lambda: "", timeout_s: float = 60.0) -> None:
    """Poll until it holds."""
    deadline = time.monotonic() + timeout_s
    while not condition():
        assert time.monotonic() < deadline, f"not reached in time: {why()}"
        await asyncio.sleep(0.05)
