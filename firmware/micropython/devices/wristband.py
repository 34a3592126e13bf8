"""Heart rate by light and steps by motion, on the wrist; other watches and apps can hear its heart rate over Bluetooth."""

import board
from ble.heart_rate_server import HeartRateServer
from drivers.battery import Battery
from drivers.max30102 import FULL_SCALE, Max30102
from drivers.mpu6050 import Mpu6050
from dsp.cadence import Cadence
from dsp.magnitude import Magnitude
from dsp.ppg import Ppg
from dsp.steps import Steps
from kit.device import Device
from kit.layouts import motion_1
from kit.ticks import sleep_ms, ticks_diff, ticks_ms
from update_keys import KEYS


_RATE_HZ = 50  # of both sensors


def make(port):
    device = Device(board, port, KEYS, board.VERSION)
    if device.is_set_up:
        server = HeartRateServer(port.bluetooth.BLE(), port.bluetooth.UUID, device.name[:12])
        device.add("measure", lambda: measure(device, port, server), beat_ms=30_000)
    return device


async def measure(device, port, server):
    """Sensors every 0.2 s, a sample and a word to whoever listens each second; no heart rate rather than a wrong one."""
    machine, pins = port.machine, board.PINS
    i2c = machine.I2C(0, scl=machine.Pin(pins["i2c_scl"]), sda=machine.Pin(pins["i2c_sda"]), freq=400_000)
    light, motion = Max30102(i2c, _wait), Mpu6050(i2c, _wait)
    battery = Battery(machine.ADC(machine.Pin(pins["adc_battery"])))
    ppg, magnitude, steps, cadence = Ppg(), Magnitude(_RATE_HZ), Steps(), Cadence()
    session = device.session()
    server.start()
    told_ms = battery_ms = None
    while True:
        read(light, motion, ppg, magnitude, steps, cadence)
        now_ms = ticks_ms()
        if battery_ms is None or ticks_diff(now_ms, battery_ms) > 60_000:
            battery_ms = now_ms
            device.battery_pct = charge_of(battery)
        if told_ms is None or ticks_diff(now_ms, told_ms) >= 1000:
            told_ms = now_ms
            hr_bpm = (ppg.hr_dbpm + 5) // 10 if light.finger and ppg.hr_dbpm > 0 else None
            record = session.start(motion_1, device.clock.monotonic_us())
            record.put(motion_1.HR_BPM, hr_bpm)
            record.put(motion_1.CADENCE_RPM, cadence.cadence_spm if cadence.cadence_spm > 0 else None)
            server.tell(hr_bpm)
        device.app.beat("measure")
        await sleep_ms(200)


def read(light, motion, ppg, magnitude, steps, cadence):
    """What waits in both chips, into the filters."""
    moved_mg = 0
    axes = motion.acceleration
    count = motion.read()
    if motion.lost:
        for one in (magnitude, steps, cadence):
            one.gap()
    for i in range(count):
        found = magnitude.add(axes.x[i], axes.y[i], axes.z[i])
        if found >= 0:
            steps.add(found)
            cadence.add(found, steps.count)
            moved_mg = max(moved_mg, abs(found - 1000))
    for i in range(light.read()):
        ppg.add(FULL_SCALE - light.infrared[i], moved_mg)
    if light.lost or not light.finger:
        ppg.gap()


def charge_of(battery):
    """Per cent, None where no battery is wired."""
    try:
        battery.read()
    except OSError:
        return None
    return battery.percent


def _wait(ms):
    import time

    time.sleep_ms(ms) if hasattr(time, "sleep_ms") else time.sleep(ms / 1000)
