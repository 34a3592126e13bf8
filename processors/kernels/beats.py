"""Beats: intervals between heart beats, cleaned, and their variability.

An interval is normal from 300 to 2,000 ms and within a fifth of the running mean (Malik, Farrell, Cripps and Camm, European Heart
Journal 10(12), 1989); others are artefacts, left out with the differences they take part in, but six in a row that agree are a new
rhythm. RMSSD is the root of the mean square of successive differences of normal intervals (Task Force of the ESC and NASPE, Circulation
93(5), 1996).
"""

from __future__ import annotations

import math
from typing import Final

from processors.kernels.columns import BEAT_ARTEFACTS, BEAT_MEAN_MS, BEAT_MS, BEAT_PAIRS, BEAT_RUN, BEAT_SQUARES
from processors.kernels.compiled import Row, compiled

SHORTEST_MS: Final = 300.0
LONGEST_MS: Final = 2_000.0
TOLERANCE: Final = 0.2
NEW_RHYTHM: Final = 6.0


@compiled
def interval(row: Row, rr_ms: float) -> int:
    """Take an interval; 1 when it is normal. Absent (NaN) breaks the succession and is no artefact."""
    if rr_ms != rr_ms:
        row[BEAT_MS] = math.nan
        return 0
    sane = SHORTEST_MS <= rr_ms <= LONGEST_MS
    known = row[BEAT_MEAN_MS] == row[BEAT_MEAN_MS]
    if not sane or (known and abs(rr_ms - row[BEAT_MEAN_MS]) > TOLERANCE * row[BEAT_MEAN_MS]):
        row[BEAT_ARTEFACTS] += 1.0
        row[BEAT_MS] = math.nan
        row[BEAT_RUN] = row[BEAT_RUN] + 1.0 if sane else 0.0
        if row[BEAT_RUN] < NEW_RHYTHM:
            return 0
        row[BEAT_MEAN_MS] = rr_ms
    row[BEAT_RUN] = 0.0
    if row[BEAT_MS] == row[BEAT_MS]:
        step = rr_ms - row[BEAT_MS]
        row[BEAT_SQUARES] += step * step
        row[BEAT_PAIRS] += 1.0
    row[BEAT_MS] = rr_ms
    if row[BEAT_MEAN_MS] == row[BEAT_MEAN_MS]:
        row[BEAT_MEAN_MS] += 0.2 * (rr_ms - row[BEAT_MEAN_MS])
    else:
        row[BEAT_MEAN_MS] = rr_ms
    return 1


@compiled
def rmssd_ms(row: Row) -> float:
    """Variability since the row began; NaN before two successive normal intervals."""
    if row[BEAT_PAIRS] == 0.0:
        return math.nan
    return math.sqrt(row[BEAT_SQUARES] / row[BEAT_PAIRS])
