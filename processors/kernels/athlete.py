"""Athlete: one sample through all kernels, and batches of frames of many athletes.

Cut a stream of samples into batches as you like: the rows come out the same.
"""

from __future__ import annotations

from processors.kernels.backwards import Steps
from processors.kernels.beats import interval
from processors.kernels.climb import rise
from processors.kernels.compiled import Row, compiled
from processors.kernels.heart import beat
from processors.kernels.load import strain
from processors.kernels.plane import east_of, north_of, place, usable
from processors.kernels.position import ABSENT, LATE, feed
from processors.kernels.power import push
from processors.kernels.travel import filtered_mps, move

NOTHING = float("nan")


@compiled
def take(
    row: Row, way: Row, climbing: Row, person: Row, t: float, lat: float, lon: float, accuracy_m: float, speed_mps: float,
    altitude_m: float, bpm: float, rr_ms: float, watts: float,
) -> int:  # fmt: skip
    """Take a sample at `t` seconds (positions in 1e-7 degrees, absent is NaN); the outcome of its position (`position`).

    `way`, `climbing` and `person` are tunings of `position`, `climb` and `load`.
    """
    if usable(lat, lon) == 1:
        place(row, lat, lon)
        outcome = feed(row, way, t, east_of(row, lon), north_of(row, lat), accuracy_m, speed_mps, row, 0)
    else:
        outcome = feed(row, way, t, NOTHING, NOTHING, accuracy_m, speed_mps, row, 0)
    if speed_mps == speed_mps:
        move(row, t, speed_mps)
    elif outcome != LATE and outcome != ABSENT:
        move(row, t, filtered_mps(row, way))
    if altitude_m == altitude_m:
        rise(row, climbing, t, altitude_m)
    if bpm == bpm:
        strain(row, person, t, beat(row, t, bpm))
    if rr_ms == rr_ms:
        interval(row, rr_ms)
    if watts == watts:
        push(row, t, watts)
    return outcome


@compiled
def run(
    rows: Steps, slots: Row, ends: Row, frames: int, way: Row, climbing: Row, person: Row, t: Row, lat: Row, lon: Row, accuracy_m: Row,
    speed_mps: Row, altitude_m: Row, bpm: Row, rr_ms: Row, watts: Row,
) -> None:  # fmt: skip
    """Frames in order: the samples up to `ends[f]` (exclusive, from where the frame before ended) are of the athlete `slots[f]`."""
    i = 0
    for f in range(frames):
        row = rows[int(slots[f])]
        while i < int(ends[f]):
            take(row, way, climbing, person, t[i], lat[i], lon[i], accuracy_m[i], speed_mps[i], altitude_m[i], bpm[i], rr_ms[i], watts[i])
            i += 1
