"""Backwards: what is known of a step from all that came after it, out of the journal of the position filter.

The smoother of Bryson and Frazier in Bierman's form (Fixed interval smoothing with discrete measurements, International Journal of Control
18(1), 1973): an adjoint runs back through the very updates and predictions of the filter, so no matrix is inverted and refused fixes, soft
gates and openings are what they were. From the last step of a track it is the smoother of the whole (equal to that of Rauch, Tung and
Striebel); from a later step a few seconds on, it is one of fixed lag.
"""

from __future__ import annotations

from typing import Protocol

from processors.kernels.compiled import Row, compiled
from processors.kernels.position import ELAPSED, FIRST_UPDATE, KEEP, UPDATES


class Steps(Protocol):
    """Rows by number: the journal of a track, or what is made of it."""

    def __getitem__(self, i: int, /) -> Row: ...


@compiled
def smooth(journal: Steps, first: int, last: int, smoothed: Steps, adjoint: Row) -> None:
    """Steps `first`..`last` (inclusive) in the light of all that came after: east, north and their speeds to the rows of `smoothed`.

    `adjoint` (6 floats) is what came after `last`, zeros when nothing did; it is left as that of `first`, for the steps before it.
    """
    x, v, b, y, w, c = adjoint[0], adjoint[1], adjoint[2], adjoint[3], adjoint[4], adjoint[5]
    for i in range(last, first - 1, -1):
        step = journal[i]
        out = smoothed[i]
        # state minus covariance times adjoint; upper triangle by rows from 6
        out[0] = step[0] - (step[6] * x + step[7] * v + step[8] * b + step[9] * y + step[10] * w + step[11] * c)
        out[1] = step[3] - (step[9] * x + step[14] * v + step[18] * b + step[21] * y + step[22] * w + step[23] * c)
        out[2] = step[1] - (step[7] * x + step[12] * v + step[13] * b + step[14] * y + step[15] * w + step[16] * c)
        out[3] = step[4] - (step[10] * x + step[15] * v + step[19] * b + step[22] * y + step[24] * w + step[25] * c)
        if step[ELAPSED] == 0.0:
            x = v = b = y = w = c = 0.0
            continue
        for u in range(int(step[UPDATES]) - 1, -1, -1):
            at = FIRST_UPDATE + 13 * u
            pull = step[at] + (
                step[at + 1] * x + step[at + 2] * v + step[at + 3] * b + step[at + 4] * y + step[at + 5] * w + step[at + 6] * c
            )
            x -= step[at + 7] * pull
            v -= step[at + 8] * pull
            b -= step[at + 9] * pull
            y -= step[at + 10] * pull
            w -= step[at + 11] * pull
            c -= step[at + 12] * pull
        v += step[ELAPSED] * x
        w += step[ELAPSED] * y
        b *= step[KEEP]
        c *= step[KEEP]
    adjoint[0], adjoint[1], adjoint[2], adjoint[3], adjoint[4], adjoint[5] = x, v, b, y, w, c


@compiled
def smooth_lagged(journal: Steps, t_s: Row, n: int, lag_s: float, smoothed: Steps, scratch: Steps, adjoint: Row) -> None:
    """Each of `n` steps in the light of the last one at most `lag_s` later. `scratch` has as many rows as `smoothed`, `adjoint`
    6 floats."""
    last = 0
    for i in range(n):
        last = max(last, i)
        while last + 1 < n and t_s[last + 1] <= t_s[i] + lag_s:
            last += 1
        for column in range(6):
            adjoint[column] = 0.0
        smooth(journal, i, last, scratch, adjoint)
        for column in range(4):
            smoothed[i][column] = scratch[i][column]
