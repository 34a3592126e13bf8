"""The minutes that may still change: held in memory while they do, stored in the outbox with each change, told once they are over.

Minutes are kept until two hours after the end of their hour, so an hour is always told from all of its minutes. Samples later than that
are counted and left out. When a state was made again and tells its samples anew, they are counted anew; where it does not go back as far as
the minutes kept, those before are left as they were, and count what is told of them no second time.
"""

from __future__ import annotations

from typing import Final

from broker.view_part import ViewPart
from processors.believed import Believed
from processors.influx_outbox import Change, Cursor, Outbox
from processors.influx_points import points_of
from processors.influx_schema import ACT_1H, ACT_1M
from processors.line_protocol import Points
from processors.minute_totals import HOUR_US, MINUTE_US, SETTLE_US, Minute, minute_of, minutes_in, take, totals

_FROM: Final = "minutes"
KEEP_US: Final = 2 * HOUR_US
HELD_US: Final = 5 * MINUTE_US  # a minute stays in memory so long after its end


class MinuteBook:
    """Over one outbox. After `due` and `take`, the change must be committed, else a new book is made."""

    def __init__(self, outbox: Outbox) -> None:
        self._outbox = outbox
        self._from_us = outbox.cursor(_FROM).at  # what is told of minutes before is counted already
        self._held: dict[int, Minute] = {}
        self._last = outbox.last()
        self._untold = set(outbox.minute_starts())  # told again: what was told last is not known
        self._hours: set[int] = set()
        self.refilling = False  # nothing is told until what is told anew was taken

    @staticmethod
    def floor(now_us: int) -> int:
        """The first minute that is kept."""
        return (now_us - KEEP_US) // HOUR_US * HOUR_US

    def take(self, block: Believed, now_us: int, change: Change) -> None:
        """Add a block."""
        floor = max(self.floor(now_us), self._from_us)
        held = {start_us: self._minute(start_us) for start_us in minutes_in(block) if start_us >= floor}
        change.count("late", int((block.t_us < self.floor(now_us)).sum()))
        changed = take(block, held, self._last)
        change.last |= {subject: self._last[subject] for subject in block.subjects if subject in self._last}
        self._untold |= changed
        self._changed(changed, change)

    def restart(self, first_us: int, of: Cursor, part: ViewPart, change: Change) -> None:
        """Samples are told anew, all from `first_us` on, in the state that `of` names, of a part of the tenants: what was counted since
        then is forgotten, and so is everything of tenants that are elsewhere: nothing more is told of them here."""
        self._from_us = minute_of(first_us - 1) + MINUTE_US
        starts = self._outbox.minute_starts()
        for start_us in starts:
            before = self._minute(start_us)
            rows = {subject: row for subject, row in before.rows.items() if start_us < self._from_us and part.has_subject(subject)}
            self._held[start_us] = Minute(start_us, rows, {group for group in before.told if part.has(group[3])})
        self._last.clear()
        change.forgets_last = True
        change.last.clear()
        change.cursors[_FROM] = of._replace(at=self._from_us)
        self._untold -= set(starts)  # until one changes
        self._changed(starts, change)
        self.refilling = True

    def due(self, now_us: int, change: Change) -> list[Points]:
        """The totals of minutes and hours that are over and were not told as they are now."""
        if self.refilling:
            return []
        floor = self.floor(now_us)
        over = sorted(start_us for start_us in self._untold if start_us + MINUTE_US + SETTLE_US <= now_us)
        made: list[Points] = []
        for start_us in over:
            minute = self._minute(start_us)
            rows = totals([minute], start_us, minute.told)
            if rows:
                made.append(points_of(ACT_1M, rows))
            self._hours.add(start_us // HOUR_US * HOUR_US)
            self._untold.discard(start_us)
        self._changed(over, change)
        for hour_us in sorted(self._hours):
            if hour_us < floor:
                self._hours.discard(hour_us)
            elif hour_us + HOUR_US + 2 * SETTLE_US <= now_us:
                self._hours.discard(hour_us)
                minutes = [self._minute(at) for at in range(hour_us, hour_us + HOUR_US, MINUTE_US)]
                told = {group for minute in minutes for group in minute.told}
                rows = totals(minutes, hour_us, told)
                if rows:
                    made.append(points_of(ACT_1H, rows))
        return made

    def committed(self, now_us: int) -> None:
        """What was changed is stored: older minutes leave the memory."""
        for start_us in [at for at in self._held if at + MINUTE_US + HELD_US < now_us]:
            del self._held[start_us]
        self._untold = {at for at in self._untold if at >= self.floor(now_us)}

    def _minute(self, start_us: int) -> Minute:
        held = self._held.get(start_us)
        if held is None:
            held = self._held[start_us] = self._outbox.minute(start_us) or Minute(start_us)
        return held

    def _changed(self, starts: set[int] | list[int], change: Change) -> None:
        stored = {minute.start_us: minute for minute in change.minutes}
        stored |= {start_us: self._held[start_us] for start_us in starts}
        change.minutes = list(stored.values())
