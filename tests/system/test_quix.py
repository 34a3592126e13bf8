"""The stages as processes on a real Kafka: whoever is killed, joins, leaves or loses its disk, tracks, activities, boards, efforts and what
events fold to are those of the embedded runner undisturbed.
"""

from __future__ import annotations

import asyncio
import random
import shutil
from collections.abc import AsyncGenerator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import httpx
import pytest
import pytest_asyncio
from confluent_kafka import Consumer, TopicPartition

from broker.errors import StoreError
from broker.frames import Frame
from broker.kafka_topics import BOARD_WORDS, BOARDS_STATE, event_topics
from broker.logrecord import LogRecord
from broker.reference import Reference, encode_reference
from paceline.supervise import free_port
from processors.results_db import finals
from processors.stores import ReadStore
from processors.track_blobs import FolderBlobs
from tests.any_way import Course, differing, outcome, world_of
from tests.kafka_server import KafkaCluster, start_kafka
from tests.kafka_stages import WAIT_S, Replicas, append, make_topics, until

PARTITIONS = 6
pytestmark = pytest.mark.timeout(900)  # as slow as the machine is busy


@pytest_asyncio.fixture
async def kafka(tmp_path: Path) -> AsyncGenerator[KafkaCluster]:
    async with start_kafka(tmp_path / "kafka") as cluster:
        await asyncio.to_thread(make_topics, cluster.bootstrap, PARTITIONS)
        yield cluster


@dataclass
class Load:
    """Worlds of several tenants: what is known, and the frames by time; every device keeps its athlete."""

    refs: list[LogRecord]
    frames: list[LogRecord]


def load_of(seeds: Sequence[int], folder: Path) -> Load:
    course = Course(folder, 1)  # only makes records
    refs: list[LogRecord] = []
    frames: list[tuple[Frame, LogRecord]] = []
    for seed in seeds:
        tenant = f"gym{seed}"
        world = world_of(random.Random(seed))

        def named(record: LogRecord, tenant: str = tenant) -> LogRecord:
            mine = record.key.startswith(f"{tenant}/")  # it was made of a frame with the subject of the tenant
            return record._replace(key=record.key if mine else record.key.replace("gym", tenant, 1), tenant=tenant)

        for ref in world.refs:
            if ref.entity != "binding":
                moved: Reference = ref.model_copy(update={"tenant": tenant})
                refs.append(named(course.reference(moved))._replace(body=encode_reference(moved)))
        for frame, node in world.frames:
            subject = frame.subject.replace("gym", tenant, 1)
            frames.append((frame, named(course.frame(replace(frame, subject=subject), node))))
    course.close()
    frames.sort(key=lambda f: (f[0].t0_us, f[0].boot, f[0].seq))
    return Load(refs, [record for _, record in frames])


def alone(folder: Path, load: Load) -> dict[str, str]:
    """The same records through the embedded runner."""
    course = Course(folder, 2048)
    try:
        course.take([*load.refs, *load.frames])
        course.end()
    finally:
        course.close()
    return outcome(folder / "state.db")


def seen(replicas: Replicas) -> dict[str, str]:
    """What readers see now."""
    state = replicas.folder / "a" / "platform" / "state.db"
    try:
        return outcome(state, FolderBlobs(replicas.folder / "tracks")) if state.exists() else {}
    except StoreError:  # being made just now
        return {}


def wait_until_equal(replicas: Replicas, expected: dict[str, str]) -> None:
    last: dict[str, str] = {}

    def equal() -> bool:
        replicas.all_alive()
        last.clear()
        last.update(seen(replicas))
        return last == expected

    try:
        until(equal, "the cluster does not end as one machine does")
    except AssertionError as error:
        raise AssertionError(f"{error}\n{differing(expected, last)[:4000]}\n{replicas.logs()}") from None


def told(bootstrap: str) -> list[str]:
    """The ids of all events that are committed."""
    consumer = Consumer({"bootstrap.servers": bootstrap, "group.id": "none", "enable.auto.commit": False})
    places = [TopicPartition(t.name, n, -2) for t in event_topics() for n in range(min(t.partitions, PARTITIONS))]
    consumer.assign(places)
    ends = {(p.topic, p.partition): consumer.get_watermark_offsets(p, timeout=30)[1] for p in places}
    ids: list[str] = []

    def read() -> bool:
        ids.extend(dict(m.headers() or ())["ce_id"].decode() for m in consumer.consume(1000, 0.2) if m.error() is None)
        return all(p.offset >= ends[p.topic, p.partition] or not ends[p.topic, p.partition] for p in consumer.position(places))

    until(read, "the events could not be read to their end")
    consumer.close()
    return ids


async def killed(kafka: KafkaCluster, folder: Path, seeds: Sequence[int], exactly_once: bool) -> None:
    """Feed worlds to the stages while replicas die with their disks, join and leave, and the broker restarts."""
    rng = random.Random(1)
    victims = iter([("live", "a"), ("finish", "a"), ("boards", "a"), ("view", "a"), ("live", "a")])
    load = load_of(seeds, folder / "made")
    expected = await asyncio.to_thread(alone, folder / "alone", load)
    replicas = Replicas(folder / "stages", kafka.bootstrap, exactly_once)
    try:
        append(kafka.bootstrap, load.refs)
        for stage, name in (("live", "a"), ("live", "b"), ("finish", "a"), ("boards", "a"), ("view", "a")):
            replicas.start(stage, name)
        step = len(load.frames) // 8 + 1
        for number, at in enumerate(range(0, len(load.frames), step)):
            append(kafka.bootstrap, load.frames[at : at + step])
            await asyncio.sleep(rng.uniform(0.5, 3.0))  # somewhere in the work on them
            if number == 2:
                replicas.start("live", "c")
            elif number == 4:
                replicas.stop("live", "b")
            elif number == 5:
                await kafka.kill()
                await kafka.start()
            else:
                stage, name = next(victims)
                replicas.kill(stage, name)
                if stage != "view":  # its machine is lost, too
                    shutil.rmtree(replicas.folder / name / "platform" / f"{stage}-{name}", ignore_errors=True)
                replicas.start(stage, name)
        await asyncio.to_thread(wait_until_equal, replicas, expected)
        await asyncio.to_thread(served, replicas, f"gym{seeds[0]}")
        if exactly_once:
            ids = await asyncio.to_thread(told, kafka.bootstrap)
            assert len(ids) == len(set(ids)), "an event was told twice"
    finally:
        replicas.end()


async def test_kills_joins_and_a_lost_machine_change_nothing(kafka: KafkaCluster, tmp_path: Path) -> None:
    await killed(kafka, tmp_path, range(6), exactly_once=False)


@pytest.mark.nightly
async def test_with_exactly_once_no_event_is_told_twice(kafka: KafkaCluster, tmp_path: Path) -> None:
    await killed(kafka, tmp_path, range(6, 12), exactly_once=True)


def served(replicas: Replicas, tenant: str) -> None:
    """The API of one machine shows what the cluster made."""
    port = free_port()
    replicas.serve(tenant, port)
    with httpx.Client(base_url=f"http://127.0.0.1:{port}/api/v1", timeout=30) as client:

        def listens() -> bool:
            replicas.all_alive()
            try:
                return client.get("/health").is_success
            except httpx.TransportError:
                return False

        until(listens, "the API does not listen")
        activities, live = client.get("/activities").json(), client.get("/boards/live").json()
    store = ReadStore(replicas.folder / "a" / "platform" / "state.db")
    finished = [row for row in finals(store.db) if row.summary.subject.startswith(f"{tenant}/")]
    lines = store.board(f"live/{tenant}").standings()
    store.close()
    assert finished
    assert len(activities["activities"]) == len(finished)
    assert lines
    assert live


@pytest.mark.nightly  # of each stage one loses its machine in the test of kills
async def test_three_replicas_start_cold_after_their_machines_are_lost(kafka: KafkaCluster, tmp_path: Path) -> None:
    load = load_of(range(20, 24), tmp_path / "made")
    expected = await asyncio.to_thread(alone, tmp_path / "alone", load)
    replicas = Replicas(tmp_path / "stages", kafka.bootstrap)
    half = len(load.frames) // 2
    try:
        append(kafka.bootstrap, [*load.refs, *load.frames[:half]])
        for stage in ("live", "finish", "boards", "view"):
            replicas.start(stage)
        await asyncio.to_thread(until, lambda: replicas.all_alive() or len(seen(replicas)) > 0, "nothing is seen")
        for stage in ("live", "finish", "boards"):
            replicas.kill(stage)
            shutil.rmtree(replicas.folder / "a" / "platform" / f"{stage}-a", ignore_errors=True)
        append(kafka.bootstrap, load.frames[half:])
        for stage in ("live", "finish", "boards"):
            for name in "abc":
                replicas.start(stage, name)
        await asyncio.to_thread(wait_until_equal, replicas, expected)
        await asyncio.to_thread(served, replicas, "gym20")
    finally:
        replicas.end()


def test_topics_that_are_not_there_or_cut_otherwise_are_an_error_with_its_cure(tmp_path: Path) -> None:
    async def asked() -> None:
        async with start_kafka(tmp_path / "kafka") as cluster:
            replicas = Replicas(tmp_path / "stages", cluster.bootstrap)
            try:
                assert await asyncio.to_thread(replicas.start("boards").wait, WAIT_S) == 2
                make_topics(cluster.bootstrap, {BOARD_WORDS: 3, BOARDS_STATE: 4})
                assert await asyncio.to_thread(replicas.start("boards", "b").wait, WAIT_S) == 2
            finally:
                replicas.end()
            said = [replicas.log("boards", name).read_text() for name in "ab"]
            assert all("paceline topics apply" in text and "Traceback" not in text for text in said), said
            assert "stage.boards" in said[0]
            assert "boards.state" in said[1]

    asyncio.run(asked())
