"""The other machines of a gym: rower 0x2AD1, cross trainer 0x2ACE, step climber 0x2ACF, stair climber 0x2AD0. They obey start and stop.

Units on the wire, from the facts of the Fitness Machine Service 1.0. Rower: stroke rate 0.5/min, strokes, distance m, pace s/500 m, power
W. Cross trainer (flags of three bytes): speed 0.01 km/h, distance m, steps/min, strides 0.1, incline 0.1 %, resistance 0.1, power W.
Climbers: floors, steps, steps/min, elevation m, strides. All: energy kcal, heart rate 1/min, time s.
"""

from __future__ import annotations

import struct
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Final, Unpack

from simulators.athlete import Athlete, Sport, State, at_start, draw_athlete, step
from simulators.sensors.fitness_machine import FitnessMachine, MachineOptions, split_record
from simulators.sensors.identity import Maker
from simulators.sensors.sensor import uuid128
from simulators.sensors.ticking import Said

CROSS_TRAINER_DATA: Final = uuid128("2ACE")
STEP_CLIMBER_DATA: Final = uuid128("2ACF")
STAIR_CLIMBER_DATA: Final = uuid128("2AD0")
ROWER_DATA: Final = uuid128("2AD1")
_STEP_M: Final = 0.2
_STEPS_A_FLOOR: Final = 16

Values = dict[str, float | list[float]]
Fields = Sequence[tuple[int, bytes]]


@dataclass(frozen=True, slots=True)
class Workout:
    """What a body has done on a machine so far. `moves` are strokes, strides or steps, `rate_pm` how many a minute."""

    elapsed_s: float
    moves: float
    rate_pm: float
    distance_m: float
    power_w: float
    energy_kcal: int
    hr_bpm: int


def _energy(done: Workout) -> bytes:
    return struct.pack("<HHB", done.energy_kcal, 0xFFFF, 0xFF)


def _rower(done: Workout) -> tuple[bytes, Fields, Values]:
    rate, strokes, distance, power = round(done.rate_pm * 2), int(done.moves) & 0xFFFF, int(done.distance_m), round(done.power_w)
    pace = min(round(500 * done.elapsed_s / done.distance_m), 0xFFFE) if done.distance_m > 1 else 0xFFFF
    fields = [
        (2, distance.to_bytes(3, "little")),
        (3, struct.pack("<H", pace)),
        (5, struct.pack("<h", power)),
        (8, _energy(done)),
        (9, bytes([done.hr_bpm])),
        (11, struct.pack("<H", int(done.elapsed_s))),
    ]
    values: Values = {"kind": 5, "cadence_rpm": rate / 2, "strokes": strokes, "distance_m": distance, "power_w": power}
    return struct.pack("<BH", rate, strokes), fields, values


def _cross_trainer(done: Workout) -> tuple[bytes, Fields, Values]:
    speed = round(done.distance_m / done.elapsed_s * 360) if done.elapsed_s else 0
    distance, power, rate, resistance, incline = int(done.distance_m), round(done.power_w), round(done.rate_pm), 85, 40
    fields = [
        (2, distance.to_bytes(3, "little")),
        (3, struct.pack("<HH", rate, 0xFFFF)),
        (4, struct.pack("<H", int(done.moves * 10) & 0xFFFF)),
        (6, struct.pack("<hh", incline, 23)),
        (7, struct.pack("<h", resistance)),
        (8, struct.pack("<h", power)),
        (10, _energy(done)),
        (11, bytes([done.hr_bpm])),
        (13, struct.pack("<H", int(done.elapsed_s))),
    ]
    values: Values = {
        "kind": 2,
        "speed_mps": speed / 100 / 3.6,
        "distance_m": distance,
        "power_w": power,
        "incline_pct": incline / 10,
        "resistance": resistance / 10,
        "cadence_rpm": rate,
        "strokes": (int(done.moves * 10) & 0xFFFF) / 10,
    }
    return struct.pack("<H", speed), fields, values


def _step_climber(done: Workout) -> tuple[bytes, Fields, Values]:
    steps, rate = int(done.moves), round(done.rate_pm)
    fields = [
        (1, struct.pack("<H", rate)),
        (3, struct.pack("<H", int(steps * _STEP_M))),
        (4, _energy(done)),
        (5, bytes([done.hr_bpm])),
        (7, struct.pack("<H", int(done.elapsed_s))),
    ]
    values: Values = {"kind": 3, "cadence_rpm": rate, "strokes": steps & 0xFFFF}
    return struct.pack("<HH", steps // _STEPS_A_FLOOR, steps & 0xFFFF), fields, values


def _stair_climber(done: Workout) -> tuple[bytes, Fields, Values]:
    steps, rate = int(done.moves), round(done.rate_pm)
    fields = [
        (1, struct.pack("<H", rate)),
        (3, struct.pack("<H", int(steps * _STEP_M))),
        (4, struct.pack("<H", steps & 0xFFFF)),
        (5, _energy(done)),
        (6, bytes([done.hr_bpm])),
        (8, struct.pack("<H", int(done.elapsed_s))),
    ]
    values: Values = {"kind": 4, "cadence_rpm": rate, "strokes": steps & 0xFFFF}
    return struct.pack("<H", steps // _STEPS_A_FLOOR), fields, values


@dataclass(frozen=True, slots=True)
class Make:
    """One kind of machine: its measurement, bytes of flags, features, moves a minute at full effort, metres a move, and its record."""

    uuid: str
    flag_bytes: int
    features: int
    rate_pm: float
    metres: float
    record: Callable[[Workout], tuple[bytes, Fields, Values]]


MAKES: Final[Mapping[str, Make]] = {
    "rower": Make(ROWER_DATA, 2, 1 << 2 | 1 << 5 | 1 << 9 | 1 << 10 | 1 << 12 | 1 << 14, 34, 9.0, _rower),
    "cross_trainer": Make(CROSS_TRAINER_DATA, 3, 1 << 2 | 1 << 3 | 1 << 6 | 1 << 7 | 1 << 8 | 1 << 9 | 1 << 10, 160, 0.9, _cross_trainer),
    "step_climber": Make(STEP_CLIMBER_DATA, 2, 1 << 4 | 1 << 6 | 1 << 9 | 1 << 10 | 1 << 12, 140, 0.0, _step_climber),
    "stair_climber": Make(STAIR_CLIMBER_DATA, 2, 1 << 4 | 1 << 6 | 1 << 8 | 1 << 9 | 1 << 10 | 1 << 12, 110, 0.0, _stair_climber),
}


class GymMachine(FitnessMachine):
    """A machine of one of `MAKES` with a body on it."""

    def __init__(self, make: str, name: str, seed: int, *, running: bool = True, **options: Unpack[MachineOptions]) -> None:
        self._make = MAKES[make]
        super().__init__(self._make.uuid, (self._make.features, 0), {}, Maker(model=make, serial=name), options)
        self._body: Athlete = draw_athlete(name, Sport.BIKE, seed, noisy_gps=False)
        self._state: State = at_start(self._body)
        self._moves = 0.0
        self._work_j = 0.0
        self.running = running

    def tick(self, at_s: float) -> Sequence[Said]:
        del at_s
        dt_s = self.period_s
        self._state = step(self._body, self._state, dt_s)
        effort = self._state.power_w / self._body.max_power_w if self.running else 0.0
        rate_pm = self._make.rate_pm * effort
        power_w = self._state.power_w if self.running else 0.0
        self._moves += rate_pm / 60 * dt_s
        self._work_j += power_w * dt_s
        if self.running:
            self.elapsed_s += dt_s
        energy, metres = int(self._work_j / 4184 / 0.24), self._moves * self._make.metres
        done = Workout(self.elapsed_s, self._moves, rate_pm, metres, power_w, energy, round(self._state.hr_bpm))
        first, fields, said = self._make.record(done)
        packets = split_record(self._make.flag_bytes, first, fields, room_bytes=self.room_bytes)
        values: Values = {**said, "energy_kcal": done.energy_kcal, "hr_bpm": done.hr_bpm}
        return [(self.data, packet, values if packet is packets[-1] else {}) for packet in packets]

    def state(self) -> dict[str, float]:
        return {**super().state(), "moves": self._moves}
