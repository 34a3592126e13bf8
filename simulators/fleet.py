"""Load: virtual devices on a few connections, their bundles made in blocks, so that the generator stays far below what it drives.

Connection k is the node `{name}{k:03d}`; it owns `devices` that number their own frames (`simulators/mill.py`). Closed loop: at most
`window` frames unacknowledged a connection. Open loop: `rate` frames a second over all, sent whether acknowledged or not. Nothing is
sent twice: what a broker drops stays open, and the report is not `drained`. A lost connection ends the run with LinkError: a load
that silently got smaller would measure nothing.
"""

from __future__ import annotations

import asyncio
import json
import logging
import os
import time
from collections import deque
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass, fields
from typing import Any, Final

from broker.acks import decode_ack
from broker.errors import BadInputError, LinkError, Rejected
from broker.mqtt_codec import DISCONNECT, Connack, PacketParser, Suback, Violation, encode_connect, encode_pubacks, encode_subscribe
from broker.topics import topic
from simulators.mill import BundleMill, FleetSettings
from simulators.swarm import Passwords, password_of, wall_us

log = logging.getLogger(__name__)

_BLOCK_FRAMES: Final = 512  # made in one go
_HIGH_WATER_BYTES: Final = 1 << 20
_NO_OF_LATENCIES: Final = 20_000
_CONNECT_TIMEOUT_S: Final = 30.0


@dataclass(frozen=True, slots=True)
class FleetReport:
    """What the fleet did. `ack_ms` are from write to ack of a block's first bundle, sampled."""

    sent_messages: int
    sent_frames: int
    sent_samples: int
    sent_bytes: int
    acked_frames: int
    refused_frames: int
    seconds: float  # until the last frame was sent
    drain_seconds: float  # from then until the last ack
    cpu_s: float
    frames_per_s: float
    samples_per_s: float
    cpu_us_per_frame: float
    ack_ms: dict[str, float]

    @property
    def drained(self) -> bool:
        """Everything was answered."""
        return self.acked_frames + self.refused_frames == self.sent_frames

    def to_json(self) -> str:
        return json.dumps(asdict(self) | {"drained": self.drained})


def fleet_usernames(settings: FleetSettings) -> list[str]:
    """The credentials the fleet needs: one a connection."""
    return [f"{settings.tenant}/{settings.name}{k:03d}" for k in range(settings.connections)]


class _Lane(asyncio.Protocol):
    """One connection of the fleet."""

    def __init__(self, settings: FleetSettings, mill: BundleMill, password: str) -> None:
        self.ready: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self.mill = mill
        self.sent_messages = self.acked = self.refused = 0
        self.sent_bytes = 0
        self.lost: Exception | None = None
        self.latencies_s: deque[float] = deque(maxlen=_NO_OF_LATENCIES)
        self._settings = settings
        self._password = password
        self._parser = PacketParser()
        self._transport: asyncio.Transport | None = None
        self._writable = True
        self._marks: deque[tuple[int, float]] = deque()  # first row of a block, when written
        self._ack_topic = topic(settings.tenant, mill.who.node, "ack")

    @property
    def sent_frames(self) -> int:
        return self.mill.next_n - self._settings.first

    @property
    def open_frames(self) -> int:
        """Sent and not answered."""
        return self.sent_frames - self.acked - self.refused

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self._transport = transport
        transport.set_write_buffer_limits(high=_HIGH_WATER_BYTES)
        name = self.mill.who.username
        transport.write(encode_connect(name, name, self._password, clean=True, keepalive=0))

    def data_received(self, data: bytes) -> None:
        assert self._transport is not None
        run = self._parser.feed_publishes(data)
        for event in run.others:
            if isinstance(event, Connack) and not event.code:
                self._transport.write(encode_subscribe(1, [(self._ack_topic, 1)]))
            elif isinstance(event, Suback) and 0x80 not in event.codes:
                if not self.ready.done():
                    self.ready.set_result(None)
            elif isinstance(event, Connack | Suback | Violation):
                self._fail(f"fleet node {self.mill.who.username}: broker answered {event}")
        if run.pids:
            self._transport.write(encode_pubacks(run.pids))
        for _, payload in run.messages:
            self._settle(payload)

    def connection_lost(self, exc: Exception | None) -> None:
        self._fail(f"fleet node {self.mill.who.username}: connection closed: {exc or 'by the broker'}")

    def pause_writing(self) -> None:
        self._writable = False

    def resume_writing(self) -> None:
        self._writable = True

    def send(self, frames: int) -> int:
        """Write whole bundles of at most `frames` frames now; returns the frames written."""
        messages = min(frames, _BLOCK_FRAMES) // self._settings.frames_per_bundle or (frames >= self._settings.frames_per_bundle)
        if not messages or not self._writable or self._transport is None or self._transport.is_closing():
            return 0
        self._marks.append((self.mill.next_n, time.monotonic()))
        block = self.mill.block(int(messages))
        self._transport.write(block)
        self.sent_messages += int(messages)
        self.sent_bytes += len(block)
        return int(messages) * self._settings.frames_per_bundle

    def close(self) -> None:
        """Leave in order."""
        if self._transport and not self._transport.is_closing():
            self._transport.write(DISCONNECT)
            self._transport.close()

    def _settle(self, payload: bytes) -> None:
        ack = decode_ack(payload)
        if isinstance(ack, Rejected) or ack.epoch != self.mill.epoch:
            log.warning("%s: an ack that is not ours", self.mill.who.username)
            return
        now_s = time.monotonic()
        for first, last in ack.stored:
            self.acked += last - first + 1
            while self._marks and self._marks[0][0] <= last:
                self.latencies_s.append(now_s - self._marks.popleft()[1])
        self.refused += sum(r.last - r.first + 1 for r in ack.refused)

    def _fail(self, message: str) -> None:
        self.lost = self.lost or LinkError(message, cure="is the broker up, with the fleet's credentials and queue limits?")
        if not self.ready.done():
            self.ready.set_exception(self.lost)
            self.ready.exception()


async def run_fleet(settings: FleetSettings) -> FleetReport:
    """Connect, send, wait for the acks (at most `drain_s`), report. LinkError when a connection fails."""
    start_us = _start_us(settings)
    lanes: list[_Lane] = []
    try:
        await _connect(settings, lanes, start_us)
        if settings.live:
            last_sample_us = start_us + (settings.samples_per_frame - 1) * 1_000_000
            await asyncio.sleep(max(last_sample_us - wall_us(), 0) / 1e6)
        began_s, cpu_s = time.monotonic(), time.process_time()
        await _drive(settings, lanes, began_s)
        sent_s = time.monotonic()
        while any(lane.open_frames for lane in lanes) and time.monotonic() - sent_s < settings.drain_s:
            _check(lanes)
            await asyncio.sleep(0.002)
        return _report(lanes, settings, sent_s - began_s, time.monotonic() - sent_s, time.process_time() - cpu_s)
    finally:
        for lane in lanes:
            lane.close()
        await asyncio.sleep(0.05)


def _start_us(settings: FleetSettings) -> int:
    """The true time of sample 0: as given, or so that the first frame ends two seconds from now (live), or a year ago."""
    if settings.start_us is not None:
        return settings.start_us
    if settings.live:
        return wall_us() + 2_000_000 - (settings.samples_per_frame - 1) * 1_000_000
    return wall_us() - 86_400 * 365 * 1_000_000


async def _connect(settings: FleetSettings, lanes: list[_Lane], start_us: int) -> None:
    """Open all lanes (into `lanes`, so that the caller closes what was opened)."""
    loop = asyncio.get_running_loop()
    try:
        mills = [BundleMill(settings, k, start_us) for k in range(settings.connections)]
        async with asyncio.timeout(_CONNECT_TIMEOUT_S):
            for mill in mills:
                lane = _Lane(settings, mill, password_of(settings.passwords, mill.who.username))
                lanes.append(lane)
                await loop.create_connection(lambda lane=lane: lane, settings.host, settings.port)
            await asyncio.gather(*(lane.ready for lane in lanes))
    except (OSError, TimeoutError) as error:
        raise LinkError(
            f"broker {settings.host}:{settings.port} cannot be reached: {error}", cure="start it, or change host and port"
        ) from error


async def _drive(settings: FleetSettings, lanes: list[_Lane], began_s: float) -> None:
    """Send until the frames or the seconds are used up."""
    for due in _dues(settings, began_s):
        _check(lanes)
        wrote = 0
        for lane in lanes:
            wrote += lane.send(due(lane))
        if settings.frames is not None and all(lane.sent_frames >= _whole(settings) for lane in lanes):
            return
        await asyncio.sleep(0 if wrote else 0.001)


def _dues(settings: FleetSettings, began_s: float) -> Iterator[Callable[[_Lane], int]]:
    """Again and again, until the time is up, how many frames a lane may send now."""
    most = _whole(settings) if settings.frames is not None else 1 << 62
    while (elapsed_s := time.monotonic() - began_s) < settings.seconds or settings.frames is not None:
        if settings.rate is None:
            yield lambda lane: min(settings.window - lane.open_frames, most - lane.sent_frames)
        else:
            target = int(elapsed_s * settings.rate / settings.connections)
            yield lambda lane, target=target: min(target, most) - lane.sent_frames


def _whole(settings: FleetSettings) -> int:
    """Frames a connection, rounded down to whole bundles."""
    return (settings.frames or 0) // settings.frames_per_bundle * settings.frames_per_bundle


def _check(lanes: list[_Lane]) -> None:
    for lane in lanes:
        if lane.lost:
            raise lane.lost


def _report(lanes: list[_Lane], settings: FleetSettings, seconds: float, drain_seconds: float, cpu_s: float) -> FleetReport:
    frames = sum(lane.sent_frames for lane in lanes)
    late = sorted(s * 1e3 for lane in lanes for s in lane.latencies_s)
    whole_s = max(seconds + drain_seconds, 1e-9)
    acked = sum(lane.acked for lane in lanes)
    return FleetReport(
        sent_messages=sum(lane.sent_messages for lane in lanes),
        sent_frames=frames,
        sent_samples=frames * settings.samples_per_frame,
        sent_bytes=sum(lane.sent_bytes for lane in lanes),
        acked_frames=acked,
        refused_frames=sum(lane.refused for lane in lanes),
        seconds=seconds,
        drain_seconds=drain_seconds,
        cpu_s=cpu_s,
        frames_per_s=acked / whole_s,
        samples_per_s=acked * settings.samples_per_frame / whole_s,
        cpu_us_per_frame=cpu_s * 1e6 / max(1, frames),
        ack_ms={f"p{p}": late[min(len(late) - 1, len(late) * p // 100)] for p in (50, 95, 99)} if late else {},
    )


def main(arguments: list[str]) -> int:
    """`python -m simulators.fleet key=value ...`: run in a process of its own, one JSON line out.

    Keys are those of FleetSettings; the password for all comes from the environment variable PACELINE_FLEET_PASSWORD, or a JSON
    object by user name from PACELINE_FLEET_PASSWORDS.
    """
    types = {field.name: str(field.type) for field in fields(FleetSettings)}
    chosen: dict[str, Any] = {}
    for argument in arguments:
        key, _, value = argument.partition("=")
        if key not in types or key == "passwords":
            raise BadInputError(f"fleet: unknown key {key!r}", cure=f"use {', '.join(k for k in types if k != 'passwords')}")
        kind = types[key].split(" ")[0]
        chosen[key] = value if kind == "str" else int(value) if kind == "int" else float(value)
    by_name = os.environ.get("PACELINE_FLEET_PASSWORDS")
    passwords: Passwords = json.loads(by_name) if by_name else os.environ["PACELINE_FLEET_PASSWORD"]
    report = asyncio.run(run_fleet(FleetSettings(**chosen, passwords=passwords)))
    os.write(1, report.to_json().encode() + b"\n")
    return 0 if report.drained else 1


if __name__ == "__main__":
    import sys

    sys.exit(main(sys.argv[1:]))
