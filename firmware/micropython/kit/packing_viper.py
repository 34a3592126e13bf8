"""Bytes of a record, little-endian, as native code; `packing` is the bytecode twin and says what both do."""

import micropython


@micropython.viper
def copy(target: ptr8, at: int, source: ptr8, count: int):  # noqa: F821
    i = 0
    while i < count:
        target[at + i] = source[i]
        i += 1


@micropython.viper
def store(target: ptr8, start: int, code: int, value: int) -> int:  # noqa: F821
    width = (code & 7) + 1
    if width > 4:
        return 0
    if width < 4:
        high = 1 << (width * 8)
        low = 0
        if code & 8:
            high >>= 1
            low = 0 - high
        if value < low or value >= high:
            return 0
    at = start + (code >> 4)
    i = 0
    while i < width:
        target[at + i] = value
        value >>= 8
        i += 1
    return 1
