"""A gateway as its own process, and the platform's side of its uplink: a collector that acknowledges what it holds."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Self

import aiomqtt

from broker.acks import Ack, encode_ack, to_ranges
from broker.bundles import Bundle, decode_bundle
from broker.frames import Frame, decode_frame
from broker.topics import topic
from tests.servers import PROJECT, ServedBroker

TENANT, NODE = "gym", "box"
BOX, PLATFORM, NEAR = f"{TENANT}/{NODE}", "platform/ingest", "platform/box"


class GatewayProcess:
    """`python -m gateway` with settings for a central broker and, if given, a near one."""

    def __init__(self, folder: Path, central: ServedBroker, near: ServedBroker | None = None, **more: object) -> None:
        self.data_dir = folder / "gateway"
        self._log = folder / "gateway.log"
        self._settings = folder / "gateway.json"
        document = {
            "data_dir": str(self.data_dir), "tenant": TENANT, "node": NODE, "password": central.password(BOX),
            "uplink": {"host": central.host, "port": central.port}, **more,
        }  # fmt: skip
        if near is not None:
            document["near"] = {"host": near.host, "port": near.port, "username": NEAR, "password": near.password(NEAR)}
        self._settings.write_text(json.dumps(document))
        self.process: subprocess.Popen[bytes] | None = None

    def start(self, kill_at: str = "") -> None:
        """Start it, to be killed at a named point if one is given."""
        env = {**os.environ, "PACELINE_KILL_AT": kill_at}
        with self._log.open("ab") as log:
            self.process = subprocess.Popen(
                [sys.executable, "-m", "gateway", str(self._settings)], cwd=PROJECT, env=env, stdout=log, stderr=log
            )

    async def ended(self, timeout_s: float = 60.0) -> int:
        """Wait until it ended by itself: the exit code."""
        assert self.process is not None
        deadline = time.monotonic() + timeout_s
        while self.process.poll() is None:
            assert time.monotonic() < deadline, f"the gateway did not end:\n{self.log()}"
            await asyncio.sleep(0.02)
        return self.process.returncode

    async def end(self, number: signal.Signals = signal.SIGTERM) -> int:
        """Signal it and wait: the exit code."""
        assert self.process is not None
        if self.process.poll() is None:
            self.process.send_signal(number)
        return await self.ended()

    async def kill(self) -> None:
        await self.end(signal.SIGKILL)

    def log(self) -> str:
        return self._log.read_text(errors="replace")[-6000:] if self._log.exists() else ""


class Collector:
    """The platform's side of one broker: keeps every frame of the box and its state, and acknowledges what it keeps."""

    def __init__(self, broker: ServedBroker) -> None:
        self._broker = broker
        self.raw: list[bytes] = []
        self.frames: dict[tuple[str, int, int], Frame] = {}
        self.conflicts: list[tuple[bytes, bytes]] = []
        self._bytes: dict[tuple[int, int], bytes] = {}
        self.state: dict = {}
        self._task: asyncio.Task[None] | None = None
        self._client: aiomqtt.Client | None = None

    async def __aenter__(self) -> Self:
        self._task = asyncio.create_task(self._run())
        return self

    async def __aexit__(self, *_exc: object) -> None:
        assert self._task is not None
        self._task.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await self._task

    async def configure(self, **document: object) -> None:
        """Publish a configuration, retained."""
        assert self._client is not None
        await self._client.publish(topic(TENANT, NODE, "cfg"), json.dumps(document), qos=1, retain=True)

    async def until(self, what, timeout_s: float = 60.0) -> None:
        """Wait until `what(self)` holds."""
        deadline = time.monotonic() + timeout_s
        while not what(self):
            assert self._task is not None
            if self._task.done():
                self._task.result()
            assert time.monotonic() < deadline, f"not reached; {len(self.frames)} frames, state {self.state}"
            await asyncio.sleep(0.02)

    async def _run(self) -> None:
        who = self._broker
        async with aiomqtt.Client(who.host, who.port, username=PLATFORM, password=who.password(PLATFORM), identifier=PLATFORM) as client:
            await client.subscribe([(topic(TENANT, NODE, "up"), 1), (topic(TENANT, NODE, "state"), 1)])
            self._client = client
            async for message in client.messages:
                if message.topic.value.endswith("/state"):
                    self.state = json.loads(message.payload)
                else:
                    await client.publish(topic(TENANT, NODE, "ack"), self._take(message.payload))

    def _take(self, payload: bytes) -> bytes:
        bundle = decode_bundle(payload)
        assert isinstance(bundle, Bundle)
        assert bundle.complete
        for n, raw in enumerate(bundle.rows, bundle.first_n):
            self._keep(bundle.epoch, n, raw)
        return encode_ack(Ack(bundle.epoch, to_ranges(range(bundle.first_n, bundle.first_n + bundle.count))))

    def _keep(self, epoch: int, n: int, raw: bytes) -> None:
        before = self._bytes.setdefault((epoch, n), raw)
        if before != raw:
            self.conflicts.append((before, raw))
        frame = decode_frame(raw)
        assert isinstance(frame, Frame)
        self.raw.append(raw)
        self.frames.setdefault((frame.device, frame.boot, frame.seq), frame)
