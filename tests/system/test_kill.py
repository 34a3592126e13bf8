"""kill -9 of gateway, brokers and platform, at random and at named points: nothing lost, nothing twice, stores equal to the undisturbed run.

The normal run does a few kills of one seed; nightly 50 kills of each of 10 seeds.
"""

from __future__ import annotations

import asyncio
import random
from collections.abc import Iterable
from pathlib import Path

import pytest

from broker.frames import Clock, restamp
from broker.ids import subject_of
from broker.recorded import frames_of, identity_of, span_of
from device_profiles.files import read_recording
from gateway.settings import FileReplay
from paceline.ride import write_ride
from simulators.truth import Made
from tests.servers import ServedBroker, start_mosquitto
from tests.system.stack import CENTRAL_USERS, TENANT, Stack, frame_of, gym_of, undisturbed

POINTS = {
    "gateway": (
        "spool.before_commit", "spool.after_commit", "spool.before_free", "near.before_spool", "near.after_spool", "near.after_ack",
        "uplink.before_publish", "uplink.after_publish", "uplink.after_ack",
    ),
    "platform": (
        "ingest.before_append", "ingest.after_append", "ingest.after_ack", "runner.before_commit", "runner.after_commit",
    ),
}  # fmt: skip
KILLABLE = ("gateway", "platform", "broker-central", "broker-near")


def ride_file(folder: Path, seconds: int, seed: int) -> FileReplay:
    path = folder / "ride.fit"
    write_ride(path, seconds, seed)
    return FileReplay(path=path, athlete="rider", device="ride", speed=60.0)


def expected(folder: Path, made: Iterable[Made], ride: FileReplay) -> tuple[int, str]:
    """(frames, fingerprint) of the run in which nothing happens, from what the devices made, with no process or link."""
    frames = [frame_of(one) for one in made]
    recording = read_recording(ride.path)
    who = identity_of(ride.path.read_bytes(), ride.device)
    offset_us = span_of(recording)[0]
    for frame in frames_of(recording, who, utc_offset_us=offset_us):
        stamped = restamp(frame, subject=subject_of(TENANT, "rider"), utc_offset_us=offset_us, clock=Clock.RECORDED)
        frames.append(("box", stamped))
    return len(frames), undisturbed(folder, frames)


async def disturb(stack: Stack, rng: random.Random, kills: int) -> None:
    """`kills` kills in pairs: one at a random moment, the next one at a named point of the part as it starts again."""
    while stack.kills < kills:
        await asyncio.sleep(rng.uniform(0.1, 1.2))
        name = rng.choice(KILLABLE)
        await stack.kill(name)
        points = POINTS.get(name)
        if points and stack.kills < kills:
            point = rng.choice(points)
            await stack.start(name, kill_at=f"{point}:{rng.randint(1, 6)}", wait=False)
            if not await stack.died(name, 8):
                await stack.kill(name)
        await stack.start(name)


async def killed_run(tmp_path: Path, seed: int, *, kills: int, members: int, samples: int, central: ServedBroker | None = None) -> None:
    ride = ride_file(tmp_path, samples * 8, seed)
    async with Stack(tmp_path / "site", gym_of(seed, members, samples), [ride], central=central) as stack:
        gym = stack.gym()
        await gym.start()
        try:
            await disturb(stack, random.Random(seed), kills)
            assert await gym.wait_drained(120), "devices still owe frames"
        finally:
            report = await gym.stop()
        assert report.frames_refused == 0
        assert report.samples == members * samples
        frames, want = expected(tmp_path / "undisturbed", report.truth, ride)
        await stack.settled(frames)
        await stack.end("platform")
        assert stack.fingerprint() == want


async def test_undisturbed_run_equals_the_computed_one(tmp_path: Path) -> None:
    await killed_run(tmp_path, 1, kills=0, members=3, samples=12)


async def test_five_kills_lose_nothing_and_count_nothing_twice(tmp_path: Path) -> None:
    await killed_run(tmp_path, 2, kills=5, members=4, samples=40)


async def test_platform_outlives_its_broker(tmp_path: Path) -> None:
    """mosquitto killed and started again: the same platform process goes on."""
    async with (
        start_mosquitto(tmp_path, users=CENTRAL_USERS) as central,
        Stack(tmp_path / "site", gym_of(3, 3, 20), central=central) as stack,
    ):
        gym = stack.gym()
        await gym.start()
        try:
            for _ in range(2):
                await stack.kill("broker-central")
                await asyncio.sleep(0.5)
                await stack.start("broker-central")
                await asyncio.sleep(1.0)
            assert await gym.wait_drained(120)
        finally:
            report = await gym.stop()
        await stack.check([frame_of(made) for made in report.truth])
        assert stack.runs("platform"), stack.tail("platform")


@pytest.mark.nightly
@pytest.mark.timeout(3600)
@pytest.mark.parametrize("seed", range(10))
async def test_fifty_kills(tmp_path: Path, seed: int) -> None:
    await killed_run(tmp_path, 100 + seed, kills=50, members=6, samples=400)


@pytest.mark.nightly
@pytest.mark.timeout(3600)
@pytest.mark.parametrize("seed", range(3))
async def test_fifty_kills_with_mosquitto_in_the_middle(tmp_path: Path, seed: int) -> None:
    async with start_mosquitto(tmp_path, users=CENTRAL_USERS) as central:
        await killed_run(tmp_path, 200 + seed, kills=50, members=6, samples=400, central=central)
