"""Signals through the kit's DSP, on MicroPython and CPython: what came of them each second, and that no sample allocated.

`dsp_samples.py motion|pulse RATE_HZ [bytecode]` reads samples from standard input, a line each, and prints a line of integers for each second. On MicroPython
the heap is locked while they run: the first byte that is allocated is a MemoryError. `bytecode` takes the plain loops instead of machine code.
"""

import sys
from array import array

if "bytecode" in sys.argv:
    import dsp.loops_plain

    sys.modules["dsp.loops"] = dsp.loops_plain

from dsp.cadence import Cadence
from dsp.magnitude import Magnitude
from dsp.ppg import Ppg
from dsp.reps import Reps
from dsp.rpm import Rpm
from dsp.steps import Steps

try:
    from micropython import heap_lock, heap_unlock
except ImportError:

    def heap_lock():
        """CPython has no such lock."""

    def heap_unlock():
        """Nor this."""


def motion(samples, rate_hz, said):
    magnitude, steps, cadence, reps = Magnitude(rate_hz), Steps(), Cadence(), Reps(rate_hz)
    at = 0
    heap_lock()
    for i in range(0, len(samples), 3):
        reps.add(samples[i], samples[i + 1], samples[i + 2])
        level = magnitude.add(samples[i], samples[i + 1], samples[i + 2])
        if level >= 0:
            steps.add(level)
            if cadence.add(level, steps.count):
                said[at] = steps.count
                said[at + 1] = cadence.cadence_spm
                said[at + 2] = reps.count
                said[at + 3] = level
                at += 4
    heap_unlock()
    return at


def pulse(samples, rate_hz, said):
    ppg = Ppg(rate_hz)
    at = 0
    heap_lock()
    for light in samples:
        if ppg.add(light):
            said[at] = ppg.hr_dbpm
            said[at + 1] = ppg.quality
            said[at + 2] = ppg.reason
            said[at + 3] = 0
            at += 4
    heap_unlock()
    return at


def turns(times, rate_hz, said):
    rpm = Rpm()
    at = 0
    heap_lock()
    for now_us in times:
        said[at] = rpm.pulse(now_us)
        said[at + 1] = rpm.drpm(now_us + 1000)
        said[at + 2] = rpm.speed_mmps(now_us + 1000, 2105)
        said[at + 3] = rpm.bounces
        at += 4
    heap_unlock()
    return at


def main(what, rate_hz, lines):
    samples = array("i")
    for line in lines:
        for word in line.split():
            samples.append(int(word))
    said = array("i", bytes(16 * (len(samples) // (1 if what == "turns" else 50) + 2)))
    length = {"motion": motion, "pulse": pulse, "turns": turns}[what](samples, rate_hz, said)
    for start in range(0, length, 4):
        print(said[start], said[start + 1], said[start + 2], said[start + 3])


if __name__ == "__main__":
    main(sys.argv[1], int(sys.argv[2]), sys.stdin)
