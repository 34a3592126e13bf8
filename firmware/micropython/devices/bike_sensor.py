"""Speed, distance and cadence of a bike from two reed contacts or hall switches: one at the wheel, one at the crank."""

import board
from drivers.hall import Hall
from kit.device import Device
from kit.layouts import motion_1
from kit.ticks import sleep_ms, ticks_us
from update_keys import KEYS


def make(port):
    device = Device(board, port, KEYS, board.VERSION)
    if device.is_set_up:
        pin, pins = port.machine.Pin, board.PINS
        wheel = Hall(pin(pins["in_a"], pin.IN, pin.PULL_UP), ticks_us)
        crank = Hall(pin(pins["in_b"], pin.IN, pin.PULL_UP), ticks_us)
        device.add("measure", lambda: measure(device, wheel.rpm, crank.rpm), beat_ms=10_000)
    return device


async def measure(device, wheel, crank):
    """A sample each `period_ms`: speed and distance by the wheel, cadence by the crank."""
    session = device.session()
    period_ms, wheel_mm = board.SETTINGS["period_ms"], board.SETTINGS["wheel_mm"]
    while True:
        now_us = ticks_us()
        record = session.start(motion_1, device.clock.monotonic_us())
        record.put(motion_1.SPEED_MPS, (wheel.speed_mmps(now_us, wheel_mm) + 5) // 10)
        record.put(motion_1.DISTANCE_M, wheel.pulses * wheel_mm // 10)
        record.put(motion_1.CADENCE_RPM, (crank.drpm(now_us) + 5) // 10)
        device.app.beat("measure")
        await sleep_ms(period_ms)
