"""`paceline dlq`: the rows that were refused, why, and a second chance after a fix."""

from __future__ import annotations

import time
from collections.abc import Generator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from broker.errors import ConfigError
from paceline.options import json_option, print_json, read_settings, settings_options

if TYPE_CHECKING:
    from processors.dead_store import StoredDead
    from processors.log import SqliteLog


@click.group()
def dlq() -> None:
    """List, show and replay dead letters.

    \b
    Example:
      paceline dlq list --data data
    """


@dlq.command("list")
@settings_options
@json_option
@click.option("--reason", help="Only of this reason, such as bad_frame.")
@click.option("--tenant", help="Only of this tenant.")
@click.option("--limit", type=click.IntRange(1, 10_000), default=100, show_default=True, help="At most so many.")
def list_(*, config_file: Path | None, data: Path | None, as_json: bool, reason: str | None, tenant: str | None, limit: int) -> None:
    """Print the dead letters that are kept, oldest first.

    \b
    Example:
      paceline dlq list --reason bad_frame --json
    """
    from processors.dead_letters import dead_counts, dead_letters

    with _log(config_file, data) as log:
        found = dead_letters(log, reason=reason, tenant=tenant, limit=limit)
        counts = dead_counts(log)
    if as_json:
        print_json({"counts": counts.by_reason, "dropped": counts.dropped, "letters": [_as_dict(letter) for letter in found]})
        return
    for stored in found:
        letter = stored.letter
        row = "" if letter.n is None else f" row {letter.n}"
        click.echo(f"{stored.id:>6}  {letter.reason:<14} {letter.tenant}/{letter.node}{row}  {letter.detail}")
    click.echo(f"{counts.total} refused in all" + "".join(f", {n} {name}" for name, n in counts.by_reason.items()))


@dlq.command()
@settings_options
@json_option
@click.argument("number", type=int)
def show(*, config_file: Path | None, data: Path | None, as_json: bool, number: int) -> None:
    """Print dead letter NUMBER with its bytes in hex.

    \b
    Example:
      paceline dlq show 17
    """
    from processors.dead_letters import show as show_dead

    with _log(config_file, data) as log:
        found = _as_dict(show_dead(log, number))
    if as_json:
        print_json(found)
        return
    for key, value in found.items():
        click.echo(f"{key:<12} {value}")


@dlq.command()
@settings_options
@json_option
@click.argument("numbers", type=int, nargs=-1)
@click.option("--all", "every", is_flag=True, help="All that are kept.")
@click.option("--reason", help="With --all: only of this reason.")
def replay(
    *, config_file: Path | None, data: Path | None, as_json: bool, numbers: tuple[int, ...], every: bool, reason: str | None
) -> None:
    """Check dead letters NUMBERS again and append what is accepted now; doing it twice appends nothing twice.

    \b
    Example:
      paceline dlq replay 17 18
      paceline dlq replay --all --reason future_time
    """
    from processors.dead_letters import dead_letters
    from processors.dead_letters import replay as replay_dead

    if bool(numbers) == every:
        raise click.UsageError("give numbers, or --all")
    with _log(config_file, data) as log:
        ids = numbers or tuple(stored.id for stored in dead_letters(log, reason=reason, limit=1_000_000))
        result = replay_dead(log, ids, time.time_ns() // 1000)
    if as_json:
        print_json({"records": result.records, "done": result.done, "still_refused": result.still_refused})
        return
    click.echo(f"{len(result.done)} replayed ({result.records} records)")
    for number, why in result.still_refused.items():
        click.echo(f"{number}: still {why}")


@contextmanager
def _log(config_file: Path | None, data: Path | None) -> Generator[SqliteLog]:
    from paceline.site import Site
    from processors.log import SqliteLog

    path = Site(read_settings(config_file, data).settings).log_db
    if not path.exists():
        raise ConfigError(f"{path}: there is no log", cure="give the data folder of `paceline run` with --data")
    with SqliteLog.open(path) as log:
        yield log


def _as_dict(stored: StoredDead) -> dict[str, Any]:
    letter = stored.letter
    return {
        "id": stored.id,
        "at_us": letter.at_us,
        "reason": letter.reason,
        "detail": letter.detail,
        "tenant": letter.tenant,
        "node": letter.node,
        "topic": letter.topic,
        "epoch": None if letter.epoch is None else f"{letter.epoch:016x}",
        "n": letter.n,
        "replayed_us": stored.replayed_us,
        "raw": letter.raw.hex(),
    }
