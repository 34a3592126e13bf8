"""The Fitness Machine Service as commands: control point (0x2AD9), status (0x2ADA), features and ranges. Pure; bytes as in FTMS 1.0.

Targets are put into bytes by the profile of the control point, so that what some machines do differently (miles per hour, a resistance of
one byte, a start that pauses) is data: `device_profiles/quirks.yaml`.
"""

from __future__ import annotations

from collections.abc import Mapping
from struct import Struct, error, pack, unpack_from
from typing import Final

from broker.commands import CommandReason, Order, Plain, Simulation, Target
from device_profiles.catalogue import catalogue
from device_profiles.commands import encode
from device_profiles.errors import CommandError
from device_profiles.samples import Identity
from gateway.limits import Quantity, Span
from gateway.machine_dialect import Facts, Judged, Said, Told, Verdict

PROFILE: Final = "fitness_machine_control_point"
FEATURES: Final = 0x2ACC
STATUS: Final = 0x2ADA
TREADMILL_DATA: Final = 0x2ACD
RANGES: Final[Mapping[int, tuple[Quantity, Struct, float]]] = {  # least, greatest, step; and their unit in ours
    0x2AD4: ("speed_mps", Struct("<HHH"), 0.01 / 3.6),
    0x2AD5: ("incline_pct", Struct("<hhH"), 0.1),
    0x2AD6: ("resistance", Struct("<hhH"), 0.1),
    0x2AD8: ("target_power_w", Struct("<hhH"), 1.0),
}
_TARGET_BITS: Final = {"speed_mps": 0, "incline_pct": 1, "resistance": 2, "target_power_w": 3, "simulation": 13, "spindown": 15}
_REQUEST_CONTROL: Final = b"\x00"
_STOP: Final = b"\x08\x01"
_PLAIN: Final = {"start": b"\x07", "stop": _STOP, "pause": b"\x08\x02", "reset": b"\x01", "spindown": b"\x13\x01"}
_ONCE: Final = frozenset({0x01, 0x07, 0x13})  # reset, start (a toggle on some machines), spin down: not to be repeated blindly
_TARGETS: Final[Mapping[Quantity, tuple[str, str, float]]] = {  # command and argument of the profile, and its unit for one of ours
    "target_power_w": ("set_target_power", "power_w", 1.0),
    "speed_mps": ("set_target_speed", "speed_kmh", 3.6),
    "incline_pct": ("set_target_incline", "incline_pct", 1.0),
    "resistance": ("set_target_resistance", "resistance", 1.0),
}
_NOT_NEGATIVE: Final = frozenset({"speed_mps", "resistance"})
_REFUSALS: Final = {
    2: (CommandReason.NOT_SUPPORTED, "op code not supported"),
    3: (CommandReason.INVALID, "invalid parameter"),
    4: (CommandReason.FAILED, "operation failed"),
}
_EVENTS: Final = {0x01: Told.RESET, 0x03: Told.SAFETY_KEY, 0x04: Told.STARTED, 0xFF: Told.CONTROL_LOST}


class Ftms:
    """The dialect of a fitness machine, as the machine with this identity means it."""

    def __init__(self, identity: Identity | None = None) -> None:
        profile = catalogue().named(PROFILE)
        if profile is None:
            raise LookupError(f"there is no profile {PROFILE!r}; restore device_profiles/profiles/fitness_control.yaml")
        self._profile = profile.of(identity or Identity())

    @property
    def control(self) -> bytes | None:
        """Control has to be asked for, once a connection."""
        return _REQUEST_CONTROL

    def plan(self, order: Order) -> tuple[bytes, ...]:
        """One message an order."""
        if isinstance(order, Plain):
            return (_PLAIN[order.action],)
        if isinstance(order, Simulation):
            return (
                pack(
                    "<BhhBB", 0x11, round(order.wind_mps * 1000), round(order.grade_pct * 100),
                    min(round(order.crr * 10_000), 255), min(round(order.cw_kgpm * 100), 255),
                ),
            )  # fmt: skip
        return self._target(order)

    def release(self) -> tuple[bytes, ...]:
        """Power 0: what a trainer without a stop understands."""
        return self._target(Target(action="target_power_w", value=0))

    def judge(self, sent: bytes, answer: bytes) -> Judged:
        """`80 OP RESULT`."""
        if len(answer) < 3 or answer[0] != 0x80 or answer[1] != sent[0]:
            return Judged(Verdict.REFUSED, CommandReason.FAILED, f"no answer to {sent.hex()}: {answer[:20].hex()}")
        result = answer[2]
        if result == 1:
            return Judged(Verdict.TAKEN)
        if result == 5:
            return Judged(Verdict.AGAIN, CommandReason.NO_CONTROL, "control not permitted")
        reason, word = _REFUSALS.get(result, (CommandReason.FAILED, f"result {result}"))
        return Judged(Verdict.REFUSED, reason, word)

    def heard(self, what: int, payload: bytes) -> Said:
        """Status, and the belt's speed in the data of a treadmill (absent when the speed comes in a later packet)."""
        if what == STATUS and payload:
            if payload[0] == 0x02:
                return Said(Told.USER_PAUSED if payload[1:2] == b"\x02" else Told.USER_STOPPED)
            return Said(_EVENTS.get(payload[0]), _speed(payload, 1) if payload[0] == 0x05 else None)
        if what == TREADMILL_DATA and payload and not payload[0] & 1:
            return Said(speed_mps=_speed(payload, 2))
        return Said()

    def _target(self, order: Target) -> tuple[bytes, ...]:
        """Empty for a value that this machine has no bytes for."""
        command, argument, factor = _TARGETS[order.action]
        value = max(order.value, 0.0) if order.action in _NOT_NEGATIVE else order.value
        try:
            return (encode(self._profile, command, {argument: value * factor}),)
        except CommandError:
            return ()

    def undoes(self, order: Order) -> bool:
        """A start, on machines that take a second one for a pause."""
        return order.action == "start" and self._profile.commands["start"].toggles

    def repeatable(self, sent: bytes) -> bool:
        """Whatever sets a value, or stops."""
        return sent[0] not in _ONCE


def ftms_facts(answers: Mapping[int, bytes | None]) -> Facts:
    """What features and ranges say, of those that the machine has; one that makes no sense says nothing."""
    spans: dict[Quantity, Span] = {}
    for what, (quantity, layout, unit) in RANGES.items():
        raw = answers.get(what)
        try:
            low, high, step = layout.unpack_from(raw or b"")
        except error:
            continue
        if low < high:
            spans[quantity] = Span(low * unit, high * unit, "the machine", step * unit)
    features = answers.get(FEATURES) or b""
    if len(features) < 8:
        return Facts(spans)
    (targets,) = unpack_from("<I", features, 4)
    return Facts(spans, frozenset(action for action, bit in _TARGET_BITS.items() if not targets >> bit & 1) if targets else frozenset())


def _speed(payload: bytes, at: int) -> float | None:
    """A speed in 0.01 km/h as m/s."""
    return None if len(payload) < at + 2 else int.from_bytes(payload[at : at + 2], "little") / 360
