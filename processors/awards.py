"""Awards of the efforts on a segment: a record, a place among the first ten, the best three of one's own. Given and taken back.

What an effort is awarded is a function of the efforts that stand and had finished by then, so any order and repetition of the same changes
ends in the same awards: what is removed or kept off was never there. At its finish an effort of the athlete's own best time is `top_10`
when its athlete comes to stand among the first ten of the board, and `record` when first; `own_1` to `own_3` are its place among the
athlete's own efforts, when there was one before. An effort keeps an award when a later one is better.

A change at the end of time looks at one effort; one in the past at the later ones, and only when it is or was among the first ten. Awards
among the own efforts are not kept: they follow from those when somebody asks.
"""

from __future__ import annotations

from bisect import bisect_left, bisect_right, insort
from collections.abc import Callable, Container, Hashable, Iterable, Iterator, Sequence
from typing import Final, NamedTuple, Protocol

from processors.ladder import BySecond, Key

KINDS: Final = ("record", "top_10", "own_1", "own_2", "own_3")  # by bit
PLACES: Final = 10
_RECORD: Final = 1
_TOP: Final = 2
_BOARD: Final = _RECORD | _TOP
_OWN: Final = (4, 8, 16)
_PIECE: Final = 64

Finish = tuple[int, str]  # microseconds, effort id
Place = tuple[str, str]  # subject, effort id
_FIRST: Final[Finish] = -(1 << 63), ""  # before all others
Row = tuple[Key, Hashable]  # with whose it is: equal for efforts of one athlete


class Awarded(NamedTuple):
    """The awards of an effort before and after a change, as words in the order of `KINDS`."""

    subject: str
    effort: str
    before: tuple[str, ...]
    after: tuple[str, ...]


OWN_KINDS: Final = frozenset(KINDS[2:])
BOARD_KINDS: Final = frozenset(KINDS[:2])


def among(awarded: Awarded, kinds: Container[str]) -> Awarded:
    """What was moved of some kinds."""
    before, after = (tuple(kind for kind in words if kind in kinds) for words in (awarded.before, awarded.after))
    return awarded._replace(before=before, after=after)


class Counting(Protocol):
    """The efforts that count on a board, as awards ask for them."""

    def add(self, key: Key, subject: str) -> None:
        """One more counts."""
        ...

    def remove(self, key: Key, subject: str) -> None:
        """One that counted does not any more."""
        ...

    def place_of(self, effort: str) -> tuple[Key, str] | None:
        """The key of an effort and its subject, None when it does not count."""
        ...

    def own(self, subject: str) -> Iterable[Key]:
        """The keys of a subject."""
        ...

    def quickest(self, before: Finish) -> Iterator[Row]:
        """All that had finished before, the first of the board first."""
        ...

    def since(self, finish: Finish, top: Sequence[Row]) -> Iterator[Row]:
        """Those that finish from then on, in that order; without those that come behind `top` once it has its ten rows, or with them."""
        ...


class InLists:
    """Efforts that count, as objects in lists."""

    def __init__(self, efforts: Iterable[tuple[Key, str]] = ()) -> None:
        self._efforts = {key[2]: (key, subject) for key, subject in efforts}
        self._order = BySecond(key for key, _ in self._efforts.values())
        self._finishes = sorted(finish_of(key) for key, _ in self._efforts.values())
        self._of: dict[str, set[str]] = {}
        for effort, (_, subject) in self._efforts.items():
            self._of.setdefault(subject, set()).add(effort)

    def add(self, key: Key, subject: str) -> None:
        """One more counts."""
        self._efforts[key[2]] = key, subject
        self._of.setdefault(subject, set()).add(key[2])
        self._order.add(key)
        insort(self._finishes, finish_of(key))

    def remove(self, key: Key, subject: str) -> None:
        """One that counted does not any more."""
        del self._efforts[key[2]]
        self._of[subject].discard(key[2])
        self._order.drop(key)
        del self._finishes[bisect_left(self._finishes, finish_of(key))]

    def place_of(self, effort: str) -> tuple[Key, str] | None:
        """The key of an effort and its subject, None when it does not count."""
        return self._efforts.get(effort)

    def own(self, subject: str) -> Iterable[Key]:
        """The keys of a subject."""
        return [self._efforts[effort][0] for effort in self._of.get(subject, ())]

    def quickest(self, before: Finish) -> Iterator[Row]:
        """All that had finished before, the first of the board first."""
        at = 0
        while piece := self._order.slice(at, at + _PIECE):
            at += len(piece)
            yield from (self._efforts[key[2]] for key in piece if finish_of(key) < before)

    def since(self, finish: Finish, top: Sequence[Row]) -> Iterator[Row]:
        """Those that finish from then on, in that order."""
        del top
        return (self._efforts[effort] for _, effort in self._finishes[bisect_left(self._finishes, finish) :])


class Awards:
    """The awards on one board. `take` and `drop` follow the efforts that count; `changed` says what came of it since it was last asked."""

    def __init__(self, efforts: Iterable[tuple[Key, str]] = (), counting: Counting | None = None) -> None:
        self._counting: Counting = InLists(efforts) if counting is None else counting
        self._board: dict[Place, int] = {}  # the awards among the first ten
        self._was: dict[str, dict[str, int]] = {}  # the own awards of who is touched, as they were
        self._dropped: set[Place] = set()
        self._taken: set[str] = set()
        self._since: Finish | None = None  # from where the first ten have to be looked at again
        for effort, bits in self._board_bits(_FIRST).items():
            self._board[self._place(effort)] = bits

    def counted_by(self, counting: Counting) -> None:
        """The same efforts are held in another way from now on."""
        self._counting = counting

    def touch(self, subject: str) -> None:
        """What counts of a subject may change now."""
        if subject not in self._was:
            self._was[subject] = self._own_bits(subject)

    def take(self, key: Key, subject: str) -> None:
        """An effort counts now."""
        self.touch(subject)
        self._counting.add(key, subject)
        self._taken.add(key[2])

    def drop(self, key: Key, subject: str) -> None:
        """An effort that counted does not any more."""
        self.touch(subject)
        self._counting.remove(key, subject)
        self._taken.discard(key[2])
        self._dropped.add((subject, key[2]))
        if (subject, key[2]) in self._board:
            self._look_from(finish_of(key))

    def of(self, effort: str) -> tuple[str, ...]:
        """The awards of an effort, as they were when `changed` was last asked."""
        held = self._counting.place_of(effort)
        if held is None:
            return ()
        own = self._was[held[1]] if held[1] in self._was else self._own_bits(held[1])
        return _words(own.get(effort, 0) | self._board.get((held[1], effort), 0))

    def placed(self, part_of: Callable[[str], int]) -> list[tuple[str, int]]:
        """The efforts that an own board of some athletes would award as among its first ten, with the part that `part_of` has these in."""
        tops: dict[int, list[Row]] = {}
        parts: dict[Hashable, int] = {}
        found: list[tuple[str, int]] = []
        for key, whose in self._counting.since(_FIRST, ()):
            if whose not in parts:
                parts[whose] = part_of(self._place(key[2])[0])
            if _placed(tops.setdefault(parts[whose], []), key, whose):
                found.append((key[2], parts[whose]))
        return found

    def changed(self) -> list[Awarded]:
        """Whose awards differ from what was said before: who has none left first, then by effort."""
        if not self._taken and not self._dropped:
            self._was.clear()
            return []
        board: dict[Place, int] = {}  # as they were
        for place in self._dropped:
            held = self._counting.place_of(place[1])
            if held is None or held[1] != place[0]:
                self._set(place, 0, board)
        for effort in self._taken:
            held = self._counting.place_of(effort)
            assert held is not None
            if self._comes_in(*held):
                self._look_from(finish_of(held[0]))
            else:
                self._set((held[1], effort), 0, board)
        if self._since is not None:
            found = {self._place(effort): bits for effort, bits in self._board_bits(self._since).items()}
            for place in [place for place in self._board if place not in found and self._is_late(place, self._since)]:
                self._set(place, 0, board)
            for place, bits in found.items():
                self._set(place, bits, board)
        told = self._differences(board)
        self._was.clear()
        self._taken.clear()
        self._dropped.clear()
        self._since = None
        return sorted(told, key=lambda a: (a.after != (), a.effort, a.subject))

    def _differences(self, board: dict[Place, int]) -> list[Awarded]:
        now = {subject: self._own_bits(subject) for subject in {*self._was, *(subject for subject, _ in board)}}
        places = {(subject, effort) for subject, was in self._was.items() for effort in (*was, *now[subject])} | board.keys()
        told: list[Awarded] = []
        for subject, effort in places:
            own, held = now[subject].get(effort, 0), self._board.get((subject, effort), 0)
            own_was = self._was[subject].get(effort, 0) if subject in self._was else own
            before, after = own_was | board.get((subject, effort), held), own | held
            if before != after:
                told.append(Awarded(subject, effort, _words(before), _words(after)))
        return told

    def _place(self, effort: str) -> Place:
        held = self._counting.place_of(effort)
        assert held is not None
        return held[1], effort

    def _is_late(self, place: Place, since: Finish) -> bool:
        held = self._counting.place_of(place[1])
        return held is not None and held[1] == place[0] and finish_of(held[0]) >= since

    def _set(self, place: Place, bits: int, before: dict[Place, int]) -> None:
        held = self._board.get(place, 0)
        if bits == held:
            return
        before.setdefault(place, held)
        if bits:
            self._board[place] = bits
        else:
            del self._board[place]

    def _look_from(self, finish: Finish) -> None:
        self._since = finish if self._since is None else min(self._since, finish)

    def _own_bits(self, subject: str) -> dict[str, int]:
        """The awards among the own efforts of a subject, of those that have one."""
        until: list[Key] = []
        found: dict[str, int] = {}
        for key in sorted(self._counting.own(subject), key=finish_of):
            place = bisect_left(until, key)
            until.insert(place, key)
            if len(until) > 1 and place < len(_OWN):
                found[key[2]] = _OWN[place]
        return found

    def _first_ten(self, finish: Finish) -> list[Row]:
        """The board's first ten as it was before a finish."""
        found: list[Row] = []
        seen: set[Hashable] = set()
        for key, whose in self._counting.quickest(finish):
            if whose not in seen:
                seen.add(whose)
                found.append((key, whose))
                if len(found) == PLACES:
                    break
        return found

    def _comes_in(self, key: Key, subject: str) -> bool:
        """Whether an effort comes to stand among the first ten at its finish."""
        first = self._first_ten(finish_of(key))
        if len(first) == PLACES and key >= first[-1][0]:
            return False
        best = min((own for own in self._counting.own(subject) if finish_of(own) < finish_of(key)), default=key)
        return best >= key

    def _board_bits(self, since: Finish) -> dict[str, int]:
        """The awards among the first ten of all efforts from a finish on, of those that have one."""
        top = self._first_ten(since)
        found: dict[str, int] = {}
        for key, whose in self._counting.since(since, top):
            if (len(top) < PLACES or key < top[-1][0]) and (bits := _placed(top, key, whose)):
                found[key[2]] = bits
        return found


def _placed(top: list[Row], key: Key, whose: Hashable) -> int:
    """Put an effort among the first ten; what it is awarded for that."""
    if len(top) == PLACES and key >= top[-1][0]:
        return 0
    own = next((i for i, row in enumerate(top) if row[1] == whose), None)
    if own is not None:
        if top[own][0] <= key:
            return 0
        del top[own]
    place = bisect_right(top, key, key=lambda row: row[0])
    top.insert(place, (key, whose))
    del top[PLACES:]
    return _TOP | _RECORD if place == 0 else _TOP


def finish_of(key: Key) -> Finish:
    """When an effort ended; of two at once the one with the lesser id first."""
    return key[1] + 1000 * key[0], key[2]


def _words(bits: int) -> tuple[str, ...]:
    return tuple(word for i, word in enumerate(KINDS) if bits >> i & 1)
