"""ANT+ fitness equipment as a dialect: orders in the words of the profile `fitness_equipment`. Pure; some trainers take it over BLE too.

There is no control to ask for, no start and no stop: what can be done is to load a brake and to release it. So `stop` sets the basic
resistance to 0 %, and a belt cannot be commanded at all. Page 71 answers with the last command, so an older answer is told apart by its
page number.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from broker.commands import CommandReason, Order, Plain, Simulation, Target
from device_profiles.catalogue import catalogue
from device_profiles.commands import encode, parse_reply
from gateway.limits import Quantity, Span
from gateway.machine_dialect import Facts, Judged, Said, Verdict

DEVICE_TYPE: Final = 17
CAPABILITIES: Final = 54
_SETS: Final[Mapping[Quantity, tuple[str, str]]] = {
    "resistance": ("set_resistance", "resistance_pct"),
    "target_power_w": ("set_target_power", "power_w"),
}
_TAKES: Final = {"resistance": "takes_resistance", "target_power_w": "takes_power", "simulation": "takes_simulation"}
_REFUSALS: Final = {2: CommandReason.NOT_SUPPORTED, 3: CommandReason.INVALID}
_MAX_CRR: Final = 0.0127  # page 51 ends here; the command's own limit is that of FTMS


class Fec:
    """The dialect of fitness equipment."""

    def __init__(self) -> None:
        profile = catalogue().ant(DEVICE_TYPE)
        assert profile is not None, DEVICE_TYPE
        self._profile = profile

    @property
    def control(self) -> bytes | None:
        """Nobody holds control: whoever is heard last is obeyed."""
        return None

    def plan(self, order: Order) -> tuple[bytes, ...]:
        """Empty for what FE-C has no word for."""
        if isinstance(order, Plain):
            return (self._resistance(0),) if order.action == "stop" else ()
        if isinstance(order, Simulation):
            wind = {"wind_resistance_kgpm": order.cw_kgpm, "wind_speed_kmh": min(max(order.wind_mps * 3.6, -127), 127)}
            grade = {"grade_pct": order.grade_pct, "rolling_resistance": min(order.crr, _MAX_CRR)}
            return encode(self._profile, "set_wind", wind), encode(self._profile, "set_simulation", grade)
        return self._set(order)

    def release(self) -> tuple[bytes, ...]:
        """`stop` is that already."""
        return ()

    def judge(self, sent: bytes, answer: bytes) -> Judged:
        """Page 71. Pending: the brake is on its way, so the command was taken."""
        reply = parse_reply(self._profile, answer)
        if reply is None or reply.op != sent[0]:
            return Judged(Verdict.REFUSED, CommandReason.FAILED, f"page 71 does not speak of page {sent[0]}: {answer[:8].hex()}")
        if reply.ok or reply.pending:
            return Judged(Verdict.TAKEN)
        return Judged(Verdict.REFUSED, _REFUSALS.get(reply.result, CommandReason.FAILED), reply.text or f"status {reply.result}")

    def heard(self, what: int, payload: bytes) -> Said:
        """FE-C tells nothing about control."""
        del what, payload
        return Said()

    def undoes(self, order: Order) -> bool:
        """No page does."""
        del order
        return False

    def repeatable(self, sent: bytes) -> bool:
        """Every page sets a value."""
        return bool(sent)

    def facts(self, answers: Mapping[int, bytes | None]) -> Facts:
        """What page 54 says, if it was answered, within what the profile can say."""
        page = answers.get(CAPABILITIES) or b""
        fields = self._profile.decoder.decode(page)[0] if page[:1] == bytes([CAPABILITIES]) else {}
        missing = frozenset(action for action, field in _TAKES.items() if fields.get(field) == 0)
        spans: dict[Quantity, Span] = {}
        for quantity, (command, _) in _SETS.items():
            (arg,) = self._profile.commands[command].args
            spans[quantity] = Span(arg.min, arg.max, "its profile", arg.mul / arg.div)
        return Facts(spans, missing)

    def _set(self, order: Target) -> tuple[bytes, ...]:
        command = _SETS.get(order.action)
        return () if command is None else (encode(self._profile, command[0], {command[1]: order.value}),)

    def _resistance(self, percent: float) -> bytes:
        return encode(self._profile, "set_resistance", {"resistance_pct": percent})
