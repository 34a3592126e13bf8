"""MQTT 3.1.1 without I/O: packets into a buffer, bytes into packets. At most one packet is in memory; a longer one is passed over and
counted.

`Receiver` takes what the network gives and says which packet came. It raises ProtocolError for what no broker sends; the link is then
dropped.
"""

CONNACK, PUBLISH, PUBACK, SUBACK, UNSUBACK, PINGRESP = 2, 3, 4, 9, 11, 13
PINGREQ = b"\xc0\x00"
DISCONNECT = b"\xe0\x00"
MAX_REMAINING = 268435455


class ProtocolError(Exception):
    """The far end does not speak MQTT 3.1.1."""


def _put_text(buf, at, text):
    raw = text.encode() if isinstance(text, str) else text
    size = len(raw)
    buf[at] = size >> 8
    buf[at + 1] = size & 255
    buf[at + 2 : at + 2 + size] = raw
    return at + 2 + size


def _put_length(buf, at, length):
    while True:
        low = length & 127
        length >>= 7
        buf[at] = low | (128 if length else 0)
        at += 1
        if not length:
            return at


def connect_packet(client_id, user, password, keepalive_s, clean, will=None):
    """CONNECT. `will` is (topic, payload, qos, retain) or None."""
    fields = [client_id]
    flags = 2 if clean else 0
    if will is not None:
        fields += [will[0], will[1]]
        flags |= 4 | will[2] << 3 | (32 if will[3] else 0)
    if user is not None:
        fields.append(user)
        flags |= 128
    if password is not None:
        fields.append(password)
        flags |= 64
    fields = [text.encode() if isinstance(text, str) else text for text in fields]
    length = 10 + sum([2 + len(raw) for raw in fields])
    buf = bytearray(5 + length)
    buf[0] = 0x10
    at = _put_length(buf, 1, length)
    at = _put_text(buf, at, b"MQTT")
    buf[at : at + 4] = bytes((4, flags, keepalive_s >> 8, keepalive_s & 255))
    at += 4
    for raw in fields:
        at = _put_text(buf, at, raw)
    return buf[:at]


def subscribe_packet(pid, topics, qos):
    """SUBSCRIBE to `topics`, all with one QoS."""
    raws = [topic.encode() for topic in topics]
    length = 2 + sum([3 + len(raw) for raw in raws])
    buf = bytearray(5 + length)
    buf[0] = 0x82
    at = _put_length(buf, 1, length)
    buf[at] = pid >> 8
    buf[at + 1] = pid & 255
    at += 2
    for raw in raws:
        at = _put_text(buf, at, raw)
        buf[at] = qos
        at += 1
    return buf[:at]


def publish_bytes(topic_bytes, payload_bytes, qos):
    """How long a PUBLISH packet is."""
    length = 2 + topic_bytes + (2 if qos else 0) + payload_bytes
    return 1 + (1 if length < 128 else 2 if length < 16384 else 3 if length < 2097152 else 4) + length


def put_publish(buf, at, topic, payload, qos, retain, dup, pid):
    """A PUBLISH packet at `buf[at:]`; returns the place after it. `topic` is bytes."""
    length = 2 + len(topic) + (2 if qos else 0) + len(payload)
    buf[at] = 0x30 | (8 if dup else 0) | qos << 1 | (1 if retain else 0)
    at = _put_text(buf, _put_length(buf, at + 1, length), topic)
    if qos:
        buf[at] = pid >> 8
        buf[at + 1] = pid & 255
        at += 2
    buf[at : at + len(payload)] = payload
    return at + len(payload)


def put_puback(buf, at, pid):
    """A PUBACK packet at `buf[at:]`; returns the place after it."""
    buf[at] = 0x40
    buf[at + 1] = 2
    buf[at + 2] = pid >> 8
    buf[at + 3] = pid & 255
    return at + 4


class Receiver:
    """Read into `space()`, say `took(n)`, then ask `next()` until it gives 0.

    After PUBLISH: `qos`, `pid`, `topic` and `payload` (views, good until the next call), `payload` None when it was too long to keep. After
    CONNACK: `session_present`, `code`. After PUBACK and SUBACK: `pid`; after SUBACK also `refused`, whether a topic was.
    """

    def __init__(self, size=2048):
        self._buf = bytearray(size)
        self._view = memoryview(self._buf)
        self.passed_over = 0  # messages longer than `size`
        self.reset()

    def reset(self):
        """Begin with a new link."""
        self._start = self._end = 0
        self._skip = 0
        self.qos = self.pid = self.code = 0
        self.session_present = self.refused = False
        self.topic = self.payload = None

    def space(self):
        """Where the next bytes go; never empty."""
        if self._start:
            size = self._end - self._start
            if size:
                self._buf[:size] = self._buf[self._start : self._end]
            self._start, self._end = 0, size
        return self._view[self._end :]

    def took(self, count):
        """`count` bytes were put there."""
        self._end += count
        if self._skip:
            passed = min(self._skip, self._end - self._start)
            self._skip -= passed
            self._start += passed

    def next(self):
        """The kind of the next whole packet, or 0 when more bytes are needed."""
        buf, start, end = self._buf, self._start, self._end
        length, at = 0, start + 1
        while True:
            if at >= end:
                return 0
            if at - start > 4:
                raise ProtocolError("remaining length of more than 4 bytes")
            byte = buf[at]
            length |= (byte & 127) << 7 * (at - start - 1)
            at += 1
            if byte < 128:
                break
        first = buf[start]
        kind = first >> 4
        if kind == PUBLISH:
            return self._publish(first & 15, at, length)
        if kind not in (CONNACK, PUBACK, SUBACK, UNSUBACK, PINGRESP) or length > 64 or first & 15:
            raise ProtocolError("packet 0x%02x of %d bytes" % (first, length))
        if at + length > end:
            return 0
        if kind == PINGRESP:
            good = length == 0
        elif kind == CONNACK:
            good = length == 2 and buf[at] < 2
        else:
            good = length >= 3 if kind == SUBACK else length == 2
        if not good:
            raise ProtocolError("packet 0x%02x of %d bytes" % (first, length))
        if kind == CONNACK:
            self.session_present, self.code = buf[at] == 1, buf[at + 1]
        elif length:
            self.pid = buf[at] << 8 | buf[at + 1]
            self.refused = kind == SUBACK and max(buf[at + 2 : at + length]) > 2
        self._start = at + length
        return kind

    def _publish(self, flags, at, length):
        buf, end = self._buf, self._end
        qos = flags >> 1 & 3
        head = 2 if at + 2 > end else 2 + (buf[at] << 8 | buf[at + 1]) + (2 if qos else 0)
        if qos > 1 or length < head:
            raise ProtocolError("PUBLISH with QoS %d or shorter than its topic" % qos)
        if at + head > end and at - self._start + head <= len(buf):
            return 0
        if at - self._start + length <= len(buf):
            if at + length > end:
                return 0
            whole = True
        else:  # longer than the buffer: what came of it goes, and the rest as it comes
            whole = False
            self.passed_over += 1
            if at + head > end:
                raise ProtocolError("topic of %d bytes" % head)
        topic_end = at + head - (2 if qos else 0)
        self.qos = qos
        self.pid = buf[topic_end] << 8 | buf[topic_end + 1] if qos else 0
        self.topic = self._view[at + 2 : topic_end]
        if whole:
            self.payload = self._view[at + head : at + length]
            self._start = at + length
        else:
            self.payload = None
            self._skip = at + length - end
            self._start = end
        return PUBLISH
