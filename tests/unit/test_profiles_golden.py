"""Every profile that comes with Paceline: its golden frames, and layouts that exist."""

from __future__ import annotations

import pytest

from device_profiles.catalogue import catalogue
from device_profiles.golden import failures
from device_profiles.profile import Profile
from paceline.profile_layouts import misfits

PROFILES = catalogue().all()


@pytest.mark.parametrize("profile", PROFILES, ids=lambda profile: profile.name)
def test_golden_frames_come_to_what_they_say(profile: Profile) -> None:
    assert list(failures(profile)) == []


@pytest.mark.parametrize("profile", PROFILES, ids=lambda profile: profile.name)
def test_samples_fit_their_layout(profile: Profile) -> None:
    assert list(misfits(profile)) == []


def test_profiles_are_found_by_uuid_type_and_name() -> None:
    found = catalogue()
    heart = found.ble("2A37")
    assert heart is not None
    assert heart is found.ble("00002A37-0000-1000-8000-00805F9B34FB") is found.named("heart_rate_measurement")
    assert (heart.mode, heart.layout, heart.period_ms) == ("notify", "beats.1", 1000)
    strap = found.ant(120)
    assert strap is not None
    assert (strap.key, strap.ant_period, strap.ant_type, strap.ant_rf) == ("ant:120", 8070, 120, 57)
    assert found.ble("ffff") is found.ant(1) is found.named("none") is None
