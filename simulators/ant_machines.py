"""Virtual FE-C equipment (pure): a bike trainer that obeys pages 48 to 51, and a treadmill. See `ant_sensors` for how sensors behave.

The trainer's power follows its target in about a second, or the resistance, or the slope; page 71 says what became of the last command.
A command it cannot do (`can`) is refused in page 71, as the standard has it: status 0 done, 1 failed, 2 not supported, 3 refused.
"""

from __future__ import annotations

import math

from simulators.ant_sensors import Sensor, u16
from simulators.physics import Bike, ride

BASIC, TARGET_POWER, WIND, TRACK = 48, 49, 50, 51
COMMANDS = (BASIC, TARGET_POWER, WIND, TRACK)


class Equipment(Sensor):
    """What FE-C machines share: pages 16, 71, 54; `kind` is the equipment type of page 16."""

    type, period, kind = 17, 8192, 0
    capabilities = 0

    def __init__(self, number: int, transmission: int = 5) -> None:
        super().__init__(number, transmission)
        self.at_us = 0
        self.speed_mps: float = 0.0
        self.distance_m: float = 0.0
        self.hr_bpm = 0xFF
        self.state = 3  # in use
        self.commands: list[bytes] = []  # what it was told, in order
        self._last_command = bytes((71, 255, 255, 255, 255, 255, 255, 255))
        self._sequence = 255

    def general(self) -> bytes:
        """Page 16."""
        elapsed, distance = int(self.at_us / 250_000) & 0xFF, int(self.distance_m) & 0xFF
        return (
            bytes((16, self.kind, elapsed, distance)) + u16(round(self.speed_mps * 1000)) + bytes((self.hr_bpm, 0b0100 | self.state << 4))
        )

    def requested(self, page: int) -> bytes | None:
        if page == 71:
            return self._last_command
        if page == 54:
            return bytes((54, 255, 255, 255, 255)) + u16(200) + bytes((self.capabilities,))
        return super().requested(page)

    def obey(self, payload: bytes) -> None:
        if payload[0] not in COMMANDS:
            super().obey(payload)
            return
        self.commands.append(payload)
        self._sequence = (self._sequence + 1) % 255
        status = 0 if self.can(payload[0]) else 2
        if status == 0:
            self.command(payload)
        self._last_command = bytes((71, payload[0], self._sequence, status)) + payload[4:8]

    def can(self, command: int) -> bool:
        """Whether the capabilities have this command."""
        bit = {BASIC: 1, TARGET_POWER: 2, WIND: 4, TRACK: 4}[command]
        return bool(self.capabilities & bit)

    def command(self, payload: bytes) -> None:
        """Do it."""


class Trainer(Equipment):
    """A bike trainer (type 25) with somebody pedalling at 90 rpm."""

    kind, capabilities = 25, 0b111

    def __init__(self, number: int, transmission: int = 5) -> None:
        super().__init__(number, transmission)
        self.mode = BASIC
        self.resistance_pct = 20.0
        self.target_w = 0.0
        self.grade_pct = 0.0
        self.power_w = 100.0
        self.events = self.total_w = 0

    def advance(self, t_us: int) -> None:
        dt_s = (t_us - self.at_us) / 1e6
        self.at_us = t_us
        wanted = {BASIC: 5 * self.resistance_pct + 20, TARGET_POWER: self.target_w, WIND: 180.0, TRACK: 150 + 25 * self.grade_pct}[
            self.mode
        ]
        self.power_w += (max(wanted, 0) - self.power_w) * (1 - math.exp(-dt_s / 0.8))
        self.speed_mps = ride(Bike(), self.speed_mps, self.power_w, self.grade_pct / 100 if self.mode == TRACK else 0.0, dt_s)
        self.distance_m += self.speed_mps * dt_s
        while self.events * 250_000 <= t_us:
            self.events += 1
            self.total_w += round(self.power_w)
        self.truth = {"power_w": round(self.power_w), "speed_mps": round(self.speed_mps, 3), "cadence_rpm": 90, "events": self.events}

    def main(self) -> bytes:
        if self.sent % 4 < 2:
            return self.general()
        power = round(self.truth["power_w"])
        return bytes((25, self.events & 0xFF, 90)) + u16(self.total_w) + bytes((power & 0xFF, power >> 8 & 0x0F, self.state << 4))

    def command(self, payload: bytes) -> None:
        self.mode = payload[0]
        if self.mode == BASIC:
            self.resistance_pct = payload[7] / 2
        elif self.mode == TARGET_POWER:
            self.target_w = int.from_bytes(payload[6:8], "little") / 4
        elif self.mode == TRACK:
            self.grade_pct = int.from_bytes(payload[5:7], "little") / 100 - 200


class Treadmill(Equipment):
    """A treadmill (type 19): pages 16, 17 (slope) and 19. It takes no command of ours."""

    kind = 19

    def __init__(self, number: int, transmission: int = 5) -> None:
        super().__init__(number, transmission)
        self.incline_pct = 1.5

    def advance(self, t_us: int) -> None:
        dt_s = (t_us - self.at_us) / 1e6
        self.at_us = t_us
        self.speed_mps = round(self.wobble(t_us, 2.9, 0.4, 120), 3)
        self.distance_m += self.speed_mps * dt_s
        self.truth = {"speed_mps": self.speed_mps, "incline_pct": self.incline_pct}

    def main(self) -> bytes:
        if self.sent % 4 == 2:
            return bytes((17, 255, 255, 255)) + u16(round(self.incline_pct * 100)) + bytes((255, self.state << 4))
        if self.sent % 4 == 3:
            climb = int(self.distance_m * self.incline_pct / 100 * 10) & 0xFF
            return bytes((19, 255, 255, 255, 80, 0, climb, 0b11 | self.state << 4))
        return self.general()
