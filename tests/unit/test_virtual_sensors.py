"""Virtual sensors: numbered reports, what they say, and machines that obey their control point. Pure."""

from __future__ import annotations

import struct

import pytest

from broker.errors import BadInputError
from simulators.sensors.catalogue import KINDS, make_sensor
from simulators.sensors.cycling import CSC_MEASUREMENT, Turns
from simulators.sensors.fitness_machine import (
    CONTROL_POINT,
    FEATURE,
    STATUS,
    TRAINING_STATUS,
    FitnessMachine,
    split_record,
)
from simulators.sensors.sensor import Report, Sensor
from simulators.sensors.strap import CONTROL, MEASUREMENT, Strap, encode_heart_rate
from simulators.sensors.trainer import INDOOR_BIKE_DATA, Trainer
from simulators.sensors.treadmill import TREADMILL_DATA, Treadmill

REPORTING = sorted(set(KINDS) - {"table"})


def asked(machine: FitnessMachine, request: str, at_s: float) -> list[tuple[str, bytes]]:
    """Write a request; what the machine says of it within the next 0.1 s, but its data."""
    assert machine.write(CONTROL_POINT, bytes.fromhex(request), at_s).error == 0
    return [(report.uuid, report.payload) for report in machine.take(at_s + 0.1) if report.uuid != machine.data]


@pytest.mark.parametrize("kind", REPORTING)
def test_reports_are_numbered_without_gaps_however_time_is_cut(kind: str) -> None:
    whole, cut = make_sensor(kind, "A", 7, {}), make_sensor(kind, "A", 7, {})
    said = whole.take(60.0)
    pieces: list[Report] = []
    for tenth in range(601):
        pieces += cut.take(tenth / 10)
    assert pieces == said
    assert [report.number for report in said] == list(range(len(said)))


@pytest.mark.parametrize("kind", REPORTING)
def test_everything_a_sensor_says_is_in_its_attribute_table(kind: str) -> None:
    sensor = make_sensor(kind, "A", 7, {})
    told = {one.uuid for service in sensor.services for one in service.characteristics if {"notify", "indicate"} & set(one.flags)}
    assert {report.uuid for report in sensor.take(10.0)} <= told
    for service in sensor.services:
        for one in service.characteristics:
            assert ("read" in one.flags) == (sensor.read(one.uuid) is not None)


def test_beats_of_a_strap_are_consecutive_and_their_intervals_carry_their_number() -> None:
    beats: list[float] = []
    for report in Strap("A", 1).take(600.0):
        numbers, intervals = report.values["beats"], report.values["rr_s"]
        assert isinstance(numbers, list)
        assert isinstance(intervals, list)
        assert [round(rr * 1024) % 16 for rr in intervals] == [number % 16 for number in numbers]
        beats += numbers
    assert beats == list(range(len(beats)))
    assert 600 * 60 / 60 < len(beats) < 600 * 200 / 60


def test_heart_follows_its_athlete_from_rest_to_effort() -> None:
    rates = [report.values["hr_bpm"] for report in Strap("A", 1).take(300.0)]
    assert rates[0] < rates[-1]
    assert all(40 < rate < 200 for rate in rates)


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        ({"rate_bpm": 80}, "0050"),
        ({"rate_bpm": 120, "rr_1024": [512]}, "10780002"),
        ({"rate_bpm": 300, "contact": True}, "072c01"),
        ({"rate_bpm": 60, "contact": False, "energy_kj": 258, "rr_1024": [1024, 1000]}, "1c3c0201" + "0004e803"),
    ],
)
def test_heart_rate_bytes(arguments: dict[str, object], expected: str) -> None:
    assert encode_heart_rate(**arguments).hex() == expected


def test_loose_strap_says_no_rate_and_no_interval() -> None:
    strap = Strap("A", 1)
    strap.act("contact", 0, 0.0)
    (report,) = strap.take(1.0)
    assert report.payload == bytes([0x04, 0])
    assert "hr_bpm" not in report.values


def test_energy_of_a_strap_restarts_at_its_control_point() -> None:
    strap = Strap("A", 1, energy=True)
    before = strap.take(300.0)[-1].values["energy_kj"]
    assert strap.write(CONTROL, b"\x01", 300.0).error == 0
    assert strap.take(301.0)[-1].values["energy_kj"] < before
    assert strap.write(CONTROL, b"\x02", 301.0).error == 0x80


def test_record_that_fits_is_one_packet_without_more_data() -> None:
    assert split_record(2, b"\x01\x02", [(2, b"\x03")], room_bytes=20) == [bytes([0x04, 0, 1, 2, 3])]


def test_long_record_is_split_and_only_its_last_packet_has_the_first_field() -> None:
    packets = split_record(2, b"AB", [(2, b"c" * 6), (3, b"d" * 6), (4, b"e" * 6)], room_bytes=10)
    assert packets == [b"\x05\x00" + b"c" * 6, b"\x09\x00" + b"d" * 6, b"\x10\x00" + b"AB" + b"e" * 6]


def test_turns_keep_the_time_of_the_last_whole_one() -> None:
    wheel = Turns(0xFFFF)
    wheel.turn(0.5, 0.0, 1.0)
    assert (wheel.count, wheel.at_s) == (0xFFFF, 0.0)
    wheel.turn(1.0, 1.0, 1.0)
    assert (wheel.count, wheel.at_s) == (0x10000, 1.5)


def test_counters_roll_over() -> None:
    sensor = make_sensor("speed_cadence", "A", 1, {"turns": 0xFFFFFFF0})
    counts = [report.values["wheel_revs"] for report in sensor.take(60.0) if report.uuid == CSC_MEASUREMENT]
    assert counts[0] > counts[-1]


def test_control_without_request_is_not_permitted() -> None:
    machine = Trainer("T", 1)
    assert asked(machine, "05c800", 0.0) == [(CONTROL_POINT, bytes([0x80, 5, 5]))]


def test_trainer_reaches_a_target_power_and_says_so() -> None:
    machine = Trainer("T", 1)
    assert asked(machine, "00", 0.0) == [(CONTROL_POINT, bytes([0x80, 0, 1]))]
    answers = asked(machine, "05fa00", 1.0)
    assert answers == [(CONTROL_POINT, bytes([0x80, 5, 1])), (STATUS, bytes([0x08, 0xFA, 0]))]
    last = [report for report in machine.take(20.0) if report.uuid == INDOOR_BIKE_DATA][-1]
    assert 240 <= last.values["power_w"] <= 258


@pytest.mark.parametrize(
    ("request_hex", "result"),
    [("05e903", 3), ("05e8", 3), ("0232a0", 2), ("0803", 3), ("110000640028ff", 1), ("0464", 1), ("046400", 1)],
)
def test_trainer_answers_each_request_with_its_result(request_hex: str, result: int) -> None:
    machine = Trainer("T", 1)
    asked(machine, "00", 0.0)
    assert asked(machine, request_hex, 1.0)[0] == (CONTROL_POINT, bytes([0x80, int(request_hex[:2], 16), result]))


def test_grade_makes_the_rider_work_harder() -> None:
    flat, steep = Trainer("T", 1), Trainer("T", 1)
    asked(steep, "00", 0.0)
    asked(steep, "11000020030000", 0.2)  # 8 % up
    assert steep.take(30.0)[-1].values["power_w"] > flat.take(30.0)[-1].values["power_w"] + 50


def test_belt_starts_obeys_and_stops() -> None:
    machine = Treadmill("M", 1)
    machine.take(5.0)
    assert machine.state()["speed_kmh"] == 0
    asked(machine, "00", 5.0)
    assert (STATUS, b"\x04") in asked(machine, "07", 6.0)
    assert machine.read(TRAINING_STATUS) == b"\x00\x0d"
    asked(machine, "024c04", 7.0)  # 11 km/h
    asked(machine, "031900", 8.0)  # 2.5 %
    record = [report for report in machine.take(30.0) if report.uuid == TREADMILL_DATA][-1]
    assert record.values["speed_mps"] == pytest.approx(11 / 3.6, abs=0.03)
    assert record.values["incline_pct"] == 2.5
    assert (STATUS, b"\x02\x01") in asked(machine, "0801", 30.0)
    machine.take(45.0)
    assert machine.state()["speed_kmh"] == 0
    assert machine.read(TRAINING_STATUS) == b"\x00\x01"


def test_numbers_of_a_moving_belt_show_in_its_speed() -> None:
    machine = Treadmill("M", 1, running=True)
    speeds = [struct.unpack_from("<H", report.payload, 2)[0] for report in machine.take(60.0) if report.uuid == TREADMILL_DATA]
    assert [speed % 8 for speed in speeds[40:]] == [number % 8 for number in range(40, len(speeds))]


@pytest.mark.parametrize(("stops", "running"), [(True, 0.0), (False, 1.0)])
def test_lost_link_takes_control_and_stops_only_a_machine_made_so(stops: bool, running: float) -> None:
    machine = Treadmill("M", 1, running=True, stops_on_loss=stops)
    asked(machine, "00", 0.0)
    machine.linked(False, 1.0)
    assert machine.state()["controlled"] == 0
    assert machine.state()["running"] == running


def test_machine_can_be_stopped_by_hand_lose_control_refuse_and_keep_silent() -> None:
    machine = Treadmill("M", 1, running=True)
    asked(machine, "00", 0.0)
    machine.act("safety_key", 1, 1.0)
    assert (STATUS, b"\x03") in [(report.uuid, report.payload) for report in machine.take(1.0)]
    machine.act("refuse", 7, 2.0)
    assert asked(machine, "07", 2.0) == [(CONTROL_POINT, bytes([0x80, 7, 4]))]
    machine.act("mute", 1, 3.0)
    assert asked(machine, "022003", 3.0) == []
    machine.act("lose_control", 1, 4.0)
    assert (STATUS, b"\xff") in [(report.uuid, report.payload) for report in machine.take(4.0)]
    assert asked(machine, "022003", 5.0) == [(CONTROL_POINT, bytes([0x80, 2, 5]))]
    with pytest.raises(BadInputError, match="safety_key"):
        machine.act("dance", 1, 5.0)


def test_features_name_what_a_treadmill_takes() -> None:
    features, targets = struct.unpack("<II", Treadmill("M", 1).read(FEATURE) or b"")
    assert features & (1 << 3)
    assert targets == 0b11


def test_unknown_kind_and_option_are_refused_by_name() -> None:
    with pytest.raises(BadInputError, match="'bathtub'"):
        make_sensor("bathtub", "A", 1, {})
    with pytest.raises(BadInputError, match="colour"):
        make_sensor("strap", "A", 1, {"colour": "red"})


def test_sensor_given_by_hand_has_its_attributes_and_says_nothing_itself() -> None:
    services = [{"uuid": "181A", "characteristics": [{"uuid": "2A6E", "flags": ["read", "notify"], "value": "2209"}]}]
    sensor: Sensor = make_sensor("table", "A", 1, {"services": services})
    assert sensor.read("00002a6e-0000-1000-8000-00805f9b34fb") == bytes.fromhex("2209")
    assert sensor.take(1e6) == []
    assert MEASUREMENT not in {one.uuid for service in sensor.services for one in service.characteristics}
