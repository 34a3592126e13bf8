"""Where MicroPython comes from, for tests and simulated devices: the machine's, or Debian's package unpacked into `.cache/tools`.

Debian 12 has no such package, and that of Debian 13 needs a newer C library than it: so it is unpacked from the machine's own mirror with
all it needs, that library too, and started through its loader. apt checks the signatures with the machine's keys.
"""

from __future__ import annotations

import os
import shutil
import subprocess
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from simulators.debian_packages import TOOLS, ToolUnavailableError, cure, only_one, own_lists

RELEASE: Final = "trixie"
KEYS: Final = Path("/usr/share/keyrings/debian-archive-keyring.gpg")


@dataclass(frozen=True, slots=True)
class MicroPython:
    """The command that starts it."""

    command: tuple[str, ...]

    def run(self, script: Path, *arguments: str, stdin: bytes = b"", heap: str = "64m") -> str:
        """What a script printed; RuntimeError with its last words if it failed."""
        command = [*self.command, "-X", f"heapsize={heap}", str(script), *arguments]
        done = subprocess.run(command, input=stdin, capture_output=True, timeout=1200, cwd=script.parent, check=False)  # noqa: S603
        if done.returncode:
            raise RuntimeError(f"{script.name} failed on MicroPython: {(done.stderr + done.stdout[-2000:]).decode(errors='replace')}")
        return done.stdout.decode()


def find_or_unpack_micropython(tools: Path = TOOLS) -> MicroPython:
    """The machine's MicroPython, or the unpacked one. ToolUnavailableError says what is missing and the cure."""
    with only_one("micropython", tools):
        if (found := find_micropython(tools)) is not None:
            return found
        _unpack(tools / "micropython")
    found = find_micropython(tools)
    if found is None:
        raise ToolUnavailableError(f"no loader came with {tools / 'micropython'}: delete that folder, and {cure('micropython')}")
    return found


def find_micropython(tools: Path = TOOLS) -> MicroPython | None:
    """The machine's MicroPython, or one that was unpacked before; nothing is fetched."""
    installed = shutil.which("micropython")
    if installed:
        return MicroPython((installed,))
    root = tools / "micropython"
    if not (root / "usr/bin/micropython").exists():
        return None
    loader = next(
        iter([*root.glob("usr/lib64/ld-linux*.so*"), *root.glob("usr/lib/ld-linux*.so*"), *root.glob("usr/lib/*-linux-*/ld-linux*.so*")]),
        None,
    )
    if loader is None:
        return None
    libraries = ":".join(str(folder) for folder in root.glob("usr/lib/*-linux-*"))
    return MicroPython((str(loader), "--library-path", libraries, str(root / "usr/bin/micropython")))


def _unpack(root: Path) -> None:
    making = root.with_name(f".{root.name}.making")
    shutil.rmtree(making, ignore_errors=True)
    making.mkdir(parents=True)
    apt = making / "apt"
    options = debian_sources(apt, own_lists(apt), "deb")
    _apt(options, "update")
    _apt(options, "install", "--download-only", "-y", "--no-install-recommends", "micropython")
    for archive in sorted((apt / "cache" / "archives").glob("*.deb")):
        subprocess.run(["dpkg", "-x", str(archive), str(making)], capture_output=True, timeout=120, check=True)  # noqa: S603, S607
    shutil.rmtree(apt)
    shutil.rmtree(root, ignore_errors=True)
    making.rename(root)


def debian_sources(apt: Path, options: list[str], kind: str) -> list[str]:
    """Options that make apt see that release alone, packages (`deb`) or sources (`deb-src`), in a folder of its own."""
    source = apt / "sources.list"
    signed = f"[signed-by={KEYS}] " if KEYS.exists() else ""
    source.write_text(f"{kind} {signed}{_mirror()} {RELEASE} main\n")
    (apt / "status").touch()  # nothing is installed there: all it needs comes along
    own = {"Dir::Etc::SourceList": source, "Dir::Etc::SourceParts": os.devnull, "Dir::State::status": apt / "status"}
    named = [part for name, value in own.items() for part in ("-o", f"{name}={value}")]
    return [*options, *named, "-o", "Debug::NoLocking=1", "-o", "Acquire::Retries=3", "-o", "Acquire::Languages=none", "-q"]


def _mirror() -> str:
    """The Debian mirror that this machine's own apt is configured for."""
    if shutil.which("apt-get") is None or shutil.which("dpkg") is None:
        raise ToolUnavailableError(f"micropython is not installed and this is no Debian: {cure('micropython')}")
    asked = ["apt-get", "indextargets", "--format", "$(REPO_URI)"]
    said = subprocess.run(asked, capture_output=True, text=True, timeout=60, check=False).stdout  # noqa: S603
    for uri in said.splitlines():
        if uri.rstrip("/").endswith("/debian"):
            return uri
    raise ToolUnavailableError(f"apt knows no Debian mirror here: {cure('micropython')}")


def _apt(options: list[str], *words: str) -> None:
    done = subprocess.run(["apt-get", *options, *words], capture_output=True, text=True, timeout=600, check=False)  # noqa: S603, S607
    if done.returncode:
        raise ToolUnavailableError(f"apt-get {words[0]} failed ({done.stderr.strip().splitlines()[-1:]}): {cure('micropython')}")
