"""Which parts of a process still make progress (pure: time comes in as a function). A watchdog is fed only while none stands still.

The rule: a part that has something to do must beat within its limit, again and again; a part that waits for others to give it something
rests. So a quiet hall is no alarm, and a thread that hangs, dies or waits for ever with work before it is one.
Methods of a `Part` may be called from any thread: each is one assignment.
"""

from __future__ import annotations

from collections.abc import Callable
from math import inf

Clock = Callable[[], float]


class Part:
    """One part. It begins at rest. `limit_s`: the longest time between two signs of progress while there is work."""

    def __init__(self, name: str, limit_s: float, clock: Clock) -> None:
        self.name = name
        self._limit_s = limit_s
        self._clock = clock
        self._due_s = inf

    def work(self) -> None:
        """Something is to be done: the next beat or rest is due within the limit, unless one was due already."""
        if self._due_s == inf:
            self._due_s = self._clock() + self._limit_s

    def beat(self) -> None:
        """Progress was made, and there is more to do."""
        self._due_s = self._clock() + self._limit_s

    def rest(self) -> None:
        """Nothing is left to do."""
        self._due_s = inf

    def late_s(self, now_s: float) -> float:
        """Seconds since its sign of progress was due; 0 or less while all is well."""
        return now_s - self._due_s


class Liveness:
    """All parts of one process."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._parts: dict[str, Part] = {}

    def part(self, name: str, limit_s: float) -> Part:
        """The part of that name, made when it is new."""
        return self._parts.setdefault(name, Part(name, limit_s, self._clock))

    def stalled(self) -> tuple[str, ...]:
        """Names of the parts that stand still, sorted."""
        now_s = self._clock()
        return tuple(sorted(part.name for part in self._parts.values() if part.late_s(now_s) > 0))


def unwatched() -> Part:
    """A part that nobody watches."""
    return Part("unwatched", inf, lambda: 0.0)
