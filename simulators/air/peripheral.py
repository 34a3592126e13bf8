"""One virtual sensor as a Bluetooth device: its table as a GATT server, its reports as notifications, its advertisement, its link.

Same truth as in the virtual daemon: what a subscribed central was sent is written to the journal first. Times are seconds of the room.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from functools import partial
from typing import Final

from bumble.att import ATT_Error, Attribute, AttributeValue
from bumble.controller import Controller
from bumble.core import UUID
from bumble.device import Connection, Device
from bumble.gatt import Characteristic as GattCharacteristic
from bumble.gatt import Service as GattService
from bumble.hci import Address
from bumble.host import Host

from simulators.air.link import AirLink
from simulators.bluez.journal import Journal
from simulators.bluez.peripheral import Peripheral
from simulators.sensors.sensor import Characteristic, Report

log = logging.getLogger(__name__)

_ADAPTER: Final = "air"
_P = GattCharacteristic.Properties
_PROPERTIES: Final = {
    "read": _P.READ,
    "write": _P.WRITE,
    "write-without-response": _P.WRITE_WITHOUT_RESPONSE,
    "notify": _P.NOTIFY,
    "indicate": _P.INDICATE,
}
_CONNECTION_TERMINATED_BY_USER: Final = 0x13


class AirPeripheral:
    """`await start()`, then `await say(sensor.take(now))` as time passes."""

    def __init__(self, link: AirLink, about: Peripheral, journal: Journal, now_s: Callable[[], float]) -> None:
        self.about = about
        self._journal = journal
        self._now_s = now_s
        self._attributes: dict[str, GattCharacteristic[bytes]] = {}
        self._waiting: list[Report] = []
        controller = Controller(about.address, link=link)
        self.device = Device(name=about.name, address=Address(about.address), host=Host(controller, controller))
        for service in about.sensor.services:
            made = [self._characteristic(one) for one in service.characteristics]
            self.device.add_service(GattService(UUID(service.uuid), made))
        self.device.on("connection", self._connected)

    async def start(self) -> None:
        """Switch it on."""
        await self.device.power_on()
        await self.advertise()

    async def advertise(self) -> None:
        """Advertise until linked, and again when the link is gone."""
        data = b"".join(bytes([len(value) + 1, kind]) + value for kind, value in self.about.advertising_data().items())
        interval_ms = self.about.advertise_s * 1000
        await self.device.start_advertising(
            auto_restart=True, advertising_data=data, advertising_interval_min=interval_ms, advertising_interval_max=interval_ms
        )

    @property
    def links(self) -> list[Connection]:
        """Its connections."""
        return list(self.device.connections.values())

    def subscribed(self) -> list[str]:
        """UUIDs that somebody subscribed to."""
        handles = {handle for table in self.device.gatt_server.subscribers.values() for handle, cccd in table.items() if any(cccd)}
        return [uuid for uuid, attribute in self._attributes.items() if attribute.handle in handles]

    async def take(self) -> None:
        """Say what is due by now, and what writes left to be said."""
        waiting, self._waiting = self._waiting, []
        await self.say([*waiting, *self.about.sensor.take(self._now_s())])

    async def say(self, reports: Sequence[Report]) -> int:
        """Send reports to whoever subscribed: how many went out. On the air the others are never sent."""
        subscribed = set(self.subscribed()) if reports and self._now_s() >= self.about.silent_until_s else set[str]()
        sent = 0
        for report in reports:
            if report.uuid not in subscribed:
                continue
            attribute = self._attributes[report.uuid]
            self._journal.write(self.about.address, _ADAPTER, report)
            sent += 1
            if attribute.properties & _P.NOTIFY:
                await self.device.notify_subscribers(attribute, report.payload)
            else:
                await self.device.indicate_subscribers(attribute, report.payload)
        return sent

    async def drop(self) -> int:
        """Lose the link: how many there were."""
        links = self.links
        for connection in links:
            await connection.disconnect(_CONNECTION_TERMINATED_BY_USER)
        return len(links)

    async def switch(self, *, on: bool) -> None:
        """Battery in or out."""
        self.about.on = on
        if on:
            await self.advertise()
        else:
            await self.device.stop_advertising()
            await self.drop()

    def _characteristic(self, about: Characteristic) -> GattCharacteristic[bytes]:
        properties = _P(0)
        for flag in about.flags:
            properties |= _PROPERTIES[flag]
        kinds = Attribute.Permissions
        permissions = kinds.READABLE | kinds.WRITEABLE
        if about.encrypted:
            permissions |= kinds.READ_REQUIRES_ENCRYPTION | kinds.WRITE_REQUIRES_ENCRYPTION
        value = AttributeValue[bytes](read=partial(self._read, about.uuid), write=partial(self._write, about.uuid))
        made = GattCharacteristic[bytes](UUID(about.uuid), properties, permissions, value)
        self._attributes[about.uuid] = made
        return made

    def _read(self, uuid: str, _connection: Connection) -> bytes:
        return self.about.sensor.read(uuid) or b""

    def _write(self, uuid: str, _connection: Connection, payload: bytes) -> None:
        written = self.about.sensor.write(uuid, payload, self._now_s())
        if written.error:
            raise ATT_Error(written.error)
        self._waiting += written.reports  # they follow the answer to the write

    def _connected(self, connection: Connection) -> None:
        self.about.linked_to = _ADAPTER
        self._waiting += self.about.sensor.linked(up=True, now_s=self._now_s())
        connection.on("disconnection", self._disconnected)

    def _disconnected(self, _reason: int) -> None:
        self.about.linked_to = ""
        self._waiting += self.about.sensor.linked(up=False, now_s=self._now_s())
