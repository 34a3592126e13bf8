"""Boards: rankings that take versioned mutations, idempotent and order-safe.

Any permutation and repetition of the same mutations gives the same board: per (subject, activity) the highest version wins, and a removal
keeps its version as a tombstone. A subject stands on the board with its latest activity. Equal values share a rank; ties are listed by
subject.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final

from processors.stage import Mutation

BY: Final = ("distance", "points")


@dataclass(frozen=True, slots=True)
class Standing:
    """One line of a board."""

    rank: int
    subject: str
    activity_us: int
    distance_um: int
    points: int


class Board:
    """One board in memory."""

    def __init__(self) -> None:
        self._entries: dict[str, dict[int, Mutation]] = {}

    def apply(self, mutation: Mutation) -> bool:
        """Take a mutation; False when a newer or the same version is there already."""
        activities = self._entries.setdefault(mutation.subject, {})
        held = activities.get(mutation.activity_us)
        if held is not None and held.version >= mutation.version:
            return False
        activities[mutation.activity_us] = mutation
        return held is None or _value(held) != _value(mutation)

    def latest(self) -> Iterator[Mutation]:
        """The entry each subject stands on the board with."""
        for activities in self._entries.values():
            standing = [m for m in activities.values() if not m.removed]
            if standing:
                yield max(standing, key=lambda m: m.activity_us)

    def standings(self, by: str = "distance") -> list[Standing]:
        """All lines, best first."""
        column = _column(by)
        lines = sorted(self.latest(), key=lambda m: (-column(m), m.subject))
        made: list[Standing] = []
        for i, m in enumerate(lines):
            rank = made[-1].rank if made and column(lines[i - 1]) == column(m) else i + 1
            made.append(Standing(rank, m.subject, m.activity_us, m.distance_um, m.points))
        return made


def _value(m: Mutation) -> tuple[int, int, bool]:
    return m.distance_um, m.points, m.removed


def _distance(m: Mutation) -> int:
    return m.distance_um


def _points(m: Mutation) -> int:
    return m.points


def _column(by: str):  # noqa: ANN202 - one of the two functions above
    if by not in BY:
        raise ValueError(f"no board order {by!r}: use one of {', '.join(BY)}")
    return _distance if by == "distance" else _points
