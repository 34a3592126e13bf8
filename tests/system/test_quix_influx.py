"""The whole way on Kafka into InfluxDB: from a node's frame through ingest, the live stage, `live.samples`, the view and the sink to rows, with
InfluxDB down and then busy in between. Every sample is there once, as one machine believes it.
"""

from __future__ import annotations

import asyncio
import random
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from broker.frames import Frame, encode_frame
from broker.influx import InfluxSettings
from processors import influx_queries as ask
from processors.influx_admin import InfluxAdmin
from processors.influx_schema import BUCKETS
from tests.any_way import T0_US, US, ride
from tests.influx_faults import Fault, answered, start_faults
from tests.influx_server import start_influx
from tests.influx_world import InfluxWorld
from tests.kafka_server import start_kafka
from tests.kafka_stages import Replicas, make_topics, until
from tests.servers import start_mosquitto
from tests.system.ingest_node import ResendingNode
from tests.system.test_writing_influx import START, STOP, us_of

ATHLETES = ("anna", "bob")
SECONDS = 100  # of a part of the ride
BUSY = (answered(429, "1"), answered(503), answered(503), Fault("answer_lost"), answered(429, "1"), Fault("written_but_500"))
WAIT_S = 600.0
pytestmark = [pytest.mark.nightly, pytest.mark.timeout(1_800)]


def part_of(number: int, t0_us: int) -> list[Frame]:
    """What both watches say in one part of the ride, by time."""
    frames: list[Frame] = []
    for boot, name in enumerate(ATHLETES, 1):
        rng = random.Random(name)
        frames += ride(
            rng, f"watch-{name}", boot, number * SECONDS, SECONDS, subject=f"gym/{name}", speed_mps=4.0 + boot, first_seq=number * SECONDS // 5
        )  # fmt: skip
    moved = [replace(f, utc_offset_us=f.utc_offset_us + t0_us - T0_US) for f in frames if f.utc_offset_us is not None]
    return sorted(moved, key=lambda f: (f.t0_us, f.device))


def believed(folder: Path, parts: list[list[Frame]], t0_us: int) -> list[dict[tuple[str, int], float]]:
    """The samples of one machine after each part."""
    world, found = InfluxWorld(folder, t0_us), list[dict[tuple[str, int], float]]()
    try:
        for part in parts:
            world.take([replace(f, utc_offset_us=(f.utc_offset_us or 0) - t0_us + T0_US) for f in part])
            found.append(world.samples())
        return found
    finally:
        world.close()


async def test_every_sample_comes_to_influxdb_once_though_it_is_down_and_then_busy(tmp_path: Path) -> None:
    t0_us = int(time.time() - 4 * SECONDS) * US
    parts = [part_of(number, t0_us) for number in range(3)]
    expected = await asyncio.to_thread(believed, tmp_path / "alone", parts, t0_us)
    async with (
        start_influx(tmp_path / "influx") as influx,
        start_faults(influx.port) as proxy,
        start_kafka(tmp_path / "kafka") as kafka,
        start_mosquitto(tmp_path / "mosquitto", users=("gym/box", "platform/ingest")) as broker,
    ):
        await asyncio.to_thread(make_topics, kafka.bootstrap, 64)
        for bucket in BUCKETS:
            influx.create_database(f"way_{bucket}")
        settings = InfluxSettings.model_validate(
            {"url": influx.url, "token": influx.token, "org": "-", "bucket": "way_{bucket}/autogen", "timeout_s": 60}
        )
        admin = InfluxAdmin(settings)

        def rows() -> dict[tuple[str, int], float]:
            told = [(name, row) for name in ATHLETES for row in admin.query(ask.track(settings.named("live"), "gym", name, START, STOP))]
            return {(name, us_of(row["_time"])): float(row["dist"]) for name, row in told}

        async def there(part: int) -> None:
            await until_in_thread(lambda: len(rows()) >= len(expected[part]), "samples are missing in InfluxDB")
            assert rows() == expected[part]

        shared = {
            "PACELINE_INFLUX__URL": proxy.url, "PACELINE_INFLUX__TOKEN": influx.token, "PACELINE_INFLUX__ORG": "-",
            "PACELINE_INFLUX__BUCKET": settings.bucket, "PACELINE_CENTRAL__KIND": "external", "PACELINE_CENTRAL__PORT": str(broker.port),
            "PACELINE_INGEST__PASSWORD": broker.password("platform/ingest"),
        }  # fmt: skip
        replicas = Replicas(tmp_path / "stages", kafka.bootstrap)

        async def send(part: int) -> None:
            node = ResendingNode(broker, "gym/box", [encode_frame(f) for f in parts[part]], epoch=part + 1)
            node.start()
            await asyncio.to_thread(node.join_done, WAIT_S)
            assert not node.refused

        try:
            for stage in ("ingest", "live", "view", "influx"):
                replicas.start(stage, **shared)
            await send(0)
            await there(0)
            await influx.kill()
            met = len(proxy.met)
            await send(1)
            await until_in_thread(lambda: len(proxy.met) > met + 1, "the sink tries no more")
            replicas.all_alive()
            await influx.start()
            await there(1)
            proxy.faults.extend(BUSY)
            await send(2)
            await until_in_thread(lambda: not proxy.faults, "the sink gave up")
            await there(2)
            replicas.all_alive()
            met_by_kind = [fault.status or fault.kind for fault in proxy.met if fault.kind != "pass"]
            print(f"\nsamples in InfluxDB {len(expected[2])}, lost 0, doubled 0; a killed server, then {met_by_kind}")
        finally:
            replicas.end()


async def until_in_thread(said: Callable[[], object], what: str) -> None:
    await asyncio.to_thread(until, said, what, WAIT_S)
