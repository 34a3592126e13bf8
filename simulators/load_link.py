"""One MQTT connection of a load: handshake, messages out, acks in. The shell of a node's debt; who connects again is `load_run`."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable, Sequence
from typing import Final

from broker.acks import decode_ack
from broker.errors import LinkError, Rejected
from broker.mqtt_codec import (
    DISCONNECT,
    PINGREQ,
    Connack,
    PacketParser,
    Suback,
    Violation,
    Will,
    encode_connect,
    encode_pubacks,
    encode_publish,
    encode_subscribe,
)
from broker.topics import topic
from simulators.load_debt import Answer, Debt
from simulators.load_plan import Due, NodePlan

KEEPALIVE_S: Final = 60


class LoadNode:
    """A node over all its connections: what it sends, what it owes, and the link it has now."""

    def __init__(self, plan: NodePlan, password: str) -> None:
        self.plan = plan
        self.password = password
        self.debt = Debt(plan.epoch)
        self.link: LoadLink | None = None
        self.failures = 0
        self.up = topic(plan.who.tenant, plan.who.node, "up")
        self.ack = topic(plan.who.tenant, plan.who.node, "ack")
        self._state = topic(plan.who.tenant, plan.who.node, "state")

    def state(self, *, online: bool) -> tuple[str, bytes]:
        """What it says of itself; `online` false is its will."""
        body = {"online": online, "epoch": f"{self.plan.epoch:016x}", "spool_rows": self.debt.frames}
        return self._state, json.dumps(body).encode()


class LoadLink(asyncio.Protocol):
    """A connection of `node`. `ready` is done once acks are subscribed; `on_end` is called once, when a ready link ends."""

    def __init__(self, node: LoadNode, on_answers: Callable[[Sequence[Answer]], None], on_end: Callable[[LoadNode], None]) -> None:
        loop = asyncio.get_running_loop()
        self.ready: asyncio.Future[None] = loop.create_future()
        self.heard_s = self.wrote_s = loop.time()
        self.refused = self.closed = False
        self._loop = loop
        self._node = node
        self._on_answers = on_answers
        self._on_end = on_end
        self._parser = PacketParser()
        self._transport: asyncio.Transport | None = None
        self._pid = 0

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self._transport = transport
        node, name = self._node, self._node.plan.who.username
        will = Will(*node.state(online=False), qos=1, retain=True)
        self._write(encode_connect(name, name, node.password, clean=True, keepalive=KEEPALIVE_S, will=will))

    def data_received(self, data: bytes) -> None:
        self.heard_s = self._loop.time()
        run = self._parser.feed_publishes(data)
        for event in run.others:
            self._other(event)
        if run.pids:
            self._write(encode_pubacks(run.pids))
        for _, payload in run.messages:
            ack = decode_ack(payload)
            if not isinstance(ack, Rejected) and (answers := self._node.debt.settle(ack)):
                self._on_answers(answers)

    def connection_lost(self, exc: Exception | None) -> None:
        self.closed = True
        if not self.ready.done():
            self._fail(f"closed in the handshake: {exc or 'by the broker'}", "see the broker's log")
        elif not self.ready.cancelled() and self.ready.exception() is None:
            self._on_end(self._node)

    def send(self, messages: Sequence[Due]) -> int:
        """Write them at QoS 1; the bytes written. Nobody waits for the broker's PUBACK, which says nothing of storage."""
        up = self._node.up
        return self._write(b"".join([encode_publish(up, due.payload, 1, self._next_pid()) for due in messages]))

    def ping(self) -> None:
        self._write(PINGREQ)

    def abort(self) -> None:
        """Cut it: the other side is told nothing."""
        if self._transport is not None:
            self._transport.abort()

    def leave(self) -> None:
        """Say goodbye and close."""
        if self._transport is not None and not self._transport.is_closing():
            name, body = self._node.state(online=False)
            self._transport.write(encode_publish(name, body, 1, self._next_pid(), retain=True) + DISCONNECT)
            self._transport.close()

    def _other(self, event: object) -> None:
        if isinstance(event, Connack):
            if event.code:
                self.refused = True
                self._fail(f"refused with code {event.code}", "check user names and passwords of the load")
            else:
                self._write(encode_subscribe(1, [(self._node.ack, 1)]))
        elif isinstance(event, Suback):
            if 0x80 in event.codes:
                self._fail("the broker refuses its acks", "check the broker's access rules")
            elif not self.ready.done():
                name, body = self._node.state(online=True)
                self._write(encode_publish(name, body, 1, self._next_pid(), retain=True))
                self.ready.set_result(None)
        elif isinstance(event, Violation):
            self._fail(f"the broker broke the protocol: {event.detail}", "is this an MQTT 3.1.1 broker?")

    def _fail(self, what: str, cure: str) -> None:
        if not self.ready.done():
            self.ready.set_exception(LinkError(f"{self._node.plan.who.username}: {what}", cure=cure))
            self.ready.exception()
        self.abort()

    def _next_pid(self) -> int:
        self._pid = self._pid % 0xFFFF + 1
        return self._pid

    def _write(self, data: bytes) -> int:
        if self._transport is None or self._transport.is_closing():
            return 0
        self.wrote_s = self._loop.time()
        self._transport.write(data)
        return len(data)
