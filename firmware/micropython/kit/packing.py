"""Bytes of a record, little-endian: the bytecode twin of `packing_viper`, for CPython and ports without a native emitter.

`code` says where and how a field is stored: byte offset << 4 | 8 if signed | (bytes - 1). Both twins write the same bytes for every value
of at most 32 bits; fields of 8 bytes are not theirs.
"""


def copy(target, at, source, count):
    """`count` bytes from the start of `source` to `target[at:]`."""
    for i in range(count):
        target[at + i] = source[i]


def store(target, start, code, value):
    """Store an integer in a field of the record at `start`; 0 when it does not fit, and then nothing is changed.

    Fields of 4 bytes take the low 32 bits.
    """
    width = (code & 7) + 1
    if width > 4:
        return 0
    if width < 4:
        high = 1 << width * 8
        low = 0
        if code & 8:
            high >>= 1
            low = -high
        if value < low or value >= high:
            return 0
    at = start + (code >> 4)
    for i in range(width):
        target[at + i] = value & 255
        value >>= 8
    return 1
