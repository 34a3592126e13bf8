"""A virtual bike trainer (indoor bike data 0x2AD2) with a rider: free, at a target power (ERG), at a resistance, or on a simulated grade.

Units on the wire: speed 0.01 km/h, cadence 0.5/min, distance m (24 bit), power W, energy kcal, heart rate 1/min, time s. The lowest three
bits of the power are the number of the record modulo 8 while the rider pedals, so that one lost or doubled shows.
"""

from __future__ import annotations

import struct
from collections.abc import Sequence
from typing import Final, Unpack

from simulators.athlete import Sport, at_start, draw_athlete, step
from simulators.noise import gauss, key_of
from simulators.physics import approach, ride
from simulators.sensors.fitness_machine import (
    POWER_RANGE,
    RESISTANCE_RANGE,
    SET_POWER,
    SET_RESISTANCE,
    SIMULATE,
    FitnessMachine,
    MachineOptions,
    Order,
    split_record,
)
from simulators.sensors.identity import Maker
from simulators.sensors.sensor import uuid128
from simulators.sensors.ticking import Said

INDOOR_BIKE_DATA: Final = uuid128("2AD2")
KIND: Final = 6
_POWER: Final = (0, 1000)
_RESISTANCE: Final = (0, 1000)  # 0 to 100 in 0.1
_GRADE: Final = (-4000, 4000)  # -40 to 40 % in 0.01 %
_ERG_TAU_S: Final = 1.5
_FEATURES: Final = 1 << 1 | 1 << 2 | 1 << 9 | 1 << 10 | 1 << 12 | 1 << 14  # cadence, distance, energy, heart rate, elapsed time, power
_TARGETS: Final = 1 << 2 | 1 << 3 | 1 << 13  # resistance, power, simulation
_W_PER_PERCENT: Final = 18.0


class Trainer(FitnessMachine):
    """See the module. `running`: the rider pedals from the start; a pause stops the rider."""

    def __init__(self, name: str, seed: int, *, running: bool = True, heart: bool = True, **options: Unpack[MachineOptions]) -> None:
        ranges = {POWER_RANGE: struct.pack("<hhH", *_POWER, 1), RESISTANCE_RANGE: struct.pack("<hhH", *_RESISTANCE, 10)}
        maker = Maker(model="Trainer", serial=name)
        super().__init__(INDOOR_BIKE_DATA, (_FEATURES, _TARGETS), ranges, maker, options)
        self._rider = draw_athlete(name, Sport.BIKE, seed, noisy_gps=False)
        self._body = at_start(self._rider)
        self._noise = key_of(seed, "trainer", name)
        self._heart = heart
        self._power_w = 0.0
        self._speed_mps = 0.0
        self._distance_m = 0.0
        self._work_j = 0.0
        self._records = 0
        self._target_w: float | None = None
        self._resistance = 0.0
        self._grade_pct = 0.0
        self.running = running
        self.orders = {
            SET_POWER: Order(("<h",), *_POWER, 0x08, self._set_power),
            SET_RESISTANCE: Order(("<h", "<B"), *_RESISTANCE, 0x07, self._set_resistance),
            SIMULATE: Order(("<2xh2x",), *_GRADE, 0x12, self._simulate),
        }

    def reset(self) -> None:
        self._target_w, self._resistance, self._grade_pct = None, 0.0, 0.0

    def tick(self, at_s: float) -> Sequence[Said]:
        del at_s
        self._pedal(self.period_s)
        number, self._records = self._records, self._records + 1
        power = round(self._power_w)
        if power >= 8:
            power = power & ~7 | number % 8
        cadence = round(2 * self._cadence_rpm(number))
        speed, distance = round(self._speed_mps * 360), int(self._distance_m)
        energy, heart = int(self._work_j / 4184 / 0.24), round(self._body.hr_bpm)  # a quarter of what the body burns is work
        fields = [
            (2, struct.pack("<H", cadence)),
            (4, distance.to_bytes(3, "little")),
            (6, struct.pack("<h", power)),
            (8, struct.pack("<HHB", energy, 0xFFFF, 0xFF)),
            *([(9, bytes([heart]))] if self._heart else []),
            (11, struct.pack("<H", int(self.elapsed_s))),
        ]
        packets = split_record(2, struct.pack("<H", speed), fields, room_bytes=self.room_bytes)
        values: dict[str, float | list[float]] = {
            "kind": KIND,
            "speed_mps": speed / 100 / 3.6,
            "cadence_rpm": cadence / 2,
            "power_w": power,
            "distance_m": distance,
            "energy_kcal": energy,
            **({"hr_bpm": heart} if self._heart else {}),
        }
        return [(INDOOR_BIKE_DATA, packet, values if packet is packets[-1] else {}) for packet in packets]

    def state(self) -> dict[str, float]:
        targets = {
            "target_w": -1.0 if self._target_w is None else self._target_w,
            "resistance": self._resistance,
            "grade_pct": self._grade_pct,
        }
        return {**super().state(), **targets, "power_w": self._power_w, "speed_kmh": self._speed_mps * 3.6}

    def _pedal(self, dt_s: float) -> None:
        self._body = step(self._rider, self._body, dt_s)
        own_w = max(self._body.power_w, 0.3 * self._rider.max_power_w) + _W_PER_PERCENT * self._grade_pct + 2.0 * self._resistance
        wanted_w = (own_w if self._target_w is None else self._target_w) if self.running else 0.0
        self._power_w = max(approach(self._power_w, max(wanted_w, 0.0), _ERG_TAU_S, dt_s), 0.0)
        self._speed_mps = ride(self._rider.bike, self._speed_mps, self._power_w, max(self._grade_pct, 0.0) / 100, dt_s)
        self._distance_m += self._speed_mps * dt_s
        self._work_j += self._power_w * dt_s
        if self.running:
            self.elapsed_s += dt_s

    def _cadence_rpm(self, number: int) -> float:
        return max(self._rider.cadence_rpm + gauss(self._noise, number), 0.0) if self._power_w >= 8 else 0.0

    def _set_power(self, raw: int) -> None:
        self._target_w = float(raw)

    def _set_resistance(self, raw: int) -> None:
        self._target_w, self._resistance = None, raw / 10

    def _simulate(self, raw: int) -> None:
        self._target_w, self._grade_pct = None, raw / 100
