"""What a machine's protocol tells `gateway.machine_session`: orders as messages, answers as verdicts, and what it says by itself. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from enum import Enum
from typing import Protocol

from broker.commands import CommandReason, Order
from gateway.limits import Quantity, Span


class Verdict(Enum):
    """What an answer says of a step."""

    TAKEN = "taken"
    AGAIN = "again"  # control is not ours (any more): ask for it and repeat the step
    REFUSED = "refused"


@dataclass(frozen=True, slots=True)
class Judged:
    """A verdict; of a refusal the reason and the machine's own word."""

    verdict: Verdict
    reason: CommandReason | None = None
    detail: str = ""


class Told(Enum):
    """What a machine says unasked, as far as control is concerned."""

    CONTROL_LOST = "control_lost"
    USER_STOPPED = "user_stopped"
    USER_PAUSED = "user_paused"
    SAFETY_KEY = "safety_key"
    STARTED = "started"
    RESET = "reset"


@dataclass(frozen=True, slots=True)
class Said:
    """An event, or a belt speed the machine now aims at, whoever set it."""

    event: Told | None = None
    speed_mps: float | None = None


@dataclass(frozen=True, slots=True)
class Facts:
    """What a machine said of itself when it was asked: its ranges, and the actions it does not have."""

    spans: dict[Quantity, Span]
    missing: frozenset[str] = frozenset()


class MachineDialect(Protocol):
    """One protocol. It keeps no state."""

    @property
    def control(self) -> bytes | None:
        """The request for control that comes before anything else; None: the protocol has no such thing."""
        ...

    def plan(self, order: Order) -> tuple[bytes, ...]:
        """The messages of an order, one after the other; empty when the protocol has no word for it. CommandError: it cannot be said."""
        ...

    def release(self) -> tuple[bytes, ...]:
        """What takes the load off a machine that does not know how to stop."""
        ...

    def judge(self, sent: bytes, answer: bytes) -> Judged:
        """What `answer` says of `sent`."""
        ...

    def heard(self, what: int, payload: bytes) -> Said:
        """What a message that was not asked for says."""
        ...

    def facts(self, answers: Mapping[int, bytes | None]) -> Facts:
        """What the machine says of itself, from what it answered when it was asked (by characteristic or page)."""
        ...

    def undoes(self, order: Order) -> bool:
        """Whether the order, given while it holds already, undoes itself: a start that pauses a belt which runs."""
        ...

    def repeatable(self, sent: bytes) -> bool:
        """Whether a message that was not answered may be sent again: it sets a value, and the second time changes nothing."""
        ...
