"""The room of Bumble's sensors: the same document and the same commands as those of the virtual daemon, on real controllers.

Commands: `state`, `drop`, `off`, `on`, `silent`, `say` (see simulators/bluez/control.py). Faults of a daemon are no matter of the air.
"""

from __future__ import annotations

import asyncio
import json
import logging
from collections.abc import Awaitable, Callable, Mapping
from pathlib import Path
from typing import Final

from broker.errors import BadInputError
from simulators.air.link import AirLink
from simulators.air.peripheral import AirPeripheral
from simulators.bluez.journal import Journal
from simulators.bluez.peripheral import now_s
from simulators.bluez.world import World, make_peripheral
from simulators.sensors.sensor import Report, uuid128

log = logging.getLogger(__name__)

_TICK_S: Final = 0.02
Command = Mapping[str, object]


class AirRoom:
    """Sensors of a room document on one link. Other controllers (a central's, a host's) join `link`."""

    def __init__(self, world: World, *, epoch_s: float, journal: Journal | None = None) -> None:
        self.link = AirLink()
        self.journal = journal or Journal(None)
        self._epoch_s = epoch_s
        self._said = 0
        self.sensors = [AirPeripheral(self.link, make_peripheral(spec, ["air"]), self.journal, self.now_s) for spec in world.sensors]
        self._commands: dict[str, Callable[[Command], Awaitable[dict[str, object]]]] = {
            "state": self._state,
            "drop": self._drop,
            "off": lambda command: self._switch(command, on=False),
            "on": lambda command: self._switch(command, on=True),
            "silent": self._silent,
            "say": self._say,
        }

    def now_s(self) -> float:
        """Seconds since the epoch."""
        return now_s(self._epoch_s)

    async def run(self) -> None:
        """Switch everything on, then let time pass, for ever. What a sensor said before nobody heard."""
        for sensor in self.sensors:
            sensor.about.sensor.take(self.now_s())
            await sensor.start()
        while True:
            for sensor in self.sensors:
                await sensor.take()
            await asyncio.sleep(_TICK_S)

    async def do(self, command: Command) -> dict[str, object]:
        """Carry out one command: its answer. BadInputError names what is wrong."""
        act = self._commands.get(str(command.get("do")))
        if act is None:
            raise BadInputError(f"command {command.get('do')!r} is not known on the air", cure=f"use one of {', '.join(self._commands)}")
        return await act(command)

    async def listen(self, path: Path) -> asyncio.Server:
        """Answer commands on the Unix socket at `path`, one JSON object a line, until the server is closed."""
        return await asyncio.start_unix_server(self._converse, path)

    async def _converse(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            while line := await reader.readline():
                answer: dict[str, object]
                try:
                    answer = {"ok": True, **await self.do(json.loads(line))}
                except (BadInputError, ValueError) as error:
                    answer = {"ok": False, "error": str(error)}
                writer.write(json.dumps(answer).encode() + b"\n")
                await writer.drain()
        except ConnectionError:
            pass
        finally:
            writer.close()

    async def _state(self, command: Command) -> dict[str, object]:
        del command
        sensors = {
            one.about.address: {
                "name": one.about.name,
                "linked_to": one.about.linked_to,
                "on": one.about.on,
                "subscribed": one.subscribed(),
            }
            for one in self.sensors
        }
        return {"sensors": sensors, "reports": self.journal.written}

    async def _drop(self, command: Command) -> dict[str, object]:
        return {"dropped": await self._sensor(command).drop()}

    async def _switch(self, command: Command, *, on: bool) -> dict[str, object]:
        await self._sensor(command).switch(on=on)
        return {}

    async def _silent(self, command: Command) -> dict[str, object]:
        seconds = command.get("seconds")
        if not isinstance(seconds, int | float):
            raise BadInputError("field seconds is missing or no number", cure='write "seconds": 1')
        self._sensor(command).about.silent_until_s = self.now_s() + seconds
        return {}

    async def _say(self, command: Command) -> dict[str, object]:
        report = Report(uuid128(str(command.get("uuid"))), bytes.fromhex(str(command.get("hex"))), self._said)
        self._said += 1
        return {"links": await self._sensor(command).say([report])}

    def _sensor(self, command: Command) -> AirPeripheral:
        address = str(command.get("device")).upper()
        found = next((one for one in self.sensors if one.about.address == address), None)
        if found is None:
            raise BadInputError(f"no sensor has the address {address}", cure="ask for `state` to see which there are")
        return found
