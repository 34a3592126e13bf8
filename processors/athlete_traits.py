"""What views ask of athletes, in arrays by their numbers on a board: sex, year of birth, weight class; and who is meant by a view of a
club or of whom somebody follows.

The same answers as `effort_holding.span_of`, for all athletes at once; an athlete who is not described has none of it.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from broker.reference import AthleteRef
from processors.board_views import ALWAYS, Span, View, followed
from processors.weight_class import WEIGHT_CLASSES, weight_class

_SEXES: Final = (None, "f", "m", "x")
_CLASSES: Final = (None, *WEIGHT_CLASSES)
_MANY: Final = 1_024


class AthleteTraits:
    """Of the athletes of one board. `number` says which one a subject is, -1 for who is not there."""

    def __init__(self, athletes: Mapping[str, AthleteRef], number: Callable[[str], int]) -> None:
        self._athletes = athletes
        self._number = number
        self._sex, self._weight = np.zeros(0, np.uint8), np.zeros(0, np.uint8)
        self._year = np.zeros(0, np.int16)  # 0: not stated
        self._described = np.zeros(0, np.bool_)
        self._meant: dict[View, npt.NDArray[np.bool_]] = {}

    def describe(self, number: int, subject: str) -> None:
        """An athlete is new, or another one than before."""
        if number >= len(self._sex):
            length = number + number // 4 + _MANY
            self._sex, self._weight = _longer(self._sex, length), _longer(self._weight, length)
            self._year, self._described = _longer(self._year, length), _longer(self._described, length)
        one = self._athletes.get(subject)
        known = one is not None and not one.removed
        self._described[number] = known
        self._sex[number] = _SEXES.index(one.sex) if one is not None else 0
        self._year[number] = one.birth_year or 0 if one is not None else 0
        weight = one.weight_kg if one is not None else None
        self._weight[number] = 0 if weight is None else _CLASSES.index(weight_class(weight))
        for view, meant in self._meant.items():
            if number >= len(meant):
                meant = self._meant[view] = _longer(meant, len(self._sex))  # noqa: PLW2901 - the longer one is the same
            meant[number] = self._is_meant(view, subject)

    @property
    def nbytes(self) -> int:
        """Memory of the arrays."""
        arrays = (self._sex, self._weight, self._year, self._described, *self._meant.values())
        return sum(array.nbytes for array in arrays)

    def forget(self, view: View) -> None:
        """A view is not kept any more."""
        self._meant.pop(view, None)

    def span_us(self, view: View, number: int) -> Span | None:
        """When an effort of an athlete has to start to stand on a view; None: never."""
        if not self._of(view, slice(number, number + 1))[0]:
            return None
        return view.span_of_year_us(int(self._year[number]) or None)

    def counts(
        self, view: View, athlete: npt.NDArray[np.int32], start_us: npt.NDArray[np.int64], athletes: int
    ) -> npt.NDArray[np.bool_]:  # fmt: skip
        """Which efforts, given by the number of their athlete and their start, count on a view."""
        if view.following is not None or view.club is not None:
            self._meant[view] = self._all_meant(view, len(self._sex))
        counted = self._of(view, slice(0, athletes))[athlete]
        if view.age_class is not None:
            years = np.zeros((1 << 15, 2), np.int64)
            for year in np.unique(self._year[:athletes]).tolist():
                years[year] = view.span_of_year_us(year or None) or (0, 0)
            spans = years[self._year[athlete]]
            return counted & (start_us >= spans[:, 0]) & (start_us < spans[:, 1])
        if view.window_us is not ALWAYS:
            counted = counted & (start_us >= view.window_us[0]) & (start_us < view.window_us[1])
        return counted

    def _of(self, view: View, which: slice) -> npt.NDArray[np.bool_]:
        """Who is of the sex, weight, club and company a view asks for, and has an age when it asks for that."""
        found = np.ones(len(self._sex[which]), np.bool_)
        if (view.sex, view.age_class, view.weight_class, view.club) != (None,) * 4:
            found &= self._described[which]
        if view.sex is not None:
            found &= self._sex[which] == _SEXES.index(view.sex)
        if view.weight_class is not None:
            found &= self._weight[which] == _CLASSES.index(view.weight_class)
        if view in self._meant:
            found &= self._meant[view][which]
        return found

    def _all_meant(self, view: View, length: int) -> npt.NDArray[np.bool_]:
        meant = np.zeros(length, np.bool_)
        if view.following is not None:
            tenant, _, _ = view.following.partition("/")
            follower = self._athletes.get(view.following)
            near = [view.following, *(f"{tenant}/{one}" for one in (follower.follows if follower is not None else ()))]
        else:
            near = [subject for subject, one in self._athletes.items() if view.club in one.clubs]
        for subject in near:
            number = self._number(subject)
            if number >= 0:
                meant[number] = self._is_meant(view, subject)
        return meant

    def _is_meant(self, view: View, subject: str) -> bool:
        athlete = self._athletes.get(subject)
        if view.following is not None and not followed(self._athletes.get(view.following), athlete, view.following, subject):
            return False
        return view.club is None or (athlete is not None and view.club in athlete.clubs)


def _longer(array: npt.NDArray[Any], length: int) -> npt.NDArray[Any]:
    made = np.zeros(length, array.dtype)
    made[: len(array)] = array
    return made
