"""What a matcher remembers of one subject: the last two fixes, attempts under way, and efforts that wait for their second timing.

All of it whole numbers, so that bytes out and in are the same state. A `Crossing` is a gate passed between two fixes: how far beyond the
gate each was, and with the fixes before and after them, when exactly it was.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import Any, Final, NamedTuple, Self, cast

import msgpack

from processors.results import CURVE_POINTS, Phase, Timed

_VERSION: Final = 1
_NEAR_US: Final = 15_000_000  # a fix further away in time says nothing about the speed at a gate
_ACCURACY_CM: Final = 500  # taken for positions that state none
_SIGMA_SHARE: Final = 2 / 3  # one standard deviation along the way, of a stated accuracy
_UNSTEADY_MPS2: Final = 0.3  # acceleration one may have between two fixes
_HALVINGS: Final = 30


class Fix(NamedTuple):
    """One position: UTC microseconds, 1e-7 degrees, stated accuracy in centimetres or -1."""

    t_us: int
    lat: int
    lon: int
    accuracy_cm: int


class Knot(NamedTuple):
    """How far beyond a gate one was at an instant; negative before it."""

    t_us: int
    ahead_mm: int


@dataclass(slots=True)
class Crossing:
    """A gate passed after `left` and no later than `right`. `after` is filled in by the next fix."""

    before: Knot | None
    left: Knot
    right: Knot
    after: Knot | None
    accuracy_cm: int

    def straight_us(self) -> int:
        """When, at even speed between the two fixes."""
        way_mm = self.right.ahead_mm - self.left.ahead_mm
        return self.left.t_us + ((self.right.t_us - self.left.t_us) * -self.left.ahead_mm + way_mm // 2) // way_mm

    def smooth_us(self) -> int:
        """When, with the speed at both fixes from their neighbours: monotone cubic interpolation (Fritsch and Butland, 1984)."""
        span_us = self.right.t_us - self.left.t_us
        way = float(self.right.ahead_mm - self.left.ahead_mm)
        enter = self._slope(self.before, self.left, span_us, way)
        leave = self._slope(self.after, self.right, span_us, way)
        if enter == way and leave == way:
            return self.straight_us()
        start = float(self.left.ahead_mm)
        low, high = 0.0, 1.0
        for _ in range(_HALVINGS):
            u = (low + high) * 0.5
            v = 1.0 - u
            here = start + u * (v * v * enter + u * (way * (3.0 - 2.0 * u) - v * leave))
            if here < 0.0:
                low = u
            else:
                high = u
        return self.left.t_us + round((low + high) * 0.5 * span_us)

    def sigma_us(self) -> float:
        """One standard deviation of the time: the accuracy of the positions, and what the speed may have done between them."""
        span_s = (self.right.t_us - self.left.t_us) * 1e-6
        speed_mps = max((self.right.ahead_mm - self.left.ahead_mm) * 1e-3 / span_s, 0.3)
        accuracy_cm = self.accuracy_cm if self.accuracy_cm >= 0 else _ACCURACY_CM
        place_s = accuracy_cm * 0.01 * _SIGMA_SHARE / speed_mps
        between_s = min(span_s * 0.29, _UNSTEADY_MPS2 * span_s * span_s / (8.0 * speed_mps))
        return math.sqrt(place_s * place_s + between_s * between_s) * 1e6

    def _slope(self, beside: Knot | None, knot: Knot, span_us: int, way: float) -> float:
        """Way per span at `knot`, from the pace on both sides of it; the even one when there is no other side."""
        if beside is None:
            return way
        beside_us = abs(knot.t_us - beside.t_us)
        if beside_us > _NEAR_US:
            return way
        other = abs(knot.ahead_mm - beside.ahead_mm) * (span_us / beside_us)
        if (knot.ahead_mm - beside.ahead_mm) * (knot.t_us - beside.t_us) <= 0:
            return 0.0
        near, far = 2.0 * beside_us + span_us, 2.0 * span_us + beside_us
        return (near + far) / (near / way + far / other)


@dataclass(slots=True)
class Attempt:
    """A segment under way. `on_us`: when it was last seen on the line, at `progress_mm`; `travelled_mm` since then; `off_us`: since when it
    has been off (0: it is not). `curve_ms` fills up with elapsed times at each 1/64, counted from `start.straight_us()`."""

    segment: str
    shape: int
    start: Crossing
    on_us: int
    progress_mm: int = 0
    travelled_mm: int = 0
    off_us: int = 0
    curve_ms: list[int] = field(default_factory=list[int])


@dataclass(slots=True)
class Arrival:
    """An effort whose provisional time is out and whose settled one is not."""

    segment: str
    shape: int
    ordinal: int
    start: Crossing
    finish: Crossing
    curve_ms: list[int]

    def timed(self, phase: Phase) -> Timed:
        """The effort as this phase knows it: provisional at even speed between fixes, later with the speed around them."""
        counted_from_us = self.start.straight_us()
        provisional = phase is Phase.PROVISIONAL
        start_us = counted_from_us if provisional else self.start.smooth_us()
        finish_us = self.finish.straight_us() if provisional else self.finish.smooth_us()
        elapsed_ms = max((finish_us - start_us + 500) // 1000, 1)
        earlier_ms = (counted_from_us - start_us) // 1000
        curve: list[int] = []
        floor_ms = 0
        for at_ms in self.curve_ms:
            floor_ms = min(max(at_ms + earlier_ms, floor_ms), elapsed_ms)
            curve.append(floor_ms)
        curve[CURVE_POINTS - 1 :] = [elapsed_ms]
        start_sigma, finish_sigma = self.start.sigma_us(), self.finish.sigma_us()
        accuracy_ms = round(math.sqrt(start_sigma * start_sigma + finish_sigma * finish_sigma) * 1e-3)
        return Timed(self.segment, self.ordinal, start_us, elapsed_ms, phase, accuracy_ms, tuple(curve))


@dataclass(slots=True)
class Attempts:
    """The matching state of one subject in one activity: start a fresh one with each activity.

    `waiting`: efforts that wait for their settled time; `ordinals`: how many efforts each segment has seen; `dropped`: starts not
    followed because too many were under way.
    """

    before: Fix | None = None
    last: Fix | None = None
    under: list[Attempt] = field(default_factory=list[Attempt])
    waiting: list[Arrival] = field(default_factory=list[Arrival])
    ordinals: dict[str, int] = field(default_factory=dict[str, int])
    dropped: int = 0

    def encode(self) -> bytes:
        """The state as bytes: equal states give equal bytes."""
        under = [
            (a.segment, a.shape, _packed(a.start), a.on_us, a.progress_mm, a.travelled_mm, a.off_us, _steps(a.curve_ms)) for a in self.under
        ]
        arrivals = [(a.segment, a.shape, a.ordinal, _packed(a.start), _packed(a.finish), _steps(a.curve_ms)) for a in self.waiting]
        state = (_VERSION, self.before, self.last, under, arrivals, sorted(self.ordinals.items()), self.dropped)
        return bytes(msgpack.packb(state) or b"")

    @classmethod
    def decode(cls, raw: bytes) -> Self:
        """Inverse of `encode`. ValueError for the bytes of another version."""
        state = cast("list[Any]", msgpack.unpackb(raw))
        if state[0] != _VERSION:
            raise ValueError(f"these {len(raw)} bytes are attempts of version {state[0]}, not {_VERSION}")
        under = [Attempt(a[0], a[1], _crossing(a[2]), a[3], a[4], a[5], a[6], _curve(a[7])) for a in state[3]]
        arrivals = [Arrival(a[0], a[1], a[2], _crossing(a[3]), _crossing(a[4]), _curve(a[5])) for a in state[4]]
        return cls(_fix(state[1]), _fix(state[2]), under, arrivals, dict(state[5]), state[6])


def _packed(crossing: Crossing) -> tuple[Knot | None, Knot, Knot, Knot | None, int]:
    return crossing.before, crossing.left, crossing.right, crossing.after, crossing.accuracy_cm


def _crossing(raw: Any) -> Crossing:
    before, left, right, after, accuracy_cm = raw
    return Crossing(_knot(before), Knot(*left), Knot(*right), _knot(after), accuracy_cm)


def _knot(raw: Any) -> Knot | None:
    return None if raw is None else Knot(*raw)


def _fix(raw: Any) -> Fix | None:
    return None if raw is None else Fix(*raw)


def _steps(curve_ms: list[int]) -> list[int]:
    """Differences: most fit two or three bytes."""
    return [at - before for before, at in zip([0, *curve_ms], curve_ms, strict=False)]


def _curve(steps: list[int]) -> list[int]:
    out: list[int] = []
    at_ms = 0
    for step_ms in steps:
        at_ms += step_ms
        out.append(at_ms)
    return out
