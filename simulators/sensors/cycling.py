"""Sensors on a bicycle and a shoe: speed and cadence 0x2A5B, power meter 0x2A63, foot pod 0x2A53; each follows one simulated athlete.

Units on the wire. Speed and cadence: wheel turns u32 with the time of the last in 1/1024 s (u16), crank turns u16 with the time of the last
in 1/1024 s. Power meter: power W s16, balance 0.5 % of the left pedal, accumulated torque 1/32 Nm (u16), crank as above. Foot pod: speed
1/256 m/s, cadence 1/min, stride 0.01 m, distance 0.1 m. All counters roll over as those of real sensors do: `turns` says where they start.
A turn is an event with its own time, as in a real sensor: between two turns the same count and time are repeated.
"""

from __future__ import annotations

import struct
from collections.abc import Sequence
from dataclasses import dataclass
from math import tau
from typing import Final

from simulators.athlete import Athlete, Sport, State, at_start, draw_athlete, step
from simulators.sensors.identity import Maker
from simulators.sensors.sensor import Characteristic, Service, uuid128
from simulators.sensors.ticking import Said, Ticking

CSC: Final = uuid128("1816")
CSC_MEASUREMENT: Final = uuid128("2A5B")
CSC_FEATURE: Final = uuid128("2A5C")
POWER: Final = uuid128("1818")
POWER_MEASUREMENT: Final = uuid128("2A63")
POWER_FEATURE: Final = uuid128("2A65")
RSC: Final = uuid128("1814")
RSC_MEASUREMENT: Final = uuid128("2A53")
RSC_FEATURE: Final = uuid128("2A54")
LOCATION: Final = uuid128("2A5D")
WHEEL_M: Final = 2.096  # 700 x 23


@dataclass(slots=True)
class Turns:
    """A wheel or a crank: whole turns, and when the last was made."""

    count: int
    at_s: float = 0.0
    part: float = 0.0

    def turn(self, turns: float, from_s: float, dt_s: float) -> None:
        """Go on by `turns` (may be a fraction), evenly over `dt_s` from `from_s`."""
        before, self.part = self.part, self.part + turns
        whole = int(self.part)
        if whole:
            self.count += whole
            self.at_s = from_s + dt_s * (whole - before) / turns
            self.part -= whole


class WornSensor(Ticking):
    """A sensor that follows an athlete from period to period."""

    def __init__(self, name: str, seed: int, sport: Sport, service: Service, values: dict[str, bytes], period_s: float) -> None:
        maker = Maker(model=type(self).__name__, serial=name)
        super().__init__((service, *maker.services()), (service.uuid,), {**values, **maker.values()}, period_s)
        self.body: Athlete = draw_athlete(name, sport, seed, noisy_gps=False)
        self.now: State = at_start(self.body)

    def go_on(self) -> None:
        """Let the athlete go on for one period."""
        self.now = step(self.body, self.now, self.period_s)

    def state(self) -> dict[str, float]:
        now = self.now
        return {"speed_mps": now.speed_mps, "cadence_rpm": now.cadence_rpm, "power_w": now.power_w, "distance_m": now.distance_m}


def _ticks(at_s: float) -> int:
    return int(at_s * 1024) & 0xFFFF


class SpeedCadence(WornSensor):
    """A speed and cadence sensor; `wheel` or `crank` False leaves that half out."""

    def __init__(self, name: str, seed: int, *, wheel: bool = True, crank: bool = True, turns: int = 0, period_s: float = 1.0) -> None:
        measurement = Characteristic(CSC_MEASUREMENT, ("notify",))
        service = Service(CSC, (measurement, Characteristic(CSC_FEATURE, ("read",)), Characteristic(LOCATION, ("read",))))
        values = {CSC_FEATURE: struct.pack("<H", wheel | crank << 1), LOCATION: b"\x0c"}
        super().__init__(name, seed, Sport.BIKE, service, values, period_s)
        self._wheel = Turns(turns) if wheel else None
        self._crank = Turns(turns) if crank else None

    def tick(self, at_s: float) -> Sequence[Said]:
        self.go_on()
        from_s = at_s - self.period_s
        flags, body = 0, b""
        values: dict[str, float | list[float]] = {}
        if self._wheel is not None:
            self._wheel.turn(self.now.speed_mps * self.period_s / WHEEL_M, from_s, self.period_s)
            flags, count, time = 1, self._wheel.count & 0xFFFFFFFF, _ticks(self._wheel.at_s)
            body += struct.pack("<IH", count, time)
            values |= {"wheel_revs": count, "wheel_time": time}
        if self._crank is not None:
            self._crank.turn(self.now.cadence_rpm / 60 * self.period_s, from_s, self.period_s)
            count, time = self._crank.count & 0xFFFF, _ticks(self._crank.at_s)
            flags |= 2
            body += struct.pack("<HH", count, time)
            values |= {"crank_revs": count, "crank_time": time}
        return [(CSC_MEASUREMENT, bytes([flags]) + body, values)]


class PowerMeter(WornSensor):
    """A crank power meter: power, balance, torque, crank turns. The lowest three bits of the power are the number of the record."""

    def __init__(self, name: str, seed: int, *, turns: int = 0, period_s: float = 1.0) -> None:
        measurement = Characteristic(POWER_MEASUREMENT, ("notify",))
        service = Service(POWER, (measurement, Characteristic(POWER_FEATURE, ("read",)), Characteristic(LOCATION, ("read",))))
        values = {POWER_FEATURE: struct.pack("<I", 1 | 1 << 1 | 1 << 3), LOCATION: b"\x05"}  # balance, torque, crank; left crank
        super().__init__(name, seed, Sport.BIKE, service, values, period_s)
        self._crank = Turns(turns)
        self._torque_nm = 0.0
        self._records = 0

    def tick(self, at_s: float) -> Sequence[Said]:
        self.go_on()
        before = self._crank.count
        self._crank.turn(self.now.cadence_rpm / 60 * self.period_s, at_s - self.period_s, self.period_s)
        power = round(self.now.power_w)
        if power >= 8:
            power = power & ~7 | self._records % 8
        self._records += 1
        if self.now.cadence_rpm > 0:  # the mean torque of each turn since the last record, summed
            self._torque_nm += (self._crank.count - before) * power / (self.now.cadence_rpm / 60 * tau)
        balance, torque = 98 + self._records % 5, int(self._torque_nm * 32) & 0xFFFF
        crank, time = self._crank.count & 0xFFFF, _ticks(self._crank.at_s)
        flags = 1 | 1 << 1 | 1 << 2 | 1 << 3 | 1 << 5  # balance, of the left pedal; torque, of the crank; crank turns
        payload = struct.pack("<HhBHHH", flags, power, balance, torque, crank, time)
        return [(POWER_MEASUREMENT, payload, {"power_w": power, "balance_pct": balance / 2, "crank_revs": crank, "crank_time": time})]


class FootPod(WornSensor):
    """A sensor on a shoe: speed, cadence, stride, distance, and whether its runner runs."""

    def __init__(self, name: str, seed: int, *, period_s: float = 1.0) -> None:
        measurement = Characteristic(RSC_MEASUREMENT, ("notify",))
        service = Service(RSC, (measurement, Characteristic(RSC_FEATURE, ("read",)), Characteristic(LOCATION, ("read",))))
        values = {RSC_FEATURE: struct.pack("<H", 1 | 1 << 1 | 1 << 2), LOCATION: b"\x02"}  # stride, distance, running; in the shoe
        super().__init__(name, seed, Sport.TREADMILL, service, values, period_s)

    def tick(self, at_s: float) -> Sequence[Said]:
        del at_s
        self.go_on()
        speed, cadence = round(self.now.speed_mps * 256), min(round(self.now.cadence_rpm), 254)
        stride = round(self.now.speed_mps / (cadence / 60) * 100) if cadence else 0
        distance = int(self.now.distance_m * 10) & 0xFFFFFFFF
        flags = 1 | 1 << 1 | (1 << 2 if self.now.speed_mps > 2.0 else 0)
        payload = struct.pack("<BHBHI", flags, speed, cadence, stride, distance)
        return [(RSC_MEASUREMENT, payload, {"speed_mps": speed / 256, "cadence_rpm": cadence, "distance_m": distance / 10})]
