"""The ANT+ source: the sticks of a box, kept open, and what they hear handed on. The shell around `ant_stick` and `ant_devices`.

A stick that is pulled out, does not answer or falls silent is closed and opened again with back-off, for as long as the gateway runs; other
sticks notice nothing. After a start that came to nothing a USB stick is reset first. The key comes from the settings and goes to the stick.
"""

from __future__ import annotations

import asyncio
import logging
from collections import Counter
from collections.abc import Awaitable, Callable
from typing import Final

from broker.errors import ConfigError
from broker.liveness import Part
from device_profiles.catalogue import Catalogue, catalogue
from gateway.ant_control import AntControl
from gateway.ant_devices import AntDevices, Samples
from gateway.ant_messages import ChannelId
from gateway.ant_search import Search
from gateway.ant_stick import Phase, StickSettings
from gateway.ant_talk import StickLostError, Talk
from gateway.ant_transport import Transport, open_stick
from gateway.clock import Instant
from gateway.controllable import Controllable
from gateway.intake import read_clock
from gateway.settings import AntSettings
from gateway.sightings import Sightings

log = logging.getLogger(__name__)

FIRST_BACKOFF_S: Final = 0.5
LAST_BACKOFF_S: Final = 10.0
STEADY_S: Final = 30.0
_FIRST: Final = {120: 0, 17: 1, 11: 2}  # straps, machines and power meters before all else, where channels must search
SWEEP_S: Final = 1.0


def searches_of(profiles: Catalogue) -> list[Search]:
    """The kinds of sensors there is a profile for."""
    return [Search(int(p.key.partition(":")[2]), p.ant_period) for p in profiles.all() if p.source == "ant" and p.ant_period]


class AntSource:
    """`run` until cancelled; `counted` for the state of the node. ConfigError when a setting or a library is missing."""

    def __init__(
        self,
        settings: AntSettings,
        sensing: Samples,
        sightings: Sightings,
        controllable: Controllable,
        *,
        random: Callable[[], float],
        alive: Part,
        profiles: Catalogue | None = None,
        clock: Callable[[], Instant] = read_clock,
        opener: Callable[..., Awaitable[Transport]] = open_stick,
    ) -> None:
        known = profiles or catalogue()
        self._set = settings
        self._random = random
        self._alive = alive
        self._clock = clock
        self._opener = opener
        self._stick = StickSettings(
            bytes.fromhex(settings.key.get_secret_value()),
            tuple(sorted(searches_of(known), key=lambda search: _FIRST.get(search.type, len(_FIRST)))),
            may_scan=settings.scan == "auto",
        )
        self.devices = AntDevices(known, sensing, sightings, controllable, self._control, allow=settings.allow, deny=settings.deny)
        self._talks: dict[str, Talk] = {}
        self._counts: Counter[str] = Counter()

    async def run(self) -> None:
        """Keep every stick open until cancelled."""
        try:
            async with asyncio.TaskGroup() as tasks:
                for place, setting in enumerate(self._set.sticks):
                    tasks.create_task(self._keep(setting, f"{setting} {place + 1}"))
                while True:
                    self.devices.sweep(self._clock().mono_us)
                    self._alive.beat()
                    await asyncio.sleep(SWEEP_S)
        finally:
            self._alive.rest()

    def counted(self) -> dict[str, int]:
        """What the sticks did since the start, and how many listen now."""
        counts = self._counts + self.devices.counts
        for talk in self._talks.values():
            counts += talk.counts()
        listening = sum(talk.stick.phase is Phase.LISTENING for talk in self._talks.values())
        named = {"sticks": len(self._set.sticks), "listening": listening, "devices": len(self.devices), **counts}
        return {f"ant_{name}": value for name, value in named.items()}

    async def _keep(self, setting: str, name: str) -> None:
        loop = asyncio.get_running_loop()
        backoff_s = FIRST_BACKOFF_S
        told = ""
        unanswered = 0
        while True:
            began_s = loop.time()
            try:
                await self._once(setting, name, reset=unanswered > 0)
            except (OSError, ConfigError) as error:
                said = error.strerror if isinstance(error, OSError) and error.strerror else str(error)
                if said != told:
                    told = said
                    log.warning("ant stick %s; tried again until it is back", said)
                unanswered = unanswered + 1 if isinstance(error, StickLostError) else 0
            self._counts["reopened"] += 1
            if loop.time() - began_s >= STEADY_S:
                backoff_s, told = FIRST_BACKOFF_S, ""
            await asyncio.sleep(backoff_s * (0.5 + self._random()))
            backoff_s = min(2 * backoff_s, LAST_BACKOFF_S)

    async def _once(self, setting: str, name: str, *, reset: bool) -> None:
        """Open a stick and talk with it until it is lost: OSError says why."""
        transport = await self._opener(setting, reset=reset)
        talk = self._talks[name] = Talk(transport, self._stick, lambda page: self.devices.take(page, name, self._clock().mono_us))
        try:
            await talk.run()
        finally:
            del self._talks[name]
            self._counts += talk.counts()
            self.devices.stick_gone(name)
            await transport.close()

    def _control(self, name: str, who: ChannelId) -> AntControl:
        async def send(payload: bytes) -> None:
            talk = self._talks.get(name)
            if talk is None:
                raise StickLostError(f"ant stick {name} is away")
            await talk.send(who, payload)

        return AntControl(send)
