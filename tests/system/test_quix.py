"""The stages as processes on a real Kafka: whoever is killed, joins, leaves or loses its disk, tracks, activities, boards, efforts and what
events fold to are those of the embedded runner undisturbed.
"""

from __future__ import annotations

import asyncio
import random
import shutil
import signal
from collections.abc import AsyncGenerator, Sequence
from contextlib import ExitStack
from functools import partial
from pathlib import Path

import httpx
import pytest
import pytest_asyncio

from broker.kafka_topics import BOARD_WORDS, BOARDS_STATE
from paceline.supervise import free_port
from processors.results_db import finals
from processors.stores import ReadStore
from processors.track_blobs import TrackBlobs
from tests.kafka_server import KafkaCluster, start_kafka
from tests.kafka_stages import WAIT_S, Replicas, append, make_topics, until
from tests.stage_load import Load, alone, beside, load_of, seen, told, told_again, wait_until_equal

PARTITIONS = 6
# boards of worlds with rulings and uploads in which no effort is given to somebody else: bindings do so that come behind their frames
HOT_TENANTS = ("gym0", "gym1", "gym8", "gym9")
HOT = {"PACELINE_STAGES__HOT_BOARDS": '["gym[0189]/*"]', "PACELINE_STAGES__HOT_SHARDS": "3"}
pytestmark = pytest.mark.timeout(900)  # as slow as the machine is busy


@pytest_asyncio.fixture
async def kafka(tmp_path: Path) -> AsyncGenerator[KafkaCluster]:
    async with start_kafka(tmp_path / "kafka") as cluster:
        await asyncio.to_thread(make_topics, cluster.bootstrap, PARTITIONS)
        yield cluster


async def killed(kafka: KafkaCluster, folder: Path, seeds: Sequence[int], exactly_once: bool) -> None:
    """Feed worlds to the stages while replicas die with their disks, join and leave, and the broker restarts, each beside changes of
    reference data."""
    rng = random.Random(1)
    victims = iter([("live", "a"), ("finish", "a"), ("boards", "a"), ("view", "a"), ("live", "a")])
    load = load_of(seeds, folder / "made")
    expected = await asyncio.to_thread(alone, folder / "alone", load)
    replicas = Replicas(folder / "stages", kafka.bootstrap, exactly_once, environment=HOT)
    try:
        first, changes = beside(load.refs, kept_first=HOT_TENANTS, parts=8)
        append(kafka.bootstrap, first)
        for stage, name in (("live", "a"), ("live", "b"), ("finish", "a"), ("boards", "a"), ("view", "a")):
            replicas.start(stage, name)
        step = len(load.frames) // 8 + 1
        for number, at in enumerate(range(0, len(load.frames), step)):
            append(kafka.bootstrap, load.frames[at : at + step])
            await asyncio.sleep(rng.uniform(0.5, 3.0))  # somewhere in the work on them
            append(kafka.bootstrap, changes[number])
            if number == 2:
                replicas.start("live", "c")
            elif number == 4:
                replicas.stop("live", "b")
            elif number == 5:
                replicas.again = partial(kept, replicas)  # a session that Kafka broke ends a stage, by its own word
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
        await asyncio.to_thread(refused_under_one_name, replicas)
        events = await asyncio.to_thread(told, kafka.bootstrap)
        assert events
        assert not told_again(events, {ref.tenant for change in changes for ref in change})
        if exactly_once:
            ids = [event.id for event in events]
            assert len(ids) == len(set(ids)), "an event was told twice"
    finally:
        replicas.end()


def kept(replicas: Replicas, stage: str, name: str, code: int) -> None:
    """Start a stage again that ended because Kafka had gone, as its keeper does; one that ended otherwise fails the test."""
    said = replicas.log(stage, name).read_text(errors="replace")
    assert code == 1, said[-3000:]
    assert f"stage {stage}: ends, and is to be started again" in said, said[-3000:]
    replicas.start(stage, name)


def refused_under_one_name(replicas: Replicas) -> None:
    """Of two replicas of one name one is refused: the later one on one machine, else the earlier one."""
    first = replicas.running["boards", "a"]
    twin = replicas.start("boards", "twin", PACELINE_DATA=str(replicas.folder / "a"), PACELINE_STAGES__REPLICA="a")
    assert twin.wait(WAIT_S) == 2
    elsewhere = replicas.start("boards", "elsewhere", PACELINE_STAGES__REPLICA="a")
    assert first.wait(WAIT_S) == 2
    assert elsewhere.poll() is None
    for name in ("twin", "a"):
        said = replicas.log("boards", name).read_text()
        assert "give each replica of a stage a name of its own" in said, said[-2000:]


async def test_kills_joins_and_a_lost_machine_change_nothing(kafka: KafkaCluster, tmp_path: Path) -> None:
    await killed(kafka, tmp_path, range(6), exactly_once=False)


@pytest.mark.nightly
async def test_with_exactly_once_no_event_is_told_twice(kafka: KafkaCluster, tmp_path: Path) -> None:
    await killed(kafka, tmp_path, range(6, 12), exactly_once=True)


@pytest.mark.nightly
@pytest.mark.parametrize("exactly_once", [False, True], ids=["at_least_once", "exactly_once"])
async def test_replica_that_stood_still_is_started_again_and_has_no_twin(kafka: KafkaCluster, tmp_path: Path, exactly_once: bool) -> None:
    """Stopped for longer than its session and its transaction, in the middle of its work; exactly once until Kafka gave its transaction up."""
    load = load_of(range(30, 34), tmp_path / "made")
    expected = await asyncio.to_thread(alone, tmp_path / "alone", load)
    replicas = Replicas(tmp_path / "stages", kafka.bootstrap, exactly_once, commit_s=3.0)
    replicas.again = partial(kept, replicas)
    fenced = "it stood still for "
    try:
        append(kafka.bootstrap, load.refs)
        for stage in ("live", "finish", "boards", "view"):
            replicas.start(stage)
        step = len(load.frames) // 5 + 1
        append(kafka.bootstrap, load.frames[:step])
        await asyncio.to_thread(until, lambda: replicas.all_alive() or len(seen(replicas)) > 0, "nothing is seen")
        for number in range(1, 5):
            append(kafka.bootstrap, load.frames[number * step : (number + 1) * step])
            await asyncio.sleep(1.0)
            if fenced not in replicas.log("live").read_text():
                process = replicas.running["live", "a"]
                process.send_signal(signal.SIGSTOP)
                await asyncio.sleep(16)
                process.send_signal(signal.SIGCONT)
        await asyncio.to_thread(wait_until_equal, replicas, expected)
        said = replicas.log("live").read_text()
        assert "give each replica of a stage a name of its own" not in said, said[-3000:]
        assert (fenced in said) is exactly_once, said[-3000:]
    finally:
        replicas.end()


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
@pytest.mark.parametrize("tracks", ["folder", "bucket"])
async def test_three_replicas_start_cold_after_their_machines_are_lost(kafka: KafkaCluster, tmp_path: Path, tracks: str) -> None:
    load = load_of(range(20, 24), tmp_path / "made")
    expected = await asyncio.to_thread(alone, tmp_path / "alone", load)
    with ExitStack() as servers:
        replicas, blobs = Replicas(tmp_path / "stages", kafka.bootstrap), None
        if tracks == "bucket":
            from processors.track_bucket import BucketBlobs
            from tests.s3_server import start_s3

            bucket = servers.enter_context(start_s3(tmp_path)).bucket("below/here")
            blobs = BucketBlobs(bucket)
            replicas.environment = {
                "PACELINE_STAGES__TRACKS": bucket.url, "PACELINE_STAGES__S3_ENDPOINT": bucket.endpoint,
                "PACELINE_STAGES__S3_ACCESS_KEY": bucket.access_key, "PACELINE_STAGES__S3_SECRET_KEY": bucket.secret_key,
            }  # fmt: skip
        await started_cold(replicas, load, expected, blobs)


async def started_cold(replicas: Replicas, load: Load, expected: dict[str, str], blobs: TrackBlobs | None) -> None:
    bootstrap = replicas.bootstrap
    half = len(load.frames) // 2
    try:
        append(bootstrap, [*load.refs, *load.frames[:half]])
        for stage in ("live", "finish", "boards", "view"):
            replicas.start(stage)
        await asyncio.to_thread(until, lambda: replicas.all_alive() or len(seen(replicas, blobs)) > 0, "nothing is seen")
        for stage in ("live", "finish", "boards"):
            replicas.kill(stage)
            shutil.rmtree(replicas.folder / "a" / "platform" / f"{stage}-a", ignore_errors=True)
        append(bootstrap, load.frames[half:])
        for stage in ("live", "finish", "boards"):
            for name in "abc":
                replicas.start(stage, name)
        await asyncio.to_thread(wait_until_equal, replicas, expected, blobs)
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
