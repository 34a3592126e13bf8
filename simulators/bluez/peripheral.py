"""A virtual sensor as a radio sees it: an address, what it advertises, who hears it how well, and whether it is linked."""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Final

from simulators.noise import key_of, mix, uniform
from simulators.sensors.sensor import Sensor

_FADING_DB: Final = 7.0  # half the range two advertisements of one device differ in


@dataclass(slots=True)
class Peripheral:
    """One device in the room. `rssi_dbm` has an entry for each adapter that hears it; `passkey` "" pairs without one, else six digits.

    While it is linked it does not advertise, as a strap with one link. `on` False: battery out.
    """

    address: str
    name: str
    sensor: Sensor
    rssi_dbm: Mapping[str, int]
    address_type: str = "random"
    advertise_s: float = 0.5
    passkey: str = ""
    manufacturer_data: Mapping[int, bytes] = field(default_factory=dict[int, bytes])
    service_data: Mapping[str, bytes] = field(default_factory=dict[str, bytes])
    on: bool = True
    silent_until_s: float = 0.0  # linked, and says nothing: what a data watchdog is for
    linked_to: str = ""  # the adapter
    advertisements: int = 0
    next_advertisement_s: float = 0.0

    def advertises(self) -> bool:
        """Whether it is on the air for scanners."""
        return self.on and not self.linked_to

    def heard_dbm(self, adapter: str) -> int:
        """How the last advertisement was received."""
        noise = uniform(key_of(self.address, adapter), self.advertisements, -_FADING_DB, _FADING_DB)
        return max(min(round(self.rssi_dbm[adapter] + noise), 20), -127)

    def rotate(self) -> str:
        """Take the next random resolvable private address (two highest bits 01), and return it."""
        draw = mix(key_of("rotate", self.address), 0)
        octets = [(draw >> shift) & 0xFF for shift in range(40, -8, -8)]
        octets[0] = octets[0] & 0x3F | 0x40
        self.address, self.address_type = ":".join(f"{octet:02X}" for octet in octets), "random"
        return self.address

    def advertising_data(self) -> dict[int, bytes]:
        """The advertisement by AD type (Core Specification Supplement, part A): flags, 16-bit UUIDs, name, manufacturer, service data."""
        short = b"".join(bytes.fromhex(uuid[4:8])[::-1] for uuid in self.sensor.advertised if uuid.endswith("00805f9b34fb"))
        long = b"".join(bytes.fromhex(uuid.replace("-", ""))[::-1] for uuid in self.sensor.advertised if not uuid.endswith("00805f9b34fb"))
        found = {0x01: b"\x06", 0x03: short, 0x07: long, 0x09: self.name.encode()}
        for company, data in self.manufacturer_data.items():
            found[0xFF] = company.to_bytes(2, "little") + data
        for uuid, data in self.service_data.items():
            found[0x16] = bytes.fromhex(uuid[4:8])[::-1] + data
        return {kind: data for kind, data in found.items() if data}


def now_s(epoch_s: float) -> float:
    """Seconds since the room's epoch, both on the monotonic clock of the machine, which all processes share."""
    return time.monotonic() - epoch_s
