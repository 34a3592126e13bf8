"""Motion and pulse made by formula, with their truth: for what recordings do not have, and where there are none. Repeatable by seed."""

from __future__ import annotations

import math
import random
from collections.abc import Callable, Sequence

Sample = tuple[int, int, int]


def walk(steps: int, spm: int, rate_hz: int = 100, uneven: float = 0.0, seed: int = 1) -> list[Sample]:
    """Two seconds still, steps with a heel strike each (`uneven`: how much weaker every second one is), two seconds still."""
    dice = random.Random(seed)
    period = 60 * rate_hz / spm

    def magnitude(i: int) -> float:
        step, phase = divmod(i / period, 1.0)
        if not 0 <= step < steps:
            return 1000.0
        strength = 1.0 - uneven * (int(step) % 2)
        return 1000 + strength * (
            260 * math.sin(2 * math.pi * phase) + 90 * math.sin(4 * math.pi * phase) + 400 * math.exp(-(((phase - 0.2) / 0.05) ** 2))
        )

    still = 2 * rate_hz
    return _turned([magnitude(i) for i in range(-still, int(steps * period) + still)], dice, 15)


def stillness(seconds: int, rate_hz: int = 100, noise_mg: int = 15, seed: int = 2) -> list[Sample]:
    """A device that lies on a table."""
    return _turned([1000.0] * (seconds * rate_hz), random.Random(seed), noise_mg)


def exercise(reps: int, seconds_each: float, swing_mg: int = 500, rate_hz: int = 50, seed: int = 3) -> list[Sample]:
    """Five seconds still, an arm that swings `reps` times between two postures, five seconds still."""
    dice = random.Random(seed)
    made: list[Sample] = []
    for i in range(-5 * rate_hz, int((reps * seconds_each + 5) * rate_hz)):
        phase = i / rate_hz / seconds_each
        bend = (1 - math.cos(2 * math.pi * phase)) / 2 if 0 <= phase < reps else 0.0
        made.append(
            (int(-200 + swing_mg * bend + dice.gauss(0, 20)), int(950 - swing_mg * bend / 2 + dice.gauss(0, 20)), int(dice.gauss(100, 20)))
        )
    return made


def pulse(
    seconds: int, bpm: Callable[[float], float], rate_hz: int = 50, noise: float = 10.0, depth: int = 600, seed: int = 4
) -> list[int]:
    """Light through skin, 18 bits: a beat with its second wave, breathing, noise. `bpm` at a time in seconds."""
    dice = random.Random(seed)
    phase = 0.0
    made: list[int] = []
    for i in range(seconds * rate_hz):
        phase += bpm(i / rate_hz) / 60 / rate_hz
        length = min(1.0, 60 / bpm(i / rate_hz))  # of a beat in seconds; the heart's own part of a slow one is no longer
        beat = phase % 1.0 * 60 / bpm(i / rate_hz) / length
        wave = math.exp(-(((beat - 0.25) / 0.1) ** 2)) + 0.35 * math.exp(-(((beat - 0.6) / 0.12) ** 2))
        made.append(int(100_000 + depth * wave + 0.25 * depth * math.sin(2 * math.pi * 0.25 * i / rate_hz) + dice.gauss(0, noise)))
    return made


def _turned(magnitudes: Sequence[float], dice: random.Random, noise_mg: int) -> list[Sample]:
    """As a sensor feels them that hangs askew."""
    x, y, z = 0.48, -0.64, 0.6
    return [
        (int(m * x + dice.gauss(0, noise_mg)), int(m * y + dice.gauss(0, noise_mg)), int(m * z + dice.gauss(0, noise_mg)))
        for m in magnitudes
    ]
