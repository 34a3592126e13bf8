"""`paceline node check`: plays the platform for one node, withholds acks, acknowledges, refuses, cuts the link, and hands all to the judge.

With an embedded broker it starts itself (loopback, a fresh credential) or with a given broker as a platform principal; only its own broker
can be cut, so `resume` is "not seen" on a given one. Every phase has a limit; the device is started by the caller.
"""

from __future__ import annotations

import asyncio
import contextlib
import tempfile
import time
from collections.abc import AsyncGenerator, Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import aiomqtt

from broker.acks import Ack, Refusal, encode_ack, encode_ack_json, to_ranges
from broker.cancellation import heard
from broker.credentials import add_user
from broker.embedded import EmbeddedSettings, serve
from broker.errors import LinkError, Reason
from broker.topics import topic
from paceline.link import Link
from paceline.node_rules import NodeJudge, Verdict
from paceline.supervise import free_port

PLATFORM_USER: Final = "platform/check"
_ACK_EVERY_S: Final = 0.2


@dataclass(frozen=True, slots=True)
class CheckPlan:
    """How long each phase lasts, in seconds."""

    first_message_s: float = 60.0
    silence_s: float = 12.0
    after_ack_s: float = 6.0
    down_s: float = 2.0
    return_s: float = 60.0


async def check_own(tenant: str, node: str, plan: CheckPlan, announce: Callable[[Link], None]) -> list[Verdict]:
    """Check a node against a broker started here. `announce` gets the node's credentials once it may connect."""
    with tempfile.TemporaryDirectory(prefix="paceline-check-") as folder:
        passwords = Path(folder) / "passwords"
        secret = add_user(passwords, f"{tenant}/{node}")
        platform = add_user(passwords, PLATFORM_USER)
        port = free_port()
        own = _OwnBroker(EmbeddedSettings(port=port, password_file=passwords))
        await own.start()
        try:
            check = _Check(Link("127.0.0.1", port, PLATFORM_USER, platform), tenant, node, plan, own)
            return await check.run(lambda: announce(Link("127.0.0.1", port, f"{tenant}/{node}", secret)))
        finally:
            await own.stop()


async def check_given(link: Link, tenant: str, node: str, plan: CheckPlan) -> list[Verdict]:
    """Check a node of a running broker on which `link` is a platform principal."""
    return await _Check(link, tenant, node, plan, None).run(lambda: None)


class _OwnBroker:
    def __init__(self, settings: EmbeddedSettings) -> None:
        self._settings = settings
        self._task: asyncio.Task[None] | None = None

    async def start(self) -> None:
        ready = asyncio.Event()
        self._task = asyncio.create_task(serve(self._settings, ready=lambda _port: ready.set()))
        waiting = asyncio.create_task(ready.wait())
        await asyncio.wait({self._task, waiting}, return_when=asyncio.FIRST_COMPLETED, timeout=10.0)
        waiting.cancel()
        if self._task.done():
            self._task.result()

    async def stop(self) -> None:
        if self._task is not None:
            self._task.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await self._task


class _Check:
    """One run of the phases."""

    def __init__(self, link: Link, tenant: str, node: str, plan: CheckPlan, own: _OwnBroker | None) -> None:
        self._link, self._tenant, self._node, self._plan, self._own = link, tenant, node, plan, own
        self._judge = NodeJudge(tenant, node)
        self._acks: asyncio.Queue[tuple[str, bytes]] = asyncio.Queue(maxsize=1000)
        self._refused_one = False

    async def run(self, announce: Callable[[], None]) -> list[Verdict]:
        """Listen, let the device come; then silence, then acks with one refusal, then a cut with rows owed, then acks again."""
        judge, plan = self._judge, self._plan
        async with self._connected():
            announce()
            await self._until(lambda: judge.messages > 0, plan.first_message_s)
            if not judge.messages:
                who = f"{self._tenant}/{self._node}"
                raise LinkError(
                    f"{who} sent nothing within {plan.first_message_s:.0f} s", cure="check host, port, user, client id and topic"
                )
            judge.withhold(time.monotonic())
            await asyncio.sleep(plan.silence_s)
            await self._answer_for(plan.after_ack_s)
            if self._own is not None:
                judge.withhold(time.monotonic())
                await self._until(lambda: len(judge.owed()) > 0, plan.after_ack_s)
        if self._own is not None:
            await self._cut_and_return(self._own)
        return judge.verdicts()

    async def _cut_and_return(self, own: _OwnBroker) -> None:
        judge, plan = self._judge, self._plan
        judge.cut(time.monotonic())
        await own.stop()
        await asyncio.sleep(plan.down_s)
        await own.start()
        async with self._connected():
            await self._until(judge.resumed, plan.return_s)
            judge.end_cut()
            await self._answer_for(plan.after_ack_s)

    async def _answer_for(self, seconds: float) -> None:
        end_s = time.monotonic() + seconds
        while time.monotonic() < end_s:
            self._answer()
            await asyncio.sleep(_ACK_EVERY_S)

    def _answer(self) -> None:
        """Acknowledge what is owed; the first time, refuse the newest of several rows."""
        owed, epoch = self._judge.owed(), self._judge.epoch
        if not owed or epoch is None:
            return
        refused = owed[-1:] if not self._refused_one and len(owed) > 1 else []
        self._refused_one = self._refused_one or bool(refused)
        stored = [n for n in owed if n not in refused]
        ack = Ack(epoch, to_ranges(stored), tuple(Refusal(n, n, str(Reason.BAD_RECORDS)) for n in refused))
        leaf, body = ("ack/json", encode_ack_json(ack)) if self._judge.json else ("ack", encode_ack(ack))
        self._acks.put_nowait((topic(self._tenant, self._node, leaf), body))
        self._judge.settle(stored, refused, time.monotonic())

    async def _until(self, done: Callable[[], bool], seconds: float) -> None:
        end_s = time.monotonic() + seconds
        while not done() and time.monotonic() < end_s:  # noqa: ASYNC110 - the judge is pure and has no event
            await asyncio.sleep(0.05)

    @contextlib.asynccontextmanager
    async def _connected(self) -> AsyncGenerator[None]:
        link = self._link
        try:
            async with aiomqtt.Client(
                link.host, link.port, username=link.user, password=link.secret, identifier=link.user, timeout=10.0
            ) as client:
                await client.subscribe(f"pl/1/{self._tenant}/{self._node}/#", qos=1)
                hear, speak = asyncio.create_task(self._hear(client)), asyncio.create_task(self._speak(client))
                try:
                    yield
                finally:
                    for task in (hear, speak):
                        task.cancel()
                        with contextlib.suppress(asyncio.CancelledError, aiomqtt.MqttError):
                            await task
        except aiomqtt.MqttError as error:
            raise LinkError(f"broker {link.host}:{link.port}: {error}", cure="give a platform principal of that broker") from error

    async def _hear(self, client: aiomqtt.Client) -> None:
        async for message in client.messages:
            now_us = time.time_ns() // 1000
            self._judge.on_message(str(message.topic), message.payload, message.qos, bool(message.retain), time.monotonic(), now_us)

    async def _speak(self, client: aiomqtt.Client) -> None:
        while True:
            name, body = await self._acks.get()
            await heard(client.publish(name, body, qos=1))
