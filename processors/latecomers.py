"""Partitions of the live stage that were opened behind changes of reference data: who had them last may have told of records since their
checkpoint, by what it knew then.

So they do those records again by the reference data of their checkpoint, which comes to the same words, and take the changes behind them.
How far that other replica came nobody knows; no further than the partition reaches now.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Collection, Iterator
from dataclasses import dataclass, field
from typing import Final, Generic, Protocol, TypeVar

from processors.partition_reach import Reach
from processors.reference_data import ReferenceData

QUIET_S: Final = 30.0  # the last offsets of a partition may be marks of transactions, which never come: so long nothing is taken then


class Follower(Protocol):
    """What a partition says of itself."""

    partition: int
    next: int
    """Behind the last record that it took; 0 before the first."""


F = TypeVar("F", bound=Follower)


@dataclass(slots=True)
class _Waiting:
    reach: Reach | None = None
    seen: int = 0
    asked_s: float = field(default_factory=time.monotonic)
    quiet_s: float = 0.0

    def in_vain(self, at: int) -> bool:
        """Whether nothing was taken for too long, by one who was there to take it."""
        now_s = time.monotonic()
        self.quiet_s = self.quiet_s + min(now_s - self.asked_s, 1.0) if at == self.seen else 0.0
        self.seen, self.asked_s = at, now_s
        return self.quiet_s >= QUIET_S


class Latecomers(Generic[F]):
    """Those that know reference data up to the same change, and what they look up in."""

    def __init__(self, reference: ReferenceData) -> None:
        self.reference = reference
        self._waiting: dict[int, tuple[F, _Waiting]] = {}

    def add(self, follower: F) -> None:
        """Wait for a partition that was opened."""
        self._waiting[follower.partition] = follower, _Waiting()

    def keep(self, held: Collection[F]) -> None:
        """Forget those that are not held any more."""
        self._waiting = {n: (follower, waiting) for n, (follower, waiting) in self._waiting.items() if follower in held}

    def __iter__(self) -> Iterator[F]:
        return (follower for follower, _ in self._waiting.values())

    def are_done(self, reach: Callable[[int], Reach | None]) -> bool:
        """Whether all have done again what may have been told."""
        for partition, (follower, waiting) in self._waiting.items():
            if waiting.reach is None:
                waiting.reach = reach(partition)
            if waiting.reach is None:
                return False
            if max(follower.next, waiting.reach.next) < waiting.reach.end and not waiting.in_vain(follower.next):
                return False
        return True
