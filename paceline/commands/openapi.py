"""`paceline openapi`: the API as an OpenAPI document."""

from __future__ import annotations

from pathlib import Path

import click


@click.command()
@click.option("--write", "path", type=click.Path(path_type=Path, dir_okay=False), help="Write it to FILE instead of printing it.")
def openapi(path: Path | None) -> None:
    """Print the OpenAPI document of the HTTP API.

    \b
    Example:
      paceline openapi --write docs/openapi.json
    """
    from processors.api.openapi import openapi_json

    if path is None:
        click.echo(openapi_json(), nl=False)
    else:
        path.write_text(openapi_json(), "utf-8")
