"""One Adapter1: power, discovery sessions, advertisement monitors, connection slots, and the devices it knows.

Two Connects at once on one adapter are refused with InProgress, as real daemons do under load: a gateway queues them itself. A device that
is neither linked nor paired is forgotten `forget_s` after it was last heard; a paired one keeps its object and address when it rotates.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final

from dbus_fast import Variant

from simulators.bluez.device import Device
from simulators.bluez.peripheral import Peripheral
from simulators.bluez.tree import ADAPTER, DEVICE, MONITORS, BluezError, Tree
from simulators.sensors.sensor import uuid128

if TYPE_CHECKING:
    from simulators.bluez.room import Room

MAX_SLOTS: Final = 64


@dataclass(frozen=True, slots=True)
class Filter:
    """What a discovery session asked for: any of these services (none: all), at least this RSSI, and every advertisement."""

    uuids: frozenset[str] = frozenset()
    rssi_dbm: int = -128
    duplicates: bool = True

    def lets(self, peripheral: Peripheral, rssi_dbm: int) -> bool:
        """Whether the advertisement passes."""
        return rssi_dbm >= self.rssi_dbm and (not self.uuids or bool(self.uuids & set(peripheral.sensor.advertised)))


@dataclass(slots=True)
class Monitor:
    """An advertisement monitor of a client: patterns of (start, AD type, content), and the devices it was told of."""

    sender: str
    path: str
    patterns: list[tuple[int, int, bytes]]
    told: set[str] = field(default_factory=set[str])

    def lets(self, peripheral: Peripheral) -> bool:
        """Whether any pattern fits the advertisement."""
        data = peripheral.advertising_data()
        return any(data.get(kind, b"")[start : start + len(content)] == content for start, kind, content in self.patterns)


class Adapter:
    """A Bluetooth adapter of the virtual daemon."""

    def __init__(self, room: Room, name: str, address: str, slots: int, *, passive: bool = True) -> None:
        self.room = room
        self.tree: Tree = room.tree
        self.name = name
        self.address = address
        self.slots = slots
        self.path = f"/org/bluez/{name}"
        self.devices: dict[str, Device] = {}
        self.sessions: dict[str, Filter] = {}
        self.filters: dict[str, Filter] = {}
        self.monitors: dict[tuple[str, str], Monitor] = {}
        self.overlaps = 0
        self._passive = passive
        self._busy: Device | None = None
        self.plugged = False
        self.plug()

    @property
    def powered(self) -> bool:
        return self.plugged and bool(self.tree.get(self.path, ADAPTER, "Powered"))

    @property
    def linked(self) -> int:
        """Slots in use."""
        return sum(device.connected for device in self.devices.values())

    def plug(self) -> None:
        """The adapter is there (again), powered."""
        if self.plugged:
            return
        properties = {
            "Address": Variant("s", self.address),
            "AddressType": Variant("s", "public"),
            "Name": Variant("s", f"virtual-{self.name}"),
            "Alias": Variant("s", f"virtual-{self.name}"),
            "Class": Variant("u", 0),
            "Powered": Variant("b", True),
            "Discoverable": Variant("b", False),
            "Pairable": Variant("b", True),
            "Discovering": Variant("b", False),
            "UUIDs": Variant("as", []),
            "Roles": Variant("as", ["central", "peripheral"]),
        }
        monitors = {"SupportedMonitorTypes": Variant("as", ["or_patterns"]), "SupportedFeatures": Variant("as", [])}
        self.tree.add(self.path, {ADAPTER: properties, **({MONITORS: monitors} if self._passive else {})})
        self.plugged = True

    def unplug(self) -> None:
        """The adapter is pulled out: every object of it goes."""
        if not self.plugged:
            return
        for device in list(self.devices.values()):
            self.remove(device)
        self._end_discovery()
        self.monitors.clear()
        self.tree.remove(self.path)
        self.plugged = False

    def power(self, *, on: bool) -> None:
        """Powered on or off. Off ends links, discovery and pending connects."""
        if on == self.powered or not self.plugged:
            return
        if not on:
            for device in self.devices.values():
                if device.connecting is not None:
                    device.connecting.cancel()
                device.lose()
            self._end_discovery()
        self.tree.set(self.path, ADAPTER, {"Powered": Variant("b", on)})

    # discovery

    def start_discovery(self, sender: str) -> None:
        """StartDiscovery of one client."""
        self._ready()
        if sender in self.sessions:
            raise BluezError("InProgress", "Operation already in progress")
        self.sessions[sender] = self.filters.get(sender, Filter())
        if len(self.sessions) == 1:
            self.tree.set(self.path, ADAPTER, {"Discovering": Variant("b", True)})

    def stop_discovery(self, sender: str) -> None:
        """StopDiscovery of one client."""
        self._ready()
        if sender not in self.sessions:
            raise BluezError("Failed", "No discovery started")
        del self.sessions[sender]
        if self.room.faults.strikes("stop_in_progress") is not None:
            raise BluezError("InProgress", "Operation already in progress")
        if not self.sessions:
            self._end_discovery()

    def set_filter(self, sender: str, wanted: dict[str, Variant]) -> None:
        """SetDiscoveryFilter of one client; an empty one takes it back."""
        self._ready()
        uuids = frozenset(uuid128(str(uuid)) for uuid in wanted["UUIDs"].value) if "UUIDs" in wanted else frozenset[str]()
        rssi = int(wanted["RSSI"].value) if "RSSI" in wanted else -128
        self.filters[sender] = Filter(uuids, rssi, bool(wanted["DuplicateData"].value) if "DuplicateData" in wanted else True)
        if sender in self.sessions:
            self.sessions[sender] = self.filters[sender]

    def hear(self, peripheral: Peripheral) -> None:
        """An advertisement of a peripheral arrives here."""
        if not self.powered or self.name not in peripheral.rssi_dbm:
            return
        rssi = peripheral.heard_dbm(self.name)
        asking = [one for one in self.sessions.values() if one.lets(peripheral, rssi)]
        monitors = [one for one in self.monitors.values() if one.lets(peripheral)]
        device = self._known(peripheral)
        if not asking and not monitors:
            return
        if device is None:
            device = self.devices[peripheral.address] = Device(self, peripheral)
        else:
            device.seen(rssi, always=any(one.duplicates for one in asking))
        for monitor in monitors:
            if device.path not in monitor.told:
                monitor.told.add(device.path)
                self.room.tell_monitor(monitor, device.path)

    def forget_old(self, now_s: float) -> None:
        """Remove what is neither linked nor paired and was not heard for `forget_s`."""
        for device in list(self.devices.values()):
            waits = device.connected or device.connecting is not None or device.paired
            if not waits and now_s - device.seen_s > self.room.timing.forget_s:
                self.remove(device)

    def remove(self, device: Device) -> None:
        """The device object goes."""
        del self.devices[device.address]
        for monitor in self.monitors.values():
            monitor.told.discard(device.path)
        device.forget()

    def remove_path(self, path: str) -> None:
        """RemoveDevice."""
        device = next((one for one in self.devices.values() if one.path == path), None)
        if device is None:
            raise BluezError("DoesNotExist", "Does Not Exist")
        self.remove(device)

    def client_left(self, sender: str) -> None:
        """A D-Bus connection is gone: its sessions, filters, monitors and subscriptions go too."""
        self.filters.pop(sender, None)
        if self.sessions.pop(sender, None) is not None and not self.sessions:
            self._end_discovery()
        for key in [key for key in self.monitors if key[0] == sender]:
            del self.monitors[key]
        for device in self.devices.values():
            device.client_left(sender)

    # links

    @asynccontextmanager
    async def connecting(self, device: Device) -> AsyncGenerator[None]:
        """The one connect this adapter can have under way, within its slots."""
        self._ready()
        if self._busy is not None:
            self.overlaps += 1
            raise BluezError("InProgress", "Operation already in progress")
        if self.linked >= self.slots:
            raise BluezError("Failed", "le-connection-concurrent-connection-limit")
        self._busy = device
        try:
            yield
        finally:
            self._busy = None

    def _known(self, peripheral: Peripheral) -> Device | None:
        """The object of a peripheral: by its address, or by its identity when it is paired and has rotated."""
        by_address = self.devices.get(peripheral.address)
        if by_address is not None:
            return by_address
        return next((one for one in self.devices.values() if one.peripheral is peripheral and one.paired), None)

    def _ready(self) -> None:
        if not self.powered:
            raise BluezError("NotReady", "Resource Not Ready")

    def _end_discovery(self) -> None:
        self.sessions.clear()
        if self.plugged and self.tree.get(self.path, ADAPTER, "Discovering"):
            for device in self.devices.values():
                if "RSSI" in self.tree.properties(device.path, DEVICE):
                    device.unseen()
            self.tree.set(self.path, ADAPTER, {"Discovering": Variant("b", False)})
