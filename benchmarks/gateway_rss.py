"""Memory and CPU of a gateway process between two mosquittos: 30 devices near by at 4 Hz, one 1-sample frame a message, all acknowledged.

`rss_mb` and `cpu_percent` of one core are those of the gateway alone, after a warm-up; `frames_per_s` is what reached the platform side.
The baseline is a bare Python process that has imported the libraries the gateway stands on (aiomqtt, msgpack, pydantic, sqlite3).
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import aiomqtt

from benchmarks.machine import cpu_s_of, machine, rss_mb_of
from broker import mqtt_codec as mqtt
from broker.acks import Ack, encode_ack, to_ranges
from broker.bundles import Bundle, decode_bundle, encode_bundle
from broker.credentials import hash_secret, new_secret, write_passwords
from broker.errors import PacelineError
from broker.frames import SELF_NUMBERED, Clock, Frame, encode_frame
from broker.layouts import layout_named
from broker.mosquitto import MosquittoSettings, password_path, write_config
from broker.topics import topic
from tests.debian_packages import library_environment
from tests.servers import find_or_install_mosquitto, free_port

DEVICES = 30
RATE_HZ = 4
TENANT = "gym"
LIBRARIES = "import aiomqtt, asyncio, msgpack, pydantic, sqlite3, ssl, yaml, time; print(1, flush=True); time.sleep(60)"


@contextmanager
def mosquitto(folder: Path, users: tuple[str, ...]) -> Iterator[tuple[int, dict[str, str]]]:
    """(port, passwords) of a mosquitto of its own."""
    binary, port = find_or_install_mosquitto(), free_port()
    platform = tuple(user for user in users if user.startswith("platform/"))
    settings = MosquittoSettings(directory=folder, port=port, platform_users=platform, run_as="root" if os.geteuid() == 0 else "")
    folder.mkdir(parents=True, exist_ok=True)
    secrets = {user: new_secret() for user in users}
    write_passwords(password_path(settings), {user: hash_secret(secret) for user, secret in secrets.items()})
    command, libraries = [str(binary), "-c", str(write_config(settings))], library_environment(binary)
    with ended(subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, env=libraries)):
        until(lambda: listens(port))
        yield port, secrets


@contextmanager
def ended(process: subprocess.Popen[bytes]) -> Iterator[subprocess.Popen[bytes]]:
    """The process, ended on the way out."""
    try:
        yield process
    finally:
        process.send_signal(signal.SIGTERM)
        process.wait(20)


async def device(port: int, name: str, password: str, seconds: float) -> int:
    """One wearable: a frame every 250 ms for `seconds`; rows sent."""
    layout = layout_named("motion.1")
    user = f"{TENANT}/{name}"
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    writer.write(mqtt.encode_connect(user, user, password, clean=True, keepalive=60))
    writer.write(mqtt.encode_subscribe(1, [(topic(TENANT, name, "ack"), 1)]))
    listening = asyncio.create_task(read_all(reader))
    began_s = time.monotonic()
    n = 0
    while (due_s := began_s + n / RATE_HZ) < began_s + seconds:
        await asyncio.sleep(due_s - time.monotonic())
        t_us = time.time_ns() // 1000
        record = layout.pack({"tick_ms": 0, "lat": 48.1, "lon": 11.5, "speed_mps": 3.2, "hr_bpm": 140, "cadence_rpm": 85})
        frame = Frame(layout.id, SELF_NUMBERED, name, 1, n, t_us, 0, Clock.NETWORK, f"{TENANT}/{name}", record)
        n += 1
        writer.write(mqtt.encode_publish(topic(TENANT, name, "up"), encode_bundle(7, n, [encode_frame(frame)]), 1, n % 65_535 + 1))
        await writer.drain()
    listening.cancel()
    writer.close()
    return n


async def read_all(reader: asyncio.StreamReader) -> None:
    """Take the acks so that the broker never waits for us."""
    while await reader.read(65_536):
        pass


class PlatformSide:
    """Acknowledges everything the box sends up."""

    def __init__(self) -> None:
        self.frames: set[int] = set()
        self.connected = asyncio.Event()

    async def run(self, port: int, password: str) -> None:
        """Until cancelled."""
        who = "platform/bench"
        async with aiomqtt.Client("127.0.0.1", port, username=who, password=password, identifier=who) as client:
            await client.subscribe(topic(TENANT, "box", "up"), qos=1)
            self.connected.set()
            async for message in client.messages:
                bundle = decode_bundle(message.payload)
                assert isinstance(bundle, Bundle)
                rows = range(bundle.first_n, bundle.first_n + bundle.count)
                self.frames.update(rows)
                await client.publish(topic(TENANT, "box", "ack"), encode_ack(Ack(bundle.epoch, to_ranges(rows))))


async def drive(gateway_pid: int, central: tuple[int, str], near: tuple[int, dict[str, str]], seconds: float) -> dict[str, float]:
    """The figures while the devices send for `seconds`; the first third is warm-up."""
    platform = PlatformSide()
    serving = asyncio.create_task(platform.run(*central))
    await asyncio.wait_for(platform.connected.wait(), 20)
    sending = [asyncio.create_task(device(near[0], f"w-{i}", near[1][f"{TENANT}/w-{i}"], seconds)) for i in range(DEVICES)]
    await asyncio.sleep(seconds / 3)
    cpu_s, wall_s, frames = cpu_s_of(gateway_pid), time.monotonic(), len(platform.frames)
    sent = sum(await asyncio.gather(*sending))
    used_s, wall_s, arrived = cpu_s_of(gateway_pid) - cpu_s, time.monotonic() - wall_s, len(platform.frames) - frames
    await until_async(lambda: len(platform.frames) >= sent)
    rss_mb = rss_mb_of(gateway_pid)
    serving.cancel()
    with contextlib.suppress(asyncio.CancelledError):
        await serving
    return {
        "rss_mb": round(rss_mb, 1), "cpu_percent": round(100 * used_s / wall_s, 1), "frames_per_s": round(arrived / wall_s, 1),
        "cpu_us_per_frame": round(1e6 * used_s / max(arrived, 1)), "frames_lost": sent - len(platform.frames),
    }  # fmt: skip


def library_rss_mb() -> float:
    """Resident memory of a process that has only imported the libraries."""
    with ended(subprocess.Popen([sys.executable, "-c", LIBRARIES], stdout=subprocess.PIPE)) as process:
        assert process.stdout is not None
        with process.stdout as output:
            output.readline()
        return rss_mb_of(process.pid)


def run(quick: bool) -> dict[str, Any]:
    """The figures; `quick` takes about 25 s."""
    seconds = 18.0 if quick else 120.0
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        nodes = tuple(f"{TENANT}/w-{i}" for i in range(DEVICES))
        with (
            mosquitto(folder / "central", (f"{TENANT}/box", "platform/bench")) as (central_port, central_secrets),
            mosquitto(folder / "near", ("platform/box", *nodes)) as (near_port, near_secrets),
        ):
            settings = {
                "data_dir": str(folder / "data"), "tenant": TENANT, "node": "box", "password": central_secrets[f"{TENANT}/box"],
                "uplink": {"host": "127.0.0.1", "port": central_port},
                "near": {"host": "127.0.0.1", "port": near_port, "username": "platform/box", "password": near_secrets["platform/box"]},
            }  # fmt: skip
            (folder / "gateway.json").write_text(json.dumps(settings))
            command = [sys.executable, "-m", "gateway", str(folder / "gateway.json")]
            log = (folder / "gateway.log").open("wb")
            with log, ended(subprocess.Popen(command, stdout=log, stderr=log, cwd=Path(__file__).resolve().parent.parent)) as gateway:
                until(lambda: b"listening at the near broker" in (folder / "gateway.log").read_bytes())
                central = (central_port, central_secrets["platform/bench"])
                figures = asyncio.run(drive(gateway.pid, central, (near_port, near_secrets), seconds))
    baseline = {"libraries_rss_mb": round(library_rss_mb(), 1)}
    return {"name": "gateway_rss", "figures": figures, "baseline": baseline, "machine": machine()}


def listens(port: int) -> bool:
    """Whether somebody accepts on a port of loopback."""
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) == 0


def until(done: Any, timeout_s: float = 30) -> None:
    """Wait for `done()`."""
    deadline_s = time.monotonic() + timeout_s
    while not done():
        if time.monotonic() > deadline_s:
            raise PacelineError("the benchmark's processes did not come up", cure="run it again on a quieter machine")
        time.sleep(0.05)


async def until_async(done: Any, timeout_s: float = 30) -> None:
    """Wait for `done()` without blocking the loop; gives up silently, the figures show it."""
    deadline_s = time.monotonic() + timeout_s
    while not done() and time.monotonic() < deadline_s:  # noqa: ASYNC110 - a test of another process, nothing to be woken by
        await asyncio.sleep(0.05)


if __name__ == "__main__":
    print(json.dumps(run(quick="--full" not in sys.argv), indent=2))
