"""What is known of devices that differ, and that the language holds what may turn up next."""

from __future__ import annotations

from random import Random

import pytest

from device_profiles.catalogue import FOLDER, build, catalogue
from device_profiles.commands import encode
from device_profiles.marks import read_marked
from device_profiles.profile import Profile
from device_profiles.reader import Reader
from device_profiles.samples import Identity


def known(name: str) -> Profile:
    found = catalogue().named(name)
    assert found is not None
    return found


CONTROL = known("fitness_machine_control_point")
PAD = CONTROL.of(Identity(name="TM11GY-0042"))


def test_a_pad_that_counts_miles_gets_miles() -> None:
    """Issue 5100 of qdomyos-zwift: `02 64 00` makes this belt run at 1.61 km/h."""
    assert encode(PAD, "set_target_speed", {"speed_kmh": 1.609344}).hex() == "026400"
    assert encode(PAD, "set_target_speed", {"speed_kmh": 6}).hex() == "027501"  # 373 hundredths of a mile per hour
    assert encode(CONTROL, "set_target_speed", {"speed_kmh": 1}).hex() == "026400"


def test_a_target_heard_from_such_a_pad_is_in_kilometres() -> None:
    fields, _ = PAD.decoder.decode(bytes.fromhex("026400"))
    assert fields["target_speed_kmh"] == pytest.approx(1.609344)


def test_a_start_that_pauses_is_marked() -> None:
    assert PAD.commands["start"].toggles
    assert not CONTROL.commands["start"].toggles
    assert not any(command.toggles for command in CONTROL.commands.values())


def test_resistance_has_two_bytes_except_where_one_is_wanted() -> None:
    trainer = CONTROL.of(Identity(name="Sportneer D600"))
    assert encode(CONTROL, "set_target_resistance", {"resistance": 10}).hex() == "046400"
    assert encode(trainer, "set_target_resistance", {"resistance": 10}).hex() == "0464"
    assert encode(trainer, "set_target_resistance", {"resistance": 25.5}).hex() == "04ff"


def test_an_elliptical_whose_speed_is_always_zero_has_none() -> None:
    packet = bytes.fromhex("000800000096")
    plain, life_fitness = Reader(known("cross_trainer_data")), Reader(known("cross_trainer_data"), Identity(name="LF089d726f5a8fb207"))
    assert plain.feed(packet, 0)[0].values == {"kind": 2, "speed_mps": 0, "hr_bpm": 150}
    assert life_fitness.feed(packet, 0)[0].values == {"kind": 2, "hr_bpm": 150}
    assert known("cross_trainer_data").of(Identity(name="LF")) is known("cross_trainer_data")


@pytest.mark.parametrize("profile", [one for one in catalogue().all() if one.variants or one.hook or one.derives], ids=lambda one: one.name)
def test_random_packets_raise_nothing_in_quirks_hooks_and_rates(profile: Profile) -> None:
    random = Random(profile.name)
    for variant in (profile, *(one for _, _, one in profile.variants)):
        reader = Reader(variant)
        table = variant.table
        for number in range(1_000):
            packet = bytearray(random.randbytes(random.randrange(21)))
            if table.pages and len(packet) > table.page_at:
                packet[table.page_at] = random.choice(list(table.pages))
            reader.feed(bytes(packet), number * random.randrange(1_000_000))


def quirky(quirk: str) -> Profile:
    """The treadmill or bike with a quirk that no known device needs yet."""
    files = [read_marked(path.name, path.read_text("utf-8")) for path in sorted(FOLDER.glob("*.yaml"))]
    changed = build(files, read_marked("quirks.yaml", "quirks:\n" + quirk))
    return next(profile for profile in changed.all() if profile.variants)


def test_a_pace_in_seconds_for_500_m_can_be_said() -> None:
    odd = quirky(
        '  - {profile: treadmill_data, match: {model: "T-?"}, about: pace, patch: '
        "{fields.pace_km_per_min.type: u16, fields.pace_km_per_min.div: 1, fields.pace_km_per_min.unit: s/500 m}}\n"
    )
    packet = bytes.fromhex("2000e803b40096")  # flags, 10 km/h, then a pace of two bytes, and one more byte
    assert odd.of(Identity(model="T-9")).decoder.decode(packet)[0]["pace_km_per_min"] == 180
    assert odd.of(Identity(model="X")).decoder.decode(packet)[0]["pace_km_per_min"] == 18


def test_a_resistance_of_one_byte_in_bike_data_can_be_said() -> None:
    odd = quirky('  - {profile: indoor_bike_data, match: {manufacturer: "Odd*"}, about: u8, patch: {fields.resistance.type: u8}}\n')
    packet = bytes.fromhex("6400000000001496 00".replace(" ", ""))  # speed, cadence, resistance 20 in one byte, power 150
    fields, trouble = odd.of(Identity(manufacturer="Oddly")).decoder.decode(packet)
    assert (fields["resistance"], fields["power_w"], trouble) == (20, 150, 0)
