"""`paceline dlq`: the rows that were refused, why, and a second chance after a fix; of this machine, or of a cluster where Kafka is set."""

from __future__ import annotations

import time
from collections.abc import Callable, Generator
from contextlib import contextmanager
from dataclasses import asdict
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import click

from broker.errors import BadInputError, ConfigError
from paceline.options import json_option, print_json, read_settings, settings_options

if TYPE_CHECKING:
    from paceline.config import Settings
    from processors.accept import DeadLetter
    from processors.dead_index import Wanted
    from processors.log import SqliteLog

Command = Callable[..., None]
_MOST_DIGITS: Final = 18  # of the number of a letter: any of them is one that SQLite knows


def filters(command: Command) -> Command:
    """The options that say which letters."""
    for option in (
        click.option("--until", type=click.DateTime(), help="Only of those that arrived before this time (UTC)."),
        click.option("--since", type=click.DateTime(), help="Only of those that arrived at this time (UTC) or later."),
        click.option("--node", help="Only of this node."),
        click.option("--tenant", help="Only of this tenant."),
        click.option("--reason", help="Only of this reason, such as bad_frame."),
    ):
        command = option(command)
    return command


@click.group()
def dlq() -> None:
    """List, show and replay dead letters: those of DATA, or of the cluster when kafka.bootstrap is set.

    \b
    Example:
      paceline dlq list --data data
      PACELINE_KAFKA__BOOTSTRAP=kafka:9092 paceline dlq list --since 2026-11-30
    """


@dlq.command("list")
@settings_options
@json_option
@filters
@click.option("--limit", type=click.IntRange(1, 10_000), default=100, show_default=True, help="At most so many.")
def list_(*, config_file: Path | None, data: Path | None, as_json: bool, limit: int, **which: Any) -> None:
    """Print the dead letters that are kept, oldest first.

    \b
    Example:
      paceline dlq list --reason bad_frame --json
      paceline dlq list --tenant gym --node box --since 2026-11-30T18:00:00
    """
    settings, wanted = read_settings(config_file, data).settings, _wanted(which)
    found, counts, dropped = _found(settings, wanted, limit, with_bytes=as_json)
    if as_json:
        print_json({"counts": counts, "dropped": dropped, "letters": found})
        return
    for letter in found:
        row = "" if letter["n"] is None else f" row {letter['n']}"
        click.echo(f"{letter['id']:>8}  {letter['reason']:<14} {letter['tenant']}/{letter['node']}{row}  {letter['detail']}")
    click.echo(f"{sum(counts.values())} refused in all" + "".join(f", {n} {name}" for name, n in counts.items()))


@dlq.command()
@settings_options
@json_option
@click.argument("number")
def show(*, config_file: Path | None, data: Path | None, as_json: bool, number: str) -> None:
    """Print dead letter NUMBER: why it was refused, what its bytes hold, and the bytes in hex.

    \b
    Example:
      paceline dlq show 17
      PACELINE_KAFKA__BOOTSTRAP=kafka:9092 paceline dlq show 3-1723
    """
    from processors.dead_letters import content_of, meaning_of

    settings = read_settings(config_file, data).settings
    if settings.kafka.bootstrap:
        from processors.kafka_dead_letters import KafkaDeadLetters, place_of

        letter, more = KafkaDeadLetters(settings.kafka).letter(place_of(number)), {}
    else:
        from processors.dead_letters import show as show_dead

        with _log(settings) as log:
            stored = show_dead(log, _id_of(number))
        letter, more = stored.letter, {"sent": stored.sent, "replayed_us": stored.replayed_us}
    found = {**_as_dict(number, letter), **more, "means": meaning_of(letter.reason), "holds": content_of(letter.raw)}
    if as_json:
        print_json(found)
        return
    for key, value in found.items():
        click.echo(f"{key:<12} {value}")


@dlq.command()
@settings_options
@json_option
@filters
@click.argument("numbers", nargs=-1)
@click.option("--all", "every", is_flag=True, help="All that are kept, or those of the options.")
def replay(*, config_file: Path | None, data: Path | None, as_json: bool, numbers: tuple[str, ...], every: bool, **which: Any) -> None:
    """Check dead letters NUMBERS again and append what is accepted now; doing it twice appends nothing twice.

    \b
    Example:
      paceline dlq replay 17 18
      paceline dlq replay --all --reason future_time
      PACELINE_KAFKA__BOOTSTRAP=kafka:9092 paceline dlq replay --all --tenant gym --node box
    """
    if bool(numbers) == every or (numbers and any(which.values())):
        raise click.UsageError("give numbers, or --all with the options that say which")
    settings = read_settings(config_file, data).settings
    records, done, still = (_replay_cluster if settings.kafka.bootstrap else _replay_local)(settings, numbers, _wanted(which))
    if as_json:
        print_json({"records": records, "done": done, "still_refused": still})
        return
    click.echo(f"{len(done)} replayed ({records} records)")
    for number, why in still.items():
        click.echo(f"{number}: still {why}")


def _found(settings: Settings, wanted: Wanted, limit: int, *, with_bytes: bool) -> tuple[list[dict[str, Any]], dict[str, int], int]:
    """Letters, counts by reason, how many were dropped for want of room."""
    if not settings.kafka.bootstrap:
        from processors.dead_letters import dead_counts, dead_letters

        with _log(settings) as log:
            found = dead_letters(log, limit=limit, **asdict(wanted))
            counts = dead_counts(log)
        return [_as_dict(s.id, s.letter) | {"replayed_us": s.replayed_us} for s in found], counts.by_reason, counts.dropped
    from processors.kafka_dead_letters import KafkaDeadLetters

    cluster = KafkaDeadLetters(settings.kafka)
    with cluster.index() as index:
        rows, by_reason = index.select(wanted, limit), index.counts(wanted)
    if not with_bytes:
        return [
            {"id": str(r.place), "reason": r.reason, "tenant": r.tenant, "node": r.node, "n": r.n, "detail": r.detail} for r in rows
        ], by_reason, 0  # fmt: skip
    sent = {row.place: row.sent for row in rows}
    read = {place: _as_dict(str(place), letter) | {"sent": sent[place]} for place, _, letter in cluster.letters(sorted(sent), some=True)}
    return [read[row.place] for row in rows if row.place in read], by_reason, 0


def _replay_local(settings: Settings, numbers: tuple[str, ...], wanted: Wanted) -> tuple[int, list[Any], dict[Any, str]]:
    from processors.dead_letters import dead_letters
    from processors.dead_letters import replay as replay_dead

    with _log(settings) as log:
        ids = [_id_of(number) for number in numbers]
        if not ids:
            ids = [stored.id for stored in dead_letters(log, limit=1_000_000, **asdict(wanted))]
        result = replay_dead(log, ids, time.time_ns() // 1000)
    return result.records, list(result.done), dict(result.still_refused)


def _replay_cluster(settings: Settings, numbers: tuple[str, ...], wanted: Wanted) -> tuple[int, list[Any], dict[Any, str]]:
    from processors.kafka_dead_letters import KafkaDeadLetters, place_of
    from processors.kafka_log import KafkaLog

    cluster = KafkaDeadLetters(settings.kafka)
    records = 0
    done: list[Any] = []
    still: dict[Any, str] = {}
    given = sorted({place_of(number) for number in numbers})
    with cluster.index() as index, KafkaLog(settings.kafka) as log:
        places = given or index.places(wanted)
        for place, appended, why in cluster.replay(index, places, log, time.time_ns() // 1000, some=not given):
            records += appended
            if why:
                still[str(place)] = why
            else:
                done.append(str(place))
    return records, done, still


@contextmanager
def _log(settings: Settings) -> Generator[SqliteLog]:
    from paceline.site import Site
    from processors.log import SqliteLog

    path = Site(settings).log_db
    if not path.exists():
        raise ConfigError(f"{path}: there is no log", cure="give the data folder of `paceline run` with --data, or kafka.bootstrap")
    with SqliteLog.open(path) as log:
        yield log


def _wanted(which: dict[str, Any]) -> Wanted:
    from processors.dead_index import Wanted

    return Wanted(which["reason"], which["tenant"], which["node"], _us(which["since"]), _us(which["until"]))


def _us(at: datetime | None) -> int | None:
    return None if at is None else round(at.replace(tzinfo=UTC).timestamp()) * 1_000_000


def _id_of(number: str) -> int:
    if not number.isascii() or not number.isdigit() or len(number) > _MOST_DIGITS:
        raise BadInputError(f"{number!r} is no dead letter of one machine", cure="give a number of `paceline dlq list`")
    return int(number)


def _as_dict(number: int | str, letter: DeadLetter) -> dict[str, Any]:
    return {
        "id": number,
        "at_us": letter.at_us,
        "reason": letter.reason,
        "detail": letter.detail,
        "tenant": letter.tenant,
        "node": letter.node,
        "topic": letter.topic,
        "epoch": None if letter.epoch is None else f"{letter.epoch:016x}",
        "n": letter.n,
        "raw": letter.raw.hex(),
    }
