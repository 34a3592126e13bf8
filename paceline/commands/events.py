"""`paceline events`: what other domains are told, and the contract it follows."""

from __future__ import annotations

import json
import signal
import sqlite3
import threading
from collections.abc import Generator, Iterator
from contextlib import closing, contextmanager
from fnmatch import fnmatchcase
from pathlib import Path
from types import FrameType
from typing import TYPE_CHECKING, Final

import click

from broker.errors import ConfigError, StoreError
from paceline.options import json_option, print_json, read_settings, settings_options

if TYPE_CHECKING:
    from processors.results_db import OutboxRow

POLL_S: Final = 0.5
BATCH: Final = 500


@click.group()
def events() -> None:
    """Follow the events for other domains; print their schemas.

    \b
    Example:
      paceline events tail --data data --follow
    """


@events.command()
@click.argument("name", metavar="[TYPE]", required=False)
@click.option("--out", type=click.Path(path_type=Path, file_okay=False), help="Write TYPE/VERSION.json below this folder instead.")
def schema(name: str | None, out: Path | None) -> None:
    """Print the JSON Schema of an event TYPE; without TYPE, of all of them by name.

    \b
    Example:
      paceline events schema paceline.social.effort.recorded.v1
      paceline events schema --out schemas
    """
    from broker.events.catalogue import CATALOGUE, event_type
    from broker.events.schemas import schema_file, schema_of, schema_text

    kinds = [event_type(name, "events schema")] if name else list(CATALOGUE.values())
    if out is None:
        print_json(schema_of(kinds[0]) if name else {kind.name: schema_of(kind) for kind in kinds})
        return
    for kind in kinds:
        path = out / schema_file(kind)
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(schema_text(kind))
        except OSError as error:
            raise ConfigError(f"{path}: {error.strerror}", cure="give a folder that can be written with --out") from error
        click.echo(str(path))


@events.command()
@settings_options
@json_option
@click.option("--type", "pattern", default="*", metavar="GLOB", help="Only of these types, such as '*.social.*'.")
@click.option("--after", type=click.IntRange(min=0), default=0, show_default=True, help="Only behind this sequence number.")
@click.option("--follow", is_flag=True, help="Go on with what comes, until Ctrl-C.")
def tail(*, config_file: Path | None, data: Path | None, as_json: bool, pattern: str, after: int, follow: bool) -> None:
    """Print the events in the outbox of a platform, oldest first. With --json, one document a line: `seq` and the CloudEvent.

    \b
    Example:
      paceline events tail --data data --type '*.social.board.*'
      paceline events tail --data data --after 1200 --follow --json
    """
    from paceline.site import Site

    path = Site(read_settings(config_file, data).settings).state_db
    if not path.exists():
        raise ConfigError(f"{path}: there is no platform's state", cure="give the data folder of `paceline run` with --data")
    with _told_to_stop() as stop:
        for row in _rows(path, after, stop, follow=follow):
            if fnmatchcase(row.type, pattern):
                click.echo(_document(row) if as_json else _line(row))


@events.command()
@settings_options
def publish(config_file: Path | None, data: Path | None) -> None:
    """Publish the outbox of a platform to Kafka, from where it was left, until stopped. `paceline run` does so when kafka.bootstrap is set.

    \b
    Example:
      PACELINE_KAFKA__BOOTSTRAP=kafka:9092 paceline events publish --data data
    """
    from paceline.parts import run_publisher
    from paceline.supervise import die_with_parent
    from paceline.watched import run_watched

    die_with_parent()
    settings = read_settings(config_file, data, role="events").settings
    run_watched("events", settings, lambda watch: run_publisher(settings, watch))


@contextmanager
def _told_to_stop() -> Generator[threading.Event]:
    """Set by the first Ctrl-C; a second one interrupts, wherever the program stands. An interrupt alone can be lost in a clean-up."""
    stop = threading.Event()

    def told(number: int, _frame: FrameType | None) -> None:
        stop.set()
        signal.signal(number, before)

    before = signal.signal(signal.SIGINT, told)
    try:
        yield stop
    finally:
        signal.signal(signal.SIGINT, before)


def _rows(path: Path, after: int, stop: threading.Event, *, follow: bool) -> Iterator[OutboxRow]:
    """Rows behind `after`; with `follow` it looks for more twice a second, until it is told to stop."""
    from processors.results_db import events as rows_behind
    from processors.state_db import connect

    with closing(connect(path, write=False)) as db:
        while not stop.is_set():
            try:
                found = rows_behind(db, after, BATCH)
            except sqlite3.Error as error:
                raise StoreError(f"{path}: {error}", cure="check that it is the state of this version's platform") from error
            yield from found
            if found:
                after = found[-1].seq
            elif not follow:
                return
            else:
                stop.wait(POLL_S)


def _document(row: OutboxRow) -> str:
    return json.dumps({"seq": row.seq, "event": json.loads(row.body)}, ensure_ascii=False, separators=(",", ":"))


def _line(row: OutboxRow) -> str:
    event = json.loads(row.body)
    says = {name: value for name, value in event["data"].items() if not isinstance(value, (list, dict)) and value is not None}
    short = row.type.removeprefix("paceline.").removesuffix(".v1")
    return f"{row.seq:>7}  {event['time']}  {short:<24} {event['phase']:<11} " + " ".join(f"{k}={v}" for k, v in says.items())
