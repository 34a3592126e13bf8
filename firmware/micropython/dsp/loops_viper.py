"""The inner loops as machine code: the text of `loops_plain.py` under other heads. Only MicroPython with a native emitter imports it."""

import micropython


@micropython.viper
def isqrt(n: int) -> int:
    """The integer square root of 0 <= n < 2**30, bit by bit."""
    root = 0
    bit = 1 << 28
    while bit > n:
        bit >>= 2
    while bit:
        if n >= root + bit:
            n -= root + bit
            root = (root >> 1) + bit
        else:
            root >>= 1
        bit >>= 2
    return root


@micropython.viper
def total(samples: ptr16, start: int, n: int) -> int:
    """The sum of n samples from start on."""
    end = start + n
    result = 0
    while start < end:
        result += samples[start]
        start += 1
    return result


@micropython.viper
def reach(samples: ptr16, start: int, n: int, centre: int) -> int:
    """How far n samples go from their centre at most."""
    end = start + n
    furthest = 0
    while start < end:
        away = samples[start] - centre
        if away < 0:
            away = 0 - away
        if away > furthest:
            furthest = away
        start += 1
    return furthest


@micropython.viper
def correlation(samples: ptr16, start: int, n: int, lag: int, centre: int, shift: int, stride: int) -> int:
    """The sum over every `stride`-th of n samples of it times the sample `lag` later, both from the centre and shifted right."""
    end = start + n
    result = 0
    while start < end:
        result += ((samples[start] - centre) >> shift) * ((samples[start + lag] - centre) >> shift)
        start += stride
    return result


@micropython.viper
def crest(samples: ptr16, start: int, end: int, apart: int) -> int:
    """Where the first sample is that none of the next `apart` exceeds, from start on; -1 when the end comes first."""
    best = start
    while start < end:
        if samples[start] > samples[best]:
            best = start
        elif start - best >= apart:
            return best
        start += 1
    return -1


@micropython.viper
def highest(samples: ptr16, start: int, end: int) -> int:
    """Where the first of the highest samples is."""
    best = start
    while start < end:
        if samples[start] > samples[best]:
            best = start
        start += 1
    return best
