"""The inner loops as bytecode. `loops_viper.py` is the same text compiled to machine code: a test holds that only the heads differ.

Viper has no `//` and no `%`, its integers are as long as a machine word, and what it reads from a buffer is never negative: so buffers here hold
unsigned 16-bit values around a centre, and sums stay below 2**30.
"""


def isqrt(n):
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


def total(samples, start, n):
    """The sum of n samples from start on."""
    end = start + n
    result = 0
    while start < end:
        result += samples[start]
        start += 1
    return result


def reach(samples, start, n, centre):
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


def correlation(samples, start, n, lag, centre, shift, stride):
    """The sum over every `stride`-th of n samples of it times the sample `lag` later, both from the centre and shifted right."""
    end = start + n
    result = 0
    while start < end:
        result += ((samples[start] - centre) >> shift) * ((samples[start + lag] - centre) >> shift)
        start += stride
    return result


def crest(samples, start, end, apart):
    """Where the first sample is that none of the next `apart` exceeds, from start on; -1 when the end comes first."""
    best = start
    while start < end:
        if samples[start] > samples[best]:
            best = start
        elif start - best >= apart:
            return best
        start += 1
    return -1


def highest(samples, start, end):
    """Where the first of the highest samples is."""
    best = start
    while start < end:
        if samples[start] > samples[best]:
            best = start
        start += 1
    return best
