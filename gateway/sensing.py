"""Sensing: what radios hear of dumb sensors becomes numbered, durable frames. The one way from a source in this box to the intake.

`take` is called by a source for every packet and only puts samples into the device's session; `run` closes what is old and stores all
closed frames of all devices in one group commit, every 200 ms. A sensor's frames are numbered by this node (origin = node + device).
Bounded: while the spool refuses frames, up to `MAX_WAITING_FRAMES` wait; samples beyond that are refused and counted before they get
a number. Beyond `capacity` devices, the one heard longest ago ends its numbering. A device whose layout is wrong is counted, never raised.
"""

from __future__ import annotations

import asyncio
import logging
from collections import OrderedDict
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from typing import Final

from broker.errors import BadInputError, StoreError
from broker.frames import Frame
from broker.layouts import Layout, layout_named
from broker.liveness import Part, unwatched
from device_profiles.samples import Sample
from gateway.clock import Instant
from gateway.intake import Intake, read_clock
from gateway.sessions import DeviceSession, record_body

log = logging.getLogger(__name__)

PASS_S: Final = 0.2
GROUP_FRAMES: Final = 500  # of one append; the spool takes 1,000
MAX_WAITING_FRAMES: Final = 2000  # at most 2 MB; with 40 sensors about a minute and a half
FULL_WAIT_S: Final = 1.0
LAST_STORE_S: Final = 2.0  # at the end: a disk that does not answer by then keeps what it has


@dataclass(slots=True)
class SensedCounters:
    """What sensors delivered since the process started."""

    samples: int = 0
    frames: int = 0
    refused: int = 0  # samples that came while the spool was full and as many frames as may wait did
    bad: int = 0  # samples their layout does not know: an error of a profile
    full_waits: int = 0

    def as_dict(self) -> dict[str, int]:
        return {f"sensed_{name}": value for name, value in asdict(self).items()}


class Sensing:
    """Sessions of all sensors of this box. `frame_ms` gives the longest frame now; `random_boot` 64 random bits for a new numbering."""

    def __init__(
        self,
        intake: Intake,
        *,
        frame_ms: Callable[[], int],
        random_boot: Callable[[], int],
        clock: Callable[[], Instant] = read_clock,
        capacity: int = 1024,
        alive: Part | None = None,
    ) -> None:
        self._alive = alive or unwatched()
        self.counters = SensedCounters()
        self._intake = intake
        self._frame_ms = frame_ms
        self._random_boot = random_boot
        self._clock = clock
        self._capacity = capacity
        self._sessions: OrderedDict[str, DeviceSession] = OrderedDict()
        self._heard_us: dict[str, int] = {}
        self._waiting: list[Frame] = []
        self._storing: asyncio.Future[None] | None = None
        self._told: set[str] = set()

    def take(self, device: str, samples: Sequence[Sample], arrival_us: int) -> None:
        """Samples of one packet that arrived at `arrival_us` of the box's monotonic clock. BadInputError when `device` is not an id.

        Never blocks and never fails for what is in the samples. From the event loop only.
        """
        session = self._session(device)
        if samples:
            self._heard_us[device] = arrival_us
        now = self._clock()
        for sample in samples:
            if len(self._waiting) >= MAX_WAITING_FRAMES:
                self.counters.refused += 1
                continue
            packed = self._packed(device, sample)
            if packed is not None:
                layout, body = packed
                self._waiting += session.add(layout, max(arrival_us - sample.age_us, 0), body, now)
                self.counters.samples += 1

    def heard_us(self, device: str) -> int | None:
        """When the last packet of a device with samples in it arrived, on the box's monotonic clock."""
        return self._heard_us.get(device)

    def lost(self, device: str) -> None:
        """The device is gone: what it said so far is closed. It keeps its numbering for when it comes back."""
        session = self._sessions.get(device)
        if session is not None:
            self._waiting += session.close(self._clock())

    async def run(self) -> None:
        """Close and store until cancelled; what is open by then is stored too, as far as the disk takes it within two seconds."""
        try:
            while True:
                self._alive.beat()
                wait_s = PASS_S if await self._pass() else FULL_WAIT_S
                await asyncio.sleep(wait_s)
        finally:
            self._alive.rest()
            await self._last_pass()

    async def _pass(self) -> bool:
        """One pass: False when the spool took nothing, and a longer wait is due."""
        now = self._clock()
        ahead_us = round(PASS_S * 1e6)
        soon = Instant(now.mono_us + ahead_us, now.utc_us + ahead_us)  # what would be too old at the next pass closes now
        frame_ms = self._frame_ms()
        for session in self._sessions.values():
            session.frame_ms = frame_ms
            self._waiting += session.poll(soon)
        try:
            while self._waiting:
                await self._store()
        except StoreError as error:
            if not self.counters.full_waits:
                log.warning("%d frames of sensors wait: %s", len(self._waiting), error.message)
            self.counters.full_waits += 1
            return False
        return True

    async def _store(self) -> None:
        """One append. A cancellation does not end it half way: the last pass waits for it, so that nothing is stored twice."""
        group = self._waiting[:GROUP_FRAMES]
        if self._storing is None:
            self._storing = asyncio.ensure_future(self._append(group))
        storing = self._storing
        try:
            await asyncio.shield(storing)
        finally:
            if storing.done():
                self._storing = None

    async def _append(self, group: list[Frame]) -> None:
        await self._intake.take(group)
        del self._waiting[: len(group)]
        self.counters.frames += len(group)

    async def _last_pass(self) -> None:
        for session in self._sessions.values():
            self._waiting += session.close(self._clock())
        try:
            async with asyncio.timeout(LAST_STORE_S):
                while self._waiting:
                    await self._store()
        except (StoreError, TimeoutError) as error:
            if self._storing is not None:
                self._storing.cancel()
            log.warning("%d frames of sensors were not stored at the end: %s", len(self._waiting), error or "the disk did not answer")

    def _session(self, device: str) -> DeviceSession:
        session = self._sessions.get(device)
        if session is None:
            session = self._sessions[device] = DeviceSession(device, self._random_boot(), frame_ms=self._frame_ms())
            if len(self._sessions) > self._capacity:
                oldest, forgotten = self._sessions.popitem(last=False)
                self._heard_us.pop(oldest, None)
                self._waiting += forgotten.close(self._clock())
        self._sessions.move_to_end(device)
        return session

    def _packed(self, device: str, sample: Sample) -> tuple[Layout, bytes] | None:
        try:
            layout = layout_named(sample.layout)
            return layout, record_body(layout, sample.values)
        except BadInputError as error:
            self.counters.bad += 1
            if sample.layout not in self._told:
                self._told.add(sample.layout)
                log.warning("%s: a sample is left out: %s", device, error.message)
            return None
