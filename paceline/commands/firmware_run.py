"""`paceline firmware provision` and `run`: a device told where it belongs, and a simulated one beside a running site."""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from paceline.options import json_option, print_json, read_settings, settings_options

if TYPE_CHECKING:
    from paceline.device.simulated import Interpreter
    from paceline.site import Site


@click.command()
@settings_options
@json_option
@click.argument("name")
@click.option("--port", help="Serial line of the board; without it only the enrolment code is printed, for the set-up page.")
@click.option("--ssid", default="", help="Wi-Fi of the device.")
@click.option("--wifi-password", default="", help="Its password.")
@click.option("--athlete", default="", help="Athlete who wears it (default: nobody yet).")
@click.option("--host", default="", help="Address of the broker as the device meets it (default: that of the site).")
@click.option("--broker", type=click.Choice(["near", "central"]), default="near", show_default=True, help="Which broker of the site.")
@click.option("--updates", default="", help="Where updates are offered, as http://host:8870.")
@click.option("--request", "wants_request", is_flag=True, help="Print the certificate request of the device instead; its key stays in it.")
def provision(
    *,
    config_file: Path | None,
    data: Path | None,
    as_json: bool,
    name: str,
    port: str | None,
    ssid: str,
    wifi_password: str,
    athlete: str,
    host: str,
    broker: str,
    updates: str,
    wants_request: bool,
) -> None:
    """Enrol a device as node NAME: give it a secret on a broker of this site, and tell it over its serial line.

    Without --port the enrolment code is printed: it goes into the set-up page of the device (join the Wi-Fi paceline-XXXX).

    \b
    Example:
      paceline firmware provision band-7 --port /dev/ttyUSB0 --ssid Hall --wifi-password SECRET
      paceline firmware provision band-7 --host 192.168.1.20
    """
    from broker.errors import LinkError
    from paceline.device.console import ask, open_line
    from paceline.site import running_site

    if port is not None and wants_request:
        code = enrolment_code(running_site(read_settings(config_file, data).settings), broker, name, host)
        answer = ask(open_line(port), {"do": "request", "code": code})
        if not answer.get("ok"):
            raise LinkError(f"the device refuses: {answer.get('wrong')}", cure="is NAME the one it was set up with?")
        click.echo(answer["pem"], nl=False)
        return
    site = running_site(read_settings(config_file, data).settings)
    code = enrolment_code(site, broker, name, host)
    if port is None:
        if as_json:
            print_json({"code": code})
        else:
            click.echo(code)
        return
    told = {"do": "set", "code": code, "wifi_ssid": ssid, "wifi_password": wifi_password, "athlete": athlete, "update_url": updates}
    answer = ask(open_line(port), told)
    if not answer.get("ok"):
        wrong = "; ".join(f"{field or 'set-up'}: {why}" for field, why in dict(answer.get("wrong", {})).items())
        raise LinkError(f"{port}: {wrong}", cure="mend that and run the command again: nothing was kept")
    if as_json:
        print_json({"node": name, "port": port})
    else:
        click.echo(f"{name} is set up: it starts again and sends")


def enrolment_code(site: Site, broker: str, name: str, host: str = "") -> str:
    """The line that enrols a node of this site: broker, identity and password, or a code for a certificate.

    ConfigError when the broker is not ours.
    """
    from broker.errors import ConfigError
    from broker.topics import check_node
    from paceline.site import add_nodes

    user = f"{site.settings.tenant}/{check_node(name)}"
    if broker == "central" and site.settings.central.by_certificate:
        from paceline.site_identity import new_code, open_authority

        with open_authority(site) as authority:
            return new_code(site, authority, user).text
    where = site.settings.near if broker == "near" else site.settings.central
    if where.kind != "embedded":
        raise ConfigError(f"the {broker} broker is not ours", cure="write the code by hand: mqtts://HOST:8883/TENANT/NODE#PASSWORD")
    secret = add_nodes(site, broker, [user])[user]
    return f"mqtt://{host or where.host}:{where.port}/{user}#{secret}"


@click.command()
@settings_options
@json_option
@click.argument("what", metavar="EXAMPLE|FOLDER")
@click.option("--sim", is_flag=True, required=True, help="On a simulated board; a real one runs by itself once it is flashed.")
@click.option("--name", default="", help="Node id (default: the example's name).")
@click.option("--athlete", default="", help="Athlete it counts for (default: its node id).")
@click.option("--seconds", type=click.IntRange(min=0), default=30, show_default=True, help="How long (0: until Ctrl-C).")
@click.option(
    "--interpreter",
    type=click.Choice(["auto", "micropython", "cpython"]),
    default="auto",
    show_default=True,
    help="auto: MicroPython's unix port if it is here, else CPython; micropython: fetched from a Debian mirror if it must be.",
)
@click.option("--quiet", is_flag=True, help="Do not show what the device says.")
@click.pass_context
def run(
    ctx: click.Context,
    *,
    config_file: Path | None,
    data: Path | None,
    as_json: bool,
    what: str,
    sim: bool,
    name: str,
    athlete: str,
    seconds: int,
    interpreter: Interpreter,
    quiet: bool,
) -> None:
    """Run an example or a folder of your own on a simulated board: a tile of the running site moves. Exit 1 if frames are lost.

    \b
    Example:
      paceline run --data data &
      paceline firmware run strap_bridge --sim --data data
    """
    from paceline.device.project import open_project
    from paceline.device.simulated import lay_out, run_board
    from paceline.site import running_site

    del sim
    site = running_site(read_settings(config_file, data).settings)
    project = open_project(what, "sim")
    node = (name or project.example.name).replace("_", "-")
    near = site.settings.near
    document: dict[str, Any] = {
        "wifi_ssid": "sim",
        "host": near.host,
        "port": near.port,
        "tls": False,
        "tenant": site.settings.tenant,
        "node": node,
        "password": enrolment_code(site, "near", node).partition("#")[2],
        "athlete": athlete or node,
    }
    with tempfile.TemporaryDirectory(prefix="paceline-board-") as folder:
        lay_out(project, Path(folder), document)
        told = run_board(project, Path(folder), seconds, interpreter, echo=not quiet)
    if as_json:
        print_json({"node": node, "athlete": document["athlete"], **told})
    else:
        click.echo(f"{told['taken']} frames, {told['stored']} stored, {told['refused']} refused, {told['owed']} owed")
    ctx.exit(1 if told["lost"] or told["refused"] or told["owed"] else 0)
