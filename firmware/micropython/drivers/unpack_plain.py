"""Bytes of FIFOs into samples, as bytecode. `unpack_viper.py` is the same text compiled to machine code: a test holds that only the heads differ."""


def axes(x, y, z, source, at, count, high):
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


def lights(red, infrared, source, at, count):
    """Samples of two lights, 18 bits in three bytes each, from number `at` on."""
    i = 0
    end = at + count
    while at < end:
        red[at] = ((source[i] & 3) << 16) + (source[i + 1] << 8) + source[i + 2]
        infrared[at] = ((source[i + 3] & 3) << 16) + (source[i + 4] << 8) + source[i + 5]
        i += 6
        at += 1
    return at
