"""The uplink's window: rules one by one, then any order of loss, repetition, reordering and disconnection against a model."""

from math import inf

import hypothesis.strategies as st
import pytest
from hypothesis import settings
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from broker.errors import ConfigError, Reason
from gateway.window import Send, Wait, Window, WindowSettings

SMALL = WindowSettings(rows=40, backlog_share=0.5, probe_rows=4)


def window(*owed, end=None, limits=SMALL):
    return Window(limits, lambda: 0.5, owed, end if end is not None else (owed[-1][1] + 1 if owed else 1))


def opened(*owed, now=0.0, limits=SMALL):
    """A connected window whose first probe was acknowledged, with `owed` as backlog; one row more (n=1) served as the probe."""
    plan = window((1, 1), *owed, limits=limits)
    plan.connected(now)
    first = plan.next(now)
    assert first.first_n == 1
    plan.sent(first, 1, now)
    assert plan.acked([(1, 1)], now) == [(1, 1)]
    return plan


def send_all(plan, now, **options):
    """Send until the window says wait: [(first, last, live)] and the Wait."""
    out = []
    while isinstance(step := plan.next(now, **options), Send):
        plan.sent(step, step.max_rows, now)
        out.append((step.first_n, step.first_n + step.max_rows - 1, step.live))
        assert len(out) < 1000
    return out, step


def test_nothing_is_sent_before_the_session_is_up():
    plan = window((1, 10))
    assert plan.next(0.0) == Wait(inf)


def test_first_bundle_after_connecting_is_one_small_probe():
    plan = window((1, 100))
    plan.connected(0.0)
    sent, wait = send_all(plan, 0.0)
    assert sent == [(1, 4, False)]
    assert 0 < wait.until <= 1.0
    assert plan.probing


def test_any_useful_ack_opens_the_window_and_backlog_fills_only_its_share():
    plan = opened((2, 100))
    sent, _ = send_all(plan, 0.0)
    assert sent == [(2, 21, False)]
    assert not plan.probing


def test_live_rows_find_room_although_backlog_waits():
    plan = opened((2, 100))
    send_all(plan, 0.0)
    plan.appended(111)
    sent, _ = send_all(plan, 0.0)
    assert sent == [(101, 110, True)]


def test_live_goes_before_backlog_when_both_wait():
    plan = opened((2, 100))
    plan.appended(106)
    sent, _ = send_all(plan, 0.0)
    assert sent == [(101, 105, True), (2, 21, False)]


def test_backlog_waits_while_the_shell_holds_it_back():
    plan = opened((2, 100))
    assert send_all(plan, 0.0, backlog=False)[0] == []


def test_window_is_never_exceeded_by_live_rows():
    plan = opened()
    plan.appended(1000)
    sent, _ = send_all(plan, 0.0)
    assert sum(last - first + 1 for first, last, _ in sent) == 40
    assert plan.flying_rows == 40


def test_live_is_only_what_fits_the_window_the_rest_is_backlog():
    plan = opened()
    plan.appended(1000)
    assert send_all(plan, 0.0)[0][0] == (960, 999, True)
    assert plan.backlog_rows == 958


def test_a_hole_ends_a_bundle():
    plan = opened((2, 4), (6, 9))
    assert send_all(plan, 0.0)[0] == [(2, 4, False), (6, 9, False)]


def drain(plan, now, round_trip_s, turns):
    """Rows of backlog in flight in each of `turns` round trips."""
    flying = []
    for _ in range(turns):
        sent, _ = send_all(plan, now)
        assert all(last - first < 255 for first, last, _ in sent)
        flying.append(plan.flying_rows)
        now += round_trip_s(plan.flying_rows)
        for first, last, _ in sent:
            plan.acked([(first, last)], now)
    return flying


def test_backlog_widens_from_one_bundle_to_its_share_while_acks_are_quick():
    flying = drain(opened((2, 100_000), limits=WindowSettings()), 0.0, lambda rows: 0.05, 20)
    assert flying[:2] == [510, 1020]  # one bundle more for each ack: that of the probe came first
    assert flying[-1] == 2805  # 11 whole bundles of the 3,000 rows
    assert flying == sorted(flying)


def test_backlog_gives_way_when_it_makes_acks_slow():
    """A platform that takes 5,000 rows a second: 0.1 s of queue is 500 rows, whatever the share allows."""
    flying = drain(opened((2, 100_000), limits=WindowSettings()), 0.0, lambda rows: 0.01 + rows / 5000, 60)
    assert max(flying[20:]) <= 1020
    assert sum(flying[20:]) / 40 >= 300


def test_silence_collapses_to_probes_with_growing_delays_at_most_30_s():
    plan = opened((2, 3))
    plan.appended(1000)
    send_all(plan, 0.0)
    now, delays, sizes = 5.0, [], []
    for _ in range(9):
        sent, wait = send_all(plan, now)
        sizes += [last - first + 1 for first, last, _ in sent]
        delays.append(wait.until - now)
        now = wait.until
    assert delays == [0.75, 0.75, 1.5, 3.0, 6.0, 12.0, 22.5, 22.5, 22.5]
    assert sizes == [4] * 8
    assert plan.counters["collapses"] == 1


def test_probes_move_on_so_that_no_row_blocks_the_others():
    plan = window((1, 8))
    plan.connected(0.0)
    firsts = []
    for now in (0.0, 10.0, 20.0, 40.0):
        sent, _ = send_all(plan, now)
        firsts += [first for first, _, _ in sent]
    assert firsts == [1, 5, 1, 5]


def test_late_ack_of_a_timed_out_row_ends_the_probing_and_lengthens_the_timeout():
    plan = opened((2, 20))
    send_all(plan, 0.0)
    plan.next(5.0)
    assert plan.probing
    assert plan.acked([(2, 20)], 8.0) == [(2, 20)]
    assert not plan.probing
    assert plan.timeout_s == 10.0
    assert plan.owed == ()


def test_timeout_follows_the_measured_round_trip():
    plan = opened(limits=WindowSettings())
    for turn in range(30):
        now = 10.0 * turn
        plan.appended(3 + turn)
        send_all(plan, now)
        plan.acked([(2 + turn, 2 + turn)], now + 4.5)
    assert 5.0 <= plan.timeout_s < 7.0
    quick = opened()
    quick.appended(3)
    send_all(quick, 0.0)
    quick.acked([(2, 2)], 0.01)
    assert quick.timeout_s == 5.0


def test_one_lost_bundle_is_sent_again_while_others_are_acknowledged():
    plan = opened((2, 5), (7, 9))
    send_all(plan, 0.0)
    plan.acked([(7, 9)], 4.0)
    assert isinstance(wait := plan.next(4.0), Wait)
    assert wait.until == 5.0
    assert send_all(plan, 5.0)[0] == [(2, 5, False)]
    assert plan.counters["resent_rows"] == 4
    assert not plan.probing


def test_rows_in_flight_are_owed_again_after_a_disconnection():
    plan = opened((2, 5))
    send_all(plan, 0.0)
    plan.disconnected()
    assert plan.owed == ((2, 5),)
    assert plan.flying_rows == 0
    plan.connected(1.0)
    assert send_all(plan, 1.0)[0] == [(2, 5, False)]


def test_rows_committed_while_away_are_backlog():
    plan = opened()
    plan.disconnected()
    plan.appended(10)
    plan.connected(1.0)
    assert plan.backlog_rows == 8


def test_refused_rows_are_counted_by_reason_and_never_sent_again():
    plan = opened((2, 5))
    send_all(plan, 0.0)
    assert plan.refused(3, 4, Reason.BAD_FRAME, 0.1) == [(3, 4)]
    assert plan.refused(3, 4, Reason.BAD_FRAME, 0.1) == []
    assert plan.refused(5, 5, "made up by the peer", 0.1) == [(5, 5)]
    assert plan.refused_by_reason == {"bad_frame": 2, "other": 1}
    plan.disconnected()
    assert plan.owed == ((2, 2),)


def test_unknown_rows_are_ignored_and_counted():
    plan = window((5, 8))
    plan.connected(0.0)
    assert plan.acked([(1, 4), (9, 1 << 47)], 0.0) == []
    assert plan.probing
    assert plan.counters["unknown_rows"] == 4 + (1 << 47) - 8
    assert plan.acked([(0, 1 << 47)], 0.0) == [(5, 8)]


def test_rows_the_spool_dropped_are_forgotten():
    plan = opened((2, 30))
    send_all(plan, 0.0)
    plan.retain([(10, 25)])
    assert plan.owed == ((10, 25),)


def test_memory_is_bounded_by_ranges():
    plan = window((1, 1 << 40))
    plan.connected(0.0)
    send_all(plan, 0.0)
    assert plan.acked([(1, 1 << 39)], 0.0) == [(1, 4), (5, 1 << 39)]
    assert plan.owed == (((1 << 39) + 1, 1 << 40),)


@pytest.mark.parametrize("bad", [{"rows": 1}, {"backlog_share": 1.0}, {"ack_timeout_s": 0}, {"probe_rows": 256}])
def test_bad_limits_are_refused(bad):
    with pytest.raises(ConfigError, match="uplink window"):
        WindowSettings(**bad)


class AnyNetwork(RuleBasedStateMachine):
    """A window against a network that loses, repeats, delays and reorders bundles and acks, and a spool that may drop rows."""

    @initialize(backlog=st.integers(1, 60), hole=st.integers(1, 59), is_open=st.booleans())
    def start(self, backlog, hole, is_open):
        owed = [(1, min(hole, backlog))]
        if hole + 2 <= backlog:
            owed.append((hole + 2, backlog))
        self.window = Window(SMALL, lambda: 0.3, owed, backlog + 1)
        self.end = backlog + 1
        self.owed = {n for first, last in owed for n in range(first, last + 1)}
        self.settled = set()
        self.fresh = set()  # live by the model: appended in this session and never sent
        self.bundles, self.acks = [], []
        self.now = 0.0
        self.up = False
        self.collapses = 0
        if is_open:
            self.connect()
            self.send(1, backlog=True)
            self.take((1, 1, False))

    @rule(rows=st.integers(1, 70))
    def append(self, rows):
        added = set(range(self.end, self.end + rows))
        self.end += rows
        self.owed |= added
        self.window.appended(self.end)
        if self.up:
            self.fresh = set(sorted(self.fresh | added)[-SMALL.rows :])

    @rule(part=st.integers(1, 255), backlog=st.booleans())
    def send(self, part, backlog):
        step = self.window.next(self.now, backlog=backlog)
        if self.window.counters["collapses"] != self.collapses:
            self.collapses = self.window.counters["collapses"]
            self.fresh.clear()
        if isinstance(step, Wait):
            assert step.until >= self.now
            return
        assert self.up
        rows = set(range(step.first_n, step.first_n + min(step.max_rows, part)))
        assert rows <= self.owed, "a bundle spans a hole or holds a row that is settled"
        assert 1 <= step.max_rows <= 255
        if step.probe:
            self.fresh.clear()
            assert step.max_rows <= SMALL.probe_rows
        elif step.live:
            assert step.first_n == min(self.fresh)
        else:
            assert backlog
            assert not self.fresh, "backlog was sent while live rows waited"
        self.fresh -= rows
        self.window.sent(step, len(rows), self.now)
        self.bundles.append((min(rows), max(rows)))

    @precondition(lambda self: self.bundles)
    @rule(data=st.data(), keep=st.booleans(), refuse=st.booleans())
    def deliver_bundle(self, data, keep, refuse):
        at = data.draw(st.integers(0, len(self.bundles) - 1))
        self.acks.append((*self.bundles[at], refuse))
        if not keep:
            del self.bundles[at]

    @precondition(lambda self: self.acks)
    @rule(data=st.data(), keep=st.booleans())
    def deliver_ack(self, data, keep):
        at = data.draw(st.integers(0, len(self.acks) - 1))
        self.take(self.acks[at])
        if not keep:
            del self.acks[at]

    def take(self, ack):
        first, last, refuse = ack
        ranges = self.window.refused(first, last, "bad_frame", self.now) if refuse else self.window.acked([(first, last)], self.now)
        gone = [n for a, b in ranges for n in range(a, b + 1)]
        assert len(gone) == len(set(gone))
        assert set(gone) == self.owed & set(range(first, last + 1)), "an ack frees exactly what it names and was owed"
        assert not set(gone) & self.settled
        self.settled |= set(gone)
        self.owed -= set(gone)
        self.fresh -= set(gone)

    @precondition(lambda self: self.bundles)
    @rule(data=st.data())
    def lose_bundle(self, data):
        del self.bundles[data.draw(st.integers(0, len(self.bundles) - 1))]

    @rule(seconds=st.sampled_from([0.01, 0.4, 1.0, 4.9, 5.0, 31.0]))
    def time_passes(self, seconds):
        self.now += seconds

    @precondition(lambda self: self.up)
    @rule()
    def disconnect(self):
        self.up = False
        self.fresh.clear()
        self.bundles.clear()
        self.acks.clear()
        self.window.disconnected()

    @precondition(lambda self: not self.up)
    @rule()
    def connect(self):
        self.up = True
        self.fresh.clear()
        self.window.connected(self.now)

    @rule(data=st.data())
    def spool_drops_its_oldest(self, data):
        dropped = set(sorted(self.owed)[: data.draw(st.integers(0, 10))])
        self.owed -= dropped
        self.fresh -= dropped
        self.window.retain([(n, n) for n in self.owed])

    @invariant()
    def window_holds(self):
        assert self.window.flying_rows <= SMALL.rows
        assert {n for a, b in self.window.owed for n in range(a, b + 1)} == self.owed

    def teardown(self):
        """From any state a network that works again ends with every row settled."""
        if not hasattr(self, "window"):
            return
        self.connect()
        for _ in range(2000):
            if not self.owed:
                break
            self.send(255, backlog=True)
            for first, last in self.bundles:
                self.take((first, last, False))
            self.bundles.clear()
            self.now += 0.1
        assert not self.owed
        assert self.window.owed == ()


AnyNetwork.TestCase.settings = settings(max_examples=100, stateful_step_count=40, deadline=None)
TestAnyNetwork = AnyNetwork.TestCase
