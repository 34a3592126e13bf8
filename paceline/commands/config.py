"""`paceline config`: what is set, where it came from, and whether it is right."""

from __future__ import annotations

from pathlib import Path

import click

from paceline.options import json_option, print_json, read_settings, settings_options


@click.group()
def config() -> None:
    """Show and check the settings.

    \b
    Example:
      paceline config show --config site.toml
    """


@config.command()
@settings_options
@json_option
def show(config_file: Path | None, data: Path | None, as_json: bool) -> None:
    """Print every setting, its value (secrets masked) and where it came from.

    \b
    Example:
      PACELINE_API__PORT=9000 paceline config show
    """
    rows = list(read_settings(config_file, data).rows())
    if as_json:
        print_json({key: {"value": value, "origin": origin} for key, value, origin in rows})
        return
    wide = max(len(key) for key, _, _ in rows)
    for key, value, origin in rows:
        click.echo(f"{key:<{wide}}  {value or '-':<28}  {origin}")


@config.command()
@settings_options
@json_option
def check(config_file: Path | None, data: Path | None, as_json: bool) -> None:
    """Check the settings and exit with 2 when something is wrong.

    \b
    Example:
      paceline config check --config site.toml
    """
    loaded = read_settings(config_file, data)
    if as_json:
        print_json({"ok": True, "given": dict(loaded.origins)})
    else:
        click.echo(f"ok: {len(loaded.origins)} settings given, the rest are defaults")
