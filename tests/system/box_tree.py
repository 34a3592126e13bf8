"""Packages of a box, and a folder that dpkg takes for a system: maintainer scripts run outside it (DPKG_ROOT), so no root is needed."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

from paceline.box_package import build
from tests.debian_packages import ServerUnavailableError
from tests.servers import PROJECT

WHEELS = PROJECT / ".cache" / "wheels"
PYTHON = f"{sys.version_info.major}.{sys.version_info.minor}"


def package(folder: Path, version: str, arch: str = "amd64", python: str = PYTHON) -> Path:
    """A package of that version in `folder`."""
    built = build(arch, WHEELS, python=python, version=version)
    folder.mkdir(parents=True, exist_ok=True)
    (folder / built.file).write_bytes(built.content)
    return folder / built.file


def base_python() -> str:
    """The interpreter without the environment of the tests: what it imports comes from the package or the standard library."""
    return str(Path(sys.base_prefix) / "bin" / f"python{PYTHON}")


class Tree:
    """An empty system below `root`."""

    def __init__(self, root: Path) -> None:
        if shutil.which("dpkg") is None:
            raise ServerUnavailableError("this is no Debian: the package of a box needs dpkg to be tried")
        self.root = root
        for folder in ("var/lib/dpkg/updates", "var/lib/dpkg/info", "etc"):
            (root / folder).mkdir(parents=True)
        for file in ("var/lib/dpkg/status", "etc/passwd", "etc/group"):
            (root / file).touch()

    def dpkg(self, *arguments: str) -> str:
        """Run dpkg on this tree; what it said."""
        force = ["depends", "script-chrootless", "confold", "downgrade", *([] if os.geteuid() == 0 else ["not-root"])]
        command = ["dpkg", f"--root={self.root}", f"--log={self.root}/dpkg.log", *(f"--force-{name}" for name in force), *arguments]
        env = {**os.environ, "PATH": f"{os.environ['PATH']}:/usr/sbin:/sbin"}
        done = subprocess.run(command, capture_output=True, text=True, timeout=300, env=env, check=False)
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout + done.stderr

    def status(self) -> str:
        """The state of the package as dpkg has it, such as `install ok installed 0.1.0`."""
        asked = ["dpkg-query", f"--admindir={self.root}/var/lib/dpkg", "-W", "-f=${Status} ${Version}", "paceline-gateway"]
        done = subprocess.run(asked, capture_output=True, text=True, timeout=60, check=False)
        return done.stdout if done.returncode == 0 else ""
