"""A whole board, from the registers of its sensors to the frame: all drivers, the DSP and the frame writer, on MicroPython and CPython.

`board_samples.py CONFIG [bytecode]` reads lines from standard input, one for each 50th of a second: light, x, y, z, and 1 where a magnet passes. A line in hexadecimal
after `R` is what the receiver sent then. On MicroPython the heap is locked from the first sample to the last, with the models of the sensors inside: the
first byte that anything allocates is a MemoryError. Prints what came of it each second, and the frame at the end.
"""

import sys
from array import array
from binascii import hexlify, unhexlify

if "bytecode" in sys.argv:
    import drivers.scan_plain
    import drivers.unpack_plain
    import dsp.loops_plain
    import kit.packing

    sys.modules["dsp.loops"] = dsp.loops_plain
    sys.modules["drivers.scan"] = drivers.scan_plain
    sys.modules["drivers.unpack"] = drivers.unpack_plain
    sys.modules["kit.packing_viper"] = kit.packing

from drivers.battery import Battery
from drivers.bmi270 import Bmi270
from drivers.gnss import Gnss
from drivers.hall import Hall
from drivers.max30102 import FULL_SCALE, Max30102
from drivers.mpu6050 import Mpu6050
from drivers.nmea import Nmea
from drivers.ubx import Ubx
from dsp.cadence import Cadence
from dsp.magnitude import Magnitude
from dsp.ppg import Ppg
from dsp.reps import Reps
from dsp.steps import Steps
from fakes import machine
from fakes.machine import ADC, I2C, UART, Pin
from fakes.sensors.bmi270 import Bmi270Model
from fakes.sensors.max30102 import Max30102Model
from fakes.sensors.mpu6050 import Mpu6050Model
from kit.frame import FrameWriter
from kit.layouts import motion_1

try:
    from micropython import heap_lock, heap_unlock
except ImportError:

    def heap_lock():
        """CPython has no such lock."""

    def heap_unlock():
        """Nor this."""


def sleep_ms(ms):
    """The models are ready at once."""


class Clock:
    """Virtual time: a 50th of a second for each line."""

    def __init__(self):
        self.us = 0

    def ticks_us(self):
        return self.us

    def ticks_ms(self):
        return self.us // 1000


def difference(later, earlier):
    return later - earlier


class Board:
    """A wristband, a bike sensor and a tracker in one."""

    def __init__(self, config):
        self.clock = Clock()
        bus, other = I2C(0), I2C(1)
        with open(config, "rb") as file:
            self.bosch_model = machine.wire_i2c(1, Bmi270Model(file.read()))
        self.light_model = machine.wire_i2c(0, Max30102Model(Pin(4, Pin.IN, Pin.PULL_UP)))
        self.motion_model = machine.wire_i2c(0, Mpu6050Model())
        machine.wire_adc(34, 1900)
        self.magnet = Pin(25, Pin.IN, Pin.PULL_UP)
        self.light = Max30102(bus, sleep_ms, int_pin=Pin(4))
        self.motion = Mpu6050(bus, sleep_ms)
        self.bosch = Bmi270(other, sleep_ms, config)
        self.crank = Hall(self.magnet, self.clock.ticks_us)
        self.battery = Battery(ADC(34))
        self.uart, self.second = UART(1, rxbuf=1024), UART(2, rxbuf=1024)
        self.ubx = Gnss(self.uart, Ubx(), self.clock.ticks_ms, difference)
        self.nmea = Gnss(self.second, Nmea(), self.clock.ticks_ms, difference)
        self.ppg, self.magnitude, self.steps, self.cadence, self.reps = Ppg(), Magnitude(50), Steps(), Cadence(), Reps(50)
        self.writer = FrameWriter(motion_1, "board-1", 7)
        self.writer.open(0)
        self.fixes = 0

    def sample(self, light, x, y, z, magnet, received):
        self.clock.us += 20_000
        self.light_model.push(light, FULL_SCALE - light)
        self.motion_model.push(x, y, z)
        self.bosch_model.push(x, y, z)
        if magnet:
            self.magnet.drive(0)
            self.magnet.drive(1)
        if received:
            self.uart.arrive(received)
            self.second.arrive(received)
        if self.light.due:
            for i in range(self.light.read()):
                self.ppg.add(FULL_SCALE - self.light.infrared[i])
        for i in range(self.motion.read()):
            there = self.motion.acceleration
            self.reps.add(there.x[i], there.y[i], there.z[i])
            level = self.magnitude.add(there.x[i], there.y[i], there.z[i])
            if level >= 0:
                self.steps.add(level)
                self.cadence.add(level, self.steps.count)
        self.bosch.read()
        self.fixes += self.ubx.poll() + self.nmea.poll()

    def record(self):
        """One a second."""
        writer = self.writer
        fix = self.ubx.fix
        if not writer.start(self.clock.us // 1000):
            return
        if fix.dimensions:
            writer.put_raw(motion_1.LAT, fix.place, 0)
            writer.put_raw(motion_1.LON, fix.place, 4)
            writer.put(motion_1.SPEED_MPS, fix.speed_mmps // 10)
        writer.put(motion_1.HR_BPM, self.ppg.hr_dbpm // 10 if self.ppg.hr_dbpm > 0 else None)
        writer.put(motion_1.CADENCE_RPM, self.crank.rpm.drpm(self.clock.us) // 10)
        self.battery.read()


def run(board, numbers, received, said):
    """All samples; how many numbers were said."""
    at = 0
    heap_lock()
    for i in range(len(received)):
        k = 5 * i
        board.sample(numbers[k], numbers[k + 1], numbers[k + 2], numbers[k + 3], numbers[k + 4], received[i])
        if i % 50 == 49:
            board.record()
            said[at] = board.ppg.hr_dbpm
            said[at + 1] = board.steps.count
            said[at + 2] = board.cadence.cadence_spm
            said[at + 3] = board.reps.count
            said[at + 4] = board.crank.rpm.pulses
            said[at + 5] = board.crank.rpm.drpm(board.clock.us)
            said[at + 6] = board.fixes
            said[at + 7] = board.battery.percent
            at += 8
    heap_unlock()
    return at


def main(config, lines):
    board = Board(config)
    numbers = array("i")
    received = []
    for line in lines:
        words = line.split()
        for word in words[:5]:
            numbers.append(int(word))
        received.append(unhexlify(words[6]) if len(words) > 5 else None)
    said = array("i", bytes(4 * 8 * (len(received) // 50 + 1)))
    at = run(board, numbers, received, said)
    for start in range(0, at, 8):
        print(*said[start : start + 8])
    print(board.ubx.fix.lat_e7(), board.ubx.fix.lon_e7(), board.nmea.fix.lat_e7(), board.nmea.fix.lon_e7())
    print(hexlify(bytes(board.writer.close(1, None, 0))).decode())


if __name__ == "__main__":
    main(sys.argv[1], sys.stdin)
