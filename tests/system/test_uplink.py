"""The uplink with a real spool and real brokers: cut, half-open and one-way links, kill -9, silence, refusals, backlog, a second box."""

import asyncio
import gc
import json
import logging
import math
import os
from contextlib import asynccontextmanager
from dataclasses import replace
from random import Random

import aiomqtt
import pytest

from broker.acks import Ack, encode_ack
from broker.errors import ConfigError
from broker.nodeconfig import NodeState
from gateway.answers import Answers
from gateway.link import LinkSettings, tls_context
from gateway.reconnect import ReconnectSettings
from gateway.spool import Spool, SpoolRow, SpoolSettings
from gateway.uplink import Uplink, UplinkSettings
from gateway.window import WindowSettings
from tests.proxy import Mode, start_proxy
from tests.servers import make_certificates, start_amqtt, start_mosquitto
from tests.uplink_peer import start_peer

BOX = "gym/box1"
USERS = (BOX, "platform/ingest")
PATIENT = WindowSettings(ack_timeout_s=60.0, probe_first_s=30.0)  # an ack that is late on a busy machine has no row sent again
QUICK = WindowSettings(ack_timeout_s=0.6, probe_first_s=0.3, probe_cap_s=1.0)


@pytest.fixture(scope="module")
def shared(tmp_path_factory):
    """One mosquitto for all tests that do not kill it."""
    folder = tmp_path_factory.mktemp("uplink")
    loop = asyncio.new_event_loop()
    served = start_mosquitto(folder, users=USERS)
    broker = loop.run_until_complete(served.__aenter__())
    yield broker
    loop.run_until_complete(served.__aexit__(None, None, None))
    loop.close()


async def until(condition, timeout_s=60.0, what="condition"):
    async with asyncio.timeout(timeout_s):
        while not condition():
            await asyncio.sleep(0.01)
    assert condition(), what


def frames(count, seed=1):
    random = Random(seed)
    return [SpoolRow(random.randbytes(150), "strap") for _ in range(count)]


@asynccontextmanager
async def opened_spool(folder, rows=0):
    spool = await Spool.open(folder / "spool.db", SpoolSettings(min_window_s=0.001))
    try:
        for start in range(0, rows, 1000):
            await spool.append(frames(min(1000, rows - start), start))
        yield spool
    finally:
        await spool.close()


def link_to(broker, port=None, user=BOX, **changes):
    return LinkSettings("127.0.0.1", port or broker.port, user, broker.password(user), **changes)


class Box:
    """A running uplink and what it was told."""

    def __init__(self, spool, link, **changes):
        self.cfg, self.cmd, self.answers = [], [], Answers()
        self.spool = spool
        tenant, node = link.username.split("/")
        self.uplink = Uplink(
            spool,
            UplinkSettings(tenant, node, link, **{"window": QUICK, "state_interval_s": 0.1, **changes}),
            on_cfg=self.cfg.append,
            on_cmd=self.command,
            answers=self.answers,
            state=lambda: NodeState(online=True, spool_rows=spool.stats().rows, counters={"own": 7}),
            random=Random(5).random,
        )
        self.task = asyncio.create_task(self.uplink.run())

    def command(self, raw):
        self.cmd.append(raw)
        self.answers.put(b"answer to " + raw)

    @property
    def settled(self):
        """Whether nothing is owed and the broker confirmed all that was sent: what is counted changes no more."""
        return not self.owed and not self.uplink._unconfirmed

    @property
    def owed(self):
        return sum(last - first + 1 for first, last in self.spool.ranges())


@asynccontextmanager
async def running(spool, link, **changes):
    box = Box(spool, link, **changes)
    try:
        yield box
    finally:
        box.task.cancel()
        await asyncio.wait({box.task}, timeout=60)
        assert box.task.cancelled(), box.task


async def test_rows_go_up_in_order_are_freed_and_state_is_retained(tmp_path, shared):
    async with start_peer(shared) as peer, opened_spool(tmp_path, 300) as spool:
        async with running(spool, link_to(shared), window=PATIENT) as box:
            assert await box.uplink.wait_healthy(60)
            await spool.append(frames(20, 99))
            await until(lambda: not box.owed)
            await until(lambda: peer.states[BOX]["counters"].get("acked_rows") == 320)
            state = peer.states[BOX]
            assert state["online"] is True
            assert state["epoch"] == f"{spool.epoch:016x}"
            assert state["counters"]["own"] == 7
            assert sorted(peer.got(spool.epoch)) == list(range(1, 321))
            assert peer.repeats == 0
            await until(lambda: box.settled and peer.states[BOX] == json.loads(box.uplink._document(online=True)))
            told = peer.state_counts[BOX]
            await asyncio.sleep(0.5)
            assert peer.state_counts[BOX] == told, "an unchanged state is not published again"
        await until(lambda: peer.states[BOX]["online"] is False)
        assert not box.uplink.healthy


async def test_cfg_and_cmd_arrive_and_bad_messages_end_nothing(tmp_path, shared, caplog):
    async with start_peer(shared, platform="pl/1/+/+/rsp") as peer, opened_spool(tmp_path) as spool:
        answers = []
        await peer.send("cfg", b'{"version": 3}', retain=True)
        async with running(spool, link_to(shared)) as box:
            await until(lambda: box.cfg)
            assert box.cfg == [b'{"version": 3}']
            peer._take = lambda tenant, node, raw: _noted(answers, raw)
            await peer.send("cmd", b"blink")
            await until(lambda: box.cmd and answers)
            assert answers == [b"answer to blink"]
            del peer._take
            box.uplink._on_cfg = lambda raw: 1 / 0
            await peer.send("cfg", b"x" * 70_000)
            for raw in (b"", b"\xc1", b"\x94" * 500, os.urandom(2000), encode_ack(Ack(1, ((5, 4),)))):
                await peer.send("ack", raw)
            await peer.send("ack", encode_ack(Ack(spool.epoch ^ 1, ((1, 9),))))
            await peer.send("ack", encode_ack(Ack(spool.epoch, ((100, 200),))))
            await until(lambda: box.uplink.all_counters().get("unknown_rows") == 101)
            assert box.uplink.counters["bad_messages"] == 6
            assert box.uplink.counters["foreign_acks"] == 1
            await spool.append(frames(3))
            await until(lambda: not box.owed)
            assert box.uplink.counters["connects"] == 1
        await peer.send("cfg", b"", retain=True)
    assert sum("bad message on" in r.getMessage() for r in caplog.records) == 2, "once a topic and session"


async def _noted(answers, raw):
    answers.append(raw)


async def test_refused_rows_end_and_are_counted(tmp_path, shared):
    async with start_peer(shared) as peer, opened_spool(tmp_path) as spool:
        peer.refuse = lambda n: "bad_frame" if n % 10 == 0 else "word nobody knows" if n == 5 else None
        async with running(spool, link_to(shared)) as box:
            await spool.append(frames(100))
            await until(lambda: not box.owed)
            await until(lambda: peer.states[BOX]["counters"].get("refused_rows") == 11)
            assert peer.states[BOX]["counters"]["refused_bad_frame"] == 10
            assert peer.states[BOX]["counters"]["refused_other"] == 1
            await spool.flush()
            assert spool.stats().refused == {"bad_frame": 10, "other": 1}
            repeats = peer.repeats
            await asyncio.sleep(1.0)
            assert peer.repeats == repeats, "a refused row is sent again"


@pytest.mark.parametrize(("delay_s", "ahead_at_most"), [(0.0, 3255), (0.04, 1530)], ids=["quick platform", "slow platform"])
async def test_live_rows_pass_a_backlog_of_20000(tmp_path, shared, delay_s, ahead_at_most):
    """Latency in rows: ahead of a live row arrives at most the backlog under way, and that shrinks when the platform is slow."""
    async with (
        start_peer(shared) as peer,
        opened_spool(tmp_path, 20_000) as spool,
        running(spool, link_to(shared), window=WindowSettings()) as box,
    ):
        peer.delay_s = delay_s
        await until(lambda: len(peer.order) > 25)
        ahead = []
        while len(peer.got(spool.epoch)) < 18_000 and len(ahead) < 12:
            n = await spool.append(frames(12, 7))
            before = sum(count for _, _, count in peer.order)
            await until(lambda n=n: n in peer.got(spool.epoch))
            at = next(i for i, (_, first, count) in enumerate(peer.order) if first <= n < first + count)
            ahead.append(sum(count for _, _, count in peer.order[:at]) - before)
        assert len(ahead) >= 3
        assert sorted(ahead)[len(ahead) // 2] <= ahead_at_most, ahead
        assert max(ahead) <= 3255, ahead
        peer.delay_s = 0.0
        await until(lambda: not box.owed)
        assert len(peer.got(spool.epoch)) == 20_000 + 12 * len(ahead)
        assert box.uplink.window.flying_rows == 0


async def test_no_acks_means_no_flood(tmp_path, shared):
    limits = replace(QUICK, rows=500)
    async with start_peer(shared) as peer, opened_spool(tmp_path, 10_000) as spool, running(spool, link_to(shared), window=limits) as box:
        await until(lambda: len(peer.got(spool.epoch)) > 3000)
        peer.acking = False
        await until(lambda: box.uplink.window.probing)
        await asyncio.sleep(0.2)
        silent_from = peer.bytes
        await asyncio.sleep(3.0)
        assert peer.bytes - silent_from <= 8 * 32 * 180, "more than one probe per back-off"
        assert box.uplink.counters["connects"] == 1
        peer.acking = True
        await until(lambda: not box.owed)
        assert peer.changed == 0
        assert len(peer.got(spool.epoch)) == 10_000


async def test_flapping_link_without_acks_does_not_flood_either(tmp_path, shared):
    async with start_peer(shared) as peer, opened_spool(tmp_path, 5_000) as spool, start_proxy(shared.port) as proxy:
        peer.acking = False
        async with running(spool, link_to(shared, proxy.port), reconnect=ReconnectSettings(cap_s=0.6)) as box:
            probes = 2  # two a session, and more the longer it lasted: each waits twice as long as the one before
            for connects in range(1, 6):
                await until(lambda c=connects: box.uplink.counters["connects"] >= c)
                await asyncio.sleep(0.1)
                lasted_s = asyncio.get_running_loop().time() - box.uplink._reconnect._since
                probes += 2 + int(math.log2(1 + lasted_s / (QUICK.probe_first_s / 2)))
                proxy.cut()
            await until(lambda: box.uplink.counters["connects"] >= 6)
            assert peer.bytes <= probes * 32 * 180


async def test_link_cut_again_and_again_loses_and_changes_nothing(tmp_path, shared):
    async with start_peer(shared) as peer, opened_spool(tmp_path, 1000) as spool, start_proxy(shared.port, seed=3) as proxy:
        async with running(spool, link_to(shared, proxy.port)) as box:
            for turn in range(6):
                await box.uplink.wait_healthy(60)
                await spool.append(frames(100, turn))
                await asyncio.sleep(0.02 * turn)
                proxy.cut()
            proxy.loss = 0.3
            await spool.append(frames(300, 70))
            await asyncio.sleep(2)
            proxy.loss = 0.0
            await until(lambda: not box.owed)
            assert box.uplink.all_counters()["taken_over"] == 0
        assert sorted(peer.got(spool.epoch)) == list(range(1, 1901))
        assert peer.changed == 0


@pytest.mark.parametrize("mode", [Mode.HALF_OPEN, Mode.ONE_WAY_UP, Mode.ONE_WAY_DOWN, Mode.STALL])
async def test_dead_link_is_noticed_and_left(tmp_path, shared, mode):
    """Idle or sending, a link that swallows is given up within 2 x keepalive + 1 s or the answer timeout; then all arrives."""
    async with start_peer(shared) as peer, opened_spool(tmp_path) as spool, start_proxy(shared.port) as proxy:
        # where our words do not reach it the broker must not close the link before we give it up: that would look like a second box
        link = link_to(shared, proxy.port, keepalive_s=20 if mode is Mode.ONE_WAY_DOWN else 1, answer_timeout_s=1.5)
        async with running(spool, link) as box:
            assert await box.uplink.wait_healthy(60)
            proxy.mode = mode
            await spool.append(frames(50))
            await until(lambda: not box.uplink.connected)
            proxy.mode = Mode.PASS
            await until(lambda: not box.owed)
            assert peer.changed == 0
            assert box.uplink.all_counters()["taken_over"] == 0


async def test_idle_half_open_link_is_noticed_by_keepalive(tmp_path, shared):
    async with (
        opened_spool(tmp_path) as spool,
        start_proxy(shared.port) as proxy,
        running(spool, link_to(shared, proxy.port, keepalive_s=1)) as box,
    ):
        assert await box.uplink.wait_healthy(60)
        await asyncio.sleep(0.3)
        proxy.mode = Mode.HALF_OPEN
        await until(lambda: not box.uplink.connected)


async def test_stop_is_quick_while_the_link_is_dead(tmp_path, shared):
    async with opened_spool(tmp_path, 5000) as spool, start_proxy(shared.port) as proxy:
        for mode in (Mode.STALL, Mode.HALF_OPEN, Mode.CUT):
            async with asyncio.timeout(60):
                async with running(spool, link_to(shared, proxy.port)) as box:
                    await box.uplink.wait_healthy(60)
                    proxy.mode = mode
                    await asyncio.sleep(0.3)
                proxy.mode = Mode.PASS
        await until(lambda: not [t for t in asyncio.all_tasks() if "_misc_loop" in repr(t)])


@pytest.mark.parametrize("start", [start_mosquitto, start_amqtt], ids=["mosquitto", "amqtt"])
async def test_broker_killed_and_started_again(tmp_path, start):
    async with start(tmp_path, users=USERS) as broker, opened_spool(tmp_path) as spool, running(spool, link_to(broker)) as box:
        for turn in range(2):
            async with start_peer(broker) as peer:
                await spool.append(frames(200, turn))
                await until(lambda: not box.owed)
                assert set(range(turn * 250 + 1, turn * 250 + 201)) <= set(peer.got(spool.epoch))
                await broker.kill()
            await until(lambda: not box.uplink.connected)
            await spool.append(frames(50, turn + 10))
            await broker.start()
            assert await box.uplink.wait_healthy(60), "back within the cap of the delays"
        async with start_peer(broker) as peer:
            await until(lambda: not box.owed)
        assert not box.uplink._reconnect.contested


async def test_wrong_password_names_the_credential_and_is_tried_slowly(tmp_path, shared, caplog):
    caplog.set_level(logging.ERROR)
    async with opened_spool(tmp_path, 5) as spool, running(spool, replace(link_to(shared), password="guess-1234")) as box:
        await until(lambda: box.uplink.last_error)
        await asyncio.sleep(1.5)
        assert box.uplink.counters["link_failures"] == 1
        assert not await box.uplink.wait_healthy(0.1)
        assert box.owed == 5
    assert "gym/box1" in caplog.text
    assert "cure:" in caplog.text
    assert "guess-1234" not in caplog.text


async def test_no_broker_is_one_error_not_one_a_try(tmp_path, shared, caplog):
    caplog.set_level(logging.ERROR)
    async with opened_spool(tmp_path) as spool, start_proxy(shared.port) as proxy:
        proxy.mode = Mode.CUT
        async with running(spool, link_to(shared, proxy.port)) as box:
            await until(lambda: box.uplink.counters["link_failures"] >= 5)
        told = [record.getMessage() for record in caplog.records if record.name == "gateway.uplink"]
        assert told
        assert len(told) == len(set(told))


@pytest.mark.filterwarnings(
    "ignore::ResourceWarning", "ignore::pytest.PytestUnraisableExceptionWarning"
)  # paho drops a socket that fails its handshake
async def test_tls_link_checks_the_broker_and_says_what_is_wrong(tmp_path, caplog):
    async with (
        start_mosquitto(tmp_path, users=USERS, tls=True) as broker,
        start_tls_peer(broker) as peer,
        opened_spool(tmp_path, 100) as spool,
    ):
        async with running(spool, link_to(broker, tls=True, ca_file=broker.cafile)) as box:
            await until(lambda: not box.owed)
        assert len(peer.got(spool.epoch)) == 100
        stranger = make_certificates(tmp_path / "other")
        async with running(spool, link_to(broker, tls=True, ca_file=stranger.cafile)) as box:
            await until(lambda: box.uplink.last_error)
            assert "TLS failed" in box.uplink.last_error.message
            assert "ca_file" in box.uplink.last_error.cure
    caplog.clear()
    box = None  # its last error holds the frames that hold the socket
    gc.collect()


@asynccontextmanager
async def start_tls_peer(broker):
    plain = aiomqtt.Client

    def client(host, port, **options):
        return plain(host, port, tls_context=broker.tls_context(), **options)

    aiomqtt.Client = client
    try:
        async with start_peer(broker) as peer:
            aiomqtt.Client = plain
            yield peer
    finally:
        aiomqtt.Client = plain


def test_missing_tls_file_is_a_configuration_error(tmp_path):
    with pytest.raises(ConfigError, match="ca_file"):
        tls_context(LinkSettings("localhost", 8883, BOX, "x", tls=True, ca_file=tmp_path / "none.pem"))


async def test_second_box_with_our_credential_is_reported_and_nothing_is_lost(tmp_path, shared, caplog):
    (tmp_path / "a").mkdir()
    (tmp_path / "b").mkdir()
    async with start_peer(shared) as peer, opened_spool(tmp_path / "a") as one, opened_spool(tmp_path / "b") as two:
        slow = ReconnectSettings(cap_s=0.6, slow_s=3.0)
        async with running(one, link_to(shared), reconnect=slow) as first, running(two, link_to(shared), reconnect=slow) as second:
            await until(lambda: any(box.uplink._reconnect.contested for box in (first, second)))
            assert first.uplink.all_counters()["taken_over"] + second.uplink.all_counters()["taken_over"] >= 4
            await until(lambda: "another client uses the credential 'gym/box1'" in caplog.text)
            await one.append(frames(200, 1))
            await two.append(frames(200, 2))
            await until(lambda: not first.owed and not second.owed)
        assert len(peer.got(one.epoch)) == 200
        assert len(peer.got(two.epoch)) == 200
        assert peer.changed == 0
        assert json.dumps(peer.states[BOX]["counters"]["taken_over"])
