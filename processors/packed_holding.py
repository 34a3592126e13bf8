"""A large board's efforts in columns (`packed_efforts`), with the answers of `HeldEfforts`; what ranks is held, the rest is read from the
store when it is shown.

`effort` gives an effort as it was taken last: the rows of `state.db`, behind what is being written. A few thousand that were shown or
changed last are kept. Views follow at the next question, athlete by athlete of those that moved; the overall one at once.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import replace
from typing import Final

import numpy as np
import numpy.typing as npt

from broker.errors import StoreError
from broker.reference import AthleteRef
from processors.athlete_traits import AthleteTraits
from processors.awards import Awards
from processors.board_views import View
from processors.effort_holding import EFFORT_BYTES, OVERALL, Rows, last_used, order_of
from processors.ladder import Key
from processors.own_efforts import single_recordings
from processors.packed_awards import InColumns
from processors.packed_efforts import Entry, PackedEfforts, entry_of
from processors.packed_kernel import COUNTS, CROWDED, TOLD, Told
from processors.packed_standings import PackedStandings
from processors.results import Effort

Fetch = Callable[[str], Effort | None]
NEAR: Final = 4_096  # efforts kept as objects
MAX_TOUCHED: Final = 50_000  # athletes that moved, before views are rather made anew


class PackedHolding:
    """The efforts of one board. An id must be one of `results.effort_id`; ValueError otherwise."""

    def __init__(self, athletes: Mapping[str, AthleteRef], effort: Fetch) -> None:
        self._traits = AthleteTraits(athletes, lambda subject: self.packed.number(subject))  # noqa: PLW0108 - made after it
        self.packed = PackedEfforts(self._traits.describe)
        self.awards: Awards | None = None
        self._fetch = effort
        self._overall = PackedStandings(self.packed)
        self._views: dict[View, PackedStandings] = {}
        self._touched: list[int] = []
        self._near: OrderedDict[str, Effort] = OrderedDict()
        self._counting = InColumns(self.packed, self.effort)

    def __len__(self) -> int:
        return self.packed.used

    @property
    def nbytes(self) -> int:
        """Memory of it, about."""
        views = sum(rows.nbytes for rows in self._views.values())
        return self.packed.nbytes + self._traits.nbytes + views + EFFORT_BYTES * len(self._near)

    def effort(self, effort_id: str) -> Effort:
        """An effort that is held, as it was taken last. StoreError when the store does not have it."""
        found = self._near.get(effort_id)
        if found is None:
            found = self._fetch(effort_id)
            if found is None:
                raise StoreError(f"effort {effort_id} of a board is not stored", cure="paceline replay makes the state again")
            self.keep(found)
        return found

    def keep(self, effort: Effort) -> None:
        """Have an effort at hand as it is now."""
        self._near[effort.id] = effort
        self._near.move_to_end(effort.id)
        if len(self._near) > NEAR:
            self._near.popitem(last=False)

    def held(self, effort_id: str) -> Effort | None:
        """An effort as it was taken last, removed or not."""
        return self.effort(effort_id) if self.packed.slot(effort_id) >= 0 else None

    def take(self, effort: Effort) -> bool:
        """Hold an effort when it is news."""
        slot = self.packed.slot(effort.id)
        version = -1 if slot < 0 else self.packed.version_of(slot)
        if version > effort.version or (version == effort.version and order_of(self.effort(effort.id)) >= order_of(effort)):
            return False
        same = slot < 0 or self.packed.columns.athlete[slot] == self.packed.number(effort.subject)
        self._set(effort, effort.subject if same else self.effort(effort.id).subject)
        return True

    def leave(self, effort: Effort) -> Effort:
        """Take an effort that stands off before it comes back as another subject's; what is held of it now."""
        gone = replace(effort, removed=True)
        self._set(gone, effort.subject)
        return gone

    def load(self, efforts: Iterable[Effort]) -> int:
        """Take many at once; how many were news. Views are made anew."""
        if len(self):
            return sum([self.take(e) for e in efforts])
        last: dict[str, Effort] = {}
        for e in efforts:
            held = last.get(e.id)
            if held is None or order_of(held) < order_of(e):
                last[e.id] = e
        return self.fill((entry_of(e) for e in last.values()), len(last))

    def fill(self, entries: Iterable[Entry], expected: int) -> int:
        """Take one entry an effort into an empty board; how many there were."""
        for number in self.packed.load(entries, expected):
            self._count_again(number)
        self._counting.forget()
        self._overall.forget()
        if self.awards is not None:
            self.award()
        return len(self)

    def restore(self, told: Told, who_hi: npt.NDArray[np.uint64], who_lo: npt.NDArray[np.uint64]) -> None:
        """Fill an empty board that knows no athletes from columns of another one (`PackedEfforts.restore`)."""
        self.packed.restore(told, who_hi, who_lo)
        if self.packed.athletes:
            self._traits.describe(self.packed.athletes - 1, "")
        self._counting.forget()
        self._overall.forget()

    def follow(self, entries: Sequence[Entry]) -> None:
        """Take many changes, each of another effort, that the store has already."""
        crowded: set[int] = set()
        packed = self.packed
        for i in range(0, len(entries), MAX_TOUCHED):
            piece = entries[i : i + MAX_TOUCHED]
            for e in piece:
                self._near.pop(e.id, None)
            was = [slot if slot < 0 else int(packed.columns.athlete[slot]) for slot in (packed.slot(e.id) for e in piece)]
            outcome, numbers, lowest_ms = packed.take(piece)
            for said, number, before in zip(outcome.tolist(), numbers, was, strict=True):
                if said:
                    self._touched += (number,) if before in {-1, number} else (number, before)
                if said & CROWDED:
                    crowded.update({number, before} - {-1})
            self._overall.moved_from(lowest_ms)
            self._bound_touched()
        for number in crowded:
            self._count_again(number)
        if crowded:
            self._overall.forget()
        self._counting.forget()

    def award(self) -> None:
        """Follow what the efforts are awarded from now on."""
        self.awards = Awards(counting=self._counting)

    def awarded_before(self, awards: Awards | None) -> None:
        """The same efforts were awarded before they were held here."""
        self.awards = awards
        if awards is not None:
            awards.counted_by(self._counting)

    def own(self, subject: str) -> Sequence[Key]:
        """The keys of the efforts of a subject that count, best first."""
        return self.packed.own(self.packed.number(subject))

    def rows(self, view: View) -> Rows:
        """The rows of a view."""
        return self._standings(view)

    def efforts(self, view: View) -> int:
        """How many efforts count on a view."""
        if view is OVERALL or view == OVERALL:
            return int(np.count_nonzero(self.packed.columns.state[: self.packed.used] < COUNTS))
        return self._standings(view).efforts

    def most_efforts(self, from_us: int, to_us: int) -> tuple[str, int] | None:
        """Who has most efforts that start between two times, and how many: of several, who had them first, then the first by name."""
        c, used = self.packed.columns, self.packed.used
        inside = np.flatnonzero((c.state[:used] < COUNTS) & (c.start_us[:used] >= from_us) & (c.start_us[:used] < to_us))
        if not len(inside):
            return None
        athlete = c.athlete[inside]
        counts = np.bincount(athlete)
        most = int(counts.max())
        first = inside[counts[athlete] == most]
        last_us = np.full(len(counts), -(1 << 62), np.int64)
        np.maximum.at(last_us, c.athlete[first], c.start_us[first])
        ends = last_us[c.athlete[first]]
        slots = first[(ends == ends.min()) & (c.start_us[first] == ends.min())]
        return min(self.effort(self.packed.id(slot)).subject for slot in slots.tolist()), most

    def athlete_changed(self, subject: str) -> None:
        """The athlete's entry in the mapping is another one now."""
        for view in [view for view in self._views if view.following == subject]:
            del self._views[view]
            self._traits.forget(view)
        number = self.packed.number(subject)
        if number >= 0:
            self._traits.describe(number, subject)
            self._touched.append(number)
            self._bound_touched()

    def _set(self, effort: Effort, held_subject: str) -> None:
        """Hold a state of an effort, whatever is held of that version."""
        packed = self.packed
        subjects = {packed.numbered(effort.subject): effort.subject}
        if held_subject != effort.subject:
            subjects[packed.number(held_subject)] = held_subject
        if self.awards is not None:
            for subject in subjects.values():
                self.awards.touch(subject)
        before = {number: self._keys(number) for number in subjects}
        outcome, _, _ = packed.take([entry_of(effort)], forced=True)
        self.keep(effort)
        for number in subjects if outcome[0] & CROWDED else ():
            self._count_again(number)
        after = {number: self._keys(number) for number in subjects}
        for number in subjects:
            self._overall.moved(*(keys[number][0] if keys[number] else None for keys in (before, after)))
            self._touched.append(number)
        if len(subjects) > 1:
            self._overall.forget()  # two rows at once are found again
        if self.awards is not None:
            for number, subject in subjects.items():
                for key in sorted({*before[number]} - {*after[number]}):
                    self.awards.drop(key, subject)
            for number, subject in subjects.items():  # an effort that is another subject's now left the first one by then
                for key in sorted({*after[number]} - {*before[number]}):
                    self.awards.take(key, subject)
        self._bound_touched()

    def _keys(self, number: int) -> list[Key]:
        """The best key of an athlete, with awards all that count."""
        if self.awards is not None:
            return self.packed.own(number)
        best = self.packed.best_ever(number)
        return [] if best is None else [best]

    def _count_again(self, number: int) -> None:
        """Find out which efforts of an athlete are second recordings of a crossing."""
        packed, c = self.packed, self.packed.columns
        standing = sorted((int(c.start_us[slot]), slot) for slot in packed.slots_of(number) if c.state[slot] & TOLD < COUNTS)
        groups: list[list[int]] = []
        end_us = -(1 << 62)
        for start_us, slot in standing:
            if start_us >= end_us:
                groups.append([])
            groups[-1].append(slot)
            end_us = max(end_us, start_us + 1000 * int(c.elapsed_ms[slot]))
        doubles: set[int] = set()
        for group in groups:
            if len(group) > 1:
                efforts = {slot: self.effort(packed.id(slot)) for slot in group}
                counting = {e.id for e in single_recordings(efforts.values())}
                doubles.update(slot for slot, e in efforts.items() if e.id not in counting)
        packed.count_once(number, [slot for _, slot in standing], doubles)

    def _standings(self, view: View) -> PackedStandings:
        if view is OVERALL or view == OVERALL:
            return self._overall
        rows = last_used(self._views, view, self._made, self._traits.forget)
        moved = set(self._touched[rows.followed :])
        for number in moved:
            span = self._traits.span_us(view, number)
            own = [] if span is None else [key for key in self.packed.own(number) if span[0] <= key[1] < span[1]]
            rows.seat(number, len(own), own[0] if own else None)
        rows.followed = len(self._touched)
        return rows

    def _made(self, view: View) -> PackedStandings:
        packed, c, used = self.packed, self.packed.columns, self.packed.used
        counting = np.flatnonzero(
            (c.state[:used] < COUNTS) & self._traits.counts(view, c.athlete[:used], c.start_us[:used], packed.athletes)
        )  # fmt: skip
        counts = np.bincount(c.athlete[counting], minlength=packed.athletes).astype(np.int32)
        best = np.full(packed.athletes, np.iinfo(np.int32).max, np.int32)
        np.minimum.at(best, c.athlete[counting], c.elapsed_ms[counting])
        best[counts == 0] = -1
        made = PackedStandings(packed, lambda number: self._traits.span_us(view, number) or (0, 0), best, counts)
        made.followed = len(self._touched)
        return made

    def _bound_touched(self) -> None:
        if len(self._touched) > MAX_TOUCHED:
            self._touched.clear()
            for view in self._views:
                self._traits.forget(view)
            self._views.clear()
