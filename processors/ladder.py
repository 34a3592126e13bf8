"""A ladder: one key per subject in rank order, kept sorted under single changes.

A key is (elapsed_ms, start_us, effort id): the earlier effort holds a tie, and nothing is left to chance. Equal elapsed times share a rank;
the next rank counts all above (1, 1, 3). A flat sorted list: finding is a bisection, a change moves pointers.
"""

from __future__ import annotations

from bisect import bisect_left, bisect_right, insort
from collections.abc import Iterable

from broker.errors import BadInputError

Key = tuple[int, int, str]  # elapsed_ms, start_us, effort id


class Ladder:
    """The rows of one view."""

    def __init__(self, seats: Iterable[tuple[str, Key]] = ()) -> None:
        self._seats = dict(seats)
        self._keys = sorted(self._seats.values())

    def __len__(self) -> int:
        return len(self._keys)

    def put(self, subject: str, key: Key | None) -> None:
        """Seat a subject with its best key; None takes it off."""
        held = self._seats.get(subject)
        if held == key:
            return
        if held is not None:
            del self._keys[bisect_left(self._keys, held)]
            del self._seats[subject]
        if key is not None:
            insort(self._keys, key)
            self._seats[subject] = key

    def key_of(self, subject: str) -> Key | None:
        """The key a subject stands here with."""
        return self._seats.get(subject)

    def rank(self, key: Key) -> int:
        """1 + how many here are strictly faster; the key need not be here."""
        return bisect_left(self._keys, (key[0],)) + 1

    def index(self, key: Key) -> int:
        """The place in the list, from 0: ties in order of their start."""
        return bisect_left(self._keys, key)

    def index_after(self, key: Key) -> int:
        """The place behind a key, whether it is here (still) or not."""
        return bisect_right(self._keys, key)

    def slice(self, first: int, last: int) -> list[Key]:
        """Keys from one place up to another (exclusive); places outside are cut off."""
        return self._keys[max(first, 0) : max(last, 0)]

    def leader(self) -> Key | None:
        """The first key."""
        return self._keys[0] if self._keys else None

    def last(self) -> Key | None:
        """The last key."""
        return self._keys[-1] if self._keys else None

    def next_faster(self, key: Key) -> Key | None:
        """The slowest key that is strictly faster; the latest of them when several tie."""
        place = self.rank(key) - 2
        return self._keys[place] if place >= 0 else None


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
