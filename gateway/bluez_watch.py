"""Our own watch of the Bluetooth daemon, on a D-Bus connection of our own: who owns org.bluez, which adapters there are, which are on.

bleak 3.1 does not notice that the daemon was killed: its links stay "connected" for ever. So `generation` grows with each daemon that
appears, and `up` says whether there is one; whoever holds links drops them when either changes. The connection is made anew when D-Bus
itself restarts. Every call has a timeout. Nothing here asks D-Bus to start a daemon.
"""

from __future__ import annotations

import asyncio
import logging
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Final

from dbus_fast import BusType, Message, MessageType, Variant, unpack_variants
from dbus_fast.aio import MessageBus

from broker.cancellation import in_own_task
from broker.errors import LinkError

log = logging.getLogger(__name__)

BLUEZ: Final = "org.bluez"
ADAPTER: Final = "org.bluez.Adapter1"
DEVICE: Final = "org.bluez.Device1"
CALL_S: Final = 5.0
POWER_S: Final = 15.0
FIRST_BACKOFF_S: Final = 0.2
LAST_BACKOFF_S: Final = 5.0
RESET_OFF_S: Final = 1.0
_BUS: Final = "org.freedesktop.DBus"
_OBJECTS: Final = "org.freedesktop.DBus.ObjectManager"
_PROPERTIES: Final = "org.freedesktop.DBus.Properties"
_RULES: Final = (
    f"type='signal',sender='{_BUS}',interface='{_BUS}',member='NameOwnerChanged',arg0='{BLUEZ}'",
    f"type='signal',sender='{BLUEZ}',interface='{_OBJECTS}'",
    f"type='signal',sender='{BLUEZ}',interface='{_PROPERTIES}',member='PropertiesChanged',arg0='{ADAPTER}'",
)


@dataclass(frozen=True, slots=True)
class AdapterSeen:
    """One adapter: its D-Bus path, its address, and whether it is on."""

    path: str
    address: str
    powered: bool


@dataclass(frozen=True, slots=True)
class DeviceSeen:
    """One device BlueZ knows."""

    path: str
    adapter: str
    address: str
    connected: bool
    uuids: tuple[str, ...]
    name: str = ""


class BluezWatch:
    """`run` until cancelled; `on_change()` is called after every change of `up`, `generation` or `adapters`."""

    def __init__(self, on_change: Callable[[], None]) -> None:
        self.up = False
        self.generation = 0
        self.adapters: dict[str, AdapterSeen] = {}
        self.departures: Counter[str] = Counter()  # how often each adapter went or was turned off, however shortly
        self.last_error = ""
        self._on_change = on_change
        self._bus: MessageBus | None = None
        self._owner = ""
        self._look = asyncio.Event()

    async def run(self) -> None:
        """Keep the watch, whatever happens to D-Bus."""
        backoff_s = FIRST_BACKOFF_S
        while True:
            generation = self.generation
            try:
                await in_own_task(self._session())
            except (OSError, EOFError, TimeoutError, LinkError) as error:
                self._complain(f"{type(error).__name__}: {error}" if str(error) else type(error).__name__)
            finally:
                self._lost()
            backoff_s = FIRST_BACKOFF_S if self.generation > generation else min(2 * backoff_s, LAST_BACKOFF_S)
            await asyncio.sleep(backoff_s)

    async def devices(self) -> list[DeviceSeen]:
        """All devices BlueZ knows now. LinkError when it does not answer."""
        found: list[DeviceSeen] = []
        for path, interfaces in (await self._objects()).items():
            about = interfaces.get(DEVICE)
            if about is not None:
                adapter = str(about.get("Adapter", "")).rsplit("/", 1)[-1]
                uuids = tuple(str(uuid).lower() for uuid in about.get("UUIDs", ()))
                named, linked = str(about.get("Name", "")), bool(about.get("Connected"))
                found.append(DeviceSeen(path, adapter, str(about.get("Address", "")), linked, uuids, named))
        return found

    async def is_connected(self, path: str) -> bool:
        """Whether the device has a link; False too when BlueZ does not know it. LinkError when nobody answers."""
        reply = await self._ask(path, _PROPERTIES, "Get", "ss", [DEVICE, "Connected"])
        return reply.message_type == MessageType.METHOD_RETURN and bool(unpack_variants(reply.body[0]))

    async def disconnect(self, path: str) -> None:
        """End the link of a device, or a connect under way. LinkError when BlueZ refuses or does not answer."""
        _checked(await self._ask(path, DEVICE, "Disconnect", "", []))

    async def power(self, name: str, *, on: bool) -> None:
        """Turn an adapter on or off. LinkError when BlueZ refuses (blocked by rfkill, busy) or does not answer."""
        path = f"/org/bluez/{name}"
        _checked(await self._ask(path, _PROPERTIES, "Set", "ssv", [ADAPTER, "Powered", Variant("b", on)], timeout_s=POWER_S))

    async def reset(self, name: str) -> None:
        """Off and on again: the last resort for an adapter on which nothing works. LinkError as `power`."""
        try:
            await self.power(name, on=False)
            await asyncio.sleep(RESET_OFF_S)
        finally:
            await self.power(name, on=True)

    # the connection

    async def _session(self) -> None:
        """One D-Bus connection, until it is gone."""
        bus = MessageBus(bus_type=BusType.SYSTEM)
        try:
            async with asyncio.timeout(CALL_S):
                await bus.connect()
            self._bus = bus
            bus.add_message_handler(self._handle)
            for rule in _RULES:
                _checked(await self._call(_BUS, "/org/freedesktop/DBus", _BUS, "AddMatch", "s", [rule]))
            reply = await self._call(_BUS, "/org/freedesktop/DBus", _BUS, "GetNameOwner", "s", [BLUEZ])
            self._owned_by(str(reply.body[0]) if reply.message_type == MessageType.METHOD_RETURN else "")
            if not self._owner:
                self._complain("no Bluetooth daemon on D-Bus")
            gone = asyncio.ensure_future(bus.wait_for_disconnect())
            try:
                while not gone.done():
                    looking = asyncio.ensure_future(self._look.wait())
                    try:
                        await asyncio.wait({gone, looking}, return_when=asyncio.FIRST_COMPLETED)
                    finally:
                        looking.cancel()
                    if self._look.is_set() and not gone.done():
                        self._look.clear()
                        await self._look_at_adapters()
            finally:
                gone.cancel()
                await asyncio.wait({gone})
                if not gone.cancelled():
                    gone.exception()
        finally:
            self._bus = None
            bus.disconnect()

    def _handle(self, message: Message) -> None:
        if message.message_type != MessageType.SIGNAL:
            return
        if message.member == "NameOwnerChanged":
            name, _, owner = message.body
            if name == BLUEZ:
                if not owner:
                    log.warning("the Bluetooth daemon is gone: all links are dropped")
                self._owned_by(owner)
        elif message.member == "PropertiesChanged" or (message.member or "").startswith("Interfaces"):
            path = str(message.path if message.member == "PropertiesChanged" else message.body[0])
            if message.member != "PropertiesChanged" and path.count("/") != 3:
                return  # a device or what is below it: only adapters matter here
            if _departs(message):
                self.departures[path.rsplit("/", 1)[-1]] += 1
                self._on_change()
            self._look.set()

    def _owned_by(self, owner: str) -> None:
        if owner == self._owner:
            return
        self._owner, self.up, self.adapters = owner, bool(owner), {}
        if owner:
            self.generation += 1
            self.last_error = ""
            log.info("the Bluetooth daemon is there")
            self._look.set()
        self._on_change()

    def _lost(self) -> None:
        self._look.clear()
        if self._owner:
            self._owned_by("")

    def _complain(self, text: str) -> None:
        if text != self.last_error:
            log.warning(
                "Bluetooth: %s; waiting for it\n  cure: install and start bluez (systemctl start bluetooth), and see docs/gateway.md", text
            )
        self.last_error = text

    async def _look_at_adapters(self) -> None:
        generation = self.generation
        try:
            objects = await self._objects()
        except LinkError as error:
            log.debug("adapters: %s", error)
            await asyncio.sleep(FIRST_BACKOFF_S)
            if generation == self.generation and self.up:
                self._look.set()
            return
        found: dict[str, AdapterSeen] = {}
        for path, interfaces in objects.items():
            about = interfaces.get(ADAPTER)
            if about is not None:
                found[path.rsplit("/", 1)[-1]] = AdapterSeen(path, str(about.get("Address", "")), bool(about.get("Powered")))
        if generation == self.generation and found != self.adapters:
            self.adapters = found
            self._on_change()

    async def _objects(self) -> dict[str, dict[str, dict[str, Any]]]:
        reply = _checked(await self._ask("/", _OBJECTS, "GetManagedObjects", "", []))
        return unpack_variants(reply.body[0])

    async def _ask(self, path: str, interface: str, member: str, signature: str, body: list[Any], *, timeout_s: float = CALL_S) -> Message:
        """A call to the daemon that is there; its reply, an error reply too. LinkError when there is none or it does not answer."""
        if not self._owner:
            raise LinkError("no Bluetooth daemon", cure="start it: systemctl start bluetooth")
        return await self._call(self._owner, path, interface, member, signature, body, timeout_s=timeout_s)

    async def _call(
        self, to: str, path: str, interface: str, member: str, signature: str, body: list[Any], *, timeout_s: float = CALL_S
    ) -> Message:
        bus = self._bus
        if bus is None or not bus.connected:
            raise LinkError("no D-Bus connection", cure="start D-Bus")
        message = Message(destination=to, path=path, interface=interface, member=member, signature=signature, body=body)
        try:
            async with asyncio.timeout(timeout_s):
                reply = await bus.call(message)
        except TimeoutError:
            raise LinkError(f"{member} of {path}: no answer in {timeout_s:g} s", cure="restart the Bluetooth daemon") from None
        except (EOFError, OSError) as error:
            raise LinkError(f"{member} of {path}: D-Bus is gone ({error})", cure="start D-Bus") from error
        assert reply is not None
        return reply


def _checked(reply: Message) -> Message:
    if reply.message_type == MessageType.ERROR:
        detail = f": {reply.body[0]}" if reply.body else ""
        raise LinkError(f"{reply.error_name}{detail}", cure="see the log of the Bluetooth daemon: journalctl -u bluetooth")
    return reply


def _departs(message: Message) -> bool:
    """Whether a signal says that an adapter goes or is turned off: what is told of it later does not show that any more."""
    if message.member == "InterfacesRemoved":
        return ADAPTER in message.body[1]
    if message.member == "PropertiesChanged" and message.body[0] == ADAPTER:
        powered = message.body[1].get("Powered")
        return powered is not None and not powered.value
    return False
