"""Boards and examples of the device kit as TOML (`firmware/micropython/boards`, `devices`): read, checked, and rendered for the device.

An unknown key, a pin that the board does not have, or partitions that overlap are refused with the file and the field.
"""

from __future__ import annotations

import tomllib
from pathlib import Path
from typing import Annotated, Final, Literal, TypeVar

from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from broker.errors import ConfigError
from broker.layouts import all_layouts

KIT: Final = Path(__file__).resolve().parents[2] / "firmware" / "micropython"
SECTOR_BYTES: Final = 4096
Size = Annotated[int, Field(gt=0)]
Name = Annotated[str, Field(pattern=r"^[a-z][a-z0-9_]{0,23}$")]
_Model = TypeVar("_Model", bound=BaseModel)


class _Strict(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class Base(_Strict):
    """The MicroPython a board is flashed with once."""

    image: str
    version: str
    offset: int
    table_offset: int = 0x8000


class Memory(_Strict):
    """Bytes that are free after the boot: MicroPython's heap, and the rest that radio and TLS share."""

    heap_bytes: Size
    radio_bytes: int = 0
    largest_block_bytes: int = 0
    tls_bytes: int = 0
    ble_bytes: int = 0


class Power(_Strict):
    """Currents of the chip, from its data sheet."""

    active_ma: float = 0.0
    ble_ma: float = 0.0
    sleep_ua: float = 0.0


class Partition(_Strict):
    """A part of the flash. Types as the ESP32's partition table has them."""

    name: Annotated[str, Field(max_length=15)]
    type: Literal["app", "data"]
    subtype: Annotated[int, Field(ge=0, le=255)]
    offset: Annotated[int, Field(ge=0)]
    bytes: Size


class Flash(_Strict):
    """The whole flash and its parts, in order."""

    bytes: Size
    partitions: tuple[Partition, ...]

    @model_validator(mode="after")
    def _in_order(self) -> Flash:
        end = 0
        for part in self.partitions:
            if part.offset % SECTOR_BYTES or part.bytes % SECTOR_BYTES:
                raise ValueError(f"partition {part.name}: offset and bytes must be whole sectors of {SECTOR_BYTES}")
            if part.offset < end or part.offset + part.bytes > self.bytes:
                raise ValueError(f"partition {part.name} at {part.offset:#x} overlaps another or ends beyond {self.bytes:#x}")
            end = part.offset + part.bytes
        if missing := {"boot", "app_a", "app_b", "ring"} - {part.name for part in self.partitions}:
            raise ValueError(f"partition {', '.join(sorted(missing))} is missing")
        return self

    def part(self, name: str) -> Partition:
        """The partition of that name."""
        return next(part for part in self.partitions if part.name == name)


class Board(_Strict):
    """A board: `pins` are GPIO numbers by their job. `base` None: nothing to flash (the simulated board)."""

    name: Name
    about: str
    chip: str
    mpy_arch: str
    base: Base | None = None
    memory: Memory
    power: Power
    pins: dict[Name, Annotated[int, Field(ge=0, le=99)]]
    flash: Flash


class Wire(_Strict):
    """One connection to make: a part's own pin, and the job of the board's pin it goes to."""

    part: str
    pin: str
    to: str


class Budget(_Strict):
    """What an example takes: MicroPython's heap while it runs, samples a second, milliamperes of its sensors."""

    heap_bytes: Size
    samples_per_s: float
    sensors_ma: float = 0.0


class Example(_Strict):
    """A device that runs: `settings` reach it as they are, `profiles` as a pack of tables."""

    name: Name
    about: str
    boards: tuple[Name, ...]
    layouts: tuple[str, ...]
    profiles: tuple[str, ...] = ()
    ble: bool = False
    wiring: tuple[Wire, ...] = ()
    settings: dict[str, int | str | bool | list[int] | list[str]] = {}
    budget: Budget

    @model_validator(mode="after")
    def _known(self) -> Example:
        known = {layout.name for layout in all_layouts().values()}
        if unknown := set(self.layouts) - known:
            raise ValueError(f"layouts: {', '.join(sorted(unknown))} are not known")
        return self


def load_board(name: str, folder: Path | None = None) -> Board:
    """The board of that name. ConfigError names what there is."""
    return _load(Board, (folder or _folder("boards")) / f"{name}.toml", "board", "boards")


def load_example(name: str, folder: Path | None = None) -> Example:
    """The example of that name."""
    return _load(Example, (folder or _folder("devices")) / f"{name}.toml", "example", "devices")


def names_in(which: Literal["boards", "devices"]) -> list[str]:
    """The boards or examples there are."""
    return sorted(path.stem for path in _folder(which).glob("*.toml"))


def check_pair(example: Example, board: Board) -> None:
    """ConfigError if this example is not made for this board, or is wired to a pin that the board does not have."""
    if board.name not in example.boards:
        raise ConfigError(f"{example.name} is not made for the board {board.name}", cure=f"use one of {', '.join(example.boards)}")
    for wire in example.wiring:
        if wire.to not in board.pins and wire.to not in ("3v3", "5v", "gnd"):
            raise ConfigError(
                f"{example.name}: wired to {wire.to!r}, which {board.name} does not have", cure="add it to [pins] of the board"
            )


def board_module(board: Board, example: Example, version: int) -> str:
    """The module `board` of an image: constants only."""
    lines = [
        f"# Generated for {example.name} on {board.name}; do not edit.",
        f"NAME = {board.name!r}",
        f"EXAMPLE = {example.name!r}",
        f"HARDWARE = {hardware_of(board, example)!r}",
        f"VERSION = {version}",
        f"PINS = {dict(board.pins)!r}",
        f"SETTINGS = {dict(example.settings)!r}",
        f"MEMORY = {board.memory.model_dump()!r}",
        f"PARTITIONS = {tuple((p.name, p.subtype, p.bytes // SECTOR_BYTES) for p in board.flash.partitions if p.type == 'data')!r}",
    ]
    return "\n".join(lines) + "\n"


def hardware_of(board: Board, example: Example) -> str:
    """The hardware id of updates: an image fits the board and the wiring of one example."""
    return f"{board.name}-{example.name}"


def _folder(which: str) -> Path:
    folder = KIT / which
    if not folder.is_dir():
        raise ConfigError(f"{folder}: the device kit is not here", cure="run this from a clone of the repository, which has firmware/")
    return folder


def _load(model: type[_Model], path: Path, what: str, which: Literal["boards", "devices"]) -> _Model:
    try:
        found = model.model_validate(tomllib.loads(path.read_text("utf-8")))
    except FileNotFoundError:
        raise ConfigError(f"no {what} {path.stem!r}", cure=f"use one of {', '.join(names_in(which))}") from None
    except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
        raise ConfigError(f"{path}: {error}", cure=f"write it like those in firmware/micropython/{which}") from error
    except ValidationError as error:
        first = error.errors(include_input=False)[0]
        field = ".".join(str(part) for part in first["loc"]) or what
        raise ConfigError(f"{path}: {field}: {first['msg']}", cure=f"write it like those in firmware/micropython/{which}") from error
    return found
