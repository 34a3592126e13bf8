"""One Device1 of one adapter: link, services, notifications, pairing, as BlueZ 5.66 shows them on D-Bus.

Services appear when they are first resolved and stay until the device object goes (BlueZ's cache). A subscription belongs to the D-Bus
connection that asked for it: it ends when that connection leaves the bus, and comes alive again when the link is back before that.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import socket
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final

from dbus_fast import Variant

from simulators.bluez.peripheral import Peripheral
from simulators.bluez.tree import CHARACTERISTIC, DESCRIPTOR, DEVICE, SERVICE, BluezError, unknown_object
from simulators.sensors.sensor import ATT_CCCD_IMPROPER, ATT_OK, ATT_UNLIKELY, Characteristic, Report, uuid128

if TYPE_CHECKING:
    from simulators.bluez.adapter import Adapter

CCCD: Final = uuid128("2902")
MTU: Final = 247
DROP_DELAY_S: Final = 0.02  # from an ATT failure to the loss of the link


@dataclass(slots=True)
class Attribute:
    """A characteristic on the bus, and who is told its value."""

    path: str
    about: Characteristic
    subscribers: set[str] = field(default_factory=set[str])
    socket: socket.socket | None = None


def att_error(code: int) -> BluezError:
    """How BlueZ words an ATT error."""
    return BluezError("Failed", f"Operation failed with ATT error: 0x{code:02x} (Protocol error)")


class Device:
    """A device an adapter knows."""

    def __init__(self, adapter: Adapter, peripheral: Peripheral) -> None:
        self.adapter = adapter
        self.peripheral = peripheral
        self.address = peripheral.address
        self.path = f"{adapter.path}/dev_{self.address.replace(':', '_')}"
        self.attributes: dict[str, Attribute] = {}
        self.seen_s = adapter.room.now_s()
        self.gone = False  # its object was removed; whoever still holds it finds it unlinked
        self.connecting: asyncio.Task[None] | None = None
        self._resolving: asyncio.Task[None] | None = None
        self._resolved_once = False
        adapter.tree.add(self.path, {DEVICE: self._properties()})

    @property
    def connected(self) -> bool:
        return not self.gone and bool(self.adapter.tree.get(self.path, DEVICE, "Connected"))

    @property
    def paired(self) -> bool:
        return not self.gone and bool(self.adapter.tree.get(self.path, DEVICE, "Paired"))

    def seen(self, rssi_dbm: int, *, always: bool) -> None:
        """An advertisement was heard. BlueZ tells a new RSSI only when it moved by 8 dB, or to a client that wants every one (`always`)."""
        self.seen_s = self.adapter.room.now_s()
        known = self.adapter.tree.properties(self.path, DEVICE).get("RSSI")
        if known is None or always or abs(int(known.value) - rssi_dbm) >= 8:
            self.adapter.tree.set(self.path, DEVICE, {"RSSI": Variant("n", rssi_dbm)})

    def unseen(self) -> None:
        """The scan ended: BlueZ drops the RSSI."""
        self.adapter.tree.set(self.path, DEVICE, {}, ["RSSI", "TxPower"])

    # the link

    async def connect(self) -> None:
        """Connect: returns when the link is up; services follow by themselves. BluezError says why not."""
        if self.connected:
            return
        if self.connecting is not None:
            raise BluezError("InProgress", "Operation already in progress")
        self.connecting = asyncio.create_task(self._connect())
        try:
            await self.connecting
        except asyncio.CancelledError:
            raise BluezError("Failed", "le-connection-abort-by-local") from None
        finally:
            self.connecting = None

    async def disconnect(self) -> None:
        """Disconnect, or give up a Connect that is under way."""
        if self.connecting is not None:
            self.connecting.cancel()
        elif self.connected:
            await asyncio.sleep(self.adapter.room.timing.disconnect_s)
            self.lose()

    def lose(self) -> None:
        """The link is gone, for whatever reason."""
        if self._resolving is not None:
            self._resolving.cancel()
            self._resolving = None
        if not self.connected:
            return
        self.seen_s = self.adapter.room.now_s()
        self.peripheral.linked_to = ""
        self.peripheral.next_advertisement_s = self.seen_s + self.peripheral.advertise_s
        for attribute in self.attributes.values():
            self._close_socket(attribute)
        self.peripheral.sensor.linked(False, self.seen_s)
        self.adapter.tree.set(self.path, DEVICE, {"ServicesResolved": Variant("b", False), "Connected": Variant("b", False)})

    def forget(self) -> None:
        """Remove the object and all below it."""
        self.lose()
        if self.connecting is not None:
            self.connecting.cancel()
        for path in [path for path in self.adapter.tree.objects if path.startswith(f"{self.path}/")][::-1]:
            self.adapter.tree.remove(path)
        self.adapter.tree.remove(self.path)
        self.gone = True

    async def pair(self, passkey: int | None) -> None:
        """Pair (and connect first). `passkey` is what the client's agent said, None when there is no agent."""
        if self.paired:
            raise BluezError("AlreadyExists", "Already Exists")
        if not self.connected:
            await self.connect()
        await asyncio.sleep(self.adapter.room.timing.pair_s)
        if self.gone:
            raise unknown_object(self.path)
        wrong = bool(self.peripheral.passkey) and passkey != int(self.peripheral.passkey)
        if wrong or self.adapter.room.faults.strikes("pair_refused", self.address) is not None:
            raise BluezError("AuthenticationFailed", "Authentication Failed")
        self.adapter.tree.set(self.path, DEVICE, {"Paired": Variant("b", True), "Bonded": Variant("b", True)})

    async def _connect(self) -> None:
        room, faults = self.adapter.room, self.adapter.room.faults
        if faults.strikes("in_progress", self.address) is not None:
            raise BluezError("InProgress", "Operation already in progress")
        async with self.adapter.connecting(self):
            hang_s = faults.strikes("hang_connect", self.address)
            hidden = self.peripheral.address != self.address and not self.paired  # it has rotated
            if hang_s is not None or hidden or not self.peripheral.advertises():
                await asyncio.sleep(room.timing.page_s if hang_s is None else hang_s)
                raise BluezError("Failed", "le-connection-unknown")
            await asyncio.sleep(room.timing.connect_s)
            if faults.strikes("connect_fails", self.address) is not None or not self.peripheral.advertises():
                raise BluezError("Failed", "le-connection-unknown")
            if faults.strikes("abort_by_local", self.address) is not None:
                self.adapter.tree.set(self.path, DEVICE, {"Connected": Variant("b", True)})
                room.later(DROP_DELAY_S, self.lose)
                raise BluezError("Failed", "le-connection-abort-by-local")
            self.peripheral.linked_to = self.adapter.name
            self.adapter.tree.set(self.path, DEVICE, {"Connected": Variant("b", True)})
            self.say(self.peripheral.sensor.linked(True, room.now_s()))
            self._resolving = asyncio.create_task(self._resolve())

    async def _resolve(self) -> None:
        room = self.adapter.room
        slow_s = room.faults.strikes("slow_resolve", self.address)
        await asyncio.sleep(room.timing.resolve_s if slow_s is None else slow_s)
        if room.faults.strikes("drop_in_resolve", self.address) is not None:
            self._resolving = None
            self.lose()
            return
        if not self._resolved_once:
            self._add_services()
            self._resolved_once = True
        uuids = [service.uuid for service in self.peripheral.sensor.services]
        self.adapter.tree.set(self.path, DEVICE, {"UUIDs": Variant("as", uuids), "ServicesResolved": Variant("b", True)})
        self._resolving = None

    # attributes

    def say(self, reports: Iterable[Report]) -> None:
        """Hand reports to whom they are for; what nobody subscribed to is not sent, as on the air."""
        room = self.adapter.room
        if room.now_s() < self.peripheral.silent_until_s:
            return
        by_uuid = {attribute.about.uuid: attribute for attribute in self.attributes.values()}
        for report in reports:
            attribute = by_uuid.get(report.uuid)
            if attribute is None or not self.connected or not (attribute.subscribers or attribute.socket):
                continue
            room.journal.write(self.address, self.adapter.name, report)
            if attribute.subscribers:
                self.adapter.tree.set(attribute.path, CHARACTERISTIC, {"Value": Variant("ay", report.payload)})
            if attribute.socket is not None:
                try:
                    attribute.socket.send(report.payload)
                except OSError:
                    self._close_socket(attribute)

    async def read(self, path: str) -> bytes:
        """ReadValue of a characteristic, or of its CCCD."""
        attribute = self._attribute(path)
        await asyncio.sleep(self.adapter.room.timing.att_s)
        self._allowed(attribute, "read", "Read not permitted")
        if self.adapter.room.faults.strikes("unlikely_in_read", self.address) is not None:
            self.adapter.room.later(DROP_DELAY_S, self.lose)
            raise att_error(ATT_UNLIKELY)
        return self.peripheral.sensor.read(attribute.about.uuid) or b""

    async def write(self, path: str, payload: bytes) -> None:
        """WriteValue."""
        attribute, room = self._attribute(path), self.adapter.room
        if room.faults.strikes("busy_write", self.address) is not None:
            raise BluezError("InProgress", "Operation already in progress")
        await asyncio.sleep(room.timing.att_s)
        self._allowed(attribute, "write", "Write not permitted")
        if {"write", "indicate"} <= set(attribute.about.flags) and not attribute.subscribers:
            raise att_error(ATT_CCCD_IMPROPER)  # a control point that could not answer
        if room.faults.strikes("unlikely_in_write", self.address) is not None:
            room.later(DROP_DELAY_S, self.lose)
            raise att_error(ATT_UNLIKELY)
        written = self.peripheral.sensor.write(attribute.about.uuid, payload, room.now_s())
        if written.error != ATT_OK:
            raise att_error(written.error)
        room.later(0.0, lambda: self.say(written.reports))
        room.wake()

    async def start_notify(self, path: str, sender: str) -> None:
        """StartNotify for one D-Bus connection."""
        attribute = self._attribute(path)
        self._notifies(attribute)
        if sender in attribute.subscribers:
            raise BluezError("InProgress", "Operation already in progress")
        await asyncio.sleep(self.adapter.room.timing.att_s)
        if self.adapter.room.faults.strikes("notify_refused", self.address) is not None:
            raise att_error(ATT_UNLIKELY)
        self._allowed(attribute, "", "")
        attribute.subscribers.add(sender)
        self.adapter.tree.set(attribute.path, CHARACTERISTIC, {"Notifying": Variant("b", True)})

    def stop_notify(self, path: str, sender: str) -> None:
        """StopNotify for one D-Bus connection."""
        attribute = self._attribute(path)
        if sender not in attribute.subscribers:
            raise BluezError("Failed", "No notify session started")
        self._unsubscribe(attribute, sender)

    def acquire_notify(self, path: str) -> int:
        """AcquireNotify: a file descriptor the caller owns; one message on it is one notification."""
        attribute = self._attribute(path)
        self._notifies(attribute)
        if attribute.subscribers or attribute.socket is not None:
            raise BluezError("NotPermitted", "Notify acquired")
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        ours.setblocking(False)
        attribute.socket = ours
        asyncio.get_running_loop().add_reader(ours.fileno(), self._close_socket, attribute)
        self.adapter.tree.set(attribute.path, CHARACTERISTIC, {"NotifyAcquired": Variant("b", True)})
        return theirs.detach()

    def client_left(self, sender: str) -> None:
        """A D-Bus connection is gone, and its subscriptions with it."""
        for attribute in self.attributes.values():
            if sender in attribute.subscribers:
                self._unsubscribe(attribute, sender)

    def _unsubscribe(self, attribute: Attribute, sender: str) -> None:
        attribute.subscribers.discard(sender)
        if not attribute.subscribers:
            self.adapter.tree.set(attribute.path, CHARACTERISTIC, {"Notifying": Variant("b", False)})

    def _close_socket(self, attribute: Attribute) -> None:
        if attribute.socket is None:
            return
        gone, attribute.socket = attribute.socket, None
        asyncio.get_running_loop().remove_reader(gone.fileno())
        gone.close()
        if attribute.path in self.adapter.tree.objects:
            self.adapter.tree.set(attribute.path, CHARACTERISTIC, {"NotifyAcquired": Variant("b", False)})

    def _attribute(self, path: str) -> Attribute:
        attribute = self.attributes.get(path.split("/desc", maxsplit=1)[0])
        if attribute is None:
            raise BluezError("org.freedesktop.DBus.Error.UnknownObject", f"Unknown object '{path}'")
        if not self.connected:
            raise BluezError("Failed", "Not connected")
        return attribute

    def _allowed(self, attribute: Attribute, flag: str, text: str) -> None:
        if not self.connected:
            raise BluezError("Failed", "Not connected")
        if flag and not any(one.split("-")[0] == flag for one in attribute.about.flags):
            raise BluezError("NotPermitted", text)
        if attribute.about.encrypted and not self.paired:
            raise BluezError("NotPermitted", "Not paired")

    @staticmethod
    def _notifies(attribute: Attribute) -> None:
        if not {"notify", "indicate"} & set(attribute.about.flags):
            raise BluezError("NotSupported", "Operation is not supported")

    def _add_services(self) -> None:
        handle = 0x0010
        for service in self.peripheral.sensor.services:
            service_path = f"{self.path}/service{handle:04x}"
            about = {"UUID": Variant("s", service.uuid), "Device": Variant("o", self.path), "Primary": Variant("b", True)}
            self.adapter.tree.add(service_path, {SERVICE: {**about, "Includes": Variant("ao", [])}})
            handle += 1
            for characteristic in service.characteristics:
                handle = self._add_characteristic(service_path, characteristic, handle)

    def _add_characteristic(self, service_path: str, characteristic: Characteristic, handle: int) -> int:
        path = f"{service_path}/char{handle:04x}"
        self.attributes[path] = Attribute(path, characteristic)
        notifies = {"notify", "indicate"} & set(characteristic.flags)
        properties = {
            "UUID": Variant("s", characteristic.uuid),
            "Service": Variant("o", service_path),
            "Flags": Variant("as", list(characteristic.flags)),
            "MTU": Variant("q", MTU),
            **({"Notifying": Variant("b", False), "NotifyAcquired": Variant("b", False)} if notifies else {}),
        }
        self.adapter.tree.add(path, {CHARACTERISTIC: properties})
        if notifies:
            about = {"UUID": Variant("s", CCCD), "Characteristic": Variant("o", path)}
            self.adapter.tree.add(f"{path}/desc{handle + 2:04x}", {DESCRIPTOR: about})
        return handle + (3 if notifies else 2)

    def _properties(self) -> dict[str, Variant]:
        peripheral = self.peripheral
        named = {"Name": Variant("s", peripheral.name)} if peripheral.name else {}
        manufacturer = {company: Variant("ay", data) for company, data in peripheral.manufacturer_data.items()}
        data = {uuid: Variant("ay", value) for uuid, value in peripheral.service_data.items()}
        return {
            **named,
            "Address": Variant("s", peripheral.address),
            "AddressType": Variant("s", peripheral.address_type),
            "Alias": Variant("s", peripheral.name or peripheral.address.replace(":", "-")),
            "Adapter": Variant("o", self.adapter.path),
            "UUIDs": Variant("as", list(peripheral.sensor.advertised)),
            "Paired": Variant("b", False),
            "Bonded": Variant("b", False),
            "Trusted": Variant("b", False),
            "Blocked": Variant("b", False),
            "LegacyPairing": Variant("b", False),
            "Connected": Variant("b", False),
            "ServicesResolved": Variant("b", False),
            "RSSI": Variant("n", peripheral.heard_dbm(self.adapter.name)),
            **({"ManufacturerData": Variant("a{qv}", manufacturer)} if manufacturer else {}),
            **({"ServiceData": Variant("a{sv}", data)} if data else {}),
        }


def close_descriptors(descriptors: Sequence[int]) -> None:
    """Close what was handed over to another process."""
    for descriptor in descriptors:
        with contextlib.suppress(OSError):
            os.close(descriptor)
