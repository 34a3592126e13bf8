"""A simulated board on this machine: an example's sources in a folder, its set-up as a device keeps it, and an interpreter that runs it.

The interpreter is MicroPython's unix port with the heap of a small device (128 K words), or CPython where there is none.
"""

from __future__ import annotations

import json
import os
import struct
import subprocess
import sys
import zlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final, Literal

from broker.errors import LinkError, StoreError
from broker.replace_file import replace_file
from paceline.device.board import KIT
from paceline.device.image import all_sources
from paceline.device.project import Project
from simulators.micropython import find_micropython, find_or_unpack_micropython

Interpreter = Literal["auto", "micropython", "cpython"]
HEAP_BYTES: Final = 128 * 1024 * 8  # as many words as a 32-bit device with 128 KB holds
RESET: Final = 75  # exit code of a board that wants to be started again
ASLEEP: Final = 76  # of one that sleeps deeply, until it is started again
_SIMULATOR: Final = KIT / "fakes" / "simulator.py"


def lay_out(project: Project, folder: Path, document: Mapping[str, Any], keys: tuple[bytes, ...] = (), version: int = 0) -> None:
    """Sources and set-up into `folder`; what the device remembers there (its flash) stays. StoreError when it cannot be written."""
    try:
        for path, content in all_sources(project.board, project.example, keys, project.main, version).items():
            (folder / path).parent.mkdir(parents=True, exist_ok=True)
            (folder / path).write_bytes(content)
        keep(folder / "config", document)
    except OSError as error:
        raise StoreError(f"{folder}: {error.strerror}", cure="give a data folder you may write with --data") from error


def keep(path: Path, document: Mapping[str, Any]) -> None:
    """A document as the kit keeps it (`kit/config.py`), in its first copy; the second goes."""
    text = json.dumps(document).encode()
    head = struct.pack("<II", 1, len(text))
    replace_file(path.with_name(f"{path.name}.a"), b"PLK1" + head + struct.pack("<I", zlib.crc32(text, zlib.crc32(head))) + text)
    path.with_name(f"{path.name}.b").unlink(missing_ok=True)


def command_of(folder: Path, seconds: int, interpreter: Interpreter, flash_bytes: int) -> list[str]:
    """The command that runs the board for so long (0: for ever). Its flash lies in memory here, which is none of the device's heap."""
    found = None
    if interpreter == "micropython":
        found = find_or_unpack_micropython()
    elif interpreter == "auto":
        found = find_micropython()
    start = [sys.executable] if found is None else [*found.command, "-X", f"heapsize={HEAP_BYTES + flash_bytes}"]
    return [*start, str(_SIMULATOR), str(folder), str(seconds)]


def environment(folder: Path) -> dict[str, str]:
    """The environment in which the example finds its own modules first, then the kit's."""
    path = f"{folder}:{KIT}"
    return {**os.environ, "PYTHONPATH": path, "MICROPYPATH": f"{path}:.frozen", "PYTHONUNBUFFERED": "1"}


def run_board(project: Project, folder: Path, seconds: int, interpreter: Interpreter, *, echo: bool) -> dict[str, int]:
    """Run it until it ends; what became of its frames. LinkError with its last words if it fails."""
    last: list[str] = []
    while True:
        command = command_of(folder, seconds, interpreter, project.board.flash.bytes)
        with subprocess.Popen(  # noqa: S603
            command, env=environment(folder), stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
        ) as process:
            assert process.stdout is not None
            try:
                for line in process.stdout:
                    last = [*last[-10:], line.rstrip()]
                    if echo and not line.startswith("{"):
                        sys.stderr.write(line)
            except KeyboardInterrupt:
                process.terminate()
                raise
        if process.returncode not in (RESET, ASLEEP):
            break
    if process.returncode or not last or not last[-1].startswith("{"):
        raise LinkError(f"the simulated board ended with {process.returncode}: {' | '.join(last[-4:])}", cure=f"look into {folder}")
    return json.loads(last[-1])
