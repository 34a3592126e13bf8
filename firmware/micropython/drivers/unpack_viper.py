"""The unpacking as machine code: the text of `unpack_plain.py` under other heads. Only MicroPython with a native emitter imports it."""

import micropython


@micropython.viper
def axes(x: ptr16, y: ptr16, z: ptr16, source: ptr8, at: int, count: int, high: int) -> int:
    """Samples of three axes, 4,096 counts a g, into thousandths of g from number `at` on; the high byte of each is its first (0) or second (1)."""
    i = 0
    end = at + count
    while at < end:
        value = (source[i + high] << 8) + source[i + 1 - high]
        if value > 32767:
            value -= 65536
        x[at] = (value * 1000) >> 12
        value = (source[i + 2 + high] << 8) + source[i + 3 - high]
        if value > 32767:
            value -= 65536
        y[at] = (value * 1000) >> 12
        value = (source[i + 4 + high] << 8) + source[i + 5 - high]
        if value > 32767:
            value -= 65536
        z[at] = (value * 1000) >> 12
        i += 6
        at += 1
    return at


@micropython.viper
def lights(red: ptr32, infrared: ptr32, source: ptr8, at: int, count: int) -> int:
    """Samples of two lights, 18 bits in three bytes each, from number `at` on."""
    i = 0
    end = at + count
    while at < end:
        red[at] = ((source[i] & 3) << 16) + (source[i + 1] << 8) + source[i + 2]
        infrared[at] = ((source[i + 3] & 3) << 16) + (source[i + 4] << 8) + source[i + 5]
        i += 6
        at += 1
    return at
