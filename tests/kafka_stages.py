"""The stages on a real Kafka: replicas as processes of the real command, killed and started as a test wants."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

from confluent_kafka import Producer

from broker.kafka import KafkaSettings
from broker.kafka_records import encode_log_record
from broker.kafka_topics import all_topics
from broker.logrecord import LogRecord
from processors.kafka_admin import KafkaAdmin

WAIT_S = 240.0
_COMMANDS = {"api": ["api"], "ingest": ["ingest"], "influx": ["influx", "sink"]}


@dataclass
class Replicas:
    """Processes of the stages, and of ingest, API and sink beside them, over one cluster; `folder` holds their data, tracks and what they
    wrote, `environment` is for all of them."""

    folder: Path
    bootstrap: str
    exactly_once: bool = False
    commit_s: float = 0.5
    environment: Mapping[str, str] = field(default_factory=dict[str, str])
    running: dict[tuple[str, str], subprocess.Popen[bytes]] = field(default_factory=dict)
    again: Callable[[str, str, int], None] | None = None
    """What starts a process again that ended by itself; without, such a one fails the test."""

    def serve(self, tenant: str, port: int, name: str = "a") -> None:
        """The API over what `view` of that name keeps."""
        self.start("api", name, PACELINE_TENANT=tenant, PACELINE_API__PORT=str(port))

    def start(self, stage: str, name: str = "a", **more: str) -> subprocess.Popen[bytes]:
        command = _COMMANDS.get(stage, ["process", stage])
        env = {
            **os.environ,
            "PACELINE_KAFKA__BOOTSTRAP": self.bootstrap,
            "PACELINE_DATA": str(self.folder / name),
            "PACELINE_STAGES__TRACKS": str(self.folder / "tracks"),
            "PACELINE_STAGES__REPLICA": name,
            "PACELINE_STAGES__COMMIT_S": str(self.commit_s),
            "PACELINE_STAGES__EXACTLY_ONCE": str(self.exactly_once).lower(),
            **self.environment,
            **more,
        }
        self.folder.mkdir(parents=True, exist_ok=True)
        with self.log(stage, name).open("ab") as log:
            process = subprocess.Popen([sys.executable, "-m", "paceline", *command], env=env, stdout=log, stderr=log)
        self.running[stage, name] = process
        return process

    def log(self, stage: str, name: str = "a") -> Path:
        return self.folder / f"{stage}-{name}.log"

    def kill(self, stage: str, name: str = "a") -> None:
        process = self.running.pop((stage, name))
        process.kill()
        process.wait(60)

    def stop(self, stage: str, name: str = "a") -> int:
        process = self.running.pop((stage, name))
        process.send_signal(signal.SIGTERM)
        return process.wait(WAIT_S)

    def all_alive(self) -> None:
        for (stage, name), process in list(self.running.items()):
            code = process.poll()
            if code is not None and self.again is not None:
                self.again(stage, name, code)
                continue
            assert code is None, f"{stage} {name} ended:\n{self.log(stage, name).read_text(errors='replace')[-3000:]}"

    def logs(self) -> str:
        """The end of what each of them wrote."""
        return "\n".join(f"--- {path.name}\n{path.read_text(errors='replace')[-1500:]}" for path in sorted(self.folder.glob("*.log")))

    def end(self) -> None:
        for process in self.running.values():
            process.kill()
        for process in self.running.values():
            process.wait(60)
        self.running.clear()


def make_topics(bootstrap: str, partitions: int | Mapping[str, int], copies: int = 1) -> None:
    """As `paceline topics apply` does, with fewer partitions (of those named) for the stages: opening 64 takes a test too long."""
    topics = all_topics()
    if isinstance(partitions, int):
        made = [replace(t, partitions=min(t.partitions, partitions)) for t in topics]
    else:
        made = [replace(t, partitions=partitions[t.name]) for t in topics if t.name in partitions]
    KafkaAdmin(KafkaSettings(bootstrap=bootstrap), reach_s=WAIT_S, timeout_s=WAIT_S).apply(made, replication=copies)


def append(bootstrap: str, records: Sequence[LogRecord]) -> None:
    """Records as ingest appends them, acknowledged."""
    producer = Producer({"bootstrap.servers": bootstrap, "partitioner": "murmur2_random", "enable.idempotence": True, "linger.ms": 5})
    for record in records:
        made = encode_log_record(record)
        producer.produce(made.topic, key=made.key, value=made.value, headers=made.headers)
        producer.poll(0)
    assert producer.flush(WAIT_S) == 0


def until(said: Callable[[], object], what: str, wait_s: float = WAIT_S) -> None:
    """Poll until `said()` is true."""
    deadline_s = time.monotonic() + wait_s
    while not said():
        assert time.monotonic() < deadline_s, what
        time.sleep(0.1)
