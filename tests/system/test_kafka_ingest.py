"""Ingest on a real Kafka behind a real mosquitto: durable before the ack, whoever is killed; what goes wrong is named with its cure."""

import asyncio
import json
import os
import random
import re
import signal
import subprocess
import sys
import time
from contextlib import contextmanager, suppress

import pytest
import pytest_asyncio
from confluent_kafka import TopicPartition
from confluent_kafka.admin import AdminClient, AlterConfigOpType, ConfigEntry, ConfigResource, NewTopic, ResourceType

from broker.bundles import decode_bundle, encode_bundle
from broker.errors import BadInputError, LinkError, StoreError
from broker.frames import Clock, Frame, decode_frame, encode_frame
from broker.kafka import KafkaSettings
from broker.kafka_topics import DEAD, FRAMES, PLATFORM, all_topics, platform_topics
from broker.layouts import layout_named
from broker.logrecord import Kind, LogRecord
from paceline.ca_certificates import Life, key_pem, life_from, make_root, make_server, new_key, pem_of
from paceline.doctor_services import kafka as examined
from paceline.load_watch import KafkaWatch, settle
from paceline.role_view import role_views
from processors.accept import accept
from processors.bulk_client import BulkSettings
from processors.dead_index import Place, Wanted
from processors.event_publisher import EventPublisher
from processors.ingest import IngestService
from processors.kafka_admin import KafkaAdmin
from processors.kafka_dead_letters import KafkaDeadLetters
from processors.kafka_log import KafkaLog
from processors.kafka_view import KafkaView
from simulators.load_plan import LoadPlan, NodePlan
from tests.kafka_reader import dead_letters, log_records, read_topic
from tests.kafka_server import start_kafka
from tests.mqtt_client import PahoClient
from tests.servers import PROJECT, start_mosquitto
from tests.small_disks import small_disk_at
from tests.system.ingest_node import ResendingNode
from tests.system.test_ingest import acked_rows, row, running, until

TENANTS = [f"t{i}" for i in range(1, 25)]
CERTIFICATES = ("good", "expired", "named")
KAFKA_USERS = {"writer": "writer-secret", "reader": "reader-secret"}
PATIENT_S = 120  # a busy machine is slow to answer
tenants = iter(TENANTS)
pytestmark = pytest.mark.timeout(900)  # as slow as the machine is busy


@pytest.fixture(scope="module")
def served(tmp_path_factory):
    """Files of an authority (`ca`), another one (`other`), and of servers of the first: as they should be, out of date, of another name."""
    folder, now_s = tmp_path_factory.mktemp("tls"), time.time()
    key, server_key = new_key(), new_key()
    root = make_root(key, "authority", life_from(now_s, 10))
    (folder / "ca").write_text(pem_of(root))
    (folder / "other").write_text(pem_of(make_root(new_key(), "other", life_from(now_s, 10))))
    past = Life(int(now_s) - 20 * 86_400, int(now_s) - 10 * 86_400)
    for name, host, life in (
        ("good", "127.0.0.1", life_from(now_s, 9)),
        ("expired", "127.0.0.1", past),
        ("named", "kafka.example", life_from(now_s, 9)),
    ):
        leaf = make_server(root, key, (host,), server_key.public_key(), life)
        (folder / name).write_text(key_pem(server_key).decode() + pem_of(leaf))
    return folder


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def kafka(tmp_path_factory, served):
    certificates = [served / name for name in CERTIFICATES]
    async with start_kafka(tmp_path_factory.mktemp("kafka"), users=KAFKA_USERS, tls=certificates) as cluster:
        admin = KafkaAdmin(KafkaSettings(bootstrap=cluster.bootstrap), reach_s=120, timeout_s=120)
        await asyncio.to_thread(admin.apply, all_topics(), 1)
        await asyncio.to_thread(admin.allow_write, "User:writer", all_topics())
        await asyncio.to_thread(admin.allow_read, "User:reader", platform_topics(), PLATFORM)
        yield cluster


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def broker(tmp_path_factory):
    users = (*(f"{tenant}/box" for tenant in TENANTS), "platform/ingest")
    async with start_mosquitto(tmp_path_factory.mktemp("mosquitto"), users=users) as served:
        yield served


@pytest.fixture
def tenant():
    """One that no other test uses: all share a cluster."""
    return next(tenants)


def row_of(tenant, i):
    return row(i, subject=f"{tenant}/a{i % 5}")


def rows_of(tenant, count):
    return [row_of(tenant, i) for i in range(count)]


def settings_of(kafka, user="", **changes):
    log_in = {
        "security": "SASL_PLAINTEXT",
        "mechanism": "PLAIN",
        "username": user,
        "password": KAFKA_USERS.get(user, ""),
        "bootstrap": kafka.sasl_bootstrap,
    }
    return KafkaSettings.model_validate((log_in if user else {"bootstrap": kafka.bootstrap}) | changes)


class Ingest:
    """`paceline ingest` as a process."""

    def __init__(self, kafka, broker, folder):
        self.log_path = folder / "ingest.log"
        self.command = [sys.executable, "-m", "paceline", "ingest", "--data", str(folder / "data")]
        self.environment = dict(
            os.environ,
            PACELINE_KAFKA__BOOTSTRAP=kafka.bootstrap,
            PACELINE_CENTRAL__KIND="external",
            PACELINE_CENTRAL__PORT=str(broker.port),
            PACELINE_INGEST__PASSWORD=broker.password("platform/ingest"),
        )
        self.process = None

    def start(self, kill_at=""):
        with self.log_path.open("ab") as log:
            self.process = subprocess.Popen(self.command, env=self.environment | {"PACELINE_KILL_AT": kill_at}, cwd=PROJECT, stderr=log)

    @property
    def said(self):
        return self.log_path.read_text()

    async def killed(self):
        """Wait for the kill it was given."""
        assert await asyncio.to_thread(self.process.wait, 150) == -signal.SIGKILL

    async def kill(self):
        self.process.kill()
        await asyncio.to_thread(self.process.wait, 150)

    async def stop(self):
        self.process.send_signal(signal.SIGTERM)
        assert await asyncio.to_thread(self.process.wait, 150) == 0
        assert "Traceback" not in self.said


@contextmanager
def ingesting(kafka, broker, folder):
    ingest = Ingest(kafka, broker, folder)
    ingest.start()
    try:
        yield ingest
    finally:
        if ingest.process.poll() is None:
            ingest.process.kill()
            ingest.process.wait(60)


async def test_rows_are_on_kafka_before_they_are_acknowledged_and_refused_ones_in_its_dead_letters(kafka, broker, tenant, tmp_path):
    mixed = [row(1, subject=f"{tenant}/ann"), row(2, subject="rival/ann"), b"junk", row(4, subject="")]
    with ingesting(kafka, broker, tmp_path) as ingest:
        node = ResendingNode(broker, f"{tenant}/box", mixed)
        node.start()
        await asyncio.to_thread(node.join_done, 150)
        found = await asyncio.to_thread(log_records, kafka.bootstrap, tenant)
        refused = await asyncio.to_thread(dead_letters, kafka.bootstrap, tenant)
        await ingest.stop()
    assert (node.stored, node.refused) == ({1, 4}, {2: "wrong_tenant", 3: "bad_frame"})
    assert {(r.key, r.tenant, r.node, r.kind, r.body) for r in found} == {
        (f"{tenant}/ann", tenant, "box", Kind.FRAME, mixed[0]),
        (f"{tenant}/@box/strap", tenant, "box", Kind.FRAME, mixed[3]),
    }
    assert {(letter.n, str(letter.reason), letter.raw) for letter, _ in refused} == {
        (2, "wrong_tenant", mixed[1]),
        (3, "bad_frame", b"junk"),
    }
    assert not (tmp_path / "data" / "platform" / "log.db").exists(), "nothing is kept on this machine"


def until_ready(data):
    """Wait until every role of a data folder says that it is ready."""
    deadline_s = time.monotonic() + PATIENT_S
    while time.monotonic() < deadline_s:
        with suppress(OSError):
            views = role_views(data)
            if views and not any(view.reasons() for view in views):
                return
        time.sleep(0.2)
    raise AssertionError(f"not ready within {PATIENT_S} s")


async def test_a_load_that_is_watched_is_seen_in_the_log_frame_by_frame(kafka, broker, tmp_path):
    passwords = tmp_path / "load.json"
    passwords.write_text(json.dumps({"loaded/load00000": await broker.add_user("loaded/load00000")}))
    load = ("--host", "127.0.0.1", "--port", str(broker.port), "--passwords", str(passwords), "--tenant", "loaded", "--connections", "1")
    bars = ("--bar", "ack=900000", "--bar", "log=900000", "--warm-s", "0", "--drain-s", str(PATIENT_S))  # not of the speed of this machine
    command = [
        sys.executable,
        "-m",
        "paceline",
        "simulate",
        "fleet",
        *load,
        *bars,
        "--athletes",
        "40",
        "--seconds",
        "1",
        "--watch",
        "log",
        "--json",
    ]
    with ingesting(kafka, broker, tmp_path) as ingest:
        await asyncio.to_thread(until_ready, tmp_path / "data")
        environment = dict(os.environ, PACELINE_KAFKA__BOOTSTRAP=kafka.bootstrap)
        done = await asyncio.to_thread(
            subprocess.run, command, cwd=PROJECT, env=environment, capture_output=True, text=True, timeout=600, check=False
        )
        await ingest.stop()
    assert done.returncode == 0, done.stderr + done.stdout
    told = json.loads(done.stdout)
    assert (told["counts"]["made"], told["counts"]["stored"]) == (40, 40)
    assert (told["watched"]["log"]["seen"], told["watched"]["log"]["owed"], told["watched"]["log"]["strange"]) == (40, 40, 0)
    assert told["parts_ms"]["log"]["count"] == 40


@pytest.mark.parametrize("rounds", [1, pytest.param(10, marks=[pytest.mark.nightly, pytest.mark.timeout(1800)])])
async def test_ingest_and_kafka_killed_again_and_again_lose_nothing(kafka, broker, tenant, tmp_path, rounds):
    """Killed at each point around an append, at random moments, and Kafka under it: all rows are there, twice only as the same bytes."""
    rng = random.Random(rounds)
    node = ResendingNode(broker, f"{tenant}/box", rows_of(tenant, 2_000), pause_s=0.01, more=lambda i: row_of(tenant, i))
    with ingesting(kafka, broker, tmp_path) as ingest:
        node.start()
        for _ in range(rounds):
            await ingest.kill()
            for point in ("before_append:2", "after_append:1", "after_ack:2"):
                ingest.start(f"ingest.{point}")
                await ingest.killed()
            ingest.start()
            stored = len(node.stored)
            await until(lambda stored=stored: len(node.stored) > stored)
            await kafka.kill()
            assert node.open_rows, "all was stored before the kill: it proved nothing"
            await asyncio.sleep(rng.random())
            await ingest.kill()
            ingest.start()
            await kafka.start()
        await asyncio.to_thread(node.join_done, 240 + 60 * rounds)
        await ingest.stop()
    kept = [r.body for r in await asyncio.to_thread(log_records, kafka.bootstrap, tenant)]
    assert set(kept) == set(node.rows)
    assert not await asyncio.to_thread(dead_letters, kafka.bootstrap, tenant)


@pytest.mark.parametrize("away_s", [0, pytest.param(300, marks=[pytest.mark.nightly, pytest.mark.timeout(900)])])
async def test_kafka_away_nothing_is_acknowledged_little_is_held_and_all_is_stored_when_it_is_back(kafka, broker, tenant, away_s):
    sent = [encode_bundle(5, 30 * i + 1, [row(30 * i + k, subject=f"{tenant}/ann") for k in range(30)]) for i in range(200)]
    link = BulkSettings(broker.host, broker.port, "platform/ingest", broker.password("platform/ingest"), buffer_bytes=20_000)
    with KafkaLog(settings_of(kafka), send_s=2) as log:
        service = IngestService(link, log)
        async with running(service):
            await asyncio.to_thread(append_at_last, log, [LogRecord(Kind.FRAME, f"{tenant}/ann", tenant, "box", 1, b"x")])
            await kafka.kill()
            with PahoClient(broker, f"{tenant}/box") as node:
                await asyncio.to_thread(node.subscribe, f"pl/1/{tenant}/box/ack")
                await asyncio.to_thread(node.publish_all, [(f"pl/1/{tenant}/box/up", message) for message in sent])
                await until(lambda: service.stats.append_errors >= 2)
                await asyncio.sleep(away_s)
                assert "Connection refused" in service.stats.alarm
                assert sum(p.size for p in service._waiting) < 20_000 + 300_000
                assert not acked_rows(node.messages)
                await kafka.start()
                await until(lambda: len(acked_rows(node.messages)) == 6000, 240)
                assert not service.stats.alarm
    assert len({r.body for r in await asyncio.to_thread(log_records, kafka.bootstrap, tenant)}) == 6001


async def test_stop_does_not_wait_for_a_dead_kafka(kafka, broker, tenant, tmp_path):
    before = ResendingNode(broker, f"{tenant}/box", rows_of(tenant, 20))
    node = ResendingNode(broker, f"{tenant}/box", rows_of(tenant, 400), epoch=6, pause_s=0.01)
    with ingesting(kafka, broker, tmp_path) as ingest:
        before.start()
        await asyncio.to_thread(before.join_done, 150)
        await kafka.kill()
        doctor = asyncio.create_task(doctor_says(settings_of(kafka), "Connection refused", "start Kafka"))
        node.start()
        await until(lambda: node.sent > 100, 150)
        await ingest.stop()
        assert node.open_rows
        ingest.start()  # and one that starts without Kafka waits for it, and stops too
        await until(lambda: "nothing is taken until the log can be written" in ingest.said, 150)
        await ingest.stop()
        assert "cure: check address" in ingest.said
        await doctor
        ingest.start()
        await kafka.start()
        await asyncio.to_thread(node.join_done, 240)
        await ingest.stop()


def dated(subject, i, utc_us):
    records = layout_named("beats.1").pack({"tick_ms": 0, "hr_bpm": 120})
    return encode_frame(Frame(2, 0, "strap", 9, i, 1_000, utc_us - 1_000, int(Clock.NETWORK), subject, records))


async def dlq(kafka, *args, code=0):
    """What `paceline dlq` prints of the cluster."""
    command = [sys.executable, "-m", "paceline", "dlq", *map(str, args)]
    env = {**os.environ, "PACELINE_KAFKA__BOOTSTRAP": kafka.bootstrap}
    done = await asyncio.to_thread(subprocess.run, command, capture_output=True, text=True, env=env, timeout=240, check=False)
    assert done.returncode == code, done.stdout + done.stderr
    return done.stdout + done.stderr


async def test_dead_letters_of_the_cluster_are_listed_shown_and_replayed_once(kafka, tenant):
    now_us = time.time_ns() // 1000
    ahead = [dated(f"{tenant}/ann", i, now_us + 10 * 60_000_000) for i in range(3)]
    early = accept(f"pl/1/{tenant}/box/up", encode_bundle(5, 1, [*ahead, b"junk"]), now_us)
    other = accept(f"pl/1/{tenant}/hall/up", encode_bundle(6, 1, [b"junk"]), now_us)
    assert [str(letter.reason) for letter in early.dead] == ["future_time"] * 3 + ["bad_frame"]
    with KafkaLog(settings_of(kafka), send_s=PATIENT_S) as log:
        for dead in (early.dead, other.dead, early.dead):  # what was not acknowledged comes again
            await asyncio.to_thread(log.append, [], dead)
        listed = json.loads(await dlq(kafka, "list", "--tenant", tenant, "--json"))
        assert listed["counts"] == {"bad_frame": 2, "future_time": 3}
        box = sorted((one["n"], one["raw"], one["sent"]) for one in listed["letters"] if one["node"] == "box")
        assert box == [(letter.n, letter.raw.hex(), 2) for letter in early.dead]
        assert "3 future_time" in await dlq(kafka, "list", "--tenant", tenant, "--node", "box")
        assert "0 refused in all" in await dlq(kafka, "list", "--tenant", tenant, "--until", "2020-01-01")
        junk = next(one["id"] for one in listed["letters"] if one["node"] == "hall")
        shown = await dlq(kafka, "show", junk)
        assert "not the array a frame is" in shown
        assert b"junk".hex() in shown
        assert "no dead letter 11-99999" in await dlq(kafka, "show", "11-99999", code=1)
        tried = json.loads(await dlq(kafka, "replay", "--all", "--tenant", tenant, "--json"))
        assert (tried["records"], len(tried["done"]), set(tried["still_refused"].values())) == (
            0,
            0,
            {"bad_bundle", "future_time"},
        )  # no frame: read as a message

        cluster = KafkaDeadLetters(settings_of(kafka))  # ten minutes later they are not ahead any more
        later_us = now_us + 11 * 60_000_000
        for records in (3, 0):  # and the second time there is nothing left to do
            with cluster.index() as index:
                wanted = Wanted(tenant=tenant, reason="future_time")
                told = await asyncio.to_thread(lambda i=index, w=wanted: list(cluster.replay(i, i.places(w), log, later_us)))
            assert [(appended, why) for _, appended, why in told] == [(1, "")] * records
        with cluster.index() as index:  # also when they are named, and by the place of a repeat
            repeats = [Place(f.partition, f.offset) for f in read_topic(kafka.bootstrap, DEAD) if f.value in ahead]
            assert len(repeats) == 6
            assert await asyncio.to_thread(lambda: list(cluster.replay(index, sorted(repeats), log, later_us))) == []
    assert sorted(r.body for r in await asyncio.to_thread(log_records, kafka.bootstrap, tenant)) == sorted(ahead)
    assert json.loads(await dlq(kafka, "list", "--tenant", tenant, "--json"))["counts"] == {"bad_frame": 2}
    places = sorted(place for place in repeats if place.partition == repeats[0].partition)
    drop_before(kafka, places[-1])  # as Kafka does when their time is over: passed over, and an error only when they are named
    left = await asyncio.to_thread(lambda: [place for place, _, _ in cluster.letters(places, some=True)])
    assert left == places[-1:]
    with pytest.raises(BadInputError, match=f"no dead letter {places[0]}"):
        await asyncio.to_thread(lambda: list(cluster.letters(places)))


def drop_before(kafka, place):
    """Have Kafka forget what lies before a place."""
    client = AdminClient({"bootstrap.servers": kafka.bootstrap})
    for future in client.delete_records([TopicPartition(DEAD, *place)], request_timeout=60).values():
        future.result(60)


def frame_record(tenant, body=b"x"):
    return LogRecord(Kind.FRAME, f"{tenant}/ann", tenant, "box", 1, body)


async def refused(log, what, cure, records=None):
    """The append, or the look at the topics, fails and says so."""
    async with asyncio.timeout(150):
        while True:  # a cluster that is slow to answer is told of first
            with pytest.raises(StoreError) as caught:
                await asyncio.to_thread(*((log.append, records) if records else (log.check,)))
            if re.search(what, str(caught.value)):
                break
    assert cure in caught.value.cure
    assert "nothing was acknowledged" in caught.value.cure


async def doctor_says(settings, what, cure):
    """The doctor beside it finds the same."""
    async with asyncio.timeout(150):
        while not re.search(what, (finding := await asyncio.to_thread(examined, settings)).found):  # slow to answer is told of first
            await asyncio.sleep(0.1)
    assert not finding.ok
    assert cure in finding.cure


async def test_wrong_password_and_a_user_who_may_not_write_are_told_what_to_do(kafka, tenant):
    wrong = settings_of(kafka, "writer", password="wrong")
    doctor = asyncio.create_task(doctor_says(wrong, "Authentication failed", "kafka.username and kafka.password"))
    with KafkaLog(wrong, send_s=2) as log:
        await refused(log, "Authentication failed", "check kafka.security, kafka.mechanism, kafka.username and kafka.password")
    with KafkaLog(settings_of(kafka, "reader")) as log:
        await refused(log, "(?i)authorization failed", "paceline topics apply --writer reader")
    with KafkaLog(settings_of(kafka, "writer"), send_s=PATIENT_S) as log:
        await asyncio.to_thread(log.append, [frame_record(tenant)])
    assert await asyncio.to_thread(log_records, kafka.bootstrap, tenant) == [frame_record(tenant)]
    await doctor


@pytest.mark.parametrize(
    ("certificate", "authority", "cure"),
    [
        ("good", "other", "is not of an authority that is trusted here: name its certificate with kafka.cafile"),
        ("expired", "ca", "has expired: give it a new one"),
        ("named", "ca", "has another name: use a name that is in it"),
    ],
)
async def test_certificate_that_is_not_believed_is_told_with_its_fault(kafka, served, certificate, authority, cure, tmp_path):
    at = kafka.tls_bootstrap(CERTIFICATES.index(certificate))
    settings = KafkaSettings(bootstrap=at, security="SSL", cafile=str(served / authority))
    asked = [doctor_says(settings, "SSL handshake failed", f"the certificate of {at} {cure}")] if certificate == "expired" else []
    doctor = [asyncio.create_task(one) for one in asked]
    with KafkaLog(settings, send_s=2) as log:
        await refused(log, "SSL handshake failed", f"the certificate of {at} {cure}")
    publisher = EventPublisher(settings, tmp_path / "state.db", tmp_path / "published.json")
    task = asyncio.create_task(publisher.run())
    await until(lambda: cure in publisher.done.last_error, 150)  # a broker that is slow to answer is told of first
    task.cancel()
    await asyncio.gather(*doctor)
    assert cure in publisher.done.last_error


async def test_frames_go_over_tls_to_a_broker_whose_certificate_is_believed(kafka, served, tenant):
    settings = KafkaSettings(bootstrap=kafka.tls_bootstrap(0), security="SSL", cafile=str(served / "ca"))
    with KafkaLog(settings, send_s=PATIENT_S) as log:
        await asyncio.to_thread(log.append, [frame_record(tenant)])
    assert await asyncio.to_thread(log_records, kafka.bootstrap, tenant) == [frame_record(tenant)]


def sees_all(kafka, user):
    """Whether the broker knows yet what the user may."""
    try:
        return not KafkaAdmin(settings_of(kafka, user)).differences(all_topics(), 1)
    except LinkError:
        return False


async def test_a_view_that_may_not_read_says_so(kafka, tmp_path, caplog):
    await until(lambda: sees_all(kafka, "writer"))
    view = KafkaView(settings_of(kafka, "writer"), tmp_path / "state.db")
    try:
        await until(lambda: view.step() or "authorization failed" in caplog.text.lower())
        assert "cure: let this user read it" in caplog.text
        assert not view.records
    finally:
        view.close()


def configure(kafka, topic, name, value):
    """Set one key of a topic, and wait until the broker shows it."""
    entry = ConfigEntry(name, value, incremental_operation=AlterConfigOpType.SET)
    client = AdminClient({"bootstrap.servers": kafka.bootstrap})
    resource = ConfigResource(ResourceType.TOPIC, topic, incremental_configs=[entry])
    client.incremental_alter_configs([resource], request_timeout=60)[resource].result(60)
    while client.describe_configs([resource], request_timeout=60)[resource].result(60)[name].value != value:
        pass


async def applied(kafka):
    await asyncio.to_thread(KafkaAdmin(settings_of(kafka), reach_s=120, timeout_s=120).apply, all_topics(), 1)


async def test_topic_that_would_lose_records_is_refused_until_it_is_mended(kafka, tenant):
    with KafkaLog(settings_of(kafka), check_s=0, send_s=PATIENT_S) as log:
        await asyncio.to_thread(log.append, [frame_record(tenant)])
        await asyncio.to_thread(configure, kafka, DEAD, "cleanup.policy", "compact")
        await refused(
            log, "topic telemetry.dlq: cleanup.policy is compact and must be delete", "paceline topics apply", [frame_record(tenant)]
        )
        await doctor_says(settings_of(kafka), "topic telemetry.dlq: cleanup.policy is compact and must be delete", "paceline topics apply")
        await applied(kafka)
        await asyncio.to_thread(log.append, [frame_record(tenant)])
        await asyncio.to_thread(configure, kafka, DEAD, "retention.ms", "86400000")  # how long is the operator's word
        await asyncio.to_thread(log.append, [frame_record(tenant)])
        await applied(kafka)


async def test_topic_that_is_missing_or_has_other_partitions_is_refused(kafka):
    client = AdminClient({"bootstrap.servers": kafka.bootstrap})

    async def there(wanted):
        await until(lambda: (DEAD in client.list_topics(timeout=60).topics) == wanted)

    with KafkaLog(settings_of(kafka)) as log:
        client.delete_topics([DEAD], request_timeout=60)[DEAD].result(60)
        await there(wanted=False)
        await refused(log, "topic telemetry.dlq is missing", "paceline topics apply")
        await doctor_says(settings_of(kafka), "topic telemetry.dlq is missing", "paceline topics apply")
        client.create_topics([NewTopic(DEAD, 3, 1)], request_timeout=60)[DEAD].result(60)
        await there(wanted=True)
        await refused(log, "telemetry.dlq has 3 partitions, not 12", "make a new topic with the right number")
        await doctor_says(settings_of(kafka), "telemetry.dlq has 3 partitions, not 12", "make a new topic with the right number")
        client.delete_topics([DEAD], request_timeout=60)[DEAD].result(60)
        await there(wanted=False)
        await applied(kafka)
        await asyncio.to_thread(log.check)


async def test_record_too_large_for_its_topic_is_named_and_goes_when_the_topic_is_mended(kafka, tenant):
    large = [frame_record(tenant, random.Random(i).randbytes(1024)) for i in range(20)]
    with KafkaLog(settings_of(kafka), send_s=PATIENT_S) as log:
        await asyncio.to_thread(log.check)
        await asyncio.to_thread(configure, kafka, FRAMES, "max.message.bytes", "1000")
        await refused(log, "20 of 20 records not stored: .*Message size too large", "paceline topics apply", large)
        await refused(log, "max.message.bytes is 1000 and must be 1048588", "paceline topics apply")
        await applied(kafka)
        await asyncio.to_thread(log.append, large)
    assert await asyncio.to_thread(log_records, kafka.bootstrap, tenant) == large


async def test_full_disk_of_kafka_loses_nothing_that_was_appended(tmp_path, tenant):
    """A log dir of 48 MB: Kafka stops when it is full. Mounting needs root."""
    with small_disk_at(tmp_path / "disk", 48) as folder:
        async with start_kafka(folder) as full:
            await applied(full)
            ballast = folder / "ballast"
            with KafkaLog(settings_of(full), send_s=8) as log:
                await asyncio.to_thread(append_at_last, log, [frame_record(tenant)])
                kept, said = await asyncio.to_thread(fill, log, tenant, folder, ballast)
                assert "nothing was acknowledged" in said.cure
                assert "disk" in said.cure
                ballast.unlink()
                await full.kill()
                await full.start()
                await asyncio.to_thread(append_at_last, log, [frame_record(tenant, b"after")])
            found = {r.body for r in await asyncio.to_thread(log_records, full.bootstrap, tenant)}
            assert {*kept, b"after"} <= found


def fill(log, tenant, folder, ballast):
    """Append until there is no room; the bodies that were stored, and the error."""
    kept = []
    with ballast.open("wb", buffering=0) as file:
        free = os.statvfs(folder).f_bavail * os.statvfs(folder).f_frsize
        os.posix_fallocate(file.fileno(), 0, free - 2_000_000)
    for i in range(1_000):
        bodies = [random.Random(100 * i + k).randbytes(1000) for k in range(100)]
        try:
            log.append([frame_record(tenant, body) for body in bodies])
        except StoreError as error:
            return kept, error
        kept += bodies
    raise AssertionError("the disk was never full")


def append_at_last(log, records):
    for _ in range(100):
        try:
            return log.append(records)
        except StoreError:
            continue
    raise AssertionError("Kafka took nothing any more")


@pytest.mark.nightly
@pytest.mark.timeout(1800)
async def test_too_few_copies_in_sync_are_told_with_their_cure_until_the_broker_is_back(tmp_path, tenant):
    """Three brokers and topics that want all three copies in sync: one away is one too few."""
    async with start_kafka(tmp_path, brokers=3) as three:
        await asyncio.to_thread(KafkaAdmin(settings_of(three), reach_s=120, timeout_s=120).apply, platform_topics(), 3)
        await asyncio.to_thread(configure, three, FRAMES, "min.insync.replicas", "3")
        with KafkaLog(settings_of(three), send_s=8) as log:
            await asyncio.to_thread(append_at_last, log, [frame_record(tenant, b"before")])
            await three.kill(2)
            await until(lambda: not in_sync(three), 240)
            what = (
                r"not stored: Local: Message timed out: .*telemetry\.frames have too few copies: .* has 2 in sync, min.insync.replicas is 3"
            )
            cure = "start the brokers that are away: too few of a topic's copies are in sync"
            await refused(log, what, cure, [frame_record(tenant, b"meanwhile")])
            await three.start(2)
            await asyncio.to_thread(append_at_last, log, [frame_record(tenant, b"after")])
        assert {b"before", b"after"} <= {r.body for r in await asyncio.to_thread(log_records, three.bootstrap, tenant)}


@pytest.mark.nightly
@pytest.mark.timeout(1800)
async def test_leader_of_three_brokers_killed_again_and_again_loses_nothing(tmp_path, tenant):
    """Three copies, two of which must have a record: each broker in turn is killed while records are appended, and comes back."""
    async with start_kafka(tmp_path, brokers=3) as three:
        kafka = settings_of(three)
        async with asyncio.timeout(120):
            while True:
                try:
                    await asyncio.to_thread(KafkaAdmin(kafka).apply, platform_topics(), 3)
                except LinkError:  # listening is not yet ready
                    await asyncio.sleep(1)
                else:
                    break
        kept, stop = [], asyncio.Event()

        async def append(log):
            while not stop.is_set():
                batch = [frame_record(tenant, (len(kept) + i).to_bytes(4)) for i in range(50)]
                with suppress(StoreError):
                    await asyncio.to_thread(log.append, batch)
                    kept.extend(r.body for r in batch)

        with KafkaLog(kafka) as log:
            task = asyncio.create_task(append(log))
            for number in (0, 1, 2, 0, 1, 2):
                before = len(kept)
                await until(lambda before=before: len(kept) > before + 500, 240)
                await three.kill(number)
                before = len(kept)
                await until(lambda before=before: len(kept) > before + 500, 240)  # it goes on with two
                await three.start(number)
                await until(lambda: in_sync(three), 240)
            stop.set()
            await task
        assert set(kept) <= {r.body for r in await asyncio.to_thread(log_records, three.bootstrap, tenant)}


def in_sync(cluster):
    """Whether every partition of the frames has all its copies."""
    topics = AdminClient({"bootstrap.servers": cluster.bootstrap, "log_level": 0}).list_topics(FRAMES, timeout=60).topics
    return all(len(p.isrs) == 3 for p in topics[FRAMES].partitions.values())


async def test_frames_of_a_load_count_from_the_stamps_of_their_topic(kafka):
    with stamping(kafka, FRAMES):
        watch = KafkaWatch(settings_of(kafka), ["log"], stamped=True)
        plan = LoadPlan("stamped", 6, 2, 3, time.time_ns() // 1000 - 3_000_000)
        frames = [decode_frame(raw) for n in range(2) for due in taken(NodePlan(plan, n)) for raw in decode_bundle(due.payload).rows]
        with KafkaLog(settings_of(kafka)) as log:
            records = [LogRecord(Kind.FRAME, frame.subject, "stamped", "box", 0, encode_frame(frame)) for frame in frames]
            await asyncio.to_thread(log.append, records)
        stored_us = time.time_ns() // 1000
        await asyncio.sleep(0.5)  # they are read that much later at least
        watch.begin(plan, plan.start_us)
        seen = (await asyncio.to_thread(settle, [watch], len(frames), PATIENT_S))["log"]
    assert (seen.seen, seen.owed, seen.doubled, seen.strange) == (18, 18, 0, 0)
    assert seen.times.whole.percentile_us(100) <= stored_us - plan.start_us


def taken(node):
    """All that a node of a load sends."""
    while node.turn_us < node.plan.end_us:
        yield from node.take()


@contextmanager
def stamping(kafka, topic):
    """While this lasts a topic stamps what it appends."""
    client = AdminClient({"bootstrap.servers": kafka.bootstrap})

    def change(how):
        entry = ConfigEntry("message.timestamp.type", "LogAppendTime", incremental_operation=how)
        wanted = ConfigResource(ResourceType.TOPIC, topic, incremental_configs=[entry])
        for done in client.incremental_alter_configs([wanted]).values():
            done.result(PATIENT_S)

    change(AlterConfigOpType.SET)
    try:
        yield
    finally:
        change(AlterConfigOpType.DELETE)
