"""ANT+ fitness equipment as commands: pages 48-51 to the machine, 54 and 71 from it. Pure; the same pages travel over BLE in some trainers.

There is no control to ask for, no start and no stop: what can be done is to load a brake and to release it. So `stop` sets the
basic resistance to 0 %, and a belt cannot be commanded at all. Page 71 answers with the last command, so an older answer is told apart
by its page number.
"""

from __future__ import annotations

from struct import pack
from typing import Final

from broker.commands import CommandReason, Order, Plain, Simulation
from gateway.limits import Quantity, Span
from gateway.machine_dialect import Facts, Judged, Said, Verdict

CAPABILITIES: Final = 54
STATUS: Final = 71
_CAPABLE: Final = {"resistance": 0, "target_power_w": 1, "simulation": 2}
_RELEASE: Final = bytes([48, *[0xFF] * 6, 0])
_SPANS: Final[dict[Quantity, Span]] = {
    "resistance": Span(0, 100, "FE-C", 0.5),
    "target_power_w": Span(0, 4_000, "FE-C", 0.25),
}
_REFUSALS: Final = {
    1: (CommandReason.FAILED, "failed"),
    2: (CommandReason.NOT_SUPPORTED, "not supported"),
    3: (CommandReason.INVALID, "rejected"),
}


class Fec:
    """The dialect of fitness equipment."""

    @property
    def control(self) -> bytes | None:
        """Nobody holds control: whoever is heard last is obeyed."""
        return None

    def plan(self, order: Order) -> tuple[bytes, ...]:
        """Empty for what FE-C has no word for."""
        if isinstance(order, Plain):
            return (_RELEASE,) if order.action == "stop" else ()
        if isinstance(order, Simulation):
            wind_kmh = min(max(round(order.wind_mps * 3.6), -127), 127)
            grade = round((order.grade_pct + 200) * 100)
            return (
                bytes([50, 0xFF, 0xFF, 0xFF, 0xFF, min(round(order.cw_kgpm * 100), 0xBA), wind_kmh + 127, 100]),  # alone: draft factor 1
                pack("<BBBBBHB", 51, 0xFF, 0xFF, 0xFF, 0xFF, grade, min(round(order.crr / 5e-5), 254)),
            )
        match order.action:
            case "target_power_w":
                return (pack("<BBBBBBH", 49, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, round(order.value * 4)),)
            case "resistance":
                return (bytes([48, *[0xFF] * 6, round(order.value * 2)]),)
            case "speed_mps" | "incline_pct":
                return ()

    def release(self) -> tuple[bytes, ...]:
        """`stop` is that already."""
        return ()

    def judge(self, sent: bytes, answer: bytes) -> Judged:
        """Page 71: byte 1 the last command, byte 3 how it fared. Pending: the brake is on its way, so it was taken."""
        if len(answer) < 8 or answer[0] != STATUS or answer[1] != sent[0]:
            return Judged(Verdict.REFUSED, CommandReason.FAILED, f"page 71 does not speak of page {sent[0]}: {answer[:8].hex()}")
        if answer[3] in {0, 4}:
            return Judged(Verdict.TAKEN)
        reason, word = _REFUSALS.get(answer[3], (CommandReason.FAILED, f"status {answer[3]}"))
        return Judged(Verdict.REFUSED, reason, word)

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


def fec_facts(page: bytes | None) -> Facts:
    """What page 54 says (bits of byte 7), if it was answered."""
    if page is None or len(page) < 8 or page[0] != CAPABILITIES:
        return Facts(dict(_SPANS))
    return Facts(dict(_SPANS), frozenset(action for action, bit in _CAPABLE.items() if not page[7] >> bit & 1))
