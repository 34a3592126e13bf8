"""`paceline gateway package`: the Debian package of a box."""

from __future__ import annotations

import os
from pathlib import Path

import click


def default_cache() -> Path:
    """Where fetched libraries are kept from one package to the next."""
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "paceline" / "wheels"


@click.command()
@click.option("--arch", type=click.Choice(["amd64", "arm64"]), required=True, help="Debian architecture of the box (arm64: Raspberry Pi).")
@click.option("--out", type=click.Path(path_type=Path, file_okay=False), default=Path(), help="Folder for the package (default: this one).")
@click.option(
    "--python", default="3.11", show_default=True, help="Python of the box: 3.11 in Debian 12, 3.12 in Ubuntu 24.04, 3.13 in Debian 13."
)
@click.option("--version", default="", help="Version of the package (default: that of this Paceline).")
@click.option("--cache", type=click.Path(path_type=Path, file_okay=False), help="Folder where fetched libraries are kept.")
def package(arch: str, out: Path, python: str, version: str, cache: Path | None) -> None:
    """Build the Debian package of a box: the light gateway, its libraries for ARCH, its service. Needs no root and no dpkg.

    The same Paceline and options give the same bytes (times: SOURCE_DATE_EPOCH). Libraries are fetched by pip and checked by their hashes.

    \b
    Example:
      paceline gateway package --arch arm64 --out dist
    """
    from broker.errors import StoreError
    from paceline.box_package import build

    built = build(arch, cache or default_cache(), python=python, version=version)
    try:
        out.mkdir(parents=True, exist_ok=True)
        (out / built.file).write_bytes(built.content)
    except OSError as error:
        raise StoreError(f"{out / built.file}: {error.strerror}", cure="give a folder you may write with --out") from error
    click.echo(f"{out / built.file}")
