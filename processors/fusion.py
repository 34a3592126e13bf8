"""Fusion: whose samples of a channel count (decision 0006).

An athlete's origins become one: of each channel one source counts at a time. The order that decides is that of the samples' times, so a
sample whose arrival order disagrees is *late*, and the stage runs the activity again.
"""

from __future__ import annotations

from typing import Any, Final

from processors.kernels.compiled import compiled
from processors.live_row import NEVER

HOLD_US: Final = 10_000_000  # silence of a source before another one of the athlete takes over

REJECTED: Final = 0  # another source counts
TAKEN: Final = 1
SWITCHED: Final = 2  # taken, and another source counted before
LATE: Final = -1

ORG: Final = 0  # of the three columns of a channel: whose samples count,
RUN: Final = 1  # since when,
LAST: Final = 2  # the last one


@compiled
def accepts(st: Any, channel: int, t: int, org: int) -> int:
    """Whether the channel (its first column) takes this sample.

    A new run begins when the source changes or was silent for long: what another source measured before it may have taken over, so that is
    late. At the very instant a run began the canonical order decides whose it is, so another source's sample there counts as late too.
    """
    last = st[channel + LAST]
    if last == NEVER:
        st[channel + ORG] = org
        st[channel + RUN] = t
        st[channel + LAST] = t
        return TAKEN
    if org == st[channel + ORG]:
        if t <= last:
            return LATE
        if t - last > HOLD_US:
            st[channel + RUN] = t
        st[channel + LAST] = t
        return TAKEN
    if t > last:
        if t - last <= HOLD_US:
            return REJECTED
        st[channel + ORG] = org
        st[channel + RUN] = t
        st[channel + LAST] = t
        return SWITCHED
    return REJECTED if t > st[channel + RUN] else LATE
