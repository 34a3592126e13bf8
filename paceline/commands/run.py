"""`paceline run`: the real thing on one machine."""

from __future__ import annotations

import asyncio
import signal
from pathlib import Path
from typing import TYPE_CHECKING

import click

from paceline.options import program_name, read_settings, settings_options

if TYPE_CHECKING:
    from paceline.site import Site


@click.command()
@settings_options
@click.option("--port", type=click.IntRange(0, 65535), help="Port of the page (0: any free one; default 8800).")
def run(config_file: Path | None, data: Path | None, port: int | None) -> None:
    """Run brokers, gateway and platform on this machine until Ctrl-C. Needs no file: secrets are drawn at the first run.

    A part that dies is started again. Logs of the parts are in DATA/logs.

    \b
    Example:
      paceline run
      paceline run --data /var/lib/paceline --config site.toml
    """
    from gateway.data_lock import locked_directory
    from paceline.site import open_site, publish_site
    from paceline.supervise import require_free

    settings = read_settings(config_file, data, {"api.port": port}).settings
    if settings.api.port:
        require_free(settings.api.host, settings.api.port, "--port")
    site = open_site(settings.model_copy(update={"data": settings.data.absolute()}))
    with locked_directory(site.data, "site"):
        for name, broker in (("central", settings.central), ("near", settings.near)):
            if broker.kind != "external" and broker.port:
                require_free(broker.host, broker.port, f"{name}.port")
        publish_site(site)
        asyncio.run(_supervise(site))


async def _supervise(site: Site) -> None:
    from paceline.compiling import compile_kernels
    from paceline.parts import api_options, roles
    from paceline.supervise import Supervisor

    async def start() -> None:
        await compile_kernels(click.echo)
        await supervisor.start()

    stop = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, stop.set)
    supervisor = Supervisor(roles(site), site.logs)
    stopping = asyncio.create_task(stop.wait())
    starting = asyncio.create_task(start())
    try:
        await asyncio.wait({starting, stopping}, return_when=asyncio.FIRST_COMPLETED)
        if starting.done():
            starting.result()
            near, central = site.settings.near, site.settings.central
            options = api_options(site)
            click.echo(f"page: {options.url}")
            own_token = f"with a token of {program_name()} token add {options.tenant} --role screen --data {site.data}"
            click.echo(f"screen for everybody: {options.screen_url or own_token}")
            click.echo(f"devices near by: {near.host}:{near.port}   nodes: {central.host}:{central.port}   data: {site.data}")
            click.echo(f"add a device: {program_name()} node add NAME --data {site.data}")
            await asyncio.wait({supervisor.failed, stopping}, return_when=asyncio.FIRST_COMPLETED)
        if supervisor.failed.done():
            raise supervisor.failed.result()
    finally:
        stopping.cancel()
        starting.cancel()
        await supervisor.stop()
        click.echo("stopped")
