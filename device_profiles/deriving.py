"""Values that need several packets: rates, counters that roll over, spans between events, toggles. One small machine for each `derive` of
a profile.

`step(fields, t_us)` takes the fields of one packet and the time it arrived (microseconds, monotonic) and gives the value, or None if this
packet says nothing. A rate whose counter went backwards, or was not seen for longer than its clock can tell, starts again without a value;
a counter that grows takes every step as one forwards.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Protocol

from device_profiles.profile import Derive
from device_profiles.values import Value


class Deriving(Protocol):
    """One derived value of one device."""

    def step(self, fields: Mapping[str, Value], t_us: int) -> float | list[int | float | None] | None: ...


def start(derive: Derive, settings: Mapping[str, float]) -> Deriving:
    """The machine of a derive, with the settings of this device."""
    if derive.kind == "rate":
        return Rate(derive, settings.get(derive.scale, 1.0))
    if derive.kind == "accumulate":
        return Accumulate(derive, settings.get(derive.scale, 1.0))
    if derive.kind == "interval":
        return Interval(derive)
    if derive.kind == "join":
        return Join(derive)
    if derive.kind == "inverse":
        return Inverse(derive)
    return Toggles(derive)


class Rate:
    """Events over event time. Without a new event the last rate holds for `hold_us`, then it is 0: the wheel stands."""

    def __init__(self, derive: Derive, factor: float) -> None:
        self._derive = derive
        self._factor = derive.tick * derive.per * factor
        self._last: tuple[float, float] | None = None
        self._event_us = 0
        self._value: float | None = None

    def step(self, fields: Mapping[str, Value], t_us: int) -> float | None:
        """The rate now, in events per tick-second times `per` and the setting."""
        rule = self._derive
        count, time = fields.get(rule.field), fields.get(rule.time)
        if not isinstance(count, int | float) or not isinstance(time, int | float):
            return None
        last, gap_us = self._last, t_us - self._event_us
        if last is not None and time == last[1]:
            if gap_us >= rule.hold_us:
                self._value = 0.0
            return self._value
        self._last, self._event_us = (count, time), t_us
        self._value = None
        if last is not None and gap_us <= rule.max_gap_us:
            events = (count - last[0]) % rule.wrap
            if events * 2 < rule.wrap:
                self._value = events / ((time - last[1]) % (rule.time_wrap * rule.tick)) * self._factor
        return self._value


class Accumulate:
    """A counter that rolls over -> one that grows, from its first value on. What a gap longer than `max_gap_us` hid is not counted."""

    def __init__(self, derive: Derive, factor: float) -> None:
        self._derive = derive
        self._factor = derive.per * factor
        self._last: float | None = None
        self._seen_us = 0
        self._total = 0.0

    def step(self, fields: Mapping[str, Value], t_us: int) -> float | None:
        """The grown value, in the unit of the field, times `per` and the setting."""
        value = fields.get(self._derive.field)
        if not isinstance(value, int | float):
            return None
        if self._last is None:
            self._total = float(value)
        elif t_us - self._seen_us <= self._derive.max_gap_us:
            self._total += (value - self._last) % self._derive.wrap
        self._last, self._seen_us = value, t_us
        return self._total * self._factor


class Interval:
    """The span between the last event and the one before, in seconds: once for each event, as a list of one."""

    def __init__(self, derive: Derive) -> None:
        self._derive = derive
        self._last: tuple[float, float] | None = None
        self._seen_us = 0

    def step(self, fields: Mapping[str, Value], t_us: int) -> list[int | float | None] | None:
        """The span if exactly one event is new, or if the packet itself tells when the one before was."""
        rule = self._derive
        count, time, previous = fields.get(rule.field), fields.get(rule.time), fields.get(rule.previous)
        if not isinstance(count, int | float) or not isinstance(time, int | float):
            return None
        last, gap_us = self._last, t_us - self._seen_us
        if last is not None and count == last[0]:
            return None
        self._last, self._seen_us = (count, time), t_us
        if last is None or gap_us > rule.max_gap_us:
            return None
        before: float | None = None
        if isinstance(previous, int | float):
            before = previous
        elif (count - last[0]) % rule.wrap == 1:
            before = last[1]
        span = 0.0 if before is None else (time - before) % (rule.time_wrap * rule.tick) / rule.tick
        return [span] if span else None


class Toggles:
    """How often a bit has changed since the first packet."""

    def __init__(self, derive: Derive) -> None:
        self._field = derive.field
        self._last: object = None
        self._changes = 0

    def step(self, fields: Mapping[str, Value], t_us: int) -> float | None:
        """The changes so far."""
        del t_us
        value = fields.get(self._field)
        if value is None:
            return None
        if self._last is not None and value != self._last:
            self._changes += 1
        self._last = value
        return self._changes


class Join:
    """An integer whose bits do not lie side by side: `field` holds the low ones, `high` those above; the sum times `per`."""

    def __init__(self, derive: Derive) -> None:
        self._derive = derive

    def step(self, fields: Mapping[str, Value], t_us: int) -> float | None:
        """The whole value of this packet."""
        del t_us
        low, high = fields.get(self._derive.field), fields.get(self._derive.high)
        if not isinstance(low, int | float) or not isinstance(high, int | float):
            return None
        return (low + high * self._derive.wrap) * self._derive.per


class Inverse:
    """`per` over the field: a pace as a speed. Nothing for 0."""

    def __init__(self, derive: Derive) -> None:
        self._derive = derive

    def step(self, fields: Mapping[str, Value], t_us: int) -> float | None:
        """The inverse of this packet's value."""
        del t_us
        value = fields.get(self._derive.field)
        return self._derive.per / value if isinstance(value, int | float) and value else None
