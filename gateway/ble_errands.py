"""Errands of the Bluetooth source at the daemon: an adapter turned on, or off and on, and links that nobody holds ended.

Each runs beside the source's loop and may fail: it is logged, and tried again when it is due again.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Collection, Coroutine
from typing import Any

from broker.errors import LinkError
from gateway.bluez_watch import BluezWatch

log = logging.getLogger(__name__)


class Errands:
    """`held` are the addresses this box has links to, as it changes."""

    def __init__(self, watch: BluezWatch, services: frozenset[str], held: Collection[str]) -> None:
        self.tasks: set[asyncio.Task[None]] = set()
        self.strays = 0
        self._watch = watch
        self._services = services
        self._held = held
        self._suspects: frozenset[str] = frozenset()

    def power(self, adapter: str) -> None:
        """Turn an adapter on."""
        self._send(self._watch.power(adapter, on=True))

    def reset(self, adapter: str) -> None:
        """Turn an adapter off and on."""
        self._send(self._watch.reset(adapter))

    def end_strays(self, adapters: frozenset[str], *, at_once: bool) -> None:
        """End links to our sensors that nobody here holds: a strap whose box was killed stays connected to BlueZ, and never advertises.

        Unless `at_once`, only those found twice: another program may pair one just now.
        """
        self._send(self._end_strays(adapters, at_once=at_once))

    async def _end_strays(self, adapters: frozenset[str], *, at_once: bool) -> None:
        found = [
            device
            for device in await self._watch.devices()
            if device.connected and device.adapter in adapters and device.address not in self._held and self._services & set(device.uuids)
        ]
        for device in found:
            if (at_once or device.path in self._suspects) and device.address not in self._held:
                self.strays += 1
                log.info("%s was connected by nobody: its link is ended", device.address)
                await self._watch.disconnect(device.path)
        self._suspects = frozenset(device.path for device in found)

    def _send(self, work: Coroutine[Any, Any, None]) -> None:
        task = asyncio.create_task(_tried(work))
        self.tasks.add(task)
        task.add_done_callback(self.tasks.discard)


async def _tried(work: Coroutine[Any, Any, None]) -> None:
    try:
        await work
    except LinkError as error:
        log.info("Bluetooth: %s", error.message)
