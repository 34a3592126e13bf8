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
        pin, pins = port.machine.Pin, board.PINS
        i2c = port.machine.I2C(0, scl=pin(pins["i2c_scl"]), sda=pin(pins["i2c_sda"]), freq=400_000)
        wrist = Wrist()
        device.add("light", lambda: watch_light(device, i2c, wrist), beat_ms=10_000)
        device.add("motion", lambda: watch_motion(device, i2c, wrist), beat_ms=10_000)
        device.add("measure", lambda: measure(device, wrist, server, Battery(port.machine.ADC(pin(pins["adc_battery"])))), beat_ms=30_000)
    return device


class Wrist:
    """What is known of it. A sensor that fails is looked for again by its own task; what it would say is unknown until then."""

    def __init__(self):
        self.ppg, self.magnitude, self.steps, self.cadence = Ppg(), Magnitude(_RATE_HZ), Steps(), Cadence()
        self.moved_mg = 0
        self.lit = self.felt = False  # whether there is light through a finger, whether motion is measured

    def hr_bpm(self):
        """Beats a minute, None when it is not known: no value rather than a wrong one."""
        return (self.ppg.hr_dbpm + 5) // 10 if self.lit and self.ppg.hr_dbpm > 0 else None

    def cadence_spm(self):
        return self.cadence.cadence_spm if self.felt and self.cadence.cadence_spm > 0 else None

    def light(self, sensor):
        """What waits in the light sensor."""
        for i in range(sensor.read()):
            self.ppg.add(FULL_SCALE - sensor.infrared[i], self.moved_mg)
        if sensor.lost or not sensor.finger:
            self.ppg.gap()
        self.lit = sensor.finger
        self.moved_mg = 0

    def motion(self, sensor):
        """What waits in the motion sensor."""
        axes = sensor.acceleration
        count = sensor.read()
        if sensor.lost:
            self.unfelt()
        for i in range(count):
            found = self.magnitude.add(axes.x[i], axes.y[i], axes.z[i])
            if found >= 0:
                self.steps.add(found)
                self.cadence.add(found, self.steps.count)
                self.moved_mg = max(self.moved_mg, abs(found - 1000))
        self.felt = True

    def unlit(self):
        """The light sensor is gone for now."""
        self.lit = False
        self.ppg.gap()

    def unfelt(self):
        """Samples of motion are missing."""
        self.felt = False
        for one in (self.magnitude, self.steps, self.cadence):
            one.gap()


async def watch_light(device, i2c, wrist):
    """The light sensor each 0.2 s, until it fails."""
    try:
        sensor = Max30102(i2c, _wait)
        while True:
            sensor.check()  # one that started anew gives nothing more, and says nothing of it
            wrist.light(sensor)
            device.app.beat("light")
            await sleep_ms(200)
    finally:
        wrist.unlit()


async def watch_motion(device, i2c, wrist):
    """The motion sensor each 0.2 s, until it fails."""
    try:
        sensor = Mpu6050(i2c, _wait)
        while True:
            sensor.check()  # one that started anew gives nothing more, and says nothing of it
            wrist.motion(sensor)
            device.app.beat("motion")
            await sleep_ms(200)
    finally:
        wrist.unfelt()


async def measure(device, wrist, server, battery):
    """A sample and a word to whoever listens each second."""
    session = device.session()
    server.start()
    battery_ms = None
    while True:
        if battery_ms is None or ticks_diff(ticks_ms(), battery_ms) > 60_000:
            battery_ms = ticks_ms()
            device.battery_pct = charge_of(battery)
        record = session.start(motion_1, device.clock.monotonic_us())
        hr_bpm = wrist.hr_bpm()
        record.put(motion_1.HR_BPM, hr_bpm)
        record.put(motion_1.CADENCE_RPM, wrist.cadence_spm())
        server.tell(hr_bpm)
        device.app.beat("measure")
        await sleep_ms(1000)


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
