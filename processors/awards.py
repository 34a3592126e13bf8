"""Awards of the efforts on a segment: a record, a place among the first ten, the best three of one's own. Given and taken back.

What an effort is awarded is a function of the efforts that stand and had finished by then, so any order and repetition of the same changes
ends in the same awards: what is removed or kept off was never there. At its finish an effort of the athlete's own best time is `top_10`
when its athlete comes to stand among the first ten of the board, and `record` when first; `own_1` to `own_3` are its place among the
athlete's own efforts, when there was one before. An effort keeps an award when a later one is better.

A change at the end of time looks at one effort; one in the past at the later ones, and only when it is or was among the first ten.
"""

from __future__ import annotations

from bisect import bisect_left, bisect_right, insort
from collections.abc import Iterable
from typing import Final, NamedTuple

from processors.ladder import BySecond, Key

KINDS: Final = ("record", "top_10", "own_1", "own_2", "own_3")  # by bit
PLACES: Final = 10
_RECORD: Final = 1
_TOP: Final = 2
_BOARD: Final = _RECORD | _TOP
_OWN: Final = (4, 8, 16)
_PIECE: Final = 64

Finish = tuple[int, str]  # microseconds, effort id


class Awarded(NamedTuple):
    """The awards of an effort before and after a change, as words in the order of `KINDS`."""

    subject: str
    effort: str
    before: tuple[str, ...]
    after: tuple[str, ...]


class Awards:
    """The awards on one board. `take` and `drop` follow the efforts that count; `changed` says what came of it since it was last asked."""

    def __init__(self, efforts: Iterable[tuple[Key, str]] = ()) -> None:
        self._efforts = {key[2]: (key, subject) for key, subject in efforts}
        self._order = BySecond(key for key, _ in self._efforts.values())
        self._finishes = sorted(_finish(key) for key, _ in self._efforts.values())
        self._of: dict[str, set[str]] = {}
        for effort, (_, subject) in self._efforts.items():
            self._of.setdefault(subject, set()).add(effort)
        self._bits: dict[tuple[str, str], int] = {}  # by subject and effort
        self._top: set[str] = set()  # efforts with an award among the first ten
        self._dropped: set[tuple[str, str]] = set()
        self._taken: set[str] = set()
        self._since: Finish | None = None  # from where the first ten have to be looked at again
        for subject in self._of:
            self._bits.update({(subject, effort): bits for effort, bits in self._own_bits(subject).items() if bits})
        for effort, bits in self._board_bits((-(1 << 63), "")).items():
            place = self._efforts[effort][1], effort
            self._bits[place] = self._bits.get(place, 0) | bits
            self._top.add(effort)

    def take(self, key: Key, subject: str) -> None:
        """An effort counts now."""
        self._seat(key, subject)
        self._taken.add(key[2])

    def drop(self, key: Key, subject: str) -> None:
        """An effort that counted does not any more."""
        effort = key[2]
        del self._efforts[effort]
        self._of[subject].discard(effort)
        self._order.drop(key)
        del self._finishes[bisect_left(self._finishes, _finish(key))]
        self._taken.discard(effort)
        self._dropped.add((subject, effort))
        if self._bits.get((subject, effort), 0) & _BOARD:
            self._look_from(_finish(key))

    def of(self, effort: str) -> tuple[str, ...]:
        """The awards of an effort."""
        held = self._efforts.get(effort)
        return () if held is None else _words(self._bits.get((held[1], effort), 0))

    def changed(self) -> list[Awarded]:
        """Whose awards differ from what was said before: who has none left first, then by effort."""
        if not self._taken and not self._dropped:
            return []
        before: dict[tuple[str, str], int] = {}
        for place in self._dropped:
            if self._efforts.get(place[1], (None, ""))[1] != place[0]:
                self._set(place, 0, before)
        subjects = {subject for subject, _ in self._dropped} | {self._efforts[effort][1] for effort in self._taken}
        for subject in subjects:
            for effort, bits in self._own_bits(subject).items():
                place = subject, effort
                self._set(place, self._bits.get(place, 0) & _BOARD | bits, before)
        for effort in self._taken:
            key, subject = self._efforts[effort]
            if self._comes_in(effort):
                self._look_from(_finish(key))
            else:
                self._set((subject, effort), self._bits.get((subject, effort), 0) & ~_BOARD, before)
        if self._since is not None:
            found_bits = self._board_bits(self._since)
            late = [e for e in self._top if e not in found_bits and e in self._efforts and _finish(self._efforts[e][0]) >= self._since]
            for effort in [*late, *found_bits]:
                place = self._efforts[effort][1], effort
                self._set(place, self._bits.get(place, 0) & ~_BOARD | found_bits.get(effort, 0), before)
        self._taken.clear()
        self._dropped.clear()
        self._since = None
        found = [
            Awarded(subject, effort, _words(was), _words(self._bits.get((subject, effort), 0))) for (subject, effort), was in before.items()
        ]
        return sorted((a for a in found if a.before != a.after), key=lambda a: (a.after != (), a.effort, a.subject))

    def _seat(self, key: Key, subject: str) -> None:
        self._efforts[key[2]] = key, subject
        self._of.setdefault(subject, set()).add(key[2])
        self._order.add(key)
        insort(self._finishes, _finish(key))

    def _set(self, place: tuple[str, str], bits: int, before: dict[tuple[str, str], int]) -> None:
        held = self._bits.get(place, 0)
        if bits == held:
            return
        before.setdefault(place, held)
        if bits & _BOARD:
            self._top.add(place[1])
        elif held & _BOARD:
            self._top.discard(place[1])
        if bits:
            self._bits[place] = bits
        else:
            del self._bits[place]

    def _look_from(self, finish: Finish) -> None:
        self._since = finish if self._since is None else min(self._since, finish)

    def _own_bits(self, subject: str) -> dict[str, int]:
        """The awards among the own efforts of a subject."""
        keys = sorted((self._efforts[effort][0] for effort in self._of.get(subject, ())), key=_finish)
        until: list[Key] = []
        found: dict[str, int] = {}
        for key in keys:
            place = bisect_left(until, key)
            until.insert(place, key)
            found[key[2]] = _OWN[place] if len(until) > 1 and place < len(_OWN) else 0
        return found

    def _first_ten(self, finish: Finish) -> list[tuple[Key, str]]:
        """The board's first ten as it was before a finish."""
        found: list[tuple[Key, str]] = []
        seen: set[str] = set()
        at = 0
        while len(found) < PLACES and (piece := self._order.slice(at, at + _PIECE)):
            at += len(piece)
            for key in piece:
                subject = self._efforts[key[2]][1]
                if subject not in seen and _finish(key) < finish:
                    seen.add(subject)
                    found.append((key, subject))
                    if len(found) == PLACES:
                        break
        return found

    def _comes_in(self, effort: str) -> bool:
        """Whether an effort comes to stand among the first ten at its finish."""
        key, subject = self._efforts[effort]
        return bool(_placed(self._first_ten(_finish(key)), key, subject))

    def _board_bits(self, since: Finish) -> dict[str, int]:
        """The awards among the first ten of all efforts from a finish on, of those that have one."""
        top = self._first_ten(since)
        found: dict[str, int] = {}
        for _, effort in self._finishes[bisect_left(self._finishes, since) :]:
            key, subject = self._efforts[effort]
            if (len(top) < PLACES or key < top[-1][0]) and (bits := _placed(top, key, subject)):
                found[effort] = bits
        return found


def _placed(top: list[tuple[Key, str]], key: Key, subject: str) -> int:
    """Put an effort among the first ten; what it is awarded for that."""
    if len(top) == PLACES and key >= top[-1][0]:
        return 0
    own = next((i for i, row in enumerate(top) if row[1] == subject), None)
    if own is not None:
        if top[own][0] <= key:
            return 0
        del top[own]
    place = bisect_right(top, (key, subject))
    top.insert(place, (key, subject))
    del top[PLACES:]
    return _TOP | _RECORD if place == 0 else _TOP


def _finish(key: Key) -> Finish:
    return key[1] + 1000 * key[0], key[2]


def _words(bits: int) -> tuple[str, ...]:
    return tuple(word for i, word in enumerate(KINDS) if bits >> i & 1)
