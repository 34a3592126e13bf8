"""The virtual sensors of the demo: who wears what, and what tracks hold in the order it was numbered."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

from broker.layouts import layout_named
from broker.reference import AthleteRef, BindingRef
from paceline.sensor_gym import Numbered, SensedTracks, SensorGym, SensorPlan, sensors_of
from simulators.bluez.world import World

BEATS, HEALTH = layout_named("beats.1"), layout_named("health.1")


def test_every_sensor_has_its_own_address_and_fits_the_room_document() -> None:
    sensors = sensors_of(1, 30, 8)
    assert len({one.address for one in sensors}) == len(sensors) == 30 + 8 + 2 + 1
    World.model_validate({"sensors": [one.document() for one in sensors]})


def test_machines_and_meters_belong_to_athletes_with_a_strap_and_one_strap_to_nobody() -> None:
    sensors = sensors_of(1, 12, 8)
    wearers = {one.athlete for one in sensors if one.kind == "strap"}
    assert {one.athlete for one in sensors if one.kind != "strap"} < wearers
    assert [one.athlete for one in sensors].count("") == 1


def test_everybody_is_bound_to_what_he_wears(tmp_path: Path) -> None:
    gym = SensorGym("demo", "box", tmp_path, SensorPlan(4, 2, "hr:3"), seed=1)
    references = gym.references()
    athletes = {one.id for one in references if isinstance(one, AthleteRef)}
    bound = {one.device: one.athlete for one in references if isinstance(one, BindingRef)}
    assert set(bound.values()) == athletes
    assert bound == {device: athlete for device, athlete in gym.owners.items() if athlete}
    assert sum(device.startswith("ant-120-") for device in bound) == 3


def test_samples_of_two_layouts_stay_in_the_order_they_were_numbered() -> None:
    beats = [BEATS.pack({"tick_ms": 0, "rr_ms": rr, "hr_bpm": 60}) for rr in (900, 901)]
    battery = HEALTH.pack({"tick_ms": 0, "battery_pct": 80})
    rows = sorted(
        [
            Numbered(5, 7, 0, 0, BEATS.id, beats[0]),
            Numbered(5, 7, 2, 0, BEATS.id, beats[1]),
            Numbered(5, 7, 1, 0, HEALTH.id, battery),
            Numbered(9, 3, 0, 0, BEATS.id, beats[0]),
        ]
    )
    tracks = SensedTracks("demo/box", {"ant-120-1": rows})
    said = {"ant-120-1": [("beats.1", (("hr_bpm", 60.0), ("rr_ms", 900.0))), ("health.1", (("battery_pct", 80.0),))]}
    assert [(layout, dict(values)) for layout, values in tracks.records(said)["ant-120-1"]] == [
        ("beats.1", {"hr_bpm": 60.0, "rr_ms": 900.0}),
        ("health.1", {"battery_pct": 80.0}),
        ("beats.1", {"hr_bpm": 60.0, "rr_ms": 901.0}),
        ("beats.1", {"hr_bpm": 60.0, "rr_ms": 900.0}),
    ]
    assert tracks.numbers() == {("demo/box/ant-120-1", 7): range(3), ("demo/box/ant-120-1", 3): range(1)}


def test_demo_without_sensors_needs_no_bluetooth_and_no_stick() -> None:
    script = "import sys, paceline.demo; print(sorted({'dbus_fast', 'bleak', 'bumble', 'usb'} & set(sys.modules)))"
    assert subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, timeout=120, check=True).stdout == "[]\n"
