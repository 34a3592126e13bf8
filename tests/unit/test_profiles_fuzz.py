"""Whatever bytes come: no exception, bounded state, and no value that a layout could not carry as a number."""

from __future__ import annotations

import math
from collections.abc import Sequence
from random import Random

import pytest

from device_profiles.catalogue import catalogue
from device_profiles.commands import parse_reply
from device_profiles.engine import PLANS_KEPT
from device_profiles.profile import Profile
from device_profiles.reader import Reader
from tests.profile_packets import packets

PROFILES = catalogue().all()
WORDS = {"short", "unknown_page", "extra", "implausible", "unfinished"}


def fuzz(profile: Profile, count: int, seed: int) -> None:
    dice = Random(f"{profile.name} {seed}")
    reader = Reader(profile)
    t_us = 0
    for packet in packets(profile, dice, count):
        t_us += dice.choice((0, 50_000, 250_000, 1_000_000, 90_000_000))
        try:
            samples = reader.feed(packet, t_us)
            parse_reply(profile, packet)
        except Exception as error:
            raise AssertionError(f"{profile.name} {packet.hex()} at {t_us}") from error
        assert len(samples) <= 2 * len(packet) + 4
        for sample in samples:
            assert sample.age_us >= 0
            assert sample.values
            assert all(math.isfinite(value) for value in sample.values.values()), (packet.hex(), sample)
    assert len(profile.decoder.plans) <= PLANS_KEPT
    assert set(reader.bad) <= WORDS
    assert len(reader.fields) <= len(profile.fields)


def ids(profiles: Sequence[Profile]) -> list[str]:
    return [profile.name for profile in profiles]


@pytest.mark.parametrize("profile", PROFILES, ids=ids(PROFILES))
def test_changed_packets_raise_nothing(profile: Profile) -> None:
    """A hundredth of the nightly run."""
    fuzz(profile, 20_000 // len(PROFILES), 1)


@pytest.mark.nightly
@pytest.mark.parametrize("profile", PROFILES, ids=ids(PROFILES))
def test_two_million_changed_packets_raise_nothing(profile: Profile) -> None:
    fuzz(profile, 2_000_000 // len(PROFILES) + 1, 2)


@pytest.mark.parametrize("profile", PROFILES, ids=ids(PROFILES))
def test_the_longest_packets_raise_nothing(profile: Profile) -> None:
    dice = Random(3)
    for length in (244, 512, 4096):
        Reader(profile).feed(dice.randbytes(length), 0)


@pytest.mark.parametrize("profile", PROFILES, ids=ids(PROFILES))
def test_a_packet_cut_anywhere_tells_nothing_else_than_the_whole(profile: Profile) -> None:
    decode = profile.decoder.decode
    for packet in (packet for golden in profile.golden for packet in golden.packets):
        whole, _ = decode(packet)
        for length in range(len(packet)):
            for name, value in decode(packet[:length])[0].items():
                if isinstance(value, str):  # a letter that was cut is a question mark
                    assert str(whole[name]).startswith(value.rstrip("?"))
                elif isinstance(value, list | bytes):
                    assert value == whole[name][: len(value)], (packet[:length].hex(), name)
                else:
                    assert value == whole[name], (packet[:length].hex(), name)
