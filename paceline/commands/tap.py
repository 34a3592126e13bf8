"""`paceline tap`: the decoded live traffic of a broker."""

from __future__ import annotations

import asyncio
import json
import time
from pathlib import Path
from typing import Literal

import click

from broker.ids import check_id
from broker.topics import ROOT
from paceline.link import Link, messages
from paceline.options import json_option, read_settings, settings_options
from paceline.traffic import describe, line


@click.command()
@settings_options
@json_option
@click.option("--broker", type=click.Choice(["central", "near"]), default="central", show_default=True, help="Which broker to listen to.")
@click.option("--tenant", help="Only this tenant.")
@click.option("--node", help="Only this node.")
@click.option("--seconds", type=click.FloatRange(min=0.1), help="Stop after that time (default: until Ctrl-C).")
def tap(
    *,
    config_file: Path | None,
    data: Path | None,
    as_json: bool,
    broker: Literal["central", "near"],
    tenant: str | None,
    node: str | None,
    seconds: float | None,
) -> None:
    """Print what travels: frames, acks, states and configurations, decoded; bad messages with their reason.

    It needs the data folder of a running `paceline run` or `demo` (its ports and secrets).

    \b
    Example:
      paceline tap --data data --node box
      paceline tap --data data --json --seconds 5
    """
    from paceline.site import client_files, running_site

    for name, value in (("tenant", tenant), ("node", node)):
        if value is not None:
            check_id(value, name)
    site = running_site(read_settings(config_file, data).settings)
    where = site.settings.central if broker == "central" else site.settings.near
    files = client_files(site, "platform/tap") if broker == "central" else None
    host = site.settings.central.link_host if broker == "central" else where.host
    link = Link(host, where.port, "platform/tap", site.secret(broker, "platform/tap"), files)
    try:
        asyncio.run(_listen(link, f"{ROOT}/{tenant or '+'}/{node or '+'}/#", as_json, seconds))
    except KeyboardInterrupt:
        return


async def _listen(link: Link, pattern: str, as_json: bool, seconds: float | None) -> None:
    try:
        async with asyncio.timeout(seconds):
            async for name, payload in messages(link, pattern, qos=0):
                seen = describe(name, payload, time.time_ns() // 1000)
                click.echo(json.dumps(seen) if as_json else "\n".join(line(seen)))
    except TimeoutError:
        return
