"""Who may do what on a real broker, case by case, with `broker/topics.py` as the oracle.

Every principal publishes (plain and retained), leaves a will, subscribes and receives on every topic and filter of the matrix; what an observer
saw must be exactly what the oracle allows. On mosquitto the observer may read everything, on the embedded broker all of `pl/1`.
"""

from __future__ import annotations

import itertools
import time
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

import pytest

from broker.credentials import hash_secret, new_secret
from broker.topics import LEAVES, ROOT, Principal, may_publish, may_receive, may_subscribe, parse_topic, parse_username
from tests.contract.broker_kinds import KINDS, Bench, running
from tests.mqtt_client import ConnectRefusedError, PahoClient, Will

NODES = ("gyma/box1", "gyma/box2", "gymb/box1")
ACTORS = (*NODES, "platform/ingest", "platform/control")
OBSERVER = "platform/observer"
DENIED = f"topic deny {ROOT}/platform/#\ntopic deny {ROOT}/+/upload/#\n"  # what platform users of mosquitto may not even read
ODD_TOPICS = (
    "elsewhere",
    "pl/1",
    f"{ROOT}/gyma/box1",
    f"{ROOT}/gyma/box1/other",
    f"{ROOT}/gyma/box1/up/extra",
    f"{ROOT}/gyma/up",
    f"{ROOT}/platform/ingest/up",
    f"{ROOT}/platform/ingest/cfg",
    f"{ROOT}/gyma/upload/up",
    f"{ROOT}/gyma/upload/cfg",
    "pl/2/gyma/box1/up",
    "$SYS/broker/uptime",
    f"/{ROOT}/gyma/box1/up",
)
TOPICS = (*(f"{ROOT}/{node}/{leaf}" for node in (*NODES, "gymc/box9") for leaf in LEAVES), *ODD_TOPICS)
FILTERS = (
    *(f"{ROOT}/{node}/{leaf}" for node in NODES for leaf in LEAVES),
    *(f"{ROOT}/+/+/{leaf}" for leaf in LEAVES),
    *(f"{ROOT}/{node}/#" for node in NODES),
    *(
        "#",
        "+/#",
        "pl/#",
        f"{ROOT}/#",
        f"{ROOT}/+/#",
        f"{ROOT}/gyma/+/up",
        f"{ROOT}/+/box1/cfg",
        f"{ROOT}/gyma/#",
        f"{ROOT}/gyma/upload/up",
        "+/+/+/+/up",
        "$SYS/#",
        "elsewhere",
    ),
)


@dataclass(frozen=True, slots=True)
class Case:
    who: Principal
    topic: str

    @property
    def payload(self) -> bytes:
        return f"{self.who.username}>{self.topic}".encode()


CASES = tuple(Case(who, topic) for who in map(parse_username, ACTORS) if who for topic in TOPICS)


@pytest.fixture(scope="module", params=KINDS)
def bench(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Bench]:
    with running(request.param, tmp_path_factory.mktemp("matrix"), users=(*ACTORS, OBSERVER)) as made:
        if made.holds_by_silence:
            acl = made.served.password_file.parent / "acl"
            text = acl.read_text().replace(f"user {OBSERVER}\n", f"user {OBSERVER}\ntopic read #\n")
            acl.write_text(text.replace(f"topic read #\n{DENIED}", "topic read #\n"))
            made.reload()
        yield made


def observable(bench: Bench, topic: str) -> bool:
    return (bench.holds_by_silence and not topic.startswith("$")) or parse_topic(topic) is not None


def allowed(bench: Bench) -> set[bytes]:
    return {case.payload for case in CASES if may_publish(case.who, case.topic) and observable(bench, case.topic)}


def observer(bench: Bench) -> PahoClient:
    """Sees all there is to see."""
    client = PahoClient(bench.served, OBSERVER).connect()
    assert client.subscribe("#" if bench.holds_by_silence else f"{ROOT}/+/+/#") == 1
    return client


def settle(client: PahoClient, expected: Iterable[bytes]) -> set[bytes]:
    """The payloads once all of these came and nothing more follows."""
    for payload in expected:
        client.wait_payload(payload)
    time.sleep(0.4)
    return {message.payload for message in client.messages if message.payload}


def test_the_matrix_holds_cases_of_both_kinds() -> None:
    permitted = [case for case in CASES if may_publish(case.who, case.topic)]
    assert len(CASES) >= 200
    assert 40 <= len(permitted) <= len(CASES) - 100


@pytest.mark.parametrize("retain", [False, True])
def test_published_is_exactly_what_the_oracle_allows(bench: Bench, retain: bool) -> None:
    expected = allowed(bench)
    with observer(bench) as watcher:
        for who, cases in itertools.groupby(CASES, key=lambda case: case.who):
            with PahoClient(bench.served, who.username) as actor:
                actor.publish_all([(case.topic, case.payload) for case in cases], retain=retain)
                assert actor.stays_connected(0.05)
        assert settle(watcher, expected) == expected
    with observer(bench) as later:
        last = {case.topic: case.payload for case in CASES if case.payload in expected} if retain else {}
        assert settle(later, last.values()) == set(last.values())


def test_wills_are_exactly_what_the_oracle_allows(bench: Bench) -> None:
    wills = [case for case in CASES if case.topic in ODD_TOPICS or case.topic.startswith((f"{ROOT}/gyma/box1/", f"{ROOT}/gymb/box1/s"))]
    expected = {case.payload for case in wills if may_publish(case.who, case.topic) and observable(bench, case.topic)}
    with observer(bench) as watcher:
        for case in wills:
            try:
                PahoClient(bench.served, case.who.username, will=Will(case.topic, b"will " + case.payload)).connect().die()
            except ConnectRefusedError:
                assert not bench.holds_by_silence
                assert not may_publish(case.who, case.topic)
        for payload in expected:
            watcher.wait_payload(b"will " + payload)
        time.sleep(0.4)
        assert {m.payload[5:] for m in watcher.messages if m.payload.startswith(b"will ")} == expected


def test_subscriptions_are_granted_by_the_oracle_or_silent(bench: Bench) -> None:
    for name in ACTORS:
        who = parse_username(name)
        assert who is not None
        with PahoClient(bench.served, name) as actor:
            for pattern in FILTERS:
                granted = actor.subscribe(pattern) != 128
                assert granted == (bench.holds_by_silence or may_subscribe(who, pattern)), (name, pattern)


def test_received_is_exactly_what_the_oracle_allows(bench: Bench) -> None:
    """All principals listen on all filters at once while everybody publishes everything."""
    listeners: dict[str, PahoClient] = {}
    expected: dict[str, set[bytes]] = {}
    for name in ("gyma/box2", "gymb/box1", "platform/ingest"):
        listeners[name] = PahoClient(bench.served, name).connect()
        for pattern in FILTERS:
            listeners[name].subscribe(pattern)
        who = parse_username(name)
        assert who is not None
        listeners[name].stays_connected(0.2)
        listeners[name].messages.clear()
        expected[name] = {b"live " + case.payload for case in CASES if may_publish(case.who, case.topic) and may_receive(who, case.topic)}
        if not who.is_platform:  # the filters of a node cover only its own topics
            assert expected[name] == {
                b"live " + c.payload
                for c in CASES
                if c.topic.startswith(f"{ROOT}/{name}/") and may_publish(c.who, c.topic) and c.who.is_platform
            }
    for name in ("gyma/box1", "platform/control"):
        with PahoClient(bench.served, name) as actor:
            actor.publish_all([(case.topic, b"live " + case.payload) for case in CASES if case.who.username == name])
    for name in ("gyma/box2", "gymb/box1", "platform/ingest"):
        own = [(case.topic, b"live " + case.payload) for case in CASES if case.who.username == name]
        listeners[name].publish_all(own)
    for name, client in listeners.items():
        wanted = expected[name]
        deadline = time.monotonic() + 60
        while not wanted <= {m.payload for m in client.messages} and time.monotonic() < deadline:
            time.sleep(0.02)
    time.sleep(0.3)
    for name, client in listeners.items():
        assert {m.payload for m in client.messages if m.payload.startswith(b"live ")} == expected[name], name
        client.close()


def test_a_credential_named_as_the_node_of_uploads_gets_nothing_through(bench: Bench) -> None:
    """Written into the password file by hand: the embedded broker refuses the file, mosquitto's ACL every topic of that node."""
    path = bench.served.password_file
    before, secret = path.read_text(), new_secret()
    path.write_text(f"{before}gyma/upload:{hash_secret(secret).encode()}\n")
    try:
        if not bench.holds_by_silence:
            with pytest.raises(ConnectRefusedError):
                PahoClient(bench.served, "gyma/upload", secret=secret).connect()
            return
        bench.reload()
        with observer(bench) as watcher, PahoClient(bench.served, "gyma/upload", secret=secret) as actor:
            actor.publish_all([(f"{ROOT}/gyma/upload/{leaf}", b"from upload") for leaf in LEAVES])
            with PahoClient(bench.served, "gyma/box1") as neighbour:
                neighbour.publish_all([(f"{ROOT}/gyma/box1/up", b"from box1")])
            assert b"from upload" not in settle(watcher, [b"from box1"])
    finally:
        path.write_text(before)
        if bench.holds_by_silence:
            bench.reload()
