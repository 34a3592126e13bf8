"""Supervision of role processes: start in order, wait until ready, start again with back-off when one dies, stop in reverse order.

Only ever ends processes it started itself. A child that exits with 2 (a wrong setting) is not started again: that cannot heal.
A child dies with its supervisor (`die_with_parent`), so a killed `paceline run` leaves nothing behind.
"""

from __future__ import annotations

import asyncio
import contextlib
import ctypes
import errno
import logging
import os
import secrets
import signal
import socket
import sys
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from broker.errors import ConfigError, PacelineError

log = logging.getLogger(__name__)

READY_TIMEOUT_S: Final = 60.0
STOP_TIMEOUT_S: Final = 22.0  # a role ends itself within 20 s (paceline/watched.py)
FIRST_BACKOFF_S: Final = 0.2
LAST_BACKOFF_S: Final = 5.0
STEADY_S: Final = 20.0  # a child that lived this long starts with the first back-off again
FIRST_OWN_PORT: Final = 10_000
PORTS: Final = "PACELINE_PORTS"  # "first-last": draw ports from these only, so that test runs side by side do not draw one another's
_USAGE_EXIT: Final = 2
_PR_SET_PDEATHSIG: Final = 1

Ready = Callable[[], Awaitable[bool]]


@dataclass(frozen=True, slots=True)
class Role:
    """One process: its name, the arguments after `python -m paceline`, extra environment and how to see that it is ready."""

    name: str
    args: Sequence[str]
    env: Mapping[str, str]
    ready: Ready


@dataclass(slots=True)
class _Child:
    role: Role
    process: asyncio.subprocess.Process | None = None
    starts: int = 0
    up: asyncio.Event = field(default_factory=asyncio.Event)
    keeper: asyncio.Task[None] | None = None


class Supervisor:
    """Keeps the roles running until `stop`. `failed` is set with an error when one can never run."""

    def __init__(self, roles: Sequence[Role], logs: Path, *, ready_timeout_s: float = READY_TIMEOUT_S) -> None:
        self._ready_timeout_s = ready_timeout_s
        self._children = [_Child(role) for role in roles]
        self._logs = logs
        self._stopping = False
        self.failed: asyncio.Future[PacelineError] = asyncio.get_running_loop().create_future()

    async def start(self) -> None:
        """Start every role, each after the one before is ready. PacelineError when one does not become ready."""
        self._logs.mkdir(parents=True, exist_ok=True)
        for child in self._children:
            child.keeper = asyncio.create_task(self._keep(child), name=f"keep-{child.role.name}")
            up = asyncio.create_task(child.up.wait())
            done, _ = await asyncio.wait({up, self.failed}, timeout=self._ready_timeout_s, return_when=asyncio.FIRST_COMPLETED)
            if self.failed in done:
                up.cancel()
                raise self.failed.result()
            if not done:
                up.cancel()
                raise PacelineError(f"{child.role.name} was not ready within {self._ready_timeout_s:.0f} s", cure=self._look(child))

    async def stop(self) -> None:
        """Stop in reverse order: SIGTERM, then SIGKILL after STOP_TIMEOUT_S."""
        self._stopping = True
        for child in reversed(self._children):
            await self._end(child)

    async def replace(self, role: Role) -> None:
        """Stop the running role of that name and start this one in its place (which is no restart)."""
        child = next(c for c in self._children if c.role.name == role.name)
        await self._end(child)
        child.role, child.process = role, None
        child.starts -= 1
        child.up.clear()
        child.keeper = asyncio.create_task(self._keep(child), name=f"keep-{role.name}")
        await asyncio.wait_for(child.up.wait(), READY_TIMEOUT_S)

    def pids(self) -> dict[str, int]:
        """The process ids of the running roles."""
        return {c.role.name: c.process.pid for c in self._children if c.process is not None and c.process.returncode is None}

    def restarts(self) -> dict[str, int]:
        """How often each role was started again."""
        return {c.role.name: max(c.starts - 1, 0) for c in self._children}

    async def _keep(self, child: _Child) -> None:
        backoff_s = FIRST_BACKOFF_S
        loop = asyncio.get_running_loop()
        while not self._stopping:
            began = loop.time()
            code = await self._run_once(child)
            child.up.clear()
            if self._stopping:
                return
            if code == _USAGE_EXIT:
                if not self.failed.done():
                    self.failed.set_result(
                        ConfigError(f"{child.role.name} refused its settings: {self._last_line(child)}", cure=self._look(child))
                    )
                return
            backoff_s = FIRST_BACKOFF_S if loop.time() - began > STEADY_S else min(backoff_s * 2, LAST_BACKOFF_S)
            log.warning("%s ended with %s; starting it again in %.1f s", child.role.name, code, backoff_s)
            await asyncio.sleep(backoff_s)

    async def _run_once(self, child: _Child) -> int:
        role = child.role
        with self._log_path(child).open("ab") as sink:
            child.process = await asyncio.create_subprocess_exec(
                sys.executable, "-m", "paceline", *role.args,
                stdin=asyncio.subprocess.DEVNULL, stdout=sink, stderr=sink, start_new_session=True,
                env={**os.environ, **role.env, "PACELINE_PARENT": str(os.getpid())},
            )  # fmt: skip
        child.starts += 1
        watch = asyncio.create_task(self._watch_ready(child))
        try:
            return await child.process.wait()
        finally:
            watch.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await watch

    async def _watch_ready(self, child: _Child) -> None:
        while not await child.role.ready():  # noqa: ASYNC110 - another process gives no event
            await asyncio.sleep(0.05)
        child.up.set()

    async def _end(self, child: _Child) -> None:
        if child.keeper is not None:
            child.keeper.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await child.keeper
        process = child.process
        if process is None or process.returncode is not None:
            return
        with contextlib.suppress(ProcessLookupError):
            process.terminate()
        try:
            await asyncio.wait_for(process.wait(), STOP_TIMEOUT_S)
        except TimeoutError:
            log.warning("%s did not stop within %.0f s and is killed", child.role.name, STOP_TIMEOUT_S)
            with contextlib.suppress(ProcessLookupError):
                process.kill()
            await process.wait()

    def _log_path(self, child: _Child) -> Path:
        return self._logs / f"{child.role.name}.log"

    def _look(self, child: _Child) -> str:
        return f"see {self._log_path(child)}"

    def _last_line(self, child: _Child) -> str:
        lines = self._log_path(child).read_text("utf-8", "replace").strip().splitlines()
        return next((line for line in reversed(lines) if line.startswith("error:")), lines[-1] if lines else "")


def die_with_parent() -> None:
    """Ask the kernel to end this process with SIGTERM when the supervisor that started it is gone (Linux)."""
    parent = os.environ.get("PACELINE_PARENT")
    if not parent:
        return
    ctypes.CDLL(None, use_errno=True).prctl(_PR_SET_PDEATHSIG, signal.SIGTERM)
    if str(os.getppid()) != parent:
        raise SystemExit(1)


def port_open(host: str, port: int) -> Ready:
    """Ready once a TCP connection to the port succeeds."""

    async def ready() -> bool:
        try:
            _, writer = await asyncio.wait_for(asyncio.open_connection(host, port), 1.0)
        except (OSError, TimeoutError):
            return False
        writer.close()
        with contextlib.suppress(OSError, TimeoutError):
            await asyncio.wait_for(writer.wait_closed(), 1.0)
        return True

    return ready


async def at_once() -> bool:
    """Ready as soon as it is started."""
    return True


def free_port(host: str = "127.0.0.1") -> int:
    """A TCP port that was free a moment ago, below those the kernel gives to outgoing connections.

    So while a server is down nobody's outgoing connection gets its port, not even that of its own waiting client, which would then
    be connected to itself. A process is not given the same port twice.
    """
    own = own_ports()
    for port in [own[secrets.randbelow(len(own))] for _ in range(50)] if own else []:
        if port not in _given and _bind(host, port):
            _given.add(port)
            return port
    return _bind(host, 0)


_given: set[int] = set()


def own_ports() -> range:
    """Where ports are drawn from: what `PACELINE_PORTS` names, else 10,000 up to the kernel's first outgoing one, which may be none."""
    if named := os.environ.get(PORTS, ""):
        first, _, last = named.partition("-")
        if not (first.isdecimal() and last.isdecimal() and 0 < int(first) <= int(last) < 1 << 16):
            raise ConfigError(f"{PORTS}: {named!r} names no ports", cure="give the first and the last, such as 10000-19999")
        return range(int(first), int(last) + 1)
    return range(FIRST_OWN_PORT, _first_outgoing_port())


def _first_outgoing_port() -> int:
    try:
        return int(Path("/proc/sys/net/ipv4/ip_local_port_range").read_text().split()[0])
    except (OSError, ValueError, IndexError):
        return 0


def _bind(host: str, port: int) -> int:
    """The port that was bound and is free again, 0 when it is taken."""
    with socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET, socket.SOCK_STREAM) as sock:
        try:
            sock.bind((host, port))
        except OSError:
            if port == 0:
                raise
            return 0
        return sock.getsockname()[1]


def require_free(host: str, port: int, option: str) -> None:
    """ConfigError naming the port and the option when something listens there already."""
    with socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET, socket.SOCK_STREAM) as sock:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            sock.bind((host, port))
        except OSError as error:
            what = "is in use" if error.errno == errno.EADDRINUSE else f"cannot be used: {error.strerror}"
            raise ConfigError(f"port {port} on {host} {what}", cure=f"give another one with {option} (0 picks a free one)") from error
