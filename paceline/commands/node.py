"""`paceline node`: add a device, send as one, and check a stranger's."""

from __future__ import annotations

import asyncio
import json
import secrets
import time
from pathlib import Path

import click

from broker.errors import ConfigError
from paceline.link import Link, publishing
from paceline.options import json_option, print_json, read_settings, settings_options


@click.group()
def node() -> None:
    """Add, try and check nodes (devices that speak the wire).

    \b
    Example:
      paceline node add watch-7 --data data
    """


@node.command()
@settings_options
@json_option
@click.argument("name")
@click.option("--broker", type=click.Choice(["near", "central"]), default="near", show_default=True, help="Where it will connect.")
def add(*, config_file: Path | None, data: Path | None, as_json: bool, name: str, broker: str) -> None:
    """Give node NAME a secret on a broker of this site and print its credentials (again the same ones, if it has them).

    \b
    Example:
      paceline node add watch-7 --data data
    """
    from broker.ids import check_id
    from paceline.site import add_nodes, running_site

    site = running_site(read_settings(config_file, data).settings)
    user = f"{site.settings.tenant}/{check_id(name, 'node')}"
    where = site.settings.near if broker == "near" else site.settings.central
    if where.kind != "embedded":
        raise ConfigError(f"the {broker} broker is not ours", cure="add the user to its password file: `paceline broker config mosquitto`")
    secret = add_nodes(site, broker, [user])[user]
    if as_json:
        print_json({"host": where.host, "port": where.port, "user": user, "client_id": user, "password": secret})
    else:
        click.echo(f"host {where.host}\nport {where.port}\nuser and client id {user}\npassword {secret}")


@node.command()
@click.option("--host", default="127.0.0.1", show_default=True)
@click.option("--port", type=click.IntRange(1, 65535), required=True)
@click.option("--user", required=True, help="tenant/node")
@click.option("--password", required=True)
@click.option("--seconds", type=click.FloatRange(min=0), default=10.0, show_default=True, help="One sample a second (0: one only).")
@click.option("--hr", type=click.IntRange(30, 230), default=140, show_default=True, help="Heart rate to send.")
@click.option("--speed", type=click.FloatRange(0, 30), default=3.0, show_default=True, help="Speed to send, in m/s.")
def send(*, host: str, port: int, user: str, password: str, seconds: float, hr: int, speed: float) -> None:
    """Send samples of one athlete in the JSON form, as the node USER.

    \b
    Example:
      paceline node send --port 1884 --user gym/watch-7 --password SECRET --seconds 30
    """
    from broker.topics import parse_username

    who = parse_username(user)
    if who is None or who.is_platform:
        raise ConfigError(f"--user {user!r} is not tenant/node", cure="use the user name that `paceline node add` printed")
    sent = asyncio.run(_send(Link(host, port, user, password), who.tenant, who.node, seconds, hr, speed))
    click.echo(f"sent {sent} samples as {user}")


async def _send(link: Link, tenant: str, name: str, seconds: float, hr: int, speed: float) -> int:
    from broker.topics import topic

    boot = f"{secrets.randbits(64):016x}"
    count = max(int(seconds), 1)
    async with publishing(link) as publish:
        for seq in range(count):
            sample = {"hr_bpm": hr, "speed_mps": speed, "distance_m": round(speed * seq, 2)}
            frame = {
                "device": name,
                "boot": boot,
                "seq": seq,
                "subject": f"{tenant}/{name}",
                "utc_us": time.time_ns() // 1000,
                "samples": [sample],
            }
            await publish(topic(tenant, name, "up/json"), json.dumps(frame).encode())
            if seq + 1 < count:
                await asyncio.sleep(1.0)
    return count
