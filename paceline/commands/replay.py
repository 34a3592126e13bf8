"""`paceline replay`: make the state again from the log."""

from __future__ import annotations

from pathlib import Path

import click

from broker.errors import ConfigError
from paceline.options import json_option, print_json, read_settings, settings_options


@click.command()
@settings_options
@json_option
@click.option("--to", "target", type=click.Path(path_type=Path, dir_okay=False), required=True, help="State file to make (must not exist).")
@click.option("--batch", type=click.IntRange(1, 100_000), default=10_000, show_default=True, help="Records a batch.")
def replay(*, config_file: Path | None, data: Path | None, as_json: bool, target: Path, batch: int) -> None:
    """Run the stages over the whole log into a new state file, and print its fingerprints.

    Equal fingerprints mean equal tracks, activities and live boards, bit for bit; equal results mean equal efforts, finished activities
    and what the events come to.

    \b
    Example:
      paceline replay --data data --to again.db
    """
    from paceline.site import Site
    from processors.log import SqliteLog
    from processors.runner import replay as replay_log
    from processors.stores import fingerprint, results_fingerprint

    path = Site(read_settings(config_file, data).settings).log_db
    if not path.exists():
        raise ConfigError(f"{path}: there is no log", cure="give the data folder of `paceline run` with --data")
    if target.exists():
        raise ConfigError(f"--to {target}: exists already", cure="give a new file; a replay never writes over a state")
    with SqliteLog.open(path) as log:
        runner = replay_log(log, target, max_records=batch)
        runner.close()
        records = log.end()
    mark, results = fingerprint(target), results_fingerprint(target)
    if as_json:
        print_json({"records": records, "fingerprint": mark, "results": results})
    else:
        click.echo(f"{records} records replayed into {target}\nfingerprint {mark}\nresults     {results}")
