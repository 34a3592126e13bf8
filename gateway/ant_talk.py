"""One open stick: carries bytes and time between its transport and its conversation, and waits for what is sent to devices.

Two tasks: one reads, one keeps the time. Whatever ends one of them (the stick pulled out, or no answer) ends the talk with an OSError.
"""

from __future__ import annotations

import asyncio
import logging
from collections import Counter
from collections.abc import Callable
from typing import Final

from gateway.ant_messages import ChannelId
from gateway.ant_stick import Output, Page, Phase, Stick, StickSettings
from gateway.ant_transport import Transport

log = logging.getLogger(__name__)

NOBODY_S: Final = 60.0  # a stick that hears nobody for so long: a word about the key
NOT_BEFORE_S: Final = 0.005  # two looks at the clock are at least so far apart, whatever is due


class StickLostError(OSError):
    """The conversation with a stick is over; the text says why."""


class Talk:
    """`run` until the stick is lost. `on_page` gets what is heard."""

    def __init__(self, transport: Transport, settings: StickSettings, on_page: Callable[[Page], None]) -> None:
        self._loop = asyncio.get_running_loop()
        self._transport = transport
        self._on_page = on_page
        self._waiting: dict[int, asyncio.Future[None]] = {}
        self._tickets = 0
        self._heard = 0
        self._told = False
        self._sooner = asyncio.Event()
        self._asleep_until_s = 0.0
        self._line = asyncio.Lock()
        self.stick = Stick(settings, self._loop.time())

    async def run(self) -> None:
        """Talk until the stick is lost: OSError says why."""
        tasks = {asyncio.ensure_future(self._read()), asyncio.ensure_future(self._keep_time())}
        try:
            done, _ = await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
            for task in done:
                task.result()
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)
            for future in self._waiting.values():
                if not future.done():
                    future.set_exception(StickLostError(f"{self._transport.name} is away"))

    async def send(self, who: ChannelId, payload: bytes) -> None:
        """Deliver a page to a device. OSError when the device did not acknowledge it. Cancelled before it began, it is not sent."""
        self._tickets += 1
        ticket = self._tickets
        future = self._waiting[ticket] = self._loop.create_future()
        self.stick.send(who, payload, ticket, self._loop.time())
        self._sooner.set()
        try:
            await future
        finally:
            del self._waiting[ticket]
            self.stick.forget(ticket)

    def counts(self) -> Counter[str]:
        """What this opening of the stick came to."""
        stick = self.stick
        counts = Counter(
            skipped_bytes=stick.framer.skipped,
            broken_frames=stick.framer.broken,
            commands_repeated=stick.commands.repeats,
            restarts=stick.restarts,
            transfers_repeated=stick.transfers.repeats,
            bursts_dropped=stick.bursts.dropped,
            unexpected=stick.unexpected,
        )
        for channel in stick.channels.values():
            counts += channel.counts
        return counts

    async def _read(self) -> None:
        await self._flush()
        while True:
            data = await self._transport.read()
            self._take(self.stick.feed(data, self._loop.time()))
            await self._flush()
            if self.stick.deadline_s() < self._asleep_until_s:
                self._sooner.set()

    async def _keep_time(self) -> None:
        hint_s = self._loop.time() + NOBODY_S
        while True:
            self._asleep_until_s = max(self.stick.deadline_s(), self._loop.time() + NOT_BEFORE_S)
            self._sooner.clear()
            try:
                async with asyncio.timeout_at(self._asleep_until_s):
                    await self._sooner.wait()
            except TimeoutError:
                pass
            now_s = self._loop.time()
            if now_s >= self.stick.deadline_s():
                self._take(self.stick.wake(now_s))
                await self._flush()
            if not self._heard and now_s >= hint_s:
                log.warning("%s hears nobody: no ANT+ sensor is near, or gateway.ant.key is not their network key", self._transport.name)
                hint_s = float("inf")

    async def _flush(self) -> None:
        """Write what the conversation has to say. StickLostError when it is over."""
        async with self._line:
            out = self.stick.outgoing()
            if out:
                await self._transport.write(out)
        if self.stick.phase is Phase.FAILED:
            raise StickLostError(f"{self._transport.name}: {self.stick.reason}")
        if not self._told and self.stick.phase is Phase.LISTENING:
            self._told = True
            able = self.stick.capabilities
            how = "hears the whole room" if self.stick.scanning else f"has {able.channels if able else 0} channels and cannot scan"
            log.info("%s (%s, number %s) %s", self._transport.name, self.stick.version or "unknown", self.stick.serial, how)

    def _take(self, outputs: list[Output]) -> None:
        for output in outputs:
            if isinstance(output, Page):
                self._heard += 1
                self._on_page(output)
                continue
            future = self._waiting.get(output.ticket)
            if future is None or future.done():
                continue
            if output.ok:
                future.set_result(None)
            else:
                future.set_exception(ConnectionError(output.reason))
