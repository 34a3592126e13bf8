"""A virtual ANT stick as a serial device: a pty, named by a symlink. `python -m simulators.ant_pty --link PATH --sensors hr:30,trainer`.

Whatever opens PATH finds a stick there, `paceline gateway` among them. SIGUSR1 pulls it out (the device vanishes, readers get an error),
SIGUSR2 plugs it in again, under another number. What nobody reads is lost, as with a real stick. `--truth FILE` writes each page that was
sent as a line of JSON, whole or not, with the machine's monotonic time, and at the end one line of what each sensor meant last.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import json
import os
import signal
import sys
import termios
import time
import tty
from pathlib import Path
from typing import Final, TextIO

from broker.errors import PacelineError
from simulators.ant_clock import LiveStick
from simulators.ant_room import room
from simulators.ant_sensors import Sensor
from simulators.ant_stick import StickFaults, StickModel, VirtualStick

_HELD_BYTES: Final = 1 << 20


class PtyStick:
    """A stick on a pty. `run` until cancelled; `unplug` and `plug` at any time. A `patient` one waits for a slow reader, within 1 MB."""

    def __init__(self, stick: VirtualStick, link: Path, *, patient: bool = False) -> None:
        self.live = LiveStick(stick)
        self.unread = 0  # bytes lost because nobody read them
        self._patient = patient
        self._held = b""
        self._link = link
        self._master = self._slave = -1
        self._wake = asyncio.Event()

    def plug(self) -> None:
        """The device appears; it has just been given power."""
        if self._master >= 0:
            return
        self._master, self._slave = os.openpty()
        tty.setraw(self._slave, termios.TCSANOW)
        os.set_blocking(self._master, False)
        asyncio.get_running_loop().add_reader(self._master, self._read)
        temporary = self._link.with_suffix(".new")
        temporary.unlink(missing_ok=True)
        temporary.symlink_to(os.ttyname(self._slave))
        temporary.replace(self._link)
        self.live.stick.restart()
        self._wake.set()

    def unplug(self) -> None:
        """The device vanishes."""
        if self._master < 0:
            return
        self._link.unlink(missing_ok=True)
        asyncio.get_running_loop().remove_reader(self._master)
        os.close(self._master)
        os.close(self._slave)
        self._master = self._slave = -1

    async def run(self) -> None:
        """Plug in and live until cancelled."""
        self.plug()
        try:
            while True:
                self._pass(b"")
                self._wake.clear()
                with contextlib.suppress(TimeoutError):
                    async with asyncio.timeout(self.live.wait_s()):
                        await self._wake.wait()
        finally:
            self.unplug()

    def _read(self) -> None:
        with contextlib.suppress(OSError):
            self._pass(os.read(self._master, 4096))

    def _pass(self, written: bytes) -> None:
        data = self._held + self.live.exchange(written)
        self._held = b""
        if data and self._master >= 0:
            try:
                rest = data[os.write(self._master, data) :]
            except BlockingIOError:
                rest = data
            if self._patient:
                self._held = rest[:_HELD_BYTES]
            self.unread += len(rest) - len(self._held)


def _truth_writer(file: TextIO | None):  # noqa: ANN202 - a callback of `VirtualStick`, inferred
    def told(sensor: Sensor, page: bytes, whole: bool) -> None:
        if file is not None:
            row = {"device": sensor.device, "page": page.hex(), "whole": whole, "mono_us": time.monotonic_ns() // 1000}
            file.write(json.dumps(row) + "\n")

    return told


async def _live(options: argparse.Namespace) -> None:
    with contextlib.ExitStack() as stack:
        truth = stack.enter_context(options.truth.open("w", buffering=1)) if options.truth else None
        sensors = room(options.sensors)
        stick = VirtualStick(
            sensors,
            bytes.fromhex(options.key),
            model=StickModel(channels=options.channels, can_scan=not options.no_scan),
            faults=StickFaults(
                corrupt_every=options.corrupt_every, lose_every=options.lose_every, collide=options.collide, seed=options.seed
            ),
            on_page=_truth_writer(truth),
        )
        shell = PtyStick(stick, options.link)
        loop = asyncio.get_running_loop()
        task = asyncio.ensure_future(shell.run())
        loop.add_signal_handler(signal.SIGUSR1, shell.unplug)
        loop.add_signal_handler(signal.SIGUSR2, shell.plug)
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, task.cancel)
        await asyncio.wait({task})
        if truth is not None:
            truth.write(json.dumps({"meant": {s.device: s.truth for s in sensors}}) + "\n")
        if not task.cancelled():
            task.result()


def main(arguments: list[str]) -> int:
    """Run until SIGTERM. Exit 2 for a wrong option."""
    parser = argparse.ArgumentParser(prog="python -m simulators.ant_pty", description="A virtual ANT stick on a pty.")
    parser.add_argument("--link", type=Path, required=True, help="where the device appears, as a symlink")
    parser.add_argument("--sensors", default="hr:3,trainer,treadmill,power", help="the room, such as hr:30,trainer:2")
    parser.add_argument("--key", default="0001020304050607", help="network key of the room, 16 hex digits (made up)")
    parser.add_argument("--channels", type=int, default=8)
    parser.add_argument("--no-scan", action="store_true", help="a stick that cannot hear a whole room")
    parser.add_argument("--corrupt-every", type=int, default=0, metavar="N", help="one wrong byte in every N-th frame")
    parser.add_argument("--lose-every", type=int, default=0, metavar="N", help="one byte missing in every N-th frame")
    parser.add_argument("--collide", action="store_true", help="sensors that transmit at one moment disturb each other")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--truth", type=Path, help="file for what was sent")
    try:
        asyncio.run(_live(parser.parse_args(arguments)))
    except PacelineError as error:
        sys.stderr.write(f"{error}\n")
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
