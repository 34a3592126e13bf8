"""Repair: heart rate and power of an activity as they are believed, and what only the repaired ones tell.

The trace says whose samples count; here they go through the kernels (`kernels.channels`): a heart rate without dropouts, spikes and runs
of the step rate, watts without spikes, and with them the training impulse, work, normalised power and the variability of the beats.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from broker.layouts import layout_named
from broker.reference import AthleteRef
from processors.kernels import channels
from processors.kernels.beats import rmssd_ms
from processors.kernels.columns import TRIMP, WORK_J, fresh_row
from processors.kernels.compiled import COMPILED
from processors.kernels.load import MAN, MOST, WOMAN
from processors.kernels.power import normalised_w
from processors.live_kernel import I64
from processors.trace import Trace
from processors.tracks import Track

F64 = npt.NDArray[np.float64]

DEFAULT_ZONES_BPM: Final = (114, 133, 152, 171)  # lower bounds of zones 2-5 for the default maximum of 190
ZONE_HOLD_US: Final = 10_000_000  # a heart rate counts for zones at most this long
_NO_RR: Final = layout_named("beats.1").field("rr_ms").absent


@dataclass(frozen=True, slots=True)
class Strain:
    """What an activity demanded: time in heart-rate zones 1-5; Banister's training impulse in thousandths, work in joules, normalised
    power, RMSSD of the beat intervals, None where it was not measured (long enough)."""

    zones_ms: tuple[int, int, int, int, int]
    trimp: int | None
    work_j: int | None
    normalised_power_w: int | None
    rmssd_ms: int | None


def repaired(trace: Trace, athlete: AthleteRef | None, beats: Track | None) -> tuple[Trace, Strain]:
    """The trace with believed heart rates and powers, and the strain. `beats` holds the beat intervals of the same time.

    A heart rate that is not believed, with nothing known in its place, does not count any more."""
    row: Any = np.array(fresh_row()) if COMPILED else fresh_row()
    person = _person(athlete)
    rates = _through(channels.hearts, row, trace, trace.beats, trace.hr_bpm, person)
    watts = _through(channels.powers, row, trace, trace.powers, trace.power_w)
    _intervals(row, beats)
    known = trace.beats & (rates >= 0)
    bounds_bpm = athlete.zones_bpm if athlete is not None else DEFAULT_ZONES_BPM
    zones = zones_ms(trace.t_us[known], np.floor(rates[known]).astype(np.int64), bounds_bpm)  # 113.6 is below 114
    made = replace(trace, beats=known, hr_bpm=np.rint(rates).astype(np.int64), power_w=np.rint(watts).astype(np.int64))
    powered = bool(trace.powers.any())
    return made, Strain(
        zones_ms=zones,
        trimp=round(float(row[TRIMP]) * 1000) if made.beats.any() else None,
        work_j=round(float(row[WORK_J])) if powered else None,
        normalised_power_w=_whole(normalised_w(row)),
        rmssd_ms=_whole(rmssd_ms(row)),
    )


def zones_ms(t_us: I64, hr_bpm: I64, bounds_bpm: Sequence[int]) -> tuple[int, int, int, int, int]:
    """Time in heart-rate zones 1-5; a heart rate counts until the next one, at most `ZONE_HOLD_US`."""
    held = np.minimum(np.diff(t_us), ZONE_HOLD_US)
    zone = np.searchsorted(np.array(bounds_bpm, np.int64), hr_bpm[:-1], "right")
    one, two, three, four, five = (int(held[zone == i].sum()) // 1000 for i in range(5))
    return one, two, three, four, five


def warm_up() -> None:
    """Compile (or load the cached) kernels before the first activity is finished."""
    if COMPILED:
        row, empty = np.array(fresh_row()), np.zeros(0)
        channels.hearts(row, np.array(MAN), empty, empty, 0, empty)
        channels.powers(row, empty, empty, 0, empty)
        channels.intervals(row, empty, empty, 0)
        normalised_w(row)
        rmssd_ms(row)


def _person(athlete: AthleteRef | None) -> tuple[float, ...]:
    """The constants of the impulse; those for women when the athlete is one, else those for men."""
    person = list(WOMAN if athlete is not None and athlete.sex == "f" else MAN)
    if athlete is not None:
        person[:4] = [float(bound) for bound in athlete.zones_bpm]
        person[MOST] = float(athlete.hr_max_bpm)
    return tuple(person)


def _through(kernel: Any, row: Any, trace: Trace, counts: npt.NDArray[np.bool_], values: I64, *tunings: tuple[float, ...]) -> F64:
    """The column with what the kernel believes of its counting samples, -1 for nothing."""
    t_s, given = trace.t_us[counts] * 1e-6, values[counts].astype(np.float64)
    n = len(t_s)
    if COMPILED:
        believed: Any = np.zeros(n)
        kernel(row, *(np.array(of) for of in tunings), t_s, given, n, believed)
    else:
        believed = [0.0] * n
        kernel(row, *tunings, t_s.tolist(), given.tolist(), n, believed)
    made = values.astype(np.float64)
    made[counts] = np.nan_to_num(np.array(believed, np.float64), nan=-1.0)
    return made


def _intervals(row: Any, beats: Track | None) -> None:
    """The intervals of the strap that told most of them."""
    if beats is None or not len(beats):
        return
    rr = beats.records["rr_ms"].astype(np.int64)
    known = rr != _NO_RR
    if not known.any():
        return
    counts = np.bincount(beats.source[known])
    chosen = known & (beats.source == int(np.argmax(counts)))
    seconds: F64 = beats.t_us[chosen] * np.float64(1e-6)
    intervals = rr[chosen].astype(np.float64)
    t_s, rr_ms = (seconds, intervals) if COMPILED else (seconds.tolist(), intervals.tolist())
    channels.intervals(row, t_s, rr_ms, len(intervals))


def _whole(value: float) -> int | None:
    return None if value != value else round(value)  # noqa: PLR0124 - NaN is what differs from itself
