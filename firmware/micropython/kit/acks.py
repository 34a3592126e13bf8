"""What the far end says of our rows: msgpack `[1, epoch, [[first, last], ...], [[first, last, reason], ...]]`, as `broker.acks` writes it.

Any bytes give an answer or None, never an exception; nothing is built that is longer than the message.
"""

MAX_N = (1 << 48) - 1
_MAX_REASON = 64


class _Bad(Exception):
    pass


class _Reader:
    def __init__(self, raw):
        self.raw = raw
        self.at = 0

    def bytes(self, count):
        at = self.at
        if at + count > len(self.raw):
            raise _Bad
        self.at = at + count
        return self.raw[at : at + count]

    def integer(self):
        kind = self.bytes(1)[0]
        if kind < 0x80:
            return kind
        if not 0xCC <= kind <= 0xCF:
            raise _Bad
        value = 0
        for byte in self.bytes(1 << kind - 0xCC):
            value = value << 8 | byte
        return value

    def array(self):
        """How many elements follow."""
        kind = self.bytes(1)[0]
        if kind & 0xF0 == 0x90:
            count = kind & 15
        elif kind == 0xDC:
            high, low = self.bytes(2)
            count = high << 8 | low
        else:
            raise _Bad
        if count > len(self.raw) - self.at:  # each takes a byte at least
            raise _Bad
        return count

    def text(self):
        kind = self.bytes(1)[0]
        if kind & 0xE0 == 0xA0:
            size = kind & 31
        elif kind == 0xD9:
            size = self.bytes(1)[0]
        else:
            raise _Bad
        if size > _MAX_REASON:
            raise _Bad
        return str(bytes(self.bytes(size)), "utf-8")

    def range(self, elements):
        if self.array() != elements:
            raise _Bad
        first, last = self.integer(), self.integer()
        if not first <= last <= MAX_N:
            raise _Bad
        return first, last


def read_ack(raw):
    """(epoch, [(first, last), ...] stored, [(first, last, reason), ...] refused), or None when it is no ack."""
    reader = _Reader(raw)
    try:
        if reader.array() != 4 or reader.integer() != 1:
            return None
        epoch = reader.integer()
        stored = [reader.range(2) for _ in range(reader.array())]
        refused = [reader.range(3) + (reader.text(),) for _ in range(reader.array())]
    except (_Bad, UnicodeError):
        return None
    return (epoch, stored, refused) if reader.at == len(raw) else None
