"""Virtual ANT+ sensors (pure): what each kind transmits, page by page, written by hand from facts of the pages, not from our profiles.

So they are an independent oracle: what a receiver makes of a page must be what the sensor says it meant (`truth`). A sensor is asked for
one page each channel period (`page`), told what it is sent (`obey`), and repeats its data until something new happens, as real ones do.
Times are microseconds of the simulation; a sensor's behaviour follows from its number alone.
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections import deque
from typing import Final

from simulators.noise import key_of, uniform

TICKS_PER_S: Final = 32_768
_MANUFACTURER: Final = 255  # development


def u16(value: float) -> bytes:
    """The low 16 bits, little-endian."""
    return (int(value) & 0xFFFF).to_bytes(2, "little")


class Sensor(ABC):
    """One transmitter: its channel id, its period, and what it last meant (`truth`: name -> value in SI units)."""

    type = 0
    period = 8192

    def __init__(self, number: int, transmission: int = 5) -> None:
        self.number = number
        self.transmission = (transmission & 0x0F) | (number >> 16) << 4
        self.sent = 0
        self.truth: dict[str, float] = {}
        self._asked: deque[bytes] = deque(maxlen=8)
        self._key = key_of("ant", str(self.type), str(number))

    @property
    def device(self) -> str:
        """`ant-TYPE-NUMBER`."""
        return f"ant-{self.type}-{self.number}"

    @property
    def channel_id(self) -> bytes:
        """The four bytes that follow a page in an extended message."""
        return u16(self.number) + bytes((self.type, self.transmission))

    def page(self, t_us: int) -> bytes:
        """The eight bytes of this transmission."""
        self.advance(t_us)
        self.sent += 1
        if self._asked:
            return self._asked.popleft()
        if self.sent % 66 in (64, 65):
            return self.product() if self.sent // 66 % 2 else self.maker()
        return self.main()

    def advance(self, t_us: int) -> None:  # noqa: B027 - not every sensor changes with time
        """Live until `t_us`."""

    @abstractmethod
    def main(self) -> bytes:
        """The page of this kind of sensor."""

    def obey(self, payload: bytes) -> None:
        """Take an acknowledged message: page 70 asks for a page."""
        if payload[0] == 70:
            answer = self.requested(payload[6])
            if answer is not None:
                self._asked.extend([answer] * min(max(payload[5] & 0x7F, 1), 4))

    def requested(self, page: int) -> bytes | None:
        """The page somebody asked for, None when this sensor has none such."""
        return {80: self.maker, 81: self.product, 82: self.battery}.get(page, lambda: None)()

    def maker(self) -> bytes:
        """Page 80: hardware revision, manufacturer, model."""
        return bytes((80, 255, 255, 1)) + u16(_MANUFACTURER) + u16(self.type)

    def product(self) -> bytes:
        """Page 81: software revision, serial number."""
        return bytes((81, 255, 255, 12)) + self.number.to_bytes(4, "little")

    def battery(self) -> bytes:
        """Page 82: one battery, 2.9 V, good."""
        return bytes((82, 255, 255, 16, 0, 0, round(0.9 * 256), 0x80 | 2 << 4 | 2))

    def wobble(self, t_us: int, middle: float, around: float, period_s: float) -> float:
        """A value that swings slowly, each sensor in its own phase."""
        phase = uniform(self._key, 0) * 2 * math.pi
        return middle + around * math.sin(2 * math.pi * t_us / 1e6 / period_s + phase)


class HeartRate(Sensor):
    """A strap. `beats` are the instants of its heart beats in 1/1024 s since the start of the simulation, not wrapped."""

    type, period = 120, 8070

    def __init__(self, number: int, transmission: int = 1) -> None:
        super().__init__(number, transmission)
        self.beats: list[int] = []

    def advance(self, t_us: int) -> None:
        while not self.beats or self._next() <= t_us * 1024 // 1_000_000:
            self.beats.append(self._next() if self.beats else round(uniform(self._key, 1) * 1024))
        hr = round(60 * 1024 / self._interval(self.beats[-1]))
        self.truth = {"hr_bpm": hr, "beats": len(self.beats), "rr_ms": self.rr_ms()}

    def rr_ms(self) -> float:
        """The last interval; 0 before the second beat."""
        return (self.beats[-1] - self.beats[-2]) / 1.024 if len(self.beats) > 1 else 0.0

    def main(self) -> bytes:
        toggle = 0x80 if self.sent // 4 % 2 else 0
        before = self.beats[-2] if len(self.beats) > 1 else self.beats[-1]
        tail = u16(self.beats[-1]) + bytes((len(self.beats) & 0xFF, round(self.truth["hr_bpm"])))
        if self.sent % 65 < 4:  # a background page, four times in a row
            page = (2, 3, 1, 7)[self.sent // 65 % 4]
            return bytes((page | toggle,)) + self._background(page) + tail
        return bytes((4 | toggle, 0xFF)) + u16(before) + tail

    def maker(self) -> bytes:
        return self.main()  # a strap has pages 2 and 3 instead of 80 and 81

    product = maker

    def _background(self, page: int) -> bytes:
        elapsed = self.beats[-1] // 2048
        return {
            1: elapsed.to_bytes(3, "little"),
            2: bytes((_MANUFACTURER,)) + u16(self.number >> 16),
            3: bytes((1, 12, 7)),
            7: bytes((87, round(0.9 * 256), 0x22)),
        }[page]

    def _next(self) -> int:
        return self.beats[-1] + self._interval(self.beats[-1])

    def _interval(self, at: int) -> int:
        hr = self.wobble(at * 1_000_000 // 1024, 100 + 60 * uniform(self._key, 2), 20, 120)
        return round(60 * 1024 / hr * (0.98 + 0.04 * uniform(self._key, at)))


class Wheel:
    """Something that turns: revolutions and the time of the last one, in 1/1024 s."""

    def __init__(self) -> None:
        self.turns = 0
        self.time = 0
        self.rate_hz = 1.0

    def advance(self, t_us: int, rate_hz: float) -> None:
        """Turn until `t_us`."""
        self.rate_hz = rate_hz
        while (at := self.time + round(1024 / self.rate_hz)) <= t_us * 1024 // 1_000_000:
            self.time, self.turns = at, self.turns + 1

    @property
    def raw(self) -> bytes:
        return u16(self.time) + u16(self.turns)


class Speed(Sensor):
    """A speed sensor on a wheel of 2.096 m."""

    type, period, wheel_m = 123, 8118, 2.096

    def __init__(self, number: int, transmission: int = 1) -> None:
        super().__init__(number, transmission)
        self.wheel = Wheel()

    def advance(self, t_us: int) -> None:
        self.wheel.advance(t_us, self.wobble(t_us, 8, 2, 90) / self.wheel_m)
        self.truth = {"speed_mps": self.wheel_m * 1024 / round(1024 / self.wheel.rate_hz), "turns": self.wheel.turns}

    def main(self) -> bytes:
        return bytes((0x80 if self.sent // 4 % 2 else 0, 255, 255, 255)) + self.wheel.raw


class Cadence(Sensor):
    """A cadence sensor on a crank."""

    type, period = 122, 8102

    def __init__(self, number: int, transmission: int = 1) -> None:
        super().__init__(number, transmission)
        self.crank = Wheel()

    def advance(self, t_us: int) -> None:
        self.crank.advance(t_us, self.wobble(t_us, 85, 10, 60) / 60)
        self.truth = {"cadence_rpm": 60 * 1024 / round(1024 / self.crank.rate_hz), "turns": self.crank.turns}

    def main(self) -> bytes:
        return bytes((0x80 if self.sent // 4 % 2 else 0, 255, 255, 255)) + self.crank.raw


class SpeedCadence(Sensor):
    """Both in one: no page number at all."""

    type, period = 121, 8086

    def __init__(self, number: int, transmission: int = 1) -> None:
        super().__init__(number, transmission)
        self.wheel, self.crank = Wheel(), Wheel()

    def advance(self, t_us: int) -> None:
        self.wheel.advance(t_us, self.wobble(t_us, 8, 2, 90) / Speed.wheel_m)
        self.crank.advance(t_us, self.wobble(t_us, 85, 10, 60) / 60)
        self.truth = {"cadence_rpm": 60 * self.crank.rate_hz, "speed_mps": Speed.wheel_m * self.wheel.rate_hz}

    def page(self, t_us: int) -> bytes:
        self.advance(t_us)
        self.sent += 1
        return self.main()

    def main(self) -> bytes:
        return self.crank.raw + self.wheel.raw


class Power(Sensor):
    """A crank power meter: page 16, every fifth time page 18 (crank torque). An event each second."""

    type, period = 11, 8182

    def __init__(self, number: int, transmission: int = 5) -> None:
        super().__init__(number, transmission)
        self.events = self.total_w = self.torque = self.crank_period = 0

    def advance(self, t_us: int) -> None:
        while self.events * 1_000_000 <= t_us:
            power, cadence = round(self.wobble(self.events * 1_000_000, 220, 60, 45)), 90
            self.events += 1
            self.total_w += power
            self.crank_period += round(2048 * 60 / cadence)
            self.torque += round(32 * power / (2 * math.pi * cadence / 60))
            self.truth = {"power_w": power, "cadence_rpm": cadence, "events": self.events}

    def main(self) -> bytes:
        count, cadence = self.events & 0xFF, round(self.truth["cadence_rpm"])
        if self.sent % 5 == 0:
            return bytes((18, count, count, cadence)) + u16(self.crank_period) + u16(self.torque)
        return bytes((16, count, 0xFF, cadence)) + u16(self.total_w) + u16(self.truth["power_w"])


class Stride(Sensor):
    """A foot pod: pages 1 and 2 in turn."""

    type, period = 124, 8134

    def __init__(self, number: int, transmission: int = 5) -> None:
        super().__init__(number, transmission)
        self._at_us = 0
        self.distance_m = self.strides = 0.0

    def advance(self, t_us: int) -> None:
        dt_s = (t_us - self._at_us) / 1e6
        self._at_us = t_us
        speed, cadence = self.wobble(t_us, 3.2, 0.5, 100), 84.0
        self.distance_m += speed * dt_s
        self.strides += cadence / 60 * dt_s
        self.truth = {"speed_mps": int(speed) + int(speed % 1 * 256) / 256, "cadence_rpm": cadence, "distance_m": self.distance_m}

    def main(self) -> bytes:
        speed = self.truth["speed_mps"]
        whole, part = int(speed), round(speed % 1 * 256)
        if self.sent % 2:
            t_s = self._at_us / 1e6
            sixteenth = int(self.distance_m % 1 * 16)
            return bytes(
                (
                    1,
                    int(t_s % 1 * 200),
                    int(t_s) & 0xFF,
                    int(self.distance_m) & 0xFF,
                    sixteenth << 4 | whole,
                    part,
                    int(self.strides) & 0xFF,
                    0,
                )
            )
        return bytes((2, 255, 255, round(self.truth["cadence_rpm"]), whole, part, 255, 0b0101))


class MuscleOxygen(Sensor):
    """SmO2 and total haemoglobin."""

    type, period = 31, 8192

    def advance(self, t_us: int) -> None:
        events = t_us // 1_000_000
        at_us = events * 1_000_000  # a value is new once a second
        smo2, thb = round(self.wobble(at_us, 62, 12, 80), 1), round(self.wobble(at_us, 12.3, 0.2, 80), 2)
        self.truth = {"muscle_oxygen_pct": smo2, "total_hemoglobin_gpl": thb * 10, "events": events}

    def main(self) -> bytes:
        smo2, thb = round(self.truth["muscle_oxygen_pct"] * 10), round(self.truth["total_hemoglobin_gpl"] * 10)
        packed = thb | smo2 << 12 | smo2 << 22  # the value before is taken to be the same
        return bytes((1, int(self.truth["events"]) & 0xFF, 0, 0)) + packed.to_bytes(4, "little")


class Environment(Sensor):
    """A thermometer of the air."""

    type, period = 25, 8192

    def advance(self, t_us: int) -> None:
        events = t_us // 1_000_000
        self.truth = {"ambient_temp_c": round(self.wobble(events * 1_000_000, 21.5, 1, 600), 2), "events": events}

    def main(self) -> bytes:
        return bytes((1, 255, int(self.truth["events"]) & 0xFF, 0xB4, 0x00, 0x0F)) + u16(round(self.truth["ambient_temp_c"] * 100))


class CoreTemperature(Sensor):
    """A CORE sensor: skin and core temperature."""

    type, period = 127, 16_384

    def advance(self, t_us: int) -> None:
        events = t_us // 2_000_000
        at_us = events * 2_000_000
        skin = round(self.wobble(at_us, 34, 1, 300) / 0.05) * 0.05
        self.truth = {"core_temp_c": round(self.wobble(at_us, 37.6, 0.4, 300), 2), "skin_temp_c": skin, "events": events}

    def main(self) -> bytes:
        skin, core = round(self.truth["skin_temp_c"] / 0.05), round(self.truth["core_temp_c"] * 100)
        return bytes((1, 255, int(self.truth["events"]) & 0xFF, skin & 0xFF, skin >> 8 << 4 | 0x0F, 255)) + u16(core)


class Weight(Sensor):
    """A scale."""

    type, period = 119, 8192

    def __init__(self, number: int, transmission: int = 5) -> None:
        super().__init__(number, transmission)
        self.truth = {"weight_kg": 60 + number % 40 + 0.25}

    def main(self) -> bytes:
        return bytes((1, 1, 0, 0, 255, 255)) + u16(round(self.truth["weight_kg"] * 100))
