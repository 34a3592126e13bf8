"""The sensors of a virtual room (pure), from a plan like `hr:30,trainer:2`."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Final

from broker.errors import BadInputError
from simulators.ant_machines import Trainer, Treadmill
from simulators.ant_sensors import (
    Cadence,
    CoreTemperature,
    Environment,
    HeartRate,
    MuscleOxygen,
    Power,
    Sensor,
    Speed,
    SpeedCadence,
    Stride,
    Weight,
)

KINDS: Final[Mapping[str, Callable[[int], Sensor]]] = {
    "hr": HeartRate,
    "speed": Speed,
    "cadence": Cadence,
    "speed_cadence": SpeedCadence,
    "power": Power,
    "stride": Stride,
    "oxygen": MuscleOxygen,
    "air": Environment,
    "core": CoreTemperature,
    "weight": Weight,
    "trainer": Trainer,
    "treadmill": Treadmill,
}
_NUMBERS: Final = 65_535  # of 16 bits; 0 is the wildcard


def room(plan: str) -> list[Sensor]:
    """The sensors; their numbers follow from their places in the plan. BadInputError names what is not known."""
    sensors: list[Sensor] = []
    for part in plan.split(","):
        name, _, count = part.strip().partition(":")
        if name not in KINDS or not (count or "1").isdigit():
            raise BadInputError(f"{part!r} is no sensor", cure=f"use NAME or NAME:COUNT, with one of {', '.join(KINDS)}")
        sensors += [KINDS[name](1 + (len(sensors) + i) * 7919 % _NUMBERS) for i in range(int(count or 1))]
    return sensors
