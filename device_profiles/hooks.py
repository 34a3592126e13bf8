"""Where data stops: one named function per profile at most, called with every packet after the table and before rates and samples.

A hook adds to `fields`, or changes them; `state` is a dict of its own that lives as long as the reader. It raises nothing, whatever the
bytes are.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from typing import Final

from device_profiles.values import Value

Hook = Callable[[bytes, dict[str, Value], dict[str, object]], None]


def crank_torque_frequency(payload: bytes, fields: dict[str, Value], state: dict[str, object]) -> None:
    """ANT+ power, page 32: power and cadence from the frequency of torque ticks. The offset is that of a calibration (page 1).

    torque = (ticks / time - offset) / slope; power = torque * 2 pi * events / time. Times are in 1/2000 s; all counters roll over.
    """
    del payload
    offset = state["offset"] = fields.get("offset_hz", state.get("offset"))
    slope = fields.get("slope_hzpnm")
    spans: list[float] = []
    for name, wrap in (("torque_events", 256), ("torque_time_s", 32.768), ("torque_ticks", 65536)):
        now, last = fields.get(name), state.get(name)
        if not isinstance(now, int | float):
            return
        state[name] = now
        spans += [(now - last) % wrap] if isinstance(last, int | float) else []
    if len(spans) < 3 or not 0 < spans[0] < 128 or not spans[1]:
        return
    turns_per_s = spans[0] / spans[1]
    fields["cadence_rpm"] = 60 * turns_per_s
    if isinstance(offset, int) and isinstance(slope, int | float) and slope:
        fields["power_w"] = max(0.0, (spans[2] / spans[1] - offset) / slope) * 2 * math.pi * turns_per_s


HOOKS: Final[Mapping[str, Hook]] = {"crank_torque_frequency": crank_torque_frequency}
