"""The first file system of the guest: busybox, the modules that reach the host's files, and a script that hands over to the host's root.

Modules are taken with what they depend on, read from the modules themselves, in the order in which they must be loaded.
"""

from __future__ import annotations

import gzip
import re
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Final

DIRECTORY: Final = 0o40755
EXECUTABLE: Final = 0o100755
REGULAR: Final = 0o100644

# What the guest needs before it has a root, and what its Bluetooth needs after that (the AF_ALG ones are bluetoothd's cryptography).
BOOT_MODULES: Final = ("virtio_pci", "9p", "9pnet_virtio", "overlay")
BLUETOOTH_MODULES: Final = ("bluetooth", "hci_vhci", "algif_hash", "algif_skcipher", "cmac", "ecb", "ccm")

_INIT: Final = """#!/bin/busybox sh
b=/bin/busybox
$b mount -t proc proc /proc
$b mount -t devtmpfs dev /dev
for module in {boot}; do $b insmod /modules/$module.ko || echo "GUEST: $module does not load"; done
$b mount -t 9p -o trans=virtio,version=9p2000.L,msize=262144,ro,cache=loose host /lower
$b mount -t tmpfs -o size=768m tmpfs /over
$b mkdir /over/upper /over/work
$b mount -t overlay -o lowerdir=/lower,upperdir=/over/upper,workdir=/over/work overlay /new
$b mount -t proc proc /new/proc
$b mount -t sysfs sys /new/sys
$b mount -t devtmpfs dev /new/dev
$b mkdir -p /new/dev/shm
$b mount -t tmpfs tmpfs /new/dev/shm
$b mount -t tmpfs tmpfs /new/run
for module in {late}; do $b insmod /new$module || echo "GUEST: $module does not load"; done
exec $b switch_root /new /bin/sh {script}
"""


def modules_in_order(folder: Path, wanted: Iterable[str]) -> list[Path]:
    """The module files below `folder` that `wanted` need, each after those it depends on. FileNotFoundError names one that is missing."""
    files = {path.name.removesuffix(".ko").replace("-", "_"): path for path in folder.rglob("*.ko")}
    taken: dict[str, Path] = {}

    def take(name: str) -> None:
        if name in taken:
            return
        for needed in depends_on(files[name].read_bytes()):
            if needed in files:  # else it is built into the kernel
                take(needed)
        taken[name] = files[name]

    for name in wanted:
        if name not in files:
            raise FileNotFoundError(f"{folder}: no kernel module {name}")
        take(name)
    return list(taken.values())


def depends_on(module: bytes) -> list[str]:
    """The names in the `depends=` word of a module's modinfo section."""
    found = re.search(rb"\0depends=([^\0]*)\0", module)
    return [name.replace("-", "_") for name in found.group(1).decode().split(",") if name] if found else []


def initrd(busybox: bytes, modules: Path, script: Path) -> bytes:
    """The compressed archive. `script` is run by the host's /bin/sh in the guest, as its first process."""
    boot = modules_in_order(modules, BOOT_MODULES)
    late = [path for path in modules_in_order(modules, (*BOOT_MODULES, *BLUETOOTH_MODULES)) if path not in boot]
    text = _INIT.format(boot=" ".join(path.stem for path in boot), late=" ".join(map(str, late)), script=script)
    entries: dict[str, tuple[int, bytes]] = dict.fromkeys((".", "bin", "modules", "proc", "dev", "lower", "over", "new"), (DIRECTORY, b""))
    entries |= {"bin/busybox": (EXECUTABLE, busybox), "init": (EXECUTABLE, text.encode())}
    entries |= {f"modules/{path.name}": (REGULAR, path.read_bytes()) for path in boot}
    return gzip.compress(newc(entries), 6)


def newc(entries: Mapping[str, tuple[int, bytes]]) -> bytes:
    """An archive in the "new ASCII" cpio format: name -> (mode, content)."""
    out = bytearray()
    for inode, (name, (mode, content)) in enumerate([*entries.items(), ("TRAILER!!!", (0, b""))], start=1):
        path = name.encode() + b"\0"
        numbers = (inode, mode, 0, 0, 1, 0, len(content), 0, 0, 0, 0, len(path), 0)
        out += b"070701" + b"".join(b"%08X" % number for number in numbers) + path
        out += b"\0" * (-len(out) % 4) + content
        out += b"\0" * (-len(out) % 4)
    return bytes(out)
