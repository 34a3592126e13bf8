"""The firmware kit on its lanes: the same scripts on MicroPython (the unix port, lane A) and on CPython (lane C).

Tests import the kit's modules as a device does (`kit.ring`, `fakes.flash`): pytest has the folder on its path, other programs use `on_path`.
"""

from __future__ import annotations

import contextlib
import os
import subprocess
import sys
from collections.abc import Generator
from pathlib import Path

from tests.micropython import find_or_unpack_micropython

KIT = Path(__file__).resolve().parent.parent / "firmware" / "micropython"
LANES = ("micropython", "cpython")
HEAP = "128wk"  # as many words as a 32-bit device with 128 K words has


@contextlib.contextmanager
def on_path() -> Generator[None]:
    """Modules of the kit can be imported in here, as `kit.ring`, `ble.central`, `fakes.flash`."""
    sys.path.insert(0, str(KIT))
    try:
        yield
    finally:
        sys.path.remove(str(KIT))


def command(lane: str, script: Path, *arguments: str, heap: str = HEAP) -> list[str]:
    """The command line that runs `script` on a lane."""
    if lane == "cpython":
        return [sys.executable, str(script), *arguments]
    return [*find_or_unpack_micropython().command, "-X", f"heapsize={heap}", str(script), *arguments]


def environment(lane: str) -> dict[str, str]:
    """The environment in which the kit can be imported there."""
    name, frozen = ("PYTHONPATH", "") if lane == "cpython" else ("MICROPYPATH", ":.frozen")
    return {**os.environ, name: f"{KIT}{frozen}"}


def run(lane: str, script: Path, *arguments: str, stdin: bytes = b"", heap: str = HEAP, timeout_s: float = 600) -> str:
    """What a script printed; RuntimeError with its last words if it failed."""
    done = subprocess.run(
        command(lane, script, *arguments, heap=heap),
        input=stdin,
        capture_output=True,
        timeout=timeout_s,
        env=environment(lane),
        check=False,
    )
    if done.returncode:
        raise RuntimeError(f"{script.name} failed on {lane}: {(done.stderr + done.stdout[-2000:]).decode(errors='replace')}")
    return done.stdout.decode()
