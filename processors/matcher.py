"""Segments matched against one subject's fixes in time order, one pass, a few look-ups a fix. Pure: any cut into calls gives the same.

A start is a step between two fixes that passes a segment's start gate forwards, close to its middle. From there the way along the line must
grow: each fix is put on the line within reach of what was travelled, and too long off the line, a long silence or an overrun finish end the
attempt. An effort is a passed finish gate at the end of the way. Several attempts may run at once, also on one segment; a start repeated on
the same pass replaces the first. Efforts come PROVISIONAL at the finish gate and SETTLED five seconds later.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from typing import Final, Self

import numpy as np
import numpy.typing as npt

from processors.attempts import Arrival, Attempt, Attempts, Crossing, Fix, Knot
from processors.geometry import distance_m
from processors.results import CURVE_POINTS, Phase, Timed
from processors.segments import MAX_HALF_WIDTH_M, Gate, Segment, SegmentIndex, cell_of, cells_between

__all__ = ["NO_SPEED", "Attempts", "Fixes", "UnderWay", "advance", "gap_ms", "match_track", "settle", "under_way"]

I64 = npt.NDArray[np.int64]

NO_SPEED: Final = -(2**31)  # of a velocity: not known
SETTLE_US: Final = 5_000_000  # from the finish to the settled time
GAP_US: Final = 120_000_000  # a silence that ends every attempt ...
STAND_M: Final = 60.0  # ... unless it ends where it began: a device that stops recording at a red light
OFF_US: Final = 20_000_000  # so long off the line ends an attempt
OFF_TIMES: Final = 6.0  # and so many corridors off, twice running
CORRIDOR_M: Final = 30.0  # plus the stated accuracy
HALF_WIDTH_M: Final = 15.0  # of a gate, plus twice the stated accuracy, at most MAX_HALF_WIDTH_M
UNSTATED_HALF_WIDTH_M: Final = 40.0
UNSTATED_ACCURACY_M: Final = 10.0
END_M: Final = 45.0  # an attempt may finish when no more than this of the way is missing
OVERRUN_M: Final = 60.0
SAME_PASS_MM: Final = 45_000
SLACK_M: Final = 45.0  # reach beyond what was travelled
JITTER_M: Final = 3.0  # the direction of a shorter step says nothing
MAX_STEP_M: Final = 6_000.0  # a longer step starts nothing
MAX_UNDER_WAY: Final = 256


@dataclass(frozen=True, slots=True, eq=False)
class Fixes:
    """Positions in time order, parallel int64 columns: UTC microseconds (strictly rising), 1e-7 degrees, stated accuracy in centimetres
    (-1: none), and the velocity there in mm/s north and east (NO_SPEED in both: not known). Make them with `of`."""

    t_us: I64
    lat: I64
    lon: I64
    accuracy_cm: I64
    north_mmps: I64
    east_mmps: I64

    @classmethod
    def of(
        cls, t_us: Sequence[int] | I64, lat: Sequence[int] | I64, lon: Sequence[int] | I64, accuracy_cm: Sequence[int] | I64,
        north_mmps: Sequence[int] | I64 | None = None, east_mmps: Sequence[int] | I64 | None = None,
    ) -> Self:  # fmt: skip
        """The columns as they are when they are int64 arrays already, else copied; without velocities nowhere is one known."""
        given = (t_us, lat, lon, accuracy_cm, north_mmps, east_mmps)
        columns = [np.full(len(t_us), NO_SPEED) if column is None else np.asarray(column, np.int64) for column in given]
        if len({len(column) for column in columns}) > 1:
            raise ValueError(f"columns of fixes are equally long, not {[len(column) for column in columns]}")
        return cls(*columns)

    def part(self, lo: int, hi: int) -> Fixes:
        """The fixes from `lo` to before `hi`, in the same memory."""
        return Fixes(
            self.t_us[lo:hi], self.lat[lo:hi], self.lon[lo:hi], self.accuracy_cm[lo:hi], self.north_mmps[lo:hi], self.east_mmps[lo:hi]
        )

    def __len__(self) -> int:
        return len(self.t_us)


@dataclass(frozen=True, slots=True)
class UnderWay:
    """An attempt as of the last fix. `share_ppm` is the share of the way done in millionths."""

    segment: str
    start_us: int
    elapsed_ms: int
    metre_cm: int
    share_ppm: int


def advance(attempts: Attempts, index: SegmentIndex, fixes: Fixes) -> list[Timed]:
    """Take in fixes; the efforts they bring, in the order they come about. A fix not later than the last one is passed over."""
    out: list[Timed] = []
    cells = index.cells
    last = attempts.last
    last_cell = cell_of(last.lat, last.lon) if last is not None else 0
    for fix in map(Fix, fixes.t_us.tolist(), fixes.lat.tolist(), fixes.lon.tolist(), fixes.accuracy_cm.tolist()):
        if last is not None and fix.t_us <= last.t_us:
            continue
        cell = cell_of(fix.lat, fix.lon)
        if last is not None:
            if attempts.waiting:
                _settle_with(attempts, index, last, fix, out)
            if fix.t_us - last.t_us > GAP_US and distance_m(last[1:3], fix[1:3]) > STAND_M:
                attempts.under.clear()
                last = None
            elif attempts.under or cell != last_cell or cell in cells:
                _step(attempts, index, last, fix, out)
        attempts.before, attempts.last = last, fix
        last, last_cell = fix, cell
    return out


def settle(attempts: Attempts, index: SegmentIndex, now_us: int) -> list[Timed]:
    """SETTLED for what waits since five seconds before `now_us` (the athlete's own time) or longer, when no fix came to settle it."""
    del index
    due = [arrival for arrival in attempts.waiting if now_us >= arrival.finish.straight_us() + SETTLE_US]
    attempts.waiting = [arrival for arrival in attempts.waiting if now_us < arrival.finish.straight_us() + SETTLE_US]
    return [arrival.timed(Phase.SETTLED) for arrival in due]


def under_way(attempts: Attempts, index: SegmentIndex) -> list[UnderWay]:
    """The attempts under way, in the order they began."""
    out: list[UnderWay] = []
    for attempt in attempts.under:
        segment = _segment_of(index, attempt)
        if segment is None or attempts.last is None:
            continue
        start_us = attempt.start.straight_us()
        elapsed_ms = (attempts.last.t_us - start_us + 500) // 1000
        share_ppm = attempt.progress_mm * 1_000_000 // max(segment.length_mm, 1)
        out.append(UnderWay(segment.id, start_us, elapsed_ms, attempt.progress_mm // 10, min(share_ppm, 1_000_000)))
    return out


def gap_ms(under: UnderWay, curve_ms: Sequence[int]) -> int:
    """How far behind (positive) or ahead of an effort's curve an attempt is, at the same share of the way."""
    at, part = divmod(under.share_ppm * CURVE_POINTS, 1_000_000)
    low = curve_ms[at - 1] if at else 0
    high = curve_ms[min(at, CURVE_POINTS - 1)]
    return under.elapsed_ms - low - (high - low) * part // 1_000_000


def match_track(index: SegmentIndex, fixes: Fixes) -> list[Timed]:
    """The efforts of a whole track, of phase FINAL, by their start."""
    attempts = Attempts()
    found = [timed for timed in advance(attempts, index, fixes) if timed.phase is Phase.SETTLED]
    found += [arrival.timed(Phase.SETTLED) for arrival in attempts.waiting]
    return sorted((replace(timed, phase=Phase.FINAL) for timed in found), key=lambda t: (t.start_us, t.segment, t.ordinal))


def _step(attempts: Attempts, index: SegmentIndex, last: Fix, fix: Fix, out: list[Timed]) -> None:
    """One step from fix to fix: attempts go on, end or finish, and new ones begin (and may finish at once)."""
    begun = _begun(attempts, index, last, fix)
    if not attempts.under and not begun:
        return
    kept: list[Attempt] = []
    finished: dict[str, tuple[Segment, Attempt, Crossing]] = {}
    for attempt in attempts.under:
        segment = _segment_of(index, attempt)
        if segment is None:
            continue
        if attempt.start.after is None and attempt.start.right.t_us < fix.t_us:
            attempt.start.after = _knot(segment, segment.start, fix)
        finish = _go_on(segment, attempt, attempts.before, last, fix, out_of=1.0)
        if finish is not None:
            finished[segment.id] = segment, attempt, finish  # of several on one pass, the last begun
        elif _alive(segment, attempt, fix):
            kept.append(attempt)
    for segment, start, share in begun:
        same_pass = [a for a in kept if a.segment == segment.id and a.progress_mm <= SAME_PASS_MM]
        if same_pass and not _went_back(start):
            continue
        kept = [a for a in kept if a not in same_pass]
        attempt = Attempt(segment.id, segment.shape, start, start.straight_us())
        finish = _go_on(segment, attempt, attempts.before, last, fix, out_of=1.0 - share)
        if finish is not None:
            finished[segment.id] = segment, attempt, finish
        elif len(kept) < MAX_UNDER_WAY:
            kept.append(attempt)
        else:
            attempts.dropped += 1
    attempts.under = kept
    for segment, attempt, finish in finished.values():
        ordinal = attempts.ordinals.get(segment.id, 0)
        attempts.ordinals[segment.id] = ordinal + 1
        arrival = Arrival(segment.id, segment.shape, ordinal, attempt.start, finish, attempt.curve_ms)
        attempts.waiting.append(arrival)
        out.append(arrival.timed(Phase.PROVISIONAL))


def _begun(attempts: Attempts, index: SegmentIndex, last: Fix, fix: Fix) -> list[tuple[Segment, Crossing, float]]:
    """The segments whose start gate the step passes, by id, with the share of the step done at the gate."""
    found: dict[str, tuple[Segment, Crossing, float]] = {}
    for cell in _cells_on_step(last, fix):
        for segment in index.cells.get(cell, ()):
            if segment.id in found:
                continue
            crossing = _crossing(segment, segment.start, attempts.before, last, fix)
            if crossing is None:
                continue
            ax, ay = segment.plane.metres(last.lat, last.lon)
            bx, by = segment.plane.metres(fix.lat, fix.lon)
            step_m = math.sqrt((bx - ax) * (bx - ax) + (by - ay) * (by - ay))
            way_m = (crossing.right.ahead_mm - crossing.left.ahead_mm) * 1e-3
            if step_m <= MAX_STEP_M and (2.0 * way_m >= step_m or step_m <= JITTER_M):
                found[segment.id] = segment, crossing, -crossing.left.ahead_mm * 1e-3 / way_m
    return [found[key] for key in sorted(found)]


def _cells_on_step(last: Fix, fix: Fix) -> Iterable[int]:
    """The cells a step can touch; a long one is looked at in pieces of about a cell."""
    pieces = max(abs(fix.lat - last.lat), abs(fix.lon - last.lon)) // 5_000 + 1
    if pieces == 1:
        return cells_between(last.lat, last.lon, fix.lat, fix.lon)
    if pieces > 1_000:
        return ()
    seen: dict[int, None] = {}
    lat, lon = last.lat, last.lon
    for k in range(1, pieces + 1):
        next_lat = last.lat + (fix.lat - last.lat) * k // pieces
        next_lon = last.lon + (fix.lon - last.lon) * k // pieces
        seen.update(dict.fromkeys(cells_between(lat, lon, next_lat, next_lon)))
        lat, lon = next_lat, next_lon
    return seen


def _crossing(segment: Segment, gate: Gate, before: Fix | None, last: Fix, fix: Fix) -> Crossing | None:
    """The gate passed forwards within its half-width on the step, or None."""
    ax, ay = segment.plane.metres(last.lat, last.lon)
    bx, by = segment.plane.metres(fix.lat, fix.lon)
    left_mm, right_mm = round(gate.ahead_m(ax, ay) * 1000), round(gate.ahead_m(bx, by) * 1000)
    if not left_mm < 0 <= right_mm:
        return None
    share = -left_mm / (right_mm - left_mm)
    aside_m = gate.aside_m(ax + share * (bx - ax), ay + share * (by - ay))
    accuracy_cm = max(last.accuracy_cm, fix.accuracy_cm)
    half_m = HALF_WIDTH_M + 0.02 * accuracy_cm if accuracy_cm >= 0 else UNSTATED_HALF_WIDTH_M
    if abs(aside_m) > min(half_m, MAX_HALF_WIDTH_M):
        return None
    knot = None if before is None else _knot(segment, gate, before)
    return Crossing(knot, Knot(last.t_us, left_mm), Knot(fix.t_us, right_mm), None, accuracy_cm)


def _go_on(segment: Segment, attempt: Attempt, before: Fix | None, last: Fix, fix: Fix, *, out_of: float) -> Crossing | None:
    """Follow an attempt over the last `out_of` of a step; the crossing of its finish, when that is on it."""
    ax, ay = segment.plane.metres(last.lat, last.lon)
    bx, by = segment.plane.metres(fix.lat, fix.lon)
    step_m = out_of * math.sqrt((bx - ax) * (bx - ax) + (by - ay) * (by - ay))
    from_m = attempt.progress_mm * 1e-3
    before_m = attempt.travelled_mm * 1e-3
    travelled_m = before_m + step_m
    reach_m = 2.0 * travelled_m + SLACK_M
    end_m = _end_m(segment)
    if from_m + reach_m >= end_m:
        crossing = _crossing(segment, segment.finish, before, last, fix)
        if crossing is not None and crossing.straight_us() > attempt.start.straight_us():
            done = -crossing.left.ahead_mm / (crossing.right.ahead_mm - crossing.left.ahead_mm)
            expected_m = from_m + before_m + max(step_m - (1.0 - done) * step_m / max(out_of, 1e-9), 0.0)
            x, y = ax + done * (bx - ax), ay + done * (by - ay)
            if segment.locate(x, y, from_m, reach_m, expected_m)[0] >= end_m:
                _fill(segment, attempt, segment.length_mm, crossing.straight_us())
                return crossing
    at_m, off_m = segment.locate(bx, by, from_m, reach_m, from_m + travelled_m)
    corridor_m = _corridor_m(fix)
    if off_m <= corridor_m:
        _fill(segment, attempt, round(at_m * 1000), fix.t_us)
        attempt.travelled_mm = attempt.off_us = 0
    else:
        if attempt.off_us and off_m > OFF_TIMES * corridor_m:
            attempt.off_us = min(attempt.off_us, fix.t_us - OFF_US - 1)
        attempt.off_us = attempt.off_us or fix.t_us
        attempt.travelled_mm = round(travelled_m * 1000)
    return None


def _alive(segment: Segment, attempt: Attempt, fix: Fix) -> bool:
    """Whether an attempt that did not finish may still do so."""
    if attempt.off_us and fix.t_us - attempt.off_us > OFF_US:
        return False
    if attempt.progress_mm < _end_m(segment) * 1000:
        return True
    return segment.finish.ahead_m(*segment.plane.metres(fix.lat, fix.lon)) <= OVERRUN_M


def _fill(segment: Segment, attempt: Attempt, progress_mm: int, t_us: int) -> None:
    """Move an attempt to its new progress, and put the times of the 64ths passed on its curve, evenly over the way."""
    start_us = attempt.start.straight_us()
    length_mm = segment.length_mm
    from_mm, from_us = attempt.progress_mm, attempt.on_us
    way_mm = progress_mm - from_mm
    while len(attempt.curve_ms) < CURVE_POINTS:
        mark_mm = (len(attempt.curve_ms) + 1) * length_mm // CURVE_POINTS
        if mark_mm > progress_mm:
            break
        at_us = from_us + (t_us - from_us) * (mark_mm - from_mm) // way_mm if way_mm else t_us
        attempt.curve_ms.append((at_us - start_us) // 1000)
    attempt.progress_mm, attempt.on_us = progress_mm, t_us


def _settle_with(attempts: Attempts, index: SegmentIndex, last: Fix, fix: Fix, out: list[Timed]) -> None:
    """A new fix tells the speed after a finish, and that five seconds have passed."""
    waiting: list[Arrival] = []
    for arrival in attempts.waiting:
        segment = _segment_of(index, arrival)
        if segment is not None:
            if arrival.finish.after is None:
                arrival.finish.after = _knot(segment, segment.finish, fix)
            if arrival.start.after is None and arrival.start.right.t_us == last.t_us:
                arrival.start.after = _knot(segment, segment.start, fix)
        if fix.t_us >= arrival.finish.straight_us() + SETTLE_US:
            out.append(arrival.timed(Phase.SETTLED))
        else:
            waiting.append(arrival)
    attempts.waiting = waiting


def _segment_of(index: SegmentIndex, of: Attempt | Arrival) -> Segment | None:
    """The segment as it was when the attempt began, or None: it is gone or was changed."""
    segment = index.segments.get(of.segment)
    return segment if segment is not None and segment.shape == of.shape else None


def _went_back(start: Crossing) -> bool:
    """Whether one was behind the gate for more than a stray fix before this start."""
    return start.before is None or start.before.ahead_mm < 0


def _knot(segment: Segment, gate: Gate, fix: Fix) -> Knot:
    return Knot(fix.t_us, round(gate.ahead_m(*segment.plane.metres(fix.lat, fix.lon)) * 1000))


def _corridor_m(fix: Fix) -> float:
    return CORRIDOR_M + (min(0.01 * fix.accuracy_cm, CORRIDOR_M) if fix.accuracy_cm >= 0 else UNSTATED_ACCURACY_M)


def _end_m(segment: Segment) -> float:
    """How much of the way must be done to finish."""
    return segment.length_m - min(END_M, segment.length_m / 3.0)
