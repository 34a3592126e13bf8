"""Programs of the tests that Go builds, once, and kept beside the other tools."""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path
from typing import Final

from tests.debian_packages import TOOLS, ServerUnavailableError, only_one

BUILD_TIMEOUT_S: Final = 1800


def go_tool(file_name: str, package: str, *, what: str, cwd: Path | None = None) -> Path:
    """The program kept as this file, installed by Go from this package on the first call.

    ServerUnavailableError without Go, or when it cannot build it.
    """
    target = TOOLS / file_name
    with only_one(file_name.partition("-")[0]):
        if not target.exists():
            _install(target, package, what, cwd)
    return target


def _install(target: Path, package: str, what: str, cwd: Path | None) -> None:
    go = shutil.which("go") or shutil.which("go", path="/usr/local/go/bin:/usr/lib/go/bin")
    if go is None:
        raise ServerUnavailableError(
            f"{what} for the tests is built by Go, which is not installed: apt install golang, or put go on the PATH"
        )
    making = target.with_name(f".{target.name}.making")
    shutil.rmtree(making, ignore_errors=True)
    making.mkdir(parents=True)
    environment = {**os.environ, "GOBIN": str(making), "GOFLAGS": "-modcacherw", "CGO_ENABLED": "0"}
    command = ["nice", "-n", "15", go, "install", package]
    done = subprocess.run(command, cwd=cwd, env=environment, capture_output=True, text=True, timeout=BUILD_TIMEOUT_S, check=False)
    if done.returncode:
        raise ServerUnavailableError(f"Go could not build {what}: {done.stderr.strip()[-2000:]}; check that it reaches its module proxy")
    (made,) = making.iterdir()
    made.rename(target)
    making.rmdir()
