"""`paceline profiles`: list, show, check and decode, as people and as programs call them."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result

from broker.errors import BadInputError
from device_profiles.catalogue import catalogue
from device_profiles.engine import Pack
from paceline.commands.profiles import profiles

GOOD = """
profiles:
  - name: my_sensor
    ble: {characteristic: "FFF1"}
    fields: [{name: watts, type: u16, unit: W}]
    samples: {layout: motion.1, map: {power_w: watts}}
    golden:
      - {hex: "0100", fields: {watts: 1}, samples: [{power_w: 1}]}
      - {hex: "0200", fields: {watts: 2}, samples: [{power_w: 2}]}
      - {hex: "0300", fields: {watts: 3}, samples: [{power_w: 3}]}
"""


def call(*args: str) -> Result:
    return CliRunner().invoke(profiles, list(args))


def as_json(*args: str) -> Any:
    return json.loads(call(*args, "--json").stdout)


def test_list_names_every_profile() -> None:
    assert [one["name"] for one in as_json("list")] == [profile.name for profile in catalogue().all()]
    assert "heart_rate_measurement" in call("list").stdout
    assert " 2A37 " in call("list").stdout


@pytest.mark.parametrize("name", [profile.name for profile in catalogue().all()])
def test_show_says_all_of_each_profile(name: str) -> None:
    text = call("show", name).stdout
    profile = catalogue().named(name)
    assert profile is not None
    assert all(word in text for word in [*profile.fields, *profile.commands])
    assert {one["name"] for one in as_json("show", name)["commands"]} == set(profile.commands)


def test_decode_gives_fields_words_and_samples() -> None:
    said = as_json("decode", "2a37", "10500004cc02")
    assert (said["profile"], said["fields"]) == ("heart_rate_measurement", {"contact": 0, "hr_bpm": 80, "rr_s": [1.0, 0.69921875]})
    assert said["words"] == {"contact": "not supported"}
    assert said["samples"][0] == {"layout": "beats.1", "age_ms": 699.219, "values": {"hr_bpm": 80, "rr_ms": 1000.0}}
    assert said["bad"] == {}
    text = call("decode", "2a37", "10500004cc02").stdout
    assert "699.219 ms before" in text
    assert "(not supported)" in text


def test_decode_takes_several_packets_names_and_ant_types() -> None:
    assert as_json("decode", "csc_measurement", "020a000004", "020c00000a")["samples"][0]["values"] == {"cadence_rpm": 80.0}
    assert as_json("decode", "ant:17", "1019fd259d270035")["fields"]["speed_mps"] == 10.141
    short = call("decode", "2a37", "18")
    assert (short.exit_code, "short: 1" in short.stdout, "no sample" in short.stdout) == (0, True, True)


def test_decode_tells_of_one_packet_what_a_reader_waits_to_believe() -> None:
    assert as_json("decode", "ant:120", "011e0000000000ff")["fields"]["operating_time_s"] == 60
    assert as_json("decode", "2ad2", "41009600")["fields"] == {"power_w": 150}
    assert "goes on in the next packet" in call("decode", "2ad2", "41009600").stdout


def test_decode_refuses_what_is_no_packet_and_no_profile() -> None:
    assert call("decode", "2a37", "xyz").exit_code == 2
    assert call("decode", "2a37").exit_code == 2
    assert isinstance(call("decode", "ffff", "00").exception, BadInputError)


def test_the_profiles_of_paceline_pass_their_check() -> None:
    result = call("check")
    assert (result.exit_code, result.stdout.strip()) == (0, f"{len(catalogue().all())} profiles checked, 0 faults")


def test_a_file_of_ones_own_is_checked_and_decodes(tmp_path: Path) -> None:
    path = tmp_path / "mine.yaml"
    path.write_text(GOOD)
    assert as_json("check", str(path)) == {"profiles": ["my_sensor"], "wrong": []}
    assert as_json("decode", "--file", str(path), "fff1", "2c01")["fields"] == {"watts": 300}


@pytest.mark.parametrize(
    ("was", "became", "words"),
    [
        ("type: u16", "type: u99", "mine.yaml:5: profiles.my_sensor.fields.watts.type"),
        ("motion.1", "motion.9", "no layout"),
        ("{power_w: watts}", "{watts: watts}", "no field 'watts'"),
        ('{hex: "0300", fields: {watts: 3}, samples: [{power_w: 3}]}', '{hex: "0300", fields: {watts: 4}}', "3 instead of 4"),
        ('      - {hex: "0300", fields: {watts: 3}, samples: [{power_w: 3}]}\n', "", "2 golden frames"),
        ('"FFF1"', '"2A37"', "heart_rate_measurement"),
    ],
)
def test_a_fault_is_named_and_the_exit_code_is_1(tmp_path: Path, was: str, became: str, words: str) -> None:
    path = tmp_path / "mine.yaml"
    path.write_text(GOOD.replace(was, became))
    result = call("check", str(path))
    assert result.exit_code == 1
    assert words in result.stderr
    assert as_json("check", str(path))["wrong"]


def test_pack_writes_a_module_for_a_device(tmp_path: Path) -> None:
    path = tmp_path / "profile_pack.py"
    assert call("pack", "heart_rate_measurement", "ant:17", "--out", str(path)).exit_code == 0
    space: dict[str, bytes] = {}
    exec(path.read_text(), space)
    assert Pack(space["PACK"]).names_of_profiles() == ["heart_rate_measurement", "fitness_equipment"]
    assert call("pack", "2a37").stdout.startswith("# Generated")
    assert isinstance(call("pack", *[profile.name for profile in catalogue().all()]).exception, BadInputError)
