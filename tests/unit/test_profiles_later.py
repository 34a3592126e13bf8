"""Sensors that come later fit the language: Polar PMD streams, Concept2 PM5, handlebar buttons and steering (blood pressure, glucose and radar are there)."""

from __future__ import annotations

import struct
from pathlib import Path

import pytest

from device_profiles.catalogue import Catalogue, catalogue, load
from device_profiles.golden import failures
from device_profiles.reader import Reader
from paceline.profile_layouts import misfits

LATER = Path(__file__).parent.parent / "vectors" / "profiles_later.yaml"


@pytest.fixture(scope="module")
def later() -> Catalogue:
    return load([LATER])


@pytest.mark.parametrize("name", ["polar_pmd_data", "pm5_additional_status", "every_type"])
def test_streams_of_polar_and_concept2_decode(later: Catalogue, name: str) -> None:
    profile = later.named(name)
    assert profile is not None
    assert [text for text in failures(profile) if "golden frames" not in text] == []
    assert list(misfits(profile)) == []


@pytest.mark.parametrize(
    ("name", "packet", "fields"),
    [
        ("pm5_multiplexed", "31e8030050c30000000000000000000000000082", {"elapsed_s": 10.0, "distance_m": 5000.0, "drag_factor": 130}),
        ("pm5_multiplexed", "32e80300a00f", {"elapsed_s": 10.0, "speed_mps": 4.0}),
        ("handlebar_click", "3708001001", {"plus": 0, "minus": 1}),
        ("steering_angle", struct.pack("<f", -12.5).hex(), {"angle_deg": -12.5}),
    ],
)
def test_other_packets_decode(later: Catalogue, name: str, packet: str, fields: dict[str, object]) -> None:
    profile = later.named(name)
    assert profile is not None
    assert profile.decoder.decode(bytes.fromhex(packet)) == (fields, 0)


@pytest.mark.parametrize(
    ("uuid", "packet", "fields"),
    [
        ("2A35", "04780050005a004800", {"systolic": 120.0, "diastolic": 80.0, "mean": 90.0}),
        ("2A18", "020100e807030f0e1e2d5ab011", {"time": "2024-03-15T14:30:45", "glucose": 0.0009}),
        ("6A4E3203-667B-11E3-949A-0800200C9A66", "1283031f8f1c2d973d47", {"distance": [3, 28, 61]}),
    ],
)
def test_clinic_and_radar_are_there(uuid: str, packet: str, fields: dict[str, object]) -> None:
    profile = catalogue().ble(uuid)
    assert profile is not None
    reader = Reader(profile)
    reader.feed(bytes.fromhex(packet), 0)
    for part, value in fields.items():
        assert value in [found for name, found in reader.fields.items() if part in name], (part, reader.fields)
