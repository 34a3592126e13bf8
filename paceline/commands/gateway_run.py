"""`paceline gateway run`: the gateway process of a site."""

from __future__ import annotations

from pathlib import Path

import click

from paceline.options import read_settings, settings_options
from paceline.site import open_site
from paceline.supervise import die_with_parent
from paceline.watched import run_watched


@click.command()
@settings_options
def run(config_file: Path | None, data: Path | None) -> None:
    """Run the box: devices near by and recordings in, spool, uplink to the central broker.

    \b
    Example:
      PACELINE_CENTRAL__PORT=1883 paceline gateway --data /var/lib/paceline
    """
    from gateway.app import run as run_gateway
    from paceline.parts import gateway_settings

    die_with_parent()
    site = open_site(read_settings(config_file, data, role="gateway").settings)
    run_watched("gateway", site.settings, lambda watch: run_gateway(gateway_settings(site), watch=watch))
