"""The Python libraries of a box: exact files with their SHA-256 in `box/wheels.txt`, fetched by pip, unpacked here for any architecture.

Nothing is run of what is fetched: a wheel is unpacked as it is, and so is a pure source archive, where a library has no wheel. A file whose
hash differs is refused. `python -m paceline.box_wheels` writes the list anew after a library changed in pyproject.toml.
"""

from __future__ import annotations

import hashlib
import io
import re
import subprocess
import sys
import tarfile
import tempfile
import zipfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Final

from broker.errors import BadInputError, ConfigError, LinkError

LOCK: Final = Path(__file__).with_name("box") / "wheels.txt"
PYTHONS: Final = ("3.11", "3.12", "3.13")
MACHINES: Final = {"amd64": "x86_64", "arm64": "aarch64"}
LIBRARIES: Final = (
    "msgpack", "pydantic", "PyYAML", "click", "aiomqtt", "paho-mqtt", "prometheus-client",
    "fitparse", "defusedxml", "bleak", "dbus-fast", "segno", "pyusb",
    "cryptography",
)  # fmt: skip
_SOURCES: Final = frozenset({"fitparse"})  # pure, and published without a wheel
_GLIBC: Final = ("manylinux_2_36", "manylinux_2_28", "manylinux_2_17", "manylinux2014")  # up to that of Debian 12
_PIP_TIMEOUT_S: Final = 900


@dataclass(frozen=True, slots=True)
class Library:
    """One file of the list."""

    file: str
    sha256: str

    @property
    def requirement(self) -> str:
        """As pip wants it."""
        name, version = self.file.removesuffix(".tar.gz").rsplit("-", 1) if self.is_source else self.file.split("-")[:2]
        return f"{name.replace('_', '-')}=={version}"

    @property
    def is_source(self) -> bool:
        return self.file.endswith(".tar.gz")

    def fits(self, python: str, machine: str) -> bool:
        """Whether a box with this Python (`3.11`) and machine (`x86_64`) takes it."""
        if self.is_source:
            return True
        *_, tag, abi, platform = self.file.removesuffix(".whl").split("-")
        if platform == "any":
            return True
        fits = int(tag[3:]) <= int(python.partition(".")[2]) if abi == "abi3" else tag == f"cp{python.replace('.', '')}"
        return fits and any(place.endswith(f"_{machine}") for place in platform.split("."))


def locked(text: str) -> tuple[Library, ...]:
    """The libraries of a list as sha256sum writes it; lines with # are remarks. ConfigError names the line."""
    found: list[Library] = []
    for number, line in enumerate(text.splitlines(), start=1):
        if not line.strip() or line.startswith("#"):
            continue
        match = re.fullmatch(r"([0-9a-f]{64})  ([\w.]+-[\w.-]+\.(?:whl|tar\.gz))", line)
        if match is None:
            raise ConfigError(f"{LOCK.name}: line {number}: not `sha256  file`", cure="write it anew: python -m paceline.box_wheels")
        found.append(Library(match[2], match[1]))
    return tuple(found)


def needed(python: str, arch: str) -> tuple[Library, ...]:
    """The libraries of a box with that Python and Debian architecture."""
    if python not in PYTHONS:
        raise ConfigError(f"--python {python}: no libraries are listed for it", cure=f"use one of {', '.join(PYTHONS)}")
    return tuple(library for library in locked(LOCK.read_text("utf-8")) if library.fits(python, MACHINES[arch]))


def fetch(libraries: Sequence[Library], cache: Path, python: str, arch: str) -> list[Path]:
    """Their files in `cache`: what is there with the right hash is not fetched again. LinkError or BadInputError names the file."""
    cache.mkdir(parents=True, exist_ok=True)
    missing = [library for library in libraries if not _is_whole(cache / library.file, library)]
    wheels = [library.requirement for library in missing if not library.is_source]
    if wheels:
        _pip(["--only-binary=:all:", *_platform(python, arch), *wheels], cache)
    for library in missing:
        if library.is_source:
            _pip(["--no-binary", library.requirement.partition("==")[0], library.requirement], cache)
    for library in missing:
        if not (cache / library.file).exists():
            raise BadInputError(f"pip fetched no {library.file}", cure="write the list anew: python -m paceline.box_wheels")
        if not _is_whole(cache / library.file, library):
            raise BadInputError(f"{cache / library.file}: not the file of the list: its SHA-256 differs", cure="remove it and try again")
    return [cache / library.file for library in libraries]


def files_of(path: Path) -> Iterator[tuple[str, bytes, bool]]:
    """(path below the library folder, content, whether it is executable machine code) of a wheel or a pure source archive."""
    if path.name.endswith(".tar.gz"):
        yield from _source_files(path)
        return
    with zipfile.ZipFile(path) as wheel:
        for info in wheel.infolist():
            name = _place(info.filename)
            if name and not info.is_dir():
                yield name, wheel.read(info), bool(re.search(r"\.so(\.|$)", name))


def _place(name: str) -> str:
    """Where a file of a wheel goes; empty: nowhere."""
    if ".." in PurePosixPath(name).parts or name.startswith("/"):
        raise BadInputError(f"wheel: {name!r} leads out of its folder", cure="do not use that wheel")
    first, _, rest = name.partition("/")
    if first.endswith(".data"):
        kind, _, rest = rest.partition("/")
        return rest if kind in {"purelib", "platlib"} else ""
    return "" if name.endswith(".dist-info/RECORD") else name


def _source_files(path: Path) -> Iterator[tuple[str, bytes, bool]]:
    stem = path.name.removesuffix(".tar.gz")
    package = stem.rsplit("-", 1)[0]
    with tarfile.open(path) as archive:
        for member in archive:
            name = member.name.removeprefix(f"{stem}/")
            read = archive.extractfile(member) if member.isfile() else None
            if read is None or ".." in PurePosixPath(name).parts:
                continue
            if name.startswith(f"{package}/"):
                yield name, read.read(), False
            elif name in {"LICENSE", "PKG-INFO"}:
                yield f"{stem}.dist-info/{'METADATA' if name == 'PKG-INFO' else name}", read.read(), False


def _is_whole(path: Path, library: Library) -> bool:
    return path.exists() and hashlib.sha256(path.read_bytes()).hexdigest() == library.sha256


def _platform(python: str, arch: str) -> list[str]:
    platforms = [part for glibc in _GLIBC for part in ("--platform", f"{glibc}_{MACHINES[arch]}")]
    return [
        "--python-version",
        python,
        "--implementation",
        "cp",
        "--abi",
        f"cp{python.replace('.', '')}",
        "--abi",
        "abi3",
        "--abi",
        "none",
        *platforms,
    ]


def _pip(arguments: Sequence[str], target: Path, *, deps: bool = False) -> None:
    command = [sys.executable, "-m", "pip", "download", "--quiet", "--disable-pip-version-check", "--dest", str(target)]
    command += [*([] if deps else ["--no-deps"]), *arguments]
    done = subprocess.run(command, capture_output=True, text=True, timeout=_PIP_TIMEOUT_S, check=False)  # noqa: S603 - names of our own list
    if done.returncode:
        said = (done.stderr.strip() or f"exit {done.returncode}").splitlines()[-1]
        raise LinkError(f"pip download: {said}", cure="check the network and pip's settings; what was fetched before is kept")


def resolve(pins: Sequence[str]) -> str:
    """The list for these `name==version`, with what they need, for every Python and architecture."""
    found: dict[str, str] = {}
    sources = [pin for pin in pins if pin.partition("==")[0] in _SOURCES]
    wheels = [pin for pin in pins if pin not in sources]
    with tempfile.TemporaryDirectory() as folder:
        for python in PYTHONS:
            for arch in MACHINES:
                _pip(["--only-binary=:all:", *_platform(python, arch), *wheels], Path(folder), deps=True)
        for pin in sources:
            _pip(["--no-binary", pin.partition("==")[0], pin], Path(folder))
        for path in Path(folder).iterdir():
            found[path.name] = hashlib.sha256(path.read_bytes()).hexdigest()
    return "".join(f"{found[name]}  {name}\n" for name in sorted(found, key=str.lower))


def _pins(pyproject: str) -> list[str]:
    import tomllib

    project = tomllib.load(io.BytesIO(pyproject.encode()))["project"]
    listed = [*project["dependencies"], *(pin for part in project["optional-dependencies"].values() for pin in part)]
    return sorted({pin for pin in listed if re.split(r"[=\[]", pin)[0] in LIBRARIES})


if __name__ == "__main__":
    LOCK.write_text(resolve(_pins((Path(__file__).parent.parent / "pyproject.toml").read_text("utf-8"))), "utf-8")
