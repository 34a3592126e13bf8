"""The board of one segment: every athlete's best effort in rank order, by sex, age class, weight, club, company and period.

Efforts are versioned: per effort id the highest version wins and a removed one stays as a tombstone, so any permutation and repetition of
the same efforts makes the same board. Provisional efforts count and say so; those that are kept off, and subjects without an athlete
(`tenant/@...`), do not.
Names are not known here: who may be named is for the reader to resolve.

A small board holds its efforts as objects, one of PACKED_FROM or more in columns when its efforts are in a store; every answer is the
same. One owner: not for several threads at once.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Final

from broker.errors import BadInputError
from broker.reference import AthleteRef
from processors.awards import Awarded
from processors.board_views import View
from processors.effort_holding import OVERALL, HeldEfforts, Holding, Rows
from processors.effort_store import EffortStore
from processors.ladder import Key, decode_cursor, encode_cursor
from processors.own_efforts import key_of
from processors.packed_efforts import Entry, may_be_packed
from processors.packed_holding import PackedHolding
from processors.results import CURVE_POINTS, Effort, Phase

PACKED_FROM: Final = 10_000  # efforts
MAX_ROWS: Final = 1_000  # of one page
PERCENTILES: Final = (10, 25, 50, 75, 90)


@dataclass(frozen=True, slots=True)
class BoardRow:
    """One line. `gap_faster_ms` is to the next strictly faster row, None when there is none."""

    rank: int
    effort: Effort
    gap_leader_ms: int
    gap_faster_ms: int | None

    @property
    def subject(self) -> str:
        """Whose line it is."""
        return self.effort.subject

    @property
    def provisional(self) -> bool:
        """Whether finishing the activity may still change it."""
        return self.effort.phase is not Phase.FINAL


@dataclass(frozen=True, slots=True)
class BoardPage:
    """Lines in order. `cursor` leads to the next page, None behind the last; `size` is that of the whole view."""

    rows: tuple[BoardRow, ...]
    cursor: str | None
    size: int


@dataclass(frozen=True, slots=True)
class BoardChange:
    """What one effort changed on the overall board of all time: the row of its subject, and with it maybe the leader."""

    effort: Effort  # as it was applied, removed or not
    best_before: Effort | None
    best_after: Effort | None
    rank_before: int | None
    rank_after: int | None
    leader_before: Effort | None
    leader_after: Effort | None

    @property
    def subject(self) -> str:
        """Whose row changed."""
        return self.effort.subject

    @property
    def record_set(self) -> bool:
        """This effort became the subject's best (the first one is a record too)."""
        return self.best_after is self.effort and (self.best_before is None or self.best_before.id != self.effort.id)

    @property
    def record_withdrawn(self) -> bool:
        """This effort was the subject's best and is no longer: removed, or corrected behind another one."""
        was = self.best_before is not None and self.best_before.id == self.effort.id
        return was and self.best_after is not self.effort

    @property
    def lead_taken(self) -> bool:
        """Another subject leads than before (also when the leader fell back); the first one ever takes it too."""
        after = self.leader_after
        return after is not None and (self.leader_before is None or self.leader_before.subject != after.subject)


@dataclass(frozen=True, slots=True)
class References:
    """Efforts to race against, each with its curve. `own_best` is of all time; who is not on the view has its last row to catch."""

    leader: Effort | None
    next_faster: Effort | None
    own_best: Effort | None


class SegmentBoard:
    """The board of one segment of one tenant. `athletes` by subject is read, never written; say `athlete_changed` when one changes.

    `awarding`: the board also follows what its efforts are awarded (`awards`). `store`: where its efforts are, so that a board of more
    than `packed_from` holds them in columns; such a store has an effort as it was applied last until another state of it is applied."""

    def __init__(
        self,
        segment: str,
        athletes: Mapping[str, AthleteRef] | None = None,
        *,
        awarding: bool = False,
        store: EffortStore | None = None,
        packed_from: int = PACKED_FROM,
    ) -> None:
        self.segment = segment
        self.version = 0  # the highest seen: what to read on from
        self._tenant: str | None = None
        self._athletes: Mapping[str, AthleteRef] = {} if athletes is None else athletes
        self._store = store
        self._packed_from = packed_from
        self._holding: Holding = HeldEfforts(self._athletes)
        if awarding:
            self._holding.award()
        self._pack()

    def apply(self, effort: Effort) -> BoardChange | None:
        """Take an effort; None when it is not newer than what is held, or changes no row of the overall board.

        An effort that is another subject's than before (two athletes turned out to be one) leaves that one's row without a word; `leave`
        says it. ValueError for an effort of another segment or tenant.
        """
        self._check(effort)
        self.version = max(self.version, effort.version)
        best_before, leader_before = self.best(effort.subject), self.leader()
        rank_before = self.rank(OVERALL, effort.subject)
        if _unbound(effort.subject) or not self._holding.take(effort):
            return None
        best_after, leader_after = self.best(effort.subject), self.leader()
        rank_after = self.rank(OVERALL, effort.subject)
        self._pack(effort)
        if _same_row(best_before, best_after):
            return None
        return BoardChange(effort, best_before, best_after, rank_before, rank_after, leader_before, leader_after)

    def leave(self, effort_id: str) -> BoardChange | None:
        """Take an effort off before it comes back as another subject's; None when that changes no row."""
        held = self._holding.held(effort_id)
        if held is None or not held.stands:
            return None
        best_before, leader_before = self.best(held.subject), self.leader()
        rank_before = self.rank(OVERALL, held.subject)
        gone = self._holding.leave(held)
        best_after = self.best(held.subject)
        if _same_row(best_before, best_after):
            return None
        rank_after = self.rank(OVERALL, held.subject)
        return BoardChange(gone, best_before, best_after, rank_before, rank_after, leader_before, self.leader())

    def load(self, efforts: Iterable[Effort]) -> int:
        """Take many at once without saying what each changed; how many were news."""
        taken = self._holding.load(self._checked(efforts))
        self._pack()
        return taken

    def follow(self) -> None:
        """Take what the store has that is newer, without saying what each changed. ValueError without a store."""
        if self._store is None:
            raise ValueError(f"the board of {self.segment} has no store to follow")
        store, held = self._store, self._holding
        if isinstance(held, PackedHolding) and len(held):
            if held.awards is not None:
                raise ValueError("a board that awards is told each change")
            held.follow(list(self._ranking(store)))
        elif not len(held) and (isinstance(held, PackedHolding) or store.count() >= self._packed_from):
            packed = PackedHolding(self._athletes, store.effort)
            if not store.fill(packed):
                packed.fill(self._ranking(store), store.count())
            if held.awards is not None:
                packed.award()
            self._holding = packed
        elif not len(held):
            self.load(store.after(self.version))
        else:
            for e in self._checked(store.after(self.version)):
                held.take(e)
            self._pack()

    @property
    def is_packed(self) -> bool:
        """Whether the efforts are held in columns."""
        return isinstance(self._holding, PackedHolding)

    @property
    def nbytes(self) -> int:
        """Memory of it, about."""
        return self._holding.nbytes

    def __len__(self) -> int:
        """How many efforts are held, removed ones too."""
        return len(self._holding)

    def athlete_changed(self, subject: str) -> None:
        """The athlete's entry in the mapping is another one now: stand where that says."""
        self._holding.athlete_changed(subject)

    def best(self, subject: str) -> Effort | None:
        """The best effort of all time."""
        return self._effort(self._holding.rows(OVERALL).key_of(subject))

    def awarded(self) -> list[Awarded]:
        """Whose awards changed since this was last asked; what a board was loaded with is not told."""
        return [] if self._holding.awards is None else self._holding.awards.changed()

    def awards_of(self, effort_id: str) -> tuple[str, ...]:
        """What an effort is awarded, as words of `awards.KINDS`, up to when `awarded` was last asked."""
        return () if self._holding.awards is None else self._holding.awards.of(effort_id)

    def placed(self, part_of: Callable[[str], int]) -> list[tuple[Effort, int]]:
        """The efforts that boards of some of the athletes each would award as among the first ten; `part_of` says whose is whose."""
        awards = self._holding.awards
        return [] if awards is None else [(self._one(effort), part) for effort, part in awards.placed(part_of)]

    def own(self, subject: str) -> list[Effort]:
        """All efforts of a subject that count, the earliest first."""
        return [self._one(key[2]) for key in sorted(self._holding.own(subject), key=_by_start)]

    def own_rank(self, effort_id: str) -> int | None:
        """The place of an effort among those of its subject, None when it does not count; equal times share one."""
        e = self._holding.held(effort_id)
        own = () if e is None else self._holding.own(e.subject)
        if e is None or not e.stands or key_of(e) not in own:
            return None
        return 1 + bisect_left(own, (e.elapsed_ms,))

    def leader(self, view: View = OVERALL) -> Effort | None:
        """The first of a view."""
        return self._effort(self._holding.rows(view).leader())

    def size(self, view: View = OVERALL) -> int:
        """How many athletes stand on a view."""
        return len(self._holding.rows(view))

    def efforts(self, view: View = OVERALL) -> int:
        """How many efforts count on a view."""
        return self._holding.efforts(view)

    def percentiles_ms(self, view: View = OVERALL) -> tuple[int, ...]:
        """The times that 10, 25, 50, 75 and 90 % of a view's athletes reach at least (nearest rank); empty when nobody stands on it."""
        ladder = self._holding.rows(view)
        return tuple(ms for percent in PERCENTILES if (ms := ladder.percentile_ms(percent)) is not None)

    def most_efforts(self, from_us: int, to_us: int) -> tuple[str, int] | None:
        """Who has most efforts that start between two times (the end exclusive), and how many: of several, who had them first."""
        return self._holding.most_efforts(from_us, to_us)

    def rank(self, view: View, subject: str) -> int | None:
        """The rank of a subject, None when it is not on the view."""
        ladder = self._holding.rows(view)
        key = ladder.key_of(subject)
        return None if key is None else ladder.rank(key)

    def row(self, view: View, subject: str) -> BoardRow | None:
        """The line of a subject, None when it is not on the view."""
        return next(iter(self.around(view, subject, 0)), None)

    def top(self, view: View = OVERALL, limit: int = 10, cursor: str | None = None) -> BoardPage:
        """The lines behind a cursor, from the first without one. A cursor stays good whatever changes: it is a place in the order.

        BadInputError for a limit outside 1-1000 or a cursor that is not ours.
        """
        if not 1 <= limit <= MAX_ROWS:
            raise BadInputError(f"limit {limit} is out of range", cure=f"ask for 1-{MAX_ROWS} rows a page")
        ladder = self._holding.rows(view)
        first = 0 if cursor is None else ladder.index_after(decode_cursor(cursor))
        keys = ladder.slice(first, first + limit)
        more = first + limit < len(ladder)
        return BoardPage(self._rows(ladder, keys), encode_cursor(keys[-1]) if more else None, len(ladder))

    def around(self, view: View, subject: str, k: int = 2) -> tuple[BoardRow, ...]:
        """The line of a subject with up to `k` above and below it; empty when it is not on the view. BadInputError for a bad `k`."""
        if not 0 <= k <= MAX_ROWS // 2:
            raise BadInputError(f"{k} rows around is out of range", cure=f"ask for 0-{MAX_ROWS // 2}")
        ladder = self._holding.rows(view)
        key = ladder.key_of(subject)
        if key is None:
            return ()
        place = ladder.index(key)
        return self._rows(ladder, ladder.slice(place - k, place + k + 1))

    def reference(self, view: View, subject: str) -> References:
        """Whom a subject under way can be compared with at equal progress (`gap_at` of the curves)."""
        ladder = self._holding.rows(view)
        key = ladder.key_of(subject)
        ahead = ladder.last() if key is None else ladder.next_faster(key)
        return References(self._effort(ladder.leader()), self._effort(ahead), self.best(subject))

    def _check(self, effort: Effort) -> None:
        if self._tenant is None:
            self._tenant = effort.tenant
        if (effort.tenant, effort.segment) != (self._tenant, self.segment):
            raise ValueError(f"effort {effort.id} is of {effort.tenant}/{effort.segment}, this board of {self._tenant}/{self.segment}")

    def _checked(self, efforts: Iterable[Effort]) -> Iterator[Effort]:
        for e in efforts:
            self._check(e)
            self.version = max(self.version, e.version)
            if not _unbound(e.subject):
                yield e

    def _ranking(self, store: EffortStore) -> Iterator[Entry]:
        for e in store.entries_after(self.version):
            self.version = max(self.version, e.version)
            if not _unbound(e.subject):
                yield e

    def _pack(self, latest: Effort | None = None) -> None:
        """Hold the efforts in columns once there are many. The store may not have the latest one yet."""
        held = self._holding
        if self._store is None or not isinstance(held, HeldEfforts) or len(held) < self._packed_from:
            return
        if all(may_be_packed(e) for e in held.everything()):
            packed = self._holding = PackedHolding(self._athletes, self._store.effort)
            if latest is not None:
                packed.keep(latest)
            packed.load(held.everything())
            packed.awarded_before(held.awards)

    def _one(self, effort_id: str) -> Effort:
        e = self._holding.held(effort_id)
        assert e is not None
        return e

    def _effort(self, key: Key | None) -> Effort | None:
        return None if key is None else self._one(key[2])

    def _rows(self, ladder: Rows, keys: Sequence[Key]) -> tuple[BoardRow, ...]:
        """The lines of keys that follow one another on a ladder."""
        leader = ladder.leader()
        if leader is None or not keys:
            return ()
        faster = ladder.next_faster(keys[0])
        rank, place, last = ladder.rank(keys[0]), ladder.index(keys[0]), keys[0]
        made: list[BoardRow] = []
        for key in keys:
            if key[0] != last[0]:
                rank, faster = place + 1, last
            made.append(BoardRow(rank, self._one(key[2]), key[0] - leader[0], None if faster is None else key[0] - faster[0]))
            place, last = place + 1, key
        return tuple(made)


def gap_at(curve_ms: Sequence[int], elapsed_ms: int, share: float) -> int:
    """Milliseconds behind (negative: ahead of) a reference at the same share (0-1) of the segment, between curve points on a straight line.

    ValueError for a curve that is not 64 points or a share that is no number; a share outside 0-1 counts as the nearer end.
    """
    if len(curve_ms) != CURVE_POINTS:
        raise ValueError(f"a reference curve has {CURVE_POINTS} points, not {len(curve_ms)}")
    if share != share:  # noqa: PLR0124 - not a number
        raise ValueError("the share of a segment must be a number")
    place = min(max(share, 0.0), 1.0) * CURVE_POINTS
    before = min(int(place), CURVE_POINTS - 1)
    low = curve_ms[before - 1] if before else 0
    return elapsed_ms - round(low + (curve_ms[before] - low) * (place - before))


def _by_start(key: Key) -> tuple[int, str]:
    return key[1], key[2]


def _unbound(subject: str) -> bool:
    return subject.startswith("@", subject.find("/") + 1)


def _same_row(before: Effort | None, after: Effort | None) -> bool:
    """Whether nothing but the version differs."""
    if before is None or after is None or before.id != after.id:
        return before is after
    return before is after or replace(before, version=after.version) == after
