"""Ingest against a real mosquitto: acks, refusals, kill -9 at every point, broker gone, half-open link, full disk, TLS."""

import asyncio
import os
import random
import signal
import subprocess
import sys
from contextlib import asynccontextmanager

import pytest

from broker import mqtt_codec as mqtt
from broker.acks import decode_ack
from broker.bundles import encode_bundle
from broker.errors import LinkError
from broker.frames import Clock, Frame, encode_frame
from broker.json_frames import encode_json_message
from broker.layouts import layout_named
from processors.bulk_client import BulkSettings
from processors.dead_letters import dead_counts
from processors.ingest import IngestService
from processors.log import SqliteLog
from tests.mqtt_client import PahoClient
from tests.proxy import Mode, start_proxy
from tests.servers import PROJECT, start_mosquitto
from tests.system.ingest_node import ResendingNode

USERS = ("gym/box1", "gym/box2", "platform/ingest", "platform/ingest2")
MOTION = layout_named("motion.1")


def row(i, subject="gym/ann", flags=0):
    return encode_frame(
        Frame(1, flags, "strap", 9, i, i * 10**6, None, int(Clock.UNKNOWN), subject, MOTION.pack({"tick_ms": 0, "hr_bpm": 120}))
    )


def rows(count):
    return [row(i) for i in range(count)]


@pytest.fixture
async def broker(tmp_path):
    async with start_mosquitto(tmp_path, users=USERS) as served:
        yield served


def settings(broker, **changes):
    given = {
        "host": broker.host,
        "port": broker.port,
        "password": broker.password("platform/ingest"),
        "retry_min_s": 0.05,
        "retry_max_s": 0.5,
    }
    return BulkSettings(username="platform/ingest", **(given | changes))


@asynccontextmanager
async def running(service, timeout_s=60):
    task = asyncio.create_task(service.run())
    try:
        await asyncio.wait_for(service.ready.wait(), timeout_s)
        yield service
    finally:
        task.cancel()
        await asyncio.wait([task], timeout=60)
        assert task.done()


async def until(condition, timeout_s=150.0):
    async with asyncio.timeout(timeout_s):
        while not condition():
            await asyncio.sleep(0.01)


def bodies(log):
    return [r.body for r in log.read(0, 10**6)[1]]


async def test_bundle_is_stored_and_acknowledged_over_tls_and_plain(tmp_path):
    for tls in (False, True):
        async with start_mosquitto(tmp_path / str(tls), users=USERS, tls=tls) as served:
            context = served.tls_context()
            with SqliteLog.open(tmp_path / f"{tls}.db") as log:
                service = IngestService(settings(served, tls=context, host="localhost" if tls else served.host), log)
                async with running(service):
                    with PahoClient(served, "gym/box1") as node:
                        await asyncio.to_thread(node.subscribe, "pl/1/gym/box1/ack/json")
                        await asyncio.to_thread(node.publish, "pl/1/gym/box1/up", encode_bundle(5, 1, rows(3)))
                        message = encode_json_message([Frame(1, 1, "w", 1, 1, 5, None, 0, "gym/ann", MOTION.pack({"tick_ms": 0}))], 6, 1)
                        await asyncio.to_thread(node.publish, "pl/1/gym/box1/up/json", message)
                        [ack] = await asyncio.to_thread(node.wait_messages, 1)
                        assert ack.payload == b'{"epoch": "0000000000000006", "stored": [[1, 1]], "refused": []}'
                assert bodies(log)[:3] == rows(3)
                assert (log.end(), service.stats.frames, service.stats.messages) == (4, 4, 2)


async def test_node_gets_refusals_with_reason_and_sends_them_no_more(tmp_path, broker):
    mixed = [row(1), row(2, subject="rival/ann"), b"junk", row(4)]
    with SqliteLog.open(tmp_path / "log.db") as log:
        async with running(IngestService(settings(broker), log)) as service:
            node = ResendingNode(broker, "gym/box1", mixed)
            node.start()
            await asyncio.to_thread(node.join_done, 60)
            assert (node.stored, node.refused) == ({1, 4}, {2: "wrong_tenant", 3: "bad_frame"})
            assert service.stats.refused == {"wrong_tenant": 1, "bad_frame": 1}
        assert dead_counts(log).by_reason == {"bad_frame": 1, "wrong_tenant": 1}


async def test_oversized_and_headerless_messages_stop_nothing(tmp_path, broker):
    with SqliteLog.open(tmp_path / "log.db") as log:
        async with running(IngestService(settings(broker), log)) as service:
            with PahoClient(broker, "gym/box1") as device:
                for junk in (b"", b"\xb1", bytes(100_000), bytes(1_000_000)):
                    device.publish_nowait("pl/1/gym/box1/up", junk)
            node = ResendingNode(broker, "gym/box1", rows(5))
            node.start()
            await asyncio.to_thread(node.join_done, 60)
            await until(lambda: service.stats.messages >= 3)
        assert log.end() == 5
        assert service.connects == 1


def start_process(broker, path, kill_at=""):
    environment = dict(os.environ, PACELINE_KILL_AT=kill_at)
    command = [sys.executable, "-m", "tests.system.ingest_process", str(broker.port), broker.password("platform/ingest"), str(path)]
    return subprocess.Popen(command, env=environment, cwd=PROJECT)


async def kill_and_compare(broker, path, kills, count, pause_s=0.01):
    """Run ingest under each of `kills` in turn (`name:count`, or seconds before a SIGKILL), then undisturbed: every row is in the log.

    The node sends `count` rows and makes more until the last kill, so that each kill finds rows that are not stored.
    """
    node = ResendingNode(broker, "gym/box1", rows(count), pause_s=pause_s, more=row)
    process = start_process(broker, path, kills[0] if isinstance(kills[0], str) else "")
    node.start()
    try:
        for i, kill in enumerate(kills):
            if isinstance(kill, float):
                await asyncio.sleep(kill)
                process.kill()
            else:
                assert not await asyncio.to_thread(lambda p: p.wait(60) + signal.SIGKILL, process)
            await asyncio.to_thread(process.wait, 60)
            following = kills[i + 1] if i + 1 < len(kills) else ""
            process = start_process(broker, path, following if isinstance(following, str) else "")
        assert node.open_rows, "all was stored before the last kill: it proved nothing"
        await asyncio.to_thread(node.join_done, 60)
    finally:
        node.stopping.set()
        process.terminate()
        assert process.wait(60) == 0
    with SqliteLog.open(path) as log:
        assert set(bodies(log)) == set(node.rows)
        assert dead_counts(log).total == 0


@pytest.mark.parametrize("point", ["ingest.before_append", "ingest.after_append", "ingest.after_ack"])
async def test_kill_9_at_every_point_loses_nothing(tmp_path, broker, point):
    await kill_and_compare(broker, tmp_path / "log.db", [f"{point}:1", f"{point}:2", f"{point}:3"], 1000)


@pytest.mark.parametrize("kills", [3, pytest.param(50, marks=[pytest.mark.nightly, pytest.mark.timeout(1200)])])
async def test_kill_9_at_random_moments_loses_nothing(tmp_path, broker, kills):
    rng = random.Random(3)
    moments = [0.4 + rng.random() for _ in range(kills)]
    await kill_and_compare(broker, tmp_path / "log.db", moments, 2000 * max(1, kills // 15), pause_s=0.01 * max(1, kills // 10))


async def test_broker_killed_and_back_is_found_again(tmp_path, broker):
    with SqliteLog.open(tmp_path / "log.db") as log:
        async with running(IngestService(settings(broker), log)) as service:
            node = ResendingNode(broker, "gym/box1", rows(200), more=row)
            node.start()
            await until(lambda: service.stats.frames > 50)
            await broker.kill()
            await until(lambda: not service.ready.is_set())
            await broker.start()
            await until(service.ready.is_set)
            await asyncio.to_thread(node.join_done, 60)
        assert set(bodies(log)) == set(node.rows)
        assert service.connects >= 2


async def test_two_ingests_of_one_credential_oust_each_other_and_lose_nothing(tmp_path, broker):
    with SqliteLog.open(tmp_path / "log.db") as one, SqliteLog.open(tmp_path / "log.db") as two:
        async with running(IngestService(settings(broker), one)) as first, running(IngestService(settings(broker), two)) as second:
            node = ResendingNode(broker, "gym/box1", rows(900))
            node.start()
            await asyncio.to_thread(node.join_done, 60)
            await until(lambda: first.connects + second.connects >= 3)
        kept = one.read(0, 10**6)
        assert set(bodies(two)) == set(rows(900))
        assert kept == two.read(0, 10**6)


async def test_two_ingests_that_share_divide_the_work_and_one_takes_all_when_the_other_is_gone(tmp_path, broker):
    with SqliteLog.open(tmp_path / "one.db") as one, SqliteLog.open(tmp_path / "two.db") as two:
        other = BulkSettings(broker.host, broker.port, "platform/ingest2", broker.password("platform/ingest2"), clean=True)
        async with running(IngestService(settings(broker, clean=True), one, share="ingest")):
            node = ResendingNode(broker, "gym/box1", rows(2000))
            async with running(IngestService(other, two, share="ingest")):
                node.start()
                await until(lambda: one.end() > 200 and two.end() > 200)
            await asyncio.to_thread(node.join_done, 60)
        assert set(bodies(one)) | set(bodies(two)) == set(rows(2000))


async def test_half_open_link_is_noticed_by_silence(tmp_path, broker):
    async with start_proxy(broker.port) as proxy:
        with SqliteLog.open(tmp_path / "log.db") as log:
            async with running(IngestService(settings(broker, port=proxy.port, keepalive_s=2), log)) as service:
                await asyncio.sleep(3)
                assert service.connects == 1
                proxy.mode = Mode.HALF_OPEN
                await until(lambda: not service.ready.is_set())
                proxy.mode = Mode.PASS
                await until(lambda: service.connects >= 2 and service.ready.is_set())


def acked_rows(messages):
    return {n for m in messages for first, last in decode_ack(m.payload).stored for n in range(first, last + 1)}


async def test_full_disk_acknowledges_nothing_stops_reading_and_loses_nothing(tmp_path, broker):
    sent = [encode_bundle(5, 30 * i + 1, [row(30 * i + k) for k in range(30)]) for i in range(200)]
    with SqliteLog.open(tmp_path / "log.db") as log:
        pages = log._writer.execute("PRAGMA page_count").fetchone()[0]
        log._writer.execute(f"PRAGMA max_page_count={pages + 1}")  # SQLite itself says that the disk is full
        service = IngestService(settings(broker, buffer_bytes=20_000), log)
        async with running(service):
            with PahoClient(broker, "gym/box1") as node:
                await asyncio.to_thread(node.subscribe, "pl/1/gym/box1/ack")
                await asyncio.to_thread(node.publish_all, [("pl/1/gym/box1/up", message) for message in sent])
                await until(lambda: service.stats.append_errors >= 3)
                assert "full" in service.stats.alarm
                assert sum(p.size for p in service._waiting) < 20_000 + 300_000
                assert log.end() < 1000
                await asyncio.sleep(0.2)
                assert len(acked_rows(node.messages)) <= log.end()
                await asyncio.to_thread(log._writer.execute, "PRAGMA max_page_count=100000")
                await until(lambda: len(acked_rows(node.messages)) == 6000)
                assert not service.stats.alarm
        assert len(set(bodies(log))) == 6000


async def test_links_that_end_while_nothing_can_be_stored_add_nothing_to_what_is_held(tmp_path, broker):
    sent = [encode_bundle(5, 30 * i + 1, [row(30 * i + k) for k in range(30)]) for i in range(200)]
    with SqliteLog.open(tmp_path / "log.db") as log:
        pages = log._writer.execute("PRAGMA page_count").fetchone()[0]
        log._writer.execute(f"PRAGMA max_page_count={pages + 1}")
        service = IngestService(settings(broker, buffer_bytes=20_000), log)
        async with running(service):
            with PahoClient(broker, "gym/box1") as node:
                await asyncio.to_thread(node.subscribe, "pl/1/gym/box1/ack")
                await asyncio.to_thread(node.publish_all, [("pl/1/gym/box1/up", message) for message in sent])
                await until(lambda: service.stats.append_errors >= 1)
                for count in range(2, 8):
                    service._client.connection.drop("a broker that is tired of it")
                    await until(lambda count=count: service.connects >= count and service._client.connection is not None)
                    await until(lambda: service._client.connection.paused)
                    assert sum(p.size for p in service._waiting) < 20_000 + 300_000
                await asyncio.to_thread(log._writer.execute, "PRAGMA max_page_count=100000")
                await until(lambda: len(acked_rows(node.messages)) == 6000)
        assert len(set(bodies(log))) == 6000


async def test_platform_publishes_cfg_and_hears_state_over_the_same_session(tmp_path, broker):
    heard = []
    with SqliteLog.open(tmp_path / "log.db") as log:
        service = IngestService(settings(broker), log)
        service.listen("state", lambda address, payload: heard.append((address.tenant, address.node, payload)))
        with PahoClient(broker, "gym/box1") as node:
            await asyncio.to_thread(lambda: node.publish("pl/1/gym/box1/state", b'{"online":true}', retain=True))
            async with running(service):
                await until(lambda: heard)
                await service.publish("pl/1/gym/box1/cfg", b'{"version":1}', retain=True)
                await asyncio.to_thread(node.subscribe, "pl/1/gym/box1/cfg")
                [cfg] = await asyncio.to_thread(node.wait_messages, 1)
                assert (cfg.payload, cfg.retain) == (b'{"version":1}', True)
        assert heard == [("gym", "box1", b'{"online":true}')]
        assert log.end() == 0
        assert dead_counts(log).total == 0


async def test_publish_without_a_broker_is_an_error_with_a_cure(tmp_path, broker):
    await broker.stop()
    with SqliteLog.open(tmp_path / "log.db") as log:
        service = IngestService(settings(broker), log)
        task = asyncio.create_task(service.run())
        with pytest.raises(LinkError, match="cfg"):
            await service.publish("pl/1/gym/box1/cfg", b"{}", timeout_s=0.3)
        task.cancel()
        await asyncio.wait([task], timeout=60)


async def told(host, port, password, text, path):
    """Run ingest until its last error holds `text`; it never was ready."""
    with SqliteLog.open(path) as log:
        service = IngestService(BulkSettings(host, port, "platform/ingest", password, retry_min_s=0.05), log)
        task = asyncio.create_task(service.run())
        try:
            await until(lambda: text in service._client.last_error)
            assert not service.ready.is_set()
        finally:
            task.cancel()
            await asyncio.wait([task], timeout=60)


async def test_wrong_password_is_told_with_its_cure(tmp_path, broker):
    await told(broker.host, broker.port, "wrong", "refused with code 5\n  cure: check the password", tmp_path / "log.db")


@pytest.mark.parametrize(
    ("answer", "text"),
    [
        (b"\x20\x02\x00\x00\x90\x04\x00\x01\x01\x80", "lacks the right"),
        (b"\x20\x02\x00\x00\xf0\x00" + mqtt.PINGRESP, "protocol violation"),
        (b"", "no answer to CONNECT"),
    ],
    ids=["refused subscription", "reserved packet", "closed at once"],
)
async def test_peer_that_is_no_broker_for_us_is_left_and_named(tmp_path, answer, text):
    async def serve(reader, writer):
        writer.write(answer)
        await writer.drain()
        if answer:
            await reader.read(65536)
            await reader.read(65536)
        writer.close()

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    async with server:
        await told("127.0.0.1", server.sockets[0].getsockname()[1], "x", text, tmp_path / "log.db")
        await asyncio.sleep(0.05)
