"""Faults by name: a plan of what goes wrong when, and the link that does it to messages. Pure and repeatable: time and seed come in.

A plan is text: `name[:value][@start[-stop]][%share]`, joined by commas, times in seconds since the start, share in percent of the members:
`drop:0.3@10-20,dead_battery:1@12-15%25,gps_jumps:200`. No times: always; no stop: for ever (or one moment, for those that happen once).
"""

from __future__ import annotations

import heapq
import re
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Final, Generic, Literal, TypeVar

from broker.errors import BadInputError
from simulators.noise import key_of, uniform

_FOREVER: Final = float("inf")

# name: (value when none is given, smallest, largest, meaning)
KNOWN: Final[dict[str, tuple[float, float, float, str]]] = {
    "drop": (0.3, 0, 1, "share of messages that vanish, both ways"),
    "duplicate": (0.3, 0, 1, "share of messages that come twice"),
    "reorder": (0.3, 0, 1, "share of messages held back up to half a second, so that later ones overtake"),
    "delay": (0.5, 0, 3600, "seconds every message takes, both ways"),
    "cut": (1, 1, 1, "no connection"),
    "half_open": (1, 1, 1, "the connection looks alive, nothing passes; it breaks at the end"),
    "one_way": (0, 0, 1, "0: nothing comes down (no acks), 1: nothing goes up"),
    "clock_skew": (5, -86_400 * 366, 86_400 * 366, "seconds the device's clock is ahead"),
    "clock_1970": (1, 1, 1, "the device believes it started in 1970"),
    "gps_jumps": (200, 1, 100_000, "metres a fifth of the positions is off"),
    "dead_battery": (0, 0, 1, "off from start to stop; 0: the outbox survives, 1: it is lost"),
    "re_imaged_box": (1, 1, 1, "at start: outbox lost, numbering anew"),
    "roaming": (1, 1, 1, "at start: moves to the next box with all it still owes"),
    "two_boxes_one_strap": (0.1, 0, 1, "the whole run: a dumb strap heard by two boxes, each missing that share of the samples"),
}
_FAULT: Final = re.compile(r"(?P<name>[a-z0-9_]+)(:(?P<value>-?[0-9.]+))?(@(?P<start>[0-9.]+)(-(?P<stop>[0-9.]*))?)?(%(?P<share>[0-9.]+))?")


@dataclass(frozen=True, slots=True)
class Fault:
    """One fault from `start_s` (inclusive) to `stop_s` (exclusive), for `share` of the members (0 to 1)."""

    name: str
    value: float
    start_s: float = 0.0
    stop_s: float = _FOREVER
    share: float = 1.0


@dataclass(frozen=True, slots=True)
class FaultPlan:
    """All faults of a run. Of two of the same name at the same time the later in the list wins."""

    faults: tuple[Fault, ...] = ()

    def active(self, name: str, time_s: float) -> float | None:
        """The value of `name` at that time, or None when it is not there."""
        for fault in reversed(self.faults):
            if fault.name == name and fault.start_s <= time_s < fault.stop_s:
                return fault.value
        return None

    def planned(self, name: str) -> float | None:
        """The value of `name` if it is planned at any time, for faults that hold a whole run."""
        return next((fault.value for fault in reversed(self.faults) if fault.name == name), None)

    def has(self, *names: str) -> bool:
        """Whether any of `names` is planned at all."""
        return any(fault.name in names for fault in self.faults)

    def edges(self, after_s: float, until_s: float) -> list[tuple[float, bool, Fault]]:
        """Starts (True) and stops (False) with `after_s` < time <= `until_s`, by time."""
        found: list[tuple[float, bool, Fault]] = []
        for fault in self.faults:
            found += [(at, begins, fault) for at, begins in ((fault.start_s, True), (fault.stop_s, False)) if after_s < at <= until_s]
        return sorted(found, key=lambda edge: (edge[0], edge[1]))

    def next_edge_s(self, after_s: float) -> float:
        """When something starts or stops next; infinity when never."""
        return min((at for fault in self.faults for at in (fault.start_s, fault.stop_s) if at > after_s), default=_FOREVER)

    def for_member(self, seed: int, member: str) -> FaultPlan:
        """The faults that hit this member: each with its share as the chance, drawn by seed."""
        return FaultPlan(
            tuple(
                f for i, f in enumerate(self.faults) if f.share >= 1 or uniform(key_of(seed, "fault", i, f.name), key_of(member)) < f.share
            )
        )

    def end_s(self) -> float:
        """When the last fault that ends has ended (0 without any)."""
        return max((f.stop_s if f.stop_s != _FOREVER else f.start_s for f in self.faults), default=0.0)


def parse_faults(text: str) -> FaultPlan:
    """The plan in `text` ("" is none). BadInputError names the part that is wrong."""
    return FaultPlan(tuple(_parse_one(part.strip()) for part in text.split(",") if part.strip()))


def _parse_one(text: str) -> Fault:
    match = _FAULT.fullmatch(text)
    if match is None or match["name"] not in KNOWN:
        raise BadInputError(
            f"fault {text!r} is not known", cure=f"write name[:value][@start[-stop]][%share] with one of {', '.join(KNOWN)}"
        )
    usual, low, high, meaning = KNOWN[match["name"]]
    try:
        value = float(match["value"]) if match["value"] else usual
        start = float(match["start"] or 0)
        stop = float(match["stop"]) if match["stop"] else _FOREVER
        share = float(match["share"] or 100) / 100
    except ValueError as error:
        raise BadInputError(f"fault {text!r}: {error}", cure="write plain numbers such as 0.3") from error
    if not low <= value <= high:
        raise BadInputError(f"fault {text!r}: value {value:g} is outside {low:g}..{high:g} ({meaning})", cure="change the value")
    if stop <= start or not 0 < share <= 1:
        raise BadInputError(f"fault {text!r}: stop must be after start, share 1 to 100", cure="write it as @10-20%50")
    return Fault(match["name"], value, start, stop, share)


T = TypeVar("T")
Direction = Literal["up", "down"]


class FaultyLink(Generic[T]):
    """A link that mistreats messages as planned: `put` them in, `take` out what has arrived. Without faults they pass in order and at
    once."""

    def __init__(self, plan: FaultPlan, seed: int, name: str = "") -> None:
        self._plan = plan
        self._quiet = not plan.has("drop", "duplicate", "reorder", "delay", "cut", "half_open", "one_way")
        self._key = {"up": key_of(seed, "link", name, "up"), "down": key_of(seed, "link", name, "down")}
        self._count = {"up": 0, "down": 0}
        self._held: dict[str, list[tuple[float, int, T]]] = {"up": [], "down": []}
        self.vanished = 0

    def put(self, time_s: float, direction: Direction, items: Iterable[T]) -> None:
        """Hand `items` to the link at that time."""
        for item in items:
            count = self._count[direction]
            self._count[direction] = count + 1
            if self._quiet:
                heapq.heappush(self._held[direction], (time_s, 2 * count, item))
                continue
            if self._swallows(time_s, direction, count):
                self.vanished += 1
                continue
            delay_s = self._plan.active("delay", time_s) or 0.0
            if self._chance("reorder", time_s, direction, count, 1):
                delay_s += uniform(self._key[direction], 8 * count + 2, 0.05, 0.5)
            heapq.heappush(self._held[direction], (time_s + delay_s, 2 * count, item))
            if self._chance("duplicate", time_s, direction, count, 3):
                again_s = time_s + delay_s + uniform(self._key[direction], 8 * count + 4, 0.0, 0.5)
                heapq.heappush(self._held[direction], (again_s, 2 * count + 1, item))

    def take(self, time_s: float, direction: Direction) -> list[T]:
        """What has arrived by that time, in order of arrival. During a cut or half-open time nothing arrives, and what was under way
        is lost."""
        held = self._held[direction]
        arrived: list[T] = []
        while held and held[0][0] <= time_s:
            item = heapq.heappop(held)[2]
            if not self._quiet and self.dead(time_s):
                self.vanished += 1
            else:
                arrived.append(item)
        return arrived

    def dead(self, time_s: float) -> bool:
        """Cut or half open at that time."""
        return self._plan.active("cut", time_s) is not None or self._plan.active("half_open", time_s) is not None

    def next_s(self) -> float:
        """When the next held message arrives; infinity when none is held."""
        return min((held[0][0] for held in self._held.values() if held), default=_FOREVER)

    def _swallows(self, time_s: float, direction: Direction, count: int) -> bool:
        if self.dead(time_s):
            return True
        one_way = self._plan.active("one_way", time_s)
        if one_way is not None and (direction == "up") == (one_way >= 0.5):
            return True
        return self._chance("drop", time_s, direction, count, 0)

    def _chance(self, name: str, time_s: float, direction: Direction, count: int, draw: int) -> bool:
        share = self._plan.active(name, time_s)
        return share is not None and uniform(self._key[direction], 8 * count + draw) < share
