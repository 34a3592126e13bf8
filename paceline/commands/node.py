"""`paceline node`: add a device, send as one, and check a stranger's; the rest is in `node_identity`."""

from __future__ import annotations

import asyncio
import json
import secrets
import time
from pathlib import Path

import click

from broker.errors import ConfigError
from paceline.commands.node_identity import add_by_certificate, authority, enrol, full_name, list_nodes, revoke, serve
from paceline.link import Link, publishing
from paceline.options import json_option, print_json, read_settings, settings_options


@click.group()
def node() -> None:
    """Add, enrol, revoke, try and check nodes (what speaks the wire).

    \b
    Example:
      paceline node add watch-7 --data data
    """


for command in (enrol, revoke, list_nodes, serve, authority):
    node.add_command(command)


@node.command()
@settings_options
@json_option
@click.argument("name")
@click.option("--broker", type=click.Choice(["near", "central"]), help="Where it will connect (default: near, or central by certificate).")
def add(*, config_file: Path | None, data: Path | None, as_json: bool, name: str, broker: str | None) -> None:
    """Add node NAME: print its credentials on a broker of this site (again the same ones, if it has them), or its enrolment code.

    Where the central broker goes by certificates, that is one line which works once; NAME may be TENANT/NODE then.

    \b
    Example:
      paceline node add watch-7 --data data
      paceline node add box1 --broker central --data data
    """
    from broker.topics import check_node
    from paceline.site import add_nodes, running_site

    site = running_site(read_settings(config_file, data).settings)
    by_certificate = site.settings.central.by_certificate
    if by_certificate and broker != "near":
        add_by_certificate(site, full_name(site, name), as_json=as_json)
        return
    broker = broker or "near"
    user = f"{site.settings.tenant}/{check_node(name)}"
    where = site.settings.near if broker == "near" else site.settings.central
    if where.kind != "embedded":
        raise ConfigError(f"the {broker} broker is not ours", cure="add the user to its password file: `paceline broker config mosquitto`")
    secret = add_nodes(site, broker, [user])[user]
    if as_json:
        print_json({"host": where.host, "port": where.port, "user": user, "client_id": user, "password": secret})
    else:
        click.echo(f"host {where.host}\nport {where.port}\nuser and client id {user}\npassword {secret}")


@node.command()
@click.option("--host", default="127.0.0.1", show_default=True, help="Broker.")
@click.option("--port", type=click.IntRange(1, 65535), required=True, help="Its port.")
@click.option("--user", required=True, help="User name, tenant/node.")
@click.option("--password", required=True, help="Its secret.")
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


@node.command()
@json_option
@click.option("--host", help="A running broker (default: one is started on loopback).")
@click.option("--port", type=click.IntRange(1, 65535), default=1883, show_default=True, help="Port of that broker.")
@click.option("--user", default="platform/control", show_default=True, help="Platform principal on that broker.")
@click.option("--password", default="", help="Its password.")
@click.option("--tenant", default="check", show_default=True, help="Tenant of the device.")
@click.option("--name", default="device", show_default=True, help="Node id of the device.")
@click.option("--silence", type=click.FloatRange(3, 600), default=12.0, show_default=True, help="Seconds without acks.")
@click.option("--patience", type=click.FloatRange(1, 3600), default=60.0, show_default=True, help="Seconds to wait for it to come (back).")
@click.pass_context
def check(
    ctx: click.Context,
    as_json: bool,
    host: str | None,
    port: int,
    user: str,
    password: str,
    tenant: str,
    name: str,
    silence: float,
    patience: float,
) -> None:
    """Check whether a device keeps the rules of docs/wire.md; exit 1 when one is broken.

    Starts a broker on loopback, prints the credentials for the device and waits for it; start the device then. It takes about a minute.

    \b
    Example:
      paceline node check
      paceline node check --host 10.0.0.5 --user platform/control --password SECRET --tenant gym --name watch-7
    """
    from broker.ids import check_id
    from broker.topics import check_node
    from paceline.node_check import CheckPlan, check_given, check_own

    check_id(tenant, "tenant")
    check_node(name)
    plan = CheckPlan(first_message_s=patience, silence_s=silence, return_s=patience)
    if host is None:
        verdicts = asyncio.run(check_own(tenant, name, plan, lambda link: click.echo(_credentials(link), err=True)))
    else:
        verdicts = asyncio.run(check_given(Link(host, port, user, password), tenant, name, plan))
    broken = [verdict for verdict in verdicts if verdict.state == "broken"]
    if as_json:
        print_json([{"rule": v.rule, "state": v.state, "about": v.about, "section": v.section, "found": v.found} for v in verdicts])
    else:
        for verdict in verdicts:
            click.echo(f"{verdict.state:<9} {verdict.rule:<10} {verdict.about}  [wire.md {verdict.section}]")
            for found in verdict.found:
                click.echo(f"          - {found}")
        click.echo(f"{len(broken)} rules broken" if broken else "no rule broken")
    ctx.exit(1 if broken else 0)


def _credentials(link: Link) -> str:
    return f"host {link.host}\nport {link.port}\nuser and client id {link.user}\npassword {link.secret}\nwaiting for the device"
