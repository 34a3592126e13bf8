"""Whole: a track of positions filtered forwards and smoothed backwards, in little memory.

The journal of a step is 82 floats, too many to keep for a day of ten fixes a second. So the way forwards keeps the filter's row at the
start of each block only; the way back runs each block once more, notes it, and smooths it in the light of what came after (the adjoint
passes from block to block): the same bits as with one journal of everything.
"""

from __future__ import annotations

from processors.kernels.backwards import Steps, smooth
from processors.kernels.columns import LAST_SPEED
from processors.kernels.compiled import Row, compiled
from processors.kernels.position import feed


@compiled
def smooth_whole(
    t: Row, east: Row, north: Row, accuracy_m: Row, speed_mps: Row, n: int, way: Row, block: int, starts: Steps, row: Row, journal: Steps,
    scratch: Steps, adjoint: Row, smoothed: Steps, outcomes: Row,
) -> None:  # fmt: skip
    """`n` samples, each with a position (seconds strictly rising, metres of a plane; accuracy and speed NaN when absent), parallel columns.

    `way` is a tuning of `position`, `row` a fresh row; `starts` has a row for each block of `block` samples, `journal` `block` rows of STEP
    floats, `scratch` as many of 4, `adjoint` is 6 zeros. `smoothed` gets east, north and their speeds of each sample, `outcomes` the
    filter's.
    """
    for i in range(n):
        if i % block == 0:
            for column in range(LAST_SPEED + 1):
                starts[i // block][column] = row[column]
        outcomes[i] = feed(row, way, t[i], east[i], north[i], accuracy_m[i], speed_mps[i], row, 0)
    first = (n - 1) // block * block
    while first >= 0:
        for column in range(LAST_SPEED + 1):
            row[column] = starts[first // block][column]
        last = min(first + block, n) - 1
        for i in range(first, last + 1):
            feed(row, way, t[i], east[i], north[i], accuracy_m[i], speed_mps[i], journal[i - first], 1)
        smooth(journal, 0, last - first, scratch, adjoint)
        for i in range(first, last + 1):
            for column in range(4):
                smoothed[i][column] = scratch[i - first][column]
        first -= block
