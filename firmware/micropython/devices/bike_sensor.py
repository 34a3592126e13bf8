"""Speed, distance and cadence of a bike from two reed contacts or hall switches: one at the wheel, one at the crank. Sleeps deeply when the
bike stands, until its wheel turns; the turn that ends a sleep counts, those while the chip starts are not seen.
"""

import struct

import board
from drivers.hall import Hall
from kit import nap
from kit.device import Device
from kit.layouts import motion_1
from kit.power import DEEP, Cell, Plan
from kit.ticks import sleep_ms, ticks_ms, ticks_us
from update_keys import KEYS

_KEPT = "<4sIB"  # magic, turns of the wheel, level of its contact when the sleep began
_MAGIC = b"PLO1"
_FEW = 8  # rows that are sent while it falls asleep; with more it waits for a link that is there
_LOOK_MS = 15_000  # awake for so long when only the time was over: to say that it lives, and send what is owed


class Odometer:
    """Turns of the wheel, over sleeps. The turn that ended a sleep is seen by the chip, not by the counter."""

    def __init__(self, machine, rpm):
        self._rpm = rpm
        self._before = 0
        self.looks = False  # whether this start only looks around
        kept = nap.recalled(machine)
        if len(kept) == struct.calcsize(_KEPT) and kept[:4] == _MAGIC:
            _, self._before, level = struct.unpack(_KEPT, kept)
            by_pin = nap.woken_by_pin(machine)
            self.looks = not by_pin
            self._before += by_pin and level  # it fell: a magnet came. Where it lay at the contact, it went

    @property
    def turns(self):
        return self._before + self._rpm.pulses

    def kept(self, level):
        return struct.pack(_KEPT, _MAGIC, self.turns & 0xFFFFFFFF, level)


def make(port):
    device = Device(board, port, KEYS, board.VERSION)
    if device.is_set_up:
        pin, pins = port.machine.Pin, board.PINS
        contact = pin(pins["in_a"], pin.IN, pin.PULL_UP)
        wheel = Hall(contact, ticks_us)
        crank = Hall(pin(pins["in_b"], pin.IN, pin.PULL_UP), ticks_us)
        odometer = Odometer(port.machine, wheel.rpm)
        device.add("measure", lambda: measure(device, contact, odometer, wheel.rpm, crank.rpm), beat_ms=30_000)
    return device


async def measure(device, contact, odometer, wheel, crank):
    """A sample each `period_ms`: speed and distance by the wheel, cadence by the crank. Deep sleep after `still_ms` without a turn."""
    session = device.session()
    settings = board.SETTINGS
    wheel_mm = settings["wheel_mm"]
    still_ms = min(settings["still_ms"], _LOOK_MS) if odometer.looks else settings["still_ms"]
    plan, cell = Plan(still_ms=still_ms, nap_ms=settings["nap_ms"]), Cell()
    said = None
    while True:
        now_us = ticks_us()
        turns, pulses = odometer.turns, crank.pulses
        record = session.start(motion_1, device.clock.monotonic_us())
        record.put(motion_1.SPEED_MPS, (wheel.speed_mmps(now_us, wheel_mm) + 5) // 10)
        record.put(motion_1.DISTANCE_M, turns * wheel_mm // 10)
        record.put(motion_1.CADENCE_RPM, (crank.drpm(now_us) + 5) // 10)
        moving = said is not None and said != (turns, pulses)
        said = (turns, pulses)
        device.app.beat("measure")
        owed = device.node.ring.owed
        doing, ms = plan.decide(ticks_ms(), owed if device.node.client.up and owed > _FEW else 0, 0, moving, cell)
        if doing == DEEP:
            await nap.sleep(device, ms, contact, odometer.kept, lambda: said != (odometer.turns, crank.pulses))
        await sleep_ms(settings["period_ms"])
