"""What the kit costs: instructions of a 32-bit board for each sample, frame, fix or signature, with the heap locked but for the last.

Each function of `GROUPS` prints a line for each: name, how many were done, and how many counts of the board's timer that took (40 instructions each);
what a stub of the bus takes is taken off. On other lanes there is no such timer, and the counts are 0: there it shows that all of it runs. How long a name is
looked for depends on the names that are known already: so each group imports what it needs, and runs on a board that just started.
`folder` holds `motion` (x, y, z as 16 bits, 100 a second), `light` (32 bits, 50 a second), `ubx` and `nmea` (ten fixes each).
"""

import gc
import sys
from array import array

try:
    from micropython import heap_lock, heap_unlock
except ImportError:

    def heap_lock():
        """CPython has no such lock."""

    def heap_unlock():
        """Nor this."""


try:
    from time import counts
except ImportError:

    def counts():
        return 0


_MASK = (1 << 29) - 1


def say(name, done, work, without=None):
    """Run `work(done)`; `without(done)` is what is not its own."""
    work(1)
    heap_lock()
    before = counts()
    work(done)
    taken = (counts() - before) & _MASK
    if without is not None:
        before = counts()
        without(done)
        taken -= (counts() - before) & _MASK
    heap_unlock()
    print(name, done, taken)


class Bus:
    """Answers with what was laid down, and costs the least that Python can."""

    def __init__(self):
        self.held = {}

    def readfrom_mem_into(self, address, register, buf):
        held = self.held.get(register)
        if held is not None:
            for i in range(len(held)):
                buf[i] = held[i]

    def writeto_mem(self, address, register, buf):
        pass


def nothing(ms):
    pass


class Adc:
    def read_uv(self):
        return 1_900_000


class Pin:
    IRQ_FALLING = 2

    def irq(self, handler, trigger=0):
        self.handler = handler


def motion(folder):
    from dsp.cadence import Cadence
    from dsp.magnitude import Magnitude
    from dsp.reps import Reps
    from dsp.steps import Steps

    samples = numbers("h", folder + "/motion")
    magnitude, steps, cadence, reps = Magnitude(100), Steps(), Cadence(), Reps(100)
    levels = array("i", bytes(len(samples) // 3))
    n = len(samples) // 3

    def magnitudes(count):
        k = 0
        for i in range(count):
            level = magnitude.add(samples[3 * i], samples[3 * i + 1], samples[3 * i + 2])
            if level >= 0:
                levels[k] = level
                k += 1

    def step(count):
        for i in range(count):
            steps.add(levels[i])

    def rhythm(count):
        for i in range(count):
            cadence.add(levels[i], i // 14)

    def repetition(count):
        for i in range(count):
            reps.add(samples[3 * i], samples[3 * i + 1], samples[3 * i + 2])

    say("dsp.magnitude: sample at 100 Hz", n, magnitudes)
    magnitude.gap()
    magnitudes(n)
    say("dsp.steps: magnitude at 25 Hz", n // 4, step)
    say("dsp.cadence: magnitude at 25 Hz, its second's look spread over it", n // 4 // 25 * 25, rhythm)
    say("dsp.reps: sample at 100 Hz", n, repetition)


def pulse(folder):
    from dsp.ppg import Ppg

    light = numbers("i", folder + "/light")
    ppg, quiet = Ppg(50), Ppg(50)

    def beat(count):
        for i in range(count):
            ppg.add(light[i])

    def fill(count):
        for i in range(count):
            quiet.add(light[i])

    for i in range(449):
        ppg.add(light[i])
    say("dsp.ppg: sample at 50 Hz, its second's look spread over it", 50, beat)
    say("dsp.ppg: sample alone", 49, fill)
    say("dsp.ppg: the look at eight seconds, once a second", 1, lambda _: ppg._look())


def turns(folder):
    from drivers.hall import Hall
    from dsp.rpm import Rpm

    rpm = Rpm()

    def pulses(count):
        for i in range(count):
            rpm.pulse(i * 600_000)

    def read(count):
        for i in range(count):
            rpm.drpm(i)

    say("dsp.rpm: pulse", 100, pulses)
    say("dsp.rpm: reading", 100, read)
    pin = Pin()
    clock = array("i", (0,))

    def ticks_us():
        clock[0] += 600_000
        return clock[0]

    Hall(pin, ticks_us)

    def edges(count):
        for _ in range(count):
            pin.handler(pin)

    def clocks(count):
        for _ in range(count):
            ticks_us()

    say("drivers.hall: pulse, in the interrupt", 100, edges, clocks)


def answering():
    """A bus with 16 samples in each FIFO."""
    bus = Bus()
    bus.held = {0xFF: b"\x15", 0x09: b"\x00", 0x04: b"\x10\x00\x00", 0x07: bytes(range(48)), 0x00: b"\x40"}
    bus.held.update({0x75: b"\x68", 0x6B: b"\x00", 0x72: b"\x00\x60", 0x74: bytes(range(48))})
    return bus


def sensors(folder):
    from drivers.battery import Battery
    from drivers.bmi270 import Bmi270
    from drivers.max30102 import Max30102
    from drivers.mpu6050 import Mpu6050

    bus = answering()
    light = Max30102(bus, nothing)
    buf = bytearray(48)

    def lights(count):
        for _ in range(count // 16):
            light.read()

    def light_bus(count):
        for _ in range(count // 16):
            bus.readfrom_mem_into(0x57, 0, buf)
            bus.readfrom_mem_into(0x57, 4, buf)
            bus.readfrom_mem_into(0x57, 7, buf)
            bus.readfrom_mem_into(0x57, 7, buf)

    say("drivers.max30102: sample, 16 at a time", 160, lights, light_bus)
    mpu = Mpu6050(bus, nothing)
    bus.held.update({0x00: b"\x24", 0x21: b"\x01", 0x24: b"\x60\x00", 0x26: bytes(range(48))})
    bosch = Bmi270(bus, nothing, folder + "/ubx")

    def samples_of(driver):
        def samples(count):
            for _ in range(count // 16):
                driver.read()

        return samples

    def fifo_bus(first, data):
        def transfers(count):
            for _ in range(count // 16):
                bus.readfrom_mem_into(0x68, 0x3A, buf)
                bus.readfrom_mem_into(0x68, first, buf)
                for _ in range(2):
                    bus.readfrom_mem_into(0x68, data, buf)

        return transfers

    say("drivers.mpu6050: sample, 16 at a time", 160, samples_of(mpu), fifo_bus(0x72, 0x74))
    say("drivers.bmi270: sample, 16 at a time", 160, samples_of(bosch), fifo_bus(0x24, 0x26))
    battery = Battery(Adc())

    def charges(count):
        for _ in range(count):
            battery.read()

    say("drivers.battery: reading, once a minute", 10, charges)


def receivers(folder):
    from drivers.nmea import Nmea
    from drivers.ubx import Ubx

    with open(folder + "/ubx", "rb") as ubx, open(folder + "/nmea", "rb") as nmea:
        ubx_bytes, nmea_bytes = ubx.read(), nmea.read()
    for name, parser, data in (("drivers.ubx: fix of 100 bytes", Ubx(), ubx_bytes), ("drivers.nmea: fix, RMC and GGA", Nmea(), nmea_bytes)):

        def feed(count, parser=parser, data=data):
            parser.feed(data, len(data))

        before = parser.fix.count
        parser.feed(data, len(data))
        fixes = parser.fix.count - before
        say(name, fixes, feed)


def frames(folder):
    from kit.frame import FrameWriter
    from kit.layouts import motion_1

    writer = FrameWriter(motion_1, "watch-7", 7)
    writer.open(0)

    def records(count):
        for i in range(count):
            writer.start(i * 1000)
            writer.put_raw(motion_1.LAT, place, 0)
            writer.put_raw(motion_1.LON, place, 4)
            writer.put(motion_1.SPEED_MPS, 900)
            writer.put(motion_1.HR_BPM, 141)
            writer.put(motion_1.CADENCE_RPM, 90)
            writer.put(motion_1.POWER_W, 250)

    place = bytes(8)
    say("kit.frame: record of tick and six fields", 30, records)
    before = counts()
    frame = writer.close(5, None, 0)
    print("kit.frame: closing a frame of", 1, (counts() - before) & _MASK)
    return frame


def twins(folder):
    from dsp import loops, loops_plain

    samples = array("H", [(i * 7919) % 1000 for i in range(800)])
    for name, module in (("machine code", loops), ("bytecode", loops_plain)):

        def work(count, module=module):
            for _ in range(count):
                module.correlation(samples, 0, 350, 50, 500, 0, 1)

        say("dsp.loops: correlation of 350 samples, " + name, 1, work)


def objects(folder):
    """Bytes of heap that an object of each kind holds, with its buffers."""
    from drivers.battery import Battery
    from drivers.max30102 import Max30102
    from drivers.mpu6050 import Mpu6050
    from drivers.nmea import Nmea
    from drivers.ubx import Ubx
    from dsp.cadence import Cadence
    from dsp.magnitude import Magnitude
    from dsp.ppg import Ppg
    from dsp.reps import Reps
    from dsp.rpm import Rpm
    from dsp.steps import Steps
    from kit.frame import FrameWriter
    from kit.layouts import motion_1

    bus = answering()
    kinds = (
        ("dsp.magnitude.Magnitude", lambda: Magnitude(100)),
        ("dsp.steps.Steps", Steps),
        ("dsp.cadence.Cadence", Cadence),
        ("dsp.reps.Reps", lambda: Reps(50)),
        ("dsp.ppg.Ppg", lambda: Ppg(50)),
        ("dsp.rpm.Rpm", Rpm),
        ("drivers.max30102.Max30102", lambda: Max30102(bus, nothing)),
        ("drivers.mpu6050.Mpu6050", lambda: Mpu6050(bus, nothing)),
        ("drivers.ubx.Ubx", Ubx),
        ("drivers.nmea.Nmea", Nmea),
        ("drivers.battery.Battery", lambda: Battery(Adc())),
        ("kit.frame.FrameWriter", lambda: FrameWriter(motion_1, "watch-7", 7)),
    )
    held = [None]
    for name, make in kinds:
        gc.collect()
        before = gc.mem_alloc()
        held[0] = make()
        gc.collect()
        print(name, gc.mem_alloc() - before)
        held[0] = None


def signature(folder):
    """Its long numbers are freed as it goes: this one needs the heap."""
    from kit.ed25519 import verify

    with open(folder + "/signed", "rb") as file:
        key, signed, message = file.read(32), file.read(64), file.read(200)
    before = counts()
    good = verify(key, message, signed)
    taken = (counts() - before) & _MASK
    assert good is True
    print("kit.ed25519: signature of 200 bytes checked", 1, taken)


def numbers(kind, path):
    with open(path, "rb") as file:
        return array(kind, file.read())


GROUPS = (motion, pulse, turns, sensors, receivers, frames, twins, signature)


if __name__ == "__main__":
    for group in GROUPS:
        group(sys.argv[1])
