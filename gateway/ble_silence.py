"""Silence: what to do with a link that says nothing. Pure; times are the box's monotonic microseconds.

bleak does not notice that the Bluetooth daemon was killed, and some stacks lose a subscription while the link stands. So a link that is
silent for `PERIODS` times its expected period (at least `MIN_US`) is probed with a read: a probe that fails means it is dead. One that
answers and stays silent is connected anew once; if it is silent after that too, the machine has nothing to say (nobody is on it): it is
only probed from then on, ever more seldom.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from typing import Final

PERIODS: Final = 8
MIN_US: Final = 4_000_000
MAX_US: Final = 120_000_000


class Step(StrEnum):
    """What a deadline that passed asks for."""

    WAIT = "wait"
    PROBE = "probe"
    RENEW = "renew"  # drop the client object and connect anew


@dataclass(slots=True)
class Silence:
    """The watch of one link. `renewed`: the link before this one was given up for silence although it answered, and nothing came since."""

    allowed_us: int
    looked_us: int
    renewed: bool = False
    probes: int = 0

    def heard(self, now_us: int) -> None:
        """Data came."""
        self.looked_us, self.probes, self.renewed = now_us, 0, False

    @property
    def deadline_us(self) -> int:
        """When to look again."""
        return self.looked_us + min(self.allowed_us << min(max(self.probes - 1, 0), 6), MAX_US)

    def step(self, now_us: int) -> Step:
        """What is due."""
        if now_us < self.deadline_us:
            return Step.WAIT
        return Step.RENEW if self.probes == 1 and not self.renewed else Step.PROBE

    def answered(self, now_us: int) -> None:
        """The probe was answered: the link stands."""
        self.looked_us, self.probes = now_us, self.probes + 1


def allowed_us(periods_ms: tuple[int, ...]) -> int:
    """How long a link may be silent whose profiles report every so many ms (0: no promise)."""
    promised = [period for period in periods_ms if period > 0]
    return min(max(PERIODS * min(promised) * 1000, MIN_US), MAX_US) if promised else MAX_US
