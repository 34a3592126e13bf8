"""One engine, two interpreters: MicroPython and CPython decode every packet to the same bits, and ten profiles fit a small device."""

from __future__ import annotations

import random
import shutil
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

import pytest

import device_profiles.engine
from device_profiles.catalogue import catalogue, load
from device_profiles.packs import pack
from device_profiles.profile import Profile
from tests.micropython import MicroPython, find_or_unpack_micropython
from tests.profile_packets import packets

LATER = Path(__file__).parent.parent / "vectors" / "profiles_later.yaml"
PROFILES = (*catalogue().all(), *load([LATER]).all())
TEN = (
    "heart_rate_measurement", "csc_measurement", "cycling_power_measurement", "rsc_measurement", "treadmill_data", "indoor_bike_data",
    "rower_data", "battery_level", "heart_rate", "fitness_equipment",
)  # fmt: skip
TABLE_LIMIT_BYTES = 8192


@pytest.fixture(scope="module")
def micropython() -> MicroPython:
    return find_or_unpack_micropython()


@pytest.fixture
def child(tmp_path: Path) -> Path:
    """The script beside the engine's own file, as on a device."""
    shutil.copy(device_profiles.engine.__file__, tmp_path / "engine.py")
    shutil.copy(Path(__file__).with_name("profile_child.py"), tmp_path)
    return tmp_path / "profile_child.py"


def write_work(path: Path, profiles: Sequence[Profile], count: int) -> int:
    """Packets of all profiles for the script; how many there are."""
    dice = random.Random(20)
    lines: list[str] = []
    for profile in profiles:
        lines.append(f"P {profile.name} {pack([profile]).hex()}")
        lines += [f"D {packet.hex()}" for packet in packets(profile, dice, count)]
    path.write_text("\n".join(lines) + "\n")
    return len(lines) - len(profiles)


def compare(micropython: MicroPython, child: Path, count: int) -> None:
    work = child.with_name("work")
    wanted = write_work(work, PROFILES, count)
    there = micropython.run(child, "decode", str(work)).splitlines()
    command = [sys.executable, str(child), "decode", str(work)]
    here = subprocess.run(command, capture_output=True, text=True, timeout=1200, cwd=child.parent, check=True).stdout.splitlines()
    assert len(there) == len(here) == wanted
    differing = [(a, b) for a, b in zip(there, here, strict=True) if a != b]
    assert differing == []


def test_both_interpreters_decode_to_the_same_bits(micropython: MicroPython, child: Path) -> None:
    compare(micropython, child, 30_000 // len(PROFILES))


@pytest.mark.nightly
@pytest.mark.timeout(2700)
def test_both_interpreters_decode_to_the_same_bits_at_length(micropython: MicroPython, child: Path) -> None:
    compare(micropython, child, 600_000 // len(PROFILES))


def test_tables_of_ten_profiles_fit_a_small_device(micropython: MicroPython, child: Path) -> None:
    ten = [profile for name in TEN if (profile := catalogue().named(name)) is not None]
    assert len(ten) == len(TEN)
    lines = [f"P {len(ten)} {pack(ten).hex()}"]
    lines += [f"D {i} {packet.hex()}" for i, profile in enumerate(ten) for golden in profile.golden for packet in golden.packets]
    work = child.with_name("work")
    work.write_text("\n".join(lines) + "\n")
    tables, plans = map(int, micropython.run(child, "memory", str(work)).split())
    work.write_text(repr([(profile.table.key, profile.table.always, dict(profile.table.pages)) for profile in ten]))
    as_tuples = int(micropython.run(child, "tuples", str(work)).split()[0])
    print(f"{len(ten)} profiles: tables {tables} bytes, as tuples {as_tuples}; plans of {len(lines) - 1} golden packets {plans} bytes")
    assert tables <= TABLE_LIMIT_BYTES
    assert tables * 2 < as_tuples
