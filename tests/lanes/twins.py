"""Machine code against its bytecode twin, on any MicroPython: the same calls with drawn arguments give the same values and write the same bytes.

`twins.main(rounds)` prints how many calls were compared; AssertionError with the call that differs.
"""

import sys
from array import array

from drivers import scan_plain, scan_viper, unpack_plain, unpack_viper
from dsp import loops_plain, loops_viper


class Dice:
    """Numbers that are the same everywhere: a multiplicative generator below 2**31, kept within 30 bits where it is drawn from."""

    def __init__(self, seed):
        self.state = seed

    def below(self, limit):
        self.state = (self.state * 48_271) % 0x7FFF_FFFF
        return (self.state >> 3) % limit


def compare(name, first, second, *arguments):
    ours, theirs = first(*arguments), second(*arguments)
    if ours != theirs:
        raise AssertionError("%s%r: %r and %r" % (name, arguments, ours, theirs))


def compare_writing(name, first, second, buffers, *arguments, kind="H"):
    """Functions that write: each gets its own copy of the buffers."""
    results = []
    for function in (first, second):
        mine = [type(buf)(buf) if isinstance(buf, bytearray) else array(kind, buf) for buf in buffers]
        results.append((function(*(mine + list(arguments))), [list(buf) for buf in mine]))
    if results[0] != results[1]:
        raise AssertionError("%s%r%r: %r and %r" % (name, buffers, arguments, results[0], results[1]))


def main(rounds):
    dice = Dice(12_345)
    for _ in range(rounds):
        compare("isqrt", loops_plain.isqrt, loops_viper.isqrt, dice.below(1 << 30) >> dice.below(30))
        span = 1 + dice.below(16)
        centre = dice.below(65_536)
        samples = array("H", [max(0, min(65_535, centre - (1 << span) // 2 + dice.below(1 << span))) for _ in range(60)])
        start = dice.below(20)
        n = dice.below(30)
        for name in ("total", "highest"):
            compare(name, getattr(loops_plain, name), getattr(loops_viper, name), samples, start, n)
        compare("reach", loops_plain.reach, loops_viper.reach, samples, start, n, centre)
        compare("crest", loops_plain.crest, loops_viper.crest, samples, start, start + n, 1 + dice.below(9))
        shift = max(0, span - 9)
        compare(
            "correlation",
            loops_plain.correlation,
            loops_viper.correlation,
            samples,
            start,
            n,
            dice.below(10),
            centre,
            shift,
            1 + dice.below(4),
        )
        text = bytearray([b"$GPRMC,.0123456789*AF\r\n-\xb5\x62\x01\x07\x02\x00"[dice.below(30)] for _ in range(100)])
        line = bytearray(100)
        state = array("H", (dice.below(50), 0))
        compare_writing("gather", scan_plain.gather, scan_viper.gather, (line, state, text), 0, 100, 40)
        compare_writing("split", scan_plain.split, scan_viper.split, (text,), 9 + dice.below(80), array("H", bytes(50)), 24)
        compare("number", scan_plain.number, scan_viper.number, text, start, start + dice.below(9), dice.below(8))
        compare_writing(
            "place", scan_plain.place, scan_viper.place, (bytearray(8),), 4, dice.below(181), dice.below(10_000_000), dice.below(2)
        )
        state = array("H", (0, 0))
        compare_writing("take", scan_plain.take, scan_viper.take, (line, state, text), 0, 100, 100)
        lights = (array("i", bytes(40)), array("i", bytes(40)))
        compare_writing("lights", unpack_plain.lights, unpack_viper.lights, lights, text, dice.below(3), dice.below(8), kind="i")
        for i in range(48):
            text[i] = dice.below(256)
        axes = tuple([array("h", bytes(20)) for _ in range(3)])
        compare_writing("axes", unpack_plain.axes, unpack_viper.axes, axes, text, dice.below(3), dice.below(8), dice.below(2), kind="h")
    print(rounds * 12)


if __name__ == "__main__":
    main(int(sys.argv[1]))
