"""Values that a profile works out of several fields or packets: joined bits, inverses, grown counters, power from torque ticks."""

from __future__ import annotations

import math

import pytest

from device_profiles.catalogue import build, catalogue
from device_profiles.errors import BadProfileError
from device_profiles.marks import read_marked
from device_profiles.profile import Profile
from device_profiles.reader import Reader

HEAD = 'profiles:\n  - name: it\n    ble: {service: "1826", characteristic: "2ACD"}\n'


def profile(body: str) -> Profile:
    return build([read_marked("it.yaml", HEAD + "".join(f"    {line}\n" for line in body.strip().splitlines()))]).all()[0]


def fed(reader: Reader, *packets: str, every_us: int = 1_000_000) -> dict[str, object]:
    for number, packet in enumerate(packets):
        reader.feed(bytes.fromhex(packet), number * every_us)
    return dict(reader.fields)


JOINED = """
fields:
  - {name: low, type: u8}
  - {pack: u8, parts: [[other, 0, 4], {name: high, bits: [4, 4], signed: true}]}
derive:
  - {name: whole, kind: join, field: low, high: high, per: 0.05}
"""


@pytest.mark.parametrize(("packet", "whole"), [("ab2f", 34.15), ("cef2", -2.5), ("0080", -102.4)])
def test_bits_that_lie_apart_are_one_integer(packet: str, whole: float) -> None:
    assert fed(Reader(profile(JOINED)), packet)["whole"] == pytest.approx(whole)


def test_a_part_that_is_missing_leaves_no_whole() -> None:
    assert "whole" not in fed(Reader(profile(JOINED)), "ab")


def test_an_inverse_of_nothing_is_nothing() -> None:
    reader = Reader(profile("fields: [{name: pace_s, type: u16}]\nderive: [{name: speed_mps, kind: inverse, field: pace_s, per: 500}]"))
    assert fed(reader, "6400")["speed_mps"] == 5
    assert "speed_mps" not in fed(reader, "0000")


def test_a_grown_counter_is_in_the_unit_of_its_setting() -> None:
    body = """
    fields: [{name: revs, type: u8}]
    settings: {wheel_m: 2}
    derive: [{name: distance_m, kind: accumulate, field: revs, scale: wheel_m}]
    """
    small = profile("\n".join(line.strip() for line in body.strip().splitlines()))
    assert fed(Reader(small), "fe", "02")["distance_m"] == 2 * (254 + 4)
    assert fed(Reader(small, settings={"wheel_m": 2.5}), "fe", "02")["distance_m"] == 2.5 * (254 + 4)


def test_a_join_without_its_high_part_is_refused() -> None:
    with pytest.raises(BadProfileError, match="needs `high`"):
        profile("fields: [{name: low, type: u8}]\nderive: [{name: whole, kind: join, field: low}]")
    with pytest.raises(BadProfileError, match="no field is named 'other'"):
        profile("fields: [{name: low, type: u8}]\nderive: [{name: whole, kind: join, field: low, high: other}]")


def power_meter() -> Reader:
    found = catalogue().named("ant_power")
    assert found is not None
    return Reader(found)


OFFSET, TURN, NEXT, LATER = "011001ffffff01f4", "200100fa07d00000", "200200fa0fa005dc", "200400fa2ee00bb8"


def test_power_of_torque_ticks_needs_a_calibration() -> None:
    fields = fed(power_meter(), TURN, NEXT)
    assert fields["cadence_rpm"] == pytest.approx(60)
    assert "power_w" not in fields


def test_power_of_torque_ticks_is_torque_times_angular_speed() -> None:
    assert fed(power_meter(), OFFSET, TURN, NEXT)["power_w"] == pytest.approx((1500 - 500) / 25 * 2 * math.pi)
    # 1500 more ticks in 4 s are 375 Hz, below the offset: no negative power
    assert fed(power_meter(), OFFSET, TURN, NEXT, LATER)["power_w"] == 0


def test_a_repeated_page_of_torque_ticks_gives_no_second_sample() -> None:
    reader = power_meter()
    fed(reader, OFFSET, TURN, NEXT)
    assert reader.feed(bytes.fromhex(NEXT), 4_000_000) == []


def test_pages_of_one_meter_each_count_their_own_events() -> None:
    reader = power_meter()
    assert len(reader.feed(bytes.fromhex("1005b25a2c01c800"), 0)) == 1
    assert len(reader.feed(bytes.fromhex("1201015a00048002"), 250_000)) == 1  # cadence of the crank page
    assert reader.feed(bytes.fromhex("1005b25a2c01c800"), 500_000) == []
    assert len(reader.feed(bytes.fromhex("1006b25a2c01c800"), 750_000)) == 1
