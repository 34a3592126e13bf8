"""A ladder: one key per subject in rank order, kept sorted under single changes.

A key is (elapsed_ms, start_us, effort id): the earlier effort holds a tie, and nothing is left to chance. Equal elapsed times share a rank;
the next rank counts all above (1, 1, 3). A small ladder is one sorted list; a large one keeps a sorted list for each second and counts of
each second, minute and hour: finding and changing stay at about a microsecond with a million athletes.
"""

from __future__ import annotations

from bisect import bisect_left, bisect_right, insort
from collections.abc import Iterable
from typing import Final, Protocol

from broker.errors import BadInputError

Key = tuple[int, int, str]  # elapsed_ms, start_us, effort id
LARGE: Final = 10_000  # keys from which a ladder keeps its keys by second; below half of it, in one list again
LAST_S: Final = 2 * 86_400  # slower keys than that share a list


class Order(Protocol):
    """Keys in order, by place from 0."""

    def __len__(self) -> int: ...
    def add(self, key: Key) -> None: ...
    def drop(self, key: Key) -> None: ...
    def below(self, key: tuple[int] | Key) -> int: ...
    def upto(self, key: Key) -> int: ...
    def slice(self, first: int, last: int) -> list[Key]: ...


class InOneList:
    """A flat sorted list."""

    def __init__(self, keys: Iterable[Key]) -> None:
        self._keys = sorted(keys)

    def __len__(self) -> int:
        return len(self._keys)

    def add(self, key: Key) -> None:
        """One more key."""
        insort(self._keys, key)

    def drop(self, key: Key) -> None:
        """A key that is here goes."""
        del self._keys[bisect_left(self._keys, key)]

    def below(self, key: tuple[int] | Key) -> int:
        """How many keys come before one; (elapsed_ms,) comes before all of that time."""
        return bisect_left(self._keys, key)

    def upto(self, key: Key) -> int:
        """How many keys come before one or are it."""
        return bisect_right(self._keys, key)

    def slice(self, first: int, last: int) -> list[Key]:
        """Keys from one place up to another (exclusive), both 0 or more."""
        return self._keys[first:last]


class BySecond:
    """A sorted list for each second, and how many there are in each second, minute and hour."""

    def __init__(self, keys: Iterable[Key]) -> None:
        self._rows: dict[int, list[Key]] = {}
        self._seconds, self._minutes, self._hours = [0] * 3600, [0] * 60, [0]
        self._size = 0
        for key in sorted(keys):
            second = _second(key)
            self._rows.setdefault(second, []).append(key)
            self._count(second, 1)

    def __len__(self) -> int:
        return self._size

    def add(self, key: Key) -> None:
        """One more key."""
        second = _second(key)
        insort(self._rows.setdefault(second, []), key)
        self._count(second, 1)

    def drop(self, key: Key) -> None:
        """A key that is here goes."""
        second = _second(key)
        row = self._rows[second]
        del row[bisect_left(row, key)]
        if not row:
            del self._rows[second]
        self._count(second, -1)

    def below(self, key: tuple[int] | Key) -> int:
        """How many keys come before one; (elapsed_ms,) comes before all of that time."""
        second = _second(key)
        return self._before(second) + bisect_left(self._rows.get(second, ()), key)

    def upto(self, key: Key) -> int:
        """How many keys come before one or are it."""
        second = _second(key)
        return self._before(second) + bisect_right(self._rows.get(second, ()), key)

    def slice(self, first: int, last: int) -> list[Key]:
        """Keys from one place up to another (exclusive), both 0 or more."""
        if first >= min(last, self._size):
            return []
        second, skipped = self._at(first)
        wanted = last - first
        found = self._rows[second][skipped : skipped + wanted]
        while len(found) < wanted and (second := second + 1) < len(self._seconds):
            if self._seconds[second]:
                found += self._rows[second][: wanted - len(found)]
        return found

    def _count(self, second: int, by: int) -> None:
        while second >= len(self._seconds):
            self._seconds += [0] * 3600
            self._minutes += [0] * 60
            self._hours.append(0)
        self._seconds[second] += by
        self._minutes[second // 60] += by
        self._hours[second // 3600] += by
        self._size += by

    def _before(self, second: int) -> int:
        minute, hour = second // 60, second // 3600
        return sum(self._hours[:hour]) + sum(self._minutes[hour * 60 : minute]) + sum(self._seconds[minute * 60 : second])

    def _at(self, place: int) -> tuple[int, int]:
        """The second of a place that is there, and the place within it."""
        at = 0
        for counts in (self._hours, self._minutes, self._seconds):
            at *= 60
            while place >= counts[at]:
                place -= counts[at]
                at += 1
        return at, place


def _second(key: tuple[int] | Key) -> int:
    return min(max(key[0], 0) // 1000, LAST_S)


class Ladder:
    """The rows of one view."""

    def __init__(self, seats: Iterable[tuple[str, Key]] = ()) -> None:
        self._seats = dict(seats)
        keys = self._seats.values()
        self._order: Order = BySecond(keys) if len(keys) >= LARGE else InOneList(keys)

    def __len__(self) -> int:
        return len(self._seats)

    def put(self, subject: str, key: Key | None) -> None:
        """Seat a subject with its best key; None takes it off."""
        held = self._seats.get(subject)
        if held == key:
            return
        if held is not None:
            self._order.drop(held)
            del self._seats[subject]
        if key is not None:
            self._order.add(key)
            self._seats[subject] = key
        if isinstance(self._order, InOneList):
            if len(self) >= LARGE:
                self._order = BySecond(self._seats.values())
        elif len(self) < LARGE // 2:
            self._order = InOneList(self._seats.values())

    def key_of(self, subject: str) -> Key | None:
        """The key a subject stands here with."""
        return self._seats.get(subject)

    def rank(self, key: Key) -> int:
        """1 + how many here are strictly faster; the key need not be here."""
        return self._order.below((key[0],)) + 1

    def index(self, key: Key) -> int:
        """The place in the list, from 0: ties in order of their start."""
        return self._order.below(key)

    def index_after(self, key: Key) -> int:
        """The place behind a key, whether it is here (still) or not."""
        return self._order.upto(key)

    def slice(self, first: int, last: int) -> list[Key]:
        """Keys from one place up to another (exclusive); places outside are cut off."""
        return self._order.slice(max(first, 0), max(last, 0))

    def leader(self) -> Key | None:
        """The first key."""
        return next(iter(self._order.slice(0, 1)), None)

    def last(self) -> Key | None:
        """The last key."""
        return next(iter(self.slice(len(self) - 1, len(self))), None)

    def next_faster(self, key: Key) -> Key | None:
        """The slowest key that is strictly faster; the latest of them when several tie."""
        place = self.rank(key) - 2
        return self.slice(place, place + 1)[0] if place >= 0 else None

    def percentile_ms(self, percent: int) -> int | None:
        """The time that `percent` (1-100) of all here reach at least (nearest rank), None when nobody stands here."""
        place = -(-len(self) * percent // 100) - 1
        return self.slice(place, place + 1)[0][0] if len(self) else None


def encode_cursor(key: Key) -> str:
    """A key as text that is safe in a URL when the effort id is."""
    return f"{key[0]}.{key[1]}.{key[2]}"


def decode_cursor(text: str) -> Key:
    """Inverse of `encode_cursor`; BadInputError for anything else."""
    parts = text.split(".", 2)
    try:
        return int(parts[0]), int(parts[1]), parts[2]
    except (ValueError, IndexError) as error:
        raise BadInputError(f"cursor {text[:80]!r} is not one of ours", cure="pass the cursor of the page before, or none") from error
