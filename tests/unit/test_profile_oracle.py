"""openant as an oracle: of thousands of random ANT+ pages, both read the same values.

Where openant keeps a sentinel as a number, ours is absent; where its formula knows no sign (CORE, environment) pages are above zero. Its answers come
from its own classes, without a stick: only what a page says is compared, no averages over pages.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping
from random import Random
from typing import Any

import pytest
from openant.devices.common import CommonData
from openant.devices.core_temp import CoreTemperature, CoteTemperatureData
from openant.devices.environment import Environment, EnvironmentData
from openant.devices.fitness_equipment import FitnessEquipment, FitnessEquipmentData
from openant.devices.heart_rate import HeartRate, HeartRateData
from openant.devices.power_meter import PowerData, PowerMeter

from device_profiles.catalogue import catalogue
from device_profiles.reader import Reader

PAGES = 2_000
logging.getLogger("openant").setLevel(logging.ERROR)


def reader(kind: type, key: str, data: object) -> Callable[[bytes], Any]:
    """What openant's class makes of one page; counters begin anew each time."""

    def read(page: bytes) -> Any:
        device: Any = object.__new__(kind)
        device.name, device.device_id = key, 1
        device.data = {"common": CommonData(), "power": PowerData(), "fe": FitnessEquipmentData(), key: type(data)()}
        for counter in ("power_update_event_count", "accumulated_power", "torque_update_event_count", "crank_ticks", "accumulated_torque"):
            setattr(device, f"_{counter}", [0, 0])
        device._crank_period, device._event_count = [0, 0], [0, 0]
        device.on_device_data = lambda *_: None
        device._on_battery = lambda *_: None
        device.on_data(list(page))
        return device.data

    return read


def power(data: Any) -> Mapping[str, float]:
    return {"power_w": data["power"].instantaneous_power, "cadence_rpm": data["power"].cadence}


def core(data: Any) -> Mapping[str, float]:
    return {"core_temp_c": data["core_temp"].core_temp, "skin_temp_c": data["core_temp"].skin_temp}


def air(data: Any) -> Mapping[str, float]:
    found = data["environment"]
    return {"ambient_temp_c": found.temperature, "low_24h_c": found.min_24h_temperature, "high_24h_c": found.max_24h_temperature}


def heart(data: Any) -> Mapping[str, float]:
    return {
        "hr_bpm": data["heart_rate"].heart_rate,
        "beat_count": data["heart_rate"].beat_count,
        "beat_time_s": data["heart_rate"].beat_time,
    }


def machine(data: Any) -> Mapping[str, float]:
    return {"speed_mps": data["fe"].speed}


def slope(data: Any) -> Mapping[str, float]:
    return {"resistance_pct": data["fe"].resistance}


def trainer(data: Any) -> Mapping[str, float]:
    return {"trainer_power_w": data["power"].instantaneous_power, "trainer_cadence_rpm": data["power"].cadence}


CASES = [
    ("ant_power", 16, reader(PowerMeter, "power", PowerData()), power, 0xFF),
    ("ant_core_temperature", 1, reader(CoreTemperature, "core_temp", CoteTemperatureData()), core, 0x7F),
    ("ant_environment", 1, reader(Environment, "environment", EnvironmentData()), air, 0x7F),
    ("heart_rate", 4, reader(HeartRate, "heart_rate", HeartRateData()), heart, 0xFF),
    ("fitness_equipment", 16, reader(FitnessEquipment, "fe", FitnessEquipmentData()), machine, 0xFF),
    ("fitness_equipment", 17, reader(FitnessEquipment, "fe", FitnessEquipmentData()), slope, 0xFF),
    ("fitness_equipment", 25, reader(FitnessEquipment, "fe", FitnessEquipmentData()), trainer, 0xFF),
]
SENTINELS = {"power_w": 65535, "cadence_rpm": 255, "hr_bpm": 0, "speed_mps": 65.535, "resistance_pct": 127.5}
SENTINELS |= {"trainer_power_w": 4095, "trainer_cadence_rpm": 255}


@pytest.mark.parametrize(
    ("name", "page", "theirs", "pick", "mask"), CASES, ids=lambda value: str(value) if isinstance(value, str | int) else ""
)
def test_random_pages_read_the_same(name: str, page: int, theirs: Callable[[bytes], Any], pick: Callable[[Any], Any], mask: int) -> None:
    profile = catalogue().named(name)
    assert profile is not None
    random = Random(page)
    for _ in range(PAGES):
        packet = bytes([page]) + bytes(random.randrange(256) & mask for _ in range(7))
        ours = Reader(profile)
        ours.feed(packet, 0)
        for field, value in pick(theirs(packet)).items():
            if SENTINELS.get(field) == value:
                assert field not in ours.fields
            else:
                assert ours.fields[field] == pytest.approx(value), (packet.hex(), field)
