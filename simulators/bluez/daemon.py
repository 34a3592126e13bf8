"""The virtual daemon on D-Bus: owns org.bluez, answers calls, sends signals in order.

dbus-fast takes a full socket for a dead one, so everything goes through one queue: the socket's buffer is made large, and after every 64
messages a round trip to the bus shows that it has kept up. The queue is bounded; beyond that the daemon ends rather than forget a signal.
"""

from __future__ import annotations

import asyncio
import socket
from collections import deque
from collections.abc import Awaitable, Callable
from typing import Final

from dbus_fast import Message, MessageType, Variant
from dbus_fast.aio import MessageBus

from broker.errors import LinkError
from simulators.bluez.adapter import Adapter, Monitor
from simulators.bluez.device import Device, close_descriptors
from simulators.bluez.journal import Journal
from simulators.bluez.room import Room, Timing
from simulators.bluez.tree import (
    ADAPTER,
    AGENTS,
    CHARACTERISTIC,
    DESCRIPTOR,
    DEVICE,
    MONITORS,
    OBJECT_MANAGER,
    PROPERTIES,
    BluezError,
    copied,
    unknown_object,
)

BUS_NAME: Final = "org.bluez"
_BUFFER_BYTES: Final = 4 << 20
_BURST: Final = 64
_QUEUE_MESSAGES: Final = 200_000
_BUS: Final = "org.freedesktop.DBus"
_CALL_TIMEOUT_S: Final = 30.0


class Answer:
    """What a call comes to: a body with its signature, and descriptors that go with it."""

    def __init__(self, signature: str = "", body: list[object] | None = None, descriptors: list[int] | None = None) -> None:
        self.signature = signature
        self.body = body or []
        self.descriptors = descriptors or []


class Daemon:
    """org.bluez on the bus at `address`."""

    def __init__(self, *, epoch_s: float, timing: Timing | None = None, journal: Journal | None = None) -> None:
        self.agents: dict[str, str] = {}  # D-Bus connection -> path of its agent
        self._bus: MessageBus | None = None
        self._outgoing: deque[Message] = deque()
        self._has_outgoing = asyncio.Event()
        self._calls: set[asyncio.Task[None]] = set()
        self.room = Room(self._queue, epoch_s=epoch_s, timing=timing, journal=journal, ask_monitor=self._found)

    async def run(self, address: str, ready: Callable[[], None]) -> None:
        """Serve until cancelled. `ready` is called when the name is owned."""
        bus = MessageBus(bus_address=address, negotiate_unix_fd=True)
        await bus.connect()
        sock = bus._sock  # noqa: SLF001 # pyright: ignore[reportPrivateUsage]
        assert sock is not None
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, _BUFFER_BYTES)
        self._bus = bus
        bus.add_message_handler(self._handle)
        await self._ask("AddMatch", "s", [f"type='signal',sender='{_BUS}',member='NameOwnerChanged'"])
        await bus.request_name(BUS_NAME)
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(self._send_all())
            tasks.create_task(self.room.run())
            ready()
            await bus.wait_for_disconnect()
            raise LinkError("the private D-Bus went away", cure="start it again, then the virtual daemon")

    def _queue(self, message: Message) -> None:
        if len(self._outgoing) >= _QUEUE_MESSAGES:
            raise LinkError("the bus does not keep up with the virtual daemon", cure="let fewer sensors report")
        self._outgoing.append(message)
        self._has_outgoing.set()

    async def _send_all(self) -> None:
        assert self._bus is not None
        while True:
            await self._has_outgoing.wait()
            self._has_outgoing.clear()
            while self._outgoing:
                for _ in range(min(_BURST, len(self._outgoing))):
                    message = self._outgoing.popleft()
                    await self._bus.send(message)  # pyright: ignore[reportUnknownMemberType]
                    close_descriptors(message.unix_fds)
                if self._outgoing:
                    await self._ask("GetId", "", [])

    async def _ask(self, member: str, signature: str, body: list[object]) -> None:
        assert self._bus is not None
        path = "/org/freedesktop/DBus"
        message = Message(destination=_BUS, path=path, interface=_BUS, member=member, signature=signature, body=body)
        await self._bus.call(message)

    # calls

    def _handle(self, message: Message) -> bool | None:
        if message.message_type == MessageType.SIGNAL and message.member == "NameOwnerChanged":
            name, _, owner = message.body
            if not owner and name.startswith(":"):
                self.agents.pop(name, None)
                self.room.client_left(name)
            return None
        if message.message_type != MessageType.METHOD_CALL or message.interface == "org.freedesktop.DBus.Peer":
            return None
        task = asyncio.get_running_loop().create_task(self._answer(message))
        self._calls.add(task)
        task.add_done_callback(self._calls.discard)
        return True

    async def _answer(self, call: Message) -> None:
        try:
            answer = await self._dispatch(call)
            reply = Message.new_method_return(call, answer.signature, answer.body, answer.descriptors)
        except BluezError as error:
            reply = Message.new_error(call, error.name, error.text)
        self._queue(reply)

    async def _dispatch(self, call: Message) -> Answer:
        path, interface, member = call.path or "", call.interface or "", call.member or ""
        if interface == OBJECT_MANAGER and member == "GetManagedObjects":
            return Answer("a{oa{sa{sv}}}", [{path: copied(interfaces) for path, interfaces in self.room.tree.objects.items()}])
        if path not in self.room.tree.objects:
            raise unknown_object(path)
        if interface == PROPERTIES:
            return self._properties(path, member, call.body)
        for handles in (self._adapter_call, self._device_call, self._attribute_call, self._agent_call):
            made = handles(path, interface, member, call)
            if made is not None:
                return await made
        raise BluezError(
            "org.freedesktop.DBus.Error.UnknownMethod", f'Method "{member}" with interface "{interface}" on "{path}" does not exist'
        )

    def _properties(self, path: str, member: str, body: list[object]) -> Answer:
        tree, interface = self.room.tree, str(body[0])
        properties = tree.properties(path, interface)
        if member == "GetAll":
            return Answer("a{sv}", [dict(properties)])
        name = str(body[1])
        if name not in properties:
            raise BluezError("org.freedesktop.DBus.Error.InvalidArgs", f"No such property '{name}'")
        if member == "Get":
            return Answer("v", [properties[name]])
        wanted = body[2]
        assert isinstance(wanted, Variant)
        if interface == ADAPTER and name == "Powered":
            self._adapter(path).power(on=bool(wanted.value))
        elif (interface, name) in {(DEVICE, "Trusted"), (DEVICE, "Alias"), (ADAPTER, "Alias"), (ADAPTER, "Pairable")}:
            tree.set(path, interface, {name: wanted})
        else:
            raise BluezError("org.freedesktop.DBus.Error.PropertyReadOnly", f"Property '{name}' is not writable")
        return Answer()

    def _adapter_call(self, path: str, interface: str, member: str, call: Message) -> Awaitable[Answer] | None:
        if interface not in {ADAPTER, MONITORS} or interface not in self.room.tree.objects[path]:
            return None
        adapter, sender, body = self._adapter(path), call.sender or "", call.body
        acts: dict[str, Callable[[], None]] = {
            "StartDiscovery": lambda: adapter.start_discovery(sender),
            "StopDiscovery": lambda: adapter.stop_discovery(sender),
            "SetDiscoveryFilter": lambda: adapter.set_filter(sender, body[0]),
            "RemoveDevice": lambda: adapter.remove_path(body[0]),
            "RegisterMonitor": lambda: self._register_monitor(adapter, sender, body[0]),
            "UnregisterMonitor": lambda: self._unregister_monitor(adapter, sender, body[0]),
        }
        return _at_once(acts[member]) if member in acts else None

    def _device_call(self, path: str, interface: str, member: str, call: Message) -> Awaitable[Answer] | None:
        if interface != DEVICE:
            return None
        device = self._device(path)
        if member == "Connect":
            return _then(device.connect())
        if member == "Disconnect":
            return _then(device.disconnect())
        if member == "Pair":
            return _then(self._pair(device, call.sender or ""))
        return None

    def _attribute_call(self, path: str, interface: str, member: str, call: Message) -> Awaitable[Answer] | None:
        if interface not in {CHARACTERISTIC, DESCRIPTOR}:
            return None
        device = self._device(path)
        if interface == DESCRIPTOR:  # the only descriptor there is: whether it notifies
            return self._read_cccd(path) if member == "ReadValue" else None
        sender = call.sender or ""
        if member == "ReadValue":
            return self._read(device, path)
        if member == "WriteValue":
            return _then(device.write(path, bytes(call.body[0])))
        if member == "StartNotify":
            return _then(device.start_notify(path, sender))
        if member == "StopNotify":
            return _at_once(lambda: device.stop_notify(path, sender))
        if member == "AcquireNotify":
            return self._acquire(device, path)
        return None

    def _agent_call(self, path: str, interface: str, member: str, call: Message) -> Awaitable[Answer] | None:
        del path
        if interface != AGENTS or member not in {"RegisterAgent", "UnregisterAgent", "RequestDefaultAgent"}:
            return None
        sender = call.sender or ""
        if member == "RegisterAgent":
            return _at_once(lambda: self.agents.update({sender: str(call.body[0])}))
        if member == "UnregisterAgent":
            return _at_once(lambda: self.agents.pop(sender, None))
        return _at_once(lambda: None)

    async def _read(self, device: Device, path: str) -> Answer:
        return Answer("ay", [await device.read(path)])

    async def _read_cccd(self, path: str) -> Answer:
        notifying = bool(self.room.tree.get(path.split("/desc", maxsplit=1)[0], CHARACTERISTIC, "Notifying"))
        return Answer("ay", [bytes([notifying, 0])])

    async def _acquire(self, device: Device, path: str) -> Answer:
        descriptor = device.acquire_notify(path)
        return Answer("hq", [0, 247], [descriptor])

    async def _pair(self, device: Device, sender: str) -> None:
        passkey: int | None = None
        agent = self.agents.get(sender) or next(iter(self.agents.values()), None)
        owner = sender if sender in self.agents else next(iter(self.agents), "")
        if device.peripheral.passkey and agent is not None:
            reply = await self._call_client(owner, agent, "org.bluez.Agent1", "RequestPasskey", "o", [device.path])
            passkey = int(reply.body[0]) if reply is not None and reply.message_type == MessageType.METHOD_RETURN else None
        await device.pair(passkey)

    # monitors

    def _register_monitor(self, adapter: Adapter, sender: str, path: str) -> None:
        if (sender, path) in adapter.monitors:
            raise BluezError("AlreadyExists", "Already Exists")
        task = asyncio.get_running_loop().create_task(self._activate(adapter, sender, path))
        self._calls.add(task)
        task.add_done_callback(self._calls.discard)

    async def _activate(self, adapter: Adapter, sender: str, path: str) -> None:
        """A client exports its monitor only after registering it: ask until it is there."""
        interface = "org.bluez.AdvertisementMonitor1"
        for _ in range(50):
            reply = await self._call_client(sender, path, PROPERTIES, "Get", "ss", [interface, "Patterns"])
            if reply is not None and reply.message_type == MessageType.METHOD_RETURN:
                patterns = [(int(start), int(kind), bytes(content)) for start, kind, content in reply.body[0].value]
                adapter.monitors[sender, path] = Monitor(sender, path, patterns)
                await self._call_client(sender, path, interface, "Activate", "", [])
                return
            await asyncio.sleep(0.02)

    @staticmethod
    def _unregister_monitor(adapter: Adapter, sender: str, path: str) -> None:
        if adapter.monitors.pop((sender, path), None) is None:
            raise BluezError("DoesNotExist", "Does Not Exist")

    def _found(self, sender: str, path: str, device_path: str) -> None:
        """Tell a monitor of a device; nobody waits for its answer."""
        call = self._call_client(sender, path, "org.bluez.AdvertisementMonitor1", "DeviceFound", "o", [device_path])
        task = asyncio.get_running_loop().create_task(_ignore(call))
        self._calls.add(task)
        task.add_done_callback(self._calls.discard)

    async def _call_client(
        self, destination: str, path: str, interface: str, member: str, signature: str, body: list[object]
    ) -> Message | None:
        assert self._bus is not None
        message = Message(destination=destination, path=path, interface=interface, member=member, signature=signature, body=body)
        try:
            async with asyncio.timeout(_CALL_TIMEOUT_S):
                return await self._bus.call(message)
        except TimeoutError:
            return None

    def _adapter(self, path: str) -> Adapter:
        adapter = self.room.adapters.get(path.split("/")[3]) if path.count("/") >= 3 else None
        if adapter is None:
            raise unknown_object(path)
        return adapter

    def _device(self, path: str) -> Device:
        device_path = "/".join(path.split("/")[:5])
        device = next((one for one in self._adapter(path).devices.values() if one.path == device_path), None)
        if device is None:
            raise unknown_object(path)
        return device


async def _at_once(act: Callable[[], object]) -> Answer:
    act()
    return Answer()


async def _then(done: Awaitable[None]) -> Answer:
    await done
    return Answer()


async def _ignore(call: Awaitable[object]) -> None:
    await call
