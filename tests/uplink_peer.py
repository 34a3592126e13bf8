"""The platform side of an uplink in a test: takes bundles from a real broker, remembers every row and acknowledges as told."""

import asyncio
import json
from collections import Counter
from contextlib import asynccontextmanager

import aiomqtt

from broker.acks import Ack, Refusal, encode_ack
from broker.bundles import decode_bundle
from broker.topics import UP_FILTERS, topic


class Peer:
    """`rows[epoch][n]` is the first frame seen for a row; `changed` counts re-sends whose bytes differ."""

    def __init__(self, client):
        self.client = client
        self.rows = {}
        self.order = []  # (epoch, first n, rows) as they came
        self.bytes = 0
        self.repeats = 0
        self.changed = 0
        self.acking = True
        self.delay_s = 0.0  # what the platform takes for each bundle
        self.refuse = lambda n: None  # the reason, or None to store
        self.states = {}
        self.state_counts = Counter()

    def got(self, epoch):
        return self.rows.get(epoch, {})

    async def run(self):
        async for message in self.client.messages:
            tenant, node, leaf = message.topic.value.split("/")[2:5]
            if leaf == "state":
                self.states[f"{tenant}/{node}"] = json.loads(message.payload)
                self.state_counts[f"{tenant}/{node}"] += 1
            else:
                await self._take(tenant, node, message.payload)

    async def _take(self, tenant, node, payload):
        self.bytes += len(payload)
        bundle = decode_bundle(payload)
        assert bundle.complete
        self.order.append((bundle.epoch, bundle.first_n, bundle.count))
        known = self.rows.setdefault(bundle.epoch, {})
        stored, refused = [], []
        for n, frame in enumerate(bundle.rows, bundle.first_n):
            if n in known:
                self.repeats += 1
                self.changed += known[n] != frame
            known.setdefault(n, frame)
            reason = self.refuse(n)
            if reason:
                refused.append(Refusal(n, n, reason))
            else:
                stored.append((n, n))
        if self.delay_s:
            await asyncio.sleep(self.delay_s)
        if self.acking:
            await self.client.publish(topic(tenant, node, "ack"), encode_ack(Ack(bundle.epoch, tuple(stored), tuple(refused))), qos=1)

    async def send(self, leaf, payload, *, node="gym/box1", retain=False):
        await self.client.publish(topic(*node.split("/"), leaf), payload, qos=1, retain=retain)


@asynccontextmanager
async def start_peer(broker, user="platform/ingest", *, platform="pl/1/+/+/state"):
    """A running peer on `broker` (a ServedBroker that knows `user`)."""
    client = aiomqtt.Client("127.0.0.1", broker.port, username=user, password=broker.password(user), identifier=user, keepalive=10)
    client.pending_calls_threshold = 1000
    async with client:
        await client.subscribe([(UP_FILTERS[0], 1), (platform, 1)])
        peer = Peer(client)
        task = asyncio.create_task(peer.run())
        try:
            yield peer
        finally:
            task.cancel()
            await asyncio.wait({task})
            if not task.cancelled() and task.exception() is not None and not isinstance(task.exception(), aiomqtt.MqttError):
                raise task.exception()
