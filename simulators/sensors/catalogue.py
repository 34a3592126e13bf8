"""Every kind of virtual sensor by name, with the options it takes."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import partial
from typing import Any, Final

from broker.errors import BadInputError
from simulators.sensors.cycling import FootPod, PowerMeter, SpeedCadence
from simulators.sensors.gym_machines import MAKES, GymMachine
from simulators.sensors.sensor import Characteristic, Sensor, Service, StaticSensor, uuid128
from simulators.sensors.strap import Strap
from simulators.sensors.trainer import Trainer
from simulators.sensors.treadmill import Treadmill


def _table(name: str, seed: int, *, services: list[dict[str, Any]], advertised: list[str] | None = None) -> Sensor:
    """Attributes given by hand: `[{"uuid": "180D", "characteristics": [{"uuid": "2A37", "flags": ["notify"], "value": "00"}]}]`.

    It says only what the control command `say` lets it say.
    """
    del name, seed
    made: list[Service] = []
    values: dict[str, bytes] = {}
    for service in services:
        characteristics: list[Characteristic] = []
        for one in service["characteristics"]:
            characteristics.append(Characteristic(uuid128(one["uuid"]), tuple(one["flags"]), encrypted=bool(one.get("encrypted"))))
            if "value" in one:
                values[one["uuid"]] = bytes.fromhex(one["value"])
        made.append(Service(uuid128(service["uuid"]), tuple(characteristics)))
    return StaticSensor(made, [service.uuid for service in made] if advertised is None else advertised, values)


KINDS: Final[Mapping[str, Callable[..., Sensor]]] = {
    "strap": Strap,
    **{make: partial(GymMachine, make) for make in MAKES},
    "foot_pod": FootPod,
    "power_meter": PowerMeter,
    "speed_cadence": SpeedCadence,
    "table": _table,
    "trainer": Trainer,
    "treadmill": Treadmill,
}


def make_sensor(kind: str, name: str, seed: int, options: Mapping[str, Any]) -> Sensor:
    """A sensor of that kind. BadInputError names an unknown kind or option."""
    if kind not in KINDS:
        raise BadInputError(f"sensor kind {kind!r} is not known", cure=f"use one of {', '.join(KINDS)}")
    try:
        return KINDS[kind](name, seed, **options)
    except (TypeError, KeyError, ValueError) as error:
        raise BadInputError(f"sensor {name!r} of kind {kind!r}: {error}", cure="correct the options it is given") from error
