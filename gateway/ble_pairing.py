"""Pairing a sensor that asks for it, on a D-Bus connection of our own with an agent that answers for the operator.

The agent says yes to what needs no number, and asks `passkey` for the six digits that stand on some devices. It is taken back at the end.
A device that is paired keeps its id when its address changes: BlueZ tells its identity address from then on.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any, Final

from dbus_fast import BusType, Message, MessageType, Variant, unpack_variants
from dbus_fast.aio import MessageBus

from broker.errors import LinkError

PAIR_S: Final = 60.0
CALL_S: Final = 10.0
TRIES: Final = 3
_AGENT: Final = "/paceline/agent"
_AGENT_INTERFACE: Final = "org.bluez.Agent1"
_MANAGER: Final = "org.bluez.AgentManager1"
_DEVICE: Final = "org.bluez.Device1"
_PROPERTIES: Final = "org.freedesktop.DBus.Properties"
_YES: Final = frozenset(
    {"RequestConfirmation", "RequestAuthorization", "AuthorizeService", "DisplayPasskey", "DisplayPinCode", "Release", "Cancel"}
)

Passkey = Callable[[], Awaitable[int | None]]


class _Agent:
    """Answers BlueZ's questions."""

    def __init__(self, bus: MessageBus, passkey: Passkey) -> None:
        self._bus = bus
        self._passkey = passkey
        self._answers: set[asyncio.Task[None]] = set()

    def handle(self, message: Message) -> Message | bool | None:
        """A call to our agent is ours; everything else is not."""
        if message.message_type != MessageType.METHOD_CALL or message.interface != _AGENT_INTERFACE:
            return None
        if message.member in _YES:
            return Message.new_method_return(message)
        task = asyncio.get_running_loop().create_task(self._answer(message))
        self._answers.add(task)
        task.add_done_callback(self._answers.discard)
        return True

    async def _answer(self, message: Message) -> None:
        number = await self._passkey()
        if number is None or message.member not in {"RequestPasskey", "RequestPinCode"}:
            reply = Message.new_error(message, "org.bluez.Error.Rejected", "nobody knows it")
        elif message.member == "RequestPasskey":
            reply = Message.new_method_return(message, "u", [number])
        else:
            reply = Message.new_method_return(message, "s", [f"{number:06d}"])
        await self._bus.send(reply)  # pyright: ignore[reportUnknownMemberType]


async def pair(path: str, passkey: Passkey) -> str:
    """Pair the device at BlueZ's `path`; its address from now on. LinkError says why it did not work, with the cure."""
    bus = MessageBus(bus_type=BusType.SYSTEM)
    try:
        async with asyncio.timeout(CALL_S):
            await bus.connect()
        agent = _Agent(bus, passkey)
        bus.add_message_handler(agent.handle)
        await _asked(bus, "/org/bluez", _MANAGER, "RegisterAgent", "os", [_AGENT, "KeyboardDisplay"])
        try:
            await _asked(bus, "/org/bluez", _MANAGER, "RequestDefaultAgent", "o", [_AGENT])
            await _pair(bus, path)
            await _asked(bus, path, _PROPERTIES, "Set", "ssv", [_DEVICE, "Trusted", Variant("b", True)])
            address = await _asked(bus, path, _PROPERTIES, "Get", "ss", [_DEVICE, "Address"])
            return str(unpack_variants(address.body[0]))
        finally:
            await _call(bus, path, _DEVICE, "Disconnect", "", [])  # paired or not: it advertises again, and the gateway connects by itself
            await _call(bus, "/org/bluez", _MANAGER, "UnregisterAgent", "o", [_AGENT])
    except TimeoutError:
        raise LinkError("the Bluetooth daemon does not answer", cure="restart it: systemctl restart bluetooth") from None
    except (OSError, EOFError) as error:
        raise LinkError(f"D-Bus: {error}", cure="is D-Bus running, and may this user speak to org.bluez? (group bluetooth)") from error
    finally:
        bus.disconnect()


async def _pair(bus: MessageBus, path: str) -> None:
    for left in range(TRIES - 1, -1, -1):
        reply = await _call(bus, path, _DEVICE, "Pair", "", [], timeout_s=PAIR_S)
        if reply.message_type != MessageType.ERROR:
            return
        name = (reply.error_name or "").rsplit(".", 1)[-1]
        if name == "AlreadyExists":
            return
        if name not in {"InProgress", "Failed"} or not left:
            raise LinkError(_WORDS.get(name, f"{name}: {reply.body[0] if reply.body else ''}"), cure=_CURES.get(name, _ELSE))
        await asyncio.sleep(1.0)


_WORDS: Final = {
    "AuthenticationFailed": "the device did not accept the passkey",
    "AuthenticationRejected": "the device refused",
    "AuthenticationCanceled": "the device gave up",
    "AuthenticationTimeout": "the device did not answer in time",
    "ConnectionAttemptFailed": "the device cannot be reached",
    "UnknownObject": "the device is not heard any more",
}
_ELSE: Final = "wake the device, keep it near the box, and try again"
_CURES: Final = {
    "AuthenticationFailed": "give the six digits on the device or its screen with --passkey, or remove old pairings there",
}


async def _asked(bus: MessageBus, path: str, interface: str, member: str, signature: str, body: list[Any]) -> Message:
    reply = await _call(bus, path, interface, member, signature, body)
    if reply.message_type == MessageType.ERROR:
        detail = f": {reply.body[0]}" if reply.body else ""
        raise LinkError(f"{member}: {reply.error_name}{detail}", cure="may this user speak to org.bluez? (group bluetooth)")
    return reply


async def _call(
    bus: MessageBus, path: str, interface: str, member: str, signature: str, body: list[Any], *, timeout_s: float = CALL_S
) -> Message:
    message = Message(destination="org.bluez", path=path, interface=interface, member=member, signature=signature, body=body)
    async with asyncio.timeout(timeout_s):
        reply = await bus.call(message)
    assert reply is not None
    return reply
