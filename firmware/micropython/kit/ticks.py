"""Wrapping ticks, the same on both interpreters: differences are right for periods of less than half the wrap (6 days in ms, 8 minutes in
us).
"""

import sys

if sys.implementation.name == "micropython":
    from asyncio import sleep_ms
    from time import ticks_add, ticks_diff, ticks_ms, ticks_us
else:
    import asyncio
    import time

    _WRAP = 1 << 30

    def ticks_ms():
        return time.monotonic_ns() // 1_000_000 % _WRAP

    def ticks_us():
        return time.monotonic_ns() // 1000 % _WRAP

    def ticks_add(ticks, delta):
        return (ticks + delta) % _WRAP

    def ticks_diff(later, earlier):
        return (later - earlier + _WRAP // 2) % _WRAP - _WRAP // 2

    def sleep_ms(ms):
        return asyncio.sleep(ms / 1000)
