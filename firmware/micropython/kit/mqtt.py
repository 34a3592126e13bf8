"""An MQTT 3.1.1 client for small devices: it connects again for ever, resumes its session, and waits for nothing without a limit.

    client = Client(settings, on_message, on_link)
    asyncio.create_task(client.run())
    client.send(topic, payload)                 # now, or 0 when there is no link or no room: the caller keeps what it wants to keep
    await client.publish(topic, payload)        # kept here until the broker has acknowledged it, sent again with DUP on the next link

Packets made meanwhile leave in one write; acks are read until there are none before anything waits. Memory is bounded: two buffers of
`out_bytes`, one of `in_bytes`, and at most `window` messages at QoS 1 under way. Longer messages that come in are acknowledged, counted and
passed over.
"""

import asyncio
import os

from kit import mqtt_codec as codec
from kit.stream import open_stream
from kit.ticks import sleep_ms, ticks_add, ticks_diff, ticks_ms

_TICK_MS = 250
_CONNECT_MS = 10000  # TCP, TLS and CONNACK each
_ANSWER_MS = 10000  # PINGRESP
_ACK_MS = 20000  # PUBACK; and any progress in writing
_SPARE = 64  # bytes of a buffer that messages leave to acks and pings


class Settings:
    """Who and where. `context` (kit.stream.tls_context) makes it TLS; `server_name` is then the name the certificate must show, `host` by
    default.

    `will` is (topic, payload, qos, retain). `clean` False asks the broker to keep the session: what it was to send meanwhile comes at the
    next connect.
    """

    def __init__(self, host, port, client_id, user=None, password=None, context=None, server_name=None, will=None, clean=True,
                 keepalive_s=30, topics=(), window=16, out_bytes=4096, in_bytes=2048, backoff_ms=1000, max_backoff_ms=30000,
                 connect=open_stream):
        self.host, self.port, self.client_id = host, port, client_id
        self.user, self.password = user, password
        self.context, self.server_name = context, server_name
        self.will, self.clean, self.keepalive_s = will, clean, keepalive_s
        self.topics = topics
        self.window, self.out_bytes, self.in_bytes = window, out_bytes, in_bytes
        self.backoff_ms, self.max_backoff_ms = backoff_ms, max_backoff_ms
        self.connect = connect  # a network of the simulated board stands here
        if not 4 <= keepalive_s <= 60:
            raise ValueError("keepalive_s %d: give 4 to 60, so that a half-open link is noticed" % keepalive_s)
        if not 1 <= window <= 1000 or out_bytes < 256 or in_bytes < 256:
            given = (window, out_bytes, in_bytes)
            raise ValueError("window %d, out_bytes %d, in_bytes %d: window 1 to 1000, buffers of at least 256" % given)


class Client:
    """`on_message(topic, payload)` gets bytes and a view that is good during the call, None for a message longer than `in_bytes`;
    `on_link(up)` when subscribed, and when the link went.

    `counters`: links, resumed (sessions), refused (code of the last CONNACK that refused), sent, acked, resent, received, failed_callbacks.
    """

    def __init__(self, settings, on_message=None, on_link=None):
        self.settings = settings
        self.up = False
        self.last_error = None
        self.counters = {"links": 0, "resumed": 0, "refused": 0, "sent": 0, "acked": 0, "resent": 0, "received": 0, "failed_callbacks": 0}
        self._on_message, self._on_link = on_message, on_link
        size = settings.out_bytes
        # packets are added to one while the other is written
        self._fill, self._drain = memoryview(bytearray(size)), memoryview(bytearray(size))
        self._filled = 0
        self._in = codec.Receiver(settings.in_bytes)
        self._flight = {}  # pid -> [sent_ms or None, topic, payload or None when the caller keeps it, retain]
        self._again = []  # pids to send on this link, as they were not acknowledged on the last
        self._pid = 0
        self._subscribing = 0  # pid of the SUBSCRIBE under way
        self._subscribed = False
        self._kick, self._moved, self._over = asyncio.Event(), asyncio.Event(), asyncio.Event()
        self._stopping = False
        self._backoff_ms = settings.backoff_ms

    # -- for the application

    @property
    def free(self):
        """How many more messages the window takes."""
        return self.settings.window - len(self._flight)

    def send(self, topic, payload, qos=1, retain=False):
        """Queue a message; its packet id (1 at QoS 0), or 0 when there is no link, no window or no room now.

        Nothing is kept when the link goes.
        """
        return self._queue(topic, payload, qos, retain, None) if self.up else 0

    async def publish(self, topic, payload, retain=False, timeout_s=30):
        """Publish at QoS 1 and keep the message until its PUBACK. OSError when that did not come in time; then it is forgotten."""
        payload = bytes(payload)
        end = ticks_add(ticks_ms(), timeout_s * 1000)
        pid = 0
        while not pid:
            pid = self._queue(topic, payload, 1, retain, payload) if self.up else 0
            if not pid:
                await self._move(end)
        while pid in self._flight:
            try:
                await self._move(end)
            except OSError:
                self._flight.pop(pid, None)
                raise

    def wake(self):
        """End the waits of `moved`."""
        self._moved.set()

    async def moved(self, timeout_s=1):
        """Until there may be room again, or the link changed, or `wake`, or the time is over.

        What happened before the call is not waited for again.
        """
        self._moved.clear()
        try:
            await asyncio.wait_for(self._moved.wait(), timeout_s)
        except asyncio.TimeoutError:
            pass

    def stop(self):
        """End `run` in good order: what is queued is written, then DISCONNECT, so that the will is not sent."""
        self._stopping = True
        self._kick.set()
        if not self.up:
            self._over.set()

    async def run(self):
        """Connect, serve, and connect again with doubling, jittered waits, until `stop`. Why the last link ended is in `last_error`.

        Can be run again.
        """
        self._stopping = False
        while not self._stopping:
            try:
                await self._link()
            except Exception as error:
                self.last_error = error
            finally:
                self._down()
            if not self._stopping:
                self._over.clear()
                half = self._backoff_ms // 2
                self._backoff_ms = min(2 * self._backoff_ms, self.settings.max_backoff_ms)
                try:
                    await asyncio.wait_for(self._over.wait(), (half + int.from_bytes(os.urandom(2), "little") * half // 65535) / 1000)
                except asyncio.TimeoutError:
                    pass

    # -- one link

    async def _link(self):
        at = self.settings
        stream = await asyncio.wait_for(at.connect(at.host, at.port, at.context, at.server_name), _CONNECT_MS // 1000)
        parts = []
        try:
            self._in.reset()
            await asyncio.wait_for(self._greet(stream), _CONNECT_MS // 1000)
            self._over.clear()
            self._failed = None
            self._heard_ms = self._wrote_ms = ticks_ms()
            self._asked_ms = self._writing_ms = None
            self._begin()
            for part in (self._read(stream), self._write(stream), self._watch()):
                parts.append(asyncio.create_task(self._part(part)))
            await self._over.wait()
            if self._failed is not None:
                raise self._failed
        finally:
            for part in parts:
                part.cancel()
            while not all([part.done() for part in parts]):
                await sleep_ms(0)
            stream.close()

    async def _greet(self, stream):
        """CONNECT and its answer; with TLS the handshake too."""
        at = self.settings
        packet = memoryview(codec.connect_packet(at.client_id, at.user, at.password, at.keepalive_s, at.clean, at.will))
        sent = 0
        while sent < len(packet):
            count = stream.write(packet[sent:])
            sent += count
            if not count:
                await sleep_ms(4)  # a handshake waits for either direction, and does not say for which
        while True:
            count = stream.read(self._in.space())
            if not count:
                await stream.readable()
                continue
            self._in.took(count)
            kind = self._in.next()
            if kind == codec.CONNACK:
                break
            if kind:
                raise codec.ProtocolError("packet %d before CONNACK" % kind)
        if self._in.code:
            self.counters["refused"] = self._in.code
            raise OSError("the broker refused %s: CONNACK code %d" % (at.client_id, self._in.code))

    def _begin(self):
        self.counters["links"] += 1
        self._again = sorted(self._flight)
        resumed = self._in.session_present
        self.counters["resumed"] += resumed
        if not resumed:
            for entry in self._flight.values():
                entry[0] = None  # the broker knows nothing of it: no DUP
        if self.settings.topics and not (resumed and self._subscribed):
            self._subscribing = self._new_pid()
            self._put(codec.subscribe_packet(self._subscribing, self.settings.topics, 1))
        else:
            self._ready()

    def _ready(self):
        self._subscribed = self.up = True
        self._subscribing = 0
        self._moved.set()
        self._kick.set()
        if self._on_link is not None:
            self._call(self._on_link, True)

    def _down(self):
        was, self.up = self.up, False
        self._filled = self._subscribing = 0
        for pid in [pid for pid, entry in self._flight.items() if entry[2] is None]:
            del self._flight[pid]
        self._moved.set()
        if was and self._on_link is not None:
            self._call(self._on_link, False)

    async def _part(self, running):
        try:
            await running
        except Exception as error:
            self._failed = error
        self._over.set()

    async def _write(self, stream):
        while True:
            while self._again and self._send_again(self._again[0]):
                self._again.pop(0)
            size = self._filled
            if not size:
                if self._stopping:
                    stream.write(codec.DISCONNECT)
                    return
                self._kick.clear()
                await self._kick.wait()
                continue
            self._fill, self._drain, self._filled = self._drain, self._fill, 0
            self._moved.set()
            sent = 0
            self._writing_ms = ticks_ms()
            while sent < size:
                count = stream.write(self._drain[sent:size])
                if count:
                    sent += count
                    self._writing_ms = ticks_ms()
                else:
                    await stream.writable()
            self._wrote_ms, self._writing_ms = self._writing_ms, None

    def _send_again(self, pid):
        entry = self._flight.get(pid)
        if entry is None or entry[2] is None:
            return True
        dup = entry[0] is not None
        if not self._publish(pid, entry[1], entry[2], 1, entry[3], dup):
            return False
        entry[0] = ticks_ms()
        self.counters["resent"] += 1
        return True

    async def _read(self, stream):
        while True:
            kind = self._in.next()  # what came with CONNACK is there already
            if kind:
                await self._handle(kind)
                continue
            count = stream.read(self._in.space())
            if count:
                self._in.took(count)
                await sleep_ms(0)
            else:
                await stream.readable()

    async def _handle(self, kind):
        if kind == codec.PUBACK:
            if self._flight.pop(self._in.pid, None) is not None:
                self.counters["acked"] += 1
                self._backoff_ms = self.settings.backoff_ms
                self._moved.set()
        elif kind == codec.PUBLISH:
            await self._take()
        elif kind == codec.SUBACK and self._in.pid == self._subscribing:
            if self._in.refused:
                raise OSError("the broker refused a subscription of %s" % self.settings.client_id)
            self._ready()
        elif kind == codec.PINGRESP:
            self._asked_ms = None
        elif kind == codec.CONNACK:
            raise codec.ProtocolError("a second CONNACK")

    async def _take(self):
        """A message that came: to the application, then its PUBACK; no room for that means the link is read no further."""
        qos, pid = self._in.qos, self._in.pid
        self.counters["received"] += 1
        if self._on_message is not None:
            self._call(self._on_message, bytes(self._in.topic), self._in.payload)
        if qos:
            while self._filled + 4 > len(self._fill):
                self._moved.clear()
                await self._moved.wait()  # `_watch` ends a link that does not move
            self._filled = codec.put_puback(self._fill, self._filled, pid)
            self._kick.set()

    async def _watch(self):
        """Pings, and the limits of every wait of this link."""
        while True:
            await sleep_ms(_TICK_MS)
            now = ticks_ms()
            if self._asked_ms is not None and ticks_diff(now, self._asked_ms) > _ANSWER_MS:
                raise OSError("no answer to PINGREQ")
            if self._writing_ms is not None and ticks_diff(now, self._writing_ms) > _ACK_MS:
                raise OSError("nothing can be written")
            for pid, entry in self._flight.items():
                if entry[0] is not None and pid not in self._again and ticks_diff(now, entry[0]) > _ACK_MS:
                    raise OSError("no PUBACK")
            if self._subscribing and ticks_diff(now, self._heard_ms) > _CONNECT_MS:
                raise OSError("no SUBACK")
            if self._asked_ms is None and ticks_diff(now, self._wrote_ms) > self.settings.keepalive_s * 500:
                self._asked_ms = now
                self._put(codec.PINGREQ)

    # -- the buffer

    def _queue(self, topic, payload, qos, retain, kept):
        if qos and len(self._flight) >= self.settings.window or self._again:
            return 0
        topic = topic.encode() if isinstance(topic, str) else topic
        pid = self._new_pid() if qos else 0
        if not self._publish(pid, topic, payload, qos, retain, False):
            return 0
        if qos:
            self._flight[pid] = [ticks_ms(), topic, kept, retain]
        self.counters["sent"] += 1
        return pid or 1

    def _publish(self, pid, topic, payload, qos, retain, dup):
        """Whether the packet had room."""
        room = len(self._fill) - _SPARE
        size = codec.publish_bytes(len(topic), len(payload), qos)
        if size > room:
            raise ValueError("a message of %d bytes: at most %d, or make out_bytes larger" % (size, room))
        if self._filled + size > room:
            return False
        self._filled = codec.put_publish(self._fill, self._filled, topic, payload, qos, retain, dup, pid)
        self._kick.set()
        return True

    def _put(self, packet):
        end = self._filled + len(packet)
        if end > len(self._fill):
            raise ValueError("a packet of %d bytes does not fit out_bytes" % len(packet))
        self._fill[self._filled : end] = packet
        self._filled = end
        self._kick.set()

    def _new_pid(self):
        while True:
            self._pid = self._pid % 65535 + 1
            if self._pid not in self._flight:
                return self._pid

    async def _move(self, end):
        if ticks_diff(end, ticks_ms()) <= 0:
            raise OSError("%s: no PUBACK in time" % self.settings.client_id)
        await self.moved()

    def _call(self, callback, *arguments):
        try:
            callback(*arguments)
        except Exception as error:
            self.counters["failed_callbacks"] += 1
            self.last_error = error
