"""`paceline influx`: set up InfluxDB, check it, and keep it up to date."""

from __future__ import annotations

from collections.abc import Generator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from broker.errors import ConfigError
from paceline.options import json_option, print_json, program_name, read_settings, settings_options

if TYPE_CHECKING:
    from processors.influx_outbox import Outbox


@click.group()
def influx() -> None:
    """Write live samples, efforts, totals, health and counters to InfluxDB for dashboards. Ranking never needs it.

    \b
    Example:
      export PACELINE_INFLUX__URL=http://localhost:8086
      PACELINE_INFLUX__TOKEN=all-access-token paceline influx setup
      paceline run
      paceline influx status
    """


@influx.command()
@settings_options
def sink(config_file: Path | None, data: Path | None) -> None:
    """Follow the platform in DATA and write to InfluxDB until stopped. `paceline run` does so when influx.url is set.

    \b
    Example:
      PACELINE_INFLUX__URL=http://influx:8086 paceline influx sink --data data
    """
    from paceline.parts import run_influx
    from paceline.supervise import die_with_parent
    from paceline.watched import run_watched

    die_with_parent()
    settings = read_settings(config_file, data, role="influx").settings
    run_watched("influx", settings, lambda watch: run_influx(settings, watch))


@influx.command()
@settings_options
@json_option
@click.option("--keep-token", is_flag=True, help="Let the sink use influx.token itself; do not make one for the five buckets.")
@click.option(
    "--admin-token-file", type=click.Path(path_type=Path, dir_okay=False, exists=True), help="File with the administrator's token."
)
@click.option(
    "--reader-token-file", type=click.Path(path_type=Path, dir_okay=False), help="Leave a token that may only read there, for dashboards."
)
def setup(
    *,
    config_file: Path | None,
    data: Path | None,
    as_json: bool,
    keep_token: bool,
    admin_token_file: Path | None,
    reader_token_file: Path | None,
) -> None:
    """Make the five buckets with their retention, and a token for the sink that may use them and nothing else. Needs InfluxDB 2.x.

    Run it as often as you like. The token it makes is left in DATA/secrets; influx.token is that of an administrator, for this call only.
    A reader's token is left in its file once, readable by all: who may mount the folder is who may read.

    \b
    Example:
      PACELINE_INFLUX__URL=http://influx:8086 PACELINE_INFLUX__TOKEN=all-access-token paceline influx setup --data data
    """
    from paceline.parts import influx_settings
    from paceline.shared_secrets import keep
    from paceline.site import Site
    from processors.influx_admin import InfluxAdmin

    given = None if admin_token_file is None else {"influx.token": _token_in(admin_token_file)}
    settings = read_settings(config_file, data, given).settings
    admin = InfluxAdmin(influx_settings(settings))
    done = admin.make_buckets()
    token = "influx.token is used as it is"  # noqa: S105 - a sentence
    if not keep_token:
        if not Site(settings).influx_token:
            Site(settings).keep_influx_token(admin.make_token())
        token = f"the sink's token is in {Site(settings).secrets / 'secrets.json'}"
    if reader_token_file is not None and not reader_token_file.exists():
        keep(reader_token_file, admin.make_token(reads_only=True))
    if as_json:
        print_json({"buckets": [{"bucket": d.bucket, "what": d.what} for d in done], "token": token})
        return
    for one in done:
        click.echo(f"{one.bucket:<24} {one.what}")
    click.echo(token)


@influx.command()
@settings_options
@json_option
def check(*, config_file: Path | None, data: Path | None, as_json: bool) -> int:
    """Try to write to each bucket (a comment, no point) and say what stands in the way, with its cure. Exit code 1 when something does.

    \b
    Example:
      paceline influx check --data data
    """
    from paceline.parts import influx_settings
    from processors.influx_admin import InfluxAdmin
    from processors.influx_packing import pack
    from processors.influx_schema import BUCKETS
    from processors.influx_wire import Meaning, WriteLink

    settings = influx_settings(read_settings(config_file, data).settings)
    link, rows = WriteLink(settings), list[dict[str, str]]()
    try:
        version = InfluxAdmin(settings).version()
        for bucket in BUCKETS:
            verdict = link.write(bucket, "ns", pack(b"# paceline influx check\n"))
            good = verdict.meaning == Meaning.DONE
            rows.append({"bucket": settings.named(bucket), "error": "" if good else verdict.said, "cure": verdict.cure})
    finally:
        link.close()
    if as_json:
        print_json({"url": settings.url, "version": version, "buckets": rows})
    else:
        click.echo(f"InfluxDB {version} at {settings.url}, org {settings.org}")
        for row in rows:
            click.echo(f"{row['bucket']:<24} {row['error'] or 'can be written'}")
            if row["error"]:
                click.echo(f"  cure: {row['cure'] or 'try again in a moment'}")
    return 1 if any(row["error"] for row in rows) else 0


@influx.command()
@settings_options
@json_option
def status(*, config_file: Path | None, data: Path | None, as_json: bool) -> int:
    """What the sink wrote, what waits, what was refused, and what is wrong now. Exit code 1 when something is. Needs no InfluxDB.

    \b
    Example:
      paceline influx status --data data
    """
    from paceline.site import Site
    from processors.influx_sink import SinkFiles, read_status

    files = SinkFiles(Site(read_settings(config_file, data).settings).platform_dir)
    found = read_status(files)
    if found is None:
        raise ConfigError(
            f"{files.status}: no sink ever ran here",
            cure=f"set influx.url and start `{program_name()} run`, or give its data folder with --data",
        )
    if as_json:
        print_json(found)
    else:
        _print_status(found)
    return 1 if any(lane["error"] for lane in found["lanes"].values()) or "full" in found["series"].values() else 0


def _print_status(found: dict[str, Any]) -> None:
    counters = found["counters"]
    for name in (
        "made",
        "sent",
        "waiting_lines",
        "refused",
        "sent_again",
        "refused_series",
        "expired",
        "dropped_full",
        "lost_blocks",
        "late",
    ):
        click.echo(f"{name:<16} {counters.get(name, 0):>12}")
    for bucket, lane in found["lanes"].items():
        series = counters.get(f"series_{bucket}", 0)
        click.echo(f"{bucket:<6} {series:>9} series ({found['series'][bucket]})  {lane['error'] or 'well'}")
        if lane["cure"]:
            click.echo(f"       cure: {lane['cure']}")


@influx.group()
def refused() -> None:
    """Lines that InfluxDB refused: what they are and why, and a second chance once what was in their way is gone.

    \b
    Example:
      paceline influx refused list --data data
      paceline influx refused send --all --data data
    """


@refused.command("list")
@settings_options
@json_option
@click.option("--limit", type=click.IntRange(1, 10_000), default=20, show_default=True, help="At most so many, oldest first.")
def list_(*, config_file: Path | None, data: Path | None, as_json: bool, limit: int) -> None:
    """Print lines that InfluxDB refused, each with its number and what the server said.

    \b
    Example:
      paceline influx refused list --data data --json
    """
    from processors.influx_refused import said_of

    with _outbox(config_file, data) as outbox:
        kept = outbox.dead(limit)
    if as_json:
        print_json(
            [
                {
                    "id": k.id, "at_us": k.letter.at_us, "bucket": k.letter.topic, "unit": said_of(k.letter)[0],
                    "said": said_of(k.letter)[1], "line": k.letter.raw.decode("utf-8", "replace"),
                }
                for k in kept
            ]
        )  # fmt: skip
        return
    for one in kept:
        click.echo(f"{one.id:>6}  {one.letter.topic:<6} {said_of(one.letter)[1]}\n  {one.letter.raw.decode('utf-8', 'replace').rstrip()}")


@refused.command()
@settings_options
@json_option
@click.argument("numbers", type=int, nargs=-1)
@click.option("--all", "every", is_flag=True, help="All that are kept.")
@click.option("--bucket", help="With --all: only of this bucket, such as seg.")
def send(*, config_file: Path | None, data: Path | None, as_json: bool, numbers: tuple[int, ...], every: bool, bucket: str | None) -> None:
    """Owe lines NUMBERS to InfluxDB once more: the sink sends them behind what waits. What is refused again is kept again.

    \b
    Example:
      paceline influx refused send 3 4 --data data
      paceline influx refused send --all --bucket seg --data data
    """
    from processors.influx_refused import numbered

    if bool(numbers) == every:
        raise click.UsageError("give numbers, or --all")
    if bucket and not every:
        raise click.UsageError("--bucket goes with --all")
    with _outbox(config_file, data) as outbox:
        kept = outbox.dead(1_000_000)
        wanted = [k for k in kept if bucket in (None, k.letter.topic)] if every else numbered(kept, numbers)
        owed = outbox.owe_again(wanted)
    left = (len(wanted) if every else len(set(numbers))) - owed
    if as_json:
        print_json({"owed": owed, "left": left})
        return
    click.echo(
        f"{owed} lines are owed again" + (f"; {left} are not kept, were cut, or are of an athlete who is being erased" if left else "")
    )


@contextmanager
def _outbox(config_file: Path | None, data: Path | None) -> Generator[Outbox]:
    from broker.influx import InfluxSettings
    from paceline.site import Site
    from processors.influx_sink import SinkFiles, open_outbox

    files = SinkFiles(Site(read_settings(config_file, data).settings).platform_dir)
    if not files.outbox.exists():
        raise ConfigError(f"{files.outbox}: no sink ever ran here", cure="give the data folder of a sink with --data")
    outbox = open_outbox(InfluxSettings(), files)
    try:
        yield outbox
    finally:
        outbox.close()


@influx.command("schema")
@json_option
def schema(*, as_json: bool) -> None:
    """Print buckets, measurements, tags and fields. Needs no InfluxDB.

    \b
    Example:
      paceline influx schema --json
    """
    from processors.influx_schema import BUCKETS

    if as_json:
        print_json(
            [
                {
                    "bucket": b.name, "keep_s": b.keep_s, "series": b.series, "about": b.about,
                    "measurements": [
                        {"name": m.name, "tags": list(m.tags), "fields": {f.name: f.kind for f in m.fields}} for m in b.measurements
                    ],
                }
                for b in BUCKETS.values()
            ]
        )  # fmt: skip
        return
    for bucket in BUCKETS.values():
        click.echo(f"{bucket.name:<5} {bucket.keep_s // 3600:>6} h  {bucket.series:>7} series  {bucket.about}")
        for m in bucket.measurements:
            fields = ", ".join(f"{f.name} ({f.kind})" for f in m.fields)
            click.echo(f"  {m.name}: tags {', '.join(m.tags)}; {fields}")


def _token_in(path: Path) -> str:
    try:
        return path.read_text("utf-8").strip()
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(f"--admin-token-file {path}: {error}", cure="give a readable file with nothing but the token") from error
