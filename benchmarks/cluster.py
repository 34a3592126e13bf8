"""The whole platform beyond one machine, each part a process, for `growth` and `fleet`: mosquitto, ingest, Kafka, live, finish, boards,
view, the sink and InfluxDB. All real, on loopback, 64 partitions, one copy, one replica of each.

`cpu` is from /proc, in CPU-seconds of each part; `settled` waits until nothing of what was sent is on its way any more.
"""

from __future__ import annotations

import asyncio
import os
import signal
import sqlite3
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager, closing
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from confluent_kafka import Consumer, KafkaException, TopicPartition
from confluent_kafka.admin import AdminClient, OffsetSpec

from benchmarks.machine import cpu_s_of, rss_mb_of
from broker.credentials import hash_secret, new_secret
from broker.errors import PacelineError
from broker.influx import InfluxSettings
from broker.kafka import KafkaSettings
from broker.kafka_topics import (
    ACTIVITIES_STATE,
    BELIEVED,
    BOARD_WORDS,
    BOARDS_STATE,
    FRAME_PARTITIONS,
    FRAMES,
    LIVE_STATE,
    RESULTS,
    all_topics,
)
from paceline.config import StagesPart
from paceline.role_view import role_views
from processors.influx_schema import BUCKETS
from processors.influx_sink import SinkFiles, read_status
from tests.influx_server import Influx, start_influx
from tests.kafka_server import KafkaCluster, start_kafka
from tests.kafka_stages import Replicas, make_topics
from tests.servers import PROJECT, ServedBroker, start_mosquitto

STAGES: Final = ("live", "finish", "boards", "view")
PARTS: Final = ("mosquitto", "ingest", "kafka", *STAGES, "sink", "influxd")
READS: Final = {"live": FRAMES, "finish": RESULTS, "boards": BOARD_WORDS}
CHANGELOGS: Final = (LIVE_STATE, ACTIVITIES_STATE, BOARDS_STATE, BELIEVED)
COUNTED: Final = (FRAMES, RESULTS, BOARD_WORDS, *CHANGELOGS)
INGEST_USER: Final = "platform/ingest"
KAFKA: Final = {"auto.create.topics.enable": "false", "log.message.timestamp.type": "LogAppendTime"}  # who watches reads at leisure
JVM: Final = ("-Xms512m", "-Xmx1g", "-XX:+UseSerialGC")  # with the compiler that a test's broker leaves out to start sooner
WAIT_S: Final = 600.0
POLL_S: Final = 0.5


@dataclass
class Cluster:
    """What runs. `password` is that of every node."""

    folder: Path
    broker: ServedBroker
    kafka: KafkaCluster
    influx: Influx
    replicas: Replicas
    password: str
    processes: dict[str, subprocess.Popen[bytes]] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self._admin = AdminClient({"bootstrap.servers": self.kafka.bootstrap, "log_level": 0})

    @property
    def kafka_settings(self) -> KafkaSettings:
        return KafkaSettings(bootstrap=self.kafka.bootstrap)

    @property
    def influx_settings(self) -> InfluxSettings:
        return InfluxSettings.model_validate(
            {"url": self.influx.url, "token": self.influx.token, "org": self.influx.org, "bucket": "paceline_{bucket}/autogen"}
        )

    def pids(self) -> dict[str, int]:
        """The process of each part."""
        kafka, influxd = self.kafka.nodes[0].process, self.influx.process
        assert kafka is not None
        assert influxd is not None
        stages = {name: process.pid for (name, _), process in self.replicas.running.items()}
        ours = {name: process.pid for name, process in self.processes.items()}
        pids = {"mosquitto": self.broker.pid, "kafka": kafka.pid, "influxd": influxd.pid, **stages, **ours}
        return {part: pids[part] for part in PARTS}

    def cpu(self) -> dict[str, float]:
        """CPU-seconds of each part since it began."""
        return {part: cpu_s_of(pid) for part, pid in self.pids().items()}

    def memory_mb(self) -> dict[str, int]:
        """Resident memory of each part."""
        return {part: round(rss_mb_of(pid)) for part, pid in self.pids().items()}

    def stored_bytes(self) -> dict[str, int]:
        """What lies on disk now: the records of each topic (of which replaced values go later), tracks, InfluxDB, states, the view."""
        found: dict[str, int] = {}
        for segment in (self.kafka.nodes[0].home / "data").glob("*/*.log"):
            topic = segment.parent.name.rpartition("-")[0]
            kind = topic if topic in COUNTED else "events" if topic.startswith("paceline.") else "other topics"
            found[kind] = found.get(kind, 0) + segment.stat().st_size
        stages, influx = self.replicas.folder / "a" / "platform", self.influx.home
        folders = {
            "tracks": [self.replicas.folder / "tracks"],
            "influxdb": [influx / "data", influx / "wal"],
            "stage state": [path for path in stages.glob("*-a") if path.is_dir()],
        }
        for kind, places in folders.items():
            found[kind] = sum(file.stat().st_size for place in places for file in place.rglob("*") if file.is_file())
        found["view"] = (stages / "state.db").stat().st_size
        return found

    def all_alive(self) -> None:
        self.replicas.all_alive()
        for name, process in self.processes.items():
            if process.poll() is not None:
                raise PacelineError(f"{name} ended with {process.returncode}:\n{(self.folder / f'{name}.log').read_text()[-3000:]}")

    def start(self, name: str, command: Sequence[str], data: str, **more: str) -> None:
        """A process of ours beside the stages."""
        env = {**os.environ, **self.environment(), "PACELINE_DATA": str(self.replicas.folder / data), **more}
        with (self.folder / f"{name}.log").open("ab") as log:
            self.processes[name] = subprocess.Popen(
                [sys.executable, "-m", "paceline", *command], env=env, stdout=log, stderr=log, cwd=PROJECT
            )

    def environment(self) -> dict[str, str]:
        """What all of ours are told."""
        return {
            "PACELINE_KAFKA__BOOTSTRAP": self.kafka.bootstrap,
            "PACELINE_INFLUX__URL": self.influx.url,
            "PACELINE_INFLUX__TOKEN": self.influx.token,
            "PACELINE_INFLUX__BUCKET": "paceline_{bucket}/autogen",
        }

    def ready(self) -> bool:
        """Whether every process of ours says so."""
        self.all_alive()
        views = [*role_views(self.replicas.folder / "a"), *role_views(self.replicas.folder / "ingest")]
        try:
            return len(views) == len(STAGES) + 2 and not any(view.reasons() for view in views)
        except OSError:
            return False

    # on its way

    def ends(self, topics: Sequence[str]) -> dict[tuple[str, int], int]:
        """The end of each partition."""
        asked = {TopicPartition(t.name, n): OffsetSpec.latest() for t in all_topics() if t.name in topics for n in range(t.partitions)}
        deadline_s = time.monotonic() + WAIT_S
        while True:
            found = self._admin.list_offsets(asked, request_timeout=60)  # one request: asking each by itself costs Kafka a second of CPU
            try:
                return {(place.topic, place.partition): answer.result(60).offset for place, answer in found.items()}
            except KafkaException:  # a leader that has just changed
                if time.monotonic() > deadline_s:
                    raise
                time.sleep(POLL_S)

    def lag(self, stage: str) -> int:
        """Records that no checkpoint of a stage has yet."""
        topic = READS[stage]
        consumer = Consumer({"bootstrap.servers": self.kafka.bootstrap, "group.id": f"paceline-{stage}", "enable.auto.commit": False})
        try:
            places = [TopicPartition(topic, n) for n in range(FRAME_PARTITIONS)]
            done = {place.partition: max(place.offset, 0) for place in consumer.committed(places, timeout=60)}
        except KafkaException:  # the coordinator of the group is on its way
            return 1
        finally:
            consumer.close()
        return sum(end - done[n] for (_, n), end in self.ends([topic]).items() if end > done[n])

    def activities(self) -> int:
        """Finished ones, as the view has them."""
        path = self.replicas.folder / "a" / "platform" / "state.db"
        with closing(sqlite3.connect(f"file:{path}?mode=ro", uri=True)) as db:
            return int(db.execute("SELECT count(*) FROM final").fetchone()[0])

    def viewed(self) -> bool:
        """Whether the state file has all of the changelogs, but for the marks of transactions at their ends."""
        path = self.replicas.folder / "a" / "platform" / "state.db"
        with closing(sqlite3.connect(f"file:{path}?mode=ro", uri=True)) as db:
            at = dict(db.execute("SELECT stage, pos FROM position").fetchall())
        return all(at.get(f"{topic}[{n}]", 0) >= end for (topic, n), end in self.ends(CHANGELOGS).items() if end)

    def sunk(self) -> bool:
        """Whether the sink has taken what the view has, and nothing waits for InfluxDB."""
        said = read_status(SinkFiles(self.replicas.folder / "a" / "platform"))
        now_us = time.time_ns() // 1000
        return said is not None and now_us - said["t_us"] < 5_000_000 and not said["counters"]["waiting_lines"]

    def passed(self) -> None:
        """Wait until each stage has done what was sent, and the view has it."""
        self.wait(lambda: self.lag("live") == 0, "live is behind")
        self.wait(lambda: self.lag("finish") == 0, "finish is behind")
        self.wait(lambda: self.lag("boards") == 0, "boards is behind")
        self.wait(self.viewed, "view is behind")

    def settled(self) -> None:
        """Wait until nothing is on its way: neither in the sink (asked twice, so that it has looked)."""
        self.passed()
        for _ in range(2):
            time.sleep(2.5)  # it looks each half second, and says how it does each two
            self.wait(self.sunk, "the sink is behind")

    def wait(self, said: Callable[[], object], what: str) -> None:
        deadline_s = time.monotonic() + WAIT_S
        while not said():
            self.all_alive()
            if time.monotonic() > deadline_s:
                raise PacelineError(f"the cluster did not settle: {what}", cure="take fewer frames, or a machine with time")
            time.sleep(POLL_S)

    def end(self) -> None:
        for process in self.processes.values():
            process.send_signal(signal.SIGTERM)
        for process in self.processes.values():
            try:
                process.wait(30)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait(30)
        self.replicas.end()


@asynccontextmanager
async def cluster(folder: Path, users: Sequence[str], *, commit_s: float = StagesPart().commit_s) -> AsyncIterator[Cluster]:
    """All parts up and ready; `users` are the nodes that may connect, all with one password."""
    async with (
        start_kafka(folder, extra=KAFKA, jvm=JVM) as kafka,
        start_influx(folder) as influx,
        start_mosquitto(folder, users=(INGEST_USER,)) as broker,
    ):
        for bucket in BUCKETS:
            await asyncio.to_thread(influx.create_database, f"paceline_{bucket}")
        password = new_secret()
        hashed = hash_secret(password).encode()
        with broker.password_file.open("a") as file:
            file.writelines(f"{user}:{hashed}\n" for user in users)
        await asyncio.to_thread(broker.reload)
        await asyncio.to_thread(make_topics, kafka.bootstrap, FRAME_PARTITIONS)
        made = Cluster(folder, broker, kafka, influx, Replicas(folder / "stages", kafka.bootstrap, commit_s=commit_s), password)
        try:
            await asyncio.to_thread(_start, made)
            yield made
        finally:
            await asyncio.to_thread(made.end)


def _start(made: Cluster) -> None:
    for stage in STAGES:
        made.replicas.start(stage, "a", **made.environment())
    more = {"PACELINE_CENTRAL__KIND": "external", "PACELINE_CENTRAL__PORT": str(made.broker.port)}
    made.start("ingest", ["ingest"], "ingest", **more, PACELINE_INGEST__PASSWORD=made.broker.password(INGEST_USER))
    made.start("sink", ["influx", "sink"], "a")
    made.wait(made.ready, "not every process gets ready")


def per_million(used_s: dict[str, float], samples: int) -> dict[str, float]:
    """CPU-seconds per million samples of each part, and of all."""
    each = {part: used / samples * 1e6 for part, used in used_s.items()}
    return {**{part: round(value, 2) for part, value in each.items()}, "all": round(sum(each.values()), 2)}
