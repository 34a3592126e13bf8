"""Packed tables decode what tuples decode, and are as small as they say."""

from __future__ import annotations

import random

import pytest

from device_profiles.catalogue import catalogue
from device_profiles.engine import Pack
from device_profiles.errors import ProfileError
from device_profiles.packs import micropython_source, pack
from device_profiles.profile import Profile
from tests.profile_packets import packets

PROFILES = catalogue().all()
TEN = PROFILES[:10]


@pytest.mark.parametrize("profile", PROFILES, ids=lambda profile: profile.name)
def test_rows_come_out_of_a_pack_as_they_went_in(profile: Profile) -> None:
    found = Pack(pack([profile]))
    assert found.names_of_profiles() == [profile.name]
    decoder = found.decoder(profile.name)
    for page in (-1, *profile.table.pages):
        assert tuple(decoder.rows(page) or ()) == tuple(profile.table.rows(page) or ())
    assert decoder.rows(999) is None


@pytest.mark.parametrize("profile", PROFILES, ids=lambda profile: profile.name)
def test_packed_and_plain_tables_decode_the_same(profile: Profile) -> None:
    decoder = Pack(pack([profile])).decoder(profile.name)
    for packet in packets(profile, random.Random(1), 300):
        assert decoder.decode(packet) == profile.decoder.decode(packet), packet.hex()


def test_a_field_takes_about_eight_bytes_beside_its_name() -> None:
    found = pack(TEN)
    rows = [row for profile in TEN for block in (profile.table.always, *profile.table.pages.values()) for row in block]
    names = {row[0] for row in rows}
    assert len(found) - sum(len(name) + 1 for name in names) < 13 * len(rows)


def test_a_pack_that_is_too_large_or_old_is_refused() -> None:
    with pytest.raises(ProfileError, match="fewer profiles"):
        pack(list(PROFILES) * 40)
    with pytest.raises(ValueError, match="make it again"):
        Pack(b"\x07" + pack(TEN)[1:])
    with pytest.raises(KeyError):
        Pack(pack(TEN)).decoder("none")


def test_a_pack_becomes_a_module() -> None:
    space: dict[str, bytes] = {}
    exec(micropython_source(TEN), space)
    assert Pack(space["PACK"]).names_of_profiles() == [profile.name for profile in TEN]
