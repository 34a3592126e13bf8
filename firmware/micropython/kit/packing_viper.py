"""Bytes of a record, little-endian, as native code; `packing` is the bytecode twin and says what both do."""

import micropython


@micropython.viper
def copy(target: ptr8, at: int, source: ptr8, count: int):  # noqa: F821
    i = 0
    while i < count:
        target[at + i] = source[i]
        i += 1


@micropython.viper
def start(self, tick_ms: int) -> bool:
    state = ptr32(self._state)  # noqa: F821
    if state[0] >= state[2] or tick_ms < 0 or tick_ms > 65535:
        return False
    size = state[3]
    at = state[1] + size
    buf = ptr8(self._buf)  # noqa: F821
    absent = ptr8(self._absent)  # noqa: F821
    buf[at] = tick_ms
    buf[at + 1] = tick_ms >> 8
    i = 2
    while i < size:
        buf[at + i] = absent[i]
        i += 1
    state[0] += 1
    state[1] = at
    return True


@micropython.viper
def put(self, code: int, value):
    number = 0
    odd = False
    try:
        number = int(value)
    except TypeError:
        odd = True
    if odd:
        if value:
            number = int(value)  # raises again
        return  # None
    state = ptr32(self._state)  # noqa: F821
    width = (code & 7) + 1
    if width > 4:
        state[4] += 1
        return
    if width < 4:
        high = 1 << (width * 8)
        low = 0
        if code & 8:
            high >>= 1
            low = 0 - high
        if number < low or number >= high:
            state[4] += 1
            return
    buf = ptr8(self._buf)  # noqa: F821
    at = state[1] + (code >> 4)
    i = 0
    while i < width:
        buf[at + i] = number
        number >>= 8
        i += 1


@micropython.viper
def put_raw(self, code: int, source: ptr8, at: int):  # noqa: F821
    state = ptr32(self._state)  # noqa: F821
    buf = ptr8(self._buf)  # noqa: F821
    to = state[1] + (code >> 4)
    count = (code & 7) + 1
    i = 0
    while i < count:
        buf[to + i] = source[at + i]
        i += 1
