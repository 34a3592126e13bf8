"""The far end for tests of the simulators: takes bundles, keeps every row it saw, acknowledges. Sans-I/O, and over a real broker."""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import Sequence
from contextlib import asynccontextmanager

from broker.acks import Ack, Refusal, encode_ack
from broker.bundles import Bundle, decode_bundle
from broker.frames import Frame, decode_frame
from broker.ids import origin_of
from broker.mqtt_codec import Connack, PacketParser, Suback, encode_connect, encode_pubacks, encode_publish, encode_subscribe
from broker.topics import parse_topic, topic
from simulators.device import Message, SimNode
from simulators.faults import FaultPlan, FaultyLink
from simulators.truth import Key, Stored


class Peer:
    """Stores rows and answers. `refuse` names row numbers it refuses for good."""

    def __init__(self, refuse: Sequence[int] = ()) -> None:
        self.rows: list[Stored] = []
        self.frames: list[Frame] = []
        self.bytes_of: dict[Key, set[bytes]] = {}
        self.refuse = set(refuse)

    def take(self, name: str, payload: bytes) -> Message:
        address, bundle = parse_topic(name), decode_bundle(payload)
        assert address is not None
        assert address.leaf == "up"
        assert isinstance(bundle, Bundle)
        assert bundle.complete
        stored, refused = [], []
        for n, raw in enumerate(bundle.rows, bundle.first_n):
            frame = decode_frame(raw)
            assert isinstance(frame, Frame)
            if n in self.refuse:
                refused.append(Refusal(n, n, "future_time"))
                continue
            origin = origin_of(address.tenant, address.node, frame.device, self_numbered=frame.self_numbered)
            self.rows.append((origin, frame.boot, frame.seq, frame.subject, frame.records))
            self.frames.append(frame)
            self.bytes_of.setdefault((origin, frame.boot, frame.seq), set()).add(raw)
            stored.append((n, n))
        return topic(address.tenant, address.node, "ack"), encode_ack(Ack(bundle.epoch, tuple(stored), tuple(refused)))

    def once(self) -> list[Stored]:
        """Every frame once: what de-duplication must give."""
        return list({row[:3]: row for row in self.rows}.values())


def run_virtual(
    nodes: Sequence[tuple[SimNode, FaultPlan]], peer: Peer, *, start_us: int, limit_s: float, step_ms: int = 50, seed: int = 1
) -> float:
    """Simulated time until every node is done, or `limit_s`. No sockets, no wall clock; links follow their plans."""
    links = {node.who.username: FaultyLink[Message](plan, seed, node.who.username) for node, plan in nodes}
    was_dead = dict.fromkeys(links, True)
    for k in range(round(limit_s * 1000 / step_ms)):
        now_us, now_s = start_us + k * step_ms * 1000, k * step_ms / 1000
        for node, _ in nodes:
            link = links[node.who.username]
            dead = link.dead(now_s) or not node.powered
            if dead != was_dead[node.who.username]:
                node.on_link(up=not dead)
                was_dead[node.who.username] = dead
            link.put(now_s, "up", node.tick(now_us))
            link.put(now_s, "down", [peer.take(*message) for message in link.take(now_s, "up")])
            for message in link.take(now_s, "down"):
                node.on_message(*message)
        if all(node.done for node, _ in nodes):
            return now_s
    return limit_s


class _MqttPeer(asyncio.Protocol):
    def __init__(self, user: str, secret: str, peer: Peer) -> None:
        self.ready: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self.closed = asyncio.Event()
        self.transport: asyncio.Transport | None = None
        self._login = encode_connect(user, user, secret, clean=True, keepalive=0)
        self._peer = peer
        self._parser = PacketParser()
        self._pid = 0

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self.transport = transport
        transport.write(self._login)

    def connection_lost(self, exc: Exception | None) -> None:
        self.closed.set()

    def data_received(self, data: bytes) -> None:
        assert self.transport is not None
        run = self._parser.feed_publishes(data)
        for event in run.others:
            if isinstance(event, Connack):
                assert event.code == 0
                self.transport.write(encode_subscribe(1, [("pl/1/+/+/up", 1)]))
            elif isinstance(event, Suback):
                self.ready.set_result(None)
        out = [encode_pubacks(run.pids)]
        for name, payload in run.messages:
            self._pid = self._pid % 0xFFFF + 1
            out.append(encode_publish(*self._peer.take(name.decode(), payload), 1, self._pid))
        self.transport.write(b"".join(out))


@asynccontextmanager
async def acking_peer(host: str, port: int, user: str, secret: str, peer: Peer, *, tls: ssl.SSLContext | None = None):
    """The peer as the platform's side of a broker."""
    _, protocol = await asyncio.get_running_loop().create_connection(lambda: _MqttPeer(user, secret, peer), host, port, ssl=tls)
    async with asyncio.timeout(60):
        await protocol.ready
    try:
        yield protocol
    finally:
        assert protocol.transport is not None
        protocol.transport.abort()
        async with asyncio.timeout(60):
            await protocol.closed.wait()
