"""A virtual treadmill (treadmill data 0x2ACD) with a runner on it: the belt obeys the control point, and only moves while it runs.

Units on the wire: speed 0.01 km/h, distance m (24 bit), incline 0.1 %, ramp angle 0.1 degree, energy kcal, heart rate 1/min, time s. The
lowest three bits of the speed are the number of the record modulo 8 while the belt moves, so that one lost or doubled shows.
"""

from __future__ import annotations

import math
import struct
from collections.abc import Sequence
from typing import Final, Unpack

from simulators.athlete import Sport, draw_athlete
from simulators.physics import approach, run_cost_jpkgm
from simulators.sensors.fitness_machine import (
    INCLINE_RANGE,
    SET_INCLINE,
    SET_SPEED,
    SPEED_RANGE,
    FitnessMachine,
    MachineOptions,
    Order,
    split_record,
)
from simulators.sensors.identity import Maker
from simulators.sensors.sensor import uuid128
from simulators.sensors.ticking import Said

TREADMILL_DATA: Final = uuid128("2ACD")
KIND: Final = 1
_ACCELERATION_KMHPS: Final = 1.0
_INCLINE_PCTPS: Final = 0.5
_SPEED: Final = (80, 2000)  # 0.8 to 20 km/h
_INCLINE: Final = (-30, 150)  # -3 to 15 %
_FEATURES: Final = 1 << 2 | 1 << 3 | 1 << 9 | 1 << 10 | 1 << 12  # distance, inclination, energy, heart rate, elapsed time
_TARGETS: Final = 1 << 0 | 1 << 1  # speed, inclination


class Treadmill(FitnessMachine):
    """See the module. `target_kmh` is the speed it starts with when nobody sets one; `running` starts it at once."""

    def __init__(self, name: str, seed: int, *, target_kmh: float = 9.0, running: bool = False, **options: Unpack[MachineOptions]) -> None:
        ranges = {SPEED_RANGE: struct.pack("<HHH", *_SPEED, 10), INCLINE_RANGE: struct.pack("<hhH", *_INCLINE, 5)}
        maker = Maker(model="Treadmill", serial=name)
        super().__init__(TREADMILL_DATA, (_FEATURES, _TARGETS), ranges, maker, options)
        self._runner = draw_athlete(name, Sport.TREADMILL, seed, noisy_gps=False)
        self._hr_bpm = self._runner.rest_bpm + 20
        self._speed_kmh = 0.0
        self._incline_pct = 0.0
        self._target_kmh = self._usual_kmh = target_kmh
        self._target_pct = 0.0
        self._distance_m = 0.0
        self._energy_j = 0.0
        self._records = 0
        self.running = running
        self.orders = {
            SET_SPEED: Order(("<H",), *_SPEED, 0x05, self._set_speed),
            SET_INCLINE: Order(("<h",), *_INCLINE, 0x06, self._set_incline),
        }

    def reset(self) -> None:
        self._target_kmh, self._target_pct = self._usual_kmh, 0.0

    def tick(self, at_s: float) -> Sequence[Said]:
        del at_s
        self._move(self.period_s)
        number, self._records = self._records, self._records + 1
        speed = round(self._speed_kmh * 100)
        if speed:
            speed = speed & ~7 | number % 8
        incline, distance = round(self._incline_pct * 10), int(self._distance_m)
        angle = round(math.degrees(math.atan(self._incline_pct / 100)) * 10)
        energy, heart = int(self._energy_j / 4184), round(self._hr_bpm)
        fields = [
            (2, distance.to_bytes(3, "little")),
            (3, struct.pack("<hh", incline, angle)),
            (7, struct.pack("<HHB", energy, 0xFFFF, 0xFF)),
            (8, bytes([heart])),
            (10, struct.pack("<H", int(self.elapsed_s))),
        ]
        packets = split_record(2, struct.pack("<H", speed), fields, room_bytes=self.room_bytes)
        values: dict[str, float | list[float]] = {
            "kind": KIND,
            "speed_mps": speed / 100 / 3.6,
            "incline_pct": incline / 10,
            "distance_m": distance,
            "energy_kcal": energy,
            "hr_bpm": heart,
        }
        return [(TREADMILL_DATA, packet, values if packet is packets[-1] else {}) for packet in packets]

    def state(self) -> dict[str, float]:
        belt = {"speed_kmh": self._speed_kmh, "incline_pct": self._incline_pct, "target_kmh": self._target_kmh}
        return {**super().state(), **belt, "target_incline_pct": self._target_pct, "distance_m": self._distance_m}

    def _move(self, dt_s: float) -> None:
        target = self._target_kmh if self.running else 0.0
        step = _ACCELERATION_KMHPS * dt_s * (1 if self.running else 3)  # it brakes faster than it starts
        self._speed_kmh += min(max(target - self._speed_kmh, -step), step)
        rise = _INCLINE_PCTPS * dt_s
        self._incline_pct += min(max(self._target_pct - self._incline_pct, -rise), rise)
        metres = self._speed_kmh / 3.6 * dt_s
        self._distance_m += metres
        cost_jpkgm = run_cost_jpkgm(self._incline_pct / 100)
        self._energy_j += metres * cost_jpkgm * self._runner.body_kg
        load = min(self._speed_kmh / 3.6 * cost_jpkgm / self._runner.max_metabolic_wpkg, 1.0)
        rest, top = self._runner.rest_bpm, self._runner.max_bpm
        self._hr_bpm = approach(self._hr_bpm, rest + load * (top - rest), self._runner.tau_on_s, dt_s)
        if self.running:
            self.elapsed_s += dt_s

    def _set_speed(self, raw: int) -> None:
        self._target_kmh = raw / 100

    def _set_incline(self, raw: int) -> None:
        self._target_pct = raw / 10
