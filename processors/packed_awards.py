"""The efforts that count on a packed board, as awards ask for them: the quickest thousand kept in order, the rest found by a pass."""

from __future__ import annotations

from bisect import bisect_left, insort
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Final

import numpy as np
import numpy.typing as npt

from processors.awards import PLACES, Finish, Row, finish_of
from processors.ladder import Key
from processors.packed_efforts import PackedEfforts
from processors.packed_kernel import COUNTS
from processors.results import Effort

_FRONT: Final = 1_000
_LEAST: Final = 200  # of the front that are left, before it is found again
_PIECE: Final = 4_096
_BEHIND: Final = 64  # of those behind the front that are looked at first


class InColumns:
    """Answers as `awards.InLists`; whose an effort is, is the number of its athlete. Who an effort is of says `effort`."""

    def __init__(self, packed: PackedEfforts, effort: Callable[[str], Effort]) -> None:
        self._packed = packed
        self._effort = effort
        self._front: list[tuple[Key, int]] | None = None
        self._whole = False  # the front is all there is

    def forget(self) -> None:
        """Efforts came and went without a word."""
        self._front = None

    def add(self, key: Key, subject: str) -> None:
        """One more counts."""
        front = self._front
        if front is None or not (self._whole or key < front[-1][0]):
            return
        insort(front, (key, self._packed.number(subject)))
        if len(front) > 2 * _FRONT:
            del front[_FRONT:]
            self._whole = False

    def remove(self, key: Key, subject: str) -> None:
        """One that counted does not any more."""
        del subject
        front = self._front
        if front is None:
            return
        place = bisect_left(front, key, key=lambda row: row[0])
        if place < len(front) and front[place][0] == key:
            del front[place]
        if len(front) < _LEAST and not self._whole:
            self._front = None

    def place_of(self, effort: str) -> tuple[Key, str] | None:
        """The key of an effort and its subject, None when it does not count."""
        slot = self._packed.slot(effort)
        if slot < 0 or self._packed.columns.state[slot] >= COUNTS:
            return None
        return self._packed.key(slot), self._effort(effort).subject

    def own(self, subject: str) -> Iterable[Key]:
        """The keys of a subject."""
        return self._packed.own(self._packed.number(subject))

    def quickest(self, before: Finish) -> Iterator[Row]:
        """All that had finished before, the first of the board first."""
        front = self._found()
        yield from (row for row in front if finish_of(row[0]) < before)
        if self._whole:
            return
        c, last, behind, piece = self._packed.columns, front[-1][0], self._counting(), _BEHIND
        behind = behind[(c.elapsed_ms[behind] >= last[0]) & (self._ends_us(behind) <= before[0])]
        while len(behind):
            elapsed_ms = c.elapsed_ms[behind]
            most_ms = np.partition(elapsed_ms, piece)[piece] if piece < len(behind) else elapsed_ms.max()
            near = sorted((self._packed.key(slot), int(c.athlete[slot])) for slot in behind[elapsed_ms <= most_ms].tolist())
            yield from (row for row in near if row[0] > last and finish_of(row[0]) < before)
            behind, piece = behind[elapsed_ms > most_ms], 8 * piece

    def since(self, finish: Finish, top: Sequence[Row]) -> Iterator[Row]:
        """Those that finish from then on, in that order, without most of those behind `top` once it has its ten rows."""
        c, slots = self._packed.columns, self._counting()
        ends_us = self._ends_us(slots)
        late = ends_us >= finish[0]
        slots, ends_us = slots[late], ends_us[late]
        slots = slots[np.lexsort((c.id_lo[slots], c.id_hi[slots], ends_us))]
        for at in range(0, len(slots), _PIECE):
            piece = slots[at : at + _PIECE]
            if len(top) >= PLACES:
                piece = piece[c.elapsed_ms[piece] <= top[-1][0][0]]
            for slot in piece.tolist():
                key = self._packed.key(slot)
                if finish_of(key) >= finish:
                    yield key, int(c.athlete[slot])

    def _ends_us(self, slots: npt.NDArray[np.int64]) -> npt.NDArray[np.int64]:
        c = self._packed.columns
        return c.start_us[slots] + 1000 * c.elapsed_ms[slots].astype(np.int64)

    def _counting(self) -> npt.NDArray[np.int64]:
        return np.flatnonzero(self._packed.columns.state[: self._packed.used] < COUNTS)

    def _found(self) -> list[tuple[Key, int]]:
        if self._front is None:
            c, slots = self._packed.columns, self._counting()
            self._whole = len(slots) <= _FRONT
            if not self._whole:
                elapsed_ms = c.elapsed_ms[slots]
                slots = slots[elapsed_ms <= np.partition(elapsed_ms, _FRONT - 1)[_FRONT - 1]]
            self._front = sorted((self._packed.key(slot), int(c.athlete[slot])) for slot in slots.tolist())
        return self._front
