"""When a device on a battery sleeps, sends and stops: decisions only, made from numbers. Figures in millivolts, milliseconds and rows.

    cell = Cell()                         # a lithium cell with hysteresis
    cell.measured(3550), cell.pct, cell.low, cell.empty
    plan = Plan(batch_ms=60000)
    plan.decide(now_ms, owed_rows, ring_pct, moving, cell) -> (SEND | MEASURE | LIGHT | DEEP, for how long in ms)
"""

from kit.ticks import ticks_diff

_CURVE = ((4150, 100), (4000, 85), (3850, 60), (3750, 40), (3700, 20), (3600, 8), (3500, 4), (3300, 0))  # a resting lithium cell
LOW_MV, LOW_OVER_MV = 3550, 3650
EMPTY_MV, EMPTY_OVER_MV = 3350, 3500
MEASURE, SEND, LIGHT, DEEP = "measure", "send", "light", "deep"


class Cell:
    """`low`: send seldom. `empty`: write nothing and send nothing, before the brown-out detector ends it in the midst of a program or
    erase.
    """

    def __init__(self):
        self.mv = self.pct = None
        self.low = self.empty = False

    def measured(self, mv):
        """A new voltage. Flags come at once and go only well above."""
        self.mv = mv
        self.pct = pct_of(mv)
        self.low = mv < (LOW_OVER_MV if self.low else LOW_MV)
        self.empty = mv < (EMPTY_OVER_MV if self.empty else EMPTY_MV)


def pct_of(mv):
    """Per cent of charge of a lithium cell at rest."""
    if mv >= _CURVE[0][0]:
        return 100
    for (high_mv, high_pct), (low_mv, low_pct) in zip(_CURVE, _CURVE[1:]):
        if mv >= low_mv:
            return low_pct + (mv - low_mv) * (high_pct - low_pct) // (high_mv - low_mv)
    return 0


class Plan:
    """Rows wait for a window of `batch_ms` (0: sent at once), or until the ring is `full_pct` full; on a low cell windows are four times as
    far apart.

    A device that does not move for `still_ms` sleeps deeply, for `nap_ms` at a time, unless rows are due.
    """

    def __init__(self, batch_ms=0, full_pct=60, still_ms=300000, nap_ms=60000):
        if not 0 <= batch_ms <= 3600000 or not 1 <= full_pct <= 100:
            raise ValueError("batch_ms %d, full_pct %d: give 0 to 3,600,000 and 1 to 100" % (batch_ms, full_pct))
        self.batch_ms, self.full_pct, self.still_ms, self.nap_ms = batch_ms, full_pct, still_ms, nap_ms
        self._sent_ms = None
        self._moved_ms = None

    def sent(self, now_ms):
        """All that was owed is acknowledged, or the window is over."""
        self._sent_ms = now_ms

    def decide(self, now_ms, owed_rows, ring_pct, moving, cell):
        """What to do now, and for how long at most."""
        if self._moved_ms is None or moving:
            self._moved_ms = now_ms
        if self._sent_ms is None:
            self._sent_ms = now_ms
        if cell.empty:
            return DEEP, 10 * self.nap_ms
        wait_ms = self._window_ms(now_ms, ring_pct, cell)
        if owed_rows and wait_ms <= 0:
            return SEND, 0
        if moving:
            return MEASURE, max(0, wait_ms)
        still_ms = ticks_diff(now_ms, self._moved_ms)
        if still_ms < self.still_ms:
            return LIGHT, min(1000, self.still_ms - still_ms)
        return DEEP, min(self.nap_ms, wait_ms) if owed_rows and wait_ms > 0 else self.nap_ms

    def _window_ms(self, now_ms, ring_pct, cell):
        if not self.batch_ms or (ring_pct >= self.full_pct and not cell.low):
            return 0
        return self.batch_ms * (4 if cell.low else 1) - ticks_diff(now_ms, self._sent_ms)
