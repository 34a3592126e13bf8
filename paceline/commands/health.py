"""`paceline health`: whether the process on this machine is ready, for health checks of containers and service managers."""

from __future__ import annotations

from pathlib import Path

import click

from paceline.options import read_settings, settings_options


@click.command()
@settings_options
@click.option("--port", type=click.IntRange(1, 65535), help="Port of its figures (default metrics.port).")
@click.option("--live", is_flag=True, help="Only ask whether its loops move.")
def health(config_file: Path | None, data: Path | None, port: int | None, *, live: bool) -> int:
    """Ask the process whose figures are on metrics.port whether it is ready; exit 1 with the reasons when it is not.

    \b
    Example:
      PACELINE_METRICS__PORT=9100 paceline health
      paceline health --port 9101 --live
    """
    from paceline.role_view import RoleView

    port = port or read_settings(config_file, data).settings.metrics.port
    if not port:
        raise click.UsageError("metrics.port is 0: give --port (DATA/metrics/ROLE.json has it)")
    view = RoleView("", "127.0.0.1", port)
    try:
        still = view.stands_still()
        reasons = {} if live else view.reasons()
    except OSError as error:
        click.echo(f"127.0.0.1:{port}: {error}")
        return 1
    for part in still:
        click.echo(f"{part} stands still")
    for name, why in reasons.items():
        click.echo(f"{name}: {why}")
    return 1 if still or reasons else 0
