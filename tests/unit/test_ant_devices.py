"""The devices of a room: what virtual sensors mean is what reaches the spool's door, each beat once, whoever hears it how often."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence

import pytest

from device_profiles.catalogue import catalogue
from device_profiles.samples import Sample
from gateway.ant_control import AntControl
from gateway.ant_devices import LOST_US, OWNED_US, AntDevices
from gateway.ant_messages import ChannelId
from gateway.ant_stick import Page
from gateway.clock import Instant
from gateway.controllable import Controllable
from gateway.sightings import Sighting, Sightings
from simulators.ant_room import room
from simulators.ant_sensors import HeartRate
from simulators.ant_stick import StickFaults
from tests.ant_world import AntWorld


class Heard:
    """Takes samples where the gateway has its `Sensing`."""

    def __init__(self) -> None:
        self.samples: dict[str, list[Sample]] = defaultdict(list)
        self.gone: list[str] = []

    def take(self, device: str, samples: Sequence[Sample], arrival_us: int) -> None:
        self.samples[device] += samples

    def lost(self, device: str) -> None:
        self.gone.append(device)

    def values(self, device: str, name: str) -> list[float]:
        return [s.values[name] for s in self.samples[device] if name in s.values]


class Hall:
    def __init__(self, **more: Sequence[str]) -> None:
        self.heard = Heard()
        self.now_us = 0
        self.sightings = Sightings(clock=lambda: Instant(self.now_us, 0))
        self.controllable = Controllable()
        self.sent: list[tuple[str, bytes]] = []
        self.devices = AntDevices(catalogue(), self.heard, self.sightings, self.controllable, self._control, **more)

    def _control(self, stick: str, who: ChannelId) -> AntControl:
        async def send(payload: bytes) -> None:
            self.sent.append((stick, payload))

        return AntControl(send)

    def sighting(self, device: str) -> Sighting:
        return next(s for s in self.sightings.all() if s.device == device)

    def hear(self, world: AntWorld, seconds: float, stick: str = "a", step_s: float = 0.01) -> None:
        for _ in range(round(seconds / step_s)):
            before = len(world.output)
            world.run(step_s)
            self.now_us = world.t_us
            for out in world.output[before:]:
                assert isinstance(out, Page)
                self.devices.take(out, stick, world.t_us)


def page(device: int = 7, payload: bytes = bytes(8), kind: int = 120) -> Page:
    return Page(ChannelId(device, kind, 1), payload, -60, None, broadcast=True)


def test_every_beat_counts_once_and_has_the_interval_the_heart_had():
    hall, world = Hall(), AntWorld(room("hr:30"))
    hall.hear(world, 60)
    for sensor in world.sensors:
        assert isinstance(sensor, HeartRate)
        intervals = [round((b - a) / 1.024, 3) for a, b in zip(sensor.beats, sensor.beats[1:], strict=False)]
        heard = [round(rr, 3) for rr in hall.heard.values(sensor.device, "rr_ms")]
        assert heard
        assert heard == intervals[len(intervals) - len(heard) :] or heard == intervals[len(intervals) - len(heard) - 1 : -1]
        assert len(intervals) - len(heard) <= 5, "what was transmitted before the stick listened, and before the page was believed"


def test_damaged_frames_double_no_beat_and_make_no_ghost():
    hall, world = Hall(), AntWorld(room("hr:10"), faults=StickFaults(corrupt_every=9, lose_every=7))
    hall.hear(world, 120)
    assert world.virtual.damaged > 500
    assert {s.device for s in hall.sightings.all()} == {s.device for s in world.sensors}
    for sensor in world.sensors:
        assert isinstance(sensor, HeartRate)
        assert len(hall.heard.values(sensor.device, "rr_ms")) <= len(sensor.beats)
        assert sum(hall.heard.values(sensor.device, "rr_ms")) <= (sensor.beats[-1] - sensor.beats[0]) / 1.024 + 1


def test_forty_straps_that_disturb_each_other_lose_a_page_in_twenty_and_no_beat_twice():
    hall, world = Hall(), AntWorld(room("hr:40"), faults=StickFaults(collide=True))
    hall.hear(world, 60)
    pages, beats = sum(s.sent for s in world.sensors), sum(len(s.beats) for s in world.sensors if isinstance(s, HeartRate))
    assert 0.02 < world.virtual.collisions / pages < 0.08
    heard = [len(hall.heard.values(s.device, "rr_ms")) for s in world.sensors]
    assert 0.9 * beats < sum(heard) <= beats
    assert all(count <= len(s.beats) for count, s in zip(heard, world.sensors, strict=True) if isinstance(s, HeartRate))


MEANT = {
    "trainer": ("power_w", "speed_mps", "cadence_rpm"),
    "treadmill": ("speed_mps", "incline_pct"),
    "power": ("power_w", "cadence_rpm"),
    "speed": ("speed_mps",),
    "cadence": ("cadence_rpm",),
    "speed_cadence": ("speed_mps", "cadence_rpm"),
    "stride": ("speed_mps", "cadence_rpm"),
    "oxygen": ("muscle_oxygen_pct", "total_hemoglobin_gpl"),
    "air": ("ambient_temp_c",),
    "core": ("core_temp_c", "skin_temp_c"),
    "weight": ("weight_kg",),
}
NEAR = {"power_w": 12, "speed_mps": 0.25, "cadence_rpm": 3, "incline_pct": 0.01, "weight_kg": 0.01}


@pytest.mark.parametrize("kind", MEANT)
def test_values_that_arrive_are_those_the_sensor_meant(kind: str):
    hall, world = Hall(), AntWorld(room(kind))
    hall.hear(world, 30)
    (sensor,) = world.sensors
    for name in MEANT[kind]:
        values = hall.heard.values(sensor.device, name)
        assert values, f"{kind} gave no {name}: {hall.sighting(sensor.device)}"
        assert values[-1] == pytest.approx(sensor.truth[name], abs=NEAR.get(name, 0.06)), name
    assert hall.sighting(sensor.device).state == "live"


def test_device_exists_once_it_was_heard_twice():
    hall = Hall()
    hall.devices.take(page(), "a", 1_000_000)
    assert not hall.sightings.all()
    hall.devices.take(page(), "a", 1_250_000)
    assert len(hall.devices) == 1
    hall.devices.take(page(), "a", 2_500_000)
    assert hall.sighting("ant-120-7").rssi_dbm == -60


def test_page_counts_once_though_two_sticks_hear_it():
    hall = Hall()
    left, right = AntWorld([HeartRate(7)]), AntWorld([HeartRate(7)])
    for _ in range(300):
        hall.hear(left, 0.1, "left")
        hall.hear(right, 0.1, "right")
    sensor = left.sensors[0]
    assert isinstance(sensor, HeartRate)
    assert len(sensor.beats) - 5 <= len(hall.heard.values("ant-120-7", "rr_ms")) <= len(sensor.beats)
    assert hall.devices.counts["heard_by_two"] > 100


def test_other_stick_takes_over_when_the_first_falls_silent_or_is_gone():
    hall = Hall()
    for now_us in (0, 250_000, 500_000):
        hall.devices.take(page(), "a", now_us)
    hall.devices.take(page(), "b", 600_000)
    known = hall.devices.known("ant-120-7")
    assert known is not None
    assert known.owner == "a"
    hall.devices.take(page(), "b", 500_000 + OWNED_US)
    assert known.owner == "b"
    hall.devices.stick_gone("b")
    hall.devices.take(page(), "a", 2_600_000 + OWNED_US)
    assert known.owner == "a"


def test_device_not_heard_is_lost_and_comes_back():
    hall, world = Hall(), AntWorld([HeartRate(7)])
    hall.hear(world, 5)
    assert hall.sighting("ant-120-7").state == "live"
    hall.devices.sweep(world.t_us + LOST_US)
    assert hall.sighting("ant-120-7").state == "lost"
    assert hall.heard.gone == ["ant-120-7"]
    hall.devices.sweep(world.t_us + 2 * LOST_US)
    assert hall.heard.gone == ["ant-120-7"]
    hall.hear(world, 3)
    assert hall.sighting("ant-120-7").state == "live"


def test_unknown_type_and_unwanted_devices_say_why():
    hall = Hall(deny=["ant-120-9*"])
    for number, kind in ((7, 99), (91, 120), (8, 120)):
        for now_us in (0, 250_000, 1_500_000):
            hall.devices.take(page(number, kind=kind), "a", now_us)
    assert hall.sighting("ant-99-7").reason == "no profile for ANT+ device type 99"
    assert hall.sighting("ant-120-91").state == "refused"
    assert hall.sighting("ant-120-8").reason == ""
    only = Hall(allow=["ant-17-*"])
    for now_us in (0, 250_000, 1_500_000):
        only.devices.take(page(), "a", now_us)
    assert only.sighting("ant-120-7").state == "refused"


def test_unwanted_device_that_went_home_is_not_reported_for_ever():
    hall = Hall(deny=["ant-120-7"])
    for hall.now_us in (0, 250_000, 1_500_000):
        hall.devices.take(page(), "a", hall.now_us)
    hall.now_us += 1_000_000_000
    hall.devices.sweep(hall.now_us)
    hall.sightings.write_when_due()
    hall.devices.sweep(hall.now_us)
    assert hall.sightings.all() == ()
    assert not hall.sightings.write_when_due(), "a file written every second for nothing"


def test_number_of_devices_is_bounded():
    hall = Hall()
    for number in range(1, 2000):
        for _ in range(2):
            hall.devices.take(page(number), "a", number * 1000)
    assert len(hall.devices) == 512
    assert hall.devices.known("ant-120-1999") is not None


def test_battery_and_what_a_strap_is_are_reported():
    hall, world = Hall(), AntWorld([HeartRate(7)])
    hall.hear(world, 80)
    assert hall.sighting("ant-120-7").battery_pct == 87


def test_machine_can_be_commanded_while_it_is_heard():
    hall, world = Hall(), AntWorld(room("trainer"))
    hall.hear(world, 3)
    (device,) = hall.controllable.devices
    assert device == world.sensors[0].device
    hall.devices.stick_gone("a")
    assert hall.controllable.devices == ()
    hall.hear(world, 1, "b")
    assert hall.controllable.devices == (device,)
    hall.devices.sweep(world.t_us + LOST_US)
    assert hall.controllable.devices == ()
