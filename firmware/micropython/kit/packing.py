"""Bytes of a record, little-endian: the bytecode twin of `packing_viper`, for CPython and ports without a native emitter.

`start`, `put` and `put_raw` are methods of `kit.frame.FrameWriter`, whose `_state` holds: records, where the last one begins, how many fit,
bytes of one, values that did not fit. A field's code is byte offset << 4 | 8 if signed | (bytes - 1). Both twins write the same bytes for
every value of at most 32 bits; of wider ones a field of 4 bytes takes the low 32.
"""

COUNT, AT, CAPACITY, SIZE, MISFITS = 0, 1, 2, 3, 4


def copy(target, at, source, count):
    """`count` bytes from the start of `source` to `target[at:]`."""
    for i in range(count):
        target[at + i] = source[i]


def start(self, tick_ms):
    """Begin a record `tick_ms` after the frame's start, with every field absent. False: close the frame first."""
    state = self._state
    if state[COUNT] >= state[CAPACITY] or not 0 <= tick_ms <= 65535:
        return False
    size = state[SIZE]
    at = state[AT] + size
    buf = self._buf
    copy(buf, at, self._absent, size)
    buf[at] = tick_ms & 255
    buf[at + 1] = tick_ms >> 8
    state[COUNT] += 1
    state[AT] = at
    return True


def put(self, code, value):
    """Set a field of the record: its raw value, or None for absent. A value beyond the field's range leaves it absent, and is counted."""
    if value is None:
        return
    state = self._state
    width = (code & 7) + 1
    if width > 4:
        state[MISFITS] += 1
        return
    if width < 4:
        high = 1 << width * 8
        low = 0
        if code & 8:
            high >>= 1
            low = -high
        if value < low or value >= high:
            state[MISFITS] += 1
            return
    buf = self._buf
    at = state[AT] + (code >> 4)
    for i in range(width):
        buf[at + i] = value & 255
        value >>= 8


def put_raw(self, code, source, at):
    """Set a field from its little-endian bytes at `source[at:]` (any width, without making an integer of them)."""
    to = self._state[AT] + (code >> 4)
    buf = self._buf
    for i in range((code & 7) + 1):
        buf[to + i] = source[at + i]
