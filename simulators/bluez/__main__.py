"""The virtual daemon as a process: `python -m simulators.bluez --address unix:path=/run/x/bus --control /run/x/control --world room.json`.

It prints `ready` once it owns org.bluez, and ends on SIGTERM. A kill -9 of it is the crash of a Bluetooth daemon; started again with the
same `--epoch-s` it goes on in the same room, with no device known.
"""

from __future__ import annotations

import asyncio
import contextlib
import signal
import sys
import time
from pathlib import Path

import click

from broker.errors import PacelineError
from simulators.bluez.control import Control
from simulators.bluez.daemon import Daemon
from simulators.bluez.journal import Journal
from simulators.bluez.world import World, make_peripheral, read_world
from simulators.with_parent import die_with_parent


async def serve(address: str, control: Path, world: World, *, epoch_s: float, journal: Path | None) -> None:
    """Serve the room until SIGTERM."""
    truth = Journal(journal)
    daemon = Daemon(epoch_s=epoch_s, timing=world.timing.timing(), journal=truth)
    for adapter in world.adapters:
        daemon.room.add_adapter(adapter.name, adapter.address, slots=adapter.slots, passive=adapter.passive)
    for spec in world.sensors:
        daemon.room.add(make_peripheral(spec, [adapter.name for adapter in world.adapters]))
    stopping = asyncio.Event()
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, stopping.set)
    async with await Control(daemon.room).listen(control):
        serving = asyncio.create_task(daemon.run(address, lambda: print("ready", flush=True)))  # noqa: T201
        ending = asyncio.create_task(stopping.wait())
        await asyncio.wait({serving, ending}, return_when=asyncio.FIRST_COMPLETED)
        ending.cancel()
        serving.cancel()
        try:
            with contextlib.suppress(asyncio.CancelledError):
                await serving
        finally:
            truth.close()


@click.command()
@click.option("--address", required=True, help="D-Bus to serve on.")
@click.option("--control", required=True, type=click.Path(path_type=Path), help="Unix socket of the control channel.")
@click.option("--world", required=True, type=click.Path(path_type=Path, exists=True), help="JSON document of the room.")
@click.option("--epoch-s", type=float, default=None, help="Start of the room's time on the monotonic clock; now without it.")
@click.option("--with-parent", is_flag=True, help="End when the process that started it does.")
@click.option("--journal", type=click.Path(path_type=Path), default=None, help="File that gets a line for each report sent.")
def main(address: str, control: Path, world: Path, epoch_s: float | None, journal: Path | None, *, with_parent: bool) -> None:
    """A virtual Bluetooth daemon on a private D-Bus."""
    if with_parent:
        die_with_parent()
    try:
        room = read_world(world.read_text())
        asyncio.run(serve(address, control, room, epoch_s=time.monotonic() if epoch_s is None else epoch_s, journal=journal))
    except (PacelineError, ExceptionGroup) as error:
        print(error, file=sys.stderr)  # noqa: T201
        sys.exit(1)


if __name__ == "__main__":
    main()
