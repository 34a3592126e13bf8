"""`paceline node` and certificates: enrol a node, revoke it, list all, serve the enrolment, change the authority's root."""

from __future__ import annotations

import time
from pathlib import Path
from typing import TYPE_CHECKING

import click

from broker.errors import ConfigError
from paceline.options import json_option, print_json, read_settings, settings_options

if TYPE_CHECKING:
    from paceline.site import Site


def add_by_certificate(site: Site, user: str, *, as_json: bool) -> None:
    """Add a node that will be known by its certificate, and print its enrolment code."""
    from broker.mosquitto import is_loopback
    from paceline.site_identity import new_code, open_authority

    settings = site.settings
    if not settings.identity.names and not is_loopback(settings.central.host):
        raise ConfigError(
            f"identity.names is empty, and the broker listens on {settings.central.host}: nodes would be told localhost",
            cure="set identity.names to the name by which nodes reach this platform, and start `paceline run` again",
        )
    with open_authority(site) as authority:
        code = new_code(site, authority, user)
        hours = authority.rules.code_hours
    if as_json:
        print_json({"code": code.text, "user": user, "hours": hours})
    else:
        click.echo(code.text)
        click.echo(
            f"{user}: works once, within {hours:g} hours, on the set-up page of a box or device, or with paceline node enrol", err=True
        )


@click.command()
@click.argument("code")
@click.option("--folder", type=click.Path(path_type=Path, file_okay=False), help="Only keep the identity in this folder.")
@settings_options
def enrol(*, code: str, folder: Path | None, config_file: Path | None, data: Path | None) -> None:
    """Enrol this machine as a node by CODE: make its key here, have it certified, and keep both.

    Without --folder this is the set-up of a box without its page: what its gateway needs is in DATA then. With it, node.pem (key and
    certificate) and roots.pem are for any other client.

    \b
    Example:
      paceline node enrol 'https://platform.example:8443/gym/box1#CODE' --data /var/lib/paceline
      paceline node enrol 'https://platform.example:8443/gym/watch-7#CODE' --folder watch-7
    """
    from broker.enrolment import read_enrolment_code
    from gateway.enrolment import enrol as ask
    from gateway.setup_credential import IDENTITY_FOLDER, credential_of_identity, load_credential, save_credential

    line = read_enrolment_code(code)
    if folder is not None:
        identity = ask(line, folder)
    else:
        place = read_settings(config_file, data).settings.data
        known = load_credential(place)
        if known is not None and known.username != line.username:
            raise ConfigError(f"{place}: this box is {known.username}", cure="give another folder with --data, or a code of that name")
        identity = ask(line, place / IDENTITY_FOLDER)
        save_credential(place, credential_of_identity(identity))
    until = time.strftime("%Y-%m-%d", time.gmtime(identity.place.not_after_s))
    click.echo(f"{identity.username} is enrolled until {until}; its broker is {identity.place.host}:{identity.place.port}")
    click.echo(f"key and certificate: {identity.files.node_file}")


@click.command()
@click.argument("name")
@settings_options
def revoke(*, name: str, config_file: Path | None, data: Path | None) -> None:
    """End node NAME: its certificates count no more, its session at the broker is ended, and it cannot come back.

    \b
    Example:
      paceline node revoke box1 --data data
    """
    from paceline.ca_revocation import revoke_everywhere
    from paceline.site_identity import broker_place, open_authority

    site = _site(config_file, data)
    user = full_name(site, name)
    with open_authority(site) as authority:
        took_s = revoke_everywhere(authority, user, broker_place(site))
    click.echo(f"{user} is revoked; the broker ended its session after {took_s:.1f} s")


@click.command("list")
@settings_options
@json_option
def list_nodes(*, config_file: Path | None, data: Path | None, as_json: bool) -> None:
    """List the nodes that were added: which have a certificate, until when, and which are behind a change of roots.

    \b
    Example:
      paceline node list --data data
    """
    from paceline.site_identity import open_authority, standings

    with open_authority(_site(config_file, data)) as authority:
        rows = standings(authority)
    if as_json:
        print_json([{"name": row.name, "state": row.state, "until_s": row.until_s} for row in rows])
        return
    for row in rows:
        until = time.strftime("%Y-%m-%d %H:%M UTC", time.gmtime(row.until_s)) if row.until_s else ""
        click.echo(f"{row.name:<40} {row.state:<32} {until}".rstrip())


@click.command()
@settings_options
def serve(config_file: Path | None, data: Path | None) -> None:
    """Serve the enrolment: certificates for codes and renewals over HTTPS. `paceline run` starts it where nodes go by certificates.

    \b
    Example:
      paceline node serve --data data
    """
    from paceline.site import open_site
    from paceline.site_identity import run_enrolment
    from paceline.supervise import die_with_parent
    from paceline.watched import run_watched

    die_with_parent()
    site = open_site(read_settings(config_file, data, role="enrol").settings)
    run_watched("enrol", site.settings, lambda watch: run_enrolment(site, watch))


@click.group()
def authority() -> None:
    """Look after the certificate authority: its roots.

    \b
    Example:
      paceline node authority show --data data
    """


@authority.command()
@settings_options
def show(config_file: Path | None, data: Path | None) -> None:
    """Print the roots and their states.

    \b
    Example:
      paceline node authority show --data data
    """
    from paceline.site_identity import open_authority

    with open_authority(_site(config_file, data)) as opened:
        for root in opened.book.roots():
            made = time.strftime("%Y-%m-%d", time.gmtime(root.made_s))
            click.echo(f"root {root.number}  {root.state:<8}  made {made}  {root.fingerprint}")


@authority.command()
@settings_options
def rotate(config_file: Path | None, data: Path | None) -> None:
    """Make another root. Both are trusted; nodes move to it by themselves when they next ask (every few hours).

    \b
    Example:
      paceline node authority rotate --data data
    """
    from paceline.site_identity import open_authority

    with open_authority(_site(config_file, data)) as opened:
        root = opened.rotate()
        behind = len(opened.behind())
    click.echo(f"root {root.number} signs now; {behind} nodes are to move; when `paceline node list` shows none behind: authority retire")


@authority.command()
@settings_options
@click.option("--force", is_flag=True, help="Although some nodes are behind: they renew when they come back.")
def retire(*, config_file: Path | None, data: Path | None, force: bool) -> None:
    """Trust only the newest root.

    \b
    Example:
      paceline node authority retire --data data
    """
    from paceline.site_identity import open_authority

    with open_authority(_site(config_file, data)) as opened:
        opened.retire(force=force)
    click.echo("only the newest root is trusted")


def full_name(site: Site, name: str) -> str:
    """`tenant/node` of what was typed: a node of this site's tenant when there is no tenant in it."""
    return name if "/" in name else f"{site.settings.tenant}/{name}"


def _site(config_file: Path | None, data: Path | None) -> Site:
    from paceline.site import running_site

    return running_site(read_settings(config_file, data).settings)
