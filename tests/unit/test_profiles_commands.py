"""Commands become the bytes that devices take, within limits; answers become values."""

from __future__ import annotations

from random import Random

import pytest

from device_profiles.catalogue import build, catalogue
from device_profiles.commands import Reply, encode, parse_reply
from device_profiles.errors import CommandError
from device_profiles.marks import read_marked
from device_profiles.profile import Profile


def named(name: str) -> Profile:
    profile = catalogue().named(name)
    assert profile is not None
    return profile


@pytest.mark.parametrize(
    ("profile", "command", "args", "packet"),
    [
        ("fitness_machine_control_point", "request_control", {}, "00"),
        ("fitness_machine_control_point", "set_target_speed", {"speed_kmh": 1.0}, "026400"),
        ("fitness_machine_control_point", "set_target_power", {"power_w": 200}, "05c800"),
        ("fitness_machine_control_point", "stop", {}, "0801"),
        ("fitness_machine_control_point", "pause", {}, "0802"),
        (
            "fitness_machine_control_point",
            "set_simulation",
            {"wind_speed_mps": 3.0, "grade_pct": 8.1, "rolling_resistance": 0.004, "wind_resistance_kgpm": 0.49},
            "11b80b2a032831",
        ),
        ("fitness_machine_control_point", "set_simulation", {"grade_pct": -0.03}, "110000fdff2833"),
        ("fitness_equipment", "set_resistance", {"resistance_pct": 50}, "30ffffffffffff64"),
        ("fitness_equipment", "set_target_power", {"power_w": 250}, "31ffffffffffe803"),
        ("fitness_equipment", "set_wind", {}, "32ffffffff337f64"),
        ("fitness_equipment", "set_simulation", {"grade_pct": 4.8}, "33ffffffff005050"),
        ("fitness_equipment", "request_page", {"page": 54}, "46ffffffff043601"),
    ],
)
def test_a_command_becomes_its_bytes(profile: str, command: str, args: dict[str, float], packet: str) -> None:
    assert encode(named(profile), command, args).hex() == packet


@pytest.mark.parametrize(
    ("command", "args", "words"),
    [
        ("fly", {}, "no command 'fly'"),
        ("set_target_power", {}, "needs power_w"),
        ("set_target_power", {"power_w": 4001}, "outside 0..4000 W"),
        ("set_target_power", {"power_w": -1}, "outside"),
        ("set_target_power", {"power_w": float("nan")}, "outside"),
        ("set_target_power", {"power_w": 100, "speed": 3}, "no argument speed"),
    ],
)
def test_what_cannot_be_asked_is_refused_with_a_cure(command: str, args: dict[str, float], words: str) -> None:
    with pytest.raises(CommandError, match="cure: ") as caught:
        encode(named("fitness_machine_control_point"), command, args)
    assert words in str(caught.value)


def test_every_command_at_its_limits_decodes_to_what_was_asked() -> None:
    for name in ("fitness_machine_control_point", "fitness_equipment"):
        profile = named(name)
        for command in profile.commands.values():
            for pick in ("min", "max"):
                encode(profile, command.name, {arg.name: getattr(arg, pick) for arg in command.args})
    control = named("fitness_machine_control_point")
    fields, trouble = control.decoder.decode(encode(control, "set_target_incline", {"incline_pct": -3.5}))
    assert (fields, trouble) == ({"target_incline_pct": -3.5}, 0)


def test_answers_say_what_they_answer() -> None:
    control, trainer = named("fitness_machine_control_point"), named("fitness_equipment")
    assert parse_reply(control, bytes.fromhex("800001")) == Reply(0, True, 1, False, "done")
    assert parse_reply(control, bytes.fromhex("800505")) == Reply(5, False, 5, False, "control not permitted")
    assert parse_reply(control, bytes.fromhex("8005")) is None
    assert parse_reply(control, bytes.fromhex("050001")) is None
    assert parse_reply(trainer, bytes.fromhex("4731010000000000")) == Reply(49, True, 0, False, "done")
    assert parse_reply(trainer, bytes.fromhex("4731010400000000")) == Reply(49, False, 4, True, "pending")
    assert parse_reply(named("treadmill_data"), bytes.fromhex("800001")) is None


def test_rounding_down_and_envelopes_are_data() -> None:
    text = """
profiles:
  - name: it
    ble: {characteristic: "2ACD", mode: write}
    envelope: {before: "a4094f05", checksum: xor}
    commands:
      grade: {op: 70, args: [{name: pct, type: u16, mul: 100, div: 32768, add: -100, min: -100, max: 99, round: down}]}
      unlock: {op: 32, before: "eefc"}
      power: {page: 49, length: 8, fill: 0, args: [{name: w, type: u16be, at: 6, min: 0, max: 500}]}
"""
    profile = build([read_marked("it.yaml", text)]).all()[0]
    assert encode(profile, "grade", {"pct": 4.8})[4:-1].hex() == "462486"
    assert encode(profile, "unlock").hex()[:-2] == "a4094f0520eefc"
    power = encode(profile, "power", {"w": 258})
    assert power[4:-1].hex() == "3100000000000102"
    check = 0
    for byte in power:
        check ^= byte
    assert check == 0


@pytest.mark.parametrize("profile", [one for one in catalogue().all() if one.commands], ids=lambda profile: profile.name)
def test_whatever_is_asked_becomes_bytes_or_a_refusal(profile: Profile) -> None:
    dice = Random(profile.name)
    values = (0, -1, 1, 0.004, 1e308, -1e308, 5e-324, float("nan"), float("inf"), 65535.5, 127, 250)
    for command in profile.commands.values():
        lengths = set()
        for _ in range(60):
            args = {arg.name: dice.choice((*values, arg.min, arg.max)) for arg in command.args if dice.random() < 0.9}
            try:
                lengths.add(len(encode(profile, command.name, args)))
            except CommandError as error:
                assert "cure: " in str(error)  # noqa: PT017
        assert len(lengths) <= 1
