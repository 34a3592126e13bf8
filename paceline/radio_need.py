"""How many Bluetooth adapters or ANT+ sticks a room needs. Pure.

Bluetooth: every sensor takes a link, and an adapter holds `slots` of them (5 to 7 on common dongles; the limit is the adapter's own).
ANT+: a stick that scans hears the whole room, there are no links; what limits it is the air. A sensor sends about 4 packets a second of
about 150 us on one frequency, so of N sensors a packet meets another one with probability 1 - exp(-2 * N * 4.06/s * 150 us) (pure ALOHA).
A lost packet costs little, as the next one says the same and counts go on.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Final

PACKETS_PER_S: Final = 32768 / 8070  # the heart rate profile, the most frequent one
ON_AIR_S: Final = 150e-6


@dataclass(frozen=True, slots=True)
class Need:
    """What `sensors` need: Bluetooth adapters with `slots` links each, or ANT+ sticks; `collided` is the share of ANT+ packets lost."""

    sensors: int
    slots: int
    adapters: int
    sticks: int
    collided: float

    @property
    def words(self) -> str:
        """One line for an operator."""
        adapters = f"{self.adapters} Bluetooth adapter{'' if self.adapters == 1 else 's'} of {self.slots} links each"
        sticks = f"{self.sticks} ANT+ stick{'' if self.sticks == 1 else 's'}"
        lost = f" ({100 * self.collided:.0f} % of the packets collide on the air)" if self.sticks else ""
        return f"{self.sensors} sensors need {adapters}, or {sticks}{lost}"


def need_of(sensors: int, slots: int) -> Need:
    """What a room with so many sensors needs. ValueError for a negative count or no slot."""
    if sensors < 0 or slots < 1:
        raise ValueError(f"{sensors} sensors with {slots} links: give 0 or more sensors and at least 1 link")
    collided = 1 - math.exp(-2 * sensors * PACKETS_PER_S * ON_AIR_S)
    return Need(sensors, slots, -(-sensors // slots), 1 if sensors else 0, collided)
