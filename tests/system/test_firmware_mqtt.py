"""The kit's MQTT client against mosquitto and against peers that misbehave: sessions, windows, DUP, limits of every wait, TLS with names and certificates."""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
from fakes.flash import Nor
from kit import mqtt as kit_mqtt
from kit.mqtt import Client, Settings
from kit.node import Node
from kit.ring import Ring

from broker import mqtt_codec as wire
from broker.acks import Ack, encode_ack
from broker.mqtt_packets import Connect, Pingreq, Publish, Subscribe
from broker.nodeconfig import NodeState
from tests.firmware import LANES, run
from tests.mqtt_client import PahoClient
from tests.proxy import Mode, start_proxy
from tests.servers import ServedBroker, make_certificates, start_mosquitto

USER, OTHER = "gym/watch-7", "platform/ingest"
UP, ACK = f"pl/1/{USER}/up", f"pl/1/{USER}/ack"
WAIT_S = 60.0
TLS_LINKS = Path(__file__).parents[1] / "lanes" / "tls_links.py"


async def until(condition: Callable[[], object], what: str = "nothing happened") -> None:
    """Poll until `condition` holds."""
    for _ in range(int(WAIT_S / 0.01)):
        if condition():
            return
        await asyncio.sleep(0.01)
    raise AssertionError(f"{what} within {WAIT_S} s")


@asynccontextmanager
async def running(client: Client) -> AsyncIterator[Client]:
    """The client's `run`, ended in order."""
    task = asyncio.create_task(client.run())
    try:
        yield client
    finally:
        client.stop()
        await asyncio.wait_for(task, WAIT_S)


def settings(broker: ServedBroker, port: int = 0, **changes: object) -> Settings:
    words = {"topics": [ACK], "backoff_ms": 200, "max_backoff_ms": 400} | changes
    return Settings(broker.host, port or broker.port, USER, USER, broker.password(USER), **words)


@pytest.fixture
async def broker(tmp_path: Path) -> AsyncIterator[ServedBroker]:
    async with start_mosquitto(tmp_path, users=(USER, OTHER)) as served:
        yield served


async def test_messages_go_both_ways(broker: ServedBroker) -> None:
    got: list[tuple[bytes, bytes]] = []
    with PahoClient(broker, OTHER) as far:
        far.subscribe(UP)
        async with running(Client(settings(broker), lambda topic, payload: got.append((topic, bytes(payload))))) as client:
            await client.publish(UP, b"hello")
            await until(lambda: far.messages)
            await asyncio.to_thread(far.publish, ACK, b"an ack")
            await until(lambda: got)
    assert far.messages[0].payload == b"hello"
    assert got == [(ACK.encode(), b"an ack")]


async def test_a_session_is_resumed_and_brings_what_came_meanwhile(broker: ServedBroker) -> None:
    got: list[bytes] = []
    async with start_proxy(broker.port) as proxy:
        keeping = Client(settings(broker, proxy.port, clean=False), lambda _, payload: got.append(bytes(payload)))
        with PahoClient(broker, OTHER) as far:
            async with running(keeping) as client:
                await until(lambda: client.up)
                proxy.mode = Mode.CUT
                await until(lambda: not client.up)
                for i in range(20):
                    await asyncio.to_thread(far.publish, ACK, b"%d" % i)
                proxy.mode = Mode.PASS
                await until(lambda: len(got) == 20)
                assert client.counters["resumed"] == 1
                assert client.counters["links"] == 2
    assert got == [b"%d" % i for i in range(20)]


async def test_a_broker_that_forgot_the_session_is_subscribed_to_again(broker: ServedBroker) -> None:
    got: list[bytes] = []
    async with running(Client(settings(broker, clean=False), lambda _, payload: got.append(bytes(payload)))) as client:
        await until(lambda: client.up)
        await broker.kill()
        await broker.start()
        await until(lambda: client.counters["links"] == 2 and client.up)
        assert client.counters["resumed"] == 0
        with PahoClient(broker, OTHER) as far:
            await asyncio.to_thread(far.publish, ACK, b"still heard")
            await until(lambda: got)


async def test_a_message_without_its_puback_is_kept_over_links(broker: ServedBroker) -> None:
    with PahoClient(broker, OTHER) as far:
        far.subscribe(UP)
        async with start_proxy(broker.port) as proxy, running(Client(settings(broker, proxy.port, clean=False))) as client:
            await until(lambda: client.up)
            proxy.mode = Mode.ONE_WAY_UP  # the broker gets it, the PUBACK does not come
            going = asyncio.create_task(client.publish(UP, b"once more"))
            await until(lambda: far.messages)
            proxy.cut()
            proxy.mode = Mode.PASS
            await asyncio.wait_for(going, WAIT_S)
            assert client.counters["resent"] == 1
    assert {message.payload for message in far.messages} == {b"once more"}


async def test_what_the_caller_keeps_is_not_kept_here(broker: ServedBroker) -> None:
    async with start_proxy(broker.port) as proxy, running(Client(settings(broker, proxy.port, window=4))) as client:
        await until(lambda: client.up)
        proxy.mode = Mode.HALF_OPEN
        assert [bool(client.send(UP, b"x")) for _ in range(5)] == [True] * 4 + [False]
        assert client.free == 0
        proxy.mode = Mode.CUT
        await until(lambda: not client.up)
        assert client.free == 4
        assert client.send(UP, b"x") == 0


async def test_two_hundred_messages_leave_in_order(broker: ServedBroker) -> None:
    with PahoClient(broker, OTHER) as far:
        far.subscribe(UP)
        async with running(Client(settings(broker))) as client:
            made = 0
            while made < 200:
                if client.send(UP, b"%03d" % made):
                    made += 1
                else:
                    await client.moved()
            await until(lambda: client.counters["acked"] == 200)
        await until(lambda: len(far.messages) == 200)
    assert [message.payload for message in far.messages] == [b"%03d" % i for i in range(200)]


async def test_the_will_is_said_of_a_device_that_vanished_and_not_of_one_that_left(broker: ServedBroker) -> None:
    state = f"pl/1/{USER}/state"
    with PahoClient(broker, OTHER) as far:
        far.subscribe(state)
        async with (
            start_proxy(broker.port) as proxy,
            running(Client(settings(broker, proxy.port, will=(state, b"gone", 1, True)))) as client,
        ):
            await until(lambda: client.up)
            proxy.mode = Mode.CUT
            await until(lambda: far.messages)
        assert [message.payload for message in far.messages] == [b"gone"]
        async with running(Client(settings(broker, will=(state, b"gone", 1, True)))) as client:
            await until(lambda: client.up)
        await asyncio.to_thread(far.publish, UP.replace("up", "cfg"), b"later than the end of the link")
    assert len(far.messages) == 1


async def test_a_wrong_secret_is_said_and_tried_again(broker: ServedBroker) -> None:
    wrong = settings(broker)
    wrong.password = "wrong"
    async with running(Client(wrong)) as client:
        await until(lambda: client.counters["refused"] in {4, 5} and "CONNACK code" in str(client.last_error))
        wrong.password = broker.password(USER)
        await until(lambda: client.up)


async def test_a_message_longer_than_the_buffer_is_acknowledged_and_counted(broker: ServedBroker) -> None:
    got: list[bytes] = []
    with PahoClient(broker, OTHER) as far:
        async with running(Client(settings(broker, in_bytes=512), lambda _, payload: got.append(bytes(payload)))) as client:
            await until(lambda: client.up)
            await asyncio.to_thread(far.publish, ACK, bytes(5000))
            await asyncio.to_thread(far.publish, ACK, b"short")
            await until(lambda: got)
            assert client._in.passed_over == 1
    assert got == [b"short"]


async def test_a_callback_that_fails_costs_its_message_only(broker: ServedBroker) -> None:
    got: list[bytes] = []

    def fail_once(_: bytes, payload: memoryview) -> None:
        got.append(bytes(payload))
        if len(got) == 1:
            raise RuntimeError("a bug of the application")

    with PahoClient(broker, OTHER) as far:
        async with running(Client(settings(broker), fail_once)) as client:
            await until(lambda: client.up)
            for i in range(2):
                await asyncio.to_thread(far.publish, ACK, b"%d" % i)
            await until(lambda: len(got) == 2)
            assert client.counters["failed_callbacks"] == 1
            assert client.counters["links"] == 1


async def test_a_node_that_was_cancelled_runs_again(broker: ServedBroker) -> None:
    ring = Ring(Nor(4, 512), lambda: 7, False, 64)
    node = Node(ring, settings(broker), bundle_bytes=256, bundle_rows=4)
    for turn in range(3):
        running_node = asyncio.create_task(node.run())
        await until(lambda: node.client.up)
        assert node.client.counters["links"] == turn + 1
        if turn < 2:
            running_node.cancel()
            with pytest.raises(asyncio.CancelledError):
                await running_node
            assert not node.client.up
    node.stop()
    await asyncio.wait_for(running_node, WAIT_S)


async def test_a_node_says_its_state_and_takes_documents(broker: ServedBroker) -> None:
    base = f"pl/1/{USER}/"
    taken: list[dict[str, object]] = []
    stored: list[int] = []
    ring = Ring(Nor(4, 512), lambda: 7, False, 64)
    words = settings(broker, topics=[base + leaf for leaf in ("ack", "cfg")], will=(base + "state", b'{"online":false}', 1, True))
    node = Node(ring, words, on_stored=stored.append, on_config=taken.append, bundle_bytes=256, bundle_rows=4)
    with PahoClient(broker, OTHER) as far:
        far.subscribe(base + "state")
        running_node = asyncio.create_task(node.run())
        await until(lambda: far.messages)
        for document in (b"{not json", b"[1]", b"\xff\xfe", b"[" * 500, b'{"version": 3}'):
            await asyncio.to_thread(far.publish, base + "cfg", document)
        await until(lambda: taken)
        node.append(b"a row")
        await asyncio.to_thread(far.publish, base + "ack", encode_ack(Ack(7, ((0, 0),))))
        await until(lambda: stored)
        node.stop()
        await asyncio.wait_for(running_node, WAIT_S)
        await until(lambda: any(not NodeState.model_validate_json(message.payload).online for message in far.messages))
    assert taken == [{"version": 3}]
    assert node.bad_documents + node.client.counters["failed_callbacks"] == 4
    said = [NodeState.model_validate_json(message.payload) for message in far.messages]
    assert [state.online for state in said][0 :: len(said) - 1] == [True, False]
    assert said[0].epoch == f"{7:016x}"
    assert ring.owed == 0


Peer = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]


@asynccontextmanager
async def peer(serve: Peer) -> AsyncIterator[Settings]:
    """A scripted broker."""

    async def handle(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            await serve(reader, writer)
        except (OSError, asyncio.IncompleteReadError):
            pass
        finally:
            writer.close()

    server = await asyncio.start_server(handle, "127.0.0.1", 0)
    async with server:
        yield Settings("127.0.0.1", server.sockets[0].getsockname()[1], USER, topics=[ACK], backoff_ms=20, max_backoff_ms=40)


async def greeted(reader: asyncio.StreamReader, writer: asyncio.StreamWriter, *, present: bool = False) -> wire.PacketParser:
    """Take CONNECT and SUBSCRIBE."""
    parser, seen = wire.PacketParser(), 0
    while seen < (1 if present else 2):
        data = await reader.read(4096)
        if not data:
            raise OSError
        for event in parser.feed(data):
            if isinstance(event, Connect):
                writer.write(wire.encode_connack(present, 0))
                seen += 1
            elif isinstance(event, Subscribe):
                writer.write(wire.encode_suback(event.pid, [1] * len(event.filters)))
                seen += 1
    return parser


LIMITS = {"_TICK_MS": 10, "_CONNECT_MS": 1000, "_ANSWER_MS": 200, "_ACK_MS": 200}


@pytest.fixture
def hasty(monkeypatch: pytest.MonkeyPatch) -> None:
    """The limits of a link, made short."""
    for name, value in LIMITS.items():
        monkeypatch.setattr(kit_mqtt, name, value)


@pytest.mark.parametrize(
    ("said", "error"),
    [
        (b"", "TimeoutError"),  # accepts, and says nothing
        (b"HTTP/1.1 400 Bad Request\r\n\r\n", "ProtocolError"),
        (wire.encode_puback(1), "before CONNACK"),
        (b"\x20\x02\x00\x03", "CONNACK code 3"),
        (wire.encode_connack(False, 0) + wire.encode_connack(False, 0), "second CONNACK"),
        (wire.encode_connack(False, 0) + b"\x34\x05\x00\x01a\x00\x01", "QoS 2"),
        (wire.encode_connack(False, 0) + wire.encode_suback(1, [128]), "refused a subscription"),
    ],
    ids=["silence", "http", "puback", "refusal", "two connacks", "qos 2", "no subscription"],
)
async def test_a_peer_that_is_no_broker_is_left_and_tried_again(hasty: None, said: bytes, error: str) -> None:
    calls = 0

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        nonlocal calls
        calls += 1
        writer.write(said)
        while await reader.read(4096):
            pass

    async with peer(serve) as where, running(Client(where)) as client:
        await until(lambda: error in repr(client.last_error))
        assert not client.up
        seen = calls
        await until(lambda: calls > seen)


async def test_no_puback_in_time_ends_the_link(hasty: None) -> None:
    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await greeted(reader, writer)
        while await reader.read(4096):
            pass

    async with peer(serve) as where, running(Client(where)) as client:
        await until(lambda: client.up)
        assert client.send(UP, b"x")
        await until(lambda: "no PUBACK" in str(client.last_error))
        await until(lambda: client.counters["links"] >= 2)


async def test_no_answer_to_a_ping_ends_the_link(hasty: None) -> None:
    pings = 0

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        nonlocal pings
        parser = await greeted(reader, writer)
        while data := await reader.read(4096):
            pings += sum(isinstance(event, Pingreq) for event in parser.feed(data))
            if pings == 1:
                writer.write(wire.PINGRESP)

    async with peer(serve) as where:
        where.keepalive_s = 1
        async with running(Client(where)) as client:
            await until(lambda: "PINGREQ" in str(client.last_error) and pings >= 2)
            await until(lambda: client.counters["links"] >= 2)


async def test_a_peer_that_reads_nothing_ends_the_link(hasty: None) -> None:
    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await greeted(reader, writer)
        await asyncio.sleep(WAIT_S)

    async with peer(serve) as where:
        where.window = 1000
        async with running(Client(where)) as client:
            await until(lambda: client.up)
            while client.up:
                client.send(UP, bytes(4000), qos=0)
                await client.moved(0.01)
            await until(lambda: "nothing can be written" in str(client.last_error))
            await until(lambda: client.counters["links"] >= 2)


async def test_a_publish_that_nobody_acknowledges_ends_in_time(hasty: None) -> None:
    async with peer(lambda reader, writer: asyncio.sleep(WAIT_S)) as where, running(Client(where)) as client:
        with pytest.raises(OSError, match="no PUBACK in time"):
            await client.publish(UP, b"x", timeout_s=1)
        assert client.free == where.window


async def test_dup_is_set_on_a_resumed_session_only() -> None:
    flags: list[tuple[bool, bool]] = []
    present = False

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        nonlocal present
        here, present = present, True
        parser = await greeted(reader, writer, present=here)
        while data := await reader.read(4096):
            for event in parser.feed(data):
                if isinstance(event, Publish):
                    flags.append((here, event.dup))
                    if len(flags) == 2:
                        writer.write(wire.encode_puback(event.pid))
                    else:
                        return

    async with peer(serve) as where, running(Client(where)) as client:
        await client.publish(UP, b"x")
    assert flags == [(False, False), (True, True)]


async def test_waits_between_links_double_and_differ(monkeypatch: pytest.MonkeyPatch) -> None:
    times: list[float] = []

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        times.append(asyncio.get_running_loop().time())

    async with peer(serve) as where:
        where.backoff_ms, where.max_backoff_ms = 40, 320
        async with running(Client(where)):
            await until(lambda: len(times) >= 7)
    waits = [later - earlier for earlier, later in itertools.pairwise(times)]
    for wait, full_s in zip(waits, [0.04, 0.08, 0.16, 0.32, 0.32, 0.32], strict=False):
        assert wait >= full_s / 2
    assert len({round(wait, 3) for wait in waits[3:]}) > 1


def test_settings_that_cannot_work_are_refused() -> None:
    with pytest.raises(ValueError, match="keepalive_s 0"):
        Settings("h", 1, "c", keepalive_s=0)
    with pytest.raises(ValueError, match="window 0"):
        Settings("h", 1, "c", window=0)


async def test_a_message_that_never_fits_is_refused_at_once(broker: ServedBroker) -> None:
    async with running(Client(settings(broker, out_bytes=512))) as client:
        await until(lambda: client.up)
        with pytest.raises(ValueError, match="out_bytes"):
            client.send(UP, bytes(600))


@pytest.fixture
async def guarded(tmp_path: Path) -> AsyncIterator[ServedBroker]:
    """A mosquitto with TLS that wants a client certificate of its authority."""
    home = tmp_path / "mosquitto-tls" / "tls"
    config = f"cafile {home / 'ca.crt'}\nrequire_certificate true\n"
    async with start_mosquitto(tmp_path, users=(USER,), tls=True, extra_config=config) as served:
        make_certificates(home, name="watch-7")
        yield served


@pytest.mark.parametrize("lane", LANES)
async def test_tls_checks_the_name_and_shows_our_certificate(lane: str, guarded: ServedBroker, tmp_path: Path) -> None:
    home, strange = tmp_path / "mosquitto-tls" / "tls", make_certificates(tmp_path / "strange", name="watch-7")
    ca, cert, key = (str(home / name) for name in ("ca.crt", "watch-7.crt", "watch-7.key"))
    links = [
        ("localhost", ca, cert, key),
        ("elsewhere.example", ca, cert, key),
        ("localhost", str(strange.cafile), cert, key),
        ("localhost", ca, "-", "-"),
        ("localhost", ca, str(strange.certfile), str(strange.keyfile)),
    ]
    lines = [" ".join((str(guarded.port), USER, guarded.password(USER), *link)) for link in links]
    said = (await asyncio.to_thread(run, lane, TLS_LINKS, stdin="\n".join(lines).encode())).splitlines()
    print(said)
    assert said[0] == "up"
    assert all(line.startswith("no: ") for line in said[1:])
    assert all("certificate" in line.lower() or "CERT" in line for line in said[1:3])
