"""Signals of sensors into what an athlete did: steps, cadence, repetitions, heart rate, turns.

Integers only, and not one byte allocated per sample: a garbage collection in the middle of a ride is a gap in the ride. The same files run on
MicroPython and CPython and come to equal results. Values stay below 2**30, because a 32-bit MicroPython allocates for what is longer.
"""
