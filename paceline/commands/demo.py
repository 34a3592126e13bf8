"""`paceline demo`: the whole way of a sample with simulated athletes, and proof at the end that nothing was lost or counted twice."""

from __future__ import annotations

import asyncio
import contextlib
import json
import logging
import sys
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

import click

from broker.errors import ConfigError

if TYPE_CHECKING:
    from paceline.demo import Demo, DemoResult

_LINE_EVERY_S = 5.0


@click.command()
@click.option("--seconds", type=click.FloatRange(min=1), help="Stop after that time (default: until Ctrl-C).")
@click.option("--athletes", type=click.IntRange(1, 1000), default=24, show_default=True, help="Members of the virtual gym.")
@click.option(
    "--ride", type=click.Path(path_type=Path, dir_okay=False, exists=True), help="FIT, GPX or TCX file to replay (default: made up)."
)
@click.option("--speed", type=click.FloatRange(1, 1000), default=1.0, show_default=True, help="Speed of the replayed ride.")
@click.option("--port", type=click.IntRange(0, 65535), default=8800, show_default=True, help="Port of the page (0: any free one).")
@click.option("--json", "json_file", type=click.Path(path_type=Path, dir_okay=False), help="Write the summary to FILE.")
@click.option("--no-table", is_flag=True, help="A plain line every 5 s instead of the table.")
@click.option("--seed", type=int, default=1, show_default=True, help="The same seed gives the same athletes.")
@click.option("--sensors", is_flag=True, help="Also virtual straps and machines, heard over Bluetooth and ANT+ by the real gateway.")
@click.option("--data", type=click.Path(path_type=Path, file_okay=False), help="Keep the data in this folder (default: a temporary one).")
@click.pass_context
def demo(
    ctx: click.Context,
    seconds: float | None,
    athletes: int,
    ride: Path | None,
    speed: float,
    port: int,
    json_file: Path | None,
    no_table: bool,
    seed: int,
    data: Path | None,
    *,
    sensors: bool,
) -> None:
    """Show a virtual gym and a ride, ranked live: real gateway, brokers, ingest, stages and page.

    Prints the address of the page and a line that makes one more athlete appear. Exits with 0 only when nothing was lost, counted twice or
    refused.

    \b
    Example:
      paceline demo --seconds 30 --json out.json
      paceline demo --ride morning.fit --speed 10
      paceline demo --sensors
    """
    from paceline.compiling import compile_kernels
    from paceline.demo import Demo, DemoOptions, run_demo
    from paceline.sensor_gym import SensorPlan

    logging.basicConfig(level="WARNING", format="%(levelname)s: %(message)s")
    options = DemoOptions(seconds, athletes, ride, speed, port, seed, SensorPlan() if sensors else None)
    with contextlib.ExitStack() as stack:
        folder = data or Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="paceline-demo-")))
        if (folder / "site.json").exists():
            raise ConfigError(f"--data {folder}: holds an earlier run", cure="give an empty folder: the demo counts what is stored")
        folder.mkdir(parents=True, exist_ok=True)
        screen = stack.enter_context(_Table() if sys.stdout.isatty() and not no_table else _Lines())

        async def whole() -> DemoResult:
            made = Demo(options, folder)  # refuses what is wrong before anything takes time
            await compile_kernels(click.echo)
            return await run_demo(made, screen.announce, screen.show)

        result = asyncio.run(whole())
    _print_summary(result)
    if json_file is not None:
        json_file.write_text(json.dumps(result.figures, indent=2) + "\n", "utf-8")
    ctx.exit(0 if result.clean else 1)


class _Lines:
    """A plain line every 5 s."""

    def __init__(self) -> None:
        self._next_s = 0.0

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_exc: object) -> None:
        return

    def announce(self, running: Demo) -> None:
        """Say where the page is and how to join."""
        click.echo(_invitation(running))

    def show(self, seconds: float, snapshot: Mapping[str, Any]) -> None:
        """A line when it is time for one."""
        from paceline.table import summary_line

        if seconds >= self._next_s:
            self._next_s += _LINE_EVERY_S
            click.echo(summary_line(seconds, snapshot))


class _Table:
    """The live table of the terminal, redrawn a second."""

    def __init__(self) -> None:
        from rich.console import Console
        from rich.live import Live

        self._console = Console()
        self._live = Live(console=self._console, auto_refresh=False)
        self._url = ""

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_exc: object) -> None:
        self._live.stop()

    def announce(self, running: Demo) -> None:
        """Say where the page is and how to join, then leave the screen to the table."""
        click.echo(_invitation(running))
        self._url = running.url
        self._live.start()

    def show(self, seconds: float, snapshot: Mapping[str, Any]) -> None:
        """Redraw."""
        from paceline.table import live_table

        self._live.update(live_table(seconds, snapshot, self._url, max(self._console.height - 12, 5)), refresh=True)


def _invitation(running: Demo) -> str:
    from paceline.demo import publish_line

    own, other = publish_line(running)
    addresses = f"page: {running.url}\nscreen for everybody (a TV; hides who does not want to be named): {running.screen_url}"
    return f"{addresses}\n\nOne more athlete appears with this line:\n  {own}\nor, with mosquitto's tools:\n  {other}\n"


def _print_summary(result: DemoResult) -> None:
    figures = result.figures
    latency = figures["latency_ms"]
    click.echo(
        f"\n{figures['seconds']:.0f} s: {figures['frames_sent']} frames sent, {figures['frames_stored']} stored, {figures['lost']} lost, "
        f"{figures['duplicated']} counted twice, {figures['refused']} refused, {figures['dead_letters']} dead letters"
    )
    click.echo(
        f"{figures['samples']} samples, {figures['activities']} activities, {figures['efforts']} efforts, "
        f"{figures['board_changes']} board changes, {figures['events']} events; "
        f"latency p50 {latency['p50']:.0f} ms, p95 {latency['p95']:.0f} ms, p99 {latency['p99']:.0f} ms"
    )
    if sensors := figures.get("sensors"):
        click.echo(
            f"sensors: {sensors['devices']} heard, {sensors['reports']} reports with {sensors['samples']} samples, "
            f"{sensors['stored']} stored, {sensors['lost']} lost, {sensors['duplicated']} counted twice, {sensors['wrong']} wrong"
        )
    for name, times in result.restarts.items():
        if times:
            click.echo(f"{name} died and was started again {times} times")
    for example in result.examples:
        click.echo(f"  {example}", err=True)
