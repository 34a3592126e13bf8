"""What happens around a simulated board, for each example: wheels turn, straps beat, satellites are seen, runners break the beam.

A scenario wires what there is and gives an async function that lets it happen.
"""

import asyncio
import math
import time

from fakes.bluetooth import Peripheral
from fakes.sensors.max30102 import Max30102Model
from fakes.sensors.mpu6050 import Mpu6050Model
from kit.ticks import ticks_add, ticks_diff, ticks_ms

STEP_S = 0.02
_SYNC = b"\xb5\x62"


def heart_rate(second):
    """A heart on a ride: 110 to 160, in waves of a minute."""
    return round(135 + 25 * math.sin(second * 2 * math.pi / 60))


def strap_packet(index):
    """The index-th packet of a strap, one a second: rate and the interval of the beat."""
    bpm = heart_rate(index)
    return bytes((0x16, bpm)) + round(60 * 1024 / bpm).to_bytes(2, "little")


def csc_packet(index):
    """The index-th packet of a cadence sensor: 90 turns a minute."""
    turns = index * 3 // 2
    return b"\x02" + (turns & 0xFFFF).to_bytes(2, "little") + (turns * 2048 // 3 & 0xFFFF).to_bytes(2, "little")


def strap_bridge(machine, room, board):
    room.add(Peripheral("c00000000001", "HR strap", {0x180D: ((0x2A37, strap_packet),)}))
    room.add(Peripheral("c00000000002", "Cadence", {0x1816: ((0x2A5B, csc_packet),)}, rssi_dbm=-70))

    async def happen():
        while True:
            room.step(ticks_ms())
            await asyncio.sleep(STEP_S)

    return happen


def bike_sensor(machine, room, board):
    """28 km/h on a wheel of 2,105 mm, 90 turns a minute: each magnet pulls its line low for 20 ms. A board that sleeps soon is ridden for three
    seconds, and then its bike stands; how often the wheel came round since then is said, the turn that woke the board too.
    """
    pins = (machine.Pin(board.PINS["in_a"]), machine.Pin(board.PINS["in_b"]))
    periods_ms = (270, 667)

    async def happen():
        began_ms = ticks_ms()
        due_ms = [began_ms, began_ms]
        turns = 1 if machine.wake_reason() == machine.EXT0_WAKE else 0
        while board.SETTINGS["still_ms"] > 10_000 or ticks_diff(ticks_ms(), began_ms) < 3000 or not pins[0].value():
            now_ms = ticks_ms()
            for i in (0, 1):
                late_ms = ticks_diff(now_ms, due_ms[i])
                if late_ms >= 0:
                    due_ms[i] = ticks_add(due_ms[i] if late_ms < 100 else now_ms, periods_ms[i])  # no two in one bounce on a slow machine
                    pins[i].drive(1)
                    pins[i].drive(0)
                    turns += i == 0
                elif ticks_diff(due_ms[i], now_ms) < periods_ms[i] - 20:
                    pins[i].drive(1)
            await asyncio.sleep(0.005)
        print("stands after turns:", turns)
        while True:
            await asyncio.sleep(60)

    return happen


def pvt(second, lat_e7, lon_e7, speed_mmps, heading_e5, utc):
    """NAV-PVT of a good 3D fix (u-blox interface description)."""
    body = bytearray(92)
    year, month, day, hour, minute, sec = utc[:6]
    body[0:4] = (second * 1000).to_bytes(4, "little")
    body[4:6] = year.to_bytes(2, "little")
    body[6:12] = bytes((month, day, hour, minute, sec, 7))
    body[20:24] = bytes((3, 1, 0, 12))
    body[24:28] = (lon_e7 & 0xFFFFFFFF).to_bytes(4, "little")
    body[28:32] = (lat_e7 & 0xFFFFFFFF).to_bytes(4, "little")
    body[36:40] = (420_000).to_bytes(4, "little")
    body[40:44] = (2_500).to_bytes(4, "little")
    body[60:64] = speed_mmps.to_bytes(4, "little")
    body[64:68] = heading_e5.to_bytes(4, "little")
    frame = bytes((1, 7, 92, 0)) + bytes(body)
    a = b = 0
    for byte in frame:
        a = (a + byte) & 255
        b = (b + a) & 255
    return _SYNC + frame + bytes((a, b))


def gps_tracker(machine, room, board):
    """A runner on a circle of 150 m at 3.2 m/s."""

    async def happen():
        second = 0
        while True:
            angle = second * 3.2 / 150
            lat = 473_000_000 + round(150 / 0.0111195 * math.cos(angle))
            lon = 85_000_000 + round(150 / 0.0111195 / 0.678 * math.sin(angle))
            heading = round(math.degrees(angle + math.pi / 2) % 360 * 100_000)
            try:
                machine.uart(1).arrive(pvt(second, lat, lon, 3200, heading, time.gmtime()))
            except KeyError:  # the program has not opened it yet
                pass
            second += 1
            await asyncio.sleep(1)

    return happen


def wristband(machine, room, board):
    """A pulse of 72 a minute under the light, and an arm that swings 80 times a minute."""
    light = machine.wire_i2c(0, Max30102Model())
    motion = machine.wire_i2c(0, Mpu6050Model())
    machine.wire_adc(board.PINS["adc_battery"], 1950)

    async def happen():
        began_ms = ticks_ms()
        n = 0
        while True:
            if ticks_diff(ticks_ms(), began_ms) < 20 * n:
                await asyncio.sleep(STEP_S)
                continue
            beat = n * 72 / 3000 % 1
            wave = math.exp(-((beat - 0.2) ** 2) / 0.006) + 0.35 * math.exp(-((beat - 0.5) ** 2) / 0.02)
            light.push(100_000, 120_000 - round(1800 * wave))
            swing = round(0.02 * 4096 * math.sin(n * 2 * math.pi * 80 / 3000))
            motion.push(0, swing, 4096 + swing)
            n += 1

    return happen


def finish_gate(machine, room, board):
    """Somebody with a strap passes every three seconds."""
    room.add(Peripheral("c00000000001", "HR strap", {0x180D: ((0x2A37, strap_packet),)}))
    pin = machine.Pin(board.PINS["in_a"])

    async def happen():
        began_ms = ticks_ms()
        passed = 0
        while True:
            now_ms = ticks_ms()
            room.step(now_ms)
            breaks = ticks_diff(now_ms, began_ms) > 3000 * (passed + 1)
            passed += breaks
            pin.drive(0 if breaks else 1)
            await asyncio.sleep(STEP_S)

    return happen


SCENARIOS = {
    "strap_bridge": strap_bridge,
    "bike_sensor": bike_sensor,
    "gps_tracker": gps_tracker,
    "wristband": wristband,
    "finish_gate": finish_gate,
}
