"""A virtual ANT stick on a pty in this process, and the exact truth of what it sent: for a demo or a test that counts every sample.

A page that was heard whole is owed, but the first of each device: a box believes in a device once it was heard twice. What the pages come
to is read by the profiles, as a box does; that the profiles read right is shown elsewhere, against other readers.
"""

from __future__ import annotations

import asyncio
import contextlib
from pathlib import Path

from broker.layouts import layout_named
from device_profiles.catalogue import catalogue
from device_profiles.reader import Reader
from simulators.ant_pty import PtyStick
from simulators.ant_room import room
from simulators.ant_sensors import TICKS_PER_S, Sensor
from simulators.ant_stick import VirtualStick
from simulators.sensor_truth import Record, record_of


class AntHall:
    """`await open()`, `hush()` when it is over, `await close()` always. `plan` is like `hr:30,trainer:2`, `key` the room's network key."""

    def __init__(self, plan: str, key: bytes, link: Path) -> None:
        self.sensors = room(plan)
        self.pages: dict[str, list[bytes]] = {}
        self._stick = VirtualStick(self.sensors, key, on_page=self._sent)
        self._pty = PtyStick(self._stick, link, patient=True)  # a busy machine is no fault of the box
        self._living: asyncio.Task[None] | None = None

    @property
    def heard(self) -> int:
        """Pages that are owed."""
        return sum(len(pages) - 1 for pages in self.pages.values())

    async def open(self) -> None:
        """The stick appears at its link."""
        self._living = asyncio.create_task(self._pty.run())

    def hush(self) -> None:
        """Every sensor is carried away: what was sent is the truth."""
        for sensor in self.sensors:
            self._stick.leave(sensor)

    async def close(self) -> None:
        """Pull the stick out; safe at any time."""
        if self._living is not None:
            self._living.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await self._living

    def said(self) -> dict[str, list[Record]]:
        """What each device said, in order, as it must be stored."""
        return {sensor.device: self._records(sensor) for sensor in self.sensors if len(self.pages.get(sensor.device, ())) > 1}

    def _sent(self, sensor: Sensor, page: bytes, whole: bool) -> None:
        if whole:
            self.pages.setdefault(sensor.device, []).append(page)

    def _records(self, sensor: Sensor) -> list[Record]:
        profile = catalogue().ant(sensor.type)
        if profile is None:
            return []
        reader, found = Reader(profile), list[Record]()
        for index, page in enumerate(self.pages[sensor.device][1:]):
            for sample in reader.feed(page, index * sensor.period * 1_000_000 // TICKS_PER_S):
                found.append(record_of(layout_named(sample.layout), sample.values))
        return found
