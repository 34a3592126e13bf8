"""An emulated machine with the real Bluetooth stack: Debian's kernel and bluetoothd, run by QEMU without KVM, on the files of this machine.

    done = await run_guest(["python", "-m", "pytest", "..."], limit_s=900)      # done.code, done.output

The guest sees the host's root read-only under a layer of memory, so it uses the same virtual environment and working tree; what it writes is
gone when it ends. Packages are Debian's, unpacked into `.cache/tools` (no root, nothing of the system changes).
"""

from __future__ import annotations

import asyncio
import os
import re
import shlex
import signal
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from simulators.debian_packages import TOOLS, ToolUnavailableError, check_libraries, library_environment, only_one, unpacked_once
from tests.servers import PROJECT
from tests.truth.initrd import initrd

PACKAGES: Final = ("qemu-system-x86", "linux-image-amd64", "busybox-static", "bluez", "dbus-daemon")
BLUETOOTHD: Final = "PACELINE_BLUETOOTHD"  # in the guest: the path of the real daemon
_EXIT: Final = re.compile(r"^GUEST-EXIT (\d+)\r?$", re.MULTILINE)


@dataclass(frozen=True, slots=True)
class GuestRun:
    """How the command in the guest ended and all that stood on the guest's console."""

    code: int
    output: str


@dataclass(frozen=True, slots=True)
class GuestParts:
    """The unpacked packages."""

    root: Path

    @property
    def kernel(self) -> Path:
        return _only(self.root / "boot", "vmlinuz-*")

    @property
    def modules(self) -> Path:
        return _only(self.root / "lib" / "modules", "*")

    @property
    def qemu(self) -> Path:
        return self.root / "usr" / "bin" / "qemu-system-x86_64"


def find_or_install_guest(tools: Path = TOOLS) -> GuestParts:
    """The parts, unpacked once. ToolUnavailableError says what is missing and the cure."""
    with only_one("guest", tools):
        binary = unpacked_once(tools / "guest", "usr/libexec/bluetooth/bluetoothd", PACKAGES, lambda _: None)
    parts = GuestParts(binary.parents[3])
    check_libraries(parts.qemu)
    return parts


def _only(folder: Path, pattern: str) -> Path:
    found = sorted(folder.glob(pattern))
    if len(found) != 1:
        raise ToolUnavailableError(f"{folder}: {len(found)} of {pattern} where one was expected: remove the folder and run again")
    return found[0]


async def run_guest(command: Sequence[str], *, folder: Path, limit_s: float, environment: Mapping[str, str] | None = None) -> GuestRun:
    """Boot, run `command` in the working tree beside a running bluetoothd, power off. TimeoutError carries the end of the console."""
    parts = find_or_install_guest()
    words = {
        "PATH": f"{Path(sys.executable).parent}:/usr/sbin:/usr/bin:/sbin:/bin:{parts.root}/usr/bin",
        "HOME": "/tmp",
        BLUETOOTHD: str(parts.root / "usr" / "libexec" / "bluetooth" / "bluetoothd"),
        **(environment or {}),
    }
    script = folder / "guest.sh"
    lines = [f"export {name}={shlex.quote(value)}" for name, value in words.items()]
    lines += ["ip link set lo up || /bin/busybox ip link set lo up", "mkdir -p /var/lib/bluetooth", f"cd {shlex.quote(str(PROJECT))}"]
    lines += [shlex.join(command), "echo GUEST-EXIT $?", "echo o > /proc/sysrq-trigger", "sleep 60"]
    script.write_text("\n".join(lines) + "\n")
    image = folder / "initrd"
    image.write_bytes(initrd((parts.root / "bin" / "busybox").read_bytes(), parts.modules, script))
    process = await asyncio.create_subprocess_exec(
        str(parts.qemu), *_machine(parts, image),
        stdin=asyncio.subprocess.DEVNULL, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.STDOUT,
        env=library_environment(parts.qemu), start_new_session=True,
    )  # fmt: skip
    said = bytearray()
    assert process.stdout is not None
    try:
        async with asyncio.timeout(limit_s):
            while chunk := await process.stdout.read(65_536):
                said += chunk
                sys.stdout.write(chunk.decode(errors="replace"))
            await process.wait()
    except TimeoutError:
        raise TimeoutError(f"the guest did not end in {limit_s} s; its last words:\n{said[-4000:].decode(errors='replace')}") from None
    finally:
        if process.returncode is None:
            os.killpg(process.pid, signal.SIGKILL)
            await process.wait()
    output = said.decode(errors="replace")
    ended = _EXIT.search(output)
    return GuestRun(int(ended.group(1)) if ended else -1, output)


def _machine(parts: GuestParts, image: Path) -> list[str]:
    """One emulated processor (two are slower without KVM), 2 GB, no network, the host's root over 9p."""
    firmware = [word for name in ("qemu", "seabios") for word in ("-L", str(parts.root / "usr" / "share" / name))]
    return [
        *[
            "-accel",
            "tcg",
            "-cpu",
            "Haswell-v1",
            "-smp",
            "1",
            "-m",
            "2048",
            "-nodefaults",
            "-no-user-config",
            "-display",
            "none",
            *firmware,
        ],
        *["-kernel", str(parts.kernel), "-initrd", str(image)],
        *["-append", "console=ttyS0 quiet panic=-1 cryptomgr.notests mitigations=off"],
        *["-serial", "stdio", "-no-reboot", "-device", "virtio-rng-pci"],
        *["-fsdev", "local,id=host,path=/,security_model=none,readonly=on,multidevs=remap"],
        *["-device", "virtio-9p-pci,fsdev=host,mount_tag=host"],
    ]
