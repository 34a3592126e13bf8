"""The efforts of each athlete that count on a board, best first; of two recordings of the same crossing, one.

Activities of one athlete do not overlap, but two athletes may turn out to be one, each with a recording of the same workout. Of efforts
of different activities that share more than half the time of the shorter one, the better known counts: by phase, then the stated
accuracy, then the id. Which those are is a function of the efforts that stand, so any order ends in the same.
"""

from __future__ import annotations

from bisect import bisect_left, insort
from collections.abc import ItemsView, Iterable
from typing import Final

from processors.awards import Awards
from processors.ladder import Key
from processors.results import Effort

NOTHING: Final[list[Key]] = []


class OwnEfforts:
    """By subject. `awards` follows what counts, when it is set."""

    def __init__(self) -> None:
        self.awards: Awards | None = None
        self._counting: dict[str, list[Key]] = {}
        self._standing: dict[str, dict[str, Effort]] = {}  # by id, those of double recordings too

    def of(self, subject: str) -> list[Key]:
        """The keys of the efforts of a subject that count, best first."""
        return self._counting.get(subject, NOTHING)

    def items(self) -> ItemsView[str, list[Key]]:
        """All subjects with what counts."""
        return self._counting.items()

    def counts(self, effort: Effort) -> bool:
        """Whether an effort that stands counts: it is no second recording of another one."""
        key, own = key_of(effort), self.of(effort.subject)
        place = bisect_left(own, key)
        return place < len(own) and own[place] == key

    def enter(self, effort: Effort) -> None:
        """One more stands."""
        standing = self._standing.setdefault(effort.subject, {})
        others = _beside(effort, standing.values())
        standing[effort.id] = effort
        self._count_again(effort.subject, [*others, effort], [*others, effort])

    def leave(self, effort: Effort) -> None:
        """One that stood does not any more."""
        standing = self._standing[effort.subject]
        del standing[effort.id]
        others = _beside(effort, standing.values())
        self._count_again(effort.subject, [*others, effort], others)
        if not standing:
            del self._standing[effort.subject]

    def _count_again(self, subject: str, before: list[Effort], after: list[Effort]) -> None:
        """Bring up to date what counts of efforts that share no time with any other one."""
        if self.awards is not None:
            self.awards.touch(subject)
        new = {key_of(e) for e in (after if len(after) == 1 else single_recordings(after))}
        old = {key_of(e) for e in before if self.counts(e)}
        for key in sorted(old - new):
            self._drop(subject, key)
        for key in sorted(new - old):
            self._add(subject, key)

    def _add(self, subject: str, key: Key) -> None:
        insort(self._counting.setdefault(subject, []), key)
        if self.awards is not None:
            self.awards.take(key, subject)

    def _drop(self, subject: str, key: Key) -> None:
        own = self._counting[subject]
        del own[bisect_left(own, key)]
        if not own:
            del self._counting[subject]
        if self.awards is not None:
            self.awards.drop(key, subject)


def key_of(effort: Effort) -> Key:
    """What it is ranked by."""
    return effort.elapsed_ms, effort.start_us, effort.id


def _beside(effort: Effort, others: Iterable[Effort]) -> list[Effort]:
    """Those that share time with an effort, or with one that does: nobody else has a say in which of them count."""
    from_us, to_us = effort.start_us, effort.start_us + 1000 * effort.elapsed_ms
    left, found = list(others), list[Effort]()
    while near := [e for e in left if e.start_us < to_us and e.start_us + 1000 * e.elapsed_ms > from_us]:
        found += near
        seen = {e.id for e in near}
        left = [e for e in left if e.id not in seen]
        from_us = min(from_us, *(e.start_us for e in near))
        to_us = max(to_us, *(e.start_us + 1000 * e.elapsed_ms for e in near))
    return found


def single_recordings(efforts: Iterable[Effort]) -> list[Effort]:
    """Without second recordings of the same crossing; of those that share no time with any other, each by itself or together."""
    counting: list[Effort] = []
    for e in sorted(efforts, key=lambda e: (-e.phase, e.accuracy_ms, e.id)):
        if not any(_same_crossing(e, other) for other in counting):
            counting.append(e)
    return counting


def _same_crossing(a: Effort, b: Effort) -> bool:
    if a.activity == b.activity:
        return False
    shared_us = min(a.start_us + 1000 * a.elapsed_ms, b.start_us + 1000 * b.elapsed_ms) - max(a.start_us, b.start_us)
    return 2 * shared_us > 1000 * min(a.elapsed_ms, b.elapsed_ms)
