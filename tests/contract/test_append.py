"""What every write side of the log promises, in SQLite and on a real Kafka: durable, whole, in order for each key, whoever is killed."""

import asyncio
import subprocess
import sys
import threading
import uuid

import pytest
import pytest_asyncio

from broker.errors import Reason, StoreError
from broker.kafka import KafkaSettings
from broker.kafka_topics import all_topics
from broker.logrecord import Kind, LogRecord
from broker.reference import AthleteRef, SegmentRef, encode_reference
from processors.accept import DeadLetter
from processors.dead_letters import dead_letters
from processors.kafka_admin import KafkaAdmin
from processors.kafka_log import KafkaLog
from processors.log import SqliteLog
from tests import kafka_reader
from tests.kafka_server import start_kafka
from tests.servers import PROJECT

PATIENT_S = 120  # a busy machine is slow to answer, and these tests are not about that


class SqliteKind:
    """One file; a fresh opener reads it."""

    def __init__(self, path):
        self.arguments = ("sqlite", str(path))
        self.path = path
        self.tenant = "gym"

    def open(self):
        return SqliteLog.open(self.path)

    def records(self):
        with SqliteLog.open(self.path) as log:
            return log.read(0, 10**6)[1]

    def dead(self):
        with SqliteLog.open(self.path) as log:
            return [(stored.letter, stored.sent) for stored in dead_letters(log)]


class KafkaKind:
    """One cluster for all tests, a tenant for each."""

    def __init__(self, bootstrap):
        self.arguments = ("kafka", bootstrap)
        self.bootstrap = bootstrap
        self.tenant = f"t{uuid.uuid4().hex[:12]}"

    def open(self):
        return KafkaLog(KafkaSettings(bootstrap=self.bootstrap), send_s=PATIENT_S)

    def records(self):
        return kafka_reader.log_records(self.bootstrap, self.tenant)

    def dead(self):
        return kafka_reader.dead_letters(self.bootstrap, self.tenant)


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def cluster(tmp_path_factory):
    async with start_kafka(tmp_path_factory.mktemp("kafka")) as kafka:
        await asyncio.to_thread(KafkaAdmin(KafkaSettings(bootstrap=kafka.bootstrap), reach_s=120, timeout_s=120).apply, all_topics(), 1)
        yield kafka


@pytest.fixture(params=["sqlite", "kafka"])
def kind(request, tmp_path):
    if request.param == "sqlite":
        return SqliteKind(tmp_path / "log.db")
    return KafkaKind(request.getfixturevalue("cluster").bootstrap)


def record(tenant, i, us=None, *, key=None, body=None):
    return LogRecord(
        Kind.FRAME,
        f"{tenant}/a{i % 7}" if key is None else key,
        tenant,
        f"box{i % 3}",
        1_000 + i if us is None else us,
        body or i.to_bytes(4),
    )


def letter(tenant, n, raw=b"x", detail="why"):
    return DeadLetter(5, tenant, "box", f"pl/1/{tenant}/box/up", 9, n, Reason.BAD_FRAME, detail, raw)


def by_key(records):
    found = {}
    for each in records:
        found.setdefault(each.key, []).append(each)
    return found


def test_appended_records_are_there_whole_and_in_order_for_each_key(kind):
    made = [record(kind.tenant, i) for i in range(300)]
    with kind.open() as log:
        for at in range(0, 300, 60):
            log.append(made[at : at + 60])
        assert by_key(kind.records()) == by_key(made), "durable before the log is closed"


def test_every_kind_of_record_is_appended_as_it_is(kind):
    tenant = kind.tenant
    made = [
        record(tenant, 1, body=bytes(range(256)) * 4),
        LogRecord(Kind.WAKE, f"{tenant}/ä", "", "", 2_000, b"close"),
        LogRecord(Kind.REFERENCE, tenant, tenant, "", 2_001, encode_reference(SegmentRef(tenant=tenant, id="hill", name="Hill"))),
        LogRecord(Kind.REFERENCE, tenant, tenant, "", 2_002, encode_reference(AthleteRef(tenant=tenant, id="ann", name="Ann"))),
        record(tenant, 3, us=2_003, body=b"\0", key=f"{tenant}/box/strap"),
        LogRecord(Kind.FRAME, f"{tenant}/a", tenant, "box", 2_004, b"x" * 1024, kid=7),
    ]
    with kind.open() as log:
        log.append(made)
    assert by_key(kind.records()) == by_key(made)


def test_times_never_go_back_though_the_clock_does(kind):
    with kind.open() as log:
        log.append([record(kind.tenant, 0, us=5_000)])
        log.append([record(kind.tenant, 7, us=4_000), record(kind.tenant, 14, us=6_000), record(kind.tenant, 21, us=5_500)])
    assert [r.appended_us for r in kind.records()] == [5_000, 5_000, 6_000, 6_000]


def test_dead_letters_are_durable_with_the_records_and_a_row_sent_again_is_one(kind):
    with kind.open() as log:
        log.append([record(kind.tenant, 1)], [letter(kind.tenant, 1), letter(kind.tenant, 2, raw=b"junk" * 30_000, detail="é")])
        log.append([], [letter(kind.tenant, 1)])
    found = {each.n: (each, times) for each, times in kind.dead()}
    assert found[1] == (letter(kind.tenant, 1), 2)
    assert found[2] == (letter(kind.tenant, 2, raw=(b"junk" * 30_000)[: 64 * 1024], detail="é"), 1)
    assert kind.records() == [record(kind.tenant, 1)]


def test_message_without_a_header_is_a_dead_letter_without_a_row(kind):
    nameless = DeadLetter(5, kind.tenant, "box", "t", None, None, Reason.BAD_BUNDLE, "no header", b"junk")
    with kind.open() as log:
        log.append([], [nameless])
        log.append([])
    assert kind.dead() == [(nameless, 1)]
    assert kind.records() == []


def test_large_append_is_stored_whole(kind):
    made = [record(kind.tenant, i, body=i.to_bytes(4) * 256) for i in range(12_000)]
    with kind.open() as log:
        log.append(made)
    assert by_key(kind.records()) == by_key(made)


def test_threads_appending_together_lose_nothing(kind):
    with kind.open() as log:
        batches = [[record(kind.tenant, base + 3 * i + k, us=7) for k in range(3)] for base in (0, 1000, 2000) for i in range(20)]
        threads = [threading.Thread(target=lambda part=part: [log.append(b) for b in batches[part::3]]) for part in range(3)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(120)
    assert sorted(r.body for r in kind.records()) == sorted(r.body for batch in batches for r in batch)


def test_append_after_close_is_an_error(kind):
    log = kind.open()
    log.append([record(kind.tenant, 1)])
    log.close()
    with pytest.raises(StoreError):
        log.append([record(kind.tenant, 2)])
    assert kind.records() == [record(kind.tenant, 1)]


_CHILD = """
import sys
from tests.contract.test_append import KafkaKind, SqliteKind, record
kind, where, tenant, base = sys.argv[1:]
made = SqliteKind(where) if kind == "sqlite" else KafkaKind(where)
with made.open() as log:
    for i in range(int(base), int(base) + 100_000, 20):
        log.append([record(tenant, k, us=9) for k in range(i, i + 20)])
        print(i + 20, flush=True)
"""


def test_killed_in_the_middle_what_was_appended_is_there_and_nothing_is_torn(kind):
    """Two processes append at once and are killed: all that `append` returned for is there, and at most one append more of each."""
    command = [sys.executable, "-c", _CHILD, *kind.arguments, kind.tenant]
    children = [subprocess.Popen([*command, base], stdout=subprocess.PIPE, text=True, cwd=PROJECT) for base in ("0", "1000000")]
    told = []
    for child in children:
        for _ in range(15):
            line = child.stdout.readline()
        child.kill()
        with child.stdout:
            rest = child.stdout.read().split()
        told.append(int(rest[-1] if rest else line))
        child.wait(60)
    found = [int.from_bytes(r.body) for r in kind.records()]
    for base, end in zip((0, 1_000_000), told, strict=True):
        mine = [i for i in found if base <= i < base + 1_000_000]
        assert set(range(base, end)) <= set(mine), "returned for, and not there"
        assert len(mine) == len(set(mine)), "one append each: nothing is there twice"
        assert set(mine) <= set(range(base, end + 20))
