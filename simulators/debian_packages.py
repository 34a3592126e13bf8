"""Programs of Debian for the demo and the tests, without root: packages are unpacked below `TOOLS`, and nothing of the system changes.

    binary = find_or_unpack("mosquitto", "usr/sbin/mosquitto", ("mosquitto",))
    subprocess.run([binary, ...], env=library_environment(binary))  # noqa: S603, S607

apt says what a package needs and this machine lacks, and downloads just that. A folder appears whole or not at all, under a lock: two
test processes, or a run that is killed, leave nothing half done.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import pwd
import shutil
import subprocess
from collections.abc import Callable, Generator, Sequence
from pathlib import Path
from typing import Final

from broker.errors import PacelineError

PROJECT: Final = Path(__file__).resolve().parent.parent
TOOLS: Final = PROJECT / ".cache" / "tools" if (PROJECT / "pyproject.toml").exists() else Path.home() / ".cache" / "paceline" / "tools"
_SYSTEM: Final = "/usr/bin:/usr/sbin:/usr/local/bin:/usr/local/sbin"


class ToolUnavailableError(PacelineError):
    """A program that is needed is neither installed nor to be had from a Debian mirror."""


def cure(package: str) -> str:
    """What to do when a package cannot be had."""
    return f"install {package} with your package manager, or check that apt-get reaches a Debian mirror"


@contextlib.contextmanager
def only_one(name: str, tools: Path = TOOLS) -> Generator[None]:
    """Held by one process at a time: who comes later waits, and finds what the first one made."""
    tools.mkdir(parents=True, exist_ok=True)
    with (tools / f".{name}.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield


def find_program(name: str, package: str, tools: Path = TOOLS) -> Path:
    """The program `name` of the machine, else that of the package (in its `/usr/bin`)."""
    found = shutil.which(name, path=f"{os.environ.get('PATH', '')}:{_SYSTEM}")
    return Path(found) if found else find_or_unpack(name, f"usr/bin/{name}", (package,), tools)


def find_or_unpack(name: str, wanted: str, packages: Sequence[str], tools: Path = TOOLS) -> Path:
    """The program `wanted` (its path in the package) of packages unpacked in `tools/name`, with all libraries it links."""
    with only_one(name, tools):
        return unpacked_once(tools / name, wanted, packages, check_libraries)


def unpacked_once(target: Path, wanted: str, packages: Sequence[str], check: Callable[[Path], None]) -> Path:
    """The file `wanted` of packages that are unpacked in `target`, which appears whole. Its caller holds the lock."""
    if not (target / wanted).exists():
        making = target.with_name(f".{target.name}.making")
        shutil.rmtree(making, ignore_errors=True)
        making.mkdir(parents=True)
        said = unpack_packages(making, packages)
        if not (making / wanted).exists():
            raise ToolUnavailableError(f"no {wanted} came with {', '.join(packages)} ({said}): {cure(packages[0])}")
        check(making / wanted)
        shutil.rmtree(target, ignore_errors=True)
        making.rename(target)
    return target / wanted


def unpack_packages(target: Path, packages: Sequence[str]) -> str:
    """Unpack packages and what they need and this machine lacks below `target`; what apt-get said when it could not."""
    if shutil.which("apt-get") is None or shutil.which("dpkg") is None:
        raise ToolUnavailableError(f"{packages[0]} is not installed and this is no Debian: {cure(packages[0])}")
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


def library_environment(binary: Path) -> dict[str, str]:
    """The environment in which an unpacked binary finds its unpacked libraries; that of this process for one of the system."""
    environment = dict(os.environ)
    root = next((folder.parent for folder in binary.parents if folder.name == "usr"), Path("/"))
    if root != Path("/"):
        folders = [str(p) for base in ("lib", "usr/lib") for p in [root / base, *(root / base).glob("*-linux-*")] if p.is_dir()]
        environment["LD_LIBRARY_PATH"] = ":".join([*folders, environment.get("LD_LIBRARY_PATH", "")]).rstrip(":")
    return environment


def check_libraries(binary: Path) -> None:
    """ToolUnavailableError when the binary links what is nowhere."""
    check_libraries_in(binary, library_environment(binary))


def check_libraries_in(binary: Path, environment: dict[str, str]) -> None:
    """The same in an environment of the caller."""
    lacking = subprocess.run(["ldd", str(binary)], env=environment, capture_output=True, text=True, timeout=60, check=False)  # noqa: S603, S607
    missing = [line.split()[0] for line in lacking.stdout.splitlines() if "not found" in line]
    if missing:
        raise ToolUnavailableError(f"{binary} lacks {', '.join(missing)}: {cure(binary.name)}")


def _fetch(options: Sequence[str], packages: Sequence[str]) -> str:
    """Download into the caches of `options`; the last line of what went wrong, empty when nothing did."""
    command = ["apt-get", *options, *["-o", "Debug::NoLocking=1", "-o", "Acquire::Retries=3", "-y", "-q"]]
    command += ["install", "--download-only", "--reinstall", "--no-install-recommends", *packages]
    done = subprocess.run(command, capture_output=True, text=True, timeout=600, check=False)  # noqa: S603
    return (done.stderr.strip() or f"exit {done.returncode}").splitlines()[-1] if done.returncode else ""
