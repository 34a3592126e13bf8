"""The board of one segment: every athlete's best effort in rank order, by sex, age class and period.

Efforts are versioned: per effort id the highest version wins and a removed one stays as a tombstone, so any permutation and repetition of
the same efforts makes the same board. Provisional efforts count and say so; those that are kept off, and subjects without an athlete
(`tenant/@...`), do not.
Names are not known here: who may be named is for the reader to resolve.

Views are made when first asked for and kept up to date from then on, the least recently used goes first. One owner: not for several
threads at once.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Final

from broker.errors import BadInputError
from broker.reference import AthleteRef
from processors.awards import Awarded, Awards
from processors.board_views import Span, View, followed
from processors.ladder import Key, Ladder, decode_cursor, encode_cursor
from processors.own_efforts import OwnEfforts
from processors.results import CURVE_POINTS, Effort, Phase
from processors.standings import Standings

OVERALL: Final = View()
MAX_VIEWS: Final = 32  # kept up to date beside the overall one
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

    `awarding`: the board also follows what its efforts are awarded (`awards`)."""

    def __init__(self, segment: str, athletes: Mapping[str, AthleteRef] | None = None, *, awarding: bool = False) -> None:
        self.segment = segment
        self.version = 0  # the highest seen: what to read on from
        self._tenant: str | None = None
        self._athletes: Mapping[str, AthleteRef] = {} if athletes is None else athletes
        self._efforts: dict[str, Effort] = {}  # by id, tombstones too
        self._own = OwnEfforts()
        self._own.awards = Awards() if awarding else None
        self._awarding = awarding
        self._overall = Standings()
        self._views: dict[View, Standings] = {}  # least recently used first

    def apply(self, effort: Effort) -> BoardChange | None:
        """Take an effort; None when it is not newer than what is held, or changes no row of the overall board.

        An effort that is another subject's than before (two athletes turned out to be one) leaves that one's row without a word; `leave`
        says it. ValueError for an effort of another segment or tenant.
        """
        held = self._efforts.get(effort.id)
        best_before, leader_before = self.best(effort.subject), self.leader()
        rank_before = self.rank(OVERALL, effort.subject)
        if not self._take(effort):
            return None
        if held is not None and held.subject != effort.subject:
            self._seat(held.subject)
        self._seat(effort.subject)
        best_after = self.best(effort.subject)
        if _same_row(best_before, best_after):
            return None
        rank_after = self.rank(OVERALL, effort.subject)
        return BoardChange(effort, best_before, best_after, rank_before, rank_after, leader_before, self.leader())

    def leave(self, effort_id: str) -> BoardChange | None:
        """Take an effort off before it comes back as another subject's; None when that changes no row."""
        held = self._efforts.get(effort_id)
        if held is None or not held.stands:
            return None
        gone = replace(held, removed=True)
        best_before, leader_before = self.best(held.subject), self.leader()
        rank_before = self.rank(OVERALL, held.subject)
        self._own.leave(held)
        self._efforts[effort_id] = gone
        self._seat(held.subject)
        best_after = self.best(held.subject)
        if _same_row(best_before, best_after):
            return None
        rank_after = self.rank(OVERALL, held.subject)
        return BoardChange(gone, best_before, best_after, rank_before, rank_after, leader_before, self.leader())

    def load(self, efforts: Iterable[Effort]) -> int:
        """Take many at once without saying what each changed; how many were news. The way to fill a board from a store."""
        self._own.awards = None
        taken = sum(self._take(effort) for effort in efforts)
        if self._awarding:
            self._own.awards = Awards((key, subject) for subject, own in self._own.items() for key in own)
        if taken:
            self._views.clear()
            self._overall = self._made(OVERALL)
        return taken

    def athlete_changed(self, subject: str) -> None:
        """The athlete's entry in the mapping is another one now: stand where that says."""
        for view in [view for view in self._views if view.following == subject]:
            del self._views[view]
        if self._own.of(subject):
            self._seat(subject)

    def best(self, subject: str) -> Effort | None:
        """The best effort of all time."""
        own = self._own.of(subject)
        return self._efforts[own[0][2]] if own else None

    def awarded(self) -> list[Awarded]:
        """Whose awards changed since this was last asked; what a board was loaded with is not told."""
        return [] if self._own.awards is None else self._own.awards.changed()

    def awards_of(self, effort_id: str) -> tuple[str, ...]:
        """What an effort is awarded, as words of `awards.KINDS`, up to when `awarded` was last asked."""
        return () if self._own.awards is None else self._own.awards.of(effort_id)

    def own(self, subject: str) -> list[Effort]:
        """All efforts of a subject that count, the earliest first."""
        return [self._efforts[key[2]] for key in sorted(self._own.of(subject), key=_by_start)]

    def own_rank(self, effort_id: str) -> int | None:
        """The place of an effort among those of its subject, None when it does not count; equal times share one."""
        e = self._efforts.get(effort_id)
        if e is None or not e.stands or not self._own.counts(e):
            return None
        return 1 + bisect_left(self._own.of(e.subject), (e.elapsed_ms,))

    def leader(self, view: View = OVERALL) -> Effort | None:
        """The first of a view."""
        return self._effort(self._ladder(view).leader())

    def size(self, view: View = OVERALL) -> int:
        """How many athletes stand on a view."""
        return len(self._ladder(view))

    def efforts(self, view: View = OVERALL) -> int:
        """How many efforts count on a view."""
        return self._standings(view).efforts

    def percentiles_ms(self, view: View = OVERALL) -> tuple[int, ...]:
        """The times that 10, 25, 50, 75 and 90 % of a view's athletes reach at least (nearest rank); empty when nobody stands on it."""
        ladder = self._ladder(view)
        return tuple(ms for percent in PERCENTILES if (ms := ladder.percentile_ms(percent)) is not None)

    def most_efforts(self, from_us: int, to_us: int) -> tuple[str, int] | None:
        """Who has most efforts that start between two times (the end exclusive), and how many: of several, who had them first."""
        best: tuple[int, int, str] | None = None
        for subject, own in self._own.items():
            starts = [key[1] for key in own if from_us <= key[1] < to_us]
            if starts:
                here = (-len(starts), max(starts), subject)
                best = here if best is None else min(best, here)
        return None if best is None else (best[2], -best[0])

    def rank(self, view: View, subject: str) -> int | None:
        """The rank of a subject, None when it is not on the view."""
        ladder = self._ladder(view)
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
        ladder = self._ladder(view)
        first = 0 if cursor is None else ladder.index_after(decode_cursor(cursor))
        keys = ladder.slice(first, first + limit)
        more = first + limit < len(ladder)
        return BoardPage(self._rows(ladder, keys), encode_cursor(keys[-1]) if more else None, len(ladder))

    def around(self, view: View, subject: str, k: int = 2) -> tuple[BoardRow, ...]:
        """The line of a subject with up to `k` above and below it; empty when it is not on the view. BadInputError for a bad `k`."""
        if not 0 <= k <= MAX_ROWS // 2:
            raise BadInputError(f"{k} rows around is out of range", cure=f"ask for 0-{MAX_ROWS // 2}")
        ladder = self._ladder(view)
        key = ladder.key_of(subject)
        if key is None:
            return ()
        place = ladder.index(key)
        return self._rows(ladder, ladder.slice(place - k, place + k + 1))

    def reference(self, view: View, subject: str) -> References:
        """Whom a subject under way can be compared with at equal progress (`gap_at` of the curves)."""
        ladder = self._ladder(view)
        key = ladder.key_of(subject)
        ahead = ladder.last() if key is None else ladder.next_faster(key)
        return References(self._effort(ladder.leader()), self._effort(ahead), self.best(subject))

    def _take(self, effort: Effort) -> bool:
        """Hold an effort when it is news, in the records (not on the ladders)."""
        self._check(effort)
        self.version = max(self.version, effort.version)
        if _unbound(effort):
            return False
        held = self._efforts.get(effort.id)
        if held is not None:
            if _order(held) >= _order(effort):
                return False
            if held.stands:
                self._own.leave(held)
        self._efforts[effort.id] = effort
        if effort.stands:
            self._own.enter(effort)
        return True

    def _check(self, effort: Effort) -> None:
        if self._tenant is None:
            self._tenant = effort.tenant
        if (effort.tenant, effort.segment) != (self._tenant, self.segment):
            raise ValueError(f"effort {effort.id} is of {effort.tenant}/{effort.segment}, this board of {self._tenant}/{self.segment}")

    def _seat(self, subject: str) -> None:
        """Bring the row of a subject up to date on every ladder there is."""
        own = self._own.of(subject)
        self._overall.put(subject, own, OVERALL.window_us)
        for view, standings in self._views.items():
            standings.put(subject, own, self._span_us(view, subject))

    def _span_us(self, view: View, subject: str) -> Span | None:
        """When an effort of a subject has to start to stand on a view; None: never."""
        athlete = self._athletes.get(subject)
        if view.following is not None and not followed(self._athletes.get(view.following), athlete, view.following, subject):
            return None
        return view.span_us(athlete)

    def _ladder(self, view: View) -> Ladder:
        return self._standings(view).ladder

    def _standings(self, view: View) -> Standings:
        if view is OVERALL or view == OVERALL:  # comparing costs more than most answers
            return self._overall
        held = self._views.pop(view, None)
        standings = self._views[view] = self._made(view) if held is None else held
        while len(self._views) > MAX_VIEWS:
            del self._views[next(iter(self._views))]
        return standings

    def _made(self, view: View) -> Standings:
        return Standings((subject, own, self._span_us(view, subject)) for subject, own in self._own.items())

    def _effort(self, key: Key | None) -> Effort | None:
        return None if key is None else self._efforts[key[2]]

    def _rows(self, ladder: Ladder, keys: Sequence[Key]) -> tuple[BoardRow, ...]:
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
            made.append(BoardRow(rank, self._efforts[key[2]], key[0] - leader[0], None if faster is None else key[0] - faster[0]))
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


def _unbound(effort: Effort) -> bool:
    return effort.subject.startswith("@", effort.subject.find("/") + 1)


def _order(e: Effort) -> tuple[object, ...]:
    """What decides between two states of one effort: version first, then removal, the later phase, and any fixed order of the rest."""
    nothing = -1
    hr = nothing if e.hr_avg_bpm is None else e.hr_avg_bpm
    power = nothing if e.power_avg_w is None else e.power_avg_w
    known = e.activity, e.ordinal, e.start_us, e.elapsed_ms, e.accuracy_ms, hr, power, e.curve_ms
    return e.version, e.removed, e.phase, *known, e.kept_off, e.plausibility_pct, e.doubts, e.ruling, e.subject


def _same_row(before: Effort | None, after: Effort | None) -> bool:
    """Whether nothing but the version differs."""
    if before is None or after is None or before.id != after.id:
        return before is after
    return before is after or replace(before, version=after.version) == after
