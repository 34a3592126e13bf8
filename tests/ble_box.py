"""A box with a real spool that hears Bluetooth sensors, and what it stored held against what the virtual daemon says went out."""

from __future__ import annotations

import asyncio
import contextlib
import os
import time
from collections import Counter
from collections.abc import AsyncGenerator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path

from bleak.backends.bluezdbus import manager

from broker.frames import Frame, decode_frame
from broker.layouts import all_layouts
from broker.nodeconfig import NodeConfig
from device_profiles.catalogue import catalogue
from device_profiles.reader import Reader
from gateway.ble_link import Limits
from gateway.ble_source import BleSource
from gateway.controllable import Controllable
from gateway.intake import Intake
from gateway.keeping import keep_running
from gateway.sensing import Sensing
from gateway.settings import BleSettings
from gateway.sightings import FILE, Sighting, Sightings
from gateway.spool import Spool, SpoolSettings
from simulators.bluez.process import VirtualBluetooth
from tests.virtual_room import HR

LIMIT_S = 60.0
Beats = dict[str, list[tuple[float | None, float | None]]]


@dataclass(slots=True)
class Box:
    """One box. `source` runs inside `running`."""

    spool: Spool
    sensing: Sensing
    sightings: Sightings
    controllable: Controllable
    source: BleSource
    stored: Beats = field(default_factory=dict)  # once the box has ended

    async def until_live(self, count: int) -> float:
        """Wait until so many sensors have said something over the links they have now; the seconds it took."""
        began = time.monotonic()
        await until(lambda: len([link for link in self.source.live if link.packets]) == count, what=self.words)
        return time.monotonic() - began

    def words(self) -> str:
        """For a test that waited in vain."""
        return f"{self.source.counters} {self.sightings.all()}"

    def sighting(self, device: str) -> Sighting | None:
        """What is known of a device."""
        return next((one for one in self.sightings.all() if one.device == device), None)

    def frames(self) -> list[Frame]:
        """All that was stored."""
        found, first = [], 0
        while rows := self.spool.read(first, 1000, 10**7):
            first = rows[-1][0] + 1
            found += [decode_frame(raw) for _, raw in rows]
        assert all(isinstance(frame, Frame) for frame in found)
        return found

    def beats(self) -> Beats:
        """(RR in ms, heart rate) of each device in the order of their numbers."""
        found: Beats = {}
        for frame in self.frames():
            layout = all_layouts()[frame.layout]
            if layout.name == "beats.1":
                rows = layout.unpack(frame.records)
                found.setdefault(frame.device, []).extend((row["rr_ms"], row["hr_bpm"]) for row in rows)
        return found


@asynccontextmanager
async def box_of(folder: Path, *, limits: Limits | None = None, **settings: object) -> AsyncGenerator[Box]:
    """A box that hears sensors until the block ends; then all it heard is stored."""
    folder.mkdir(parents=True, exist_ok=True)
    spool = await Spool.open(folder / "spool.db", SpoolSettings())
    config = NodeConfig(version=1)
    sensing = Sensing(Intake(spool, "gym", lambda: config), frame_ms=lambda: 250, random_boot=lambda: 7)
    sightings, controllable = Sightings(folder / FILE), Controllable()
    ble = BleSettings.model_validate({"enabled": True, "slots": 40, **settings})
    source = BleSource(ble, catalogue(), sensing, sightings, controllable, random=lambda: 0.5, limits=limits)
    storing, hearing = (
        asyncio.create_task(sensing.run()),
        asyncio.create_task(keep_running("ble", source.run, Counter(), random=lambda: 0.5)),
    )
    box = Box(spool, sensing, sightings, controllable, source)
    try:
        yield box
        assert not hearing.done()
    finally:
        for task in (hearing, storing):
            task.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await task
        box.stored = box.beats()
        await spool.close()


async def until(holds: Callable[[], bool], *, what: Callable[[], str] = str, limit_s: float = LIMIT_S) -> None:
    """Wait for a condition."""
    try:
        async with asyncio.timeout(limit_s):
            while not holds():
                await asyncio.sleep(0.02)
    except TimeoutError:
        raise AssertionError(f"not within {limit_s:g} s: {what()}") from None


def sent(bluetooth: VirtualBluetooth, adapters: str = "") -> Beats:
    """What straps said according to the virtual daemon, as a box stores it."""
    readers: dict[str, Reader] = {}
    found: Beats = {}
    profile = catalogue().ble(HR)
    assert profile is not None
    layout = next(one for one in all_layouts().values() if one.name == "beats.1")
    for entry in bluetooth.entries():
        if entry.uuid == HR and (not adapters or entry.adapter in adapters.split()):
            reader = readers.setdefault(entry.device, Reader(profile))
            for sample in reader.feed(entry.payload, entry.t_us):
                (row,) = layout.unpack(layout.pack({"tick_ms": 0, **sample.values}))
                found.setdefault(f"ble-{entry.device.replace(':', '').lower()}", []).append((row["rr_ms"], row["hr_bpm"]))
    return found


def descriptors() -> int:
    """File descriptors this process holds."""
    return len(os.listdir("/proc/self/fd"))


def callbacks() -> tuple[int, int, int]:
    """What bleak keeps for this loop: device watchers, advertisement callbacks, condition callbacks."""
    kept = manager._global_instances[asyncio.get_running_loop()]
    return (
        sum(len(watchers) for watchers in kept._device_watchers.values()),
        sum(len(callbacks) for callbacks in kept._advertisement_callbacks.values()),
        sum(len(callbacks) for callbacks in kept._condition_callbacks.values()),
    )
