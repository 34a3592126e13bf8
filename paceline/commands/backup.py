"""`paceline backup` and `restore`: a site as one file, taken while it runs."""

from __future__ import annotations

from pathlib import Path

import click

from paceline.options import json_option, print_json, read_settings, settings_options


@click.command()
@settings_options
@json_option
@click.argument("file", type=click.Path(path_type=Path, dir_okay=False))
def backup(*, config_file: Path | None, data: Path | None, as_json: bool, file: Path) -> None:
    """Write the data folder to FILE (a tar with the SHA-256 of each part): log, state, spool, secrets. It may run meanwhile.

    FILE holds secrets: it is readable by you only; keep it so.

    \b
    Example:
      paceline backup --data data /backup/monday.tar
    """
    from paceline.site_backup import back_up

    parts = back_up(read_settings(config_file, data).settings.data, file)
    _say(parts, f"{file}", as_json=as_json)


@click.command()
@settings_options
@json_option
@click.argument("file", type=click.Path(path_type=Path, dir_okay=False, exists=True))
def restore(*, config_file: Path | None, data: Path | None, as_json: bool, file: Path) -> None:
    """Make the data folder from FILE, each part checked. The folder must not hold a site. Nodes send again what they still owe.

    \b
    Example:
      paceline restore --data data /backup/monday.tar
    """
    from paceline.site_backup import bring_back

    folder = read_settings(config_file, data).settings.data
    _say(bring_back(file, folder), f"{folder}", as_json=as_json)


def _say(parts: dict[str, int], where: str, *, as_json: bool) -> None:
    if as_json:
        print_json({"where": where, "parts": parts})
        return
    for name, size in parts.items():
        click.echo(f"{size:>12}  {name}")
    click.echo(f"{len(parts)} parts: {where}")
