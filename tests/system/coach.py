"""The platform's side of equipment in a test: sends commands to a box over a real broker, and remembers all it answers."""

from __future__ import annotations

import asyncio
import contextlib
import json
import time
import uuid
from collections.abc import Awaitable, Callable
from typing import Any, Self

import aiomqtt

from broker.commands import Command, Notice, Reply, decode_answer, encode_command
from broker.topics import topic
from tests.servers import ServedBroker
from tests.system.gateway_process import NODE, TENANT

USER = "platform/control"
LIMIT_S = 300.0  # a link that a busy machine made too slowly is tried again after half a minute
AGAIN_S = 2.0
NOT_YET = {"not_controllable", "not_live", "not_bound"}


class Coach:
    """`async with Coach(broker) as coach`; it outlives the broker: a lost connection is made again."""

    def __init__(self, broker: ServedBroker) -> None:
        self._broker = broker
        self._client: aiomqtt.Client | None = None
        self._task: asyncio.Task[None] | None = None
        self._cfg = b""
        self._version = 0
        self.said: list[Reply | Notice] = []
        self.sent: dict[str, bytes] = {}

    async def __aenter__(self) -> Self:
        self._task = asyncio.create_task(self._run())
        await self.until(lambda: self._client is not None, "the broker")
        return self

    async def __aexit__(self, *_exc: object) -> None:
        assert self._task is not None
        self._task.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await self._task

    async def _run(self) -> None:
        while True:
            with contextlib.suppress(aiomqtt.MqttError):
                who = self._broker
                async with aiomqtt.Client(who.host, who.port, username=USER, password=who.password(USER), identifier=USER) as client:
                    await client.subscribe(topic(TENANT, NODE, "rsp"), qos=1)
                    if self._cfg:
                        await client.publish(topic(TENANT, NODE, "cfg"), self._cfg, qos=1, retain=True)
                    self._client = client
                    async for message in client.messages:
                        self.said.append(decode_answer(message.payload))
            self._client = None
            await asyncio.sleep(0.2)

    async def bind(self, **athletes: str) -> None:
        """Who is bound to which machine from now on ('-' in device ids written as '_')."""
        self._version += 1
        bindings = [{"device": device.replace("_", "-"), "athlete": athlete} for device, athlete in athletes.items()]
        self._cfg = json.dumps({"version": self._version, "bindings": bindings}).encode()
        assert self._client is not None
        await self._client.publish(topic(TENANT, NODE, "cfg"), self._cfg, qos=1, retain=True)

    async def send(self, device: str, action: str, value: float | None = None, *, athlete: str = "ann", **road: float) -> str:
        """Send a command; its id."""
        order: dict[str, Any] = {"action": action, **road} | ({} if value is None else {"value": value})
        ident, expires_us = str(uuid.uuid4()), time.time_ns() // 1000 + 60_000_000
        command = Command.model_validate({"id": ident, "device": device, "athlete": athlete, "expires_us": expires_us, "order": order})
        self.sent[ident] = encode_command(command)
        await self.again(ident)
        return ident

    async def again(self, ident: str) -> None:
        """The same document once more, as a platform does that heard no answer."""
        await self.until(lambda: self._client is not None, "the broker")
        assert self._client is not None
        await self._client.publish(topic(TENANT, NODE, "cmd"), self.sent[ident], qos=1)

    def finals(self, ident: str) -> list[tuple[str, str]]:
        """The final answers to a command so far."""
        return [(str(a.state), str(a.reason or "")) for a in self.said if isinstance(a, Reply) and a.id == ident and a.state.final]

    async def answer(self, ident: str) -> tuple[str, str]:
        """Wait for the final answer to a command, and send it again while nothing at all is heard of it, as a platform does."""
        deadline, again = time.monotonic() + LIMIT_S, time.monotonic() + AGAIN_S
        while not self.finals(ident):
            now = time.monotonic()
            assert now < deadline, f"no answer to {self.sent[ident]!r}; last said {self.said[-5:]}"
            if now >= again and not self.heard(ident):
                again = now + AGAIN_S
                await self.again(ident)
            await asyncio.sleep(0.02)
        return self.finals(ident)[-1]

    def heard(self, ident: str) -> bool:
        """Whether the box said anything of a command."""
        return any(isinstance(a, Reply) and a.id == ident for a in self.said)

    async def do(self, device: str, action: str, value: float | None = None, **road: float) -> tuple[str, str]:
        """Send a command and wait for its final answer."""
        return await self.answer(await self.send(device, action, value, **road))

    async def first(self, device: str, action: str, value: float | None = None) -> tuple[str, str]:
        """The same with a new command until the box has found the machine and the athlete is bound to it."""
        deadline = time.monotonic() + LIMIT_S
        while True:
            state, reason = await self.do(device, action, value)
            if reason not in NOT_YET:
                return state, reason
            assert time.monotonic() < deadline, f"{device} is not there: {reason}"
            await asyncio.sleep(0.2)

    def notices(self, device: str) -> list[tuple[str, str]]:
        """What the box told of a machine."""
        return [(str(a.event), str(a.reason)) for a in self.said if isinstance(a, Notice) and a.device == device]

    async def until(self, what: Callable[[], bool], name: str) -> None:
        """Wait until `what` holds."""
        deadline = time.monotonic() + LIMIT_S
        while not what():
            assert self._task is not None
            if self._task.done():
                self._task.result()
            assert time.monotonic() < deadline, f"{name}: not reached; last said {self.said[-5:]}"
            await asyncio.sleep(0.02)


async def seen(look: Callable[[], Awaitable[dict[str, float]]], holds: Callable[[dict[str, float]], bool]) -> dict[str, float]:
    """Look at a machine until something holds of it."""
    deadline = time.monotonic() + LIMIT_S
    while not holds(state := await look()):
        assert time.monotonic() < deadline, f"not reached: {state}"
        await asyncio.sleep(0.05)
    return state
