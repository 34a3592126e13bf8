"""Uplink switch: which uplink runs. A new target ends the present one in order (it says offline) and starts the next on the same rows."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Callable
from typing import Generic, Protocol, TypeVar

from gateway.keeping import keep_running


class RunsUplink(Protocol):
    """What the switch needs of an uplink."""

    async def run(self) -> None: ...
    async def wait_healthy(self, timeout_s: float) -> bool: ...


U = TypeVar("U", bound=RunsUplink)


class UplinkSwitch(Generic[U]):
    """`make()` builds the uplink for the configuration in force; `replace()` asks for it again."""

    def __init__(self, make: Callable[[], U], crashes: Counter[str], *, random: Callable[[], float]) -> None:
        self._make = make
        self._crashes = crashes
        self._random = random
        self._replaced = asyncio.Event()
        self._made = asyncio.Event()
        self.current: U | None = None

    def replace(self) -> None:
        """End the uplink that runs and build a new one. What it was is not `current` any more from here on."""
        self.current = None
        self._made.clear()
        self._replaced.set()

    async def wait_healthy(self, timeout_s: float) -> bool:
        """Whether the uplink in force is healthy, or becomes so within `timeout_s`."""
        loop = asyncio.get_running_loop()
        until_s = loop.time() + timeout_s
        try:
            async with asyncio.timeout_at(until_s):
                await self._made.wait()
        except TimeoutError:
            return False
        current = self.current
        return current is not None and await current.wait_healthy(until_s - loop.time())

    async def run(self) -> None:
        """Keep one uplink running until cancelled."""
        while True:
            self._replaced.clear()
            running = asyncio.create_task(keep_running("uplink", self._run_one, self._crashes, random=self._random))
            replaced = asyncio.create_task(self._replaced.wait())
            try:
                await asyncio.wait({running, replaced}, return_when=asyncio.FIRST_COMPLETED)
            finally:
                running.cancel()
                replaced.cancel()
                await asyncio.wait({running, replaced})

    async def _run_one(self) -> None:
        self.current = self._make()
        self._made.set()
        await self.current.run()
