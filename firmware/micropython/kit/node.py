"""A device on the wire: ring, outbox and MQTT client under one identity, with the topics of `pl/1/{tenant}/{node}/`.

    node = Node(ring, settings_of(host, port, "gym", "watch-7", password, context=context))
    node.append(frame)                       # durable; False when the ring is full
    asyncio.create_task(node.run())

`on_config(document)` and `on_command(document)` get parsed JSON; what is no JSON object is counted in `bad_documents`, and told in the
state as `cfg_error` if it was a configuration, as is one that is too long to be received. `on_refused(first, last, reason)` is for log and LED; `on_stored(rows)` tells that the far end keeps rows (an image proves itself with the first).
"""

import asyncio
import json
import os

from kit.mqtt import Client, Settings
from kit.outbox import Outbox
from kit.ticks import sleep_ms, ticks_diff, ticks_ms

ROOT = "pl/1"
STATE_MS = 60000
_OFFLINE = b'{"online":false}'


def settings_of(host, port, tenant, node, password, **more):
    """Settings of kit.mqtt.Client for a node: user name and client id are `tenant/node`, the will says it is offline."""
    base = "%s/%s/%s/" % (ROOT, tenant, node)
    user = tenant + "/" + node
    topics = [base + leaf for leaf in more.pop("reads", ("ack", "cfg"))]
    return Settings(host, port, user, user, password, will=(base + "state", _OFFLINE, 1, True), topics=topics, **more)


def random_below(limit):
    """An integer below `limit`, from the port's random source."""
    return int.from_bytes(os.urandom(4), "little") % limit


class Node:
    """Runs until `stop`. `state` is merged into the state document."""

    def __init__(self, ring, settings, on_refused=None, on_stored=None, on_config=None, on_command=None, **outbox):
        self._base = settings.client_id
        self._up = ("%s/%s/up" % (ROOT, settings.client_id)).encode()
        self._state = ("%s/%s/state" % (ROOT, settings.client_id)).encode()
        self.client = Client(settings, self._on_message, self._on_link)
        self.outbox = Outbox(ring, self._send, random_below, on_refused=on_refused, **outbox)
        self.ring = ring
        self.state = {}
        self.bad_documents = 0
        self._on_stored, self._on_documents = on_stored, {b"cfg": on_config, b"cmd": on_command}
        self._stated_ms = None
        self._stopping = False

    def append(self, frame):
        """Keep a frame durably and send it when there is a link; False when the ring is full."""
        kept = self.outbox.append(frame)
        self.client.wake()
        return kept

    async def run(self):
        """Serve until `stop`. When it is cancelled or fails the link ends too, and it can be run again."""
        self._stopping = False
        serving = asyncio.create_task(self.client.run())
        try:
            while not self._stopping:
                wait_ms = min(self.outbox.step(ticks_ms()), 1000)
                self._tell(False)
                await self.client.moved(wait_ms / 1000)
            self.client.stop()
            await asyncio.wait_for(serving, 15)
        finally:
            serving.cancel()
            while not serving.done():
                await sleep_ms(10)

    def stop(self):
        """End `run` in good order; what is owed stays in the ring."""
        self._stopping = True
        self._tell(True)
        self.client.wake()

    def tell(self):
        """Say the state soon: it changed."""
        self._stated_ms = None
        self.client.wake()

    def _send(self, bundle):
        return self.client.send(self._up, bundle)

    def _on_link(self, up):
        self.outbox.link(up, ticks_ms())
        self._stated_ms = None
        self.client.wake()

    def _on_message(self, topic, payload):
        leaf = topic.rsplit(b"/", 1)[-1]
        if payload is None:
            self._bad(leaf, "longer than this device receives: less bindings, or a box")
        elif leaf == b"ack":
            freed = self.outbox.ack(payload)
            self.client.wake()
            if freed and self._on_stored is not None:
                self._on_stored(freed)
        elif leaf in self._on_documents:
            try:
                document = json.loads(bytes(payload))
            except ValueError:
                document = None
            if not isinstance(document, dict):
                self._bad(leaf, "no JSON object")
            elif self._on_documents[leaf] is not None:
                self._on_documents[leaf](document)

    def _bad(self, leaf, why):
        self.bad_documents += 1
        if leaf == b"cfg":
            self.state["cfg_error"] = why
            self.tell()

    def _tell(self, stopping):
        """The state: at each link, and now and then."""
        now = ticks_ms()
        if not self.client.up or (self._stated_ms is not None and not stopping and ticks_diff(now, self._stated_ms) < STATE_MS):
            return
        outbox = self.outbox
        counters = {"lost": outbox.lost, "stored": outbox.stored, "refused": outbox.refused}
        counters.update({"dropped": self.ring.dropped, "damaged": self.ring.damaged, "links": self.client.counters["links"]})
        said = {"online": not stopping, "epoch": "%016x" % self.ring.epoch, "spool_rows": self.ring.owed, "counters": counters}
        said.update(self.state)
        if self.client.send(self._state, json.dumps(said).encode(), 1, True):
            self._stated_ms = now
