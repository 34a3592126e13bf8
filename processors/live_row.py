"""The state of one athlete in the live stage: one row of 1,024 bytes, integers first, then what the float kernels remember.

The integers (micrometres, microseconds, 1e-7 degrees) are what boards and clocks read; behind them stand `LIVE` floats of
`kernels.columns`, and 30 seconds of power in sixteenths of a watt as u16. A snapshot is the bytes of the row.
"""

from __future__ import annotations

import math
from typing import Final

import numpy as np
import numpy.typing as npt

from processors.kernels import columns, load

I64 = npt.NDArray[np.int64]
F64 = npt.NDArray[np.float64]
U16 = npt.NDArray[np.uint16]

ABSENT: Final = -1
NO_POS: Final = -(1 << 31)  # absent latitude or longitude
NO_ALTITUDE: Final = -32768  # in decimetres
NEVER: Final = -(1 << 62)

# Columns of integers. Up to LATE_FROM they are of the activity. Of each channel (heart rate, motion, power, cadence): whose samples
# count, since when, the last one. RANKS: how good those sources are, a byte a channel, and what that of motion will be from RANK_AT on.
# PLACE and the corners of the box are pairs of positions (`pair`).
(
    START, LAST_T, ANCHOR, HR_ORG, HR_RUN, HR_T, MV_ORG, MV_RUN, MV_T, PW_ORG, PW_RUN, PW_T, CD_ORG, CD_RUN, CD_T, RANKS, RANK_AT, MV_BOOT,
    HR, SPEED, DEV_DIST, PLACE, SOUTH_WEST, NORTH_EAST,
    DIST_UM, POINTS, MOVING_US, SAMPLES, HR_SUM, HR_N, HR_MAX, STILL_T, PAUSED,
    LATE_FROM, LATE_TO, APPENDED, WAKES, HR_REF, PERSON, LATE_SINCE, LATE_AT,
) = range(41)  # fmt: skip
INTS: Final = 41
RING_AT: Final = (INTS + columns.LIVE) * 4  # in a row of u16
RING_UNITS: Final = 16  # a joule
GAIT: Final = columns.RING_S  # behind the ring: how long it was faster than it was slower, in ms from GAIT_MS on
CADENCE: Final = columns.RING_S + 1  # and the cadence plus one, 0 when there is none
GAIT_MS: Final = 30_000
RECENT_US: Final = 10_000_000
RING_COLUMNS: Final = columns.RING_S + 2
COLUMNS: Final = 128


def fresh_row() -> I64:
    """The state of an athlete never seen: shape (COLUMNS,)."""
    return _FRESH.copy()


def floats_of(rows: I64) -> F64:
    """The kernels' part of a row, or of rows: a view of shape (..., LIVE)."""
    return rows.view(np.float64)[..., INTS : INTS + columns.LIVE]


def ring_of(rows: I64) -> U16:
    """The seconds of power of a row, or of rows, then GAIT and CADENCE: a view of shape (..., RING_COLUMNS)."""
    return rows.view(np.uint16)[..., RING_AT : RING_AT + RING_COLUMNS]


def pair(lat: int, lon: int) -> int:
    """A position as one integer."""
    return (lat << 32) | (lon & 0xFFFFFFFF)


def unpaired(pair: int) -> tuple[int, int]:
    """Inverse of `pair`."""
    lon = pair & 0xFFFFFFFF
    return pair >> 32, lon - ((lon >> 31) << 32)


def _made() -> I64:
    row = np.zeros(COLUMNS, np.int64)
    for column in (START, LAST_T, ANCHOR, HR_RUN, HR_T, MV_RUN, MV_T, PW_RUN, PW_T, CD_RUN, CD_T, RANK_AT, LATE_TO):
        row[column] = NEVER
    for column in (HR, SPEED, DEV_DIST, STILL_T):
        row[column] = ABSENT
    row[PLACE] = row[NORTH_EAST] = pair(NO_POS, NO_POS)
    row[SOUTH_WEST] = pair(-NO_POS - 1, -NO_POS - 1)
    row[LATE_FROM] = -NEVER
    row[HR_REF] = 190
    row[PERSON] = DEFAULT_PERSON
    floats_of(row)[:] = columns.fresh_row()[: columns.LIVE]
    ring_of(row)[GAIT] = GAIT_MS
    return row


def person_of(zones_bpm: tuple[int, int, int, int], *, woman: bool = False) -> int:
    """What load depends on besides the highest heart rate (HR_REF), as one integer: lower bounds of zones 2-5, a byte each (a bound beyond
    is one that no heart reaches), and the sex."""
    two, three, four, five = (min(max(bound, 0), 255) for bound in zones_bpm)
    return two | three << 8 | four << 16 | five << 24 | int(woman) << 32


DEFAULT_PERSON: Final = person_of((114, 133, 152, 171))
REST_BPM: Final = load.MAN[load.REST]
_FRESH: Final = _made()


def place_of(row: I64) -> tuple[int, int] | None:
    """The last filtered position in 1e-7 degrees."""
    found = unpaired(int(row[PLACE]))
    return None if found[0] == NO_POS else found


def box_of(row: I64) -> list[int]:
    """South, west, north and east of the filtered positions; south is beyond north when there is none."""
    return [*unpaired(int(row[SOUTH_WEST])), *unpaired(int(row[NORTH_EAST]))]


def power_w(row: I64) -> int | None:
    """The last power, without spikes; None when none is known."""
    watts = float(floats_of(row)[columns.POWER_W])
    return None if math.isnan(watts) else int(watts + 0.5)


def cadence_rpm(row: I64) -> int | None:
    """The last cadence."""
    return int(ring_of(row)[CADENCE]) - 1 if ring_of(row)[CADENCE] else None


def sources_of(row: I64) -> dict[str, int]:
    """The hash (`samples.hash64`) of the origin whose samples count now, by channel; of channels heard in the last ten seconds."""
    channels = {"heart_rate": HR_ORG, "motion": MV_ORG, "power": PW_ORG, "cadence": CD_ORG}
    return {name: int(row[at]) for name, at in channels.items() if row[at + 2] != NEVER and row[LAST_T] - row[at + 2] <= RECENT_US}


def gain_m(row: I64) -> float | None:
    """Metres climbed so far; None while no altitude is known."""
    f = floats_of(row)
    return None if math.isnan(f[columns.ALT_T]) and f[columns.GAIN_M] == 0.0 else float(f[columns.GAIN_M])


def rmssd_ms(row: I64) -> float | None:
    """Variability of the heart beats of the activity; None before two successive normal ones."""
    f = floats_of(row)
    return math.sqrt(f[columns.BEAT_SQUARES] / f[columns.BEAT_PAIRS]) if f[columns.BEAT_PAIRS] else None


def normalised_w(row: I64) -> float | None:
    """Normalised power of the activity; None before half a minute of it."""
    f = floats_of(row)
    seconds = f[columns.RING_N] - (columns.RING_S - 1)
    return math.sqrt(math.sqrt(f[columns.FOURTHS] / seconds)) if seconds > 0 else None


def work_kj(row: I64) -> float | None:
    """Work of the activity; None when no power was measured."""
    f = floats_of(row)
    return None if math.isnan(f[columns.POWER_T]) else float(f[columns.WORK_J]) / 1000.0


def trimp(row: I64) -> float:
    """The training impulse of the activity (Banister)."""
    return float(floats_of(row)[columns.TRIMP])


def zones_s(row: I64) -> list[float]:
    """Seconds in heart-rate zones 1-5."""
    return floats_of(row)[columns.ZONE_S : columns.ZONE_S + 5].tolist()
