"""What a machine may be told at most: its own ranges, its profile's and the gym's, of which the strictest wins. Pure.

A value beyond a limit is refused, never cut down: whoever asked for 400 W must learn that 300 W is all there is. Units are those of
`broker.commands`: W, m/s, %, and the machine's resistance levels.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Final, Literal

from pydantic import BaseModel, ConfigDict, Field

from broker.commands import Order, Simulation, Target

Quantity = Literal["target_power_w", "speed_mps", "incline_pct", "resistance"]
UNITS: Final[Mapping[str, str]] = {"target_power_w": " W", "speed_mps": " m/s", "incline_pct": " %", "resistance": ""}


@dataclass(frozen=True, slots=True)
class Span:
    """From `low` to `high`, both allowed; who says so; and the step of the machine's values (0: any)."""

    low: float
    high: float
    source: str
    step: float = 0.0

    def within(self, other: Span) -> Span:
        """What both allow. `high` below `low`: nothing."""
        low = self if self.low >= other.low else other
        high = self if self.high <= other.high else other
        source = high.source if high.source == low.source else f"{low.source} and {high.source}"
        return Span(low.low, high.high, source, max(self.step, other.step))

    def rounded(self, value: float) -> float:
        """The nearest value the machine knows, within the span."""
        if self.step <= 0:
            return value
        return min(max(round(value / self.step) * self.step, self.low), self.high)


Spans = Mapping[Quantity, Span]


@dataclass(frozen=True, slots=True)
class Limits:
    """All that holds for one machine. `missing`: actions the machine says it does not have. `ramp_mps2`: a belt's greatest change."""

    spans: Spans = field(default_factory=dict[Quantity, Span])
    missing: frozenset[str] = frozenset()
    ramp_mps2: float | None = None

    def refusal(self, order: Order) -> str:
        """What the order violates, in words with the limit and its source; empty when nothing."""
        if isinstance(order, Simulation):
            span = self.spans.get("incline_pct")
            if span is not None and not span.low <= order.grade_pct <= span.high:
                return _beyond("grade_pct", order.grade_pct, span, " %")
        elif isinstance(order, Target):
            span = self.spans.get(order.action)
            if span is not None and not span.low <= order.value <= span.high:
                return _beyond(order.action, order.value, span, UNITS[order.action])
        return ""


def _beyond(what: str, value: float, span: Span, unit: str) -> str:
    if span.high < span.low:
        return f"{what} {value:g}{unit}: {span.source} together allow no value at all"
    return f"{what} {value:g}{unit}: {span.source} allows {span.low:g} to {span.high:g}{unit}"


def strictest(*sources: Spans) -> dict[Quantity, Span]:
    """Per quantity what all sources allow that speak of it."""
    found: dict[Quantity, Span] = {}
    for source in sources:
        for quantity, span in source.items():
            found[quantity] = found[quantity].within(span) if quantity in found else span
    return found


class GymLimits(BaseModel):
    """What a gym allows; what is left out is not limited by it. Set for all machines, and once more for single ones."""

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)
    max_power_w: float | None = Field(default=None, ge=0, le=4_000)
    max_speed_mps: float | None = Field(default=None, ge=0, le=12)
    min_incline_pct: float | None = Field(default=None, ge=-40, le=0)
    max_incline_pct: float | None = Field(default=None, ge=0, le=50)
    max_resistance: float | None = Field(default=None, ge=0, le=1_000)
    belt_ramp_mps2: float | None = Field(default=None, ge=0, le=5)

    def spans(self) -> dict[Quantity, Span]:
        """The same as spans. Speed, power and resistance begin at 0."""
        made: dict[Quantity, Span] = {}
        if self.max_power_w is not None:
            made["target_power_w"] = Span(0, self.max_power_w, "the gym")
        if self.max_speed_mps is not None:
            made["speed_mps"] = Span(0, self.max_speed_mps, "the gym")
        if self.min_incline_pct is not None or self.max_incline_pct is not None:
            low = -40.0 if self.min_incline_pct is None else self.min_incline_pct
            high = 50.0 if self.max_incline_pct is None else self.max_incline_pct
            made["incline_pct"] = Span(low, high, "the gym")
        if self.max_resistance is not None:
            made["resistance"] = Span(0, self.max_resistance, "the gym")
        return made


def gym_limits(rules: Iterable[GymLimits], machine: Spans, missing: frozenset[str] = frozenset()) -> Limits:
    """The limits of a machine that says `machine` and `missing` of itself, under all rules of the gym that are about it."""
    rules = tuple(rules)
    ramps = [rule.belt_ramp_mps2 for rule in rules if rule.belt_ramp_mps2]
    return Limits(strictest(machine, *(rule.spans() for rule in rules)), missing, min(ramps, default=None))
