"""`paceline token`: who may read and write the API, by tenant and role."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path

import click

from paceline.options import json_option, print_json, read_settings, settings_options


@click.group()
def token() -> None:
    """Add, list and revoke tokens of the API.

    \b
    Example:
      paceline token add gym --role screen --note "wall, hall 2"
    """


@token.command()
@settings_options
@json_option
@click.argument("tenant")
@click.option(
    "--role", required=True, type=click.Choice(["staff", "screen"]), help="staff reads and writes; screen reads what all may see."
)
@click.option("--note", default="", help="What it is for, shown by `list`.")
def add(*, config_file: Path | None, data: Path | None, as_json: bool, tenant: str, role: str, note: str) -> None:
    """Make a token for TENANT and print it: it cannot be shown again.

    \b
    Example:
      paceline token add gym --role staff
    """
    from processors.api.tokens import add_token

    path = _file(config_file, data)
    made = add_token(path, tenant, role, note)
    if as_json:
        print_json({"token": made, "tenant": tenant, "role": role, "file": str(path)})
    else:
        click.echo(made)


@token.command("list")
@settings_options
@json_option
def list_(*, config_file: Path | None, data: Path | None, as_json: bool) -> None:
    """Print the tokens there are, without what makes them work.

    \b
    Example:
      paceline token list --json
    """
    from processors.api.tokens import read_tokens

    found = sorted(read_tokens(_file(config_file, data)).values(), key=lambda t: t.made_us)
    if as_json:
        print_json([{"id": t.id, "tenant": t.tenant, "role": t.role, "note": t.note, "made_us": t.made_us} for t in found])
        return
    for t in found:
        made = datetime.fromtimestamp(t.made_us / 1e6, UTC).strftime("%Y-%m-%d %H:%M UTC")
        click.echo(f"{t.id}  {t.tenant:<20} {t.role:<7} {made}  {t.note}")


@token.command()
@settings_options
@click.argument("ident", metavar="ID")
def revoke(*, config_file: Path | None, data: Path | None, ident: str) -> None:
    """Refuse token ID from now on: a running API within a second, its open streams within seconds.

    \b
    Example:
      paceline token revoke 1f2e3d4c
    """
    from processors.api.tokens import revoke_token

    revoke_token(_file(config_file, data), ident)
    click.echo(f"{ident} revoked")


def _file(config_file: Path | None, data: Path | None) -> Path:
    from paceline.site import Site

    return Site(read_settings(config_file, data).settings).token_file
