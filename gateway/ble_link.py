"""One link to one sensor: connect, learn who it is, subscribe, hand on what it says, and end. The thin shell around a bleak client.

`run` goes through the whole life and says why it ended; it raises nothing but its cancellation. The client object is dropped whatever
happened: a later notification of it is counted and thrown away, so a beat comes once, over the newest link. The connect has two limits: the
link itself must stand soon (a strap that another box took just now never answers), resolving the services may take longer.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable
from contextlib import suppress
from dataclasses import dataclass, field
from functools import partial
from typing import Final, Protocol

from bleak import BleakClient
from bleak.backends.characteristic import BleakGATTCharacteristic
from bleak.backends.device import BLEDevice

from device_profiles.catalogue import Catalogue
from device_profiles.profile import Profile
from device_profiles.reader import Reader
from device_profiles.samples import Identity, Sample
from gateway.ble_control import BASE, CONTROL_POINT, FEC_IN, FEC_OUT, STATUS, TRAINING_STATUS, FecControl, FtmsControl, characteristic_of
from gateway.ble_faults import Fault, LinkEndedError, Meaning, fault_of
from gateway.ble_silence import Silence, Step, allowed_us
from gateway.bounded import bounded
from gateway.clock import Instant
from gateway.controllable import ControlLink
from gateway.ftms import TREADMILL_DATA

log = logging.getLogger(__name__)

READ_S: Final = 5.0
SUBSCRIBE_S: Final = 10.0
DISCONNECT_S: Final = 5.0
BATTERY_EVERY_US: Final = 600_000_000
BATTERY: Final = BASE.format("2a19")
_IDENTITY: Final = {"manufacturer": "2a29", "model": "2a24", "serial": "2a25", "hardware": "2a27", "firmware": "2a26"}
_ENDS: Final = frozenset({Meaning.LOST, Meaning.GONE, Meaning.DAEMON, Meaning.ADAPTER, Meaning.PAIRING})


@dataclass(slots=True)
class Memory:
    """What the box keeps of a device from link to link."""

    identity: Identity | None = None
    readers: dict[str, Reader] = field(default_factory=dict[str, Reader])
    battery_pct: int | None = None
    renewed: bool = False
    device: str = ""  # the id it had on its last link over this address


@dataclass(frozen=True, slots=True)
class Limits:
    """How long a connect may take: the link itself, then its services."""

    link_s: float = 4.0
    resolve_s: float = 20.0


@dataclass(frozen=True, slots=True)
class Ended:
    """Why a link ended. `up`: it stood before."""

    fault: Fault
    up: bool


class LinkOwner(Protocol):
    """What a link tells and asks; every call is quick. The source is one."""

    def has_link(self, path: str) -> Awaitable[bool]:
        """Whether BlueZ has a link to the device."""
        ...

    def name_of(self, link: SensorLink, identity: Identity) -> str:
        """The id of the device, now that it said who it is."""
        ...

    def is_up(self, link: SensorLink) -> None:
        """The connect is done: the adapter is free for the next one."""
        ...

    def took(self, link: SensorLink, samples: list[Sample], arrival_us: int) -> None:
        """Data came; `samples` may be empty."""
        ...

    def controls(self, link: SensorLink, control: ControlLink) -> None:
        """The machine may be written to."""
        ...

    def told(self, link: SensorLink, what: int, payload: bytes) -> None:
        """The machine said something about its control."""
        ...


class SensorLink:
    """See the module. `memory` is what is known of the device from before, and is brought up to date."""

    def __init__(
        self,
        device: BLEDevice,
        adapter: str,
        memory: Memory,
        owner: LinkOwner,
        catalogue: Catalogue,
        *,
        clock: Callable[[], Instant],
        limits: Limits,
    ) -> None:
        self.address = device.address
        self.adapter = adapter
        self.memory = memory
        self.device = ""  # the id, once the device said who it is
        self.profiles: tuple[str, ...] = ()
        self.last_us = 0
        self.packets = 0
        self.late = 0
        self.control: ControlLink | None = None
        self._ble = device
        self._owner = owner
        self._catalogue = catalogue
        self._clock = clock
        self._limits = limits
        self._client = BleakClient(device, disconnected_callback=self._disconnected, bluez={"adapter": adapter})
        self._down = asyncio.Event()
        self._why = Fault(Meaning.LOST, "link lost")
        self._up = False
        self._closing = False
        self._closed = False
        self._silence = Silence(0, 0)
        self._battery_us: int | None = None

    async def run(self) -> Ended:
        """The whole life of the link."""
        try:
            await self._connect()
            self._up = True
            self._owner.is_up(self)
            await self._set_up()
            fault = await self._watch()
        except Exception as error:
            fault = self._why if self._down.is_set() else fault_of(error)
            if fault.meaning is Meaning.FAILED:
                log.debug("%s over %s", self.address, self.adapter, exc_info=error)
        finally:
            try:
                await self._close()  # what it says until the link is down still counts
            finally:
                self._closed = True
        return Ended(fault, self._up)

    def drop(self, fault: Fault) -> None:
        """End the link: whoever calls knows that it is dead."""
        if not self._down.is_set():
            self._why = fault
            self._down.set()

    @property
    def alive(self) -> bool:
        """Whether it stands and nobody dropped it."""
        return self._up and not self._closing and not self._down.is_set()

    async def _connect(self) -> None:
        connecting = asyncio.ensure_future(bounded(self._client.connect(), self._limits.link_s + self._limits.resolve_s))
        dropped = asyncio.ensure_future(self._down.wait())
        try:
            await asyncio.wait({connecting, dropped}, timeout=self._limits.link_s, return_when=asyncio.FIRST_COMPLETED)
            if not connecting.done() and not dropped.done():
                if not await self._owner.has_link(self._ble.details["path"]):
                    raise TimeoutError
                await asyncio.wait({connecting, dropped}, return_when=asyncio.FIRST_COMPLETED)
            if dropped.done():
                raise LinkEndedError(self._why)
            await connecting
        finally:
            dropped.cancel()
            if not connecting.done():
                connecting.cancel()
                await asyncio.wait({connecting})
            if not connecting.cancelled():
                connecting.exception()  # seen: what is raised above says more

    async def _set_up(self) -> None:
        """Who it is, then what it measures, then the rest."""
        identity = self.memory.identity
        if identity is None:
            identity = self.memory.identity = await self._identify()
        self.device = self._owner.name_of(self, identity)
        periods: list[int] = []
        names: list[str] = []
        for characteristic in self._client.services.characteristics.values():
            profile = self._catalogue.ble(characteristic.uuid)
            if profile is not None and profile.layout and characteristic.uuid != BATTERY and _notifies(characteristic):
                reader = self._reader(profile, identity)
                if await self._subscribe(characteristic, partial(self._notified, reader)):
                    periods.append(profile.period_ms)
                    names.append(profile.name)
        if not names:
            raise LinkEndedError(Fault(Meaning.REFUSED, "offers nothing that a profile reads"))
        self.profiles = tuple(dict.fromkeys(names))
        now_us = self._clock().mono_us
        self._silence = Silence(allowed_us(tuple(periods)), now_us, self.memory.renewed)
        self.last_us = max(self.last_us, now_us)
        await self._set_up_control()
        await self._read_battery(subscribe=True)

    async def _set_up_control(self) -> None:
        services = self._client.services
        point, out = characteristic_of(services, CONTROL_POINT), characteristic_of(services, FEC_OUT)
        lost = partial(self._lost_in_command)
        if point is not None:
            ftms = FtmsControl(self._client, point, lost, self.memory.identity)
            for uuid in (STATUS, TRAINING_STATUS):
                status = characteristic_of(services, uuid)
                if status is not None and _notifies(status):
                    await self._subscribe(status, partial(self._status, int(uuid[4:8], 16)))
            try:
                await ftms.subscribe()
            except Exception as error:
                if fault_of(error).meaning in _ENDS:
                    raise
                log.warning("%s: cannot be controlled: %s", self.device, fault_of(error).text)
                return
            self.control = ftms
        elif out is not None:
            self.control = FecControl(self._client, out, lost, lambda what, page: self._owner.told(self, what, page), self.memory.identity)
        if self.control is not None:
            self._owner.controls(self, self.control)

    async def _watch(self) -> Fault:
        """Until the link is down, or too silent."""
        while True:
            now_us = self._clock().mono_us
            due_us = self._silence.deadline_us
            if self._battery_us is not None:
                due_us = min(due_us, self._battery_us)
            with suppress(TimeoutError):
                async with asyncio.timeout(max(due_us - now_us, 0) / 1e6):
                    await self._down.wait()
            if self._down.is_set():
                return self._why
            now_us = self._clock().mono_us
            if self._battery_us is not None and now_us >= self._battery_us:
                await self._read_battery()
            step = self._silence.step(now_us)
            if step is Step.RENEW:
                self.memory.renewed = True
                return Fault(Meaning.LOST, "silent although its link stood: connected anew")
            if step is Step.PROBE:
                await self._probe()
                self._silence.answered(self._clock().mono_us)

    async def _probe(self) -> None:
        """Read something. A link that cannot is dead: the exception ends it."""
        readable = [c for c in self._client.services.characteristics.values() if "read" in c.properties]
        chosen = next((c for c in readable if c.uuid == BATTERY), readable[0] if readable else None)
        if chosen is None:
            raise LinkEndedError(Fault(Meaning.LOST, "silent, and nothing can be read from it"))
        try:
            await bounded(self._client.read_gatt_char(chosen), READ_S)
        except Exception as error:
            if fault_of(error).meaning is not Meaning.REFUSED:
                raise

    # reading and hearing

    async def _identify(self) -> Identity:
        words: dict[str, str] = {}
        for name, short in _IDENTITY.items():
            raw = await self._read(BASE.format(short))
            words[name] = raw.split(b"\0")[0].decode("utf-8", "replace").strip()[:64]
        return Identity(name=self._ble.name or "", **words)

    async def _read_battery(self, *, subscribe: bool = False) -> None:
        characteristic = characteristic_of(self._client.services, BATTERY)
        profile = self._catalogue.ble(BATTERY)
        if characteristic is None or profile is None:
            return
        reader = self._reader(profile, self.memory.identity)
        if subscribe and _notifies(characteristic) and await self._subscribe(characteristic, partial(self._battery, reader)):
            self._battery_us = None
        else:
            self._battery_us = self._clock().mono_us + BATTERY_EVERY_US
        payload = await self._read(BATTERY)
        if payload and not (subscribe and self.memory.battery_pct == payload[0]):
            self._battery(reader, characteristic, bytearray(payload))

    async def _read(self, uuid: str) -> bytes:
        """The value, empty when there is none, it is refused, or the device answers with nothing (some do)."""
        characteristic = characteristic_of(self._client.services, uuid)
        if characteristic is None or "read" not in characteristic.properties:
            return b""
        try:
            return bytes(await bounded(self._client.read_gatt_char(characteristic), READ_S))
        except Exception as error:
            if self._down.is_set() or fault_of(error).meaning in _ENDS - {Meaning.PAIRING}:
                raise
            return b""

    async def _subscribe(
        self, characteristic: BleakGATTCharacteristic, callback: Callable[[BleakGATTCharacteristic, bytearray], None]
    ) -> bool:
        """False when this characteristic refuses although the link stands."""
        try:
            await bounded(self._client.start_notify(characteristic, callback), SUBSCRIBE_S)
        except Exception as error:
            fault = fault_of(error)
            if self._down.is_set() or fault.meaning in _ENDS or fault.meaning is Meaning.SLOW:
                raise
            log.info("%s: %s cannot be subscribed: %s", self.address, characteristic.uuid, fault.text)
            return False
        return True

    def _reader(self, profile: Profile, identity: Identity | None) -> Reader:
        reader = self.memory.readers.get(profile.key)
        if reader is None:
            reader = self.memory.readers[profile.key] = Reader(profile, identity)
        return reader

    def _notified(self, reader: Reader, characteristic: BleakGATTCharacteristic, payload: bytearray) -> None:
        if self._closed:
            self.late += 1
            return
        now_us = self._clock().mono_us
        self.last_us = now_us
        self.packets += 1
        self.memory.renewed = False
        self._silence.heard(now_us)
        self._owner.took(self, reader.feed(bytes(payload), now_us), now_us)
        if isinstance(self.control, FecControl) and characteristic.uuid == FEC_IN:
            self.control.heard(bytes(payload))
        elif isinstance(self.control, FtmsControl) and characteristic.uuid == BASE.format(f"{TREADMILL_DATA:04x}"):
            self._owner.told(self, TREADMILL_DATA, bytes(payload))  # how fast the belt is: a ramp begins there

    def _battery(self, reader: Reader, _: BleakGATTCharacteristic, payload: bytearray) -> None:
        if self._closed or not payload:
            return
        if payload[0] <= 100:
            self.memory.battery_pct = payload[0]
        now_us = self._clock().mono_us
        self._owner.took(self, reader.feed(bytes(payload), now_us), now_us)

    def _status(self, what: int, _: BleakGATTCharacteristic, payload: bytearray) -> None:
        if not self._closed:
            self._owner.told(self, what, bytes(payload))

    def _disconnected(self, _: BleakClient) -> None:
        self.drop(Fault(Meaning.LOST, "link lost"))

    def _lost_in_command(self, text: str) -> None:
        self.drop(Fault(Meaning.LOST, text))

    async def _close(self) -> None:
        self._closing = True
        try:
            await bounded(self._client.disconnect(), DISCONNECT_S)
        except Exception as error:
            log.debug("%s: leaving: %s", self.address, fault_of(error).text)


def _notifies(characteristic: BleakGATTCharacteristic) -> bool:
    return "notify" in characteristic.properties or "indicate" in characteristic.properties
