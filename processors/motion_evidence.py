"""Evidence: what was measured while an effort lasted, and what of a whole activity no body does. Pure, over the samples that count.

Positions are those the device stated, not the smoothed ones, so that a jump is still one. `Evidence` is made once an activity, `span` asks
for one effort: both are linear in the samples they look at.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

import numpy as np
import numpy.typing as npt

from broker.layouts import all_layouts
from processors.geometry import METRE_PER_UNIT
from processors.live_kernel import I64, NO_POS
from processors.records import BODY_KG, DOWNHILL, F64, RIDE_WPKG, RUN_MPS, TOTAL_OF_BODY, least_wpkg, record
from processors.samples import MOTION
from processors.trace import NO_ALTITUDE, Trace
from processors.tracks import Track

Mask = npt.NDArray[np.bool_]

MISSING_S: Final = 10.0  # a longer silence while moving leaves a hole
STANDS_M: Final = 30.0  # a silence that ends this near where it began is a stop
RUN_TOP_MPS: Final = 12.5  # the fastest anybody ever ran for an instant: 12.4 (Graubner and Nixdorf 2011)
RIDE_TOP_MPS: Final = 30.0
JUMP_SLACK_M: Final = 30.0
WILD_MPS2: Final = 3.5
_AROUND: Final = 60  # positions before and after an effort that also tell how often there is one
_TURN: Final = 3_600_000_000
_GRID_S: Final = 5.0
_ALTITUDE_HALF_US: Final = 5_000_000
_ALTITUDE_ERROR_M: Final = {1: 2.0, 2: 12.0}  # of a difference: barometer, GNSS; 8 m of an unknown source
_ALTITUDE_ERROR_UNKNOWN_M: Final = 8.0
DEAD_METER_W: Final = 30.0  # a meter that measures less is broken
_CLIMB_S: Final = 120.0
_CLIMB: Final = 0.03  # a steeper window is a climb
_LAUNCH_S: Final = 7.0
_LAUNCH_FROM_CMPS: Final = 200
_LAUNCH_TO_CMPS: Final = 1_100  # 40 km/h in 7 s are 10 W/kg and more, from a standstill: engines do that


@dataclass(frozen=True, slots=True)
class Span:
    """One effort. Means are None when less than half of the time is covered.

    `jump_m`: how much further than possible the positions jump; `step_s`: the median between positions, around it too;
    `missing_share`: of the time, in holes; `gate_gap_s`: between the positions around the start or finish line, the longer;
    `accuracy_m`: the stated one, 0 when it is not; `stated_m`: the way by the stated speed.
    """

    jump_m: float
    step_s: float
    missing_share: float
    gate_gap_s: float
    accuracy_m: float
    hr_bpm: float | None
    power_w: float | None
    stated_m: float | None


@dataclass(frozen=True, slots=True)
class Column:
    """Values of one channel with their times."""

    t_us: I64
    values: I64

    def between(self, from_us: int, to_us: int) -> tuple[I64, I64]:
        """Times and values from `from_us` to `to_us`."""
        lo, hi = np.searchsorted(self.t_us, (from_us, to_us + 1))
        return self.t_us[lo:hi], self.values[lo:hi]

    def mean(self, from_us: int, to_us: int, hold_s: float = MISSING_S) -> float | None:
        """The mean over time, each value until the next one but no longer than `hold_s`; None when that covers less than half."""
        t_us, values = self.between(from_us, to_us)
        if not len(t_us):
            return None
        held = np.minimum(np.diff(np.append(t_us, to_us)), int(hold_s * 1e6))
        covered = int(held.sum())
        return float((held * values).sum() / covered) if 2 * covered >= to_us - from_us and covered > 0 else None


@dataclass(frozen=True, slots=True)
class Evidence:
    """An activity. `declared` is what its file said: "run", "ride", "e_bike", "vehicle", "other" or nothing. `vehicle`, `motor` and
    `wrong_sport`: the weights of what its whole course says of them. `altitude_sums`: of the altitudes before each, `wild`: how many
    positions before each jump about."""

    sport: str
    declared: str
    hr_max_bpm: int
    body_kg: float | None
    lat: I64
    lon: I64
    accuracy: Column
    hr: Column
    power: Column
    stated: Column
    altitude: Column
    altitude_sums: I64
    altitude_error_m: float
    wild: I64
    vehicle: float
    motor: float
    wrong_sport: float

    def span(self, from_us: int, to_us: int) -> Span:
        """What was measured from the start of an effort to its end."""
        t_us = self.accuracy.t_us
        lo = max(int(np.searchsorted(t_us, from_us, "right")) - 1, 0)
        hi = min(int(np.searchsorted(t_us, to_us, "left")) + 1, len(t_us))
        steps_s = np.diff(t_us[lo:hi]) * 1e-6
        east, north = _metres(self.lat[lo:hi], self.lon[lo:hi])
        moved = np.hypot(np.diff(east), np.diff(north))
        holes = steps_s[(steps_s > MISSING_S) & (moved > STANDS_M)]
        around_s = np.diff(t_us[max(lo - _AROUND, 0) : hi + _AROUND]) * 1e-6
        stated = self.accuracy.values[lo:hi]
        stated = stated[stated >= 0]
        top_mps = RUN_TOP_MPS if self.sport == "run" else RIDE_TOP_MPS
        return Span(
            jump_m=_jump_m(t_us[lo:hi], east, north, top_mps),
            step_s=float(np.median(around_s)) if len(around_s) else 0.0,
            missing_share=float(holes.sum()) * 1e6 / max(to_us - from_us, 1),
            gate_gap_s=max(float(steps_s[0]), float(steps_s[-1])) if len(steps_s) else 0.0,
            accuracy_m=float(stated.mean()) * 1e-2 if len(stated) else 0.0,
            hr_bpm=self._heart(from_us, to_us),
            power_w=self.power.mean(from_us, to_us),
            stated_m=self._stated_m(from_us, to_us),
        )

    def wandering(self, t_us: I64) -> I64:
        """(two rows) how many positions there are before each of the times, and how many of them change their speed as only a receiver
        that wanders does."""
        at = np.searchsorted(self.accuracy.t_us, t_us)
        return np.stack([at, self.wild[at]])

    def altitudes_m(self, t_us: I64) -> F64 | None:
        """The altitude at each time, as the mean of ten seconds; None when it is not known throughout."""
        at, sums = self.altitude.t_us, self.altitude_sums
        lo = np.searchsorted(at, t_us - _ALTITUDE_HALF_US, "left")
        hi = np.searchsorted(at, t_us + _ALTITUDE_HALF_US, "right")
        if not len(at) or (lo >= hi).any():
            return None
        return (sums[hi] - sums[lo]) / (hi - lo) * 0.1

    def _stated_m(self, from_us: int, to_us: int) -> float | None:
        """The stated speed over the time, each until the next, nothing in a silence of more than ten seconds; None of a few samples."""
        t_us, cmps = self.stated.between(from_us, to_us)
        if len(t_us) < 10:
            return None
        apart_us = np.diff(np.append(t_us, to_us))
        return float((apart_us * cmps)[apart_us <= MISSING_S * 1e6].sum()) * 1e-8

    def _heart(self, from_us: int, to_us: int) -> float | None:
        """The mean heart rate, when there is one that moves."""
        _, values = self.hr.between(from_us, to_us)
        if len(values) < 2 or (to_us - from_us > 60_000_000 and int(values.max()) - int(values.min()) < 2):
            return None
        return self.hr.mean(from_us, to_us)


def evidence_of(
    trace: Trace, tracks: Mapping[int, Track], sport: str, declared: str, hr_max_bpm: int, body_kg: float | None = None
) -> Evidence:
    """The evidence of a finished activity: `trace` with the positions as they were stated, `tracks` for the cadence."""
    placed = trace.moves & (trace.lat != NO_POS) & (trace.lon != NO_POS)
    high = trace.moves & (trace.altitude_dm != NO_ALTITUDE)
    altitude = Column(trace.t_us[high], trace.altitude_dm[high])
    if len(altitude.values) and int(altitude.values.max()) - int(altitude.values.min()) < 10:
        altitude = Column(altitude.t_us[:0], altitude.values[:0])  # a device that always says the same knows none
    sources = {int(source) for source in np.unique(trace.altitude_source[high]).tolist()}
    error_m = max((_ALTITUDE_ERROR_M.get(source, _ALTITUDE_ERROR_UNKNOWN_M) for source in sources), default=_ALTITUDE_ERROR_UNKNOWN_M)
    stated = trace.moves & (trace.stated_speed_cmps >= 0)
    speeds = Column(trace.t_us[stated], trace.stated_speed_cmps[stated])
    hr = Column(trace.t_us[trace.beats], trace.hr_bpm[trace.beats])
    power = Column(trace.t_us[trace.powers], trace.power_w[trace.powers])
    lat, lon = trace.lat[placed], trace.lon[placed]
    return Evidence(
        sport, declared, hr_max_bpm, body_kg, lat, lon, Column(trace.t_us[placed], trace.accuracy_cm[placed]),
        hr, power, speeds, altitude, _sums(altitude.values), error_m, _sums(_wild(trace.t_us[placed], *_metres(lat, lon))),
        vehicle=_vehicle(trace, altitude, speeds, declared),
        motor=_motor(trace, altitude, error_m, hr, power, hr_max_bpm, body_kg) if sport == "ride" else 0.0,
        wrong_sport=_not_run(trace, cadence_of(tracks), speeds) if sport == "run" else 0.0,
    )  # fmt: skip


def cadence_of(tracks: Mapping[int, Track]) -> Column:
    """The turns a minute of the legs, from whoever measured them."""
    track = tracks.get(MOTION)
    if track is None:
        return Column(np.zeros(0, np.int64), np.zeros(0, np.int64))
    raw = track.records["cadence_rpm"].astype(np.int64)
    there = raw != all_layouts()[MOTION].field("cadence_rpm").absent
    return Column(track.t_us[there], raw[there])


def _metres(lat: I64, lon: I64) -> tuple[F64, F64]:
    """Metres east and north of the first, around the date line."""
    if not len(lat):
        return np.zeros(0), np.zeros(0)
    turned = (lon - lon[0] + _TURN // 2) % _TURN - _TURN // 2
    east_m = METRE_PER_UNIT * math.cos(math.radians(float(lat[0]) * 1e-7))
    return turned * east_m, (lat - lat[0]) * METRE_PER_UNIT


def _jump_m(t_us: I64, east: F64, north: F64, top_mps: float) -> float:
    """How much further than possible the way jumps between two fixes and stays there: medians of three fixes before and after are
    compared, so a stray fix is none; repeated positions are left out, so a frozen receiver that catches up is none either."""
    moved = np.append(True, (np.diff(east) != 0) | (np.diff(north) != 0)) if len(east) else np.zeros(0, np.bool_)
    t_s, east, north = t_us[moved] * 1e-6, east[moved], north[moved]
    if len(t_s) < 6:
        return 0.0
    middle_east, middle_north = _median_of_three(east), _median_of_three(north)  # of i, i + 1, i + 2
    apart = np.hypot(middle_east[3:] - middle_east[:-3], middle_north[3:] - middle_north[:-3])
    step_s = np.diff(t_s)
    pace = float(np.median(np.hypot(np.diff(east), np.diff(north)) / np.maximum(step_s, 1e-3)))
    around_s = step_s[1:-3] + step_s[3:-1]
    excess = apart - 1.5 * pace * around_s - top_mps * step_s[2:-2] - JUMP_SLACK_M
    return max(float(excess.max()), 0.0)


def _sums(values: I64 | Mask) -> I64:
    """The sum of the values before each, and of all."""
    return np.append(0, np.cumsum(values, dtype=np.int64))


def _wild(t_us: I64, east: F64, north: F64) -> Mask:
    """Where the speed between positions at most a few seconds apart changes by more than legs, wheels and brakes can."""
    wild = np.zeros(len(t_us), np.bool_)
    if len(t_us) < 3:
        return wild
    step_s = np.maximum(np.diff(t_us) * 1e-6, 0.05)
    change = np.hypot(np.diff(np.diff(east) / step_s), np.diff(np.diff(north) / step_s)) / (0.5 * (step_s[1:] + step_s[:-1]))
    wild[1:-1] = (change > WILD_MPS2) & (step_s[1:] <= 3.0) & (step_s[:-1] <= 3.0)
    return wild


def _median_of_three(values: F64) -> F64:
    a, b, c = values[:-2], values[1:-1], values[2:]
    return np.maximum(np.minimum(a, b), np.minimum(np.maximum(a, b), c))


def _vehicle(trace: Trace, altitude: Column, speeds: Column, declared: str) -> float:
    """An engine: so fast for a minute or five without a descent, or starts as no legs can, again and again."""
    if declared == "vehicle":
        return 1.0
    grid = _grid(trace)
    if grid is None:
        return 0.0
    at_us, way_m = grid
    launches = _launches(speeds)
    weight = min(0.25 + 0.2 * (launches - 1), 0.85) if launches > 1 else 0.0  # one may be a receiver's
    known = len(altitude.t_us) > 0
    heights = np.interp(at_us, altitude.t_us, altitude.values * 0.1) if known else np.zeros(len(at_us))
    for seconds, low, high in ((60.0, 20.5, 24.0), (300.0, 18.0, 20.5)):
        count = int(seconds / _GRID_S)
        if len(way_m) <= count:
            continue
        way = way_m[count:] - way_m[:-count]
        level = heights[count:] - heights[:-count] > -0.02 * way
        speed = (way / seconds)[level] if known else way / seconds / 1.15
        weight = max(weight, _beyond(speed, count, low, high))
    return weight


def _motor(trace: Trace, altitude: Column, error_m: float, hr: Column, power: Column, hr_max_bpm: int, body_kg: float | None) -> float:
    """A motor that helps uphill: for minutes of climbing the heart hardly works for the least power, or the meter knows of a part of it."""
    grid = _grid(trace)
    count = int(_CLIMB_S / _GRID_S)
    if grid is None or len(grid[0]) <= count + 2 or not len(altitude.t_us):
        return 0.0
    at_us, way_m = grid
    heights = np.interp(at_us, altitude.t_us, altitude.values * 0.1)
    way = way_m[count:] - way_m[:-count]
    rise = heights[count:] - heights[:-count] - error_m
    paces = np.gradient(way_m) / _GRID_S
    kept = np.maximum(paces[:-count] ** 2 - paces[count:] ** 2, 0.0) * 0.5 * TOTAL_OF_BODY / _CLIMB_S
    least = np.where(rise > _CLIMB * way, least_wpkg(way / _CLIMB_S, rise / np.maximum(way, 1.0)) - kept, 0.0)
    weights = np.zeros(len(least))
    if _measured(hr, at_us) and int(np.ptp(hr.values)) >= 10:
        ease = (0.64 - _means(hr, at_us, count) / hr_max_bpm) / 0.06
        share = least / float(record(RIDE_WPKG, np.array([_CLIMB_S]))[0])
        weights = np.clip(ease, 0.0, 1.0) * np.clip((share - 0.36) / 0.07, 0.0, 1.0)
    if _measured(power, at_us):
        mean_w = _means(power, at_us, count)
        known = 1.0 - unmeasured(mean_w, least, body_kg)
        weights = np.maximum(weights, np.where(mean_w > DEAD_METER_W, (1.0 - known) * np.clip((least - 2.5) / 0.5, 0.0, 1.0), 0.0))
    return 0.7 * _beyond(weights, count, 0.0, 1.0)


def unmeasured(power_w: F64, least_wpkg: F64, body_kg: float | None) -> F64:
    """0 to 1: a meter measured so much less than the least power that a motor did the rest. Of a rider of unknown mass it must be less than
    three fifths of what `BODY_KG` takes: he or she may be light."""
    low, high = (0.35, 0.6) if body_kg is None else (0.5, 0.75)
    share = power_w / np.maximum(least_wpkg * (BODY_KG if body_kg is None else body_kg), 1.0)
    return 1.0 - np.clip((share - low) / (high - low), 0.0, 1.0)


def _measured(column: Column, at_us: F64) -> bool:
    """Whether a channel was there most of the time."""
    return len(column.t_us) * MISSING_S * 1e6 > at_us[-1] - at_us[0] and len(column.t_us) > 10


def _means(column: Column, at_us: F64, count: int) -> F64:
    """Means of a channel over windows of `count` steps."""
    sums = np.append(0.0, np.cumsum(np.interp(at_us, column.t_us, column.values)))
    return (sums[count:-1] - sums[: -count - 1]) / count


def _launches(speeds: Column) -> int:
    """How often the stated speed went from a walk to 40 km/h in seven seconds, without a jump in it."""
    t_us, cmps = speeds.t_us, speeds.values
    fast = np.flatnonzero(cmps >= _LAUNCH_TO_CMPS)
    if len(t_us) < 10 or not len(fast) or float(np.median(np.diff(t_us))) > 2e6:
        return 0
    entered = fast[np.append(True, np.diff(fast) > 1)]
    count = 0
    for i in entered.tolist():
        lo = int(np.searchsorted(t_us, t_us[i] - int(_LAUNCH_S * 1e6)))
        slow = np.flatnonzero(cmps[lo:i] <= _LAUNCH_FROM_CMPS)
        rise = np.diff(cmps[lo + int(slow[-1]) : i + 1]) if len(slow) else np.zeros(0)
        if len(rise) >= 3 and int(rise.max()) < 600:
            count += 1
    return count


def _not_run(trace: Trace, cadence: Column, speeds: Column) -> float:
    """Not a run: faster than the records for a minute or five even downhill, or fast while the legs stand still or turn too slowly."""
    weight = 0.0
    grid = _grid(trace)
    for seconds in (60.0, 300.0):
        count = int(seconds / _GRID_S)
        if grid is None or len(grid[1]) <= count:
            continue
        share = (grid[1][count:] - grid[1][:-count]) / seconds / (float(record(RUN_MPS, np.array([seconds]))[0]) * DOWNHILL)
        weight = max(weight, 0.7 * _beyond(share, count, 0.97, 1.07))
    if len(cadence.t_us) > 60 and len(speeds.t_us) > 60:
        at = np.interp(cadence.t_us, speeds.t_us, speeds.values)
        quick = at > 300
        if int(quick.sum()) > 60 and float((cadence.values > 0).mean()) > 0.3:
            still = float((cadence.values[quick] == 0).mean())
            slow = float((cadence.values[quick] < 65).mean())
            weight = max(weight, 0.7 * min(max((still - 0.1) / 0.25, 0.0), 1.0), 0.6 * min(max((slow - 0.5) / 0.3, 0.0), 1.0))
    return weight


def _beyond(speeds: F64, count: int, low: float, high: float) -> float:
    """How far beyond `low` (0) towards `high` (1) windows of `count` steps are, but for the best 1.5 `count` of them: a jump of the way is
    in `count`."""
    place = count + count // 2
    return min(max((float(np.sort(speeds)[-1 - place]) - low) / (high - low), 0.0), 1.0) if len(speeds) > place else 0.0


def _grid(trace: Trace) -> tuple[F64, F64] | None:
    """(microseconds, metres) of the way each five seconds; None when nothing moves for a minute."""
    t_us = trace.t_us[trace.moves]
    if len(t_us) < 2 or t_us[-1] - t_us[0] < 60_000_000:
        return None
    at_us = np.arange(float(t_us[0]), float(t_us[-1]), _GRID_S * 1e6)
    return at_us, np.interp(at_us, t_us, trace.distance_um[trace.moves] * 1e-6)
