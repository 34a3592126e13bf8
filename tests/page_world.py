"""A small gym behind the real API: log, runner, stores and page of a platform, and athletes on a round course made as frames.

Athletes are `Runner`s in the plain sense: `World.run` appends their frames for a span of time that may lie in the past, so that laps, efforts
and finished activities exist within a second; `World.keep_running` goes on in real time. The server can be stopped and started again.
"""

from __future__ import annotations

import asyncio
import contextlib
import math
import time
from collections.abc import AsyncIterator, Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from broker.frames import Frame, encode_frame
from broker.ids import route_of
from broker.layouts import layout_named
from broker.logrecord import Kind, LogRecord
from broker.nodeconfig import DeviceCount, NodeState
from broker.reference import AthleteRef, Reference, SegmentRef, encode_reference
from paceline.supervise import free_port
from processors.api import ApiOptions, serve_api
from processors.api.opening import open_services
from processors.log import SqliteLog
from processors.runner import Runner

US = 1_000_000
MOTION = layout_named("motion.1")
TENANT = "gym"
LAP_M = 1400.0
LAT, LON = 45.07, 7.69
_M_PER_DEG = 111_195.0
SAMPLES = 10  # of one frame


def place(along_m: float) -> tuple[float, float, float]:
    """Latitude, longitude and altitude after so many metres of the course: a long round with a bend inwards, and a hill."""
    a = 2 * math.pi * (along_m % LAP_M) / LAP_M
    x, y = 270 * math.cos(a) - 30 * math.cos(2 * a), 165 * math.sin(a) + 45 * math.sin(2 * a)
    altitude = 240 + 14 * math.sin(a - 0.7) + 3 * math.sin(5 * a)
    return LAT + y / _M_PER_DEG, LON + x / (_M_PER_DEG * math.cos(math.radians(LAT))), altitude


def segment(ident: str, name: str, from_m: float, to_m: float) -> SegmentRef:
    """A stretch of the course."""
    count = max(int((to_m - from_m) / 5), 2)
    points = [place(from_m + (to_m - from_m) * i / count) for i in range(count + 1)]
    return SegmentRef(tenant=TENANT, id=ident, name=name, points=tuple((round(lat * 1e7), round(lon * 1e7)) for lat, lon, _ in points))


@dataclass(slots=True)
class Athlete:
    """Somebody with a watch: `name` empty is an unknown device. `pace` is the share of full speed, `heart` the heart rate."""

    device: str
    name: str
    speed_mps: float
    heart_bpm: int
    along_m: float = 0.0
    seq: int = 0
    positions: bool = True
    sent_to_us: int = 0

    @property
    def subject(self) -> str:
        return f"{TENANT}/{self.name}" if self.name else ""

    def frame(self, start_us: int, seconds: int, boot: int) -> Frame:
        """The next `seconds` samples, one a second."""
        rows: list[bytes] = []
        for i in range(seconds):
            lat, lon, altitude = place(self.along_m)
            wave = math.sin((start_us / US + i) / 9 + len(self.device))
            values: dict[str, float] = {"tick_ms": i * 1000, "speed_mps": self.speed_mps, "distance_m": self.along_m}
            if self.heart_bpm:
                values["hr_bpm"] = round(self.heart_bpm + 3 * wave)
            if self.positions:
                values |= {"lat": lat, "lon": lon, "altitude_m": altitude, "altitude_source": 1, "accuracy_m": 3}
            rows.append(MOTION.pack(values))
            self.along_m += self.speed_mps
        made = Frame(MOTION.id, 1, self.device, boot, self.seq, 0, start_us, 2, self.subject, b"".join(rows))
        self.seq += 1
        return made


@dataclass(slots=True)
class World:
    """The platform of one test."""

    path: Path
    log: SqliteLog
    runner: Runner
    port: int
    athletes: dict[str, Athlete] = field(default_factory=dict)
    _stop: asyncio.Event = field(default_factory=asyncio.Event)
    _serving: asyncio.Task[None] | None = None

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}/"

    def add(self, *athletes: Athlete) -> None:
        for athlete in athletes:
            self.athletes[athlete.device] = athlete

    def refer(self, *values: Reference) -> None:
        """Segments and athletes, as a person would write them."""
        self.log.append([LogRecord(Kind.REFERENCE, v.tenant, v.tenant, "", time.time_ns() // 1000, encode_reference(v)) for v in values])

    def run(self, devices: Iterable[str], from_us: int, seconds: int, *, appended_us: int | None = None, boot: int = 1) -> None:
        """Let these run for a while from a time on."""
        records: list[LogRecord] = []
        for device in devices:
            athlete = self.athletes[device]
            for start_s in range(0, seconds, SAMPLES):
                start_us, count = from_us + start_s * US, min(SAMPLES, seconds - start_s)
                frame = athlete.frame(start_us, count, boot)
                at_us = appended_us if appended_us is not None else min(start_us + count * US, time.time_ns() // 1000)
                key = route_of(TENANT, "box-1", frame.device, frame.subject, self_numbered=frame.self_numbered)
                records.append(LogRecord(Kind.FRAME, key, TENANT, "box-1", at_us, encode_frame(frame)))
            athlete.sent_to_us = from_us + seconds * US
        self.log.append(records)

    async def keep_running(self, devices: Sequence[str]) -> None:
        """A sample a second of each, until cancelled."""
        while True:
            now_us = time.time_ns() // 1000
            for device in devices:
                due = (now_us - self.athletes[device].sent_to_us) // US
                if due >= 1:
                    self.run([device], self.athletes[device].sent_to_us, int(due))
            await asyncio.sleep(0.25)

    def nodes(self) -> dict[tuple[str, str], NodeState]:
        """What the boxes say."""
        counts = tuple(DeviceCount(device=a.device, taken=a.seq, stored=a.seq) for a in self.athletes.values())
        return {
            (TENANT, "box-1"): NodeState(online=True, spool_rows=3, hours_left=311.0, devices=counts),
            (TENANT, "box-2"): NodeState(online=False, spool_rows=4120, hours_left=20.5),
        }

    async def serve(self) -> None:
        """Start the API and the page; returns when they answer."""
        self._stop = asyncio.Event()
        ready = asyncio.Event()

        async def until_stopped() -> None:
            latency = self.runner.latency.quantiles
            with open_services(
                self.log, self.path / "state.db", self.path / "nodes", TENANT, nodes=self.nodes, latency=latency
            ) as services:
                await serve_api(services, ApiOptions(TENANT, port=self.port), self._stop, ready.set)

        self._serving = asyncio.create_task(until_stopped())
        waiting = asyncio.create_task(ready.wait())
        await asyncio.wait({self._serving, waiting}, timeout=60, return_when=asyncio.FIRST_COMPLETED)
        waiting.cancel()
        if self._serving.done():
            self._serving.result()

    async def stop_serving(self) -> None:
        self._stop.set()
        if self._serving is not None:
            await asyncio.wait_for(self._serving, 60)
            self._serving = None


def athlete_ref(ident: str, **more: object) -> AthleteRef:
    """Who an athlete is: the id with a capital, unless said otherwise."""
    return AthleteRef.model_validate({"tenant": TENANT, "id": ident, "name": ident.capitalize(), **more})


@contextlib.asynccontextmanager
async def open_world(path: Path) -> AsyncIterator[World]:
    """A platform with an empty log; its runner follows the log in the background. Call `serve` for the page."""
    with SqliteLog.open(path / "log.db") as log:
        runner = Runner(log, path / "state.db")
        world = World(path, log, runner, free_port())
        running = asyncio.create_task(runner.run())
        try:
            yield world
        finally:
            await world.stop_serving()
            await runner.finish(running, 20)
            runner.close()
