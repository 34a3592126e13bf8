"""`paceline segments`: the stretches that efforts are timed on, from files and back out."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from broker.errors import BadInputError
from paceline.options import json_option, print_json, read_settings, settings_options, tenant_here

if TYPE_CHECKING:
    from broker.reference import SegmentRef

_TENANT_HELP = "Whose segments (default: the tenant of the site)."


@click.group()
def segments() -> None:
    """Segments: import them from files, list, show and remove them.

    Works beside a running platform and without one. See docs/segments.md.

    \b
    Example:
      paceline segments import climbs.gpx --sport ride --data data
      paceline segments list --data data
    """


@segments.command("import")
@settings_options
@json_option
@click.option("--tenant", help=_TENANT_HELP)
@click.option(
    "--sport", type=click.Choice(["any", "run", "ride"]), default="any", show_default=True, help="Which activities count on them."
)
@click.option("--precision", type=click.Choice(["5", "6"]), help="Decimals of encoded polylines (default: 5, or 6 where that fits).")
@click.argument("files", nargs=-1, required=True, type=click.Path(path_type=Path))
@click.pass_context
def import_(
    ctx: click.Context,
    *,
    config_file: Path | None,
    data: Path | None,
    as_json: bool,
    tenant: str | None,
    sport: str,
    precision: str | None,
    files: tuple[Path, ...],
) -> None:
    """Make a segment of each line in FILES: GPX, GeoJSON, FIT, TCX, or text with one encoded polyline a line.

    A line that was imported before makes no second segment. One that is refused does not keep the others back; the exit code is 1 then.

    \b
    Example:
      paceline segments import climbs.gpx --sport ride --data data
      paceline segments import lines.txt --precision 6 --json
    """
    from paceline.reference_book import open_book

    site, tenant = tenant_here(read_settings(config_file, data).settings, tenant)
    with open_book(site, tenant) as book:
        outcomes: list[dict[str, Any]] = []
        for path in files:
            found, refs = _given(path, tenant, book.segments, sport, precision)
            book.put_all(refs)
            outcomes += found
    if as_json:
        print_json(outcomes)
    else:
        for outcome in outcomes:
            click.echo(_line(outcome), err="error" in outcome)
    ctx.exit(1 if any("error" in outcome for outcome in outcomes) else 0)


@segments.command("list")
@settings_options
@json_option
@click.option("--tenant", help=_TENANT_HELP)
def list_(*, config_file: Path | None, data: Path | None, as_json: bool, tenant: str | None) -> None:
    """List all segments, by id.

    \b
    Example:
      paceline segments list --data data
    """
    from paceline.reference_book import open_book

    site, tenant = tenant_here(read_settings(config_file, data).settings, tenant)
    with open_book(site, tenant, make=False) as book:
        found = [_brief(ref) for ref in book.segments if not ref.removed]
    if as_json:
        print_json(found)
        return
    for one in found:
        click.echo(f"{one['id']:<32}  {one['length_m']:>9.1f} m  {one['sport']:<4}  {one['name']}")


@segments.command()
@settings_options
@json_option
@click.option("--tenant", help=_TENANT_HELP)
@click.argument("ident", metavar="ID")
def show(*, config_file: Path | None, data: Path | None, as_json: bool, tenant: str | None, ident: str) -> None:
    """Show one segment; with --json its line too, as [latitude, longitude].

    \b
    Example:
      paceline segments show col-de-test --data data
    """
    from paceline.reference_book import open_book

    site, tenant = tenant_here(read_settings(config_file, data).settings, tenant)
    with open_book(site, tenant, make=False) as book:
        ref = _one(book.segments, tenant, ident)
    about = _brief(ref)
    if as_json:
        print_json({**about, "line": [(lat / 1e7, lon / 1e7) for lat, lon in ref.points]})
        return
    for name in ("id", "name", "sport", "length_m", "points"):
        click.echo(f"{name:<9} {about[name]}")
    for name, (lat, lon) in (("start", ref.points[0]), ("end", ref.points[-1])):
        click.echo(f"{name:<9} {lat / 1e7:.7f}, {lon / 1e7:.7f}")


@segments.command()
@settings_options
@json_option
@click.option("--tenant", help=_TENANT_HELP)
@click.argument("ident", metavar="ID")
def remove(*, config_file: Path | None, data: Path | None, as_json: bool, tenant: str | None, ident: str) -> None:
    """Remove a segment and its board. Importing the same line again brings both back.

    \b
    Example:
      paceline segments remove col-de-test --data data
    """
    from paceline.reference_book import open_book

    site, tenant = tenant_here(read_settings(config_file, data).settings, tenant)
    with open_book(site, tenant, make=False) as book:
        ref = _one(book.segments, tenant, ident)
        book.put_all([ref.model_copy(update={"removed": True})])
    if as_json:
        print_json({"id": ident, "removed": True})
    else:
        click.echo(f"removed  {ident}  {ref.name}")


def _given(
    path: Path, tenant: str, held: list[SegmentRef], sport: str, precision: str | None
) -> tuple[list[dict[str, Any]], list[SegmentRef]]:
    """What became of each line of a file, and the segments to store."""
    from device_profiles.errors import FileError
    from device_profiles.files.routes import read_routes
    from processors.segment_import import segments_given

    try:
        routes = read_routes(path, precision=None if precision is None else int(precision))
    except FileError as error:
        return [{"file": str(path), "error": f"{path}: {error.detail}", "cure": error.cure}], []
    outcomes: list[dict[str, Any]] = []
    refs: list[SegmentRef] = []
    for given in segments_given(tenant, [(route.name, route.points) for route in routes], held, sport):
        if given.ref is None:
            assert given.refusal is not None
            said = {"name": given.name, "error": f"{path}: {given.refusal.message}", "cure": given.refusal.cure}
        else:
            said = {"state": "known" if given.known else "imported", **_brief(given.ref)}
            refs += [] if given.known else [given.ref]
        outcomes.append({"file": str(path), **said})
    return outcomes, refs


def _one(held: list[SegmentRef], tenant: str, ident: str) -> SegmentRef:
    """The segment that stands under an id. BadInputError when there is none."""
    ref = next((ref for ref in held if ref.id == ident and not ref.removed), None)
    if ref is None:
        raise BadInputError(f"{tenant} has no segment {ident!r}", cure="`paceline segments list` prints all ids")
    return ref


def _brief(ref: SegmentRef) -> dict[str, Any]:
    from processors.segments import Segment

    return {
        "id": ref.id, "name": ref.name, "sport": ref.sport, "length_m": round(Segment.of(ref).length_m, 1), "points": len(ref.points),
    }  # fmt: skip


def _line(outcome: dict[str, Any]) -> str:
    if "error" in outcome:
        return f"refused   {outcome['error']}\n  cure: {outcome['cure']}"
    return f"{outcome['state']:<8}  {outcome['id']}  {outcome['length_m']:.1f} m  {outcome['sport']}  {outcome['name']}"
