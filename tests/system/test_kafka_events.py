"""Events on a real Kafka: topics as they should be, everything in the outbox on them and in order, whoever is killed; who may read what."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import AsyncGenerator, Iterator, Sequence
from contextlib import closing, contextmanager, suppress
from dataclasses import replace
from pathlib import Path

import pytest
import pytest_asyncio
import yaml
from aiokafka import AIOKafkaConsumer, TopicPartition
from aiokafka.errors import KafkaError
from confluent_kafka import Producer

from broker.errors import BadInputError, LinkError, StoreError
from broker.events import models
from broker.events.catalogue import CATALOGUE
from broker.events.envelope import Event, decode_kafka, decode_structured, make_event
from broker.events.folding import fold
from broker.events.models import utc_text
from broker.kafka import KafkaSettings, partition_of
from broker.kafka_topics import BELIEVED, REFERENCE, all_topics, event_topics
from broker.logrecord import Kind, LogRecord
from broker.reference import AthleteRef, encode_reference
from broker.view_part import ViewPart
from deploy.local_site import kafka_properties
from paceline.role_view import role_views
from processors.believed import Believed, encode_believed, parts_of
from processors.event_publisher import EventPublisher
from processors.kafka_admin import KafkaAdmin
from processors.kafka_changes import KafkaChanges
from processors.kafka_view import KafkaView
from processors.kafka_waiting import REACH_S
from processors.publish_cursor import read_cursor
from processors.results_db import put_events
from processors.state_db import StateDb
from processors.stores import ReadStore
from processors.view_file import check_part, is_filling
from tests.contract.test_believed_runners import alone, blocks, counted, in_order
from tests.influx_world import samples_in
from tests.kafka_reader import read_topic
from tests.kafka_server import KafkaCluster, start_kafka
from tests.kafka_stages import Replicas, make_topics, until

PROJECT = Path(__file__).resolve().parents[2]
USERS = {"platform": "pub-secret", "social-team": "social-secret"}
AT_US = 1_790_000_000_000_000
pytestmark = pytest.mark.timeout(900)  # as slow as the machine is busy


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def kafka(tmp_path_factory: pytest.TempPathFactory) -> AsyncGenerator[KafkaCluster]:
    """A log-in by name and password for ourselves, and the listener for consumers with the properties of docker-compose.yml."""
    described = yaml.safe_load((PROJECT / "docker-compose.yml").read_text())["services"]["kafka"]["environment"]
    folder = tmp_path_factory.mktemp("kafka")
    async with start_kafka(folder, users=USERS, extra=kafka_properties(described), consumers=True) as cluster:
        for _ in range(2):  # a password that is there stays
            readers = ("--reader", "social=social-team", "--reader", "user=user-team", "--log-ins", str(folder / "log-ins"))
            apply(cluster, *readers, "--writer", "platform")
        yield cluster


def password_file(kafka: KafkaCluster, user: str) -> Path:
    return kafka.nodes[0].home.parent / "log-ins" / user


def paceline(kafka: KafkaCluster, *args: object, code: int = 0) -> str:
    env = {**os.environ, "PACELINE_KAFKA__BOOTSTRAP": kafka.bootstrap}
    command = [sys.executable, "-m", "paceline", *map(str, args)]
    done = subprocess.run(command, capture_output=True, text=True, env=env, timeout=240, check=False)
    assert done.returncode == code, done.stdout + done.stderr
    assert "Traceback" not in done.stderr
    return done.stdout + done.stderr


def apply(kafka: KafkaCluster, *args: str, code: int = 0) -> str:
    return paceline(kafka, "topics", "apply", *args, code=code)


def board_events(number: int, boards: int = 5, tenant: str = "gym") -> list[Event]:
    """`number` changes of a few boards, each with a new leader, in the order of the log; other tenants have other ids."""
    made: list[Event] = []
    for position in range(number):
        segment = f"hill{position % boards}"
        board, subject = f"{tenant}/{segment}", f"{tenant}/athlete{position % 7}"
        row = models.BoardRow(rank=1, subject=subject, effort=f"e{position}", elapsed_ms=90_000 - position, started_at=utc_text(AT_US))
        change = models.BoardChange(subject=subject, rank_before=None, rank_after=1)
        lead = models.LeadChange(previous=None, cause="faster")
        at_us = AT_US + position
        for name, data in (
            ("board.changed", models.BoardChanged(board=board, segment=segment, top=(row,), change=change)),
            ("board.lead_taken", models.LeadTaken(board=board, segment=segment, leader=row, change=lead)),
        ):
            kind = f"paceline.social.{name}.v1"
            made.append(make_event(kind, data, time_us=at_us, recorded_us=at_us, phase="final", position=position))
    return made


def fill(state: Path, made: Sequence[Event]) -> None:
    """Put events into the outbox of a state file, as the runner does."""
    store = StateDb(state)
    put_events(store.db, [(e.id, e.type, e.topic, e.key, e.tenant, e.time_us, e.body) for e in made])
    store.close()


async def stored(kafka: KafkaCluster, ids: set[str], *, topic: str = "paceline.social.board.v1", timeout_s: float = 240) -> list[Event]:
    """What the topic holds of these ids, partition by partition, once every id is there (repeats stay)."""
    found: list[Event] = []
    consumer = AIOKafkaConsumer(bootstrap_servers=kafka.bootstrap, auto_offset_reset="earliest")
    async with asyncio.timeout(timeout_s), consumer:
        partitions = [TopicPartition(topic, p) for p in sorted(await _partitions(consumer, topic))]
        consumer.assign(partitions)
        await consumer.seek_to_beginning(*partitions)
        while ids - {event.id for event in found}:
            for records in (await consumer.getmany(timeout_ms=500)).values():
                read = [decode_kafka(r.headers, r.key, r.value) for r in records]
                found += [event for event in read if event.id in ids]
    return found


async def _partitions(consumer: AIOKafkaConsumer, topic: str) -> set[int]:
    while not (found := consumer.partitions_for_topic(topic)):
        await consumer._client.force_metadata_update()
    return found


def first_of_each(found: Sequence[Event]) -> dict[str, list[int]]:
    """Per key, the log positions in the order a consumer that drops repeats sees them."""
    known: set[str] = set()
    made: dict[str, list[int]] = {}
    for event in found:
        if event.id not in known:
            known.add(event.id)
            made.setdefault(event.key, []).append(event.position)
    return made


@contextmanager
def publishing(kafka: KafkaCluster, data: Path) -> Iterator[subprocess.Popen[bytes]]:
    """`paceline events publish` as a process; killed when it is left."""
    env = {**os.environ, "PACELINE_KAFKA__BOOTSTRAP": kafka.bootstrap}
    process = subprocess.Popen(
        [sys.executable, "-m", "paceline", "events", "publish", "--data", str(data)], env=env, stderr=subprocess.PIPE
    )
    try:
        yield process
    finally:
        if process.poll() is None:
            process.kill()
        process.communicate(timeout=60)


async def test_topics_are_made_once_and_mended_when_configured_otherwise(kafka: KafkaCluster) -> None:
    from confluent_kafka.admin import AdminClient, AlterConfigOpType, ConfigEntry, ConfigResource, ResourceType

    assert f"0 changes in {len(all_topics())} topics" in await asyncio.to_thread(apply, kafka)
    admin = AdminClient({"bootstrap.servers": kafka.bootstrap})
    assert {t.name for t in all_topics()} <= set(admin.list_topics(timeout=30).topics)
    entry = ConfigEntry("retention.ms", "1000", incremental_operation=AlterConfigOpType.SET)
    resource = ConfigResource(ResourceType.TOPIC, "paceline.user.record.v1", incremental_configs=[entry])
    for future in admin.incremental_alter_configs([resource], request_timeout=30).values():
        future.result(60)
    async with asyncio.timeout(150):  # the broker shows what its controller has taken a little later
        while admin.describe_configs([resource], request_timeout=30)[resource].result(60)["retention.ms"].value != "1000":
            await asyncio.sleep(0.05)
    said = await asyncio.to_thread(apply, kafka, "--dry-run", code=1)
    assert "retention.ms: 1000 -> 31536000000" in said
    assert "1 changes" in await asyncio.to_thread(apply, kafka)
    assert "0 differences" in await asyncio.to_thread(apply, kafka, "--dry-run")


async def test_another_number_of_partitions_is_refused_with_the_cure(kafka: KafkaCluster, monkeypatch: pytest.MonkeyPatch) -> None:
    wanted = [replace(topic, partitions=topic.partitions + 1) for topic in event_topics()]
    with pytest.raises(BadInputError, match=r"has 12 partitions, not 13\n.*make a new topic"):
        await asyncio.to_thread(KafkaAdmin(KafkaSettings(bootstrap=kafka.bootstrap)).apply, wanted, 1)


async def test_more_partitions_where_each_record_is_placed_are_left_as_they_are(kafka: KafkaCluster) -> None:
    (samples,) = (replace(topic, name="placed.samples") for topic in all_topics() if topic.placed)
    admin = KafkaAdmin(KafkaSettings(bootstrap=kafka.bootstrap))
    await asyncio.to_thread(admin.apply, [replace(samples, partitions=samples.partitions + 1)], 1)
    assert await asyncio.to_thread(admin.apply, [samples], 1) == []
    with pytest.raises(BadInputError, match=f"has {samples.partitions + 1} partitions, not {samples.partitions + 2}"):
        await asyncio.to_thread(admin.apply, [replace(samples, partitions=samples.partitions + 2)], 1)


async def test_outbox_is_on_the_topic_in_order_and_at_the_partition_of_its_key(kafka: KafkaCluster, tmp_path: Path) -> None:
    made = board_events(60, tenant="order")
    fill(tmp_path / "state.db", made)
    publisher = EventPublisher(KafkaSettings(bootstrap=kafka.bootstrap), tmp_path / "state.db", tmp_path / "published.json")
    task = asyncio.create_task(publisher.run())
    found = await stored(kafka, {e.id for e in made})
    while publisher.done.events < len(made):
        await asyncio.sleep(0.02)
    task.cancel()
    assert len(found) == len(made)
    assert {e.id: e for e in found} == {e.id: e for e in made}
    assert first_of_each(found) == first_of_each(made)
    assert read_cursor(tmp_path / "published.json").id == made[-1].id
    consumer = AIOKafkaConsumer("paceline.social.board.v1", bootstrap_servers=kafka.bootstrap, auto_offset_reset="earliest")
    async with consumer:
        record = await asyncio.wait_for(consumer.getone(), 150)
    assert record.partition == partition_of(record.key, 12)


async def test_every_type_of_the_catalogue_is_on_its_topic_as_its_example_and_schema_say(kafka: KafkaCluster, tmp_path: Path) -> None:
    """Through the outbox and a real Kafka in CloudEvents' binary mode: headers are the attributes, the value is the data."""
    examples = {path.stem: path.read_bytes() for path in (PROJECT / "docs" / "events" / "examples").glob("*.json")}
    assert set(examples) == set(CATALOGUE)
    made = [decode_structured(raw, name) for name, raw in examples.items()]
    fill(tmp_path / "state.db", made)
    publisher = EventPublisher(KafkaSettings(bootstrap=kafka.bootstrap), tmp_path / "state.db", tmp_path / "published.json")
    task = asyncio.create_task(publisher.run())
    try:
        for topic in event_topics():
            here = {e.id: e for e in made if e.topic == topic.name}
            assert {e.id: e for e in await stored(kafka, set(here), topic=topic.name)} == here
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
    for each in await asyncio.to_thread(read_topic, kafka.bootstrap, "paceline.social.effort.v1"):
        headers = dict(each.headers)
        if (told := examples.get(headers["ce_type"].decode())) is not None:
            document = json.loads(told)
            if document["id"] == headers["ce_id"].decode():
                assert json.loads(each.value) == document["data"]
                assert (headers["content-type"], headers["ce_specversion"]) == (b"application/json", b"1.0")
                assert each.key.decode() == document["partitionkey"]


@pytest.mark.parametrize("rounds", [2, pytest.param(20, marks=pytest.mark.nightly)])
async def test_publisher_and_broker_killed_lose_nothing_and_keep_order(tmp_path: Path, rounds: int) -> None:
    data = tmp_path / "data"
    state = data / "platform" / "state.db"
    made = board_events(150 * rounds)
    async with start_kafka(tmp_path) as kafka:
        await asyncio.to_thread(apply, kafka)
        for part in range(rounds):
            fill(state, made[300 * part : 300 * (part + 1)])
            with publishing(kafka, data) as process:
                await asyncio.sleep(1.0 + 0.37 * part % 2)  # somewhere in the middle, or before it began
                if part % 2:
                    process.kill()
                await kafka.kill()
            await kafka.start()
        with publishing(kafka, data):
            found = await stored(kafka, {e.id for e in made}, timeout_s=240)
    assert first_of_each(found) == first_of_each(made)
    assert fold(found) == fold(made)


@pytest.mark.parametrize("known", [True, False])
async def test_state_made_again_goes_on_behind_what_is_published_or_says_all_again(
    kafka: KafkaCluster, tmp_path: Path, *, known: bool
) -> None:
    made = board_events(5, tenant=f"again-{known}".lower())
    first, again, cursor = tmp_path / "first.db", tmp_path / "again.db", tmp_path / "published.json"
    fill(first, made[:6])
    rest = made[3:] if known else made[6:]  # the same events under other numbers, and those that come later
    fill(again, rest)
    publisher = EventPublisher(KafkaSettings(bootstrap=kafka.bootstrap), first, cursor)
    task = asyncio.create_task(publisher.run())
    await stored(kafka, {e.id for e in made[:6]})
    while publisher.done.events < 6:
        await asyncio.sleep(0.02)
    again.replace(first)  # under the publisher: it notices
    await stored(kafka, {e.id for e in made[6:]})
    while publisher.done.events < len(made):
        await asyncio.sleep(0.02)
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)
    assert publisher.done.events == len(made)
    assert read_cursor(cursor).id == made[-1].id


async def test_publisher_and_stages_wait_for_a_broker_and_stop_at_once_without_one(tmp_path: Path) -> None:
    """The limit says that none waits out the 20 s of a stop, nor an answer; what they took is printed."""
    data = tmp_path / "data"
    async with start_kafka(tmp_path) as kafka:
        await asyncio.to_thread(make_topics, kafka.bootstrap, 2)
        await kafka.kill()
        fill(data / "platform" / "state.db", board_events(5))
        replicas = Replicas(tmp_path / "stages", kafka.bootstrap)
        stages = ("live", "finish", "boards", "view")
        try:
            for stage in (*stages, "boards"):
                replicas.start(stage, "b" if (stage, "a") in replicas.running else "a")
            with publishing(kafka, data) as publisher:
                for stage, name in replicas.running:
                    await asyncio.to_thread(until, lambda at=(stage, name): waits(replicas, *at), f"{stage} {name} does not wait")
                assert replicas.stop("boards", "b") == 0
                assert replicas.log("boards", "b").read_text().count("waits for Kafka") == 1
                await kafka.start()
                await stored(kafka, {e.id for e in board_events(5)})
                await asyncio.to_thread(until, lambda: ready(replicas) == len(stages), "stages are not ready")
                await kafka.kill()
                fill(data / "platform" / "state.db", board_events(50))
                await asyncio.sleep(1)
                processes = {"events": publisher, **{name: process for (name, _), process in replicas.running.items()}}
                told_s = time.monotonic()
                for process in processes.values():
                    process.send_signal(signal.SIGTERM)
                took_s: dict[str, float] = {}
                while len(took_s) < len(processes):
                    assert time.monotonic() < told_s + 60, processes.keys() - took_s.keys()
                    for name, process in processes.items():
                        if name not in took_s and process.poll() is not None:
                            took_s[name] = time.monotonic() - told_s
                    await asyncio.sleep(0.02)
                assert {process.returncode for process in processes.values()} == {0}, replicas.logs()
                print("stopped with a dead Kafka: " + ", ".join(f"{name} {s:.1f} s" for name, s in took_s.items()))
        finally:
            replicas.end()
    assert "did not end within" not in replicas.logs()


def waits(replicas: Replicas, stage: str, name: str) -> bool:
    """Whether a stage says, with the cure, that it waits for Kafka, lives, and is not ready."""
    replicas.all_alive()
    if "waits for Kafka" not in (said := replicas.log(stage, name).read_text(errors="replace")):
        return False
    assert "cure: start Kafka" in said
    role = stage if stage == "view" else f"{stage}-{name}"
    with suppress(OSError):
        for view in role_views(replicas.folder / name):
            if view.role == role:
                return "Connection refused" in view.reasons().get("kafka", "") and not view.stands_still()
    return False


def ready(replicas: Replicas) -> int:
    """How many stages say that they are of use."""
    replicas.all_alive()
    count = 0
    for view in role_views(replicas.folder / "a"):
        with suppress(OSError):
            count += not view.reasons()
    return count


async def test_example_logs_in_where_consumers_do_and_prints_each_new_leader(kafka: KafkaCluster, tmp_path: Path) -> None:
    example = [sys.executable, str(PROJECT / "examples" / "consumer.py"), kafka.consumers_bootstrap]
    process = await asyncio.create_subprocess_exec(
        *example, "social-team", password_file(kafka, "social-team"), stdout=asyncio.subprocess.PIPE
    )
    assert process.stdout is not None
    fill(tmp_path / "state.db", board_events(3, boards=2, tenant="example"))
    publisher = EventPublisher(KafkaSettings(bootstrap=kafka.bootstrap), tmp_path / "state.db", tmp_path / "published.json")
    task = asyncio.create_task(publisher.run())
    wanted = {f"example/hill{n}: example/athlete{n} leads with {90 - n / 1000:.3f} s" for n in (0, 1)}
    said: set[str] = set()
    try:
        async with asyncio.timeout(120):
            while not wanted <= said:
                said.add((await process.stdout.readline()).decode().strip())
    finally:
        task.cancel()
        process.kill()
        await process.wait()


async def test_consumers_listener_refuses_who_is_unknown_has_another_password_or_may_not_read(kafka: KafkaCluster, tmp_path: Path) -> None:
    (tmp_path / "wrong").write_text("wrong")
    of_others = password_file(kafka, "user-team")
    assert of_others.read_text() != password_file(kafka, "social-team").read_text()
    for arguments, words in (
        (("nobody", of_others), "AuthenticationFailed"),
        (("social-team", tmp_path / "wrong"), "AuthenticationFailed"),
        (("user-team", of_others), "AuthorizationFailed"),
    ):
        command = [sys.executable, str(PROJECT / "examples" / "consumer.py"), kafka.consumers_bootstrap, *map(str, arguments)]
        done = await asyncio.to_thread(subprocess.run, command, capture_output=True, text=True, timeout=240, check=False)
        assert done.returncode, arguments
        assert words in done.stderr, done.stderr
        assert not done.stdout


async def test_domain_reads_its_own_topics_only_and_only_the_publisher_writes(kafka: KafkaCluster, tmp_path: Path) -> None:
    def user(name: str, password: str) -> dict[str, object]:
        log_in = {"sasl_mechanism": "PLAIN", "sasl_plain_username": name, "sasl_plain_password": password}
        return {"bootstrap_servers": kafka.sasl_bootstrap, "security_protocol": "SASL_PLAINTEXT", **log_in}

    made = board_events(4, tenant="rights")
    fill(tmp_path / "state.db", made)
    settings = KafkaSettings.model_validate({
        "bootstrap": kafka.sasl_bootstrap, "security": "SASL_PLAINTEXT", "mechanism": "PLAIN", "username": "platform", "password": USERS["platform"]
    })  # fmt: skip
    publisher = EventPublisher(settings, tmp_path / "state.db", tmp_path / "published.json")
    task = asyncio.create_task(publisher.run())
    await stored(kafka, {e.id for e in made})
    while not publisher.done.events:
        await asyncio.sleep(0.02)
    task.cancel()
    options = {**user("social-team", USERS["social-team"]), "auto_offset_reset": "earliest"}
    async with AIOKafkaConsumer("paceline.social.board.v1", group_id="social-a", **options) as mine:
        assert (await asyncio.wait_for(mine.getone(), 150)).value
    others = AIOKafkaConsumer("paceline.user.activity.v1", group_id="social-a", **options)
    with pytest.raises(KafkaError, match="Authorization"):
        async with asyncio.timeout(150), others:
            await others.getone()
    await others.stop()
    reader = KafkaSettings.model_validate({**settings.model_dump(), "username": "social-team", "password": USERS["social-team"]})
    (tmp_path / "published.json").unlink()
    writer = EventPublisher(reader, tmp_path / "state.db", tmp_path / "other.json")
    task = asyncio.create_task(writer.run())
    while not writer.done.last_error:
        await asyncio.sleep(0.02)
    task.cancel()
    assert "Authorization" in writer.done.last_error
    assert writer.done.events == 0


async def test_wrong_password_is_a_clear_error_with_the_cure(kafka: KafkaCluster, tmp_path: Path) -> None:
    env = {
        "PACELINE_KAFKA__SECURITY": "SASL_PLAINTEXT", "PACELINE_KAFKA__MECHANISM": "PLAIN", "PACELINE_KAFKA__USERNAME": "platform",
        "PACELINE_KAFKA__PASSWORD": "wrong", "PACELINE_KAFKA__BOOTSTRAP": kafka.sasl_bootstrap,
    }  # fmt: skip
    command = [sys.executable, "-m", "paceline", "topics", "apply", "--dry-run"]
    done = await asyncio.to_thread(
        subprocess.run, command, capture_output=True, text=True, env={**os.environ, **env}, timeout=240, check=False
    )
    assert done.returncode == 1
    assert "Authentication failed" in done.stderr
    assert "cure: check kafka.security, kafka.mechanism, kafka.username and kafka.password" in done.stderr
    assert json.dumps("wrong") not in done.stderr
    settings = KafkaSettings.model_validate({
        "bootstrap": kafka.sasl_bootstrap, "security": "SASL_PLAINTEXT", "mechanism": "PLAIN", "username": "platform", "password": "wrong"
    })  # fmt: skip
    fill(tmp_path / "state.db", board_events(1, tenant="wrong"))
    publisher = EventPublisher(settings, tmp_path / "state.db", tmp_path / "published.json")
    task = asyncio.create_task(publisher.run())
    async with asyncio.timeout(150):
        while "cure: check kafka.security, kafka.mechanism, kafka.username and kafka.password" not in publisher.done.last_error:
            await asyncio.sleep(0.02)
        while "check kafka.security" not in await asyncio.to_thread(looked, settings):  # what a stage that waits says
            await asyncio.sleep(0.02)
    task.cancel()


def looked(settings: KafkaSettings) -> str:
    """The cure of a look as a stage takes one before it starts; empty: it is let in."""
    try:
        KafkaAdmin(settings, reach_s=REACH_S).look()
    except LinkError as error:
        return error.cure
    return ""


async def test_samples_that_a_stage_tells_reach_the_state_file_of_a_view_once(kafka: KafkaCluster, tmp_path: Path) -> None:
    told = blocks(alone(tmp_path / "one", in_order(8)))
    parts = [encode_believed(part) for block in told for part in parts_of(block, 100)]
    assert len(parts) > 3
    producer = Producer({"bootstrap.servers": kafka.bootstrap, "acks": "all"})
    for value in [*parts[:3], *parts]:  # what a stage that was killed tells again
        producer.produce(BELIEVED, value, b"5", partition=5)
    assert producer.flush(60) == 0
    state = tmp_path / "state.db"
    view = await asyncio.to_thread(KafkaView, KafkaSettings(bootstrap=kafka.bootstrap), state, tells=True)
    async with asyncio.timeout(150):
        while len(samples_in(state)) < len(samples_of(told)):
            await asyncio.to_thread(view.step)
    await asyncio.to_thread(view.close)
    assert samples_in(state) == samples_of(told)
    assert counted(blocks(state)) == counted(told)


def samples_of(found: list[Believed]) -> dict[tuple[str, int], float]:
    return {
        (block.subjects[of].partition("/")[2], t_us): um // 100_000 / 10
        for block in found
        for of, t_us, um in zip(block.subject_of.tolist(), block.t_us.tolist(), block.dist_um.tolist(), strict=True)
    }


async def test_a_part_of_a_view_has_its_tenants_and_is_made_again_for_another_part(kafka: KafkaCluster, tmp_path: Path) -> None:
    settings, parts = KafkaSettings(bootstrap=kafka.bootstrap), [ViewPart(number, 2) for number in (1, 2)]
    tenants = [next(f"tenant{n}" for n in range(64) if part.has(f"tenant{n}")) for part in parts]
    refs = [AthleteRef(tenant=tenant, id="ann", name=f"Ann of {tenant}") for tenant in tenants]

    def change() -> None:
        with KafkaChanges(settings, send_s=120) as changes:
            changes.append([LogRecord(Kind.REFERENCE, ref.tenant, ref.tenant, "", AT_US, encode_reference(ref)) for ref in refs])

    def kept(name: str, part: ViewPart) -> set[str]:
        """The tenants, among those two, that a view has once it has caught up."""
        state = tmp_path / name / "state.db"
        view = KafkaView(settings, state, part=part)
        try:
            assert part.is_whole or is_filling(view.store.db)

            def whole() -> bool:
                view.step()
                view.look_whole()
                return not is_filling(view.store.db) and not any(view.lag.records(view.end_of).values())

            until(whole, "the view does not come to the ends")
            assert (view.passed > 0) is not part.is_whole
        finally:
            view.close()
        check_part(state, part)
        with closing(ReadStore(state)) as store:
            return {tenant for (tenant,) in store.db.execute("SELECT DISTINCT tenant FROM reference")} & set(tenants)

    await asyncio.to_thread(change)
    assert await asyncio.to_thread(kept, "part", parts[0]) == {tenants[0]}
    assert await asyncio.to_thread(kept, "part", parts[1]) == {tenants[1]}  # the same folder, another part


async def test_view_says_how_far_it_is_behind_each_topic_and_what_a_transaction_leaves_is_nothing(
    kafka: KafkaCluster, tmp_path: Path
) -> None:
    settings = KafkaSettings(bootstrap=kafka.bootstrap)
    view = await asyncio.to_thread(KafkaView, settings, tmp_path / "state.db")

    def behind() -> dict[str, int]:
        return {topic: count for topic, count in view.lag.records(view.end_of).items() if count}

    def stepped() -> bool:
        view.step()
        return not view.caught_up() and not behind()

    def change(name: str) -> None:
        ref = AthleteRef(tenant="gym", id=name, name=name)
        with KafkaChanges(settings, send_s=120) as changes:
            changes.append([LogRecord(Kind.REFERENCE, "gym", "gym", "", AT_US, encode_reference(ref))])

    try:
        assert "partitions are not read yet" in view.caught_up()
        await asyncio.to_thread(change, "ann")  # behind its record lies the end of its transaction
        await asyncio.to_thread(until, stepped, "the view does not come to the ends")
        await asyncio.to_thread(change, "bob")
        await asyncio.to_thread(until, behind, "nobody says that a record waits")
        assert behind().keys() == {REFERENCE}
        assert view.lag.seconds(view.end_of, time.time() + 100)[REFERENCE] > 60
        await asyncio.to_thread(until, stepped, "the view does not come to the ends")
    finally:
        await asyncio.to_thread(view.close)


async def test_view_refuses_the_state_of_another_cluster_and_leaves_it(kafka: KafkaCluster, tmp_path: Path) -> None:
    state = tmp_path / "state.db"
    store = StateDb(state)
    store.db.execute("INSERT INTO position VALUES (?, ?)", (f"{REFERENCE}[0]", 1_000_000))
    store.close()
    with pytest.raises(StoreError, match=f"{REFERENCE} up to 1000000, which ends at [0-9]+: of another Kafka") as raised:
        await asyncio.to_thread(KafkaView, KafkaSettings(bootstrap=kafka.bootstrap), state)
    assert str(state) in raised.value.message
    assert raised.value.cure == "check kafka.bootstrap; remove the file, it is made again"
    store = StateDb(state)
    assert store.position(f"{REFERENCE}[0]") == 1_000_000
    store.close()
