"""`paceline athletes`: who the athletes are, how screens may name them, and which device counts for whom."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import click

from paceline.options import json_option, print_json, read_settings, settings_options, tenant_here

if TYPE_CHECKING:
    from broker.reference import AthleteRef, BindingRef
    from paceline.reference_book import ReferenceBook

_TENANT_HELP = "Whose athletes (default: the tenant of the site)."
_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)


@click.group()
def athletes() -> None:
    """Athletes and bindings: import them from a TOML file, list them.

    Works beside a running platform and without one. See docs/athletes.md.

    \b
    Example:
      paceline athletes import class.toml --data data
      paceline athletes list --data data
    """


@athletes.command("import")
@settings_options
@json_option
@click.option("--tenant", help=_TENANT_HELP)
@click.argument("file", type=click.Path(path_type=Path))
def import_(*, config_file: Path | None, data: Path | None, as_json: bool, tenant: str | None, file: Path) -> None:
    """Take the athletes and bindings in FILE, all or none.

    What stands like that already is left as it is. An athlete given anew replaces the one of that id; of several bindings that cover an
    instant the one imported last wins.

    \b
    Example:
      paceline athletes import class.toml --data data
    """
    from paceline.athlete_file import read_athlete_file
    from paceline.reference_book import open_book

    site, tenant = tenant_here(read_settings(config_file, data).settings, tenant)
    with open_book(site, tenant) as book:
        found = read_athlete_file(file, tenant, [athlete.id for athlete in book.athletes])
        people, worn = _new(book, found.athletes, found.bindings)
        book.put_all([*people, *worn])
    counts = {
        "athletes": len(people),
        "bindings": len(worn),
        "known": len(found.athletes) + len(found.bindings) - len(people) - len(worn),
    }
    if as_json:
        print_json({**counts, "changed": [_athlete(a) for a in people], "bound": [_binding(b) for b in worn]})
        return
    for athlete in people:
        click.echo(f"athlete  {_athlete_line(athlete)}")
    for binding in worn:
        click.echo(f"binding  {_binding_line(binding)}")
    click.echo(f"{counts['athletes']} athletes and {counts['bindings']} bindings taken, {counts['known']} were there")


@athletes.command("list")
@settings_options
@json_option
@click.option("--tenant", help=_TENANT_HELP)
def list_(*, config_file: Path | None, data: Path | None, as_json: bool, tenant: str | None) -> None:
    """List athletes and bindings.

    \b
    Example:
      paceline athletes list --data data --json
    """
    from paceline.reference_book import open_book

    site, tenant = tenant_here(read_settings(config_file, data).settings, tenant)
    with open_book(site, tenant, make=False) as book:
        people, worn = book.athletes, book.bindings
    if as_json:
        print_json({"athletes": [_athlete(a) for a in people], "bindings": [_binding(b) for b in worn]})
        return
    for athlete in people:
        click.echo(_athlete_line(athlete))
    for binding in worn:
        click.echo(f"device   {_binding_line(binding)}")


def _new(
    book: ReferenceBook, people: tuple[AthleteRef, ...], worn: tuple[BindingRef, ...]
) -> tuple[list[AthleteRef], list[BindingRef]]:  # fmt: skip
    """What does not stand like that already; the bindings with their ids."""
    held = {athlete.id: athlete for athlete in book.athletes}
    stand = {_content(binding) for binding in book.bindings}
    return (
        [athlete for athlete in people if held.get(athlete.id) != athlete],
        [b.model_copy(update={"id": book.new_binding_id()}) for b in worn if _content(b) not in stand],
    )


def _content(b: BindingRef) -> tuple[object, ...]:
    return b.node, b.device, b.athlete, b.from_us, b.to_us


def _athlete(a: AthleteRef) -> dict[str, Any]:
    return a.model_dump(mode="json", exclude={"entity", "tenant", "removed"})


def _binding(b: BindingRef) -> dict[str, Any]:
    return {
        "id": b.id, "device": b.device, "node": b.node, "athlete": b.athlete, "from": _time(b.from_us), "to": _time(b.to_us),
    }  # fmt: skip


def _athlete_line(a: AthleteRef) -> str:
    shown = {"yes": "shown by name", "nickname": f"shown as {a.nickname}", "no": "not named on screens"}[a.show]
    about = ", ".join(str(part) for part in (a.sex, a.birth_year, f"max {a.hr_max_bpm} bpm") if part is not None)
    return f"{a.id:<20}  {a.name:<24}  {shown:<24}  {about}"


def _binding_line(b: BindingRef) -> str:
    device = f"{b.node}/{b.device}" if b.node else b.device
    span = " ".join(f"{word} {_time(t)}" for word, t in (("from", b.from_us), ("to", b.to_us)) if t is not None)
    return f"{device} counts for {b.athlete} {span or 'always'}"


def _time(t_us: int | None) -> str | None:
    return None if t_us is None else (_EPOCH + timedelta(microseconds=t_us)).isoformat().replace("+00:00", "Z")
