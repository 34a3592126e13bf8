"""`paceline gateway box`: the gateway of an installed box, with its set-up page. What the service of the Debian package runs."""

from __future__ import annotations

from pathlib import Path

import click

from paceline.options import read_settings, settings_options
from paceline.watched import run_watched


@click.command()
@settings_options
def box(config_file: Path | None, data: Path | None) -> None:
    """Run this machine as the box of a gym: a page on the LAN until it is set up, then the gateway.

    The page asks for the code that stands on the screen and in the log of the box, tries the credential on the broker, and keeps it.
    Settings of the page: box.host, box.port, and box.after ("state" or "closed": what it does once the box is set up).

    \b
    Example:
      paceline gateway box --data /var/lib/paceline
    """
    from gateway.box import BoxSettings, run_box
    from paceline.parts import box_gateway

    settings = read_settings(config_file, data, role="gateway").settings
    page = settings.box
    box = BoxSettings(settings.data, page.host, page.port, page.after, settings.gateway.ble)
    run_watched("gateway", settings, lambda watch: run_box(box, lambda known: box_gateway(settings, known), watch))
