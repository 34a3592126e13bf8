"""Load: time in heart-rate zones, and the training impulse.

TRIMP is Banister's (Modeling elite athletic performance, 1991; exponents of Morton, Fitz-Clarke and Banister, Journal of Applied
Physiology 69(3), 1990): minutes x share of the heart-rate reserve x 0.64 e^(1.92 share) for men, 0.86 e^(1.67 share) for women. A rate
counts until the next one, at most HOLD_S. Outcomes: rate absent: what was counted stays; a reserve that is none (maximum not above
rest): zones only.
"""

from __future__ import annotations

from typing import Final

from processors.kernels.columns import LOAD_T, TRIMP, ZONE_S
from processors.kernels.compiled import Row, compiled

HOLD_S: Final = 10.0
# of a person: lower bounds of zones 2-5, heart rate at rest and at most (bpm), factor and exponent of the impulse
BOUND_2, BOUND_3, BOUND_4, BOUND_5, REST, MOST, FACTOR, EXPONENT = range(8)
MAN: Final = (114.0, 133.0, 152.0, 171.0, 60.0, 190.0, 0.64, 1.92)
WOMAN: Final = (114.0, 133.0, 152.0, 171.0, 60.0, 190.0, 0.86, 1.67)


@compiled
def exponential(x: float) -> float:
    """e to the power of 0 <= x <= 4, right to 1e-7 of it: the series of x/8, squared three times."""
    y = x / 8.0
    e = 1.0 + y / 6.0 * (1.0 + y / 7.0 * (1.0 + y / 8.0))
    e = 1.0 + y * (1.0 + y / 2.0 * (1.0 + y / 3.0 * (1.0 + y / 4.0 * (1.0 + y / 5.0 * e))))
    e *= e
    e *= e
    return e * e


@compiled
def strain(row: Row, person: Row, t: float, bpm: float) -> None:
    """A heart rate at `t` seconds, for the time since the last one."""
    if bpm != bpm or t != t:
        return
    dt = t - row[LOAD_T]
    if row[LOAD_T] == row[LOAD_T] and dt <= 0.0:
        return
    row[LOAD_T] = t
    if dt != dt:
        return
    dt = min(dt, HOLD_S)
    zone = 0
    for i in range(4):
        if bpm >= person[BOUND_2 + i]:
            zone = i + 1
    row[ZONE_S + zone] += dt
    reserve = person[MOST] - person[REST]
    if reserve > 0.0:
        share = min(max((bpm - person[REST]) / reserve, 0.0), 1.2)
        row[TRIMP] += dt / 60.0 * share * person[FACTOR] * exponential(person[EXPONENT] * share)
