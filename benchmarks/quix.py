"""The live stage on Quix Streams and a real Kafka: CPU of a replica for each frame, all in; of two replicas; and how long a frame takes.

Wide keys, as in life: every frame is of another athlete than the one before, and each athlete's state is written with every checkpoint
that comes between. A replica is the real process (`paceline process live`) with the checkpoints of its settings, 64 partitions (quick: 16),
at least once. CPU counts from the first frame of the run to the last commit: reading, the stage, tracks, words to other stages, state,
changelog. `cpu_us_begun` is that of the first frames of all athletes, which begin an activity each, `cpu_us_later` that of the others.

The parts of `cpu_us_per_frame`: `us_stage`, the pure stage over the same frames; `us_shard`, what a shard of it adds without Kafka
(records, frames kept, state as cells); `us_clients` and `us_store`, the threads of Kafka's client and of RocksDB; `us_engine`, the rest.
Beside it in the same run, over the same records: a client of Kafka that does nothing, and an application of Quix Streams that only keeps
200 bytes of each key.

How long a frame takes is measured at half of the frames a second that this machine was just seen to do, broker and all, all on the move:
`p50_ms`, `p99_ms` to the entry of the class in progress in `stage.boards`, `state_...` to `live.state`, which readers show; and
`boards_...` over both stages to `boards.state`, at BOARDS_PER_S frames a second.
"""

from __future__ import annotations

import asyncio
import json
import logging
import os
import subprocess
import sys
import time
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from itertools import islice
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, Final

import numpy as np
from confluent_kafka import Consumer, Producer, TopicPartition

from benchmarks.machine import cpu_s_of, machine
from benchmarks.quix_ways import Reader, boards_in, entries_in, send, spread, states_in, waits_ms
from broker.columns import dtype_of
from broker.frames import Frame, encode_frame
from broker.kafka_records import KafkaRecord, encode_log_record
from broker.kafka_topics import BOARD_WORDS, BOARDS_STATE, FRAME_PARTITIONS, FRAMES, LIVE_STATE
from broker.layouts import layout_named
from broker.logrecord import Kind, LogRecord
from paceline.config import StagesPart
from processors.collector import waiting_collector
from processors.live import LiveStage
from processors.live_state import LiveStates
from processors.quix_live import LiveShard
from processors.reference_data import ReferenceData
from processors.row_mirror import MemoryCells
from processors.shards import Message
from processors.sharing import Place
from processors.stage import Inputs, batches_of
from processors.track_folder import FolderBlobs
from processors.warm import warm_up
from tests.kafka_server import start_kafka
from tests.kafka_stages import Replicas, make_topics, until

MOTION: Final = layout_named("motion.1")
SAMPLES: Final = 5  # of a frame: an athlete sends one every 5 s
BEGAN_US: Final = int(time.time() * 1e6) - 3_600_000_000
BATCH: Final = 4096
WAIT_S: Final = 600.0
BOARDS_PER_S: Final = 500
SHARD_BATCH: Final = 256  # what a poll of 64 partitions gives each, about

_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Size:
    athletes: int
    rounds: int
    partitions: int
    ways_s: float  # how long the ways are measured


QUICK: Final = Size(4_000, 5, 16, 6.0)
FULL: Final = Size(40_000, 10, FRAME_PARTITIONS, 20.0)


@dataclass(slots=True)
class Seen:
    """CPU-seconds, by thread where it says so, and the waits in ms."""

    begun_s: float = 0.0
    later_s: float = 0.0
    threads_s: dict[str, float] = field(default_factory=dict[str, float])
    wall_s: float = 0.0
    two_s: float = 0.0
    floors_s: dict[str, float] = field(default_factory=dict[str, float])
    floor_records: int = 1
    per_s: float = 0.0
    late_ms: float = 0.0
    ways: dict[str, tuple[int, int]] = field(default_factory=dict[str, tuple[int, int]])


def run(quick: bool) -> dict[str, object]:
    """Figures of one replica, then of two."""
    size = QUICK if quick else FULL
    warm_up()
    with TemporaryDirectory() as folder:
        seen = asyncio.run(_measured(Path(folder), size))
        frames = size.athletes * size.rounds
        stage_s = min(_stage_alone(size.athletes, size.rounds) for _ in range(3))
        shard_s = _shard_alone(Path(folder), size)
    one_s = seen.begun_s + seen.later_s

    def us(seconds: float, of: int = frames) -> float:
        return round(seconds / of * 1e6, 1)

    clients_s = sum(used_s for name, used_s in seen.threads_s.items() if name.startswith("rdk"))
    store_s = sum(used_s for name, used_s in seen.threads_s.items() if name.startswith("rocksdb"))
    ways = {f"{name}{part}_ms": ms for name, both in seen.ways.items() for part, ms in zip(("p50", "p99"), both, strict=True)}
    return {
        "name": "quix",
        "figures": {
            "frames_per_s_per_core": round(frames / one_s),
            "cpu_us_per_frame": us(one_s),
            "cpu_us_begun": us(seen.begun_s, size.athletes),
            "cpu_us_later": us(seen.later_s, frames - size.athletes),
            "us_stage": us(stage_s),
            "us_shard": us(shard_s - stage_s),
            "us_clients": us(clients_s),
            "us_store": us(store_s),
            "us_engine": us(one_s - shard_s - clients_s - store_s),
            "cpu_per_frame_ratio_2_replicas": round(seen.two_s / one_s, 2),
            **ways,
            "ways_frames_per_s": round(seen.per_s),
            "ways_sender_late_ms": round(seen.late_ms),
            "wall_frames_per_s": round(frames / seen.wall_s),
            "frames": frames,
            "athletes": size.athletes,
            "partitions": size.partitions,
            "commit_s": StagesPart().commit_s,
        },
        "baseline": {
            "stage_alone_us_per_frame": us(stage_s),
            "ratio_to_stage_alone": round(one_s / stage_s, 2),
            "client_alone_us_per_frame": us(seen.floors_s["consumer"], seen.floor_records),
            "quix_alone_us_per_frame": us(seen.floors_s["quix"], seen.floor_records),
            "ratio_to_quix_alone": round(one_s / frames / seen.floors_s["quix"] * seen.floor_records, 2),
        },
        "machine": machine(),
    }


async def _measured(folder: Path, size: Size) -> Seen:
    async with start_kafka(folder / "kafka") as kafka:
        await asyncio.to_thread(make_topics, kafka.bootstrap, size.partitions)
        replicas = Replicas(folder / "stages", kafka.bootstrap, commit_s=StagesPart().commit_s)
        lag = _Lag(kafka.bootstrap, size.partitions)
        try:
            return await asyncio.to_thread(_figures, folder, kafka.bootstrap, size, replicas, lag)
        finally:
            replicas.end()
            lag.close()


def _figures(folder: Path, bootstrap: str, size: Size, replicas: Replicas, lag: _Lag) -> Seen:
    seen = Seen()
    live = replicas.start("live", "a")
    _ready(bootstrap, lag, replicas)
    _through(bootstrap, lag, replicas, _encoded(_frames("warm", size.athletes // 10, 2)))
    frames = list(_encoded(_frames("one", size.athletes, size.rounds)))
    before, began_s = _threads_s(live.pid), time.monotonic()
    seen.begun_s = _through(bootstrap, lag, replicas, frames[: size.athletes])
    seen.later_s = _through(bootstrap, lag, replicas, frames[size.athletes :])
    seen.wall_s = time.monotonic() - began_s
    seen.threads_s = {name: used_s - before.get(name, 0.0) for name, used_s in _threads_s(live.pid).items()}
    seen.floor_records = lag.ends()
    _log.info("one replica done; floors")
    for what in ("consumer", "quix"):
        seen.floors_s[what] = _floor(what, bootstrap, seen.floor_records, folder / f"floor-{what}")
    _log.info("ways of frames at half of that")
    seen.per_s = len(frames) / max(seen.wall_s, seen.begun_s + seen.later_s) / 2
    _ways(bootstrap, size, replicas, seen)
    _log.info("ways over both stages")
    replicas.start("boards", "a")
    _boards_way(folder, bootstrap, size, replicas, lag, seen)
    replicas.stop("boards", "a")
    _log.info("two replicas")
    replicas.start("live", "b")
    until(lambda: replicas.all_alive() or _assigned(replicas, "b"), "the second replica has no partition", WAIT_S)
    _ready(bootstrap, lag, replicas)
    seen.two_s = _through(bootstrap, lag, replicas, list(_encoded(_frames("two", size.athletes, size.rounds))))
    return seen


def _frames(tenant: str, athletes: int, rounds: int, first: int = 0) -> Iterator[LogRecord]:
    """A frame of everybody in turn, `rounds` times from round `first` on; appended just now, so that nobody is taken for silent."""
    rows = np.zeros(SAMPLES, dtype_of(MOTION.id))
    for of in MOTION.fields:
        rows[of.name] = 0 if of.absent is None else of.absent
    rows["tick_ms"], rows["accuracy_m"], rows["hr_bpm"], rows["speed_mps"] = np.arange(SAMPLES) * 1000, 8, 140, 300
    for number in range(first, first + rounds):
        t0_us = BEGAN_US + number * SAMPLES * 1_000_000
        along = (np.arange(SAMPLES) + number * SAMPLES) * 270
        for a in range(athletes):
            rows["lat"], rows["lon"] = 510_000_000 + a * 1000 + along, 70_000_000
            frame = Frame(MOTION.id, 1, f"w{a}", 7, number, t0_us, 0, 2, f"{tenant}/a{a}", rows.tobytes())
            yield LogRecord(Kind.FRAME, frame.subject, tenant, "box", int(time.time() * 1e6), encode_frame(frame))


def _encoded(records: Iterable[LogRecord]) -> Iterator[KafkaRecord]:
    return map(encode_log_record, records)


def encoded_frames(tenant: str, athletes: int, rounds: int) -> Iterator[KafkaRecord]:
    """Records of a frame of everybody in turn, `rounds` times."""
    return _encoded(_frames(tenant, athletes, rounds))


class _Lag:
    """How many records of `telemetry.frames` no checkpoint has yet."""

    def __init__(self, bootstrap: str, partitions: int, group: str = "paceline-live", topic: str = FRAMES) -> None:
        self.partitions = partitions
        self._consumer = Consumer({"bootstrap.servers": bootstrap, "group.id": group, "enable.auto.commit": False})
        self._places = [TopicPartition(topic, n) for n in range(partitions)]

    def ends(self) -> int:
        """How many records there are."""
        return sum(self._consumer.get_watermark_offsets(place, timeout=30)[1] for place in self._places)

    def __call__(self) -> int:
        try:
            done = self._consumer.committed(self._places, timeout=30)
            return self.ends() - sum(max(at.offset, 0) for at in done)
        except Exception:  # the coordinator of the group is on its way
            return 1

    def close(self) -> None:
        self._consumer.close()


def _producer(bootstrap: str) -> Producer:
    """Its batches are large: one request a partition each 5 ms, and the one broker of the test is what a frame waits for."""
    return Producer(
        {"bootstrap.servers": bootstrap, "partitioner": "murmur2_random", "linger.ms": 50, "queue.buffering.max.messages": 1_000_000}
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


def _through(bootstrap: str, lag: _Lag, replicas: Replicas, records: Iterable[KafkaRecord]) -> float:
    """CPU-seconds of the replicas until all records are in a checkpoint. They are sent faster than they are worked on."""
    before = sum(cpu_s_of(process.pid) for process in replicas.running.values())
    producer = _producer(bootstrap)
    for number, made in enumerate(records):
        producer.produce(made.topic, made.value, made.key, headers=made.headers)
        if number % 1000 == 0:
            producer.poll(0)
    assert producer.flush(WAIT_S) == 0
    until(lambda: replicas.all_alive() or lag() == 0, "the frames are not done", WAIT_S)
    return sum(cpu_s_of(process.pid) for process in replicas.running.values()) - before


def _threads_s(pid: int) -> dict[str, float]:
    """CPU-seconds of a process by the names of its threads."""
    used: dict[str, float] = {}
    for task in Path(f"/proc/{pid}/task").iterdir():
        name, fields = (task / "stat").read_text().partition("(")[2].rsplit(")", 1)
        one = fields.split()
        used[name] = used.get(name, 0.0) + (int(one[11]) + int(one[12])) / os.sysconf("SC_CLK_TCK")
    return used


def _floor(what: str, bootstrap: str, records: int, folder: Path) -> float:
    """CPU-seconds of what lies under the stage, over the same records."""
    command = [sys.executable, "-W", "ignore", "-m", "benchmarks.quix_floor", what, bootstrap, str(records), str(folder)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=WAIT_S, check=False)
    assert done.returncode == 0, done.stderr[-2000:]
    return float(done.stdout.split()[-1])


def _ways(bootstrap: str, size: Size, replicas: Replicas, seen: Seen) -> None:
    """From the append of a frame to its entry in `stage.boards`, and to its athlete's state in `live.state`."""
    rounds = int(seen.per_s * size.ways_s / size.athletes) + 1
    records = list(islice(_frames("one", size.athletes, rounds, first=size.rounds), int(seen.per_s * size.ways_s)))
    frames = Reader(bootstrap, FRAMES, size.partitions, later=True)
    words, states = (Reader(bootstrap, topic, size.partitions) for topic in (BOARD_WORDS, LIVE_STATE))
    with frames, words, states:
        sent = send(_producer(bootstrap), records, seen.per_s)
        newest = {subject: times[-1] for subject, times in sent.frames.items()}
        read = 0

        def all_there() -> bool:
            nonlocal read
            new = states.came[read:]
            read += len(new)
            for _, subject, at_us in states_in(new):
                if at_us >= newest.get(subject, at_us):
                    newest.pop(subject, None)
            return not newest

        until(lambda: replicas.all_alive() or all_there(), "not every frame came to its state", WAIT_S)
    seen.late_ms = sent.late_s * 1000
    seen.ways[""] = spread(waits_ms(sent, entries_in(words.came, frames.came, sent)))
    seen.ways["state_"] = spread(waits_ms(sent, states_in(states.came)))


def _boards_way(folder: Path, bootstrap: str, size: Size, replicas: Replicas, lag: _Lag, seen: Seen) -> None:
    """From the append of a frame to its entry in `boards.state`, over the stages live and boards."""
    boards = _Lag(bootstrap, size.partitions, "paceline-boards", BOARD_WORDS)
    producer, rounds = _producer(bootstrap), int(size.ways_s)

    def done() -> None:
        until(lambda: replicas.all_alive() or lag() == 0, "the live stage does not get done", WAIT_S)
        until(lambda: replicas.all_alive() or boards() == 0, "the stage of boards does not get done", WAIT_S)

    done()
    send(producer, list(_frames("way", BOARDS_PER_S, 1)), BOARDS_PER_S)
    done()
    frames, states = Reader(bootstrap, FRAMES, size.partitions, later=True), Reader(bootstrap, BOARDS_STATE, size.partitions)
    with frames, states:
        sent = send(producer, list(_frames("way", BOARDS_PER_S, rounds, first=1)), BOARDS_PER_S)
        done()
        time.sleep(1.0)  # the readers' last poll
    boards.close()
    seen.ways["boards_"] = spread(waits_ms(sent, boards_in(folder, states.came, frames.came, sent)))


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


class Nowhere:
    """Where a shard sends what nobody reads."""

    def send(self, *_: object, **__: object) -> None: ...


def _shard_alone(folder: Path, size: Size) -> float:
    """CPU-seconds of one shard over the frames of its share of athletes, scaled to all; cells in memory, a checkpoint a batch."""
    athletes = size.athletes // size.partitions
    messages = [
        Message(number, made.key, made.value, made.headers) for number, made in enumerate(_encoded(_frames("bare", athletes, size.rounds)))
    ]
    shard = LiveShard(
        Place(0, 1), MemoryCells(), Nowhere(), ReferenceData(), FolderBlobs(folder / "tracks"), folder / "shard", lambda: 0, tells=False
    )
    began_s = time.process_time()
    for lo in range(0, len(messages), SHARD_BATCH):
        with waiting_collector():
            shard.take(messages[lo : lo + SHARD_BATCH])
            shard.flush()
    used_s = time.process_time() - began_s
    shard.close()
    return used_s * size.partitions


if __name__ == "__main__":
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(message)s")
    made: dict[str, Any] = run("--quick" in sys.argv)
    print(json.dumps(made, indent=2))
