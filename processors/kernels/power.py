"""Power: watts without spikes, work, and normalised power.

A reading far above the usual (twice it and 500 W more, or above 2,500 W) is in doubt and the last one stands: when the next one agrees,
that counts, else it was a spike. Above 3,000 W nothing is believed. Normalised power (Allen, Coggan, McGregor, Training and Racing
with a Power Meter, 2019, chapter 7): the fourth root of the mean fourth power of the 30 s moving average, by whole seconds, zeros
included. A reading counts until the next one, at most HOLD_S; after that nobody pedals. Outcomes: absent or negative: no reading; time
not later: nothing changes.
"""

from __future__ import annotations

import math
from typing import Final

from processors.kernels.columns import (
    DOUBT_W,
    FOURTHS,
    POWER_T,
    POWER_W,
    RING,
    RING_N,
    RING_S,
    SECOND,
    SECOND_J,
    TYPICAL_W,
    WORK_J,
)  # fmt: skip
from processors.kernels.compiled import Row, compiled

MOST_W: Final = 3_000.0
HOLD_S: Final = 3.0
SILENCE_S: Final = 600.0


@compiled
def push(row: Row, t: float, watts: float) -> float:
    """Take a power at `t` seconds; the one to believe, NaN when none is known."""
    return pedal(row, row, RING, 0.0, t, watts)


@compiled
def pedal(row: Row, ring: Row, at: int, units: float, t: float, watts: float) -> float:
    """The same with the seconds of the ring from `ring[at]` on, to the nearest 1/`units` of a joule (0: as they are)."""
    if t != t or not watts >= 0.0 or (row[POWER_T] == row[POWER_T] and t <= row[POWER_T]):
        return row[POWER_W]
    believed = _believed(row, watts)
    if row[POWER_T] == row[POWER_T] and t - row[POWER_T] <= SILENCE_S:
        _spend(row, ring, at, units, t)
    else:
        row[SECOND], row[SECOND_J] = t, 0.0
    row[POWER_T] = t
    row[POWER_W] = believed
    if row[TYPICAL_W] == row[TYPICAL_W]:
        row[TYPICAL_W] += 0.1 * (believed - row[TYPICAL_W])
    else:
        row[TYPICAL_W] = believed
    return believed


@compiled
def _believed(row: Row, watts: float) -> float:
    """The reading, or the last believed one while it is in doubt."""
    last = row[POWER_W] if row[POWER_W] == row[POWER_W] else 0.0
    if watts > MOST_W:
        return last
    usual = row[TYPICAL_W] if row[TYPICAL_W] == row[TYPICAL_W] else 0.0
    if watts <= max(usual, last) * 2.0 + 500.0 and watts <= 2_500.0:
        row[DOUBT_W] = math.nan
        return watts
    agrees = row[DOUBT_W] == row[DOUBT_W] and watts >= row[DOUBT_W] * 0.5
    row[DOUBT_W] = watts
    return watts if agrees else last


@compiled
def _spend(row: Row, ring: Row, at: int, units: float, t: float) -> None:
    """The last believed power from its time to `t`, into work and the ring, second by second."""
    until = min(t, row[POWER_T] + HOLD_S)
    row[WORK_J] += row[POWER_W] * (until - row[POWER_T])
    now = row[POWER_T]
    while now < t:
        edge = min(row[SECOND] + 1.0, t)
        if now < until:
            row[SECOND_J] += row[POWER_W] * (min(edge, until) - now)
        if edge < row[SECOND] + 1.0:
            return
        _second(row, ring, at, units)
        now = edge
        row[SECOND] = edge


@compiled
def _second(row: Row, ring: Row, at: int, units: float) -> None:
    """A whole second is over: into the ring with it."""
    n = int(row[RING_N])
    place = at + n % RING_S
    if units > 0.0:
        ring[place] = int(row[SECOND_J] * units + 0.5)
    else:
        ring[place] = row[SECOND_J]
    row[SECOND_J] = 0.0
    row[RING_N] += 1.0
    if n + 1 >= RING_S:
        total = 0.0
        for i in range(RING_S):
            total += ring[at + i]
        mean = total / RING_S
        if units > 0.0:
            mean /= units
        row[FOURTHS] += mean * mean * mean * mean


@compiled
def normalised_w(row: Row) -> float:
    """Normalised power; NaN before half a minute."""
    if row[RING_N] < RING_S:
        return math.nan
    return math.sqrt(math.sqrt(row[FOURTHS] / (row[RING_N] - (RING_S - 1.0))))
