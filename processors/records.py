"""Records: how fast anybody ever ran, and how much power anybody ever held, by duration; and what a speed on a slope costs at least.

Curves are points of (seconds, value), between them straight in the logarithm of both, beyond their ends with the slope of the last leg
(but never above the first value). Values are those of men, the fastest there are, so that they refuse nobody; what is above them needs
an explanation. Where a formula must guess (mass, position, wind, a wheel to follow), it guesses what makes the effort easiest.

Sources: running: world records of World Athletics, 100 m to 10,000 m, half marathon and marathon (Bolt 2009 to Kiptum 2023), 100 km and
24 h of the IAU (Sorokin 2023, 2022). Riding power: the world-class row for men in Allen and Coggan, Training and Racing with a Power
Meter, for 5 s, 1, 5 and 60 min; beyond an hour the fall with time between the last two goes on. Riding speed without a slope: flying
200 m, kilometre and 4 km of the UCI (to 2025), the hour (Ganna 2022). Power balance: Martin et al., J. Appl. Biomech. 14, 1998. Drag
behind a wheel: Blocken et al., J. Wind Eng. Ind. Aerodyn. 179, 2018. Cost of running on a slope: Minetti et al., J. Appl. Physiol. 93,
2002.
"""

from __future__ import annotations

from typing import Final

import numpy as np
import numpy.typing as npt

F64 = npt.NDArray[np.float64]
Curve = tuple[tuple[float, float], ...]

RUN_MPS: Final[Curve] = (
    (9.58, 10.44), (19.19, 10.42), (43.03, 9.30), (100.91, 7.93), (131.96, 7.58), (206.0, 7.28), (437.55, 6.86), (755.36, 6.62),
    (1571.0, 6.37), (3451.0, 6.11), (7235.0, 5.83), (21_935.0, 4.56), (86_400.0, 3.70),
)  # fmt: skip
RIDE_MPS: Final[Curve] = ((8.857, 22.58), (55.433, 18.04), (239.15, 16.73), (3600.0, 15.78))
RIDE_WPKG: Final[Curve] = ((5.0, 24.04), (60.0, 11.50), (300.0, 7.60), (3600.0, 6.40))

BODY_KG: Final = 75.0
TOTAL_OF_BODY: Final = 1.10  # rider and bicycle over rider
ROLLING: Final = 0.003  # the best tyres on the best road
DRAG_AREA_M2: Final = 0.20  # a specialist on a time-trial bicycle ...
SHELTER: Final = 0.60  # ... behind another
AIR_KGPM3: Final = 1.10
DRIVE: Final = 0.98  # efficiency of a chain
GRAVITY_MPS2: Final = 9.80665
DOWNHILL: Final = 1.20  # nobody runs faster downhill than so many times the flat: legs brake, not lungs
_STEEPEST: Final = 0.45  # Minetti's measurements end here


def record(curve: Curve, seconds: F64) -> F64:
    """The best mean value anybody held for so long."""
    logs: F64 = np.log(np.array(curve, np.float64))
    at, value = logs[:, 0], logs[:, 1]
    where = np.log(np.maximum(seconds, 1e-3))
    slope = (value[-1] - value[-2]) / (at[-1] - at[-2])
    beyond = np.maximum(where - at[-1], 0.0) * slope
    return np.exp(np.interp(where, at, value) + beyond)


def record_of(curve: Curve, seconds: float) -> float:
    """The best value of the next longer time of the curve, which is no more than `record`; 0 beyond it."""
    return next((value for at_s, value in curve if at_s >= seconds), 0.0)


def least_wpkg(speed_mps: F64, gradient: F64) -> F64:
    """The least power a rider can hold a mean speed with on a mean slope, W per kg of body; negative where the slope drives."""
    slope = np.arctan(gradient)
    weight = TOTAL_OF_BODY * GRAVITY_MPS2 * (np.sin(slope) + ROLLING * np.cos(slope))
    air = 0.5 * AIR_KGPM3 * DRAG_AREA_M2 * SHELTER / BODY_KG * speed_mps * speed_mps
    return speed_mps * (weight + air) / DRIVE


def slope_share(gradient: F64) -> F64:
    """Of the flat record, what is left for a runner on a mean slope: the cost on the flat over that of the slope, at most `DOWNHILL`."""
    i = np.clip(gradient, -_STEEPEST, _STEEPEST)
    cost = ((((155.4 * i - 30.4) * i - 43.3) * i + 46.3) * i + 19.5) * i + 3.6
    return np.where(i < 0, np.minimum(3.6 / cost, DOWNHILL).clip(1.0), np.minimum(3.6 / cost, 1.0))
