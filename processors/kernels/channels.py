"""Channels: heart rate, beat intervals and power of a whole recording through their kernels, with what is believed of each sample."""

from __future__ import annotations

import math
from typing import Final

from processors.kernels.beats import interval
from processors.kernels.compiled import Row, compiled
from processors.kernels.heart import beat
from processors.kernels.load import strain
from processors.kernels.power import push

SILENCE_S: Final = 3.0  # longer than any normal interval, with room for packets of several


@compiled
def hearts(row: Row, person: Row, t: Row, bpm: Row, n: int, believed: Row) -> None:
    """`n` heart rates at rising seconds, with the strain of each on a `person` (`load`); NaN where none is believed."""
    for i in range(n):
        believed[i] = beat(row, t[i], bpm[i])
        strain(row, person, t[i], believed[i])


@compiled
def intervals(row: Row, t: Row, rr_ms: Row, n: int) -> None:
    """`n` beat intervals of one strap at rising seconds; what comes after a silence of over SILENCE_S does not succeed what was before."""
    for i in range(n):
        if i > 0 and t[i] - t[i - 1] > SILENCE_S:
            interval(row, math.nan)
        interval(row, rr_ms[i])


@compiled
def powers(row: Row, t: Row, watts: Row, n: int, believed: Row) -> None:
    """`n` powers at rising seconds."""
    for i in range(n):
        believed[i] = push(row, t[i], watts[i])
