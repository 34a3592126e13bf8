"""`paceline simulate fleet`: an open-loop load on a platform, a histogram for each part of the way, and a verdict by stated bars."""

from __future__ import annotations

import asyncio
import json
import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from broker.errors import ConfigError
from paceline.options import json_option, print_json, read_settings, settings_options

if TYPE_CHECKING:
    from paceline.config import Settings
    from paceline.load_watch import Watcher
    from simulators.load_plan import LoadPlan
    from simulators.load_report import Bars, LoadReport
    from simulators.load_run import LoadSettings

_DEFAULT_BAR_MS = 500.0


@click.command()
@settings_options
@json_option
@click.option("--athletes", type=click.IntRange(1, 10_000_000), default=100, show_default=True, help="How many, over all connections.")
@click.option("--connections", type=click.IntRange(1, 100_000), default=10, show_default=True, help="Nodes; one an athlete: wearables.")
@click.option("--frame-s", type=click.IntRange(1, 34), default=1, show_default=True, help="Seconds (and samples) of a frame. 1: live.")
@click.option("--bundle-ms", type=click.IntRange(10, 34_000), default=250, show_default=True, help="A node sends so often.")
@click.option("--seconds", type=click.FloatRange(min=1), default=30.0, show_default=True, help="How long.")
@click.option("--shape", default="steady", show_default=True, help="steady, ramp:S, burst:SHARE@START-STOP or day:S.")
@click.option("--processes", type=click.IntRange(1, 64), default=1, show_default=True, help="Of the load itself.")
@click.option("--warm-s", type=click.FloatRange(min=0), default=5.0, show_default=True, help="What is due before is not timed.")
@click.option("--drain-s", type=click.FloatRange(min=0), default=30.0, show_default=True, help="How long to wait for the last answers.")
@click.option("--connects-per-s", type=click.FloatRange(min=0.1), default=100.0, show_default=True, help="How fast all connect at first.")
@click.option("--storm-at", "storm_at_s", type=click.FloatRange(min=0), default=None, help="Cut all connections after so many seconds.")
@click.option("--storm-factor", type=click.FloatRange(min=0.1), default=10.0, show_default=True, help="So much faster they come back.")
@click.option("--watch", default="", metavar="PARTS", help="Also time log, live, state, board, event (Kafka), influx; with commas.")
@click.option("--bar", "bars", multiple=True, metavar="PART=MS", help="p99 a part has to hold [default: 500 for each that is watched].")
@click.option("--lost", type=click.IntRange(min=0), default=0, show_default=True, help="Frames that may be lost.")
@click.option("--recover-s", type=click.FloatRange(min=0), default=30.0, show_default=True, help="p99 holds again so soon after the storm.")
@click.option("--host", default="", help="A broker that is not of DATA; with --passwords or --identities.")
@click.option("--port", type=click.IntRange(1, 65_535), default=1883, show_default=True, help="Of --host.")
@click.option("--cafile", default="", help="Authority of the broker's certificate: connect by TLS.")
@click.option(
    "--identities", type=click.Path(path_type=Path, file_okay=False, exists=True), help="Certificates of the nodes; with --cafile."
)
@click.option("--passwords", type=click.Path(path_type=Path, dir_okay=False, exists=True), help="JSON: user name to password.")
@click.option("--draw-passwords", type=click.Path(path_type=Path, dir_okay=False), help="Write such a FILE, and FILE.hashed.")
@click.option("--tenant", default="", help="Whose nodes they are [default: that of the site, or `load`].")
@click.option("--name", default="load", show_default=True, help="First part of the names of nodes and athletes.")
@click.option("--seed", type=int, default=1, show_default=True, help="The same seed gives the same plan.")
@click.pass_context
def fleet(ctx: click.Context, **given: Any) -> None:
    """Load a platform as its athletes would, and say whether it held.

    Frames are sent when the plan says so, whatever is answered, and every latency counts from then: a platform that holds the load up is
    not spared. Exit code 1: a bar was not held (FAIL), or the load could not be made.

    \b
    Example:
      paceline simulate fleet --data data --athletes 200 --connections 20 --seconds 60
      paceline simulate fleet --host mqtt.example --port 8883 --cafile roots.pem --passwords load.json \\
        --athletes 100000 --connections 2000 --frame-s 30 --processes 4 --storm-at 60 --seconds 180
    """
    settings = read_settings(given["config_file"], given["data"]).settings
    if given["draw_passwords"] is not None:
        _draw(_plan(given, given["tenant"] or "load"), given["draw_passwords"])
        return
    parts = [part for part in given["watch"].split(",") if part]
    load, bars = _load(given, settings), _bars(given["bars"], parts, given["lost"], given["recover_s"])
    show = sys.stderr.isatty() and not given["as_json"]
    report = asyncio.run(_run(load, given["processes"], _watchers(parts, settings), show=show))
    told = report.to_json(bars)
    if given["as_json"]:
        print_json(told)
    else:
        click.echo(_text(told))
    ctx.exit(0 if told["verdict"] == "PASS" else 1)


async def _run(load: LoadSettings, processes: int, watchers: Sequence[Watcher], *, show: bool) -> LoadReport:
    from simulators.load import run_load

    def began(plan: LoadPlan) -> None:
        for watcher in watchers:
            watcher.begin(plan, plan.start_us + round(load.warm_s * 1e6))

    try:
        report = await run_load(load, processes, began, _progress(load.plan) if show else None)
        if watchers:
            from paceline.load_watch import settle

            report.watched = await asyncio.to_thread(settle, watchers, report.counts.stored, load.drain_s)
    finally:
        for watcher in watchers:
            watcher.stop()
    return report


def _watchers(parts: Sequence[str], settings: Settings) -> list[Watcher]:
    """Those that look at the parts; ConfigError when the settings name no Kafka or InfluxDB for them."""
    if not parts:
        return []
    from paceline.load_influx import InfluxWatch
    from paceline.load_watch import PARTS, KafkaWatch

    if strange := [part for part in parts if part not in PARTS]:
        raise click.UsageError(f"--watch {strange[0]!r}: use {', '.join(PARTS)}")
    made: list[Watcher] = []
    if "influx" in parts:
        made.append(InfluxWatch(settings.influx))
    if topics := [part for part in parts if part != "influx"]:
        if not settings.kafka.bootstrap:
            raise ConfigError(f"kafka.bootstrap is empty, and {topics[0]} is watched there", cure="give PACELINE_KAFKA__BOOTSTRAP")
        made.append(KafkaWatch(settings.kafka, topics))
    return made


def _progress(plan: LoadPlan) -> Callable[[Mapping[str, int]], None]:
    def tell(said: Mapping[str, int]) -> None:
        line = f"{said['made']} frames sent, {said['stored']} stored, {said['open']} open, {said['linked']}/{plan.connections} connected"
        click.echo(f"\r{line:<100}", err=True, nl=False)

    return tell


def _plan(given: Mapping[str, Any], tenant: str) -> LoadPlan:
    from simulators.load_plan import LoadPlan
    from simulators.swarm import wall_us

    names = ("athletes", "connections", "seconds", "frame_s", "bundle_ms", "shape", "name", "seed")
    return LoadPlan(tenant=tenant, run=wall_us(), **{name: given[name] for name in names})


def _load(given: Mapping[str, Any], settings: Settings) -> LoadSettings:
    """Where to, as whom, and how much."""
    from simulators.load_run import LoadSettings

    more = {name: given[name] for name in ("connects_per_s", "storm_at_s", "storm_factor", "warm_s", "drain_s", "cafile")}
    if given["host"]:
        plan, identities = _plan(given, given["tenant"] or "load"), given["identities"]
        if identities is not None:
            if not given["cafile"]:
                raise ConfigError("--identities needs --cafile", cure="give the roots of the authority that made them")
            return LoadSettings(plan, given["host"], given["port"], "", identities=str(identities), **more)
        if given["passwords"] is None:
            raise ConfigError(
                "--host needs --passwords or --identities",
                cure="`--draw-passwords FILE` makes such a file, and what the broker has to know",
            )
        return LoadSettings(plan, given["host"], given["port"], _passwords(given["passwords"]), **more)
    from paceline.site import add_nodes, running_site

    site = running_site(settings)
    plan = _plan(given, given["tenant"] or site.settings.tenant)
    central = site.settings.central
    if central.by_certificate:
        from paceline.load_identities import certified

        folder, roots = certified(site, plan.usernames())
        more["cafile"] = str(roots)
        return LoadSettings(plan, central.link_host, central.port, "", identities=str(folder), **more)
    return LoadSettings(plan, central.link_host, central.port, add_nodes(site, "central", plan.usernames()), **more)


def _passwords(path: Path) -> dict[str, str]:
    try:
        found: object = json.loads(path.read_text("utf-8"))
    except (OSError, ValueError) as error:
        raise ConfigError(f"{path}: {error}", cure="make it with --draw-passwords") from error
    if not isinstance(found, dict):
        raise ConfigError(f"{path}: not an object of user names and passwords", cure="make it with --draw-passwords")
    return {str(user): str(password) for user, password in found.items()}  # pyright: ignore[reportUnknownArgumentType, reportUnknownVariableType]


def _draw(plan: LoadPlan, path: Path) -> None:
    """Passwords for all nodes of a load, and their hashes as mosquitto and the embedded broker read them."""
    from broker.credentials import hash_secret, new_secret, write_passwords
    from broker.replace_file import replace_file

    made = {user: new_secret() for user in plan.usernames()}
    hashed = path.with_name(f"{path.name}.hashed")
    try:
        replace_file(path, json.dumps(made).encode())
        write_passwords(hashed, {user: hash_secret(secret) for user, secret in made.items()})
    except OSError as error:
        raise ConfigError(f"{path}: {error.strerror}", cure="give a file in a folder you may write with --draw-passwords") from error
    click.echo(f"{len(made)} passwords in {path}; add the lines of {hashed} to the broker's password file and send it SIGHUP")


def _bars(given: tuple[str, ...], parts: Sequence[str], lost: int, recover_s: float) -> Bars:
    from simulators.load_report import ACK, Bars

    p99_ms: dict[str, float] = dict.fromkeys((ACK, *parts), _DEFAULT_BAR_MS)
    for text in given:
        part, _, ms = text.partition("=")
        if part not in p99_ms:
            raise click.UsageError(f"--bar {text!r}: no part {part!r} is watched; use one of {', '.join(p99_ms)}")
        try:
            p99_ms[part] = float(ms)
        except ValueError:
            raise click.UsageError(f"--bar {text!r}: give PART=MS, such as {part}=500") from None
    return Bars(p99_ms, lost, recover_s=recover_s)


def _text(told: Mapping[str, Any]) -> str:
    """For people."""
    counts = told["counts"]
    lines = [
        (
            f"{told['athletes']} athletes, {told['connections']} connections, frames of {told['frame_s']} s, {told['seconds']} s, "
            f"{told['frames_per_s']} frames/s from {told['processes']} processes ({told['cpu_s']} CPU-s)"
        ),
        (
            f"frames: {counts['made']} made, {counts['stored']} stored, {counts['refused']} refused, {counts['lost']} lost, "
            f"{counts['not_taken']} not taken, {counts['sent_again']} sent again, {counts['answered_again']} answered again"
        ),
        f"links: {counts['connects']} connects after the start, {counts['cuts']} cuts, {counts['refused_connects']} refused",
        f"{'part':<8}{'count':>10}{'p50':>10}{'p95':>10}{'p99':>10}{'p99.9':>10}{'max':>10}  ms after it was due",
    ]
    for part, t in told["parts_ms"].items():
        lines.append(f"{part:<8}{t['count']:>10}{t['p50']:>10}{t['p95']:>10}{t['p99']:>10}{t['p999']:>10}{t['max']:>10}")
    for part, w in told["watched"].items():
        owed = "" if w["owed"] is None else f" of {w['owed']}"
        lines.append(f"{part}: {w['seen']}{owed} frames seen, {w['doubled']} twice, {w['strange']} not of the plan")
    if storm := told.get("storm"):
        again = ", ".join(f"{part} {'never' if s is None else f'{s:.0f} s'}" for part, s in storm["recovered_s"].items())
        back = "not all came back" if storm["all_back_s"] is None else f"all back after {storm['all_back_s']:.1f} s"
        lines.append(f"storm at {storm['at_s']:g} s: {back}; p99 under its bar again: {again}")
    bars = ", ".join(f"{part} {ms:g} ms" for part, ms in told["bars"]["p99_ms"].items())
    lines.append(f"{told['verdict']} (p99: {bars}; lost {told['bars']['lost']})")
    return "\n".join([*lines, *(f"  {wrong}" for wrong in told["wrong"])])
