"""What every broker of Paceline holds, embedded or mosquitto, plain or TLS; paho is the client, so nothing of ours answers for ours."""

from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from broker.topics import LEAVES, NODE_READS
from tests.contract.broker_kinds import KINDS, Bench, running, topic
from tests.mqtt_client import ConnectRefusedError, PahoClient, Will

SILENCE_S = 0.3  # long enough for a message that would come to come


@pytest.fixture(scope="module", params=KINDS)
def bench(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Bench]:
    folder: Path = tmp_path_factory.mktemp("broker")
    with running(request.param, folder) as made:
        yield made


def ingest(bench: Bench, node: str, leaf: str = "up") -> PahoClient:
    """The platform side, reading one leaf of one node."""
    client = PahoClient(bench.served, "platform/ingest").connect()
    assert client.subscribe(topic(node, leaf)) == 1
    return client


# --- who gets in ---------------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("case", ["anonymous", "no_secret", "wrong_secret", "unknown_user", "secret_of_another", "not_a_principal"])
def test_connect_is_refused(bench: Bench, case: str) -> None:
    one, two = bench.pair()
    served = bench.served
    client = {
        "anonymous": lambda: PahoClient(served, None, client_id=one),
        "no_secret": lambda: PahoClient(served, one, secret=""),
        "wrong_secret": lambda: PahoClient(served, one, secret=served.password(one)[:-1] + "!"),
        "unknown_user": lambda: PahoClient(served, "nobody/here", secret="x"),
        "secret_of_another": lambda: PahoClient(served, one, secret=served.password(two)),
        "not_a_principal": lambda: PahoClient(served, "+/#", secret="x"),
    }[case]()
    with pytest.raises(ConnectRefusedError) as caught:
        client.connect()
    assert caught.value.code in {"Not authorized", "Bad user name or password"}


def test_right_secret_connects(bench: Bench) -> None:
    with PahoClient(bench.served, bench.node()) as client:
        assert client.stays_connected(0.1)
        assert not client.session_present


# --- messages ------------------------------------------------------------------------------------------------------------------------


def test_qos1_both_ways(bench: Bench) -> None:
    node = bench.node()
    with ingest(bench, node) as platform, PahoClient(bench.served, node) as box:
        assert box.subscribe(topic(node, "ack")) == 1
        for i in range(12):
            box.publish(topic(node, "up"), b"%d" % i)
            platform.publish(topic(node, "ack"), b"%d" % i)
        assert [m.payload for m in platform.wait_messages(12)] == [b"%d" % i for i in range(12)]
        assert [m.payload for m in box.wait_messages(12)] == [b"%d" % i for i in range(12)]
        assert {m.qos for m in box.messages} == {1}


def test_qos_is_the_lower_of_publisher_and_subscriber(bench: Bench) -> None:
    node = bench.node()
    with ingest(bench, node) as platform, PahoClient(bench.served, node) as box:
        box.publish(topic(node, "up"), b"0", qos=0)
        box.publish(topic(node, "up"), b"1", qos=1)
        assert {m.payload: m.qos for m in platform.wait_messages(2)} == {b"0": 0, b"1": 1}


def test_binary_payload_of_a_full_bundle_arrives_unchanged(bench: Bench) -> None:
    node = bench.node()
    payload = bytes(range(256)) * 256
    with ingest(bench, node) as platform, PahoClient(bench.served, node) as box:
        box.publish(topic(node, "up"), payload)
        assert platform.wait_messages(1)[0].payload == payload


def test_acknowledged_messages_are_delivered_although_the_publisher_leaves_at_once(bench: Bench) -> None:
    node = bench.node()
    with ingest(bench, node) as platform:
        for _ in range(3):
            with PahoClient(bench.served, node) as box:
                box.publish_all([(topic(node, "up"), b"x")] * 300)
        assert len(platform.wait_messages(900)) == 900


def test_persistent_session_keeps_1000_messages(bench: Bench) -> None:
    node = bench.node()
    with PahoClient(bench.served, node, clean=False) as box:
        assert box.subscribe(topic(node, "cmd")) == 1
    with PahoClient(bench.served, "platform/control") as platform:
        platform.publish_all([(topic(node, "cmd"), b"%d" % i) for i in range(1000)])
    with PahoClient(bench.served, node, clean=False) as box:
        assert box.session_present
        got = [int(m.payload) for m in box.wait_messages(1000)]
        time.sleep(SILENCE_S)
        assert sorted(got) == list(range(1000))
        assert len(box.messages) == 1000
    with PahoClient(bench.served, node, clean=False) as box:
        time.sleep(SILENCE_S)
        assert box.messages == []


def test_persistent_session_survives_deaths_of_the_client(bench: Bench) -> None:
    """Messages not acknowledged when the client died come again: all arrive at least once."""
    node = bench.node()
    with PahoClient(bench.served, node, clean=False) as box:
        box.subscribe(topic(node, "cmd"))
    with PahoClient(bench.served, "platform/control") as platform:
        platform.publish_all([(topic(node, "cmd"), b"%d" % i) for i in range(600)])
    seen: set[int] = set()
    for wanted in (1, 150, 600):
        box = PahoClient(bench.served, node, clean=False).connect()
        deadline = time.monotonic() + 60
        while len(seen | {int(m.payload) for m in box.messages}) < wanted and time.monotonic() < deadline:
            time.sleep(0.005)
        box.die()
        seen |= {int(m.payload) for m in box.messages}
    assert sorted(set(range(600)) - seen) == [], len(box.messages)


def test_clean_session_forgets(bench: Bench) -> None:
    node = bench.node()
    with PahoClient(bench.served, node, clean=True) as box:
        box.subscribe(topic(node, "cmd"))
    with PahoClient(bench.served, "platform/control") as platform:
        platform.publish(topic(node, "cmd"), b"lost")
        with PahoClient(bench.served, node, clean=False) as box:
            assert not box.session_present
            platform.publish(topic(node, "cmd"), b"also lost")
            time.sleep(SILENCE_S)
            assert box.messages == []


def test_retained_configuration_reaches_whoever_subscribes_later(bench: Bench) -> None:
    node = bench.node()
    with PahoClient(bench.served, "platform/control") as platform:
        platform.publish(topic(node, "cfg"), b"v1", retain=True)
        platform.publish(topic(node, "cfg"), b"v2", retain=True)
        with PahoClient(bench.served, node) as box:
            box.subscribe(topic(node, "cfg"))
            first = box.wait_messages(1)[0]
            assert (first.payload, first.retain) == (b"v2", True)
            platform.publish(topic(node, "cfg"), b"v3", retain=True)
            second = box.wait_messages(2)[1]
            assert (second.payload, second.retain) == (b"v3", False)
        platform.publish(topic(node, "cfg"), b"", retain=True)
    with PahoClient(bench.served, node) as box:
        box.subscribe(topic(node, "cfg"))
        time.sleep(SILENCE_S)
        assert box.messages == []


def test_connecting_brings_no_retained_message_nobody_asked_for(bench: Bench) -> None:
    one, two = bench.pair()
    with PahoClient(bench.served, "platform/control") as platform, PahoClient(bench.served, one) as box:
        platform.publish(topic(one, "cfg"), b"for one", retain=True)
        box.subscribe(topic(one, "cfg"))
        box.wait_messages(1)
        with PahoClient(bench.served, two) as other:
            time.sleep(SILENCE_S)
            assert other.messages == []


# --- wills ---------------------------------------------------------------------------------------------------------------------------


def test_will_is_published_when_the_client_dies(bench: Bench) -> None:
    node = bench.node()
    with ingest(bench, node, "state") as platform:
        PahoClient(bench.served, node, will=Will(topic(node, "state"), b"gone", retain=True)).connect().die()
        assert platform.wait_messages(1)[0].payload == b"gone"
    with PahoClient(bench.served, "platform/second") as later:
        later.subscribe(topic(node, "state"))
        assert later.wait_messages(1)[0].retain


def test_no_will_after_a_clean_disconnect(bench: Bench) -> None:
    node = bench.node()
    with ingest(bench, node, "state") as platform:
        PahoClient(bench.served, node, will=Will(topic(node, "state"))).connect().close()
        time.sleep(SILENCE_S)
        assert platform.messages == []


def test_will_of_a_resumed_session_is_the_new_one(bench: Bench) -> None:
    node = bench.node()
    PahoClient(bench.served, node, clean=False).connect().close()
    PahoClient(bench.served, node, clean=False, will=Will(topic(node, "state"), b"new", retain=True)).connect().die()
    with PahoClient(bench.served, "platform/ingest") as platform:
        platform.subscribe(topic(node, "state"))
        kept = platform.wait_messages(1)[0]
        assert (kept.payload, kept.retain) == (b"new", True)


def test_will_to_a_foreign_topic_is_never_published(bench: Bench) -> None:
    one, two = bench.pair()
    with ingest(bench, two, "state") as platform:
        thief = PahoClient(bench.served, one, will=Will(topic(two, "state"), b"false", retain=True))
        try:
            thief.connect().die()
        except ConnectRefusedError:
            assert bench.served.kind == "amqtt"  # mosquitto lets it in and drops the will
        time.sleep(SILENCE_S)
        assert platform.messages == []
    with ingest(bench, two, "state") as later:
        time.sleep(SILENCE_S)
        assert later.messages == []


def test_will_when_the_link_goes_silent(bench: Bench) -> None:
    """A half-open link: no packet for one and a half keepalives ends the connection and publishes the will."""
    node = bench.node()
    with ingest(bench, node, "state") as platform:
        box = PahoClient(bench.served, node, will=Will(topic(node, "state"), b"silent"), keepalive_s=2).connect()
        box._paho.loop_stop()  # the socket stays open, but nobody answers
        assert platform.wait_messages(1)[0].payload == b"silent"
        box._end()


# --- refusals ------------------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("retain", [False, True])
def test_publish_to_another_node_is_refused(bench: Bench, retain: bool) -> None:
    one, two = bench.pair()
    with (
        PahoClient(bench.served, one) as box,
        PahoClient(bench.served, two) as victim,
        PahoClient(bench.served, "platform/ingest") as platform,
    ):
        for leaf in NODE_READS:
            assert victim.subscribe(topic(two, leaf)) == 1
        assert platform.subscribe(topic(two, "#")) == 1
        for leaf in LEAVES:
            box.publish(topic(two, leaf), b"false", retain=retain)
        time.sleep(SILENCE_S)
        assert victim.messages == []
        assert platform.messages == []
        assert box.stays_connected(0.05)
    with PahoClient(bench.served, "platform/ingest") as later:
        later.subscribe(topic(two, "#"))
        time.sleep(SILENCE_S)
        assert later.messages == []


def test_foreign_subscription_brings_nothing(bench: Bench) -> None:
    one, two = bench.pair()
    tenant = one.split("/")[0]
    patterns = [
        "#",
        "+/#",
        "pl/#",
        "pl/1/+/+/up",
        f"pl/1/{tenant}/+/cfg",
        f"pl/1/{two}/cfg",
        f"pl/1/{two}/#",
        "$SYS/#",
        f"pl/1/{one}/#",
        f"pl/1/{one}/up",
    ]
    with (
        PahoClient(bench.served, one) as thief,
        PahoClient(bench.served, two) as box,
        PahoClient(bench.served, "platform/control") as platform,
    ):
        assert {thief.subscribe(pattern) for pattern in patterns} == {1 if bench.holds_by_silence else 128}
        box.publish(topic(two, "up"), b"secret")
        platform.publish(topic(two, "cfg"), b"secret")
        platform.publish(topic(two, "cmd"), b"secret", retain=True)
        time.sleep(SILENCE_S)
        assert thief.messages == []
        platform.publish(topic(two, "cmd"), b"", retain=True)


def test_publish_outside_our_topics_is_dropped_and_the_session_lives(bench: Bench) -> None:
    node = bench.node()
    with ingest(bench, node) as platform, PahoClient(bench.served, node) as box:
        for name in (
            "$SYS/broker/version",
            "elsewhere",
            "pl/1",
            f"pl/1/{node}",
            f"pl/1/{node}/other",
            f"pl/2/{node}/up",
            f"pl/1/{node}/up/json/x",
        ):
            box.publish(name, b"x")
        box.publish(topic(node, "up"), b"after")
        assert platform.wait_messages(1)[0].payload == b"after"


@pytest.mark.parametrize("size", [128 * 1024 + 1, 1 << 20])
def test_oversize_packet_ends_the_connection_and_nothing_else(bench: Bench, size: int) -> None:
    one, two = bench.pair()
    with ingest(bench, one) as platform, PahoClient(bench.served, two) as other:
        platform.subscribe(topic(two, "up"))
        box = PahoClient(bench.served, one).connect()
        box.publish_nowait(topic(one, "up"), bytes(size))
        assert box.wait_disconnected()
        box.close()
        other.publish(topic(two, "up"), b"fine")
        assert [m.payload for m in platform.wait_messages(1)] == [b"fine"]
        with PahoClient(bench.served, one) as again:
            again.publish(topic(one, "up"), b"small")
            platform.wait_payload(b"small")


# --- one client id, two connections --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("clean", [True, False])
def test_stolen_client_id_neither_ends_nor_reads_the_rightful_session(bench: Bench, clean: bool) -> None:
    one, two = bench.pair()
    with PahoClient(bench.served, one, clean=False) as box, PahoClient(bench.served, "platform/control") as platform:
        box.subscribe(topic(one, "cmd"))
        for credential in ({"user": two}, {"user": one, "secret": "guess"}, {"user": None}):
            thief = PahoClient(bench.served, client_id=one, clean=clean, **credential)
            try:
                thief.connect()
            except ConnectRefusedError:
                pass
            else:
                assert bench.holds_by_silence  # mosquitto ignores the given id and uses the user name
                assert not thief.session_present
            assert box.stays_connected(0.1)
            platform.publish(topic(one, "cmd"), b"for the box")
            time.sleep(0.2)
            assert thief.messages == []
            thief.close()
        assert [m.payload for m in box.wait_messages(3)] == [b"for the box"] * 3
        box.publish(topic(one, "up"), b"alive")


@pytest.mark.parametrize("clean", [True, False])
def test_second_connection_of_a_credential_takes_the_session_over(bench: Bench, clean: bool) -> None:
    """The stated outcome for two gateways with one credential: the older is cut and can see it, its will is sent, the newer serves."""
    node = bench.node()
    with ingest(bench, node) as platform, PahoClient(bench.served, "platform/control") as control:
        older = PahoClient(bench.served, node, clean=clean).connect()
        older.subscribe(topic(node, "cmd"))
        with PahoClient(bench.served, node, clean=clean) as newer:
            assert older.wait_disconnected()
            assert newer.session_present is not clean
            newer.subscribe(topic(node, "cmd"))
            newer.publish(topic(node, "up"), b"newer")
            control.publish(topic(node, "cmd"), b"go")
            platform.wait_payload(b"newer")
            newer.wait_payload(b"go")
            assert older.messages == []
        older.close()


def test_many_reconnects_at_once_leave_one_session(bench: Bench) -> None:
    node = bench.node()
    clients = [PahoClient(bench.served, node, clean=False).connect() for _ in range(20)]
    assert all(client.wait_disconnected() for client in clients[:-1])
    assert clients[-1].stays_connected(0.3)
    clients[-1].subscribe(topic(node, "cmd"))
    with PahoClient(bench.served, "platform/control") as platform:
        platform.publish(topic(node, "cmd"), b"once")
    clients[-1].wait_messages(1)
    assert sum(len(client.messages) for client in clients) == 1
    for client in clients:
        client.close()
