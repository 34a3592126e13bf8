"""The control channel of the virtual daemon: one JSON object a line on a Unix socket, one answer a line.

`{"do": "drop", "device": "C0:00:00:00:00:01"}` -> `{"ok": true, ...}` or `{"ok": false, "error": "..."}`. Commands:

| do | fields | what |
|---|---|---|
| `state` | | links, counts, what struck |
| `add` | `sensor` (as in the room document) | a sensor enters |
| `drop` | `device` | its link is lost |
| `off`, `on` | `device` | battery out, in |
| `rotate` | `device` | it takes a new random address; answers `address` |
| `silent` | `device`, `seconds` | linked, and says nothing |
| `hush` | | everybody is silent from now on: the truth is complete |
| `say` | `device`, `uuid`, `hex` | a notification by hand |
| `fault` | `name`, `device`, `times`, `value` | arm a fault |
| `act` | `device`, `name`, `value` | somebody does something to the sensor (`contact`, `user_stop` ...) |
| `look` | `device` | what somebody beside the sensor sees; answers `state` |
| `power` | `adapter`, `on` | adapter off, on |
| `unplug`, `plug` | `adapter` | the adapter goes, comes |
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Final

from broker.errors import BadInputError
from simulators.bluez.adapter import Adapter
from simulators.bluez.peripheral import Peripheral
from simulators.bluez.room import Room
from simulators.bluez.world import make_peripheral, read_sensor
from simulators.sensors.sensor import Report, uuid128

_LINE_BYTES: Final = 1 << 20
Command = Mapping[str, object]


class Control:
    """Carries out commands on a room."""

    def __init__(self, room: Room) -> None:
        self._room = room
        self._said = 0
        self._commands: dict[str, Callable[[Command], dict[str, object]]] = {
            "state": self._state,
            "add": self._add,
            "drop": self._drop,
            "off": lambda command: self._switch(command, on=False),
            "on": lambda command: self._switch(command, on=True),
            "rotate": self._rotate,
            "silent": self._silent,
            "hush": self._hush,
            "say": self._say,
            "fault": self._fault,
            "act": self._act,
            "look": lambda command: {"state": self._peripheral(command).sensor.state()},
            "power": self._power,
            "unplug": lambda command: self._plug(command, there=False),
            "plug": lambda command: self._plug(command, there=True),
        }

    async def listen(self, path: Path) -> asyncio.Server:
        """Answer on the socket at `path` (one that was left behind is replaced) until the server is closed."""
        return await asyncio.start_unix_server(self._converse, path, limit=_LINE_BYTES)

    def do(self, command: Command) -> dict[str, object]:
        """Carry out one command: its answer without `ok`. BadInputError names what is wrong."""
        act = self._commands.get(str(command.get("do")))
        if act is None:
            raise BadInputError(f"command {command.get('do')!r} is not known", cure=f"use one of {', '.join(self._commands)}")
        return act(command)

    async def _converse(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            while line := await reader.readline():
                answer: dict[str, object]
                try:
                    answer = {"ok": True, **self.do(json.loads(line))}
                except (BadInputError, ValueError) as error:
                    answer = {"ok": False, "error": str(error)}
                writer.write(json.dumps(answer).encode() + b"\n")
                await writer.drain()
        except (ConnectionError, asyncio.CancelledError):
            pass
        finally:
            writer.close()

    def _state(self, command: Command) -> dict[str, object]:
        del command
        adapters = {
            adapter.name: {
                "powered": adapter.powered,
                "discovering": len(adapter.sessions),
                "monitors": len(adapter.monitors),
                "linked": adapter.linked,
                "overlaps": adapter.overlaps,
                "devices": len(adapter.devices),
            }
            for adapter in self._room.adapters.values()
        }
        sensors = {
            one.address: {"name": one.name, "linked_to": one.linked_to, "on": one.on, "subscribed": self._subscribed(one)}
            for one in self._room.peripherals
        }
        return {"adapters": adapters, "sensors": sensors, "reports": self._room.journal.written, "struck": self._room.faults.struck}

    def _subscribed(self, peripheral: Peripheral) -> list[str]:
        attributes = [attribute for device in self._room.links(peripheral) for attribute in device.attributes.values()]
        return [attribute.about.uuid for attribute in attributes if attribute.subscribers or attribute.socket]

    def _add(self, command: Command) -> dict[str, object]:
        spec = read_sensor(command.get("sensor"))
        self._room.add(make_peripheral(spec, list(self._room.adapters)))
        return {}

    def _drop(self, command: Command) -> dict[str, object]:
        links = self._room.links(self._peripheral(command))
        for device in links:
            device.lose()
        return {"dropped": len(links)}

    def _switch(self, command: Command, *, on: bool) -> dict[str, object]:
        peripheral = self._peripheral(command)
        peripheral.on = on
        if not on:
            self._drop(command)
        return {}

    def _rotate(self, command: Command) -> dict[str, object]:
        return {"address": self._peripheral(command).rotate()}

    def _silent(self, command: Command) -> dict[str, object]:
        self._peripheral(command).silent_until_s = self._room.now_s() + _number(command, "seconds")
        return {}

    def _hush(self, command: Command) -> dict[str, object]:
        del command
        for peripheral in self._room.peripherals:
            peripheral.silent_until_s = float("inf")
        return {"reports": self._room.journal.written}

    def _say(self, command: Command) -> dict[str, object]:
        try:
            payload = bytes.fromhex(str(command.get("hex")))
        except ValueError:
            raise BadInputError("field hex is not hexadecimal", cure='write it as "0641"') from None
        report = Report(uuid128(str(command.get("uuid"))), payload, self._said)
        self._said += 1
        return {"links": self._room.say(self._peripheral(command), [report])}

    def _fault(self, command: Command) -> dict[str, object]:
        times = int(_number(command, "times")) if "times" in command else 1
        value = _number(command, "value") if "value" in command else None
        self._room.faults.arm(str(command.get("name")), address=str(command.get("device", "")), times=times, value=value)
        return {}

    def _act(self, command: Command) -> dict[str, object]:
        value = _number(command, "value") if "value" in command else 1.0
        self._peripheral(command).sensor.act(str(command.get("name")), value, self._room.now_s())
        self._room.wake()
        return {}

    def _power(self, command: Command) -> dict[str, object]:
        self._adapter(command).power(on=bool(command.get("on")))
        return {}

    def _plug(self, command: Command, *, there: bool) -> dict[str, object]:
        adapter = self._adapter(command)
        (adapter.plug if there else adapter.unplug)()
        return {}

    def _peripheral(self, command: Command) -> Peripheral:
        return self._room.peripheral(str(command.get("device")))

    def _adapter(self, command: Command) -> Adapter:
        name = str(command.get("adapter", "hci0"))
        if name not in self._room.adapters:
            raise BadInputError(f"adapter {name!r} is not known", cure=f"use one of {', '.join(self._room.adapters)}")
        return self._room.adapters[name]


def _number(command: Command, field: str) -> float:
    value = command.get(field)
    if not isinstance(value, int | float):
        raise BadInputError(f"field {field} is missing or no number", cure=f'write "{field}": 1')
    return float(value)
