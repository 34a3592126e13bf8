"""What profiles store: fields that their layout has, in its units, values that it holds. For every profile and every golden frame."""

from __future__ import annotations

import pytest

from broker.layouts import layout_named
from device_profiles.catalogue import catalogue
from device_profiles.golden import play
from device_profiles.profile import Profile

PROFILES = catalogue().all()
STORING = [profile for profile in PROFILES if profile.samples]
COUNTS = {"", "1", "enum"}
# From the unit of a profile's field to that of the layout's: (factor, offset).
UNITS = {
    ("s", "ms"): (1000, 0),
    ("km/h", "m/s"): (1 / 3.6, 0),
    ("g/dL", "g/L"): (10, 0),
    ("lb", "kg"): (0.45359237, 0),
    ("in", "m"): (0.0254, 0),
    ("cm", "m"): (0.01, 0),
    ("degF", "degC"): (5 / 9, -160 / 9),
    ("mmHg", "kPa"): (0.133322, 0),
    ("kg/L", "mmol/L"): (1e6 / 180.156, 0),
    ("mol/L", "mmol/L"): (1000, 0),
    ("kcal", "kJ"): (4.184, 0),
    ("%", "1"): (1, 0),  # resistance of a machine that counts in percent
}


def wanted(unit: str, to: str) -> tuple[float, float]:
    if unit == to or {unit, to} <= COUNTS:
        return 1, 0
    return UNITS[unit, to]


@pytest.mark.parametrize("profile", STORING, ids=lambda profile: profile.name)
def test_every_mapped_field_exists_and_comes_in_the_unit_of_its_layout(profile: Profile) -> None:
    for rule in profile.samples:
        layout = layout_named(rule.layout)
        for to, sources in rule.sources:
            for source in sources:
                factor, offset = wanted(profile.fields[source.field].unit, layout.field(to).unit)
                assert (source.mul / source.div, source.add) == (pytest.approx(factor, rel=1e-6), pytest.approx(offset)), (to, source.field)
        for name, value in rule.constants.items():
            assert layout.field(name).to_si(layout.field(name).to_raw(value)) == value
        if rule.each:
            factor, _ = wanted(profile.fields[rule.each.field].unit, layout.field(rule.each.to).unit)
            assert rule.each.mul / rule.each.div == pytest.approx(factor)


@pytest.mark.parametrize("profile", STORING, ids=lambda profile: profile.name)
def test_samples_of_golden_frames_are_stored_without_loss(profile: Profile) -> None:
    """Up to half a step of the layout, which is its promise."""
    for golden in profile.golden:
        for sample in play(profile, golden)[1]:
            layout = layout_named(sample.layout)
            (stored,) = layout.unpack(layout.pack({"tick_ms": 0, **sample.values}))
            for name, value in sample.values.items():
                found = stored[name]
                assert found is not None, (golden.packets[-1].hex(), name, value)
                assert abs(found - value) <= layout.field(name).scale / 2 * (1 + 1e-9), (golden.packets[-1].hex(), name, value, found)


@pytest.mark.parametrize("profile", [one for one in STORING if one.name != "tacx_fec"], ids=lambda profile: profile.name)
def test_some_golden_frame_shows_every_field_that_is_stored(profile: Profile) -> None:
    shown = {(sample.layout, name) for golden in profile.golden for sample in play(profile, golden)[1] for name in sample.values}
    given = {(rule.layout, to) for rule in profile.samples for to, _ in rule.sources} | {
        (rule.layout, rule.each.to) for rule in profile.samples if rule.each
    }
    assert given <= shown


ROOM = (
    "2A37 2A38 2A39 2A5B 2A5C 2A63 2A64 2A65 2A66 2A53 2A54 2ACD 2ACE 2ACF 2AD0 2AD1 2AD2 2ACC 2AD3 2AD4 2AD5 2AD6 2AD7 2AD8 2AD9 2ADA "
    "2A67 2A19 2A24 2A25 2A26 2A27 2A28 2A29 2A9C 2A9D 2A5E 2A5F 2A1C 2A35 2A18 "
    "6E40FEC2-B5A3-F393-E0A9-E50E24DCCA9E 6E40FEC3-B5A3-F393-E0A9-E50E24DCCA9E A026E005-0A7D-4AB3-97FA-F1500F9FEB8B "
    "6404D804-4CB9-11E8-B566-0800200C9A66 00002101-5B1E-4347-B07C-97B514DAE121 6A4E3203-667B-11E3-949A-0800200C9A66"
)


def test_every_sensor_of_the_room_has_a_profile() -> None:
    """What a box has to hear: characteristics by UUID, ANT+ devices by type."""
    found = catalogue()
    assert [uuid for uuid in ROOM.split() if found.ble(uuid) is None] == []
    assert [kind for kind in (120, 123, 122, 121, 11, 17, 124, 31, 127, 25, 119) if found.ant(kind) is None] == []
