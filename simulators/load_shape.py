"""How many of the athletes of a load train at a time: everybody, a rush, a day. Pure.

    steady                       everybody, always
    ramp:300                     nobody at first, everybody after 300 s, in a straight line
    burst:0.2@60-90              a fifth, and everybody from 60 s to 90 s
    day:600                      a day in 600 s: 5 % at night, everybody in the evening, two thirds in the morning

An athlete trains while the share is above a number of its own, so the same ones come first and leave last.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

from broker.errors import BadInputError

_NUMBER: Final = r"(\d+(?:\.\d+)?)"
_RAMP: Final = re.compile(rf"ramp:{_NUMBER}")
_BURST: Final = re.compile(rf"burst:{_NUMBER}@{_NUMBER}-{_NUMBER}")
_DAY: Final = re.compile(rf"day:{_NUMBER}")
_NIGHT: Final = 0.05
_MORNING: Final = (7.5 / 24, 1.5 / 24, 0.62)  # when, how wide (of a day), how much
_EVENING: Final = (18.5 / 24, 2.0 / 24, 0.95)
_CURE: Final = "use steady, ramp:SECONDS, burst:SHARE@START-STOP or day:SECONDS"


@dataclass(frozen=True, slots=True)
class LoadShape:
    """A shape by its text; `share(t_s)` is from 0 to 1."""

    text: str
    share: Callable[[float], float]


def parse_shape(text: str) -> LoadShape:
    """The shape that `text` names; BadInputError says what is allowed."""
    if text == "steady":
        return LoadShape(text, lambda _: 1.0)
    if (found := _RAMP.fullmatch(text)) and float(found[1]) > 0:
        length_s = float(found[1])
        return LoadShape(text, lambda t_s: min(max(t_s / length_s, 0.0), 1.0))
    if found := _BURST.fullmatch(text):
        low, start_s, stop_s = (float(group) for group in found.groups())
        if low <= 1 and start_s < stop_s:
            return LoadShape(text, lambda t_s: 1.0 if start_s <= t_s < stop_s else low)
    if (found := _DAY.fullmatch(text)) and float(found[1]) > 0:
        day_s = float(found[1])
        return LoadShape(text, lambda t_s: _of_day(t_s / day_s % 1.0))
    raise BadInputError(f"shape {text!r} is not known", cure=_CURE)


def _of_day(at: float) -> float:
    """The share at `at` (0 midnight, 0.5 noon): two bells over the night."""
    bells = sum(height * math.exp(-0.5 * ((at - middle) / width) ** 2) for middle, width, height in (_MORNING, _EVENING))
    return min(_NIGHT + bells, 1.0)
