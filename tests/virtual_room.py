"""Rooms of virtual sensors for tests: shorthands for the room document of `simulators.bluez`."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

HR = "00002a37-0000-1000-8000-00805f9b34fb"


def strap(number: int, **fields: object) -> dict[str, object]:
    """Strap `number` (1 to 255) of the room: address C0:00:00:00:00:NN, named `Strap NN`."""
    return {"kind": "strap", "address": f"C0:00:00:00:00:{number:02X}", "name": f"Strap {number}", "seed": number, **fields}


def room(*sensors: Mapping[str, object], adapters: int = 1, slots: int = 64, **timing: float) -> dict[str, Any]:
    """A room with these sensors and `adapters` adapters hci0, hci1 ..."""
    made = [{"name": f"hci{index}", "address": f"00:00:5E:00:53:{index:02X}", "slots": slots} for index in range(adapters)]
    return {"adapters": made, "sensors": list(sensors), "timing": timing}
