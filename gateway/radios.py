"""The radios of one box: the sources that hear sensors, and what they share. Wiring only.

Every source hands its samples to one `Sensing`, reports who is near to one `Sightings`, and announces what can be commanded to one
`Controllable`. A source that is off is not imported: a box without Bluetooth needs no Bluetooth library.
"""

from __future__ import annotations

import asyncio
import secrets
from collections import Counter
from collections.abc import Callable
from typing import Protocol

from broker.liveness import Part
from broker.nodeconfig import NodeConfig
from gateway.controllable import Controllable
from gateway.intake import Intake, read_clock
from gateway.keeping import keep_running
from gateway.sensing import Sensing
from gateway.settings import GatewaySettings
from gateway.sightings import FILE, Sightings


class RadioSource(Protocol):
    """One radio: `run` until cancelled; `counters` for the state of the node, with its own prefix."""

    async def run(self) -> None: ...
    def counted(self) -> dict[str, int]: ...


class Radios:
    """`add` the sources, then `start` runs them; `counters` is what the state of the node tells. Without a source nothing runs."""

    def __init__(
        self,
        settings: GatewaySettings,
        intake: Intake,
        config: Callable[[], NodeConfig],
        *,
        crashes: Counter[str],
        random: Callable[[], float],
        alive: Part,
    ) -> None:
        self.controllable = Controllable()
        self.sightings = Sightings(settings.data_dir / FILE, athlete_of=lambda device: config().athlete_at(device, read_clock().utc_us))
        self.sensing = Sensing(intake, frame_ms=lambda: config().frame_ms, random_boot=lambda: secrets.randbits(64), alive=alive)
        self._crashes = crashes
        self._random = random
        self._sources: dict[str, RadioSource] = {}

    def add(self, name: str, source: RadioSource) -> None:
        """One more source, before `start`."""
        self._sources[name] = source

    def start(self, storing: asyncio.TaskGroup, sources: asyncio.TaskGroup) -> None:
        """Begin. The tasks of `sources` must end before those of `storing`: what they heard last is stored then."""
        if not self._sources:
            return
        storing.create_task(keep_running("sensing", self.sensing.run, self._crashes, random=self._random))
        storing.create_task(keep_running("sightings", self.sightings.run, self._crashes, random=self._random))
        for name, source in self._sources.items():
            sources.create_task(keep_running(name, source.run, self._crashes, random=self._random))

    def counters(self) -> dict[str, int]:
        """What was heard and stored; empty without a radio."""
        counts = self.sensing.counters.as_dict() | self.sightings.counters() if self._sources else {}
        for source in self._sources.values():
            counts |= source.counted()
        return counts
