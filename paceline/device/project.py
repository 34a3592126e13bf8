"""A project of one's own: an example copied with its board, and what its maker needs to know: wiring, budget, what to flash."""

from __future__ import annotations

import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from broker.errors import ConfigError, StoreError
from broker.layouts import layout_named
from paceline.device.board import KIT, Board, Example, check_pair, hardware_of, load_board, load_example

FRAME_HEAD_BYTES: Final = 80  # of a frame, its header and its row in a bundle, at most
_BATTERY_MAH: Final = 1000


@dataclass(frozen=True, slots=True)
class Project:
    """An example, its board and its main module: those of the kit, or copies in a folder."""

    example: Example
    board: Board
    main: Path


def open_project(name: str, board: str) -> Project:
    """The project in the folder `name`, or the example of the kit with that name on `board`. ConfigError when they do not fit."""
    folder = Path(name)
    if (folder / "device.toml").exists():
        found = Project(load_example("device", folder), load_board("board", folder), folder / "application.py")
    else:
        example = load_example(name)
        found = Project(example, load_board(board or example.boards[0]), KIT / "devices" / f"{name}.py")
    check_pair(found.example, found.board)
    return found


def new_project(project: Project, folder: Path) -> None:
    """Copy it into a new folder: `application.py`, `device.toml`, `board.toml`. ConfigError when the folder is there."""
    if folder.exists():
        raise ConfigError(f"{folder} is there already", cure="give another folder with --out")
    try:
        folder.mkdir(parents=True)
        shutil.copyfile(project.main, folder / "application.py")
        shutil.copyfile(KIT / "devices" / f"{project.example.name}.toml", folder / "device.toml")
        shutil.copyfile(KIT / "boards" / f"{project.board.name}.toml", folder / "board.toml")
    except OSError as error:
        raise StoreError(f"{folder}: {error.strerror}", cure="give a folder you may write with --out") from error


def wiring_of(project: Project) -> list[tuple[str, str, str]]:
    """(part, its pin, the board's pin) of each connection."""
    pins = project.board.pins
    return [
        (wire.part, wire.pin, f"GPIO {pins[wire.to]} ({wire.to})" if wire.to in pins else wire.to.upper())
        for wire in project.example.wiring
    ]


def budget_of(project: Project) -> dict[str, Any]:
    """What it takes: memory against what the board has, bytes on the wire, for how long flash and a battery of 1,000 mAh last."""
    example, board = project.example, project.board
    record_bytes = max(layout_named(name).size for name in example.layouts if name != "health.1")
    wire_bytes_s = example.budget.samples_per_s * record_bytes + FRAME_HEAD_BYTES
    active_ma = board.power.active_ma + (board.power.ble_ma if example.ble else 0) + example.budget.sensors_ma
    radio_bytes = board.memory.tls_bytes + (board.memory.ble_bytes if example.ble else 0)
    return {
        "heap_bytes": example.budget.heap_bytes,
        "heap_of_board_bytes": board.memory.heap_bytes,
        "radio_bytes": radio_bytes,
        "radio_of_board_bytes": board.memory.radio_bytes,
        "wire_bytes_per_s": round(wire_bytes_s),
        "offline_hours": round(board.flash.part("ring").bytes / wire_bytes_s / 3600, 1),
        "active_ma": active_ma or None,
        "hours_of_1000_mah": round(_BATTERY_MAH / active_ma, 1) if active_ma else None,
    }


def flash_lines(project: Project, port: str) -> list[str]:
    """What is typed once to put MicroPython and the partitions onto a board."""
    board, base = project.board, project.board.base
    if base is None:
        return []
    start = f"esptool --chip {board.chip} --port {port}"
    image = f"{base.image}-{base.version}.bin"
    return [
        f"# {image}: download it from micropython.org/download/{base.image}",
        f"{start} erase-flash",
        f"{start} write-flash {base.offset:#x} {image} {base.table_offset:#x} build/{hardware_of(board, project.example)}.partitions.bin",
    ]
