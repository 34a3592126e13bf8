"""Summary: what an activity comes to, from the kernel's row of it and the trace of its samples.

Totals (distance, times, heart rate, effort points) are the kernel's own, so that an activity that was seen whole while it was live does not
change when it ends. Averages are means of the samples that count. Integers only, but for the climb.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

import numpy as np

from broker.layouts import layout_named
from processors import live_kernel as k
from processors.altitude import gain_cm
from processors.live_kernel import I64
from processors.repair import Strain
from processors.results import Lap, Summary
from processors.samples import usable_position
from processors.trace import NO_ALTITUDE, Trace, counted_of

LAP_CM: Final = {"ride": 500_000}  # else a kilometre
_LAP_CM: Final = 100_000
_PACE_US: Final = 30_000_000  # speeds are judged over so long
_RIDE_CMPS: Final = 620  # a twentieth of a ride's half minutes is faster, hardly of a run's
_RIDE_MEAN_CMPS: Final = 480  # as is half of an easy ride
_FOOT_CMPS: Final = 150  # half of a run is faster
_MOTOR_CMPS: Final = 2_000  # half of it is faster: nobody's own legs
_KINDS: Final = layout_named("machine.1").field("kind").values or {}
_INDOORS: Final = {"treadmill": "run", "bike": "ride"}
_CM_UM: Final = 10_000
_TURN: Final = 3_600_000_000
_HALF_TURN: Final = 1_800_000_000


class Means:
    """Averages of one channel over spans of time."""

    def __init__(self, t_us: I64, values: I64) -> None:
        self._t_us = t_us
        self._sums = np.concatenate([[0], np.cumsum(values)])

    def between(self, from_us: int, to_us: int) -> int | None:
        """The mean of the samples with from <= t <= to to the nearest whole number (halves up), None without any."""
        lo, hi = (int(i) for i in (np.searchsorted(self._t_us, from_us, "left"), np.searchsorted(self._t_us, to_us, "right")))
        return _mean(int(self._sums[hi] - self._sums[lo]), hi - lo)


def heart_of(trace: Trace) -> Means:
    """Averages of the heart rate."""
    return Means(trace.t_us[trace.beats], trace.hr_bpm[trace.beats])


def power_of(trace: Trace) -> Means:
    """Averages of the power."""
    return Means(trace.t_us[trace.powers], trace.power_w[trace.powers])


def guess_sport(trace: Trace) -> str:
    """ "run", "ride" or "other": by the machine when there is one, else by how fast the half minutes under way were."""
    moving = trace.where(trace.moves)
    if not len(moving):
        return "ride" if trace.powers.any() else "other"
    kinds: list[int] = moving.machine[moving.machine >= 0].tolist()
    if 2 * len(kinds) > len(moving):
        return _INDOORS.get(_KINDS.get(max(sorted(set(kinds)), key=kinds.count), ""), "other")
    speeds = _paces_cmps(moving)
    if not len(speeds):
        return "ride" if trace.powers.any() else "other"
    median, fast = int(speeds[len(speeds) // 2]), int(speeds[len(speeds) * 19 // 20])
    if median > _MOTOR_CMPS:
        return "other"
    if fast >= _RIDE_CMPS or median >= _RIDE_MEAN_CMPS:
        return "ride"
    return "run" if median >= _FOOT_CMPS else "other"


def _paces_cmps(moving: Trace) -> I64:
    """The speeds of the half minutes under way, sorted."""
    from_us, to_us = int(moving.t_us[0]), int(moving.t_us[-1])
    marks = np.arange(from_us, to_us + 1, min(_PACE_US, max(to_us - from_us, 1)))
    places = np.searchsorted(moving.t_us, marks, "right") - 1
    spans_us, moved_um = np.diff(moving.t_us[places]), np.diff(moving.distance_um[places])
    whole = spans_us >= _PACE_US // 2 if len(places) > 2 else spans_us > 0
    speeds = moved_um[whole] * 100 // spans_us[whole]
    return np.sort(speeds[speeds >= k.STILL_CMPS])


def distance_laps(trace: Trace, sport: str, start_us: int, end_us: int) -> tuple[Lap, ...]:
    """A lap each kilometre, each five of a ride, and the rest."""
    lap_um = LAP_CM.get(sport, _LAP_CM) * _CM_UM
    moved = trace.distance_um[trace.moves]
    if not len(moved) or not moved[-1]:
        return ()
    whole = int(moved[-1]) // lap_um
    cuts = _times_at(trace.t_us[trace.moves], moved, np.arange(1, whole + 1) * lap_um)
    return laps_at(trace, [start_us, *cuts], end_us)


def laps_at(trace: Trace, starts_us: Sequence[int], end_us: int) -> tuple[Lap, ...]:
    """Laps that begin at rising times and end where the next begins, the last at `end_us`; none of no length."""
    heart, power = heart_of(trace), power_of(trace)
    t_us, moved = trace.t_us[trace.moves], trace.distance_um[trace.moves]
    ends_us = [*starts_us[1:], end_us]
    laps: list[Lap] = []
    for from_us, to_us in zip(starts_us, ends_us, strict=True):
        if from_us >= to_us:
            continue
        distance_cm = distance_um_at(t_us, moved, to_us) // _CM_UM - distance_um_at(t_us, moved, from_us) // _CM_UM
        elapsed_ms = (to_us - starts_us[0]) // 1000 - (from_us - starts_us[0]) // 1000
        last = to_us if to_us == end_us else to_us - 1
        laps.append(Lap(from_us, elapsed_ms, distance_cm, heart.between(from_us, last), power.between(from_us, last)))
    return tuple(laps)


def distance_um_at(t_us: I64, distance_um: I64, at_us: int) -> int:
    """The distance at a time, between samples in proportion."""
    i = int(np.searchsorted(t_us, at_us, "right"))
    if i == 0:
        return 0
    before = int(distance_um[i - 1])
    if i == len(t_us):
        return before
    share = int(distance_um[i]) - before
    return before + share * (at_us - int(t_us[i - 1])) // (int(t_us[i]) - int(t_us[i - 1]))


def _times_at(t_us: I64, distance_um: I64, marks_um: I64) -> list[int]:
    """When each distance was reached, between samples in proportion (rounded up, so that it was)."""
    found: list[int] = []
    for mark, i in zip(marks_um.tolist(), np.searchsorted(distance_um, marks_um, "left").tolist(), strict=True):
        before, after = (int(distance_um[i - 1]), int(distance_um[i])) if i else (0, int(distance_um[0]))
        from_us = int(t_us[i - 1]) if i else int(t_us[0])
        found.append(from_us - (mark - before) * (from_us - int(t_us[i])) // max(after - before, 1))
    return found


def bounds_of(lat: I64, lon: I64) -> tuple[int, int, int, int] | None:
    """(south, west, north, east) of positions. West is greater than east when they lie across the date line."""
    sane = usable_position(lat, lon)
    if not sane.any():
        return None
    lat, lon = lat[sane], lon[sane]
    around = (lon - lon[0] + _HALF_TURN) % _TURN - _HALF_TURN + lon[0]
    west, east = ((int(edge) + _HALF_TURN) % _TURN - _HALF_TURN for edge in (around.min(), around.max()))
    return int(lat.min()), west, int(lat.max()), east


def climb_cm(trace: Trace) -> int:
    """Metres climbed in centimetres."""
    high = trace.where(trace.moves & (trace.altitude_dm != NO_ALTITUDE))
    return gain_cm(high.t_us, high.altitude_dm, high.altitude_source, high.receiver, high.distance_um)


def summarise(
    activity: str, subject: str, row: I64, trace: Trace, sport: str, laps: tuple[Lap, ...],
    bounds: tuple[int, int, int, int] | None, strain: Strain,
) -> Summary:  # fmt: skip
    """The summary of a run of the kernel (`row`, one of `run_tracks`), its repaired trace and the strain."""
    start_us, end_us = int(row[k.START]), int(row[k.LAST_T])
    return Summary(
        id=activity,
        subject=subject,
        start_us=start_us,
        end_us=end_us,
        sport=sport,
        distance_cm=int(row[k.DIST_UM]) // _CM_UM,
        elapsed_ms=(end_us - start_us) // 1000,
        moving_ms=int(row[k.MOVING_US]) // 1000,
        gain_cm=climb_cm(trace),
        hr_avg_bpm=_mean(int(row[k.HR_SUM]), int(row[k.HR_N])),
        hr_max_bpm=int(row[k.HR_MAX]) or None,
        power_avg_w=power_of(trace).between(start_us, end_us),
        points=int(row[k.POINTS]) // 60_000,
        zones_ms=strain.zones_ms,
        laps=laps,
        bounds=bounds,
        origins=trace.counted_origins,
        samples=int(row[k.SAMPLES]),
        trimp=strain.trimp,
        work_j=strain.work_j,
        normalised_power_w=strain.normalised_power_w,
        rmssd_ms=strain.rmssd_ms,
        counted=counted_of(trace),
    )


def _mean(total: int, count: int) -> int | None:
    return (2 * total + count) // (2 * count) if count else None
