"""Weight classes of boards: whole kilograms of what an athlete weighs now; what it was on the day of an effort is not known."""

from __future__ import annotations

from typing import Final

WEIGHT_CLASSES: Final[dict[str, tuple[int, int]]] = {
    "U55": (0, 54),
    "55-64": (55, 64),
    "65-74": (65, 74),
    "75-84": (75, 84),
    "85-94": (85, 94),
    "95+": (95, 999),
}  # first and last whole kilogram


def weight_class(weight_kg: float) -> str:
    """The class of a weight; 64.9 kg are 64 whole ones."""
    return next(name for name, (_, last) in WEIGHT_CLASSES.items() if int(weight_kg) <= last)
