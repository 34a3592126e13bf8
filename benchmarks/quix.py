"""The live stage on Quix Streams and a real Kafka: CPU of a replica for each frame, all in; of two replicas; and how long a frame takes.

Wide keys, as in life: every frame is of another athlete than the one before, and each athlete's state is written once a checkpoint. A
replica is the real process (`paceline process live`), 64 partitions (quick: 16), checkpoints of a second, at least once. CPU counts from
the first frame of the run to the last commit: reading, the stage, tracks, words to other stages, state, changelog. Baseline of the same
run: the stage alone over the same frames, without Kafka. `p99_ms`: from a frame's append to its entry of the class in progress in
`stage.boards`, at 2,000 frames a second.
"""

from __future__ import annotations

import asyncio
import json
import os
import sys
import threading
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, Final

import numpy as np
from confluent_kafka import Consumer, Producer, TopicPartition

from benchmarks.machine import machine
from broker.columns import dtype_of
from broker.frames import Frame, encode_frame
from broker.kafka_records import encode_log_record
from broker.kafka_topics import BOARD_WORDS, FRAME_PARTITIONS, FRAMES
from broker.layouts import layout_named
from broker.logrecord import Kind, LogRecord
from processors.collector import waiting_collector
from processors.live import LiveStage
from processors.live_state import LiveStates
from processors.reference_data import ReferenceData
from processors.stage import Inputs, batches_of
from processors.stage_words import Entries, decode_board_word
from processors.warm import warm_up
from tests.kafka_server import start_kafka
from tests.kafka_stages import Replicas, make_topics, until

MOTION: Final = layout_named("motion.1")
SAMPLES: Final = 5  # of a frame: an athlete sends one every 5 s
BATCH: Final = 4096
WAIT_S: Final = 300.0


def run(quick: bool) -> dict[str, object]:
    """Figures of one replica, then of two."""
    athletes, rounds, partitions = (4_000, 5, 16) if quick else (40_000, 10, FRAME_PARTITIONS)
    warm_up()
    with TemporaryDirectory() as folder:
        one, two, p99_ms = asyncio.run(_measured(Path(folder), athletes, rounds, partitions))
    bare_s = min(_stage_alone(athletes, rounds) for _ in range(3))
    frames = athletes * rounds
    return {
        "name": "quix",
        "figures": {
            "frames_per_s_per_core": round(frames / one),
            "cpu_us_per_frame": round(one / frames * 1e6, 1),
            "cpu_per_frame_ratio_2_replicas": round(two / one, 2),
            "p99_ms": round(p99_ms),
            "frames": frames,
        },
        "baseline": {
            "stage_alone_us_per_frame": round(bare_s / frames * 1e6, 1),
            "ratio_to_stage_alone": round(one / bare_s, 2),
        },
        "machine": machine(),
    }


async def _measured(folder: Path, athletes: int, rounds: int, partitions: int) -> tuple[float, float, float]:
    """CPU-seconds of all frames through one replica, and through two; the 99th percentile of the way of a frame in ms."""
    async with start_kafka(folder / "kafka") as kafka:
        await asyncio.to_thread(make_topics, kafka.bootstrap, partitions)
        replicas = Replicas(folder / "stages", kafka.bootstrap, commit_s=1.0)
        lag = _Lag(kafka.bootstrap, partitions)
        try:
            replicas.start("live", "a")
            await asyncio.to_thread(_ready, kafka.bootstrap, lag, replicas)
            p99_ms = await asyncio.to_thread(_ways, kafka.bootstrap, partitions, athletes // 4)
            one = await asyncio.to_thread(_through, kafka.bootstrap, lag, replicas, _frames("one", athletes, rounds))
            replicas.start("live", "b")
            await asyncio.to_thread(until, lambda: _assigned(replicas, "b"), "the second replica has no partition", WAIT_S)
            await asyncio.to_thread(_ready, kafka.bootstrap, lag, replicas)
            two = await asyncio.to_thread(_through, kafka.bootstrap, lag, replicas, _frames("two", athletes, rounds))
        finally:
            replicas.end()
            lag.close()
    return one, two, p99_ms


def _frames(tenant: str, athletes: int, rounds: int) -> Iterator[LogRecord]:
    """A frame of everybody in turn, `rounds` times; they were sent just now."""
    began_us = int(time.time() * 1e6) - rounds * SAMPLES * 1_000_000
    rows = np.zeros(SAMPLES, dtype_of(MOTION.id))
    for field in MOTION.fields:
        rows[field.name] = 0 if field.absent is None else field.absent
    rows["tick_ms"], rows["accuracy_m"], rows["hr_bpm"], rows["speed_mps"] = np.arange(SAMPLES) * 1000, 8, 140, 300
    for number in range(rounds):
        t0_us = began_us + number * SAMPLES * 1_000_000
        along = (np.arange(SAMPLES) + number * SAMPLES) * 270
        for k in range(athletes):
            rows["lat"], rows["lon"] = 510_000_000 + k * 1000 + along, 70_000_000
            frame = Frame(MOTION.id, 1, f"w{k}", 7, number, t0_us, 0, 2, f"{tenant}/a{k}", rows.tobytes())
            yield LogRecord(Kind.FRAME, frame.subject, tenant, "box", t0_us + SAMPLES * 1_000_000, encode_frame(frame))


class _Lag:
    """How many records of `telemetry.frames` no checkpoint has yet."""

    def __init__(self, bootstrap: str, partitions: int) -> None:
        self.partitions = partitions
        self._consumer = Consumer({"bootstrap.servers": bootstrap, "group.id": "paceline-live", "enable.auto.commit": False})
        self._places = [TopicPartition(FRAMES, n) for n in range(partitions)]

    def __call__(self) -> int:
        try:
            done = self._consumer.committed(self._places, timeout=30)
            ends = [self._consumer.get_watermark_offsets(place, timeout=10)[1] for place in self._places]
        except Exception:  # the coordinator of the group is on its way
            return 1
        return sum(end - max(at.offset, 0) for at, end in zip(done, ends, strict=True))

    def close(self) -> None:
        self._consumer.close()


def _producer(bootstrap: str) -> Producer:
    return Producer(
        {"bootstrap.servers": bootstrap, "partitioner": "murmur2_random", "linger.ms": 5, "queue.buffering.max.messages": 1_000_000}
    )


def _ready(bootstrap: str, lag: _Lag, replicas: Replicas) -> None:
    """A wake nobody waits for in each partition, and all of them done: every partition is open."""
    producer = _producer(bootstrap)
    for partition in range(lag.partitions):
        made = encode_log_record(LogRecord(Kind.WAKE, "bench/nobody", "", "", 0, b"nothing"))
        producer.produce(made.topic, made.value, made.key, partition, headers=made.headers)
    producer.flush(60)
    until(lambda: replicas.all_alive() or lag() == 0, "the replicas do not get ready", WAIT_S)


def _assigned(replicas: Replicas, name: str) -> bool:
    folder = replicas.folder / name / "platform" / f"live-{name}" / "work"
    return folder.exists() and any(folder.iterdir())


def _through(bootstrap: str, lag: _Lag, replicas: Replicas, records: Iterator[LogRecord]) -> float:
    """CPU-seconds of the replicas until all records are in a checkpoint."""
    before = sum(_cpu_s(process.pid) for process in replicas.running.values())
    producer = _producer(bootstrap)
    for number, record in enumerate(records):
        made = encode_log_record(record)
        producer.produce(made.topic, made.value, made.key, headers=made.headers)
        if number % 1000 == 0:
            producer.poll(0)
    producer.flush(300)
    until(lambda: replicas.all_alive() or lag() == 0, "the frames are not done", WAIT_S)
    return sum(_cpu_s(process.pid) for process in replicas.running.values()) - before


def _cpu_s(pid: int) -> float:
    fields = Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def _ways(bootstrap: str, partitions: int, frames: int) -> float:
    """The 99th percentile in ms from the append of a frame to its entry in `stage.boards`."""
    seen: dict[str, float] = {}
    stop = threading.Event()
    consumer = Consumer({"bootstrap.servers": bootstrap, "group.id": "none", "enable.auto.commit": False, "fetch.wait.max.ms": 5})
    consumer.assign([TopicPartition(BOARD_WORDS, n, -2) for n in range(partitions)])

    def listen() -> None:
        while not stop.is_set():
            for message in consumer.consume(1000, 0.05):
                word = decode_board_word(message.value() or b"", 0) if message.error() is None else None
                for mutation in word.mutations if isinstance(word, Entries) else ():
                    seen.setdefault(mutation.subject, time.time())

    listening = threading.Thread(target=listen)
    listening.start()
    producer, sent = _producer(bootstrap), dict[str, float]()
    for number, record in enumerate(_frames("way", frames, 1)):
        made = encode_log_record(record)
        sent[record.key] = time.time()
        producer.produce(made.topic, made.value, made.key, headers=made.headers)
        producer.poll(0)
        if number % 20 == 0:
            time.sleep(0.01)  # 2,000 a second
    producer.flush(60)
    until(lambda: len(seen) >= len(sent), "not every frame came to its board", WAIT_S)
    stop.set()
    listening.join()
    consumer.close()
    return float(np.percentile([(seen[key] - at_s) * 1000 for key, at_s in sent.items()], 99))


def _stage_alone(athletes: int, rounds: int) -> float:
    """CPU-seconds of the stage over the same frames, in batches of the log."""
    records: Sequence[LogRecord] = list(_frames("bare", athletes, rounds))
    stage, states = LiveStage(ReferenceData()), LiveStates()
    began_s = time.process_time()
    for lo in range(0, len(records), BATCH):
        with waiting_collector():
            for batch in batches_of(lo + 1, records[lo : lo + BATCH]):
                stage.wants(states, batch)
                stage.step(states, batch, Inputs())
    return time.process_time() - began_s


if __name__ == "__main__":
    made: dict[str, Any] = run("--quick" in sys.argv)
    print(json.dumps(made, indent=2))
