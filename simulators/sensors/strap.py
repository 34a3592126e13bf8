"""A chest strap: the heart of a simulated athlete, reported once a second with the RR intervals since the last report (service 0x180D).

Bytes from the facts of the Heart Rate Service 1.0: flags u8 (bit 0: 16-bit rate; bits 1-2: contact not detected 2, detected 3; bit 3:
energy u16 kJ; bit 4: RR intervals u16 in 1/1024 s, oldest first), rate, energy, intervals. The lowest four bits of an interval are the
number of the beat modulo 16, so that a beat lost or doubled anywhere shows in the stored values. Without contact the strap reports rate 0
and no interval.
"""

from __future__ import annotations

import struct
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from broker.errors import BadInputError
from simulators.athlete import Sport, at_start, draw_athlete, step
from simulators.noise import gauss, key_of
from simulators.sensors.identity import Maker
from simulators.sensors.sensor import Characteristic, Report, Service, StaticSensor, Written, uuid128

HEART_RATE: Final = uuid128("180D")
MEASUREMENT: Final = uuid128("2A37")
BODY_LOCATION: Final = uuid128("2A38")
CONTROL: Final = uuid128("2A39")
MAX_INTERVALS: Final = 9  # what fits beside flags and rate into an ATT packet of 20 bytes
_VARIABILITY: Final = 0.025  # of the interval, at rest; less under load


@dataclass(frozen=True, slots=True)
class Beat:
    """One heart beat: its number, when, and the interval before it in 1/1024 s."""

    number: int
    at_s: float
    rr_1024: int


class Heart:
    """The beats of one athlete, one after the other."""

    def __init__(self, name: str, seed: int, sport: Sport = Sport.BIKE) -> None:
        self._athlete = draw_athlete(name, sport, seed, noisy_gps=False)
        self._state = at_start(self._athlete)
        self._noise = key_of(seed, "heart", name)
        self._number = 0
        self._at_s = 0.0

    @property
    def bpm(self) -> float:
        """The heart rate now, smoothed by the body."""
        return self._state.hr_bpm

    def beats(self, until_s: float) -> list[Beat]:
        """The beats up to `until_s`, oldest first."""
        found: list[Beat] = []
        while True:
            beat = self._next()
            if beat.at_s > until_s:
                return found
            found.append(beat)
            self._number, self._at_s = beat.number + 1, beat.at_s
            self._state = step(self._athlete, self._state, beat.rr_1024 / 1024)

    def _next(self) -> Beat:
        mean_s = 60.0 / self._state.hr_bpm
        calm = min(max((self._athlete.max_bpm - self._state.hr_bpm) / (self._athlete.max_bpm - self._athlete.rest_bpm), 0.1), 1.0)
        rr_s = mean_s * (1.0 + _VARIABILITY * calm * gauss(self._noise, self._number))
        raw = max(round(rr_s * 1024), 256) & ~15 | self._number % 16
        return Beat(self._number, self._at_s + raw / 1024, raw)


def encode_heart_rate(rate_bpm: int, rr_1024: Sequence[int] = (), *, contact: bool | None = None, energy_kj: int | None = None) -> bytes:
    """A heart rate measurement. `contact` None: the strap cannot tell."""
    flags = (rate_bpm > 255) | {None: 0, False: 4, True: 6}[contact] | (8 if energy_kj is not None else 0) | (16 if rr_1024 else 0)
    parts = [struct.pack("<BH" if rate_bpm > 255 else "<BB", flags, rate_bpm)]
    if energy_kj is not None:
        parts.append(struct.pack("<H", energy_kj))
    return b"".join([*parts, struct.pack(f"<{len(rr_1024)}H", *rr_1024)])


class Strap(StaticSensor):
    """A chest strap on a body. `period_s` is the time between two reports."""

    def __init__(self, name: str, seed: int, *, maker: Maker | None = None, period_s: float = 1.0, energy: bool = False) -> None:
        self.maker = maker or Maker(model="Strap", serial=name)
        measurement = Characteristic(MEASUREMENT, ("notify",))
        own = Service(HEART_RATE, (measurement, Characteristic(BODY_LOCATION, ("read",)), Characteristic(CONTROL, ("write",))))
        super().__init__((own, *self.maker.services()), ("180D",), {**self.maker.values(), BODY_LOCATION: b"\x01"})
        self._heart = Heart(name, seed)
        self._period_s = period_s
        self._energy = energy
        self._energy_kj = 0.0
        self._number = 0
        self._waiting: list[Beat] = []
        self._contact = True

    def next_s(self) -> float:
        return (self._number + 1) * self._period_s

    def take(self, now_s: float) -> list[Report]:
        reports: list[Report] = []
        while self.next_s() <= now_s:
            reports.append(self._report(self.next_s()))
        return reports

    def write(self, uuid: str, payload: bytes, now_s: float) -> Written:
        if uuid != CONTROL:
            return super().write(uuid, payload, now_s)
        if payload != b"\x01":
            return Written(error=0x80)  # control point not supported
        self._energy_kj = 0.0
        return Written()

    def act(self, name: str, value: float, now_s: float) -> None:
        """`contact` 0 or 1: whether the strap feels skin from now on."""
        del now_s
        if name != "contact":
            raise BadInputError(f"act {name!r} is not known to a strap", cure="it knows contact (0 or 1)")
        self._contact = bool(value)

    def state(self) -> dict[str, float]:
        return {"hr_bpm": self._heart.bpm, "contact": float(self._contact), "reports": float(self._number)}

    def _report(self, at_s: float) -> Report:
        beats = [*self._waiting, *self._heart.beats(at_s)]
        said, self._waiting = beats[:MAX_INTERVALS], beats[MAX_INTERVALS:]
        rate = round(self._heart.bpm)
        self._energy_kj += rate * 0.008 * self._period_s  # about 0.5 kJ a minute for each beat per minute: 10 kcal/min at 87 1/min
        if not self._contact:
            rate, said = 0, []
        intervals = [beat.rr_1024 for beat in said]
        energy = min(int(self._energy_kj), 65535) if self._energy else None
        number, self._number = self._number, self._number + 1
        payload = encode_heart_rate(rate, intervals, contact=self._contact, energy_kj=energy)
        values: dict[str, float | list[float]] = {"beats": [float(beat.number) for beat in said], "rr_s": [rr / 1024 for rr in intervals]}
        if self._contact:
            values["hr_bpm"] = rate
        if energy is not None:
            values["energy_kj"] = energy
        return Report(MEASUREMENT, payload, number, values)
