"""Where somebody runs or rides, from a u-blox receiver: position, altitude, speed and heading, and the time for the clock."""

import board
from drivers import ubx
from drivers.gnss import Gnss
from kit.clock import GNSS
from kit.device import Device
from kit.layouts import motion_1
from kit.ticks import sleep_ms, ticks_diff, ticks_ms
from update_keys import KEYS

_GNSS_SOURCE = 2  # of the altitude


def make(port):
    device = Device(board, port, KEYS, board.VERSION)
    if device.is_set_up:
        uart = port.machine.UART(1, board.SETTINGS["baud"], rx=board.PINS["uart_rx"], tx=board.PINS["uart_tx"], rxbuf=1024)
        gnss = Gnss(uart, ubx.Ubx(), ticks_ms, ticks_diff)
        device.add("measure", lambda: measure(device, gnss), beat_ms=10_000)
    return device


async def measure(device, gnss):
    """Each fix as it comes; what the receiver does not know is absent."""
    session = device.session()
    gnss.send(ubx.start(board.SETTINGS["period_ms"]))
    while True:
        if gnss.poll() and gnss.fix.dimensions:
            put_fix(session.start(motion_1, device.clock.monotonic_us()), gnss.fix)
            utc_us = gnss.fix.utc_us()
            if utc_us is not None:
                device.clock.set_utc(utc_us, GNSS)
        gnss.check()
        device.app.beat("measure")
        await sleep_ms(100)


def put_fix(record, fix):
    """A fix into a record, in the units of the layout."""
    record.put_raw(motion_1.LAT, fix.place, 0)
    record.put_raw(motion_1.LON, fix.place, 4)
    if fix.dimensions == 3 and fix.altitude_cm is not None:
        record.put(motion_1.ALTITUDE_M, (fix.altitude_cm + 50_000) // 20)
        record.put(motion_1.ALTITUDE_SOURCE, _GNSS_SOURCE)
    if fix.accuracy_cm is not None:
        record.put(motion_1.ACCURACY_M, min(254, fix.accuracy_cm // 50))
    if fix.speed_mmps is not None:
        record.put(motion_1.SPEED_MPS, (fix.speed_mmps + 5) // 10)
    if fix.course_cdeg is not None:
        record.put(motion_1.HEADING_DEG, fix.course_cdeg)
