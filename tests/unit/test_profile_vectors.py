"""Vectors of other programs and of the standards against our profiles: the same bytes come to the same values.

`../shared/data/sensor_vectors.json` has bytes and what their source says of them; where it is not there, the same bytes stand as golden frames in
the profiles (a test holds that whenever it is there). Names and units are mapped here, never a byte changed. Not compared: words for a
state that we keep as a number, and the unit a source writes beside its value.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pytest

from device_profiles.catalogue import catalogue
from device_profiles.profile import Profile
from device_profiles.reader import Reader
from gateway.ant_framing import Framer, encode
from gateway.ant_messages import Data, understand

DATA = Path(__file__).resolve().parents[3] / "shared" / "data" / "sensor_vectors.json"
VECTORS: list[dict[str, Any]] = json.loads(DATA.read_text("utf-8")) if DATA.exists() else []
OUR_NAME = {"ant:fec": "fitness_equipment", "ant:hr": "heart_rate", "wahoo_cp": "wahoo_trainer_control"}
UNITS = frozenset({"measurement_units", "weight_unit", "height_unit", "muscle_mass_unit"})  # a unit's name beside a value

# Where a source's name is not ours: by profile, its name -> our name, or our name and what makes our value theirs.
Same = str | tuple[str, Callable[[Any], Any]]
NAMES: Mapping[str, Mapping[str, Same]] = {
    "heart_rate_measurement": {
        "heart_rate": "hr_bpm",
        "rr_intervals": "rr_s",
        "energy_expended": "energy_kj",
        "sensor_contact": "contact",
        "sensor_contact_supported": ("contact", lambda contact: contact >= 2),
        "sensor_contact_detected": ("contact", lambda contact: contact == 3),
    },
    "cycling_power_measurement": {
        "instantaneous_power": "power_w",
        "pedal_power_balance": "balance_pct",
        "accumulated_energy": "energy_kj",
        "cumulative_wheel_revolutions": "wheel_revs",
        "cumulative_crank_revolutions": "crank_revs",
        "last_wheel_event_time": "wheel_time_s",
        "last_crank_event_time": "crank_time_s",
        "last_wheel_event_time_raw": ("wheel_time_s", lambda time_s: time_s * 2048),
        "last_crank_event_time_raw": ("crank_time_s", lambda time_s: time_s * 1024),
    },
    "csc_measurement": {
        "cumulative_wheel_revolutions": "wheel_revs",
        "cumulative_crank_revolutions": "crank_revs",
        "last_wheel_event_time_raw": ("wheel_time_s", lambda time_s: time_s * 1024),
        "last_crank_event_time_raw": ("crank_time_s", lambda time_s: time_s * 1024),
    },
    "cycling_power_vector": {
        "instantaneous_measurement_direction": "direction",
        "first_crank_measurement_angle": "first_angle_deg",
        "instantaneous_force_magnitude_array": "forces_n",
        "crank_revolutions": "crank_revs",
        "last_crank_event_time": "crank_time_s",
    },
    "rsc_measurement": {
        "instantaneous_speed": "speed_mps",
        "instantaneous_cadence": "cadence_rpm",
        "instantaneous_stride_length": "stride_length_m",
        "total_distance": "distance_m",
        "is_running": "running",
    },
    "treadmill_data": {"instantaneous_speed": "speed_kmh", "average_speed": "speed_average_kmh", "heart_rate": "hr_bpm"},
    "indoor_bike_data": {
        "instantaneous_speed": "speed_kmh",
        "instantaneous_cadence": "cadence_rpm",
        "instantaneous_power": "power_w",
        "total_distance": "distance_m",
        "elapsed_time": "elapsed_s",
        "heart_rate": "hr_bpm",
    },
    "rower_data": {"stroke_rate": "strokes_per_min", "stroke_count": "strokes", "heart_rate": "hr_bpm"},
    "cross_trainer_data": {"instantaneous_speed": "speed_kmh", "heart_rate": "hr_bpm", "movement_direction_backward": "backward"},
    "step_climber_data": {"step_count": "steps", "heart_rate": "hr_bpm"},
    "stair_climber_data": {"steps_per_minute": "steps_per_min"},
    "fitness_machine_control_point": {
        "target_speed": "target_speed_kmh",
        "wind_speed": "wind_speed_mps",
        "grade": "grade_pct",
        "crr": "rolling_resistance",
        "cw": "wind_resistance_kgpm",
        "request_op_code": "request",
        "result_code": "result",
        "parameter": ("stop", lambda stop: f"{stop:02x}"),
    },
    "fitness_machine_status": {"op_code": "event", "target_speed": "speed_kmh"},
    "fitness_machine_feature": {"fitness_machine_features": "features", "target_setting_features": "targets"},
    "training_status": {"training_status": "status"},
    "body_composition_measurement": {
        "body_fat_percentage": "body_fat_pct",
        "timestamp": "time",
        "muscle_percentage": "muscle_pct",
        "muscle_mass": "muscle_mass_kg",
        "impedance": "impedance_ohm",
        "weight": "weight_kg",
        "height": "height_m",
    },
    "weight_measurement": {"timestamp": "time", "user_id": "user"},
    "location_and_speed": {
        "instantaneous_speed": "speed_mps",
        "total_distance": "distance_m",
        "speed_and_distance_format": "three_dimensional",
        "heading_source": "compass_heading",
    },
    "battery_level": {"": "battery_pct"},
    "body_sensor_location": {"": "location"},
    "csc_feature": {
        "wheel_revolution_data_supported": "wheel_revolutions",
        "crank_revolution_data_supported": "crank_revolutions",
        "multiple_sensor_locations_supported": "sensor_locations",
    },
    "rsc_feature": {
        "instantaneous_stride_length_supported": "stride_length",
        "total_distance_supported": "total_distance",
        "walking_or_running_status_supported": "running_status",
        "calibration_procedure_supported": "calibration",
        "multiple_sensor_locations_supported": "sensor_locations",
    },
    "cycling_power_control_point": {
        "op_code": "op",
        "cumulative_value": "cumulative",
        "crank_length": "crank_length_mm",
        "response_value": "result",
        "request_op_code": "request_op",
    },
    "core_body_temperature": {"core_temp": "core_temp_c", "skin_temp": "skin_temp_c", "heart_rate": "hr_bpm"},
    "wahoo_cp": {"op_code": "op", "power": "power_w", "grade": "grade_pct"},
    "ant:fec": {
        "wind_resistance": "wind_resistance_kgpm",
        "wind_speed": "wind_speed_kmh",
        "grade": "target_grade_pct",
        "crr": "rolling_resistance",
        "user_weight": "user_weight_kg",
        "diameter_offset": "diameter_offset_mm",
        "bike_weight": "bike_weight_kg",
        "wheel_diameter": "wheel_diameter_m",
        "elapsed_time": "elapsed_s",
        "distance": "distance_m",
        "speed": "speed_mps",
        "fe_state": "state",
    },
    "ant:hr": {
        "beat_time": "beat_time_s",
        "heart_rate": "hr_bpm",
        "operating_time": "operating_time_s",
    },
    "temperature_measurement": {"temperature_type": "site"},
    "blood_pressure_measurement": {"pulse_rate": "pulse_bpm"},
    "glucose_measurement": {"sequence_number": "sequence", "glucose_concentration": "glucose_kgpl"},
}


def profile_of(vector: Mapping[str, Any]) -> Profile:
    name = OUR_NAME.get(vector["profile"], vector["profile"])
    found = catalogue().named(name)
    assert found is not None, name
    return found


def simple(vectors: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Those of one packet of a profile."""
    return [vector for vector in vectors if "hex" in vector and vector["profile"] != "ant:serial_frame"]


def flat(expected: Any) -> dict[str, Any]:
    """What the source says, one level deep."""
    if not isinstance(expected, dict):
        return {"": expected}
    out: dict[str, Any] = {}
    for name, value in expected.items():
        out.update(value if isinstance(value, dict) else {name: value})
    return out


def ours(kind: str, name: str, fields: Mapping[str, Any], profile: Profile, packet: bytes) -> Any:
    """Our value of what the source calls `name`."""
    if name == "flags" or (name == "op_code" and "op" not in fields and "event" not in fields):
        return profile.decoder.page(packet)
    if name == "page":
        return packet[0] & (0x7F if kind == "ant:hr" else 0xFF)
    if name == "page_toggle":
        return packet[0] >> 7
    if name == "threats":
        columns = (fields[column] for column in ("threat", "distance_m", "speed_kmh"))
        return [dict(zip(("threat_id", "distance_m", "speed_kmh"), row, strict=True)) for row in zip(*columns, strict=True)]
    if kind == "weight_measurement" and name in {"weight", "height"}:  # the source keeps pounds and inches
        metric, imperial = {"weight": ("weight_kg", "weight_lb"), "height": ("height_m", "height_in")}[name]
        return fields.get(metric, fields.get(imperial))
    if kind == "temperature_measurement" and name == "temperature":  # in the unit of the packet
        return fields.get("temperature_c", fields.get("temperature_f"))
    if kind == "blood_pressure_measurement" and name != "pulse_rate":  # in the unit of the packet
        part = {"mean_arterial_pressure": "mean_arterial"}.get(name, name)
        return fields.get(f"{part}_mmhg", fields.get(f"{part}_kpa"))
    same = NAMES.get(kind, {}).get(name, name)
    if isinstance(same, tuple):
        return same[1](fields[same[0]])
    return fields.get(same, [] if name == "rr_intervals" else None)


def close(found: Any, wanted: Any, name: str) -> bool:
    if isinstance(wanted, list) and isinstance(found, list):
        return len(found) == len(wanted) and all(close(a, b, name) for a, b in zip(found, wanted, strict=True))
    if isinstance(wanted, int | float) and isinstance(found, int | float):
        # a grade of a Wahoo trainer was rounded down by its sender: 100/32768 of a percent
        return abs(found - wanted) <= (100 / 32768 if name == "grade" else 1e-9 * max(1.0, abs(wanted)))
    return found == wanted


def differences(vector: Mapping[str, Any]) -> list[str]:
    """What our profile says otherwise than the source."""
    profile, packet, kind = profile_of(vector), bytes.fromhex(vector["hex"]), vector["profile"]
    fields, _ = profile.decoder.decode(packet)
    found: list[str] = []
    for name, wanted in flat(vector["expected"]).items():
        if name in UNITS or withheld(kind, name, fields):
            continue
        value = ours(kind, name, fields, profile, packet)
        if not close(value, wanted, name):
            found.append(f"{name}: {value!r} instead of {wanted!r}")
    return found


def withheld(kind: str, name: str, fields: Mapping[str, Any]) -> bool:
    """Heart rate 0 of a strap without skin contact: the source reads a number, we say that there is none."""
    return kind == "heart_rate_measurement" and name == "heart_rate" and fields["contact"] == 2 and "hr_bpm" not in fields


def test_every_vector_decodes_to_what_its_source_says() -> None:
    wrong = {f"{vector['profile']} {vector['hex']}": said for vector in simple(VECTORS) if (said := differences(vector))}
    assert wrong == {}


def test_no_vector_is_left_out() -> None:
    """102 vectors: packets of profiles, 3 sequences, 2 pieces of a serial line; one kind more would fail here."""
    kinds = {vector["profile"] for vector in VECTORS} - {"derived:crank_cadence", "ant:serial_frame"}
    assert {OUR_NAME.get(kind, kind) for kind in kinds} <= {profile.name for profile in catalogue().all()}
    others = [vector for vector in VECTORS if vector not in simple(VECTORS)]
    assert all(vector["profile"] in {"derived:crank_cadence", "ant:serial_frame"} for vector in others)
    assert len(VECTORS) in {0, 102}


def test_every_vector_stands_as_a_golden_frame() -> None:
    """So that nothing is lost where the vectors are not there."""
    golden = {(profile.name, packet) for profile in catalogue().all() for one in profile.golden for packet in one.packets}
    for vector in simple(VECTORS):
        assert (profile_of(vector).name, bytes.fromhex(vector["hex"])) in golden, vector


CADENCES = [  # the sequences of the vectors: crank packets and the cadence after each; event time rolls over at 64 s
    (["0201000004", "023f0000fc", "0240000000", "0241000004"], [0, 60, 60, 60]),
    (["0201000004", "02290000a4", "02290000a4", "02290000a4", "02290000a4", "02290000a4"], [0, 60, 60, 60, 60, 0]),
    (["0201000004", "022a0000a8", "022b0000ac", "022b0000ae"], [0, 60, 60, 0]),
]


@pytest.mark.parametrize(("packets", "cadences"), CADENCES)
def test_cadence_of_crank_events_holds_and_then_stands(packets: list[str], cadences: list[int]) -> None:
    """The source counts packets (three unchanged ones hold); we count time (3 s): packets come 0.8 s apart here. No value yet is its 0."""
    profile = catalogue().named("csc_measurement")
    assert profile is not None
    reader = Reader(profile)
    found: list[Any] = []
    for number, packet in enumerate(packets):
        reader.feed(bytes.fromhex(packet), number * 800_000)
        found.append(reader.fields.get("cadence_rpm", 0))
    assert found == pytest.approx(cadences)


def test_sequences_are_those_of_the_vectors() -> None:
    found = [vector["sequence"] for vector in VECTORS if vector["profile"] == "derived:crank_cadence"]
    assert found in ([], [[list(pair) for pair in zip(packets, cadences, strict=True)] for packets, cadences in CADENCES])


SERIAL_FRAME = "a4144e0010193ddb00005c35e02e0a110510006800871f"  # captured without its checksum


def test_a_captured_serial_frame_comes_to_its_page_and_its_device() -> None:
    body = bytes.fromhex(SERIAL_FRAME)
    framer = Framer()
    (message,) = framer.feed(body + bytes([0x48]))  # 0x48: the checksum that belongs to it
    heard = understand(message)
    assert isinstance(heard, Data)
    assert (heard.channel, heard.payload.hex()) == (0, "10193ddb00005c35")
    assert heard.id is not None
    assert (heard.id.number, heard.id.type, heard.id.transmission) == (2606, 17, 5)
    assert encode(message) == body + bytes([0x48])


def test_a_byte_that_is_no_frame_costs_nothing_after_it() -> None:
    framer = Framer()
    assert framer.feed(bytes.fromhex("de")) == []
    assert len(framer.feed(bytes.fromhex(SERIAL_FRAME) + bytes([0x48]))) == 1


def test_serial_frames_are_those_of_the_vectors() -> None:
    assert [vector["hex"] for vector in VECTORS if vector["profile"] == "ant:serial_frame"] in ([], [SERIAL_FRAME, "de"])
