"""Keeps a state file for readers from a cluster's topics: what `paceline api` serves beside stages on Kafka.

Reads without a group, every partition from where the file says it is; records and places commit together, so nothing is missed and what
comes again changes nothing. A file that is lost is made again from the compacted topics.
"""

from __future__ import annotations

import contextlib
import logging
import sqlite3
import threading
import time
from pathlib import Path
from typing import Any, Final

from confluent_kafka import Consumer, KafkaError, KafkaException, TopicPartition

from broker.errors import ConfigError, LinkError, StoreError
from broker.kafka import KafkaSettings
from broker.kafka_topics import ACTIVITIES_STATE, BELIEVED, BOARDS_STATE, GONE_DAYS, LIVE_STATE, REFERENCE, event_topics
from broker.liveness import Part, unwatched
from broker.view_part import WHOLE, ViewPart
from processors.kafka_admin import admin_options
from processors.kafka_faults import AWAY, cure_of
from processors.measures import CAUGHT_UP_S
from processors.state_view import Record, StateView
from processors.topic_lag import Partition, TopicLag
from processors.view_file import is_filling, open_part, whole_now

_log = logging.getLogger(__name__)

GATHER_S: Final = 0.05  # what comes in so long is one transaction
FETCH_MS: Final = 50  # a broker gathers so long before it answers for all of some 300 partitions
FETCH_BYTES: Final = 200_000  # or so much
MOST_BYTES: Final = 16 * 1024 * 1024  # of a transaction, about: a view that is late takes more at once, and writes of each subject the last
_BITE: Final = 64  # records taken out of the client at once
_CACHE_KIB: Final = 64 * 1024
_JOURNAL_PAGES: Final = 8_000  # of 4 KiB: what is written again and again is moved out of the journal once
LOOK_S: Final = 1.0
START_S: Final = 60.0
OLD_S: Final = (GONE_DAYS - 1) * 86_400  # what is gone from a compacted topic is told for a day longer
_BEGINNING: Final = -2
TOPICS: Final = (LIVE_STATE, ACTIVITIES_STATE, BOARDS_STATE, REFERENCE, *(topic.name for topic in event_topics()))


def forget_when_old(state: Path, now_s: float) -> None:
    """Remove a state file that nobody kept up for so long that Kafka may not tell any more what is gone: it is made again."""
    files = [path for suffix in ("", "-wal", "-shm") if (path := state.with_name(state.name + suffix)).exists()]
    if files and now_s - max(path.stat().st_mtime for path in files) > OLD_S:
        _log.warning("view: %s was not kept for %d days and is made again", state, OLD_S // 86_400)
        for path in files:
            path.unlink()


def hold_much(db: sqlite3.Connection) -> None:
    """Have a connection that writes the same rows again and again keep more of them in memory and in its journal."""
    for pragma in (f"cache_size=-{_CACHE_KIB}", f"wal_autocheckpoint={_JOURNAL_PAGES}"):
        db.execute(f"PRAGMA {pragma}").fetchall()


class KafkaView:
    """One follower of one file."""

    def __init__(self, kafka: KafkaSettings, state: Path, *, tells: bool = False, part: ViewPart = WHOLE) -> None:
        """`tells`: also follow what is believed of samples (`live.samples`). `part`: of which tenants."""
        forget_when_old(state, time.time())
        self._kafka = kafka
        self._state = state
        self.store = open_part(state, part)
        hold_much(self.store.db)
        self.store.db.execute("INSERT OR IGNORE INTO position VALUES (?, 0)", (f"{REFERENCE}[0]",))  # whose file it is
        self._filling = is_filling(self.store.db)
        self._view = StateView(self.store, tells=tells, part=part)
        settings: dict[str, Any] = {
            **admin_options(kafka), "group.id": "none", "enable.auto.commit": False, "auto.offset.reset": "earliest",
            "fetch.min.bytes": FETCH_BYTES, "fetch.wait.max.ms": FETCH_MS, "fetch.queue.backoff.ms": 5, "enable.partition.eof": True,
            "error_cb": self._complained,
        }  # fmt: skip
        self._consumer = Consumer(settings)
        self._told: set[tuple[str, str]] = set()
        self.unreadable = self.records = 0
        self._away = ""
        self._asked_s = self._looked_s = 0.0
        topics = (*TOPICS, BELIEVED) if tells else TOPICS
        try:
            self._check_cluster()
            at = [TopicPartition(t, p, self._from(t, p)) for t in topics for p in range(self._partitions(t))]
            self.lag = TopicLag((place.topic, place.partition) for place in at)
            self._consumer.assign(at)
        except BaseException:
            self.close()
            raise

    def _check_cluster(self) -> None:
        """StoreError when the file is ahead of the cluster: then it was made of another one; LinkError when Kafka does not say."""
        at, there = self.store.position(f"{REFERENCE}[0]"), self._partitions(REFERENCE)
        try:
            end = self._consumer.get_watermark_offsets(TopicPartition(REFERENCE, 0), timeout=START_S)[1] if at and there else at
        except KafkaException as error:
            raise LinkError(f"Kafka does not answer about {REFERENCE}: {error.args[0].str()}", cure=AWAY) from error
        if end < at:
            raise StoreError(
                f"{self._state}: was made from {REFERENCE} up to {at}, which ends at {end}: of another Kafka, or of one that lost records",
                cure="check kafka.bootstrap; remove the file, it is made again",
            )

    def _partitions(self, topic: str) -> int:
        deadline_s = time.monotonic() + START_S
        while True:
            try:
                found = self._consumer.list_topics(topic, timeout=10).topics[topic]
            except KafkaException as error:
                if time.monotonic() > deadline_s:
                    raise LinkError(f"Kafka does not answer about {topic}: {error.args[0].str()}", cure=AWAY) from error
            else:
                if not found.partitions:
                    raise ConfigError(f"Kafka has no topic {topic}", cure="run `paceline topics apply`")
                return len(found.partitions)

    def _from(self, topic: str, partition: int) -> int:
        at = self.store.position(f"{topic}[{partition}]")
        return at or _BEGINNING

    def step(self) -> int:
        """Take what comes within `GATHER_S`, in one transaction; returns how many records."""
        records = self._records()
        if not records:
            return 0
        db = self.store.db
        db.execute("BEGIN IMMEDIATE")
        for record, error in self._view.take(records):
            self.unreadable += 1
            _log.error("view: %s[%d] %d: %s", record.topic, record.partition, record.offset, error)
        at = {f"{record.topic}[{record.partition}]": record.offset + 1 for record in records}
        db.executemany("INSERT OR REPLACE INTO position VALUES (?,?)", at.items())
        db.execute("COMMIT")
        self.records += len(records)
        return len(records)

    @property
    def passed(self) -> int:
        """Records of which nothing was of this part of the tenants."""
        return self._view.passed

    def _records(self) -> list[Record]:
        records: list[Record] = []
        size, until_s = 0, time.monotonic() + GATHER_S
        while size < MOST_BYTES and (left_s := until_s - time.monotonic()) > 0:
            for m in self._consumer.consume(_BITE, left_s):
                error, topic, partition, offset = m.error(), str(m.topic()), int(m.partition() or 0), int(m.offset() or 0)
                if error is None:
                    value = m.value()
                    size += len(value or b"")
                    records.append(Record(topic, partition, offset, m.key() or b"", value, m.headers() or ()))
                    self.lag.taken((topic, partition), offset, m.timestamp()[1])
                elif error.name() == "_PARTITION_EOF":
                    self.lag.at_end((topic, partition), offset, time.time())
                else:
                    self._refused(topic, error)
        return records

    def end_of(self, partition: Partition) -> int:
        """The offset behind the last record of a partition, as far as the last fetch told. From any thread."""
        return self._consumer.get_watermark_offsets(TopicPartition(*partition), cached=True)[1]

    def caught_up(self) -> str:
        """A condition of readiness: everything was read once, and no record waits for long."""
        if left := self.lag.not_read():
            return f"{left} of {len(self.lag.partitions)} partitions are not read yet"
        behind = self.lag.seconds(self.end_of, time.time())
        topic = max(behind, key=lambda one: behind[one])
        if behind[topic] <= CAUGHT_UP_S:
            return ""
        return f"{self.lag.records(self.end_of)[topic]} records of {topic} behind, the oldest about {behind[topic]:.0f} s old"

    def away(self) -> str:
        """Why Kafka cannot be reached; empty while it can."""
        return self._away

    def _complained(self, error: KafkaError) -> None:
        """The client's own words; it is asked for the way to Kafka again until that is there."""
        if error.name() == "_ALL_BROKERS_DOWN" and not self._away:
            self._away = f"no broker can be reached; cure: {cure_of(self._kafka, error)}"
            _log.error("view: kafka %s: %s", self._kafka.bootstrap, self._away)

    def _look_again(self) -> None:
        """Whether Kafka is there again; each second while it is away."""
        if self._away and time.monotonic() - self._asked_s >= LOOK_S:
            self._asked_s = time.monotonic()
            with contextlib.suppress(KafkaException):
                self._consumer.list_topics(REFERENCE, timeout=LOOK_S)
                self._away = ""
                _log.info("view: kafka %s answers", self._kafka.bootstrap)

    def _refused(self, topic: str, error: KafkaError) -> None:
        """Say, once for each topic and kind of error, why nothing comes from there."""
        if (topic, error.name()) not in self._told:
            self._told.add((topic, error.name()))
            _log.error("view: %s: %s; cure: %s", topic, error.str(), "let this user read it, and see whether its brokers run")

    def run(self, stop: threading.Event, alive: Part | None = None) -> None:
        """Follow until `stop`; `alive` beats with every round."""
        alive = alive or unwatched()
        while not stop.is_set():
            alive.beat()
            self.step()
            self.look_whole()
            self._look_again()
            if (since_s := time.monotonic() - self._looked_s) >= LOOK_S:
                self._looked_s += since_s
                self.lag.looked(self.end_of, time.time())

    def look_whole(self) -> None:
        """Note when a file that was begun for this part has everything for the first time: an API may serve it from then on."""
        if self._filling and not self.caught_up():
            whole_now(self.store.db)
            self._filling = False

    def close(self) -> None:
        self._consumer.close()
        self.store.close()
