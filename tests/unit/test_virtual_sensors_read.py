"""The bytes of the virtual sensors, read by the profiles: two writers who never saw each other's work must mean the same.

What a model says of a record is made from the model; what a reader says is made from the bytes. Each checks the other.
"""

from __future__ import annotations

import pytest

from broker.layouts import layout_named
from device_profiles.catalogue import catalogue
from device_profiles.reader import Reader
from device_profiles.samples import Sample
from simulators.sensor_truth import record_of
from simulators.sensors.catalogue import make_sensor
from simulators.sensors.sensor import Report

MACHINE = layout_named("machine.1")
MACHINES = ("cross_trainer", "rower", "stair_climber", "step_climber", "trainer", "treadmill")
DERIVED = {"rower": {"speed_mps"}, "power_meter": {"cadence_rpm"}}  # a reader makes them of other fields: of pace, of crank turns
SECONDS = 300.0
PERIOD_US = {True: 250_000, False: 1_000_000}


def read(kind: str, **options: object) -> list[tuple[Report, list[Sample]]]:
    """Every report with the samples it completes; packets of one record arrive at one time."""
    readers: dict[str, Reader] = {}
    pairs: list[tuple[Report, list[Sample]]] = []
    records = 0
    for report in make_sensor(kind, "A", 7, options).take(SECONDS):
        profile = catalogue().ble(report.uuid)
        assert profile is not None
        reader = readers.setdefault(report.uuid, Reader(profile))
        pairs.append((report, reader.feed(report.payload, records * PERIOD_US[kind in MACHINES])))
        records += bool(report.values)
    assert [reader.bad for reader in readers.values()] == [{} for _ in readers]
    return pairs


def test_every_beat_of_a_strap_is_one_sample_with_its_interval() -> None:
    for report, samples in read("strap"):
        intervals = report.values["rr_s"]
        assert isinstance(intervals, list)
        assert [sample.values["rr_ms"] for sample in samples] == [pytest.approx(rr * 1000) for rr in intervals]
        assert {sample.values["hr_bpm"] for sample in samples} == {report.values["hr_bpm"]}


def test_report_without_contact_has_no_rate() -> None:
    strap = make_sensor("strap", "A", 7, {})
    strap.act("contact", 0, 0.0)
    profile = catalogue().ble("00002a37-0000-1000-8000-00805f9b34fb")
    assert profile is not None
    assert Reader(profile).feed(strap.take(1.0)[0].payload, 0) == []


@pytest.mark.parametrize("room_bytes", [244, 20])
@pytest.mark.parametrize("kind", MACHINES)
def test_every_record_of_a_machine_is_one_sample_also_when_it_is_split(kind: str, room_bytes: int) -> None:
    for report, samples in read(kind, room_bytes=room_bytes):
        if not report.values:  # the first part of a record
            assert samples == []
            continue
        (sample,) = samples
        assert {name: sample.values[name] for name in report.values} == pytest.approx(dict(report.values))
        said = {name: value for name, value in report.values.items() if isinstance(value, int | float)}
        read_of = {name: sample.values[name] for name in said}
        assert record_of(MACHINE, read_of) == record_of(MACHINE, said)  # also where a value lies between two steps of the layout
        assert set(sample.values) - set(report.values) <= DERIVED.get(kind, set())


@pytest.mark.parametrize("kind", ["power_meter", "foot_pod"])
def test_every_report_on_a_bicycle_or_shoe_is_one_sample(kind: str) -> None:
    for report, samples in read(kind):
        (sample,) = samples
        said = {name: value for name, value in report.values.items() if name in {"power_w", "speed_mps", "cadence_rpm", "distance_m"}}
        assert {name: sample.values[name] for name in said} == pytest.approx(said)
        assert set(sample.values) - set(said) <= DERIVED.get(kind, set())


@pytest.mark.parametrize("turns", [0, 0xFFFFFFF0])
def test_speed_and_cadence_from_turns_are_those_of_the_rider(turns: int) -> None:
    pairs = read("speed_cadence", turns=turns)
    assert pairs[0][1] == []  # one packet is no rate
    rider = make_sensor("speed_cadence", "A", 7, {"turns": turns})
    for report, samples in pairs[1:]:
        rider.take(report.number + 1.0)
        now = rider.state()
        (sample,) = samples
        assert sample.values["cadence_rpm"] == pytest.approx(now["cadence_rpm"], abs=6)
        assert sample.values["speed_mps"] == pytest.approx(now["speed_mps"], abs=1.2)
