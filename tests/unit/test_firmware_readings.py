"""What a device makes of a sensor's packets is what the box makes of them: the golden packets of the profiles, and long series drawn from them."""

from __future__ import annotations

import json
import random
from types import SimpleNamespace
from typing import Any

import pytest
from ble.reading import Reading
from kit import layouts as kit_layouts
from kit.packing import put

from broker.errors import ConfigError
from broker.layouts import all_layouts, layout_named
from device_profiles.catalogue import catalogue
from device_profiles.engine import Pack
from device_profiles.packs import pack
from device_profiles.profile import Profile
from device_profiles.reader import Reader
from paceline.device.rules import code_of, rule_text, rules_module

BRIDGED = (
    "heart_rate_measurement", "csc_measurement", "cycling_power_measurement", "rsc_measurement", "treadmill_data", "cross_trainer_data",
    "step_climber_data", "stair_climber_data", "rower_data", "indoor_bike_data",
)  # fmt: skip


def profile_named(name: str) -> Profile:
    profile = catalogue().named(name)
    assert profile is not None
    return profile


def module_of(layout: str) -> Any:
    return getattr(__import__(f"kit.layouts.{layout}").layouts, layout)


def record_of(layout: str, values: tuple[tuple[int, int], ...]) -> bytes:
    """The record as `kit.frame` packs it, with tick 0."""
    module = module_of(layout)
    record = bytearray(module.ABSENT)
    writer = SimpleNamespace(_buf=record, _state=[1, 0, 1, len(record), 0])
    for code, raw in values:
        put(writer, code, raw)
    return bytes(record)


class Both:
    """A packet to both readers, and their records beside each other."""

    def __init__(self, profile: Profile) -> None:
        self.there = Reader(profile)
        decoder = Pack(pack([profile])).decoder(profile.name)
        self.here = Reading(decoder, json.loads(rule_text(profile)))
        self.t_ms = 5_000

    def feed(self, packet: bytes, period_ms: int) -> None:
        self.t_ms += period_ms
        wanted = [
            (sample.layout, round(sample.age_us / 1000), layout_named(sample.layout).pack({"tick_ms": 0, **sample.values}))
            for sample in self.there.feed(packet, self.t_ms * 1000)
        ]
        made: list[tuple[str, int, bytes]] = []
        self.here.feed(
            packet, self.t_ms, lambda layout, age_ms, values: made.append((layout.replace("_", "."), age_ms, record_of(layout, values)))
        )
        assert [(layout, record) for layout, _, record in made] == [(layout, record) for layout, _, record in wanted], packet.hex()
        assert all(abs(a[1] - b[1]) <= 2 for a, b in zip(made, wanted, strict=True))  # ages: rounded once or at each beat


@pytest.mark.parametrize("name", BRIDGED)
def test_golden_packets_become_the_records_of_the_box(name: str) -> None:
    profile = profile_named(name)
    assert profile.golden
    for golden in profile.golden:
        both = Both(profile)
        for packet in golden.packets:
            both.feed(packet, golden.every_ms or profile.period_ms or 1000)


@pytest.mark.parametrize("name", BRIDGED)
@pytest.mark.parametrize("seed", range(4))
def test_long_series_with_damage_and_gaps_become_the_records_of_the_box(name: str, seed: int) -> None:
    profile, dice = profile_named(name), random.Random(seed)
    packets = [packet for golden in profile.golden for packet in golden.packets]
    both = Both(profile)
    for _ in range(300):
        packet = bytearray(dice.choice(packets))
        if dice.random() < 0.3 and packet:
            packet[dice.randrange(len(packet))] = dice.randrange(256)
        if dice.random() < 0.1:
            packet = packet[: dice.randrange(len(packet) + 1)]
        both.feed(bytes(packet), dice.choice((50, 250, 1000, 1000, 4000, 70_000)))


def test_codes_are_those_of_the_kit() -> None:
    for layout in all_layouts().values():
        module = module_of(layout.name.replace(".", "_"))
        assert {field.name: code_of(layout, field.name) for field in layout.fields} == {
            field.name: getattr(module, field.name.upper()) for field in layout.fields
        }
    assert kit_layouts.__name__ == "kit.layouts"


def test_module_of_rules_names_services_and_characteristics() -> None:
    space: dict[str, Any] = {}
    exec(rules_module([profile_named(name) for name in BRIDGED]), space)
    assert space["SERVICES"][0x180D] == ((0x2A37, "heart_rate_measurement"),)
    assert {uuid for uuid, _ in space["SERVICES"][0x1826]} == set(range(0x2ACD, 0x2AD3))
    assert set(space["RULES"]) == set(BRIDGED)


@pytest.mark.parametrize("name", ["heart_rate", "fitness_equipment"])
def test_profile_that_a_device_cannot_read_is_refused(name: str) -> None:
    with pytest.raises(ConfigError, match="leave it to the box"):
        rules_module([profile_named(name)])
