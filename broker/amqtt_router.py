"""Who receives what: amqtt's broker with our rules in place of its plugins, and bounded outboxes in place of its queues.

amqtt 0.12.1 as it comes hands every new connection the retained messages of all other clients' filters, lets a will skip the publish
filter, drops QoS 1 messages a subscriber did not acknowledge within 5 s and those a DISCONNECT overtook, upgrades QoS 0, keeps a
session half alive after a publish to `$SYS`, resumes clean sessions, and routes from a dictionary that may change under it. Here every
message passes `may_publish` and `may_receive`, and waits in its session's outbox until it is acknowledged, the session ends, or the
outbox is full (then the newest is dropped and counted).
"""

from __future__ import annotations

import asyncio
import logging
from collections import Counter, deque
from functools import lru_cache
from typing import Any, Final, NamedTuple, cast

from amqtt.broker import AMQTT_MAGIC_VALUE_RET_SUBSCRIBED, Broker, RetainedApplicationMessage
from amqtt.contexts import Action, BrokerConfig, ListenerConfig, ListenerType
from amqtt.mqtt.connect import ConnectPacket
from amqtt.mqtt.protocol.broker_handler import BrokerProtocolHandler
from amqtt.session import ApplicationMessage, Session

from broker.embedded import EmbeddedSettings
from broker.topics import Principal, may_publish, may_receive, may_subscribe, parse_username

_log = logging.getLogger(__name__)
LISTENER: Final = "default"
MAX_QOS: Final = 1
_OUTBOX: Final = "paceline.outbox"

_receives = lru_cache(maxsize=65_536)(may_receive)
_publishes = lru_cache(maxsize=65_536)(may_publish)


@lru_cache(maxsize=16_384)
def _principal(username: str) -> Principal | None:
    return parse_username(username)


def _allowed(session: Session, topic: str, action: Action) -> bool:
    who = _principal(session.username or "")
    if who is None:
        return False
    if action is Action.SUBSCRIBE:
        return may_subscribe(who, topic)
    return _publishes(who, topic) if action is Action.PUBLISH else _receives(who, topic)


class Message(NamedTuple):
    """One message on its way to one session."""

    topic: str
    data: bytes
    qos: int
    retain: bool


class Outbox:
    """Messages one session is owed: `waiting` in order, and those in flight to its present connection."""

    def __init__(self, settings: EmbeddedSettings, counts: Counter[str]) -> None:
        self._settings = settings
        self._counts = counts
        self._waiting: deque[Message] = deque()
        self._waiting_bytes = 0
        self._inflight: dict[asyncio.Task[None], Message] = {}
        self._handler: BrokerProtocolHandler | None = None

    def __len__(self) -> int:
        return len(self._waiting) + len(self._inflight)

    def connect(self, handler: BrokerProtocolHandler) -> None:
        """Deliver to this connection from now on, what waited first."""
        self._handler = handler
        self._pump()

    def offer(self, message: Message, *, keep: bool) -> None:
        """Deliver `message` now or later. `keep`: also to a session that is offline."""
        if self._handler is None and not (keep and message.qos):
            return
        full = len(self._waiting) >= self._settings.max_queued_messages
        if full or self._waiting_bytes + len(message.data) > self._settings.max_queued_bytes:
            self._counts["dropped_outbox_full"] += 1
            return
        self._waiting.append(message)
        self._waiting_bytes += len(message.data)
        self._pump()

    async def disconnect(self, *, keep: bool) -> None:
        """End deliveries; what was not acknowledged waits in front again when the session is kept."""
        self._handler = None
        unacknowledged = list(self._inflight.items())
        for task, _ in unacknowledged:
            task.cancel()
        await asyncio.gather(*(task for task, _ in unacknowledged), return_exceptions=True)
        self._inflight.clear()
        self._waiting.extendleft(message for _, message in reversed(unacknowledged))
        if not keep:
            self._waiting.clear()
        kept = [message for message in self._waiting if message.qos]
        self._waiting = deque(kept)
        self._waiting_bytes = sum(len(message.data) for message in kept)

    def _pump(self) -> None:
        while self._handler is not None and self._waiting and len(self._inflight) < self._settings.max_inflight:
            message = self._waiting.popleft()
            self._waiting_bytes -= len(message.data)
            task = asyncio.create_task(self._deliver(self._handler, message))
            self._inflight[task] = message
            task.add_done_callback(self._delivered)

    async def _deliver(self, handler: BrokerProtocolHandler, message: Message) -> None:
        await handler.mqtt_publish(message.topic, message.data, message.qos, message.retain)

    def _delivered(self, task: asyncio.Task[None]) -> None:
        message = self._inflight.get(task)
        if message is None or self._handler is None:
            if not task.cancelled():
                task.exception()
            return  # the connection ends: `disconnect` keeps what was in flight
        del self._inflight[task]
        if task.cancelled() or task.exception() is not None:
            self._counts["redelivered"] += 1
            self._waiting.appendleft(message)
            self._waiting_bytes += len(message.data)
            asyncio.get_running_loop().call_later(1.0, self._pump)  # a subscriber that does not acknowledge gets a pause, not a storm
            return
        self._pump()


class Router(Broker):
    """amqtt's broker behind our gate: the gate authenticates, this routes."""

    def __init__(self, settings: EmbeddedSettings, counts: Counter[str]) -> None:
        listener = ListenerConfig(type=ListenerType.EXTERNAL, bind=f"{settings.host}:{settings.port}")
        super().__init__(BrokerConfig(listeners={LISTENER: listener}, plugins={}, session_expiry_interval=settings.session_expiry_s))
        self._settings = settings
        self._counts = counts
        self._wildcards: set[str] = set()

    async def prepare(self, connect: ConnectPacket) -> None:
        """Before amqtt sees an admitted CONNECT: end a clean session, which must never be resumed, and keep the new will's retain flag."""
        session, _ = self._sessions.get(connect.client_id or "", (None, None))
        if session is None:
            return
        if session.clean_session or connect.clean_session_flag:
            await self._delete_session(connect.client_id or "")
        else:
            session.will_retain = connect.will_retain_flag

    async def ended(self, client_id: str) -> None:
        """After a connection ended: keep what its session is owed, or forget the session when it was clean."""
        session, _ = self._sessions.get(client_id, (None, None))
        if session is None:
            return
        await self._outbox(session).disconnect(keep=not session.clean_session)
        session.inflight_out.clear()  # the outbox owes them
        if session.clean_session:
            await self._delete_session(client_id)

    def backlog(self, client_id: str) -> int:
        """Messages of this client that amqtt has read and not yet routed."""
        session, _ = self._sessions.get(client_id, (None, None))
        return 0 if session is None else session.delivered_message_queue.qsize()

    def _outbox(self, session: Session) -> Outbox:
        box = cast("Outbox | None", session.attributes.get(_OUTBOX))
        if box is None:
            box = session.attributes[_OUTBOX] = Outbox(self._settings, self._counts)
        return box

    async def _authenticate(self, session: Session, _: ListenerConfig) -> bool:
        return session.username is not None and session.username == session.client_id  # the gate has verified the secret

    async def _topic_filtering(self, session: Session, topic: str, action: Action) -> bool:
        return _allowed(session, topic, action)

    async def add_subscription(self, subscription: tuple[str, int], session: Session) -> int:
        """Grant or refuse (0x80) one filter; at most QoS 1. A repeated filter takes the new QoS."""
        pattern, qos = subscription
        self._del_subscription(pattern, session)
        granted = await super().add_subscription((pattern, min(qos, MAX_QOS)), session)
        if granted == AMQTT_MAGIC_VALUE_RET_SUBSCRIBED:
            self._refused("subscribe", session, pattern)
            if not self._subscriptions.get(pattern, True):
                del self._subscriptions[pattern]
        elif "+" in pattern or "#" in pattern:
            self._wildcards.add(pattern)
        return granted

    async def _handle_subscription(
        self, client_session: Session, handler: BrokerProtocolHandler, subscribe_waiter: asyncio.Future[Any]
    ) -> None:
        request = subscribe_waiter.result()
        codes = [await self.add_subscription(subscription, client_session) for subscription in request.topics]
        await handler.mqtt_acknowledge_subscription(request.packet_id, codes)
        box = self._outbox(client_session)
        for (pattern, _), qos in zip(request.topics, codes, strict=True):
            if qos == AMQTT_MAGIC_VALUE_RET_SUBSCRIBED:
                continue
            for topic, kept in list(self._retained_messages.items()):
                if self._matches(topic, pattern) and _allowed(client_session, topic, Action.RECEIVE):
                    box.offer(Message(topic, bytes(kept.data), min(qos, kept.qos or 0), retain=True), keep=True)

    async def _publish_retained_messages_for_subscription(self, subscription: tuple[str, int], session: Session) -> None:
        """Nothing: amqtt calls this at each connect for the filters of all clients; `_handle_subscription` sends what is due."""

    async def _publish_session_retained_messages(self, session: Session) -> None:
        handler = self._get_handler(session)
        if handler is not None:
            self._outbox(session).connect(handler)

    async def _client_message_loop(self, client_session: Session, handler: BrokerProtocolHandler) -> None:
        """Serve one connection until it ends. Every message acknowledged to the client is routed, also one its DISCONNECT overtook."""
        disconnected = asyncio.ensure_future(handler.wait_disconnect())
        tasks = [
            asyncio.create_task(self._route_published(client_session)),
            asyncio.create_task(self._serve_subscriptions(client_session, handler)),
            asyncio.create_task(self._serve_unsubscriptions(client_session, handler)),
        ]
        await asyncio.wait([disconnected, *tasks], return_when=asyncio.FIRST_COMPLETED)
        for task in tasks:
            task.cancel()
        for outcome in await asyncio.gather(*tasks, return_exceptions=True):
            if isinstance(outcome, Exception):
                _log.error("%s: connection ended by an error of the broker", client_session.client_id, exc_info=outcome)
        while not client_session.delivered_message_queue.empty():
            self._route(client_session, client_session.delivered_message_queue.get_nowait())
        if not disconnected.done():
            disconnected.cancel()
            disconnected = asyncio.get_running_loop().create_future()
            disconnected.set_result(None)
        await self._handle_disconnect(client_session, handler, disconnected)

    async def _route_published(self, session: Session) -> None:
        while True:
            self._route(session, await session.delivered_message_queue.get())

    async def _serve_subscriptions(self, session: Session, handler: BrokerProtocolHandler) -> None:
        while True:
            request = asyncio.ensure_future(handler.get_next_pending_subscription())
            await request
            await self._handle_subscription(session, handler, request)

    async def _serve_unsubscriptions(self, session: Session, handler: BrokerProtocolHandler) -> None:
        while True:
            request = asyncio.ensure_future(handler.get_next_pending_unsubscription())
            await request
            await self._handle_unsubscription(session, handler, request)

    def _route(self, session: Session, message: ApplicationMessage) -> None:
        if not _allowed(session, message.topic, Action.PUBLISH):
            self._refused("publish", session, message.topic)  # acknowledged and dropped: MQTT 3.1.1 has no other answer
            return
        self._counts["published"] += 1
        self._fan_out(message.topic, bytes(message.data), message.qos or 0)
        if message.retain and message.data:
            self._retained_messages[message.topic] = RetainedApplicationMessage(session, message.topic, message.data, message.qos)
        elif message.retain:
            self._retained_messages.pop(message.topic, None)

    async def _broadcast_message(
        self,
        session: Session | None,  # noqa: ARG002 - amqtt's signature
        topic: str | None,
        data: bytes | bytearray | None,
        force_qos: int | None = None,
    ) -> None:
        if topic is not None and data is not None:
            self._fan_out(topic, bytes(data), force_qos or 0)

    def _fan_out(self, topic: str, data: bytes, qos: int) -> None:
        for target, granted in self._targets(topic):
            if _allowed(target, topic, Action.RECEIVE):
                self._outbox(target).offer(Message(topic, data, min(granted, qos), retain=False), keep=not target.clean_session)

    def _targets(self, topic: str) -> list[tuple[Session, int]]:
        """Each session with a matching filter once, with the highest QoS it asked for."""
        found: list[tuple[Session, int]] = list(self._subscriptions.get(topic, ()))
        for pattern in [p for p in self._wildcards if self._matches(topic, p)]:
            if pattern in self._subscriptions:
                found += self._subscriptions[pattern]
            else:
                self._wildcards.discard(pattern)
        if len(found) < 2:
            return found
        best: dict[str, tuple[Session, int]] = {}
        for session, qos in found:
            known = best.get(session.client_id or "")
            if known is None or known[1] < qos:
                best[session.client_id or ""] = (session, qos)
        return list(best.values())

    def _refused(self, what: str, session: Session, topic: str) -> None:
        self._counts[f"refused_{what}"] += 1
        _log.warning("%s may not %s %r: refused", session.client_id, what, topic)
