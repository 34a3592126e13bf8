"""A node for ingest tests: publishes the rows of a spool, and sends again what is not acknowledged, until all of it is.

Runs as its own thread with a plain socket, reconnects at once, and counts what it was told. With `more` it makes new rows until it is
joined, so that it owes some whenever a test kills somebody, however fast the others are.
"""

from __future__ import annotations

import socket
import threading
import time

from broker import mqtt_codec as mqtt
from broker.acks import Ack, decode_ack
from broker.bundles import encode_bundle

RESEND_S = 0.4


class ResendingNode(threading.Thread):
    """Rows 1..len(rows) of spool `epoch` as bundles of `per_bundle`, every `pause_s`; `more(i)` makes the row that shall stand at `rows[i]`."""

    def __init__(self, broker, user, rows, *, epoch=5, per_bundle=7, pause_s=0.002, more=None):
        super().__init__(daemon=True)
        self.broker, self.user, self.rows, self.epoch = broker, user, list(rows), epoch
        self.more, self.growing = more, more is not None
        self.per_bundle, self.pause_s = per_bundle, pause_s
        self.stored, self.refused = set(), {}
        self.sent = 0
        self.stopping = threading.Event()

    @property
    def open_rows(self):
        return [n for n in range(1, len(self.rows) + 1) if n not in self.stored and n not in self.refused]

    def run(self):
        while self._owes() and not self.stopping.is_set():
            try:
                self._session()
            except OSError:
                time.sleep(0.1)

    def join_done(self, timeout_s):
        self.growing = False
        self.join(timeout_s)
        left = self.open_rows
        self.stopping.set()
        assert not left, f"{len(left)} rows never acknowledged, the first {left[:5]}"

    def _owes(self):
        """Whether rows are open; before each sending, as long as it grows, it makes ten bundles of new ones."""
        if self.growing:
            self.rows += [self.more(i) for i in range(len(self.rows), len(self.rows) + 10 * self.per_bundle)]
        return bool(self.open_rows)

    def _session(self):
        parser = mqtt.PacketParser()
        with socket.create_connection((self.broker.host, self.broker.port), timeout=5) as link:
            link.settimeout(0.05)
            link.sendall(mqtt.encode_connect(self.user, self.user, self.broker.password(self.user), clean=True, keepalive=60))
            link.sendall(mqtt.encode_subscribe(1, [(f"pl/1/{self.user}/ack", 1)]))
            while self._owes() and not self.stopping.is_set():
                self._send(link, parser)
                until = time.monotonic() + RESEND_S
                while time.monotonic() < until and self.open_rows:
                    self._hear(link, parser)

    def _send(self, link, parser):
        pid = 0
        rows = self.open_rows
        for i in range(0, len(rows), self.per_bundle):
            first = rows[i]
            last = first
            while last - first + 1 < self.per_bundle and last + 1 in rows:
                last += 1
            pid = pid % 60_000 + 1
            message = encode_bundle(self.epoch, first, self.rows[first - 1 : last])
            link.sendall(mqtt.encode_publish(f"pl/1/{self.user}/up", message, 1, pid))
            self.sent += 1
            if i % (10 * self.per_bundle) == 0:
                self._hear(link, parser)
            time.sleep(self.pause_s)

    def _hear(self, link, parser):
        try:
            data = link.recv(65536)
        except TimeoutError:
            return
        if not data:
            raise ConnectionError("closed")
        run = parser.feed_publishes(data)
        for _, payload in run.messages:
            ack = decode_ack(payload)
            assert isinstance(ack, Ack), ack
            if ack.epoch == self.epoch:
                for first, last in ack.stored:
                    self.stored.update(range(first, last + 1))
                for r in ack.refused:
                    self.refused.update(dict.fromkeys(range(r.first, r.last + 1), r.reason))
        link.sendall(mqtt.encode_pubacks(run.pids))
