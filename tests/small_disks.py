"""Disks that are small enough to fill: a tmpfs in the place of a folder. Mounting needs root."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


def mount(*arguments: str) -> None:
    """As the command does; an assertion that names the cure when it is refused."""
    done = subprocess.run(["mount", *arguments], capture_output=True, text=True, check=False)
    assert done.returncode == 0, (
        f"mount {' '.join(arguments)}: {done.stderr.strip()}\n"
        f"  cure: run this test as root (uid is {os.geteuid()}) in a container with CAP_SYS_ADMIN"
    )


@contextmanager
def small_disk_at(folder: Path, size_mb: int) -> Iterator[Path]:
    """An empty tmpfs of so many megabytes, at a folder that is made."""
    folder.mkdir(parents=True)
    mount("-t", "tmpfs", "-o", f"size={size_mb}m,mode=700", "tmpfs", str(folder))
    try:
        yield folder
    finally:
        subprocess.run(["umount", "-l", str(folder)], check=True)
