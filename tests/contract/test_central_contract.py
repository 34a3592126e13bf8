"""What Paceline needs of a central broker that knows its clients by certificates. Runs over our mosquitto, each night over a second one (mochi),
or over any other broker:

    PACELINE_TEST_BROKER=emqx.example:8883 PACELINE_TEST_AUTHORITY=DATA/secrets/authority pytest tests/contract/test_central_contract.py

That broker must trust the roots of that authority, follow its list of the revoked, and hold the rights of docs/brokers.md for tenant `contract`
and for `platform/ingest`, `platform/control`, `platform/ingest-1` and `platform/ingest-2`.
"""

from __future__ import annotations

import asyncio
import os
import secrets
import socket
import ssl
import time
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Self

import pytest

from broker import mqtt_codec as mqtt
from paceline.ca_authority import Authority
from paceline.ca_revocation import BrokerPlace, knock, knock_with, revoke_everywhere
from tests.identity_site import IdentitySite, certified
from tests.mochi_broker import start_mochi
from tests.mqtt_client import PahoClient, Will
from tests.servers import ServedBroker

TENANT = "contract"
SILENCE_S = 0.3  # long enough for a message that would come to come
WAIT_S = 60.0


@dataclass(frozen=True, slots=True)
class Central:
    """A broker and the authority it trusts."""

    authority: Authority
    place: BrokerPlace
    folder: Path

    def client(self, name: str, *, claims: str | None = None, clean: bool = True, will: Will | None = None) -> PahoClient:
        """Who shows the certificate of `name`; `claims` is the user name and client id it gives."""
        broker = ServedBroker("central", lambda _port: (), {}, Path(), Path(), self.place.port, self.place.host)
        identity = claims or name
        return PahoClient(broker, identity, secret="", context=self.shown(name), clean=clean, will=will)

    def shown(self, name: str) -> ssl.SSLContext:
        return certified(self.authority, name, self.folder)


def given() -> tuple[str, int, Path] | None:
    """The broker that the environment names."""
    host, _, port = os.environ.get("PACELINE_TEST_BROKER", "").rpartition(":")
    return (host, int(port), Path(os.environ["PACELINE_TEST_AUTHORITY"])) if host else None


KINDS = ["given"] if given() else ["mosquitto", pytest.param("mochi", marks=pytest.mark.nightly)]


@pytest.fixture(scope="module", params=KINDS)
def central(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Central]:
    folder = tmp_path_factory.mktemp("central")
    if (named := given()) is not None:
        with Authority.open(named[2]) as authority:
            yield Central(authority, BrokerPlace(*named[:2]), folder)
        return
    if request.param == "mochi":
        with Authority.open(folder / "authority") as authority, asyncio.Runner() as runner:
            broker = start_mochi(authority, folder, ("ingest", "control", "ingest-1", "ingest-2"))
            try:
                yield Central(authority, runner.run(broker.__aenter__()), folder)
            finally:
                runner.run(broker.__aexit__(None, None, None))
        return
    with asyncio.Runner() as runner:
        site = IdentitySite(folder, central={"platform": ["ingest-1", "ingest-2"]})
        runner.run(site.__aenter__())
        try:
            yield Central(site.authority, BrokerPlace(site.broker.host, site.broker.port), folder)
        finally:
            runner.run(site.__aexit__())


@pytest.fixture
def node() -> str:
    """A node no other test has."""
    return f"{TENANT}/n{secrets.token_hex(6)}"


def topic(node: str, leaf: str) -> str:
    return f"pl/1/{node}/{leaf}"


# -- who gets in


def test_without_a_certificate_nobody_gets_in(central: Central) -> None:
    assert not knock_with(central.place, ssl.create_default_context(cadata=central.authority.roots()))


def test_a_certificate_of_another_authority_does_not_get_in(central: Central, node: str, tmp_path: Path) -> None:
    with Authority.open(tmp_path / "other") as other:
        other.keep_client(tmp_path / "foreign.pem", node)
    assert not knock(central.place, central.authority.roots(), (tmp_path / "foreign.pem").read_bytes())


def test_the_certificate_decides_whatever_a_client_calls_itself(central: Central, node: str) -> None:
    other = f"{node}x"
    with central.client("platform/ingest") as platform, central.client(node, claims=other) as box:
        platform.subscribe(f"pl/1/{TENANT}/+/up")
        for _ in range(2):
            box.publish_nowait(topic(other, "up"), b"not mine", qos=0)
        box.publish(topic(node, "up"), b"mine")
        assert [(m.topic, m.payload) for m in platform.wait_messages(1)] == [(topic(node, "up"), b"mine")]


def test_a_node_hears_its_own_leaves_only(central: Central, node: str) -> None:
    other = f"{node}x"
    with central.client("platform/control") as platform, central.client(node) as box:
        for name in (topic(node, "ack"), topic(other, "ack"), f"pl/1/{TENANT}/+/ack", "#"):
            box.subscribe(name)
        platform.publish(topic(other, "ack"), b"not mine")
        platform.publish(topic(node, "ack"), b"mine")
        box.wait_messages(1)
        time.sleep(SILENCE_S)
        assert {m.payload for m in box.messages} == {b"mine"}


def test_a_second_connection_of_a_node_ends_the_first(central: Central, node: str) -> None:
    with central.client(node) as first, central.client(node) as second:
        assert first.wait_disconnected()
        assert second.stays_connected(0.1)


def test_a_revoked_node_is_put_out_and_stays_out(central: Central, node: str) -> None:
    box = central.client(node).connect()
    assert revoke_everywhere(central.authority, node, central.place) < 60
    assert box.wait_disconnected()
    box.close()
    assert not knock(central.place, central.authority.roots(), (central.folder / f"{node.replace('/', '_')}.pem").read_bytes())


# -- messages


def test_a_full_bundle_arrives_unchanged(central: Central, node: str) -> None:
    payload = bytes(range(256)) * 256
    with central.client("platform/ingest") as platform, central.client(node) as box:
        platform.subscribe(topic(node, "up"))
        box.publish(topic(node, "up"), payload)
        assert platform.wait_messages(1)[0].payload == payload


def test_the_will_of_a_node_that_dies_is_sent(central: Central, node: str) -> None:
    with central.client("platform/control") as platform:
        platform.subscribe(topic(node, "state"))
        central.client(node, will=Will(topic(node, "state"), b"gone")).connect().die()
        assert platform.wait_messages(1)[0].payload == b"gone"


def test_a_retained_configuration_waits_for_its_node(central: Central, node: str) -> None:
    with central.client("platform/control") as platform:
        platform.publish(topic(node, "cfg"), b"v1", retain=True)
        with central.client(node) as box:
            box.subscribe(topic(node, "cfg"))
            assert box.wait_messages(1)[0].payload == b"v1"
        platform.publish(topic(node, "cfg"), b"", retain=True)


def test_a_thousand_messages_are_in_flight_before_the_first_acknowledgement(central: Central, node: str) -> None:
    """Ingest acknowledges after a durable append: a window of 20 would be its speed."""
    count = 1_000
    with Silent(central, "platform/ingest-1", topic(node, "up")) as silent, central.client(node) as box:
        box.publish_all([(topic(node, "up"), b"%d" % i) for i in range(count)])
        assert silent.read(count) == [b"%d" % i for i in range(count)]


def test_a_queue_is_not_cut_short_in_silence(central: Central, node: str) -> None:
    count = 5_000
    with Silent(central, "platform/ingest-2", topic(node, "up")) as silent, central.client(node) as box:
        box.publish_all([(topic(node, "up"), b"%d" % i) for i in range(count)])
        assert silent.read(count, acknowledge=True) == [b"%d" % i for i in range(count)]


def test_shared_subscribers_get_each_message_once_between_them(central: Central, node: str) -> None:
    pattern = f"$share/contract/{topic(node, 'up')}"
    with central.client("platform/ingest-1") as one, central.client(node) as box:
        one.subscribe(pattern)
        with central.client("platform/ingest-2") as two:
            two.subscribe(pattern)
            box.publish_all([(topic(node, "up"), b"%d" % i) for i in range(200)])
            deadline = time.monotonic() + WAIT_S
            while len(one.messages) + len(two.messages) < 200 and time.monotonic() < deadline:
                time.sleep(0.01)
            time.sleep(SILENCE_S)
            assert Counter(m.payload for m in [*one.messages, *two.messages]) == Counter(b"%d" % i for i in range(200))
            assert one.messages
            assert two.messages
        before = len(one.messages)
        box.publish_all([(topic(node, "up"), b"more %d" % i) for i in range(50)])
        one.wait_messages(before + 50)


class Silent:
    """A subscriber on a plain loop that acknowledges nothing unless asked to."""

    def __init__(self, central: Central, name: str, pattern: str) -> None:
        place = central.place
        plain = socket.create_connection((place.host, place.port), timeout=WAIT_S)
        self._link = central.shown(name).wrap_socket(plain, server_hostname=place.host)
        self._parser = mqtt.PacketParser()
        self._link.sendall(mqtt.encode_connect(name, name, "", clean=True, keepalive=60))
        self._link.sendall(mqtt.encode_subscribe(1, [(pattern, 1)]))
        self._others: list[object] = []
        while not any(isinstance(event, mqtt.Suback) for event in self._others):
            self._others += self._parser.feed_publishes(self._link.recv(65_536)).others

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_exc: object) -> None:
        self._link.close()

    def read(self, count: int, *, acknowledge: bool = False) -> list[bytes]:
        """The next messages."""
        found: list[bytes] = []
        while len(found) < count:
            run = self._parser.feed_publishes(self._link.recv(65_536))
            found += [payload for _, payload in run.messages]
            if acknowledge:
                self._link.sendall(mqtt.encode_pubacks(run.pids))
        return found
