"""Programs of Debian that the demo and the tests need: the machine's, or Debian's package unpacked into a folder of ours (no root, nothing
of the system changes).

apt says what a package needs and this machine lacks, and downloads just that. The folder appears whole: a run that is killed leaves nothing
half done, and a lock keeps two runs from doing it at once.
"""

from __future__ import annotations

import fcntl
import os
import pwd
import shutil
import subprocess
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

_PROJECT: Final = Path(__file__).resolve().parent.parent
TOOLS: Final = _PROJECT / ".cache" / "tools" if (_PROJECT / "pyproject.toml").exists() else Path.home() / ".cache" / "paceline" / "tools"
_PLACES: Final = ("/usr/bin", "/usr/sbin", "/usr/local/bin", "/usr/local/sbin")


class ToolUnavailableError(RuntimeError):
    """A program that is needed is neither installed nor to be had from a Debian mirror."""


@dataclass(frozen=True, slots=True)
class DebianTool:
    """A program and the package it is in. `cure` is told when it cannot be had."""

    program: str
    packages: tuple[str, ...]
    cure: str

    def find(self, tools: Path | None = None) -> Path:
        """Where the program is; unpacked below `tools` if the machine has none. ToolUnavailableError says what is missing."""
        for place in (shutil.which(self.program), *(f"{folder}/{self.program}" for folder in _PLACES)):
            if place and Path(place).exists():
                return Path(place)
        tools = tools or TOOLS
        tools.mkdir(parents=True, exist_ok=True)
        with (tools / f".{self.program}.lock").open("w") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            return unpacked_once(tools / self.program, f"usr/bin/{self.program}", self.packages, self._check, self.cure)

    def environment(self, binary: Path) -> dict[str, str]:
        """The environment `binary` runs in."""
        return library_environment(binary)

    def _check(self, binary: Path) -> None:
        check_libraries(binary, library_environment(binary), self.cure)


def library_environment(binary: Path) -> dict[str, str]:
    """The environment in which an unpacked binary finds its unpacked libraries."""
    environment = dict(os.environ)
    root = binary.parent.parent.parent
    if root.joinpath("usr", "lib").is_dir() and root != Path("/"):
        folders = [str(p) for base in ("lib", "usr/lib") for p in [root / base, *(root / base).glob("*-linux-*")] if p.is_dir()]
        environment["LD_LIBRARY_PATH"] = ":".join([*folders, environment.get("LD_LIBRARY_PATH", "")]).rstrip(":")
    return environment


def check_libraries(binary: Path, environment: dict[str, str], cure: str) -> None:
    """ToolUnavailableError when the binary links what is nowhere."""
    lacking = subprocess.run(["ldd", str(binary)], env=environment, capture_output=True, text=True, timeout=60, check=False)  # noqa: S603, S607
    missing = [line.split()[0] for line in lacking.stdout.splitlines() if "not found" in line]
    if missing:
        raise ToolUnavailableError(f"{binary} lacks {', '.join(missing)}: {cure}")


def unpacked_once(target: Path, wanted: str, packages: Sequence[str], check: Callable[[Path], None], cure: str) -> Path:
    """The file `wanted` of packages that are unpacked in `target`, unpacking them the first time."""
    if not (target / wanted).exists():
        making = target.with_name(f".{target.name}.making")
        shutil.rmtree(making, ignore_errors=True)
        making.mkdir(parents=True)
        said = unpack_packages(making, packages, cure)
        if not (making / wanted).exists():
            raise ToolUnavailableError(f"no {wanted} came with {', '.join(packages)} ({said}): {cure}")
        check(making / wanted)
        shutil.rmtree(target, ignore_errors=True)
        making.rename(target)
    return target / wanted


def unpack_packages(target: Path, packages: Sequence[str], cure: str) -> str:
    """Unpack packages and what they need and this machine lacks below `target`; what apt-get said when it could not."""
    if shutil.which("apt-get") is None or shutil.which("dpkg") is None:
        raise ToolUnavailableError(f"{packages[0]} is not installed and this is no Debian: {cure}")
    apt = target / "apt"
    options = own_lists(apt)
    said = _fetch(options[2:], packages)  # the lists of the machine, but caches of our own
    if said or not list(apt.rglob("*.deb")):  # without lists, what is installed cannot come again, and that is no error to apt
        subprocess.run(["apt-get", *options, "update"], capture_output=True, timeout=300, check=False)  # noqa: S603, S607
        said = _fetch(options, packages)
    for archive in sorted((apt / "cache" / "archives").glob("*.deb")):
        subprocess.run(["dpkg", "-x", str(archive), str(target)], capture_output=True, timeout=120, check=True)  # noqa: S603, S607
    shutil.rmtree(apt)
    return said


def own_lists(folder: Path) -> list[str]:
    """Options that make apt-get keep its lists and caches in `folder` and leave those of the machine alone."""
    for name in ("lists/partial", "cache/archives/partial"):
        (folder / name).mkdir(parents=True, exist_ok=True)
    user = pwd.getpwuid(os.geteuid()).pw_name  # apt's own user may not look into our folder
    own = {"Dir::State::Lists": folder / "lists", "Dir::Cache": folder / "cache", "APT::Sandbox::User": user}
    return [part for name, value in own.items() for part in ("-o", f"{name}={value}")]


def _fetch(options: Sequence[str], packages: Sequence[str]) -> str:
    """Download into the caches of `options`; the last line of what went wrong, empty when nothing did."""
    command = ["apt-get", *options, *["-o", "Debug::NoLocking=1", "-o", "Acquire::Retries=3", "-y", "-q"]]
    command += ["install", "--download-only", "--reinstall", "--no-install-recommends", *packages]
    done = subprocess.run(command, capture_output=True, text=True, timeout=600, check=False)  # noqa: S603
    return (done.stderr.strip() or f"exit {done.returncode}").splitlines()[-1] if done.returncode else ""
