"""Sightings: the newest word on each device near by, bounded, written when something changed and seldom otherwise."""

from __future__ import annotations

import json
from dataclasses import replace

import pytest

from broker.errors import StoreError
from gateway.clock import Instant
from gateway.sightings import FILE, FORGET_S, QUIET_S, Sighting, Sightings, read_devices

S = 1_000_000
STRAP = Sighting("ble-aabbccddeeff", "ble", "Strap 7", ("heart_rate_measurement",), -60, 80, "live", "", last_us=5 * S)


class Hand:
    """A clock moved by hand."""

    def __init__(self) -> None:
        self.mono_us = 10 * S

    def __call__(self) -> Instant:
        return Instant(self.mono_us, self.mono_us + 1000 * S)


@pytest.fixture
def clock() -> Hand:
    return Hand()


def test_file_says_who_is_near_who_wears_it_and_when_it_was_heard_in_utc(tmp_path, clock):
    sightings = Sightings(tmp_path / FILE, athlete_of={STRAP.device: "ann"}.get, clock=clock)
    sightings.report(STRAP)
    sightings.report(Sighting("ant-120-4711", "ant", state="refused", reason="denied", last_us=9 * S))
    assert sightings.write_when_due()
    document = read_devices(tmp_path)
    assert document is not None
    assert document["written_us"] == 1010 * S
    ant, ble = document["devices"]
    assert (ant["device"], ant["reason"], ant["athlete"], ant["heard_us"]) == ("ant-120-4711", "denied", None, 1009 * S)
    assert (ble["athlete"], ble["profiles"], ble["rssi_dbm"], ble["heard_us"]) == ("ann", ["heart_rate_measurement"], -60, 1005 * S)


def test_signal_strength_alone_is_written_seldom_and_a_state_at_once(tmp_path, clock):
    sightings = Sightings(tmp_path / FILE, clock=clock)
    sightings.report(STRAP)
    assert sightings.write_when_due()
    sightings.report(replace(STRAP, rssi_dbm=-70, last_us=11 * S))
    assert not sightings.write_when_due()
    sightings.report(replace(STRAP, state="lost", reason="link lost"))
    assert sightings.write_when_due()
    assert not sightings.write_when_due()
    clock.mono_us += round(QUIET_S * S)
    assert sightings.write_when_due()


def test_beyond_capacity_the_device_heard_longest_ago_is_forgotten(clock):
    sightings = Sightings(clock=clock, capacity=2)
    for i, name in enumerate(("a", "b", "a", "c")):
        sightings.report(Sighting(name, "ble", last_us=i * S))
    assert [s.device for s in sightings.all()] == ["a", "c"]
    assert sightings.counters() == {"ble_near": 2}


def test_device_not_heard_for_a_quarter_of_an_hour_is_forgotten_and_a_live_one_is_not(clock):
    sightings = Sightings(clock=clock)
    sightings.report(replace(STRAP, state="lost", last_us=10 * S))
    sightings.report(replace(STRAP, device="ble-000000000001", last_us=11 * S))
    clock.mono_us += round((FORGET_S + 5) * S)
    sightings.write_when_due()
    assert [s.device for s in sightings.all()] == ["ble-000000000001"]


def test_renamed_device_leaves_its_old_id(clock):
    sightings = Sightings(clock=clock)
    sightings.report(STRAP)
    sightings.forget(STRAP.device)
    sightings.forget("never-seen")
    assert sightings.all() == ()


def test_folder_that_cannot_be_written_is_no_reason_to_stop(tmp_path, clock):
    sightings = Sightings(tmp_path / "gone" / FILE, clock=clock)
    sightings.report(STRAP)
    assert sightings.write_when_due()


def test_no_file_is_none_and_a_damaged_one_names_the_cure(tmp_path):
    assert read_devices(tmp_path) is None
    (tmp_path / FILE).write_text("{")
    with pytest.raises(StoreError, match="start the gateway"):
        read_devices(tmp_path)


def test_a_long_name_of_a_stranger_is_cut(tmp_path, clock):
    sightings = Sightings(tmp_path / FILE, clock=clock)
    sightings.report(replace(STRAP, name="x" * 500))
    sightings.write_when_due()
    assert len(json.loads((tmp_path / FILE).read_text())["devices"][0]["name"]) == 64
