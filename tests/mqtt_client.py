"""An independent MQTT client for tests (paho on its own thread), with blocking calls that state what happened.

with PahoClient(broker, "gym/box1") as client:      # connects; ConnectRefusedError holds the CONNACK code
    client.subscribe("pl/1/gym/box1/ack"), client.publish("pl/1/gym/box1/up", b"..."), client.wait_messages(1)
"""

from __future__ import annotations

import socket
import ssl
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from typing import Any, Self

import paho.mqtt.client as mqtt

from tests.servers import ServedBroker

WAIT_S = 60.0


class ConnectRefusedError(Exception):
    """CONNACK with a code other than 0, or the connection closed instead of an answer (code None)."""

    def __init__(self, code: str | None) -> None:
        super().__init__(f"refused: {code}")
        self.code = code


@dataclass(frozen=True, slots=True)
class Will:
    topic: str
    payload: bytes = b"dead"
    qos: int = 1
    retain: bool = False


@dataclass(frozen=True, slots=True)
class Received:
    topic: str
    payload: bytes
    qos: int
    retain: bool


class PahoClient:
    """One client. `secret` and `client_id` default to what the user name deserves."""

    def __init__(
        self,
        broker: ServedBroker,
        user: str | None,
        *,
        secret: str | None = None,
        client_id: str | None = None,
        clean: bool = True,
        will: Will | None = None,
        keepalive_s: int = 60,
        context: ssl.SSLContext | None = None,
    ) -> None:
        self.messages: list[Received] = []
        self.session_present = False
        self.disconnected = threading.Event()
        self._answered = threading.Event()
        self._code: str | None = None
        self._granted: dict[int, list[int]] = {}
        self._changed = threading.Condition()
        identity = client_id if client_id is not None else user or ""
        self._paho = mqtt.Client(mqtt.CallbackAPIVersion.VERSION2, client_id=identity, clean_session=clean, reconnect_on_failure=False)
        self._paho.max_inflight_messages_set(1000)
        if user is not None:
            self._paho.username_pw_set(user, broker.password(user) if secret is None else secret)
        if will is not None:
            self._paho.will_set(will.topic, will.payload, will.qos, will.retain)
        context = context or broker.tls_context()
        if context is not None:
            self._paho.tls_set_context(context)
        self._paho.on_connect = self._on_connect
        self._paho.on_disconnect = self._on_disconnect
        self._paho.on_message = self._on_message
        self._paho.on_subscribe = self._on_subscribe
        self._target = (broker.host, broker.port, keepalive_s)

    def connect(self) -> Self:
        self._paho.connect(*self._target)
        self._paho.loop_start()
        if not self._answered.wait(WAIT_S) or self._code != "Success":
            self._end()
            raise ConnectRefusedError(self._code)
        return self

    def subscribe(self, pattern: str, qos: int = 1) -> int:
        """The granted QoS, or 128 when refused."""
        code, mid = self._paho.subscribe(pattern, qos)
        assert code == mqtt.MQTT_ERR_SUCCESS, code
        self._wait(lambda: mid in self._granted)
        return self._granted[mid][0]

    def publish(self, topic: str, payload: bytes = b"x", qos: int = 1, *, retain: bool = False) -> None:
        """Send, and wait for the PUBACK at QoS 1."""
        info = self._paho.publish(topic, payload, qos, retain)
        info.wait_for_publish(WAIT_S)
        assert info.is_published(), f"no PUBACK for {topic}"

    def publish_all(self, messages: list[tuple[str, bytes]], *, retain: bool = False) -> None:
        """Send all at QoS 1, and wait for all PUBACKs."""
        infos = [self._paho.publish(topic, payload, 1, retain) for topic, payload in messages]
        for info in infos:
            info.wait_for_publish(WAIT_S)
        assert all(info.is_published() for info in infos)

    def publish_nowait(self, topic: str, payload: bytes, qos: int = 1) -> None:
        self._paho.publish(topic, payload, qos)

    def wait_messages(self, count: int, timeout_s: float = WAIT_S) -> list[Received]:
        """All messages once there are `count`."""
        self._wait(lambda: len(self.messages) >= count, timeout_s)
        return list(self.messages)

    def wait_payload(self, payload: bytes) -> Received:
        """The first message with this payload."""
        self._wait(lambda: any(m.payload == payload for m in self.messages))
        return next(m for m in self.messages if m.payload == payload)

    def wait_disconnected(self, timeout_s: float = WAIT_S) -> bool:
        return self.disconnected.wait(timeout_s)

    def stays_connected(self, for_s: float = 0.5) -> bool:
        return not self.disconnected.wait(for_s)

    def die(self) -> None:
        """Vanish without DISCONNECT, as on power loss."""
        sock = self._paho.socket()
        with suppress(OSError):  # the link is gone already
            if sock is not None:
                sock.shutdown(socket.SHUT_RDWR)
        self.wait_disconnected()
        self._end()

    def close(self) -> None:
        self._paho.disconnect()
        self._end()

    def _end(self) -> None:
        """Stop paho's thread and close all its sockets: its own end may come before, and the pair that wakes it is left to the collector."""
        self._paho.loop_stop()
        self._paho._reset_sockets()

    def __enter__(self) -> Self:
        return self if self._answered.is_set() else self.connect()

    def __exit__(self, *_: object) -> None:
        self.close()

    def _wait(self, condition: Callable[[], bool], timeout_s: float = WAIT_S) -> None:
        deadline = time.monotonic() + timeout_s
        with self._changed:
            while not condition():
                left = deadline - time.monotonic()
                assert left > 0, f"nothing came within {timeout_s} s; {len(self.messages)} messages so far"
                self._changed.wait(left)

    def _on_connect(self, _client: Any, _data: Any, flags: Any, code: Any, _properties: Any) -> None:
        self._code, self.session_present = str(code), bool(flags.session_present)
        self._answered.set()

    def _on_disconnect(self, *_: Any) -> None:
        self.disconnected.set()
        self._answered.set()

    def _on_message(self, _client: Any, _data: Any, m: mqtt.MQTTMessage) -> None:
        with self._changed:
            self.messages.append(Received(m.topic, m.payload, m.qos, m.retain))
            self._changed.notify_all()

    def _on_subscribe(self, _client: Any, _data: Any, mid: int, codes: Any, _properties: Any) -> None:
        with self._changed:
            self._granted[mid] = [int(code.value) for code in codes]
            self._changed.notify_all()
