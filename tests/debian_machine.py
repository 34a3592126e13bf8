"""An empty Debian 12 that boots: debootstrap makes it in a folder, systemd-nspawn runs its own systemd in it, on the network of this machine.

Both programs are the machine's, or Debian's packages unpacked into `.cache/tools`. Needs root. What runs in it ends with it: it has processes
and mounts of its own.

    async with DebianMachine(folder) as machine:
        machine.type("apt-get update")
"""

from __future__ import annotations

import asyncio
import os
import shutil
import signal
import subprocess
import time
from pathlib import Path
from typing import Self

from tests.debian_packages import ServerUnavailableError, find_or_unpack, library_environment

SUITE = "bookworm"
BOOT_S = 120.0
_ENVIRONMENT = {
    "PATH": "/usr/sbin:/usr/bin:/sbin:/bin",
    "LANG": "C.UTF-8",
    "DEBIAN_FRONTEND": "noninteractive",
    "HOME": "/root",
    "PAGER": "cat",
}
_SYSTEM = "systemd-sysv,dbus,udev"  # what every Debian has that boots; the rest comes with the packages under test


def find_or_unpack_debootstrap() -> tuple[Path, dict[str, str]]:
    """The script and the environment it needs."""
    if found := shutil.which("debootstrap", path=f"{os.environ['PATH']}:/usr/sbin:/sbin"):
        return Path(found), dict(os.environ)
    script = find_or_unpack("debootstrap", "usr/sbin/debootstrap", ("debootstrap",))
    return script, {**os.environ, "DEBOOTSTRAP_DIR": str(script.parents[2] / "usr/share/debootstrap")}


def find_or_unpack_nspawn() -> tuple[Path, dict[str, str]]:
    """systemd-nspawn and the environment it needs."""
    if found := shutil.which("systemd-nspawn"):
        return Path(found), dict(os.environ)
    binary = find_or_unpack("nspawn", "usr/bin/systemd-nspawn", ("systemd-container",))
    return binary, library_environment(binary)


def mirror() -> list[str]:
    """The mirror this machine uses for that release; none: the one debootstrap knows."""
    asked = ["apt-get", "indextargets", "--format", "$(REPO_URI) $(CODENAME)", "Created-By: Packages"]
    said = subprocess.run(asked, capture_output=True, text=True, timeout=60, check=False).stdout
    return [line.split()[0] for line in said.splitlines() if line.endswith(f" {SUITE}")][:1]


def bootstrap(root: Path) -> None:
    """Make a minimal Debian in an empty folder: about a minute, and the mirror."""
    if os.geteuid() != 0:
        raise ServerUnavailableError("only root can make a Debian in a folder: run this test as root")
    script, environment = find_or_unpack_debootstrap()
    command = [str(script), "--variant=minbase", f"--include={_SYSTEM}", SUITE, str(root), *mirror()]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=1800, check=False)
    if done.returncode:
        raise ServerUnavailableError(f"debootstrap: {(done.stdout + done.stderr)[-2000:]}")


class DebianMachine:
    """Made and booted on entry, powered off at the end."""

    def __init__(self, folder: Path) -> None:
        self.root = folder / "debian"
        self._log = folder / "debian.log"
        self._process: subprocess.Popen[bytes] | None = None
        self._leader = 0

    async def __aenter__(self) -> Self:
        await asyncio.to_thread(bootstrap, self.root)
        binary, environment = find_or_unpack_nspawn()
        command = [str(binary), "--register=no", "--keep-unit", "--console=pipe", "--boot", f"--directory={self.root}"]
        with self._log.open("ab") as log:
            self._process = subprocess.Popen(command, env=environment, stdin=subprocess.DEVNULL, stdout=log, stderr=log)
        try:
            await self._booted()
        except BaseException:
            await self._end(signal.SIGKILL)
            raise
        return self

    async def __aexit__(self, *_exc: object) -> None:
        os.kill(self._leader, signal.SIGRTMIN + 4)  # systemd: power off now
        await self._end(signal.SIGKILL)

    async def _booted(self) -> None:
        assert self._process is not None
        deadline = time.monotonic() + BOOT_S
        while True:
            if self._process.poll() is not None or time.monotonic() > deadline:
                raise ServerUnavailableError(f"systemd-nspawn cannot boot a Debian here: {self._log.read_text(errors='replace')[-2000:]}")
            children = Path(f"/proc/{self._process.pid}/task/{self._process.pid}/children").read_text().split()
            for child in children:
                self._leader = int(child)
                said = self._enter("systemctl is-system-running").stdout.strip()
                if said in {"running", "degraded"}:
                    return
            await asyncio.sleep(0.2)

    async def _end(self, number: signal.Signals) -> None:
        assert self._process is not None
        try:
            await asyncio.to_thread(self._process.wait, 60)
        except subprocess.TimeoutExpired:
            self._process.send_signal(number)
            await asyncio.to_thread(self._process.wait, 60)

    def _enter(self, text: str, timeout_s: float = 1200) -> subprocess.CompletedProcess[str]:
        entered = [
            "nsenter",
            f"--target={self._leader}",
            "--mount",
            "--uts",
            "--ipc",
            "--pid",
            "--root",
            "sh",
            "-e",
            "-c",
            f"cd /root; {text}",
        ]
        return subprocess.run(entered, env=_ENVIRONMENT, capture_output=True, text=True, timeout=timeout_s, check=False)

    def type(self, text: str) -> str:
        """Run lines in a root shell of the machine; what they said. AssertionError with that when one failed."""
        done = self._enter(text)
        assert done.returncode == 0, f"{text}: {done.stdout[-3000:]}{done.stderr[-3000:]}"
        return done.stdout

    @property
    def bus(self) -> str:
        """The address of its system bus, from outside."""
        seen = Path("/proc", str(self._leader), "root")  # its root directory, as this machine sees it
        return f"unix:path={seen}/run/dbus/system_bus_socket"

    async def until(self, text: str, wanted: str, wait_s: float = 120) -> str:
        """Run lines again and again until what they say contains `wanted`."""
        deadline = time.monotonic() + wait_s
        while wanted not in (said := (await asyncio.to_thread(self._enter, text)).stdout):
            assert time.monotonic() < deadline, f"{text}: still {said[-3000:]}"
            await asyncio.sleep(0.2)
        return said
