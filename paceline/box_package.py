"""The Debian package of a box: the light gateway with its libraries, its service and rights. Same input, same bytes; it needs no root.

In it: `broker`, `device_profiles`, `gateway`, and of `paceline` what its commands on a box import; nothing of the platform, no numpy. A
package is for one architecture and one Python (that of a Debian release). Spool, credential and settings are the box's, never its own.
"""

from __future__ import annotations

import ast
import importlib.metadata
import os
import re
import sys
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import broker
import device_profiles
import gateway
import paceline
from broker.errors import ConfigError
from paceline.box_wheels import MACHINES, fetch, files_of, needed
from paceline.commands.gateway import BOX_COMMANDS
from paceline.deb import Entry, deb_of, installed_kib

NAME: Final = "paceline-gateway"
LIBRARY: Final = "/usr/lib/paceline"
SETTINGS: Final = "/etc/paceline/gateway.toml"
EPOCH_S: Final = 1_767_225_600  # 2026-01-01, unless SOURCE_DATE_EPOCH says otherwise
_PARTS: Final = Path(__file__).with_name("box")
_PLACES: Final = {
    "paceline": ("/usr/bin/paceline", 0o755),
    "paceline-gateway.service": ("/lib/systemd/system/paceline-gateway.service", 0o644),
    "gateway.toml": (SETTINGS, 0o644),
    "dbus.conf": ("/usr/share/dbus-1/system.d/paceline.conf", 0o644),
    "ant.rules": ("/lib/udev/rules.d/60-paceline-ant.rules", 0o644),
    "sysusers.conf": ("/usr/lib/sysusers.d/paceline.conf", 0o644),
}
_SCRIPTS: Final = ("postinst", "prerm", "postrm")
_ROOTS: Final = (
    "paceline",
    "paceline.__main__",
    "paceline.cli",
    "paceline.commands",
    "paceline.commands.config",
    "paceline.commands.gateway",
)


@dataclass(frozen=True, slots=True)
class Built:
    """A package: its file name and its bytes."""

    file: str
    content: bytes


def own_version() -> str:
    """The version of this Paceline."""
    return importlib.metadata.version("paceline")


def build(arch: str, cache: Path, *, python: str = "3.11", version: str = "", environ: Mapping[str, str] = os.environ) -> Built:
    """The package for a Debian architecture. `cache`: where fetched libraries are kept. ConfigError for a wrong version or Python."""
    version = version or own_version()
    if not re.fullmatch(r"[0-9][A-Za-z0-9.+~]*(-[A-Za-z0-9.+~]+)?", version):
        raise ConfigError(f"--version {version!r} is no Debian version", cure="use digits, letters and . + ~, starting with a digit")
    entries = [*_own(version), *_libraries(fetch(needed(python, arch), cache, python, arch)), *_system()]
    control = (
        (_PARTS / "control")
        .read_text("utf-8")
        .format(version=version, arch=arch, size_kib=installed_kib(entries), python=python, next_python=_next(python))
    )
    scripts = {name: (_PARTS / name).read_bytes() for name in _SCRIPTS}
    time_s = int(environ.get("SOURCE_DATE_EPOCH") or EPOCH_S)
    return Built(f"{NAME}_{version}_{arch}.deb", deb_of(control, scripts, [SETTINGS], entries, time_s=time_s))


def machine_arch() -> str:
    """The Debian architecture of this machine; ConfigError when there is no package for it."""
    here = os.uname().machine
    for arch, machine in MACHINES.items():
        if machine == here and sys.maxsize > 2**32:
            return arch
    raise ConfigError(f"no package is made for {here}", cure=f"use a machine with one of {', '.join(MACHINES.values())}")


def box_modules() -> tuple[str, ...]:
    """The modules of `paceline` that the commands of a box import, at their top or when they are called."""
    found: set[str] = set()
    todo = {*_ROOTS, *BOX_COMMANDS}
    while todo:
        module = todo.pop()
        found.add(module)
        todo |= {name for name in _imported(_file(module)) if name not in found}
    return tuple(sorted(found))


def _imported(path: Path) -> Iterator[str]:
    """Modules of `paceline` that a file imports, other than for its types."""
    tree = ast.parse(path.read_bytes())
    for_types = {
        id(inner)
        for node in ast.walk(tree)
        if isinstance(node, ast.If) and isinstance(node.test, ast.Name) and node.test.id == "TYPE_CHECKING"
        for inner in ast.walk(node)
    }
    for node in ast.walk(tree):
        if id(node) in for_types:
            continue
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom) and node.module:
            names = [node.module, *(f"{node.module}.{alias.name}" for alias in node.names)]
        else:
            continue
        yield from (name for name in names if name.partition(".")[0] == "paceline" and _file(name).exists())


def _file(module: str) -> Path:
    place = Path(*paceline.__path__).joinpath(*module.split(".")[1:])
    return place / "__init__.py" if place.is_dir() else place.with_suffix(".py")


def _own(version: str) -> Iterator[Entry]:
    for package in (broker, device_profiles, gateway):
        folder = Path(*package.__path__)
        for path in folder.rglob("*"):
            if path.is_file() and "__pycache__" not in path.parts:
                yield Entry(f"{LIBRARY}/{folder.name}/{path.relative_to(folder).as_posix()}", path.read_bytes())
    folder = Path(*paceline.__path__)
    for module in box_modules():
        yield Entry(f"{LIBRARY}/paceline/{_file(module).relative_to(folder).as_posix()}", _file(module).read_bytes())
    about = f"Metadata-Version: 2.1\nName: paceline\nVersion: {version.replace('~', '.dev')}\n"
    yield Entry(f"{LIBRARY}/paceline-box.dist-info/METADATA", about.encode())


def _libraries(files: list[Path]) -> Iterator[Entry]:
    for path in files:
        for name, content, is_code in files_of(path):
            yield Entry(f"{LIBRARY}/{name}", content, 0o755 if is_code else 0o644)


def _system() -> Iterator[Entry]:
    for name, (place, mode) in _PLACES.items():
        yield Entry(place, (_PARTS / name).read_bytes(), mode)
    yield Entry("/etc/issue.d/paceline.issue", link="/run/paceline/setup.issue")
    license_file = _license()
    if license_file is not None:
        yield Entry(f"/usr/share/doc/{NAME}/copyright", license_file)


def _license() -> bytes | None:
    for path in importlib.metadata.files("paceline") or ():
        if path.name == "LICENSE":
            return Path(str(path.locate())).read_bytes()
    beside = Path(*paceline.__path__).parent / "LICENSE"
    return beside.read_bytes() if beside.exists() else None


def _next(python: str) -> str:
    major, _, minor = python.partition(".")
    return f"{major}.{int(minor) + 1}"
