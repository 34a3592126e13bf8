"""The comparison of what sensors said with what is stored: each fault is counted as what it is."""

from __future__ import annotations

import pytest

from broker.layouts import layout_named
from simulators.bluez.journal import Entry
from simulators.sensor_truth import Record, SensorVerdict, device_of, fields_of, judge_sensors, owed, said_samples, stored_records
from simulators.sensors.catalogue import make_sensor

ADDRESS = "C0:00:00:00:00:01"
DEVICE = "ble-c00000000001"


def entries(kind: str, seconds: float = 20.0, **options: object) -> list[Entry]:
    reports = make_sensor(kind, "A", 3, options).take(seconds)
    return [Entry(0, ADDRESS, "hci0", one.uuid, one.number, one.payload, dict(one.values)) for one in reports]


def judged(want: list[Record], have: list[Record]) -> SensorVerdict:
    return judge_sensors({DEVICE: want}, {DEVICE: have}, len(want))


def test_device_has_the_id_a_box_gives_it() -> None:
    assert device_of(ADDRESS) == DEVICE


@pytest.mark.parametrize("kind", ["strap", "trainer", "rower", "foot_pod", "power_meter"])
def test_the_same_samples_are_clean(kind: str) -> None:
    want = owed(entries(kind))[DEVICE]
    verdict = judged(want, list(want))
    assert verdict.clean
    assert verdict.samples == verdict.stored == len(want) > 10


@pytest.mark.parametrize("kind", ["strap", "trainer"])
def test_one_lost_and_one_doubled_sample_are_counted(kind: str) -> None:
    want = owed(entries(kind))[DEVICE]
    assert judged(want, want[:7] + want[8:]).lost == 1
    assert judged(want, [*want[:7], want[6], *want[7:]]).duplicated == 1


def test_changed_sample_is_wrong_and_the_one_it_was_is_lost() -> None:
    want = owed(entries("strap"))[DEVICE]
    have = [*want[:-1], ("beats.1", (("hr_bpm", 1.0), ("rr_ms", 1.0)))]
    verdict = judged(want, have)
    assert (verdict.wrong, verdict.lost, verdict.duplicated) == (1, 1, 0)
    assert not verdict.clean


def test_samples_that_changed_places_are_out_of_order() -> None:
    want = owed(entries("strap"))[DEVICE]
    assert judged(want, [want[1], want[0], *want[2:]]).out_of_order == 2


def test_device_that_is_not_stored_at_all_is_lost_and_others_are_ignored() -> None:
    want = owed(entries("strap"))[DEVICE]
    verdict = judge_sensors({DEVICE: want}, {"ble-other": want}, 20)
    assert (verdict.lost, verdict.stored) == (len(want), 0)


def test_first_part_of_a_split_record_and_an_answer_are_no_samples() -> None:
    assert said_samples({}) == []
    assert said_samples({"op": 5, "result": 1}) == []
    whole, split = entries("trainer"), entries("trainer", room_bytes=12)
    assert len(split) > len(whole)
    assert owed(split) == owed(whole)


def test_strap_without_intervals_owes_its_rate_and_without_contact_nothing() -> None:
    assert said_samples({"rr_s": [], "hr_bpm": 60}) == [("beats.1", {"hr_bpm": 60})]
    assert said_samples({"rr_s": []}) == []


def test_stored_frame_gives_its_records_in_the_fields_that_count() -> None:
    want = owed(entries("trainer"))[DEVICE]
    layout = layout_named("machine.1")
    said = [values for one in entries("trainer") for _, values in said_samples(one.values)]
    packed = b"".join(layout.pack({"tick_ms": 5, "strokes": 3, **values}) for values in said)
    assert stored_records(packed, layout, fields_of(want)["machine.1"]) == want
