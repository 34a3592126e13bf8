"""What a part of a view spends on what is of others, Kafka's client included: `python -m benchmarks.view_kafka`.

Pages of `benchmarks.view` with athletes of many tenants on a real Kafka, uncompressed, as they are late: a view of everything and one of a
64th read them from the beginning. CPU of this process (its own and the client's threads) a state, from an assigned consumer to the last
record; and of a consumer that only takes them and looks at nothing.
"""

from __future__ import annotations

import asyncio
import json
import time
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, Final

from confluent_kafka import Consumer, Producer, TopicPartition

from benchmarks.machine import cpu_s, machine
from benchmarks.view import PARTITIONS, PARTS, TENANTS, pages
from broker.kafka import KafkaSettings
from broker.kafka_topics import LIVE_STATE
from broker.view_part import WHOLE, ViewPart
from processors.kafka_view import KafkaView
from tests.kafka_server import start_kafka
from tests.kafka_stages import make_topics, until

ATHLETES: Final = 50_000  # so that pages are as large as where many athletes are
SECONDS: Final = 3


def produced(bootstrap: str) -> int:
    """Put the pages on Kafka; their bytes."""
    producer = Producer({"bootstrap.servers": bootstrap, "linger.ms": 50, "queue.buffering.max.kbytes": 200_000})
    size = 0
    for checkpoint in pages(ATHLETES, SECONDS, tenants=TENANTS):
        for partition, key, value in checkpoint:
            producer.produce(LIVE_STATE, value, key, partition)
            size += len(value)
        producer.poll(0)
    assert producer.flush(120) == 0
    return size


def viewed_us(bootstrap: str, state: Path, part: ViewPart) -> float:
    """CPU microseconds a state until a view has read everything."""
    view = KafkaView(KafkaSettings(bootstrap=bootstrap), state, part=part)
    try:
        began_s = cpu_s()
        until(
            lambda: bool(view.step()) and not view.caught_up() and not any(view.lag.records(view.end_of).values()),
            "a view does not catch up",
        )
        return (cpu_s() - began_s) / (ATHLETES * SECONDS) * 1e6
    finally:
        view.close()


def fetched_us(bootstrap: str) -> float:
    """CPU microseconds a state of a consumer that takes all records."""
    consumer = Consumer({"bootstrap.servers": bootstrap, "group.id": "none", "enable.auto.commit": False, "enable.partition.eof": True})
    consumer.assign([TopicPartition(LIVE_STATE, partition, -2) for partition in range(PARTITIONS)])
    ended, began_s, deadline_s = 0, cpu_s(), time.monotonic() + 120
    while ended < PARTITIONS and time.monotonic() < deadline_s:
        ended += sum(m.error() is not None for m in consumer.consume(64, 1.0))
    used_s = cpu_s() - began_s
    consumer.close()
    return used_s / (ATHLETES * SECONDS) * 1e6


async def run() -> dict[str, Any]:
    """The figures."""
    with TemporaryDirectory() as folder:
        async with start_kafka(Path(folder) / "kafka") as kafka:
            await asyncio.to_thread(make_topics, kafka.bootstrap, PARTITIONS)
            size = await asyncio.to_thread(produced, kafka.bootstrap)
            part = ViewPart(1, PARTS)
            figures = {
                "bytes_per_state": round(size / (ATHLETES * SECONDS)),
                "cpu_us_per_state_whole": round(await asyncio.to_thread(viewed_us, kafka.bootstrap, Path(folder) / "whole.db", WHOLE), 2),
                "cpu_us_per_state_64th": round(await asyncio.to_thread(viewed_us, kafka.bootstrap, Path(folder) / "part.db", part), 2),
                "cpu_us_per_state_client": round(await asyncio.to_thread(fetched_us, kafka.bootstrap), 2),
                "taken_share": round(sum(part.has(f"bench{n}") for n in range(TENANTS)) / TENANTS, 3),
            }
    return {"name": "view_kafka", "figures": figures, "machine": machine()}


if __name__ == "__main__":
    print(json.dumps(asyncio.run(run()), indent=1))
