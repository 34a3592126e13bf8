"""`paceline upload`: FIT, GPX and TCX files to the running site, for an athlete."""

from __future__ import annotations

import urllib.parse
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import click

from broker.errors import BadInputError, LinkError
from broker.ids import is_id
from paceline.options import json_option, print_json, read_settings, settings_options

if TYPE_CHECKING:
    from paceline.site import Site

_TIMEOUT_S: Final = 300.0  # a file of 64 MB takes minutes to read, and may wait for another one
_OURS: Final = frozenset({401, 403, 404, 405})  # not about the file: the next one would fare the same


@click.command()
@settings_options
@json_option
@click.option("--athlete", required=True, help="Whose activities they are (the athlete's id).")
@click.argument("files", nargs=-1, required=True, type=click.Path(path_type=Path))
@click.pass_context
def upload(
    ctx: click.Context, *, config_file: Path | None, data: Path | None, as_json: bool, athlete: str, files: tuple[Path, ...]
) -> None:
    """Upload FIT, GPX or TCX FILES of an athlete to the running site.

    A file that was there already counts once. A file that is refused does not keep the others back; the exit code is 1 then.

    \b
    Example:
      paceline upload ride.fit run.gpx --athlete ann --data data
    """
    from paceline.site import running_site

    if not is_id(athlete):
        raise click.UsageError(f"--athlete {athlete!r} is not an id: use 1-32 of a-z 0-9 . _ - starting with a letter or digit")
    site = running_site(read_settings(config_file, data).settings)
    outcomes: list[dict[str, Any]] = []
    for path in files:
        try:
            outcome = _post(site, athlete, path)
        except BadInputError as error:
            outcome = {"error": error.message, "cure": error.cure}
        outcomes.append({"file": str(path), **outcome})
        if not as_json:
            click.echo(_line(outcomes[-1]), err="error" in outcome)
    if as_json:
        print_json(outcomes)
    ctx.exit(1 if any("error" in outcome for outcome in outcomes) else 0)


def _post(site: Site, athlete: str, path: Path) -> dict[str, Any]:
    """What the site made of a file. BadInputError: this file is refused; LinkError: the site takes none."""
    from paceline.site_api import send

    query = urllib.parse.urlencode({"athlete": athlete, "name": path.name}, errors="replace")
    content = _content(path)
    try:
        return send(site, "POST", f"activities?{query}", content, kind="application/octet-stream", timeout_s=_TIMEOUT_S, ours=_OURS)
    except LinkError as error:
        raise LinkError(f"{path}: {error.message}", cure=error.cure) from error


def _content(path: Path) -> bytes:
    from device_profiles.files import MAX_FILE_BYTES

    cure = "give a FIT, GPX or TCX file this user can read"
    try:
        if not path.is_file():
            raise BadInputError(f"{path}: {'not a regular file' if path.exists() else 'no such file'}", cure=cure)
        if path.stat().st_size > MAX_FILE_BYTES:
            raise BadInputError(f"{path}: {path.stat().st_size} bytes, at most {MAX_FILE_BYTES}", cure="split the recording")
        return path.read_bytes()
    except OSError as error:
        raise BadInputError(f"{path}: {error.strerror}", cure=cure) from error


def _line(outcome: dict[str, Any]) -> str:
    if "error" in outcome:
        return f"refused  {outcome['error']}\n  cure: {outcome['cure']}"
    start = datetime.fromtimestamp(outcome["first_us"] // 1_000_000, UTC).strftime("%Y-%m-%d %H:%M UTC")
    minutes = (outcome["last_us"] - outcome["first_us"]) / 60e6
    what = " ".join(filter(None, (outcome["format"].upper(), outcome["sport"])))
    state = "known" if outcome["repeated"] else "taken"
    lines = [f"{state:<7}  {outcome['file']}  {what}  {start}  {minutes:.1f} min  {outcome['samples']} samples  {outcome['id']}"]
    skipped: dict[str, int] = outcome["skipped"]
    lines += [f"  skipped {count} {reason}" for reason, count in sorted(skipped.items())]
    if outcome["damage"]:
        lines.append(f"  damaged: {outcome['damage']}; what is whole was taken")
    return "\n".join(lines)
