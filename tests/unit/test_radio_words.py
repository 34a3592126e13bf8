"""What an operator is told of radios: how many are needed, and the table of what is near."""

from __future__ import annotations

import json

import pytest

from device_profiles.catalogue import catalogue
from gateway.ble_judging import Advert, Judge
from gateway.ble_survey import Found
from paceline.doctor_radio import enough
from paceline.radio_need import need_of
from paceline.radio_view import age_s, merged, rows_of_survey, table_of

HEART_RATE = "0000180d-0000-1000-8000-00805f9b34fb"


@pytest.mark.parametrize(("sensors", "slots", "adapters", "sticks"), [(0, 7, 0, 0), (1, 7, 1, 1), (7, 7, 1, 1), (8, 7, 2, 1), (30, 7, 5, 1), (30, 5, 6, 1)])  # fmt: skip
def test_adapters_follow_from_links_and_one_stick_hears_the_room(sensors, slots, adapters, sticks):
    need = need_of(sensors, slots)
    assert (need.adapters, need.sticks) == (adapters, sticks)
    assert need.adapters * slots >= sensors


def test_collisions_grow_with_the_room():
    shares = [need_of(count, 7).collided for count in (0, 10, 40, 100)]
    assert shares == sorted(shares)
    assert 0.03 < need_of(30, 7).collided < 0.05
    assert (
        need_of(30, 7).words
        == "30 sensors need 5 Bluetooth adapters of 7 links each, or 1 ANT+ stick (4 % of the packets collide on the air)"
    )


def test_room_without_sense_is_refused():
    with pytest.raises(ValueError, match="at least 1 link"):
        need_of(3, 0)


def found(number: int, rssi: int, *, name: str = "", uuids: tuple[str, ...] = (HEART_RATE,)) -> Found:
    advert = Advert(f"C0:00:00:00:00:0{number}", "random", "hci0", rssi, name, uuids)
    return Found(advert, {"hci0": rssi})


def test_survey_says_what_is_near_what_it_tells_who_wears_it_and_why_it_is_refused():
    judge = Judge(catalogue().all(), deny=["Strap 2"])
    heard = [found(1, -70, name="Strap 1"), found(2, -50, name="Strap 2"), found(3, -40, uuids=())]
    rows = merged(rows_of_survey(heard, judge, {"ble-c00000000001": "ann"}, everything=False), [])
    assert [(row["device"], row["state"], row["athlete"], row["profiles"]) for row in rows] == [
        ("ble-c00000000001", "near", "ann", ["heart_rate_measurement"]),
        ("ble-c00000000002", "refused", None, ["heart_rate_measurement"]),
    ]
    assert "gateway.ble.deny" in rows[1]["reason"]
    assert len(rows_of_survey(heard, judge, {}, everything=True)) == 3
    lines = table_of(rows)
    assert lines[0].split("  ")[0] == "device"
    assert "heart_rate_measurement" in lines[1]
    assert "ann" in lines[1]


def test_what_the_gateway_knows_stands_and_live_ones_come_first():
    known = [
        {"device": "ble-c00000000001", "kind": "ble", "name": "Strap 1", "profiles": ["x"], "rssi_dbm": None, "battery_pct": 80, "state": "live", "reason": "", "athlete": "ann"},
    ]  # fmt: skip
    rows = merged(rows_of_survey([found(1, -70), found(2, -50)], Judge(catalogue().all()), {}, everything=False), known)
    assert [(row["device"], row["state"], row["rssi_dbm"]) for row in rows] == [
        ("ble-c00000000001", "live", -70),
        ("ble-c00000000002", "near", -50),
    ]
    assert "80 %" in table_of(rows)[1]


def test_doctor_counts_what_the_gateway_knows_unless_it_is_told(tmp_path):
    assert enough(tmp_path, 7, None, None) == []
    assert enough(tmp_path, 7, None, 30)[0].ok
    devices = [{"kind": "ble", "state": state} for state in ["live"] * 7 + ["waiting", "refused"]]
    (tmp_path / "devices.json").write_text(json.dumps({"written_us": 1, "devices": devices}))
    (finding,) = enough(tmp_path, 7, 1, None)
    assert (finding.ok, finding.found.startswith("8 sensors need 2 Bluetooth adapters")) == (False, True)
    assert enough(tmp_path, 7, 2, None)[0].ok
    (tmp_path / "devices.json").write_text("{")
    assert enough(tmp_path, 7, 1, None)[0].ok


def test_age_of_the_list():
    assert age_s({"written_us": 5_000_000}, 8_500_000) == 3.5
