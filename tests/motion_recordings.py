"""Recordings of `../shared/data` as the samples a sensor gives, integers at a steady rate, with their truth. Where they are not there, there are none.

Steps: a phone's acceleration, two foot switches (a step is a rising edge of either). Repetitions: their number. Pulse: light of a fingertip, and what HeartPy
makes of it (`vectors/heartpy.json`).
"""

from __future__ import annotations

import csv
import functools
import gzip
import json
from bisect import bisect_right
from collections.abc import Sequence
from pathlib import Path

DATA = Path(__file__).resolve().parents[2] / "shared" / "data"
HEARTPY = Path(__file__).parent / "vectors" / "heartpy.json"
STANDARD_GRAVITY = 9.80665
Sample = tuple[int, int, int]

STEPS = tuple(sorted(folder.name for folder in DATA.glob("steps/*")))
REPS = {"10_pullups_accelerometer_iphone_4s_01": 10, "50_pushups_accelerometer_iphone_6": 50}
# Its name says 1, but it holds a movement of 1 s that repeats for 48 s without a pause: 49 tops on the axis that swings most (a plain turn finder with any threshold
# from 100 to 300 mg finds 48 to 50). We take the 1 for the number of the recording.
NAMED_ONE = ("1_pushup", 49)


@functools.cache
def step_recording(name: str, rate_hz: int = 100) -> tuple[tuple[Sample, ...], tuple[float, ...]]:
    """Thousandths of g at `rate_hz`, interpolated, and the times of steps in seconds from the start."""
    rows = [line.split(",") for line in _unpacked(name, "accelerometer")]
    times = [int(row[0]) for row in rows]
    values = [[float(cell) / STANDARD_GRAVITY * 1000 for cell in row[2:5]] for row in rows]
    steps: list[float] = []
    before = ["1", "1"]
    for row in (line.split(",") for line in _unpacked(name, "stepcounter")):
        steps += [(int(row[0]) - times[0]) / 1e9 for old, new in zip(before, row[1:3], strict=True) if new > old]
        before = row[1:3]
    return tuple(_at_rate(times, values, rate_hz)), tuple(steps)


@functools.cache
def rep_recording(name: str) -> tuple[tuple[Sample, ...], ...]:
    """Thousandths of g at 10 Hz; one piece where the clock jumps by seconds."""
    second = 1.0 if name.startswith("10_pull") else 1000.0
    pieces: list[list[Sample]] = []
    before = None
    for row in csv.reader((DATA / "reps" / f"{name}.csv").read_text().splitlines()):
        if not row or not row[0][:1].isdigit():
            continue
        at = float(row[0]) / second
        if before is None or at - before > 2:
            pieces.append([])
        before = at
        x, y, z = (int(float(cell) * 1000) for cell in row[1:4])
        pieces[-1].append((x, y, z))
    return tuple(map(tuple, pieces))


@functools.cache
def pulse_recording(name: str) -> tuple[int, ...]:
    """Light at 50 Hz."""
    lines = (DATA / "ppg" / f"{name}.csv").read_text().split()
    if name == "data":  # 100 Hz
        times = [10_000 * i for i in range(len(lines))]
        values = [[float(line)] for line in lines]
    else:
        rows = [line.split(",") for line in lines[1:]]
        times = [int(float(row[0]) * 1000) for row in rows]
        values = [[float(row[1])] for row in rows]
    return tuple(value for (value,) in _at_rate(times, values, 50, 1_000_000))


def heartpy() -> dict[str, dict[int, float | None]]:
    """By recording: beats a minute of the eight seconds that end at a second, as HeartPy says; None where that is no heart rate."""
    return {name: {int(at): bpm for at, bpm in windows.items()} for name, windows in json.loads(HEARTPY.read_text())["windows"].items()}


def _unpacked(name: str, what: str) -> list[str]:
    return gzip.decompress((DATA / "steps" / name / f"{what}.csv.gz").read_bytes()).decode().split()


def _at_rate(times: Sequence[int], values: Sequence[Sequence[float]], rate_hz: int, unit: int = 1_000_000_000) -> list[tuple[int, ...]]:
    made: list[tuple[int, ...]] = []
    for i in range((times[-1] - times[0]) * rate_hz // unit):
        at = times[0] + i * unit // rate_hz
        j = bisect_right(times, at) - 1
        k = min(j + 1, len(times) - 1)
        part = (at - times[j]) / (times[k] - times[j]) if k > j else 0.0
        made.append(tuple(int(a * (1 - part) + b * part) for a, b in zip(values[j], values[k], strict=True)))
    return made
