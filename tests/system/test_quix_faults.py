"""Stages, ingest and Kafka under faults, from the node's frame to what readers see: nothing is lost or counted twice, and all ends as it does on
one machine undisturbed. Longer than `make test` may take; `test_quix.py` has a kill of each stage. What is printed is kept in `docs/figures`.
"""

from __future__ import annotations

import asyncio
import random
import shutil
import signal
import threading
import time
from collections.abc import AsyncGenerator, Iterable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path

import pytest
from confluent_kafka import Consumer, TopicPartition
from confluent_kafka.admin import AdminClient

from broker.kafka_topics import (
    ACTIVITIES_STATE,
    BOARD_WORDS,
    BOARDS_STATE,
    DEAD,
    FRAME_PARTITIONS,
    FRAMES,
    LIVE_STATE,
    RESULTS,
    all_topics,
    event_topics,
)  # fmt: skip
from broker.logrecord import Kind, LogRecord
from broker.topics import UPLOAD_NODE
from tests.kafka_reader import log_records
from tests.kafka_server import KafkaCluster, start_kafka
from tests.kafka_stages import Replicas, append, make_topics, until
from tests.servers import ServedBroker, start_mosquitto
from tests.stage_load import Load, alone, beside, load_of, told, told_again, wait_until_equal
from tests.system.ingest_node import ResendingNode

SETTLE_S = 900.0
RECORDS_A_KILL = 10  # what a reader has from the stages after each kill, at least, before the next
_WIDE = (FRAMES, LIVE_STATE, RESULTS, ACTIVITIES_STATE)  # ingest takes frames in 64 partitions only, and these have as many
STAGES = ("live", "finish", "boards", "view")
CHECKS_TRANSACTIONS = {"transaction.abort.timed.out.transaction.cleanup.interval.ms": "1000"}  # as docs/kafka.md asks for
pytestmark = [pytest.mark.nightly, pytest.mark.timeout(3600)]


@dataclass
class Site:
    """Servers, processes and nodes."""

    kafka: KafkaCluster
    broker: ServedBroker
    replicas: Replicas
    load: Load
    expected: dict[str, str]
    nodes: list[ResendingNode] = field(default_factory=list)
    began_s: float = field(default_factory=time.monotonic)
    ended: list[str] = field(default_factory=list[str])
    changing: set[str] = field(default_factory=set[str])

    def again(self, stage: str, name: str, code: int) -> None:
        """Start a process again that ended, as its keeper does; a stage that says that a setting is wrong is not."""
        assert code != 2, self.replicas.log(stage, name).read_text(errors="replace")[-3000:]
        del self.replicas.running[stage, name]
        self.ended.append(f"{stage} {name} ({code})")
        self.start(stage, name)

    def start(self, stage: str, name: str = "a") -> None:
        if stage != "ingest":
            self.replicas.start(stage, name)
            return
        self.replicas.start(
            stage, name, PACELINE_CENTRAL__KIND="external", PACELINE_CENTRAL__PORT=str(self.broker.port),
            PACELINE_INGEST__PASSWORD=self.broker.password("platform/ingest"),
        )  # fmt: skip

    def start_all(self, changes: int = 0) -> list[list[LogRecord]]:
        """Tell what is known, and start. What changes later in every other tenant, in so many parts."""
        tenants = sorted({ref.tenant for ref in self.load.refs})
        first, later = beside(self.load.refs, changes, kept_first=tenants[::2]) if changes else (self.load.refs, [])
        self.changing = {ref.tenant for part in later for ref in part}
        append(self.replicas.bootstrap, first)
        for stage, name in (("ingest", "a"), ("live", "a"), ("live", "b"), ("finish", "a"), ("boards", "a"), ("view", "a")):
            self.start(stage, name)
        return later

    def lose(self, stage: str, name: str) -> None:
        """The disk of a replica is gone; that of a view or of ingest has nothing of its own in this test."""
        shutil.rmtree(self.replicas.folder / name / "platform" / f"{stage}-{name}", ignore_errors=True)

    def send(self, for_s: float) -> None:
        """Every node begins to send its frames, for about so long; uploads are appended as the API does."""
        by_node: dict[str, list[bytes]] = {}
        for record in self.load.frames:
            if record.node != UPLOAD_NODE:
                by_node.setdefault(f"{record.tenant}/{record.node}", []).append(record.body)
        append(self.replicas.bootstrap, [record for record in self.load.frames if record.node == UPLOAD_NODE])
        for user, rows in by_node.items():
            node = ResendingNode(self.broker, user, rows, per_bundle=1, pause_s=for_s / len(rows))
            self.nodes.append(node)
            node.start()

    def hurry(self) -> None:
        """The nodes send what is left at once."""
        for node in self.nodes:
            node.pause_s = 0.002

    async def settled(self) -> None:
        """All frames are acknowledged and in the log, and readers see what one machine shows."""
        await asyncio.to_thread(until, self._acknowledged, "frames are not acknowledged", SETTLE_S)
        for node in self.nodes:
            await asyncio.to_thread(node.join_done, 60)
            assert not node.refused
        sent = {record.body for record in self.load.frames}
        tenants = {record.tenant for record in self.load.frames}
        kept: set[bytes] = set()
        for tenant in tenants:
            kept |= {r.body for r in await asyncio.to_thread(log_records, self.replicas.bootstrap, tenant) if r.kind == Kind.FRAME}
        assert kept == sent, f"{len(sent - kept)} frames lost"
        await asyncio.to_thread(wait_until_equal, self.replicas, self.expected, None, SETTLE_S)

    def _acknowledged(self) -> bool:
        self.replicas.all_alive()
        return not any(node.open_rows for node in self.nodes)

    async def judged(self, name: str) -> None:
        """Nothing is told twice; the figures of the run."""
        events = await asyncio.to_thread(told, self.replicas.bootstrap)
        ids = {event.id for event in events}
        again = told_again(events, self.changing)
        print(
            f"\n{name}: {len(self.load.frames)} frames of {len(self.nodes)} nodes, lost 0; {len(ids)} events, {len(events) - len(ids)} repeats "
            f"known by their ids, told twice {len(again)}; boards, efforts, activities and tracks equal to one machine; "
            f"ended by themselves and started again: {', '.join(self.ended) or 'none'}; {time.monotonic() - self.began_s:.0f} s"
        )
        assert ids
        assert not again
        if self.replicas.exactly_once:
            assert len(events) == len(ids), "an event was told twice"


@asynccontextmanager
async def site_of(folder: Path, seeds: Iterable[int], *, brokers: int = 1, exactly_once: bool = False) -> AsyncGenerator[Site]:
    widths = {
        t.name: FRAME_PARTITIONS if t.name in _WIDE else t.partitions if t.name == DEAD else min(t.partitions, 6) for t in all_topics()
    }
    load = load_of(list(seeds), folder / "made")
    expected = await asyncio.to_thread(alone, folder / "alone", load)
    users = {f"{record.tenant}/{record.node}" for record in load.frames if record.node != UPLOAD_NODE}
    async with (
        start_kafka(folder / "kafka", brokers=brokers, extra=CHECKS_TRANSACTIONS) as kafka,
        start_mosquitto(folder / "mosquitto", users=(*sorted(users), "platform/ingest")) as broker,
    ):
        await asyncio.to_thread(make_topics, kafka.bootstrap, widths, brokers)
        replicas = Replicas(folder / "stages", kafka.bootstrap, exactly_once)
        site = Site(kafka, broker, replicas, load, expected)
        replicas.again = site.again
        try:
            yield site
        finally:
            for node in site.nodes:
                node.stopping.set()
            replicas.end()


class Delays(threading.Thread):
    """A reader of what is committed: when each record of the stages was written, and when it could be read (seconds of the epoch)."""

    def __init__(self, bootstrap: str) -> None:
        super().__init__(daemon=True)
        self.found: list[tuple[float, float]] = []
        self.done = threading.Event()
        self._consumer = Consumer(
            {"bootstrap.servers": bootstrap, "group.id": "none", "enable.auto.commit": False, "isolation.level": "read_committed",
             "fetch.wait.max.ms": 50, "fetch.queue.backoff.ms": 5}
        )  # fmt: skip
        topics = [RESULTS, BOARD_WORDS, LIVE_STATE, ACTIVITIES_STATE, BOARDS_STATE, *(topic.name for topic in event_topics())]
        widths = {name: len(self._consumer.list_topics(name, timeout=60).topics[name].partitions) for name in topics}
        self._consumer.assign([TopicPartition(name, n, -2) for name, width in widths.items() for n in range(width)])

    def run(self) -> None:
        while not self.done.is_set():
            for message in self._consumer.consume(1000, 0.1):
                if message.error() is None:
                    self.found.append((message.timestamp()[1] / 1000, time.time()))
        self._consumer.close()

    def written_since(self, at_s: float) -> int:
        """How many records were read that were written since."""
        return sum(written_s >= at_s for written_s, _ in list(self.found))

    def waits_s(self, from_s: float, to_s: float) -> list[float]:
        """How long each record waited that was due between two moments: written before the later one, read after the earlier; the longest last."""
        return sorted(read_s - written_s for written_s, read_s in list(self.found) if written_s < to_s and read_s >= from_s)


async def struck(site: Site, changes: Sequence[list[LogRecord]], rng: random.Random, reader: Delays) -> list[tuple[float, str]]:
    """Kill a random process beside each of some changes, with what else happens to a cluster in between; when each was killed.

    Nobody is killed before the reader has something that was written since the last kill.
    """
    replicas, struck_at, kills = site.replicas, list[tuple[float, str]](), len(changes)
    for number, change in enumerate(changes):
        await asyncio.sleep(rng.uniform(1.0, 4.0))
        await wrote(site, reader, struck_at[-1][0] if struck_at else 0.0)
        victims = [of for of in replicas.running if number or of[0] != "view"]
        stage, name = rng.choice(victims)
        append(replicas.bootstrap, change)
        replicas.kill(stage, name)
        struck_at.append((time.time(), f"{stage} {name}"))
        if rng.random() < 0.5 and stage not in ("view", "ingest"):
            site.lose(stage, name)
        if rng.random() < 0.3:
            await asyncio.sleep(12)  # longer than the session: its partitions go to others
        site.start(stage, name)
        if number == kills // 4:
            site.start("live", "c")
            site.start("finish", "b")
        elif number == kills // 2:
            await site.kafka.kill()
            await site.kafka.start()
        elif number == 3 * kills // 4:
            replicas.stop("live", "b")
            replicas.stop("finish", "b")
            await asyncio.to_thread(paused, site, "live", "c")
    await wrote(site, reader, struck_at[-1][0])
    await asyncio.sleep(16)
    return struck_at


async def wrote(site: Site, reader: Delays, since_s: float) -> None:
    """Wait until the stages wrote something again."""

    def some() -> bool:
        site.replicas.all_alive()
        return reader.written_since(since_s) >= RECORDS_A_KILL

    await asyncio.to_thread(until, some, "the stages write nothing", SETTLE_S)


def paused(site: Site, stage: str, name: str) -> None:
    """A replica that stands still for longer than its session comes back, finds its partitions with others, and ends or joins again."""
    process = site.replicas.running[stage, name]
    process.send_signal(signal.SIGSTOP)
    time.sleep(16)
    process.send_signal(signal.SIGCONT)
    time.sleep(4)


@pytest.mark.parametrize("exactly_once", [False, True], ids=["at_least_once", "exactly_once"])
async def test_twenty_kills_in_a_row_a_pause_a_broker_restart_and_a_cold_start_of_all(tmp_path: Path, exactly_once: bool) -> None:
    kills, rng = 20, random.Random(8 + exactly_once)
    async with site_of(tmp_path, range(40, 52), exactly_once=exactly_once) as site:
        changes = site.start_all(kills)
        reader = Delays(site.kafka.bootstrap)
        reader.start()
        site.send(for_s=900)  # so that they never run out of something to write
        struck_at = await struck(site, changes, rng, reader)
        site.hurry()
        reader.done.set()
        ends = [*(at for at, _ in struck_at[1:]), time.time()]
        waits = [(what, reader.waits_s(at, end)) for (at, what), end in zip(struck_at, ends, strict=True)]
        all_s = reader.waits_s(0, time.time())
        print(
            f"\nlongest wait of a reader of what is committed after each kill (of how many records), {'exactly' if exactly_once else 'at least'} once: "
            + ", ".join(f"{what} {found[-1]:.1f} s ({len(found)})" for what, found in waits)
            + f"; of all {len(all_s)}: median {all_s[len(all_s) // 2]:.2f}, p99 {all_s[len(all_s) * 99 // 100]:.2f}, longest {all_s[-1]:.1f} s"
        )
        if exactly_once:
            assert max(found[-1] for _, found in waits) < 15
        for stage, name in [of for of in site.replicas.running if of[0] not in ("view", "ingest")]:
            site.replicas.kill(stage, name)
            site.lose(stage, name)
        for stage in STAGES[:3]:
            for name in "def":
                site.start(stage, name)
        await site.settled()
        await site.judged(f"{kills} kills {'exactly once' if exactly_once else 'at least once'}")


@pytest.mark.parametrize("away_s", [300])
async def test_kafka_away_for_minutes_while_nodes_go_on_sending(tmp_path: Path, away_s: float) -> None:
    async with site_of(tmp_path, range(60, 64)) as site:
        site.start_all()
        site.send(for_s=60 + away_s)
        await asyncio.sleep(30)
        await site.kafka.stop()
        await asyncio.sleep(away_s)
        assert any(node.open_rows for node in site.nodes), "nothing waited for Kafka"
        await site.kafka.start()
        await site.settled()
        await site.judged(f"Kafka away for {away_s:.0f} s")


async def in_sync(kafka: KafkaCluster, brokers: int) -> None:
    """Wait until every partition has all its copies again."""
    client = AdminClient({"bootstrap.servers": kafka.bootstrap})

    def whole() -> bool:
        topics = client.list_topics(timeout=60).topics.values()
        return all(len(p.isrs) == brokers for topic in topics for p in topic.partitions.values())

    await asyncio.to_thread(until, whole, "copies are missing", SETTLE_S)


async def test_of_three_brokers_one_is_killed_and_each_is_replaced_by_an_empty_one(tmp_path: Path) -> None:
    async with site_of(tmp_path, range(70, 74), brokers=3) as site:
        site.start_all()
        site.send(for_s=120)
        await asyncio.sleep(15)
        await site.kafka.kill(1)
        stored = sum(len(node.stored) for node in site.nodes)
        await asyncio.to_thread(until, lambda: sum(len(node.stored) for node in site.nodes) > stored + 20, "two brokers take nothing")
        await site.kafka.start(1)
        await in_sync(site.kafka, 3)
        for number in range(3):
            await site.kafka.kill(number)
            await asyncio.to_thread(site.kafka.replace, number)
            await site.kafka.start(number)
            await in_sync(site.kafka, 3)
        await site.settled()
        await site.judged("three brokers, one killed, each replaced by an empty one")
