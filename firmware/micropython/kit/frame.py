"""Frames on the device: records of one layout packed into one buffer, then the header of the wire in front of them.

    writer = FrameWriter(motion_1, "watch-7", boot)
    writer.open(clock.monotonic_us())
    if writer.start(tick_ms):                 # False: the frame is full, or 65 s old: close it and open the next
        writer.put(motion_1.HR_BPM, 141)
    frame = writer.close(seq, utc_offset_us, clock_quality)

Integers only. `start` and `put` allocate nothing; `close` makes one small view. The bytes are those of `broker.frames.encode_frame`.
Invariant: a frame is at most `max_bytes` (1,024) and fields not put are absent.
"""

from array import array

try:
    from kit.packing_viper import copy, put, put_raw, start
except (ImportError, SyntaxError):  # CPython, or a port without native code
    from kit.packing import copy, put, put_raw, start

COUNT, AT, CAPACITY, SIZE, MISFITS = 0, 1, 2, 3, 4  # places of a writer's state, as in kit.packing
MAX_FRAME_BYTES = 1024
MAX_TICK_MS = 65535
SELF_NUMBERED = 1
CLOCK_UNKNOWN, CLOCK_SET, CLOCK_NETWORK, CLOCK_GNSS = 0, 1, 2, 3


def put_int(buf, at, value):
    """The shortest msgpack form of an integer of at most 64 bits; returns the place after it."""
    if 0 <= value < 0x80 or -32 <= value < 0:
        buf[at] = value & 255
        return at + 1
    if value > 0:
        kind = 0xCC
        width = 1 if value < 0x100 else 2 if value < 0x10000 else 4 if value < 1 << 32 else 8
    else:
        kind = 0xD0
        width = 1 if value >= -0x80 else 2 if value >= -0x8000 else 4 if value >= -(1 << 31) else 8
    buf[at] = kind + (0 if width == 1 else 1 if width == 2 else 2 if width == 4 else 3)
    for i in range(width, 0, -1):
        buf[at + i] = value & 255
        value >>= 8
    return at + 1 + width


def put_text(buf, at, text):
    """The msgpack form of ASCII text of at most 255 characters; returns the place after it."""
    raw = text.encode()
    if len(raw) < 32:
        buf[at] = 0xA0 | len(raw)
    else:
        buf[at] = 0xD9
        at += 1
        buf[at] = len(raw)
    copy(buf, at + 1, raw, len(raw))
    return at + 1 + len(raw)


class FrameWriter:
    """One frame after the other, of one device and layout (a module of `kit.layouts`). `misfits` counts values that did not fit."""

    start = start  # kit.packing says what they do
    put = put
    put_raw = put_raw

    def __init__(self, layout, device, boot, subject="", self_numbered=True, max_bytes=MAX_FRAME_BYTES):
        self.layout = layout
        self.t0_us = 0
        self._absent = layout.ABSENT
        self._buf = bytearray(max_bytes)
        self._view = memoryview(self._buf)
        self._state = array("i", (0, 0, 0, layout.SIZE, 0))  # see kit.packing
        self._begin = bytearray(9 + 5 + len(device) + 2)
        self._begin[0] = 0x9A
        at = put_int(self._begin, 1, layout.ID)
        at = put_int(self._begin, at, SELF_NUMBERED if self_numbered else 0)
        at = put_text(self._begin, at, device)
        self._begun = put_int(self._begin, at, boot)
        self.bind(subject)

    @property
    def count(self):
        """Records of the frame under way."""
        return self._state[COUNT]

    @property
    def capacity(self):
        """Records that a frame holds."""
        return self._state[CAPACITY]

    @property
    def misfits(self):
        """Values that did not fit their field since the start."""
        return self._state[MISFITS]

    def bind(self, subject):
        """Whom the next frames count for: `tenant/athlete`, or "" for nobody yet. ValueError while a frame is under way."""
        if self.count:
            raise ValueError("subject %s: close the frame under way first" % subject)
        size = self._state[SIZE]
        room = max(self._begun + 27 + 1 + len(subject) + 2 + 3, size)  # no place in the state is negative: native code reads them unsigned
        if not room + size <= len(self._buf) <= MAX_FRAME_BYTES:
            raise ValueError("max_bytes %d: give %d to %d" % (len(self._buf), room + size, MAX_FRAME_BYTES))
        self.subject = subject
        self._room = room
        self._head = bytearray(room)
        self._state[CAPACITY] = (len(self._buf) - room) // size
        self._state[AT] = room - size

    def open(self, t0_us):
        """Begin a frame at `t0_us` of the monotonic clock; what was not closed is dropped."""
        self.t0_us = t0_us
        self._state[COUNT] = 0
        self._state[AT] = self._room - self._state[SIZE]

    def put_wide(self, code, value):
        """Set a field of 8 bytes."""
        to = self._state[AT] + (code >> 4)
        for i in range((code & 7) + 1):
            self._buf[to + i] = value & 255
            value >>= 8

    def close(self, seq, utc_offset_us, clock):
        """The frame's bytes, a view that is good until `open`; None when it has no record. `utc_offset_us` None exactly when clock is 0."""
        count = self._state[COUNT]
        if not count:
            return None
        if (utc_offset_us is None) != (clock == CLOCK_UNKNOWN):
            raise ValueError("utc_offset_us must be None exactly when clock is 0")
        head = self._head
        copy(head, 0, self._begin, self._begun)
        at = put_int(head, self._begun, seq)
        at = put_int(head, at, self.t0_us)
        if utc_offset_us is None:
            head[at] = 0xC0
            at += 1
        else:
            at = put_int(head, at, utc_offset_us)
        at = put_text(head, put_int(head, at, clock), self.subject)
        length = count * self._state[SIZE]
        if length < 256:
            head[at] = 0xC4
            head[at + 1] = length
            at += 2
        else:
            head[at] = 0xC5
            head[at + 1] = length >> 8
            head[at + 2] = length & 255
            at += 3
        start = self._room - at
        copy(self._buf, start, head, at)
        self._state[COUNT] = 0
        return self._view[start : self._room + length]
