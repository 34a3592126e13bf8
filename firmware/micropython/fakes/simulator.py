"""A whole board of fakes that runs an example: `simulator.py FOLDER SECONDS [PORT of the set-up page]`, on the unix port or CPython.

FOLDER holds the modules of an image as sources (`application.py`, `board.py` ...), `config.a` as the set-up would leave it, and gets
`flash.nor`: what a device remembers. Standard input is its console; a reset ends it with exit code 75, a deep sleep with 76: whoever starts
it again then turns the wheel, or whatever wakes it (`rtc.bin` is what its chip remembers meanwhile). After SECONDS (0: never) it ends in
good order; what is owed stays in the ring for the next start, as on a board without power.
"""

import asyncio
import json
import os
import sys

from fakes import bluetooth, machine
from fakes.esp32 import Chip, Esp32
from fakes.flash import Nor
from fakes.network import Air, Network
from fakes.scenarios import SCENARIOS


class _Bluetooth:
    """The module `bluetooth` of one room."""

    UUID = bluetooth.UUID
    number_of = staticmethod(bluetooth.number_of)

    def __init__(self, room):
        self.room = room

    def BLE(self):
        return bluetooth.BLE(self.room)


RESET = 75  # exit code: start it again


def _wake(folder):
    """The chip as it is after a sleep, if one ended; else as after power came."""
    path = folder + "/rtc.bin"
    try:
        with open(path, "rb") as file:
            memory = file.read()
    except OSError:
        return
    os.remove(path)
    machine.state["memory"] = memory
    machine.wake(machine.EXT0_WAKE)


def _sleeper(folder, device):
    def deepsleep(ms=0):
        _tell(device)
        with open(folder + "/rtc.bin", "wb") as file:
            file.write(machine.state["memory"])
        raise SystemExit(machine.ASLEEP)

    return deepsleep


def _reset():
    raise SystemExit(RESET)


async def _line():
    """The next line of standard input on CPython; "" at its end."""
    return await asyncio.get_running_loop().run_in_executor(None, sys.stdin.readline)


def chip_of(folder, partitions):
    """The module `esp32` of a chip with these partitions, whose flash is a file."""
    first = 0
    table = []
    for name, subtype, sectors in partitions:
        table.append((1, subtype, first, sectors, name))
        first += sectors
    return Esp32(Chip(Nor(first, 4096, folder + "/flash.nor"), table))


def boot(esp32):
    """What `boot.py` does, where images can be mounted: not on CPython, which starts what lies in the folder."""
    try:
        import vfs
    except ImportError:
        return
    from kit.start import start

    start(esp32.Partition("boot"), {0: esp32.Partition("app_a"), 1: esp32.Partition("app_b")}, vfs.mount)


def port_of(folder, esp32, document, page_port):
    """(Port of a simulated board, room of its radio)."""
    from kit.device import Port, console_line

    if sys.implementation.name != "micropython":
        console_line = _line
    room = bluetooth.Room()
    machine.reset = _reset  # the chip's, not that of the fake
    _wake(folder)
    air = Air({document.get("wifi_ssid", "sim"): document.get("wifi_password", "")})
    return Port(machine, Network(air), esp32, _Bluetooth(room), folder, console_line, time_hosts=(), page_port=page_port), room


def main(folder, seconds, page_port=0):
    import board

    esp32 = chip_of(folder, board.PARTITIONS)
    boot(esp32)
    import application
    import board
    from kit.config import Kept

    document = Kept(folder + "/config").load()
    port, room = port_of(folder, esp32, document, page_port)
    scenario = SCENARIOS.get(board.EXAMPLE)
    happen = scenario(machine, room, board) if scenario is not None else None
    device = application.make(port)
    machine.deepsleep = _sleeper(folder, device)
    if happen is not None:
        device.add("world", happen)

    async def run():
        ending = asyncio.create_task(_end(device, seconds)) if seconds else None
        await device.main()
        if ending is not None:
            await ending

    asyncio.run(run())
    if device.node is not None:
        _tell(device)


def _tell(device):
    """What became of the frames since this start, as a line."""
    node = device.node
    outbox = node.outbox
    print(
        json.dumps({"taken": outbox.taken, "stored": outbox.stored, "refused": outbox.refused, "lost": outbox.lost, "owed": node.ring.owed})
    )


async def _end(device, seconds):
    """Stop measuring after a while, wait a little for what is owed, and stop."""
    await asyncio.sleep(seconds)
    device.close()
    for _ in range(100):
        if device.node is None or not device.node.ring.owed:
            break
        await asyncio.sleep(0.1)
    device.app.stop()


if __name__ == "__main__":
    main(sys.argv[1], int(sys.argv[2]), int(sys.argv[3]) if len(sys.argv) > 3 else 8080)
