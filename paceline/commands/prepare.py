"""`paceline prepare`: what a site of several containers needs before its first start."""

from __future__ import annotations

from pathlib import Path

import click

from paceline.options import read_settings, settings_options


@click.command()
@settings_options
@click.option("--shared", type=click.Path(path_type=Path, file_okay=False), help="Folder for secrets of InfluxDB and Grafana.")
def prepare(config_file: Path | None, data: Path | None, shared: Path | None) -> None:
    """Make the data folder, draw the secrets, make the certificates, and say where the page is. What is there stays.

    \b
    Example:
      paceline prepare --data /data --shared /shared
    """
    from paceline.parts import api_options
    from paceline.shared_secrets import draw
    from paceline.site import open_site, publish_site

    settings = read_settings(config_file, data, role="setup").settings
    site = open_site(settings.model_copy(update={"data": settings.data.absolute()}))
    publish_site(site)
    for path in draw(shared) if shared is not None else ():
        click.echo(f"drawn: {path}")
    token = site.settings.api.token.get_secret_value()
    click.echo(f"page: http://localhost:{api_options(site).port}/?token={token}")
