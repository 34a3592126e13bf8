"""`paceline firmware new`, `build` and `flash`: from an example to a board that runs it."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

from paceline.options import json_option, print_json

if TYPE_CHECKING:
    from paceline.device.project import Project


@click.command()
@json_option
@click.argument("example")
@click.option("--board", default="", help="Board (default: the first the example is made for).")
@click.option("--out", type=click.Path(path_type=Path, file_okay=False), help="New folder (default: the example's name).")
def new(*, as_json: bool, example: str, board: str, out: Path | None) -> None:
    """Copy EXAMPLE into a folder of your own and print its wiring, its budget, and what to flash once.

    Examples: strap_bridge, bike_sensor, gps_tracker, wristband, finish_gate.

    \b
    Example:
      paceline firmware new bike_sensor --board esp32
    """
    from paceline.device.project import budget_of, flash_lines, new_project, open_project, wiring_of

    project = open_project(example, board)
    folder = out or Path(example)
    new_project(project, folder)
    budget, lines = budget_of(project), flash_lines(project, "/dev/ttyUSB0")
    if as_json:
        wiring = [{"part": part, "pin": pin, "to": to} for part, pin, to in wiring_of(project)]
        print_json({"folder": str(folder), "board": project.board.name, "wiring": wiring, "budget": budget, "flash": lines})
        return
    click.echo(f"{folder}: {project.example.about}\non {project.board.name}: {project.board.about}\n\nwiring:")
    for part, pin, to in wiring_of(project):
        click.echo(f"  {part:<36} {pin:<10} -> {to}")
    click.echo(f"\nbudget:\n  heap {budget['heap_bytes']:,} of {budget['heap_of_board_bytes']:,} bytes")
    if budget["radio_of_board_bytes"]:
        click.echo(f"  TLS and radio {budget['radio_bytes']:,} of {budget['radio_of_board_bytes']:,} bytes outside that heap")
    click.echo(f"  {budget['wire_bytes_per_s']} bytes/s on the wire; without a link the flash holds {budget['offline_hours']} hours")
    if budget["active_ma"]:
        click.echo(f"  about {budget['active_ma']:g} mA while it sends: {budget['hours_of_1000_mah']} hours of 1,000 mAh (by data sheets)")
    click.echo(f"\nfirst:\n  paceline firmware build {folder}")
    if lines:
        click.echo("\nonce, to put MicroPython and the partitions that were built onto the board:")
        for line in lines:
            click.echo(f"  {line}")
    click.echo(f"\nthen:\n  paceline firmware flash {folder} --port /dev/ttyUSB0")
    click.echo("  paceline firmware provision NAME --port /dev/ttyUSB0 --ssid WIFI --wifi-password SECRET")


@click.command()
@json_option
@click.argument("what", metavar="EXAMPLE|FOLDER")
@click.option("--board", default="", help="Board of an example (default: the first it is made for); a folder has its own.")
@click.option("--out", type=click.Path(path_type=Path, file_okay=False), default=Path("build"), show_default=True, help="Folder.")
@click.option("--version", type=click.IntRange(0, 0xFFFF_FFFF), default=1, show_default=True, help="Counts up with each release.")
@click.option("--key", "keys", multiple=True, help="Public key (hex) whose updates it takes; may be given twice, to change keys.")
def build(*, as_json: bool, what: str, board: str, out: Path, version: int, keys: tuple[str, ...]) -> None:
    """Compile an example or a folder of your own: an image for a slot (.romfs), files for the board, partitions, package.json for mip.

    \b
    Example:
      paceline firmware build strap_bridge --board esp32 --version 7 --key PUBLIC_KEY
      paceline firmware build my_bike
    """
    from broker.errors import ConfigError, StoreError
    from paceline.device.board import hardware_of
    from paceline.device.image import build as compiled
    from paceline.device.image import package_json
    from paceline.device.partition_table import partition_table
    from paceline.device.project import open_project

    project = open_project(what, board)
    try:
        raw_keys = tuple(bytes.fromhex(key) for key in keys)
    except ValueError:
        raw_keys = (b"",)
    if any(len(key) != 32 for key in raw_keys):
        raise ConfigError("--key is not 64 hexadecimal digits", cure="give the public key that `paceline firmware key` printed")
    image = compiled(project.board, project.example, raw_keys, project.main, version)
    name = hardware_of(project.board, project.example)
    sizes = {path: len(content) for path, content in image.modules.items()}
    try:
        modules = out / f"{name}-modules"
        for path, content in {**image.modules, **image.starters}.items():
            (modules / path).parent.mkdir(parents=True, exist_ok=True)
            (modules / path).write_bytes(content)
        (out / f"{name}.romfs").write_bytes(image.romfs)
        (modules / "package.json").write_text(package_json(image, str(version)), "utf-8")
        if project.board.base is not None:
            (out / f"{name}.partitions.bin").write_bytes(partition_table(project.board.flash.partitions))
    except OSError as error:
        raise StoreError(f"{out}: {error.strerror}", cure="give a folder you may write with --out") from error
    room = project.board.flash.part("app_a").bytes
    if as_json:
        print_json(
            {"image": str(out / f"{name}.romfs"), "bytes": len(image.romfs), "slot_bytes": room, "version": version, "modules": sizes}
        )
        return
    for path, size in sorted(sizes.items(), key=lambda one: -one[1]):
        click.echo(f"{size:>7}  {path}")
    click.echo(f"{len(image.romfs):>7}  {out / f'{name}.romfs'}: {100 * len(image.romfs) // room} % of a slot of {room}")


@click.command()
@click.argument("what", metavar="EXAMPLE|FOLDER")
@click.option("--board", default="", help="Board of an example (default: the first it is made for).")
@click.option(
    "--out", type=click.Path(path_type=Path, file_okay=False), default=Path("build"), show_default=True, help="Where it was built."
)
@click.option("--port", "device", default="/dev/ttyUSB0", show_default=True, help="Serial line of the board.")
@click.option("--dry-run", is_flag=True, help="Print the commands only.")
def flash(*, what: str, board: str, out: Path, device: str, dry_run: bool) -> None:
    """Copy what was built onto a board that runs MicroPython already (`firmware new` prints how to get there).

    \b
    Example:
      paceline firmware flash strap_bridge --board esp32 --port /dev/ttyUSB0
    """
    import importlib.util
    import shlex
    import subprocess

    from broker.errors import ConfigError, LinkError
    from paceline.device.board import hardware_of
    from paceline.device.project import open_project

    project: Project = open_project(what, board)
    modules = out / f"{hardware_of(project.board, project.example)}-modules"
    if not modules.is_dir():
        raise ConfigError(f"{modules} is not there", cure=f"build it first: `paceline firmware build {what}`")
    command = copy_command(modules, device)
    click.echo(shlex.join(command))
    if dry_run:
        return
    if importlib.util.find_spec("mpremote") is None:
        raise ConfigError("copying needs `mpremote`", cure='pip install "paceline[firmware]"')
    try:
        done = subprocess.run(command, check=False, timeout=600)  # noqa: S603
    except subprocess.TimeoutExpired:
        raise LinkError(f"{device}: the copy did not end within 10 minutes", cure="press the board's reset button and try again") from None
    if done.returncode:
        raise LinkError(
            f"{device}: mpremote ended with {done.returncode}", cure="is the board there, and runs it MicroPython? See `firmware new`"
        )


def copy_command(modules: Path, device: str) -> list[str]:
    """The call of mpremote that copies a folder of modules: the starters to the root, all else to /lib, then a reset."""
    import sys

    starters = [str(modules / name) for name in ("boot.py", "main.py")]
    rest = sorted(str(path) for path in modules.iterdir() if path.name not in ("boot.py", "main.py", "package.json"))
    start = [sys.executable, "-m", "mpremote", "connect", device]
    folder = "import os; 'lib' in os.listdir() or os.mkdir('lib')"  # there already when it is flashed again
    return [*start, "exec", folder, "+", "fs", "cp", "-r", *rest, ":lib/", "+", "fs", "cp", *starters, ":", "+", "reset"]
