"""What is seen of the frames of a load somewhere behind: each once, with how long it took since it was due.

Whoever looks names an athlete and the time of a sample; the plan of the load says when the frame with that sample was due, so nothing
is kept of what was sent. Pure, but for the clock of `news_s`.
"""

from __future__ import annotations

import time

from simulators.load_plan import LoadPlan
from simulators.load_report import PartTimes, Watched


class Sightings:
    """What is seen of the frames of a load in one part, each counted once. Pure but for the time it is told."""

    def __init__(self, plan: LoadPlan, from_us: int, *, newest_only: bool = False, may_double: bool = False) -> None:
        """`newest_only`: one that is seen stands for those of its athlete before it."""
        self.watched = Watched(PartTimes(plan.start_us, from_us), may_double=may_double)
        self.news_s = time.monotonic()
        self._plan = plan
        self._first_us: dict[str, int | None] = {}
        self._seen: dict[str, int] = {}  # a bit a frame; the last frame where only the newest is shown
        self._newest_only = newest_only
        self._told: set[str] = set()

    @property
    def complete(self) -> bool:
        """Whether every frame is seen: where only the newest is shown, one may be passed over by an athlete that rested."""
        return not self._newest_only or self._plan.shape == "steady"

    @property
    def frame_us(self) -> int:
        return self._plan.frame_us

    def first_us(self, subject: str) -> int | None:
        """When the first frame of a subject of the load was due; None for somebody else's."""
        if subject not in self._first_us:
            place = self._plan.place_of(subject)
            self._first_us[subject] = None if place is None else self._plan.first_us(*place)
        return self._first_us[subject]

    def see(self, subject: str, t_us: int, now_us: int, *, again: bool = False) -> None:
        """The frame of `subject` whose last sample is at `t_us` is there; `again`: as what was there is told anew, and no repeat."""
        first_us = self.first_us(subject)
        if first_us is None:
            return
        number, rest = divmod(t_us - first_us, self._plan.frame_us)
        if rest or number < 0:
            self.watched.strange += not again
        elif self._newest_only:
            self._overtake(subject, first_us, number, now_us)
        else:
            bit, seen = 1 << number, self._seen.get(subject, 0)
            if seen & bit:
                self.watched.doubled += not again
            else:
                self._seen[subject] = seen | bit
                self._count(t_us, now_us)

    def _overtake(self, subject: str, first_us: int, number: int, now_us: int) -> None:
        before = self._seen.get(subject, -1)
        for passed in range(before + 1, number + 1) if self._plan.shape == "steady" else range(number, number + (number > before)):
            self._count(first_us + passed * self._plan.frame_us, now_us)
        self._seen[subject] = max(before, number)

    def _count(self, due_us: int, now_us: int) -> None:
        self.watched.seen += 1
        self.watched.times.record(due_us, now_us)
        self.news_s = time.monotonic()

    def happened(self, name: str, subject: str, t_us: int, now_us: int) -> None:
        """An event `name` of its own tells of the instant `t_us` of a subject: it counts from when the frame with that instant was due."""
        due_us = self._plan.due_after(subject, t_us)
        if due_us is None:
            return
        if name in self._told:
            self.watched.doubled += 1
        else:
            self._told.add(name)
            self._count(due_us, now_us)
