"""One order on its way through a machine's session, and a stop that the box wants by itself. State without rules."""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass, field
from typing import Final

from broker.commands import CommandReason, CommandState, NoticeReason, Order, Plain, Target
from gateway.machine_effects import Replied

_SAME_MPS: Final = 1e-3


@dataclass(slots=True)
class Ramp:
    """A belt's speed on its way: from `at_mps` to `to_mps` by at most `step_mps` a second, but not below what the belt knows."""

    at_mps: float
    to_mps: float
    step_mps: float
    low_mps: float = 0.0

    @property
    def there(self) -> bool:
        return self.at_mps == self.to_mps

    def next(self) -> Target:
        """One step further; the last one is exact."""
        at_mps = min(max(self.to_mps, self.at_mps - self.step_mps), self.at_mps + self.step_mps)
        at_mps = max(at_mps, min(self.low_mps, self.to_mps))
        self.at_mps = self.to_mps if abs(at_mps - self.to_mps) < _SAME_MPS else at_mps
        return Target(action="speed_mps", value=self.at_mps)


@dataclass(slots=True)
class Job:
    """`ident` empty: the box's own. `steps` are the messages still to be taken by the machine; `sent` counts what went out."""

    order: Order
    ident: str
    expires_s: float
    steps: deque[bytes] = field(default_factory=deque[bytes])
    ramp: Ramp | None = None
    sent: int = 0
    taken: bool = False  # the machine took a message of it
    control_retried: bool = False
    repeated: bool = False
    began_moving: bool = False  # it is the one that made a stop owed
    released: bool = False  # a stop the machine does not know: its load is taken off instead

    @property
    def stops(self) -> bool:
        return self.order.action == "stop"

    @property
    def moves(self) -> bool:
        """Whether it may set the machine in motion or load it."""
        return not isinstance(self.order, Plain) or self.order.action in {"start", "spindown"}

    def refused(self, reason: CommandReason, detail: str = "") -> Replied:
        """It was not carried out."""
        return Replied(self.ident, CommandState.REFUSED, reason, detail)

    def ended(self, reason: CommandReason) -> Replied:
        """It ends half way: lost once something of it was sent, refused before."""
        return Replied(self.ident, CommandState.LOST if self.sent else CommandState.REFUSED, reason)


@dataclass(slots=True)
class Stopping:
    """Why the box stops the machine, and until when it tries."""

    reason: NoticeReason
    until_s: float
    told_owed: bool = False
    told_failed: bool = False
