"""How a board holds its efforts: the seam between its rules and the two ways, objects (`HeldEfforts`) and columns (`packed_holding`).

A holding knows which efforts there are, which of them count, and the rows of every view, by keys. Per effort id the greater state wins
(`order_of`), and a removed one stays as a tombstone. Views are made when first asked for and kept up to date from then on, the least
recently used goes first. One owner.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import replace
from typing import Final, Protocol, TypeVar

from broker.reference import AthleteRef
from processors.awards import Awards
from processors.board_views import Span, View, followed
from processors.ladder import Key
from processors.own_efforts import OwnEfforts
from processors.results import Effort
from processors.standings import Standings

T = TypeVar("T")

OVERALL: Final = View()
EFFORT_BYTES: Final = 1_000  # an effort as objects, with its place on the overall view (`paceline bench boards`)
ROW_BYTES: Final = 200  # of a further view
MAX_VIEWS: Final = 32  # kept up to date beside the overall one


class Rows(Protocol):
    """The rows of a view in order, as `ladder.Ladder` has them."""

    def __len__(self) -> int: ...
    def key_of(self, subject: str) -> Key | None: ...
    def rank(self, key: Key) -> int: ...
    def index(self, key: Key) -> int: ...
    def index_after(self, key: Key) -> int: ...
    def slice(self, first: int, last: int) -> list[Key]: ...
    def leader(self) -> Key | None: ...
    def last(self) -> Key | None: ...
    def next_faster(self, key: Key) -> Key | None: ...
    def percentile_ms(self, percent: int) -> int | None: ...


class Holding(Protocol):
    """The efforts of one board."""

    @property
    def awards(self) -> Awards | None:
        """What the efforts are awarded, when that is followed."""
        ...

    def __len__(self) -> int:
        """How many efforts are held, tombstones too."""
        ...

    @property
    def nbytes(self) -> int:
        """Memory of it, about."""
        ...

    def held(self, effort_id: str) -> Effort | None:
        """An effort as it was taken last, removed or not."""
        ...

    def take(self, effort: Effort) -> bool:
        """Hold an effort when it is news."""
        ...

    def leave(self, effort: Effort) -> Effort:
        """Take an effort that stands off before it comes back as another subject's; what is held of it now."""
        ...

    def load(self, efforts: Iterable[Effort]) -> int:
        """Take many at once; how many were news. Views are made anew."""
        ...

    def award(self) -> None:
        """Follow what the efforts are awarded from now on."""
        ...

    def own(self, subject: str) -> Sequence[Key]:
        """The keys of the efforts of a subject that count, best first."""
        ...

    def rows(self, view: View) -> Rows:
        """The rows of a view."""
        ...

    def efforts(self, view: View) -> int:
        """How many efforts count on a view."""
        ...

    def most_efforts(self, from_us: int, to_us: int) -> tuple[str, int] | None:
        """Who has most efforts that start between two times, and how many: of several, who had them first, then the first by name."""
        ...

    def athlete_changed(self, subject: str) -> None:
        """The athlete's entry in the mapping is another one now."""
        ...


class HeldEfforts:
    """Efforts as objects: the way of a board of up to some ten thousand."""

    def __init__(self, athletes: Mapping[str, AthleteRef]) -> None:
        self._athletes = athletes
        self._efforts: dict[str, Effort] = {}  # by id, tombstones too
        self._own = OwnEfforts()
        self._overall = Standings()
        self._views: dict[View, Standings] = {}  # least recently used first

    @property
    def awards(self) -> Awards | None:
        """What the efforts are awarded, when that is followed."""
        return self._own.awards

    def __len__(self) -> int:
        return len(self._efforts)

    @property
    def nbytes(self) -> int:
        """Memory of it, about."""
        return EFFORT_BYTES * len(self) + ROW_BYTES * sum(len(rows.ladder) for rows in self._views.values())

    def everything(self) -> Iterable[Effort]:
        """All that is held, tombstones too."""
        return self._efforts.values()

    def held(self, effort_id: str) -> Effort | None:
        """An effort as it was taken last, removed or not."""
        return self._efforts.get(effort_id)

    def take(self, effort: Effort) -> bool:
        """Hold an effort when it is news."""
        held = self._efforts.get(effort.id)
        if not self._take(effort, held):
            return False
        if held is not None and held.subject != effort.subject:
            self._seat(held.subject)
        self._seat(effort.subject)
        return True

    def leave(self, effort: Effort) -> Effort:
        """Take an effort that stands off before it comes back as another subject's; what is held of it now."""
        gone = self._efforts[effort.id] = replace(effort, removed=True)
        self._own.leave(effort)
        self._seat(effort.subject)
        return gone

    def load(self, efforts: Iterable[Effort]) -> int:
        """Take many at once; how many were news. Views are made anew."""
        awarding, self._own.awards = self._own.awards is not None, None
        taken = sum(self._take(effort, self._efforts.get(effort.id)) for effort in efforts)
        if awarding:
            self.award()
        if taken:
            self._views.clear()
            self._overall = self._made(OVERALL)
        return taken

    def award(self) -> None:
        """Follow what the efforts are awarded from now on."""
        self._own.awards = Awards((key, subject) for subject, own in self._own.items() for key in own)

    def own(self, subject: str) -> Sequence[Key]:
        """The keys of the efforts of a subject that count, best first."""
        return self._own.of(subject)

    def rows(self, view: View) -> Rows:
        """The rows of a view."""
        return self._standings(view).ladder

    def efforts(self, view: View) -> int:
        """How many efforts count on a view."""
        return self._standings(view).efforts

    def most_efforts(self, from_us: int, to_us: int) -> tuple[str, int] | None:
        """Who has most efforts that start between two times, and how many: of several, who had them first, then the first by name."""
        best: tuple[int, int, str] | None = None
        for subject, own in self._own.items():
            starts = [key[1] for key in own if from_us <= key[1] < to_us]
            if starts:
                here = (-len(starts), max(starts), subject)
                best = here if best is None else min(best, here)
        return None if best is None else (best[2], -best[0])

    def athlete_changed(self, subject: str) -> None:
        """The athlete's entry in the mapping is another one now."""
        for view in [view for view in self._views if view.following == subject]:
            del self._views[view]
        if self._own.of(subject):
            self._seat(subject)

    def _take(self, effort: Effort, held: Effort | None) -> bool:
        """Hold an effort when it is news, in the records (not on the ladders)."""
        if held is not None:
            if order_of(held) >= order_of(effort):
                return False
            if held.stands:
                self._own.leave(held)
        self._efforts[effort.id] = effort
        if effort.stands:
            self._own.enter(effort)
        return True

    def _seat(self, subject: str) -> None:
        """Bring the row of a subject up to date on every ladder there is."""
        own = self._own.of(subject)
        self._overall.put(subject, own, OVERALL.window_us)
        for view, standings in self._views.items():
            standings.put(subject, own, span_of(self._athletes, view, subject))

    def _standings(self, view: View) -> Standings:
        if view is OVERALL or view == OVERALL:  # comparing costs more than most answers
            return self._overall
        return last_used(self._views, view, self._made)

    def _made(self, view: View) -> Standings:
        return Standings((subject, own, span_of(self._athletes, view, subject)) for subject, own in self._own.items())


def last_used(views: dict[View, T], view: View, made: Callable[[View], T], gone: Callable[[View], None] | None = None) -> T:
    """The rows of a view, made when they are not kept; they go last when room is needed. `gone` hears of one that goes."""
    held = views.pop(view, None)
    rows = views[view] = made(view) if held is None else held
    while len(views) > MAX_VIEWS:
        first = next(iter(views))
        del views[first]
        if gone is not None:
            gone(first)
    return rows


def span_of(athletes: Mapping[str, AthleteRef], view: View, subject: str) -> Span | None:
    """When an effort of a subject has to start to stand on a view; None: never."""
    athlete = athletes.get(subject)
    if view.following is not None and not followed(athletes.get(view.following), athlete, view.following, subject):
        return None
    return view.span_us(athlete)


def order_of(e: Effort) -> tuple[object, ...]:
    """What decides between two states of one effort: version first, then removal, the later phase, and any fixed order of the rest."""
    nothing = -1
    hr = nothing if e.hr_avg_bpm is None else e.hr_avg_bpm
    power = nothing if e.power_avg_w is None else e.power_avg_w
    known = e.activity, e.ordinal, e.start_us, e.elapsed_ms, e.accuracy_ms, hr, power, e.curve_ms
    return e.version, e.removed, e.phase, *known, e.kept_off, e.plausibility_pct, e.doubts, e.ruling, e.subject
