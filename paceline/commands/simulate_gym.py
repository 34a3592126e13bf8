"""`paceline simulate gym`, or without a name: a virtual gym near a running box, with faults by name."""

from __future__ import annotations

import asyncio
from pathlib import Path

import click

from paceline.options import json_option, read_settings, settings_options


@click.command()
@settings_options
@json_option
@click.option("--members", type=click.IntRange(1, 5000), default=24, show_default=True, help="How many.")
@click.option("--seconds", type=click.FloatRange(min=1), default=30.0, show_default=True, help="How long they train.")
@click.option("--rate", type=click.FloatRange(0.1, 100), default=1.0, show_default=True, help="Samples a second of each member.")
@click.option("--faults", default="", help="Faults by name, such as `drop:0.3@5-20` (see simulators/faults.py).")
@click.option("--name", default="member", show_default=True, help="First part of the members' names.")
@click.option("--seed", type=int, default=1, show_default=True, help="The same seed gives the same members.")
@click.pass_context
def gym(
    ctx: click.Context,
    config_file: Path | None,
    data: Path | None,
    as_json: bool,
    members: int,
    seconds: float,
    rate: float,
    faults: str,
    name: str,
    seed: int,
) -> None:
    """Let members of a virtual gym train near the box of a running `paceline run`; exit 1 when not all was acknowledged.

    \b
    Example:
      paceline simulate --data data --members 50 --seconds 60
    """
    from broker.ids import check_id
    from paceline.site import add_nodes, running_site
    from simulators.faults import parse_faults
    from simulators.gym import GymSettings, gym_usernames, run_gym

    site = running_site(read_settings(config_file, data).settings)
    near, tenant = site.settings.near, site.settings.tenant
    plan = parse_faults(faults)
    check_id(f"{name}0000", "name")

    def members_of(passwords: dict[str, str]) -> GymSettings:
        return GymSettings(near.host, near.port, tenant, members, passwords, seed, seconds, rate_hz=rate, faults=plan, name=name)

    report = asyncio.run(run_gym(members_of(add_nodes(site, "near", gym_usernames(members_of({}))))))
    if as_json:
        click.echo(report.to_json())
    else:
        click.echo(
            f"{report.members} members, {report.frames_made} frames made, {report.frames_stored} acknowledged, "
            f"{report.frames_refused} refused" + ("" if report.drained else "; NOT all acknowledged")
        )
    ctx.exit(0 if report.drained else 1)
