"""The role processes: `gateway`, `process`, `ingest`, `api`. `paceline run` starts them; scaled out, each runs where it belongs."""

from __future__ import annotations

import asyncio
import signal
from collections.abc import Coroutine
from pathlib import Path
from typing import Any

import click

from paceline.options import read_settings, settings_options
from paceline.site import Site, open_site
from paceline.supervise import die_with_parent


@click.command()
@settings_options
def gateway(config_file: Path | None, data: Path | None) -> None:
    """Run the box: devices near by and recordings in, spool, uplink to the central broker.

    \b
    Example:
      PACELINE_CENTRAL__PORT=1883 paceline gateway --data /var/lib/paceline
    """
    from gateway.app import run

    from paceline.parts import gateway_settings

    run_role(run(gateway_settings(_site(config_file, data))))


@click.command()
@settings_options
def process(config_file: Path | None, data: Path | None) -> None:
    """Run the platform: ingest, stages, stores, HTTP API and page, in one process.

    \b
    Example:
      paceline process --data data
    """
    from processors.platform import run

    from paceline.parts import platform_settings

    run_role(run(platform_settings(_site(config_file, data))))


def _site(config_file: Path | None, data: Path | None) -> Site:
    die_with_parent()
    return open_site(read_settings(config_file, data).settings)


def run_role(work: Coroutine[Any, Any, object]) -> None:
    """Run until done, or until SIGTERM or Ctrl-C cancels it (its clean-up runs)."""

    async def until_signalled() -> None:
        task = asyncio.ensure_future(work)
        for number in (signal.SIGTERM, signal.SIGINT):
            asyncio.get_running_loop().add_signal_handler(number, task.cancel)
        await asyncio.wait([task])
        if not task.cancelled():
            task.result()

    asyncio.run(until_signalled())
