"""`paceline doctor`: what keeps a site from working, and the cure."""

from __future__ import annotations

import asyncio
from dataclasses import asdict
from pathlib import Path

import click

from paceline.options import json_option, print_json, read_settings, settings_options


@click.command()
@settings_options
@json_option
@click.option("--sensors", type=click.IntRange(0, 10_000), help="Say how many adapters or sticks so many straps and machines need.")
@click.pass_context
def doctor(ctx: click.Context, config_file: Path | None, data: Path | None, as_json: bool, sensors: int | None) -> None:
    """Check connections, rights, versions, clock, disk, radios, ports and locks of a site; exit 1 when something is wrong.

    \b
    Example:
      paceline doctor --data data
      paceline doctor --sensors 30
    """
    from paceline.doctor import examine
    from paceline.site import Site, running_site

    settings = read_settings(config_file, data).settings
    running = (settings.data / "site.json").exists()
    findings = asyncio.run(examine(running_site(settings) if running else Site(settings), running=running, sensors=sensors))
    wrong = [finding for finding in findings if not finding.ok]
    if as_json:
        print_json({"ok": not wrong, "findings": [asdict(f) | {"cure": "" if f.ok else f.cure} for f in findings]})
    else:
        for finding in findings:
            click.echo(f"{'ok   ' if finding.ok else 'WRONG'} {finding.check:<18} {finding.found}")
            if not finding.ok:
                click.echo(f"      cure: {finding.cure}")
        click.echo(f"{len(wrong)} things are wrong" if wrong else "nothing is wrong")
    ctx.exit(1 if wrong else 0)
