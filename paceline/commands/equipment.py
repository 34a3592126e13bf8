"""`paceline equipment`: command treadmills and trainers of the running site, and see what became of it."""

from __future__ import annotations

import time
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final
from urllib.parse import quote

import click

from paceline.options import json_option, print_json, read_settings, settings_options

_PLAIN: Final = ("start", "stop", "pause", "reset", "spindown")
_TARGETS: Final = ("target_power_w", "speed_mps", "incline_pct", "resistance")
_ROAD: Final = ("grade_pct", "wind_mps", "crr", "cw_kgpm")
_FINAL: Final = frozenset({"done", "refused", "lost"})
_POLL_S: Final = 0.1
_LONGER_S: Final = 35.0  # than a command is good for: then the platform calls it lost


@click.group()
def equipment() -> None:
    """Command gym equipment and read its answers. See docs/equipment.md for what is safe.

    \b
    Example:
      paceline equipment send ble-c0ffee000001 target_power_w 200 --data data
      paceline equipment log --data data
    """


@equipment.command()
@settings_options
@json_option
@click.option("--athlete", help="Only if the machine is bound to this athlete (default: whoever it is bound to).")
@click.option("--node", help="The box that is connected to the machine, when several hear it.")
@click.option("--grade", "grade_pct", type=float, help="Of `simulation`: grade in %.")
@click.option("--wind", "wind_mps", type=float, help="Of `simulation`: headwind in m/s.")
@click.option("--crr", type=float, help="Of `simulation`: rolling resistance.")
@click.option("--cw", "cw_kgpm", type=float, help="Of `simulation`: wind resistance in kg/m.")
@click.option("--for", "good_for_s", type=click.FloatRange(1, 590), default=20, show_default=True, help="Seconds the command may wait.")
@click.option("--no-wait", is_flag=True, help="Do not wait for the answer of the machine.")
@click.argument("device")
@click.argument("action", type=click.Choice([*_PLAIN, *_TARGETS, "simulation"]))
@click.argument("value", type=float, required=False)
@click.pass_context
def send(
    ctx: click.Context, *, config_file: Path | None, data: Path | None, as_json: bool, athlete: str | None, node: str | None,
    good_for_s: float, no_wait: bool, device: str, action: str, value: float | None, **road: float | None,
) -> None:  # fmt: skip
    """Send one command to DEVICE and wait for its answer: exit code 0 when the machine took it, else 1.

    ACTION with a VALUE: target_power_w in W, speed_mps in m/s, incline_pct in %, resistance in the machine's levels.

    \b
    Example:
      paceline equipment send ble-c0ffee000002 speed_mps 2.5 --data data
      paceline equipment send ant-17-4711 simulation --grade 4.5 --data data
      paceline equipment send ble-c0ffee000002 stop --data data
    """
    from paceline.site import running_site
    from paceline.site_api import ask

    body: dict[str, Any] = {"order": _order(action, value, road), "good_for_s": good_for_s}
    body |= {key: text for key, text in (("athlete", athlete), ("node", node)) if text is not None}
    site = running_site(read_settings(config_file, data).settings)
    line = ask(site, "POST", f"equipment/{quote(device, safe='')}", body)
    deadline_s = time.monotonic() + good_for_s + _LONGER_S
    while not no_wait and line["state"] not in _FINAL and time.monotonic() < deadline_s:
        time.sleep(_POLL_S)
        line = ask(site, "GET", f"equipment/{quote(device, safe='')}/{line['id']}")
    if as_json:
        print_json(line)
    else:
        click.echo(_command_line(line))
    ctx.exit(0 if no_wait or line["state"] == "done" else 1)


@equipment.command()
@settings_options
@json_option
@click.option("--limit", type=click.IntRange(1, 500), default=20, show_default=True, help="How many of each.")
@click.argument("device", required=False)
def log(*, config_file: Path | None, data: Path | None, as_json: bool, limit: int, device: str | None) -> None:
    """Show the latest commands and what boxes told of machines, the newest last; of DEVICE only, if one is given.

    \b
    Example:
      paceline equipment log --data data
      paceline equipment log ble-c0ffee000002 --limit 5 --json --data data
    """
    from paceline.site import running_site
    from paceline.site_api import ask

    site = running_site(read_settings(config_file, data).settings)
    where = "equipment" if device is None else f"equipment/{quote(device, safe='')}"
    found = ask(site, "GET", f"{where}?limit={limit}")
    if as_json:
        print_json(found)
        return
    lines = [(one["sent_us"], _command_line(one)) for one in found["commands"]]
    lines += [(one["heard_us"], _notice_line(one)) for one in found["notices"]]
    for _, line in sorted(lines):
        click.echo(line)
    if not lines:
        click.echo("no commands yet", err=True)


def _order(action: str, value: float | None, road: dict[str, float | None]) -> dict[str, Any]:
    given = {name: number for name, number in road.items() if number is not None}
    if given and action != "simulation":
        raise click.UsageError(f"--grade, --wind, --crr and --cw belong to simulation, not to {action}")
    if (value is not None) != (action in _TARGETS):
        raise click.UsageError(f"{action} needs a VALUE" if value is None else f"{action} takes no VALUE")
    return {"action": action, **given} | ({} if value is None else {"value": value})


def _command_line(line: dict[str, Any]) -> str:
    order = line["order"]
    what = " ".join([order["action"], *(f"{order[key]:g}" for key in ("value", *_ROAD) if key in order)])
    said = " ".join(filter(None, (line["state"], line["reason"])))
    detail = f"\n  {line['detail']}" if line["detail"] else ""
    return f"{_time(line['sent_us'])}  {line['device']:<20}  {line['athlete']:<12}  {what:<24}  {said}{detail}"


def _notice_line(line: dict[str, Any]) -> str:
    notice = line["notice"]
    said = " ".join(filter(None, (notice["event"], notice["reason"], notice["detail"])))
    return f"{_time(line['heard_us'])}  {notice['device']:<20}  {notice['athlete']:<12}  notice: {said}"


def _time(t_us: int) -> str:
    return datetime.fromtimestamp(t_us / 1e6, UTC).strftime("%Y-%m-%d %H:%M:%S")
