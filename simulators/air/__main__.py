"""The room as the radio of a Linux host: `python -m simulators.air --world room.json --control /run/x/control --journal truth.jsonl`.

It opens the kernel's virtual controller (/dev/vhci), behind which the host sees one adapter, and prints `ready`. Ends on SIGTERM.
"""

from __future__ import annotations

import asyncio
import signal
import sys
import time
from pathlib import Path

import click
from bumble.controller import Controller
from bumble.transport import open_transport

from broker.errors import PacelineError
from simulators.air.link import offer_less
from simulators.air.room import AirRoom
from simulators.bluez.journal import Journal
from simulators.bluez.world import World, read_world


async def serve(world: World, transport: str, control: Path, journal: Path) -> None:
    """Be the radio until SIGTERM."""
    truth = Journal(journal)
    room = AirRoom(world, epoch_s=time.monotonic(), journal=truth)
    stopping = asyncio.Event()
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, stopping.set)
    async with await open_transport(transport) as opened, await room.listen(control):
        adapter = world.adapters[0]
        offer_less(
            Controller(adapter.name, host_source=opened.source, host_sink=opened.sink, link=room.link, public_address=adapter.address)
        )
        running = asyncio.create_task(room.run())
        ending = asyncio.create_task(stopping.wait())
        print("ready", flush=True)  # noqa: T201
        await asyncio.wait({running, ending}, return_when=asyncio.FIRST_COMPLETED)
        ending.cancel()
        running.cancel()
        await asyncio.wait({running})
        if not running.cancelled() and (error := running.exception()) is not None:
            raise error
    truth.close()


@click.command()
@click.option("--world", required=True, type=click.Path(path_type=Path, exists=True), help="JSON document of the room.")
@click.option("--transport", default="vhci", show_default=True, help="Where the host is, in Bumble's words.")
@click.option("--control", required=True, type=click.Path(path_type=Path), help="Unix socket of the control channel.")
@click.option("--journal", required=True, type=click.Path(path_type=Path), help="File that gets a line for each report sent.")
def main(world: Path, transport: str, control: Path, journal: Path) -> None:
    """Virtual sensors as the radio of a host."""
    try:
        asyncio.run(serve(read_world(world.read_text()), transport, control, journal))
    except (PacelineError, OSError) as error:
        print(error, file=sys.stderr)  # noqa: T201
        sys.exit(1)


if __name__ == "__main__":
    main()
