"""Simulated devices of the kit, each its own MicroPython process, against a real mosquitto with client certificates, a bad link, ingest and the log.

async with Site(tmp_path, devices, seed=1) as site:
    await site.run(broker_kills=2, link_cuts=3, device_kills=5)
    site.judge()
"""

from __future__ import annotations

import asyncio
import json
import random
import time
from collections import defaultdict
from contextlib import AsyncExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Self
from zlib import crc32

from broker.frames import Frame, decode_frame, encode_frame
from broker.ids import origin_of
from processors.bulk_client import BulkSettings
from processors.ingest import IngestService
from processors.log import SqliteLog
from tests.firmware import HEAP, command, environment
from tests.proxy import Proxy, start_proxy
from tests.servers import Certificates, ServedBroker, make_certificates, start_mosquitto

TENANT = "gym"
SCRIPT = Path(__file__).parent / "lanes" / "device.py"
PATIENCE_S = 240.0


@dataclass(frozen=True, slots=True)
class Device:
    """A strap behind a bridge (numbered by the bridge), or a bike sensor that numbers itself."""

    node: str
    device: str
    kind: str
    frames: int
    lane: str = "micropython"

    @property
    def self_numbered(self) -> bool:
        return self.node == self.device


@dataclass(slots=True)
class Told:
    """What a device said: frames it has stored durably as (boot, seq) -> CRC, in order, heap in use, and how it ended."""

    frames: dict[tuple[int, int], int] = field(default_factory=dict[tuple[int, int], int])
    heap: list[int] = field(default_factory=list[int])
    refused: list[str] = field(default_factory=list[str])
    starts: int = 0
    cuts: int = 0  # links that its own network broke, since its last start
    killed: int = 0
    done: bool = False


class Site:
    """Broker, proxy, ingest and log for `devices`."""

    def __init__(self, folder: Path, devices: tuple[Device, ...], seed: int, *, tls: bool = True, heap: str = HEAP, **config: Any) -> None:
        self.folder = folder
        self.tls = tls
        self.heap = heap
        self.devices = devices
        self.told = {one: Told() for one in devices}
        self.dice = random.Random(seed)
        self.config = {"period_ms": 20, "sectors": 8, "backoff_ms": 300} | config
        self.broker_kills = self.link_cuts = self.logged_frames = 0
        self._stack = AsyncExitStack()
        self._kills_due: dict[Device, int] = dict.fromkeys(devices, 0)
        self._processes: dict[Device, asyncio.subprocess.Process] = {}

    async def __aenter__(self) -> Self:
        home = self.folder / "mosquitto-tls" / "tls"
        users = (*(f"{TENANT}/{one.node}" for one in self.devices), "platform/ingest")
        config = f"cafile {home / 'ca.crt'}\nrequire_certificate true\n" if self.tls else ""
        self.broker: ServedBroker = await self._stack.enter_async_context(
            start_mosquitto(self.folder, users=users, tls=self.tls, extra_config=config)
        )
        self.proxy: Proxy = await self._stack.enter_async_context(start_proxy(self.broker.port))
        self._certificates = {one: make_certificates(home, name=one.node) for one in self.devices}
        self._ingest(make_certificates(home, name="ingest"))
        return self

    async def __aexit__(self, *why: object) -> None:
        for process in self._processes.values():
            if process.returncode is None:
                process.kill()
                await process.wait()
        self._serving.cancel()
        await asyncio.wait({self._serving})
        self.log.close()
        await self._stack.aclose()

    def _ingest(self, shown: Certificates) -> None:
        context = self.broker.tls_context()
        if context is not None:
            context.load_cert_chain(shown.certfile, shown.keyfile)
        self.log = SqliteLog.open(self.folder / "log.db")
        password = self.broker.password("platform/ingest")
        self.ingest = IngestService(BulkSettings("localhost", self.broker.port, "platform/ingest", password, tls=context), self.log)
        self._serving = asyncio.create_task(self.ingest.run())

    async def run(self, *, broker_kills: int = 0, link_cuts: int = 0, device_kills: int = 0, patience_s: float = PATIENCE_S) -> None:
        """All frames made, sent and acknowledged, through so many faults (device kills are shared out)."""
        for i in range(device_kills):
            self._kills_due[self.devices[i % len(self.devices)]] += 1
        living = [asyncio.create_task(self._live(one)) for one in self.devices]
        faults = asyncio.create_task(self._disturb(broker_kills, link_cuts, living))
        done, _ = await asyncio.wait([*living, faults], timeout=patience_s + 2 * device_kills, return_when=asyncio.FIRST_EXCEPTION)
        for task in done:
            task.result()
        assert len(done) == len(self.devices) + 1, (
            f"still at it: {[(one.node, told.starts, len(told.frames)) for one, told in self.told.items()]}"
        )

    async def _disturb(self, broker_kills: int, link_cuts: int, living: list[asyncio.Task[None]]) -> None:
        faults = ["broker"] * broker_kills + ["link"] * link_cuts
        self.dice.shuffle(faults)
        for fault in faults:
            await asyncio.sleep(self.dice.uniform(0.1, 0.6))
            if all(task.done() for task in living):
                return
            if fault == "broker":
                await self.broker.kill()
                await self.broker.start()
                self.broker_kills += 1
            else:
                self.proxy.cut_in_bytes = self.dice.randrange(1, 3000)
                self.link_cuts += 1

    async def _live(self, device: Device) -> None:
        """Start the device again and again until it has made its frames and owes none."""
        told = self.told[device]
        while not told.done:
            process = await self._start(device)
            assert process.stdout is not None
            if self._kills_due[device] and told.starts % 3 == 0:  # killed from outside, wherever it is
                await self._hear(device, process, self.dice.uniform(0.05, 0.6))
                process.kill()
            await self._hear(device, process, None)
            code = await process.wait()
            if not told.done:
                assert code in {-9, 137}, f"{device.node} ended with {code}: {(self.folder / f'{device.node}.err').read_text()[-2000:]}"
                told.killed += 1
                self._kills_due[device] = max(0, self._kills_due[device] - 1)

    async def _start(self, device: Device) -> asyncio.subprocess.Process:
        told = self.told[device]
        told.starts += 1
        shown = self._certificates[device]
        who = {"tenant": TENANT, "node": device.node, "device": device.device, "kind": device.kind}
        where = {"host": "127.0.0.1", "port": self.proxy.port, "password": self.broker.password(f"{TENANT}/{device.node}")}
        tls = {"ca": str(shown.cafile), "cert": str(shown.certfile), "key": str(shown.keyfile)} if self.tls else {}
        left = {
            "frames": max(0, device.frames - len(told.frames)),
            "utc_us": time.time_ns() // 1000,
            "image": str(self.folder / f"{device.node}.nor"),
        }
        cut = {
            "seed": self.dice.randrange(1 << 30),
            "cut_at": self.dice.randrange(1, 120) if self._kills_due[device] and told.starts % 3 else 0,
        }
        path = self.folder / f"{device.node}.json"
        path.write_text(json.dumps({**self.config, **who, **where, **tls, **left, **cut}))
        with (self.folder / f"{device.node}.err").open("ab") as errors:
            process = await asyncio.create_subprocess_exec(
                *command(device.lane, SCRIPT, str(path), heap=self.heap),
                env=environment(device.lane),
                stdout=asyncio.subprocess.PIPE,
                stderr=errors,
            )
        self._processes[device] = process
        return process

    async def _hear(self, device: Device, process: asyncio.subprocess.Process, for_s: float | None) -> None:
        """Take what the process says until it ends, or for a while."""
        told = self.told[device]
        assert process.stdout is not None
        try:
            async with asyncio.timeout(for_s):
                while line := await process.stdout.readline():
                    words = line.decode().split()
                    if not line.endswith(b"\n"):
                        return
                    if words[0] == "A":
                        told.frames[int(words[1]), int(words[2])] = int(words[3])
                    elif words[0] == "M":
                        told.heap.append(int(words[1]))
                    elif words[0] == "C":
                        told.cuts = max(told.cuts, int(words[1]))
                    elif words[0] == "R":
                        told.refused.append(line.decode())
                    elif words[0] == "D":
                        told.done = True
        except TimeoutError:
            return

    def logged(self) -> dict[str, list[Frame]]:
        """Frames in the log by origin, in the order of their appending, repeats left out; the copies must be equal."""
        found: dict[str, dict[tuple[int, int], Frame]] = defaultdict(dict)
        self.logged_frames = 0
        after = 0
        while True:
            first, records = self.log.read(after, 1000)
            if not records:
                break
            after = first + len(records) - 1
            for record in records:
                frame = decode_frame(record.body)
                assert isinstance(frame, Frame)
                origin = origin_of(record.tenant, record.node, frame.device, self_numbered=frame.self_numbered)
                assert found[origin].setdefault((frame.boot, frame.seq), frame) == frame, "two frames of one name"
                self.logged_frames += 1
        return {origin: list(frames.values()) for origin, frames in found.items()}

    def judge(self, *, in_flight: bool = True) -> str:
        """0 lost, 0 twice, gapless in order; nothing the device did not make (a frame whose saying was cut off may be there). The figures in words."""
        logged = self.logged()
        said: list[str] = []
        for device, told in self.told.items():
            origin = f"{TENANT}/{device.device}" if device.self_numbered else f"{TENANT}/{device.node}/{device.device}"
            frames = logged.get(origin, [])
            have = {(frame.boot, frame.seq): frame for frame in frames}
            lost = [name for name in told.frames if name not in have]
            assert lost == [], f"{device.node}: lost {len(lost)}: {lost[:5]}"
            assert told.refused == []
            unsaid = [name for name in have if name not in told.frames]
            assert len(unsaid) <= (told.killed if in_flight else 0)
            by_boot: dict[int, list[int]] = defaultdict(list)
            for frame in frames:
                by_boot[frame.boot].append(frame.seq)
            for boot, seqs in by_boot.items():
                assert sorted(seqs) == list(range(len(seqs))), f"{device.node}: boot {boot:016x} has gaps"
            assert len(told.frames) >= device.frames
            self._check_bytes(device, told, have)
            said.append(f"{device.node}: {len(told.frames)} frames, {told.killed} kills, {told.starts} starts, 0 lost, 0 twice")
        return "; ".join(said)

    def _check_bytes(self, device: Device, told: Told, have: dict[tuple[int, int], Frame]) -> None:
        for name, crc in told.frames.items():
            assert crc32(encode_frame(have[name])) == crc, f"{device.node}: frame {name} differs"
