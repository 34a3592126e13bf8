"""Cost of ingest: messages from the socket to the durable log, acknowledged; and our MQTT reader beside gmqtt and paho.

All clients hear the same dense stream, made beforehand and played by another process at QoS 1; CPU-seconds of this process only.
`messages_per_cpu_s`: one 30-sample frame a message; `frames_per_cpu_s`: 30 such frames a message (both with the SQLite log, synced);
`kafka_...` the same with the log on a real Kafka (one broker, acks=all, 64 partitions, lz4 as it is set, `zstd` and `plain` with that
`kafka.compression`), `kafka_broker_us_per_frame` what the broker itself used; samples are drawn with noise, so that compressing them costs
what it costs with real ones.
`produce_us_per_frame` is the floor beside it: the same bytes and keys through the client of Kafka alone, without headers;
`ratio_to_best_client`: CPU per message of the best of gmqtt and paho over ours, reading and acknowledging only.
"""

from __future__ import annotations

import asyncio
import json
import random
import tempfile
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path

import gmqtt
import paho.mqtt.client as paho
from confluent_kafka import Producer

from benchmarks.frames import MOTION, SAMPLES, frame, sample
from benchmarks.machine import cpu_s, cpu_s_of, machine
from benchmarks.replay_server import replay_server
from broker import mqtt_codec as mqtt
from broker.bundles import encode_bundle
from broker.frames import encode_frame
from broker.kafka import KafkaSettings
from broker.kafka_topics import FRAMES, platform_topics
from processors.bulk_client import BulkClient, BulkSettings, Connection
from processors.ingest import IngestService
from processors.kafka_admin import KafkaAdmin, admin_options
from processors.kafka_log import KafkaLog
from processors.log import Appender, SqliteLog
from tests.kafka_server import KafkaCluster, start_kafka

NODES = 50
DRAWN = 4_000  # different frames: more than one batch of the client of Kafka holds
TIMEOUT_S = 300.0


def drawn_frames(count: int) -> list[bytes]:
    """Frames of 30 samples each drawn with the noise of sensors, so that what compresses them has as much to do as with real ones."""
    dice = random.Random(7)
    made: list[bytes] = []
    for i in range(count):
        records = b"".join(MOTION.pack(drawn_sample(k, dice)) for k in range(SAMPLES))
        made.append(encode_frame(replace(frame(i, f"watch-{i % NODES}"), boot=dice.getrandbits(63), records=records)))
    return made


def drawn_sample(i: int, dice: random.Random) -> dict[str, float | None]:
    """Sample i of the run of the other benchmarks, as a watch would have it."""
    told = sample(i)
    return told | {
        "lat": (told["lat"] or 0) + dice.gauss(0, 3e-5), "lon": (told["lon"] or 0) + dice.gauss(0, 3e-5),
        "altitude_m": 519.2 + dice.gauss(0, 0.5), "speed_mps": 3.2 + dice.gauss(0, 0.1), "heading_deg": 271.5 + dice.gauss(0, 5),
        "hr_bpm": 140 + dice.randrange(5), "power_w": 250 + dice.randrange(60),
    }  # fmt: skip


def stream(messages: int, frames_a_message: int) -> bytes:
    """PUBLISH packets of NODES nodes, each bundle the next rows of its node. No frame comes twice within a megabyte."""
    rows = drawn_frames(min(messages * frames_a_message, DRAWN))
    packets: list[bytes] = []
    for i in range(messages):
        node, turn = i % NODES, i // NODES
        at = i * frames_a_message % (len(rows) - frames_a_message + 1)
        payload = encode_bundle(node + 1, turn * frames_a_message, rows[at : at + frames_a_message])
        packets.append(mqtt.encode_publish(f"pl/1/gym/box{node}/up", payload, 1, i % 0xFFFF + 1))
    return b"".join(packets)


def small_stream(messages: int) -> bytes:
    """PUBLISH packets of 200 bytes, the size the clients were compared at before."""
    return b"".join(mqtt.encode_publish(f"pl/1/gym/box{i % NODES}/up", bytes(200), 1, i % 0xFFFF + 1) for i in range(messages))


def settings(port: int) -> BulkSettings:
    return BulkSettings("127.0.0.1", port, "platform/ingest", "secret")


async def ours_us(port: int, messages: int) -> float:
    """CPU us a message: read, parse, acknowledge."""
    seen, done = 0, asyncio.Event()

    def on_run(connection: Connection, run: mqtt.Run, size: int) -> None:
        nonlocal seen
        seen += len(run.messages)
        connection.settle(run.pids, size)
        if seen >= messages:
            done.set()

    client = BulkClient(settings(port), ["pl/1/+/+/up"], on_run)
    start = cpu_s()
    task = asyncio.create_task(client.run())
    await asyncio.wait_for(done.wait(), TIMEOUT_S)
    used = cpu_s() - start
    task.cancel()
    await asyncio.wait([task])
    return used / messages * 1e6


async def gmqtt_us(port: int, messages: int) -> float:
    """The same with gmqtt, an empty callback."""
    seen, done = 0, asyncio.Event()

    def on_message(*_: object) -> int:
        nonlocal seen
        seen += 1
        if seen >= messages:
            done.set()
        return 0

    client = gmqtt.Client("bench", clean_session=True)
    client.on_message = on_message
    client.set_auth_credentials("platform/ingest", "secret")
    start = cpu_s()
    await client.connect("127.0.0.1", port, version=gmqtt.constants.MQTTv311)
    client.subscribe("pl/1/+/+/up", qos=1)
    await asyncio.wait_for(done.wait(), TIMEOUT_S)
    used = cpu_s() - start
    await client.disconnect()
    return used / messages * 1e6


def paho_us(port: int, messages: int) -> float:
    """The same with paho, an empty callback."""
    seen = 0
    client = paho.Client(paho.CallbackAPIVersion.VERSION2, client_id="bench")

    def on_connect(*_: object) -> None:
        client.subscribe("pl/1/+/+/up", qos=1)

    def on_message(*_: object) -> None:
        nonlocal seen
        seen += 1
        if seen >= messages:
            client.disconnect()

    client.on_connect, client.on_message = on_connect, on_message
    start = cpu_s()
    client.connect("127.0.0.1", port)
    client.loop_forever()
    return (cpu_s() - start) / messages * 1e6


async def ingest_us(port: int, frames: int, log: Appender) -> float:
    """CPU us a frame through the whole of ingest: checked, durable, acknowledged."""
    service = IngestService(settings(port), log)
    start = cpu_s()
    task = asyncio.create_task(service.run())
    deadline = time.monotonic() + TIMEOUT_S
    while service.stats.frames < frames:
        assert time.monotonic() < deadline, service.stats
        await asyncio.sleep(0.02)
    used = cpu_s() - start
    task.cancel()
    await asyncio.wait([task])
    assert not service.stats.refused, service.stats.refused
    return used / frames * 1e6


async def ingested_us(source: Path, frames: int, log: Appender) -> float:
    """`ingest_us` of a stream that another process plays."""
    with replay_server(source) as port:
        return await ingest_us(port, frames, log)


@asynccontextmanager
async def kafka_here(folder: Path) -> AsyncIterator[tuple[KafkaCluster, KafkaSettings]]:
    """A broker with the topics of the platform."""
    async with start_kafka(folder) as cluster:
        kafka = KafkaSettings(bootstrap=cluster.bootstrap)
        await asyncio.to_thread(KafkaAdmin(kafka).apply, platform_topics(), 1)
        yield cluster, kafka


def produce_us(kafka: KafkaSettings, frames: int) -> float:
    """CPU us a frame of the client alone."""
    producer = Producer({
        **admin_options(kafka), "acks": "all", "enable.idempotence": True, "partitioner": "murmur2_random", "compression.type": "zstd",
        "queue.buffering.max.messages": 1_000_000,
    })  # fmt: skip
    rows = [(f"gym/watch-{node}".encode(), encode_frame(frame(0, f"watch-{node}"))) for node in range(NODES)]
    producer.produce(FRAMES, b"x", b"gym/first")
    assert not producer.flush(60)
    start = cpu_s()
    for i in range(frames):
        key, value = rows[i % NODES]
        producer.produce(FRAMES, value, key)
        if not i % 10_000:
            producer.poll(0)
    assert not producer.flush(TIMEOUT_S)
    return (cpu_s() - start) / frames * 1e6


async def on_kafka(folder: Path, single: Path, bundled: Path, messages: int) -> dict[str, float]:
    """The figures of the log on Kafka, in us a frame."""
    async with kafka_here(folder) as (cluster, kafka):
        process = cluster.nodes[0].process
        assert process is not None
        with KafkaLog(kafka) as log:
            await asyncio.to_thread(log.check)
            await ingested_us(single, messages, log)  # the broker's code is compiled meanwhile
            broker_s = cpu_s_of(process.pid)
            single_us = await ingested_us(single, messages, log)
            broker_us = (cpu_s_of(process.pid) - broker_s) / messages * 1e6
            bundle_us = await ingested_us(bundled, messages // 20 * 30, log)
        with KafkaLog(kafka.model_copy(update={"compression": "zstd"})) as log:
            zstd_us = await ingested_us(single, messages, log)
        with KafkaLog(kafka.model_copy(update={"compression": "none"})) as log:
            plain_us = await ingested_us(single, messages, log)
        return {
            "single": single_us,
            "zstd": zstd_us,
            "plain": plain_us,
            "bundle": bundle_us,
            "broker": broker_us,
            "floor": await asyncio.to_thread(produce_us, kafka, messages),
        }


def run(quick: bool) -> dict[str, object]:
    """The figures; about 15 s when quick."""
    messages = 20_000 if quick else 200_000
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        single, bundled = folder / "single", folder / "bundled"
        single.write_bytes(stream(messages, 1))
        bundled.write_bytes(stream(messages // 20, 30))
        with SqliteLog.open(folder / "single.db") as one, SqliteLog.open(folder / "bundled.db") as two:
            single_us = asyncio.run(ingested_us(single, messages, one))
            bundle_us = asyncio.run(ingested_us(bundled, messages // 20 * 30, two))
        kafka = asyncio.run(on_kafka(folder / "kafka", single, bundled, messages))
        (folder / "small").write_bytes(small_stream(5 * messages))
        with replay_server(folder / "small") as port:
            reader_us = min(asyncio.run(ours_us(port, 5 * messages)) for _ in range(3))
            others = {
                "gmqtt_us_per_message": asyncio.run(gmqtt_us(port, 5 * messages)),
                "paho_us_per_message": paho_us(port, 5 * messages),
            }
    return {
        "name": "ingest",
        "figures": {
            "messages_per_cpu_s": round(1e6 / single_us),
            "frames_per_cpu_s": round(1e6 / bundle_us),
            "kafka_messages_per_cpu_s": round(1e6 / kafka["single"]),
            "kafka_frames_per_cpu_s": round(1e6 / kafka["bundle"]),
            "kafka_zstd_messages_per_cpu_s": round(1e6 / kafka["zstd"]),
            "kafka_plain_messages_per_cpu_s": round(1e6 / kafka["plain"]),
            "kafka_broker_us_per_frame": round(kafka["broker"], 2),
            "reader_us_per_message": round(reader_us, 3),
            "ratio_to_best_client": round(min(others.values()) / reader_us, 1),
        },
        "baseline": {**{key: round(value, 2) for key, value in others.items()}, "produce_us_per_frame": round(kafka["floor"], 2)},
        "machine": machine(),
    }


if __name__ == "__main__":
    import sys

    print(json.dumps(run("--quick" in sys.argv), indent=2))
