"""The Fitness Machine Service as a dialect: orders in the words of the profile `fitness_machine_control_point`, ranges as limits. Pure.

The bytes are the profile's, and what some machines do differently is in its quirks: belts that count in miles an hour, a start that stops a
belt which runs.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

from broker.commands import CommandReason, Order, Plain, Simulation
from device_profiles.catalogue import catalogue
from device_profiles.commands import encode, parse_reply
from device_profiles.profile import Profile
from device_profiles.samples import Identity
from device_profiles.values import Value
from gateway.limits import Quantity, Span, Spans, strictest
from gateway.machine_dialect import Facts, Judged, Said, Told, Verdict

FEATURES: Final = 0x2ACC
STATUS: Final = 0x2ADA
TREADMILL_DATA: Final = 0x2ACD
NOT_PERMITTED: Final = 5


@dataclass(frozen=True, slots=True)
class _Set:
    """How a quantity is set: the profile's command and argument, the unit of both in ours, and where a machine tells its range."""

    command: str
    arg: str
    unit: float
    range_of: int
    range_unit: str
    feature: str


_SETS: Final[Mapping[Quantity, _Set]] = {
    "speed_mps": _Set("set_target_speed", "speed_kmh", 1 / 3.6, 0x2AD4, "kmh", "set_speed"),
    "incline_pct": _Set("set_target_incline", "incline_pct", 1, 0x2AD5, "pct", "set_inclination"),
    "resistance": _Set("set_target_resistance", "resistance", 1, 0x2AD6, "level", "set_resistance"),
    "target_power_w": _Set("set_target_power", "power_w", 1, 0x2AD8, "w", "set_power"),
}
RANGES: Final = tuple(one.range_of for one in _SETS.values())
_PLAIN: Final = {"start": "start", "stop": "stop", "pause": "pause", "reset": "reset", "spindown": "spin_down"}
_FEATURES: Final = {"simulation": "simulation", "spindown": "spin_down", **{quantity: one.feature for quantity, one in _SETS.items()}}
_ONCE: Final = ("reset", "start", "spin_down")  # not to be sent again when no answer came
_REFUSALS: Final = {2: CommandReason.NOT_SUPPORTED, 3: CommandReason.INVALID}
_EVENTS: Final = {1: Told.RESET, 3: Told.SAFETY_KEY, 4: Told.STARTED, 255: Told.CONTROL_LOST}
_STOPPED, _PAUSE = 2, 2


class Ftms:
    """The dialect of a fitness machine with that identity."""

    def __init__(self, identity: Identity | None = None) -> None:
        self._identity = identity or Identity()
        self._point = _named("fitness_machine_control_point").of(self._identity)
        self._once = frozenset(self._point.commands[name].start[:1] for name in _ONCE)

    @property
    def control(self) -> bytes | None:
        """Control has to be asked for, once a connection."""
        return encode(self._point, "request_control")

    def plan(self, order: Order) -> tuple[bytes, ...]:
        """One message an order."""
        if isinstance(order, Plain):
            return (encode(self._point, _PLAIN[order.action]),)
        if isinstance(order, Simulation):
            road = {"wind_speed_mps": order.wind_mps, "grade_pct": order.grade_pct}
            drag = {"rolling_resistance": order.crr, "wind_resistance_kgpm": order.cw_kgpm}
            return (encode(self._point, "set_simulation", road | drag),)
        setting = _SETS[order.action]
        return (encode(self._point, setting.command, {setting.arg: order.value / setting.unit}),)

    def release(self) -> tuple[bytes, ...]:
        """Power 0: what a trainer without a stop understands."""
        return (encode(self._point, "set_target_power", {"power_w": 0}),)

    def judge(self, sent: bytes, answer: bytes) -> Judged:
        """`80 OP RESULT`."""
        reply = parse_reply(self._point, answer)
        if reply is None or reply.op != sent[0]:
            return Judged(Verdict.REFUSED, CommandReason.FAILED, f"no answer to {sent.hex()}: {answer[:20].hex()}")
        if reply.ok:
            return Judged(Verdict.TAKEN)
        word = reply.text or f"result {reply.result}"
        if reply.result == NOT_PERMITTED:
            return Judged(Verdict.AGAIN, CommandReason.NO_CONTROL, word)
        return Judged(Verdict.REFUSED, _REFUSALS.get(reply.result, CommandReason.FAILED), word)

    def heard(self, what: int, payload: bytes) -> Said:
        """Status, and the belt's speed in the data of a treadmill (absent when it comes in another packet of the record)."""
        if what == STATUS:
            fields = self._read(what, payload)
            event = fields.get("event")
            if event == _STOPPED:
                return Said(Told.USER_PAUSED if fields.get("stop_kind") == _PAUSE else Told.USER_STOPPED)
            return Said(_EVENTS.get(event) if isinstance(event, int) else None, _mps(fields))
        return Said(speed_mps=_mps(self._read(what, payload))) if what == TREADMILL_DATA else Said()

    def undoes(self, order: Order) -> bool:
        """A start, on machines that take a second one for a pause."""
        return order.action == "start" and self._point.commands["start"].toggles

    def repeatable(self, sent: bytes) -> bool:
        """Whatever sets a value, or stops."""
        return sent[:1] not in self._once

    def facts(self, answers: Mapping[int, bytes | None]) -> Facts:
        """What the machine's ranges and features say, within what the profile can say; a range that makes no sense says nothing."""
        told: dict[Quantity, Span] = {}
        for quantity, setting in _SETS.items():
            fields = self._read(setting.range_of, answers.get(setting.range_of) or b"")
            low, high, step = (fields.get(f"{end}_{setting.range_unit}") for end in ("min", "max", "step"))
            if isinstance(low, int | float) and isinstance(high, int | float) and low < high:
                step = step if isinstance(step, int | float) else 0
                told[quantity] = Span(low * setting.unit, high * setting.unit, "the machine", step * setting.unit)
        features = self._read(FEATURES, answers.get(FEATURES) or b"")
        has_any = bool(features.get("targets"))  # a machine that claims to take no target at all is not believed
        missing = frozenset(action for action, name in _FEATURES.items() if has_any and not features.get(name))
        return Facts(strictest(told, self._spans()), missing)

    def _spans(self) -> Spans:
        """What the profile can say."""
        return {
            quantity: Span(arg.min * setting.unit, arg.max * setting.unit, "its profile")
            for quantity, setting in _SETS.items()
            for arg in self._point.commands[setting.command].args
        }

    def _read(self, what: int, payload: bytes) -> Mapping[str, Value]:
        profile = catalogue().ble(f"{what:04x}")
        return {} if profile is None or not payload else profile.of(self._identity).decoder.decode(payload)[0]


def _named(name: str) -> Profile:
    profile = catalogue().named(name)
    assert profile is not None, name
    return profile


def _mps(fields: Mapping[str, Value]) -> float | None:
    speed_kmh = fields.get("speed_kmh")
    return speed_kmh / 3.6 if isinstance(speed_kmh, int | float) else None
