"""Which rows of the spool go up next: the pure half of the uplink (design, section 4). No I/O, no clock, no payloads.

Rules: live rows before backlog; at most `rows` unacknowledged, of which backlog gets a share that shrinks when acks slow down; a bundle
never spans a hole. A link that was just made, or whose acks stayed away for the timeout, sends one probe per back-off until something is
acknowledged: neither a dead platform nor a flapping link floods a queueing broker. Only rows owed can be acknowledged, others are counted.
Invariants: each owed row is in exactly one of four sets (waiting or flying, live or backlog); memory is bounded by ranges, not rows.
"""

from __future__ import annotations

from collections import Counter, deque
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from math import inf

from broker.bundles import MAX_N, MAX_ROWS
from broker.errors import ConfigError, Reason
from gateway.ranges import Range, RangeSet

_KNOWN_REASONS = frozenset(Reason)
_LEAST_PERIOD_S = 300.0


def known_reason(reason: str) -> str:
    """The word to count a peer's reason under: bounded, whatever it sends."""
    return reason if reason in _KNOWN_REASONS else "other"


@dataclass(frozen=True, slots=True)
class WindowSettings:
    """Limits of the window. Times in seconds."""

    rows: int = 4000  # unacknowledged at most
    backlog_share: float = 0.75  # of `rows`, so that live rows always find room
    ack_timeout_s: float = 5.0  # lower bound; grows with the measured round trip
    ack_timeout_cap_s: float = 60.0
    backlog_delay_s: float = 0.1  # queueing that backlog may cause on the way: beyond it backlog gives way, for the live rows of all boxes
    probe_rows: int = 32
    probe_first_s: float = 1.0
    probe_cap_s: float = 30.0

    def __post_init__(self) -> None:
        if self.rows < 2 or not 0 < self.backlog_share < 1:
            raise ConfigError(f"uplink window: rows {self.rows}, backlog_share {self.backlog_share}", cure="rows >= 2, 0 < share < 1")
        if not 0 < self.ack_timeout_s <= self.ack_timeout_cap_s or not 0 < self.probe_first_s <= self.probe_cap_s:
            raise ConfigError(
                "uplink window: a time is not positive or above its cap", cure="0 < ack_timeout_s <= cap, 0 < probe_first_s <= cap"
            )
        if not 1 <= self.probe_rows <= MAX_ROWS:
            raise ConfigError(f"uplink window: probe_rows {self.probe_rows}", cure=f"1..{MAX_ROWS}")


@dataclass(frozen=True, slots=True)
class Send:
    """Send consecutive rows from `first_n`, at most `max_rows`; then tell `Window.sent` how many it were."""

    first_n: int
    max_rows: int
    probe: bool
    live: bool


@dataclass(frozen=True, slots=True)
class Wait:
    """Nothing to send before `until` (same clock as `now`; inf: until something happens)."""

    until: float


@dataclass(slots=True)
class _Flight:
    sent_at: float
    first: int
    last: int
    again: bool  # holds rows sent before: its ack says nothing about the round trip (Karn's rule)


class Window:
    """Plans sending for one spool. `random` gives uniform [0, 1) for the jitter of probes; `now` is any monotonic clock in seconds."""

    def __init__(self, settings: WindowSettings, random: Callable[[], float], owed: Iterable[Range] = (), end: int = 0) -> None:
        self._set = settings
        self._random = random
        self._live = RangeSet()
        self._backlog = RangeSet(owed)
        self._flying_live = RangeSet()
        self._flying_backlog = RangeSet()
        self._lapsed = RangeSet()  # sent at least once without an answer in time, still owed
        self._flights: deque[_Flight] = deque()
        self._end = end
        self._connected = False
        self._probing = True
        self._probe_at = 0.0
        self._probe_delay_s = settings.probe_first_s
        self._probe_cursor = 0
        self._quiet_since = 0.0
        self._round_trip_s: float | None = None
        self._deviation_s = 0.0
        self._least_s = self._least_before_s = inf  # round trip without a queue: the least of this period and of the one before
        self._period_from = -inf
        self._most_backlog = max(1, int(settings.rows * settings.backlog_share))
        self._backlog_room = min(self._most_backlog, MAX_ROWS)
        self._moved_at = -inf
        self._narrowed = False
        self.timeout_s = settings.ack_timeout_s
        self.counters: Counter[str] = Counter()
        self.refused_by_reason: Counter[str] = Counter()

    @property
    def owed(self) -> tuple[Range, ...]:
        """All rows neither stored nor refused, as ranges."""
        every = RangeSet()
        for part in (self._live, self._backlog, self._flying_live, self._flying_backlog):
            for first, last in part.ranges():
                every.add(first, last)
        return every.ranges()

    @property
    def flying_rows(self) -> int:
        """Rows sent and not yet answered or timed out: never more than `WindowSettings.rows`."""
        return len(self._flying_live) + len(self._flying_backlog)

    @property
    def probing(self) -> bool:
        return self._probing

    @property
    def backlog_rows(self) -> int:
        """Rows waiting that are not live."""
        return len(self._backlog)

    def connected(self, now: float) -> None:
        """A session with the broker is up: what waits is backlog, what is appended from now on is live. The first bundle is a probe."""
        self._ground()
        self._connected = True
        self._start_probing(now, at_once=True)

    def disconnected(self) -> None:
        """The session is gone. Rows in flight are owed again: an ack published meanwhile would not have reached us."""
        self._ground()
        self._connected = False

    def appended(self, end: int) -> None:
        """Rows up to but not including `end` are committed."""
        if end <= self._end:
            return
        (self._live if self._connected else self._backlog).add(self._end, end - 1)
        self._end = end
        surplus = len(self._live) - self._set.rows  # live is what is new: an hour of waiting rows is backlog
        for first, last in self._live.lowest(surplus):
            self._move(self._live.remove(first, last), self._backlog)

    def retain(self, ranges: Iterable[Range]) -> None:
        """Forget every owed row outside `ranges`: the spool dropped or quarantined it by its own policy."""
        kept = RangeSet(ranges)
        for part in (self._live, self._backlog, self._flying_live, self._flying_backlog, self._lapsed):
            for first, last in part.remove(0, MAX_N):
                self._move(kept.within(first, last), part)

    def next(self, now: float, *, backlog: bool = True) -> Send | Wait:
        """What to do at `now`. `backlog=False` holds backlog back for the moment (the shell's own queue of it is full)."""
        if not self._connected:
            return Wait(inf)
        self._lapse(now)
        if self._probing:
            return self._next_probe(now)
        room = self._set.rows - self.flying_rows
        for first, last in self._live.lowest(min(room, MAX_ROWS)):
            return Send(first, last - first + 1, probe=False, live=True)
        share = self._backlog_room
        for first, last in self._backlog.lowest(min(share, MAX_ROWS) if backlog else 0):
            rows = last - first + 1  # no sliver bundles: wait until the whole run fits
            if rows <= min(room, share - len(self._flying_backlog)):
                return Send(first, rows, probe=False, live=False)
            break
        return Wait(self._deadline())

    def sent(self, send: Send, rows: int, now: float) -> None:
        """The shell handed the first `rows` rows of `send` to the network at `now`. Rows answered since `next` stay answered."""
        first, last = send.first_n, send.first_n + rows - 1
        if not self.flying_rows:
            self._quiet_since = now
        again = bool(self._lapsed.within(first, last))
        self._move(self._live.remove(first, last), self._flying_live)
        self._move(self._backlog.remove(first, last), self._flying_backlog)
        self._flights.append(_Flight(now, first, last, again))
        self.counters["sent_bundles"] += 1
        self.counters["sent_rows"] += rows
        if again:
            self.counters["resent_rows"] += sum(b - a + 1 for a, b in self._lapsed.within(first, last))
        if send.probe:
            self.counters["probes"] += 1
            self._probe_cursor = last + 1
            self._probe_at = now + self._probe_delay_s * (0.5 + 0.5 * self._random())
            self._probe_delay_s = min(self._set.probe_cap_s, 2 * self._probe_delay_s)

    def acked(self, ranges: Iterable[Range], now: float) -> list[Range]:
        """Rows the next hop stored. Returns those that were owed: free them. Others are counted as `unknown_rows`."""
        settled = self._settle(ranges, now)
        self.counters["acked_rows"] += sum(b - a + 1 for a, b in settled)
        return settled

    def refused(self, first: int, last: int, reason: str, now: float) -> list[Range]:
        """Rows the next hop will never store. Returns those that were owed: never sent again, counted by reason."""
        settled = self._settle([(first, last)], now)
        rows = sum(b - a + 1 for a, b in settled)
        self.counters["refused_rows"] += rows
        if rows:
            self.refused_by_reason[known_reason(reason)] += rows
        return settled

    def _settle(self, ranges: Iterable[Range], now: float) -> list[Range]:
        settled: list[Range] = []
        late = False
        for first, last in ranges:
            sample = self._sample(first, last, now)
            found: list[Range] = []
            for part in (self._flying_live, self._flying_backlog, self._live, self._backlog):
                found += part.remove(first, last)
            unknown = last - first + 1 - sum(b - a + 1 for a, b in found)
            self.counters["unknown_rows"] += unknown
            if found and sample is not None:
                self._learn(sample, now)
            late = bool(self._lapsed.remove(first, last)) or late
            settled += found
        while self._flights and not self._aloft(self._flights[0]):
            self._flights.popleft()
        if settled:
            if late:  # too impatient, or the rows were lost once: a clean sample corrects it
                self.timeout_s = min(self._set.ack_timeout_cap_s, 2 * self.timeout_s)
            self._quiet_since = now
            self._probing = False
        return settled

    def _next_probe(self, now: float) -> Send | Wait:
        if now < self._probe_at:
            return Wait(self._probe_at)
        self._ground()  # the probe before it had its time
        ahead = self._backlog.within(self._probe_cursor, MAX_N)  # a new place each time: no row can block the others
        for first, last in ahead or self._backlog.lowest(MAX_ROWS):
            return Send(first, min(last - first + 1, self._set.probe_rows, self._set.rows), probe=True, live=False)
        return Wait(inf)

    def _start_probing(self, now: float, *, at_once: bool) -> None:
        self._probing = True
        self._probe_delay_s = self._set.probe_first_s
        self._probe_at = now if at_once else now + self._probe_delay_s * (0.5 + 0.5 * self._random())

    def _lapse(self, now: float) -> None:
        """Collapse when nothing at all was answered in time, else take back single bundles whose time is over."""
        if self._probing or not self.flying_rows:
            return
        if now - self._quiet_since >= self.timeout_s:
            self.counters["collapses"] += 1
            self._ground()
            self._start_probing(now, at_once=False)
            return
        while self._flights and now - self._flights[0].sent_at >= self.timeout_s:
            flight = self._flights.popleft()
            for part in (self._flying_live, self._flying_backlog):
                self._lose(part.remove(flight.first, flight.last))

    def _deadline(self) -> float:
        if not self.flying_rows:
            return inf
        return min(self._quiet_since, self._flights[0].sent_at) + self.timeout_s

    def _ground(self) -> None:
        """Everything owed becomes backlog; nothing is in flight."""
        for part in (self._flying_live, self._flying_backlog):
            self._lose(part.remove(0, MAX_N))
        self._move(self._live.remove(0, MAX_N), self._backlog)
        self._flights.clear()

    def _lose(self, ranges: Iterable[Range]) -> None:
        for first, last in ranges:
            self._backlog.add(first, last)
            self._lapsed.add(first, last)

    def _aloft(self, flight: _Flight) -> bool:
        return bool(self._flying_live.within(flight.first, flight.last) or self._flying_backlog.within(flight.first, flight.last))

    def _sample(self, first: int, last: int, now: float) -> float | None:
        for flight in self._flights:
            if flight.first <= last and first <= flight.last:
                return None if flight.again else now - flight.sent_at
        return None

    def _learn(self, sample_s: float, now: float) -> None:
        """Round trip and timeout as in RFC 6298 (gains 1/8 and 1/4, timeout = mean + 4 deviations); room for backlog by queueing delay."""
        if self._round_trip_s is None:
            self._round_trip_s, self._deviation_s = sample_s, sample_s / 2
        else:
            self._deviation_s += (abs(sample_s - self._round_trip_s) - self._deviation_s) / 4
            self._round_trip_s += (sample_s - self._round_trip_s) / 8
        wanted = self._round_trip_s + 4 * self._deviation_s
        self.timeout_s = min(self._set.ack_timeout_cap_s, max(self._set.ack_timeout_s, wanted))
        if now - self._period_from > _LEAST_PERIOD_S:
            self._period_from, self._least_before_s, self._least_s = now, self._least_s, inf
        self._least_s = min(sample_s, self._least_s)
        once = now - self._moved_at > sample_s  # a change shows only after a round trip
        if sample_s <= min(self._least_s, self._least_before_s) + self._set.backlog_delay_s:
            if once or not self._narrowed:  # doubles a round trip until it was too much for the first time
                self._moved_at = now
                self._backlog_room = min(self._most_backlog, self._backlog_room + MAX_ROWS)
        elif once:
            self._moved_at, self._narrowed = now, True
            self._backlog_room = max(min(self._most_backlog, MAX_ROWS), self._backlog_room // 2)

    @staticmethod
    def _move(ranges: Iterable[Range], to: RangeSet) -> None:
        for first, last in ranges:
            to.add(first, last)
