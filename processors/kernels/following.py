"""Following: one attempt over one step along its line, its curve of elapsed times, and whether it may still finish."""

from __future__ import annotations

from typing import Final

from processors.kernels.compiled import compiled_inside
from processors.kernels.crossings import straight_us, whole
from processors.kernels.legs import east_m, locate, north_m
from processors.kernels.match_columns import (
    C_LEFT,
    C_RIGHT,
    CURVE,
    FINISH,
    FINISH_EAST,
    FINISH_NORTH,
    FINISH_X,
    FINISH_Y,
    LATITUDE,
    LEG,
    LEG_AT,
    LEG_X,
    LEG_Y,
    LENGTH,
    LONGITUDE,
    MARKS,
    OFF_US,
    ON_US,
    PROGRESS,
    START_US,
    TRAVELLED,
    Book,
    Fixes,
    Tables,
)
from processors.kernels.starts import crossing

OFF_US_MOST: Final = 20_000_000  # so long off the line ends an attempt
OFF_TIMES: Final = 6.0  # and so many corridors off, twice running
CORRIDOR_M: Final = 30.0  # plus the stated accuracy
UNSTATED_ACCURACY_M: Final = 10.0
END_M: Final = 45.0  # an attempt may finish when no more than this of the way is missing
OVERRUN_M: Final = 60.0
LONGEST_MS: Final = 2**31 - 1
SLACK_M: Final = 45.0  # reach beyond what was travelled

GOES_ON, FINISHED, OVER = range(3)


@compiled_inside
def corridor_m(accuracy_cm: int) -> float:
    """How far off the line one may be."""
    if accuracy_cm < 0:
        return CORRIDOR_M + UNSTATED_ACCURACY_M
    return CORRIDOR_M + min(0.01 * accuracy_cm, CORRIDOR_M)


@compiled_inside
def passed(book: Book, r: int, length_mm: int, progress_mm: int, t_us: int) -> None:
    """Move an attempt to its new progress, and put the times of the 64ths passed on its curve, evenly over the way."""
    records = book.records
    from_mm, from_us = records[r, PROGRESS], records[r, ON_US]
    way_mm = progress_mm - from_mm
    marks = records[r, MARKS]
    while marks < CURVE:
        mark_mm = (marks + 1) * length_mm // CURVE
        if mark_mm > progress_mm:
            break
        at_us = t_us
        if way_mm > 0:
            at_us = from_us + whole((t_us - from_us) * ((mark_mm - from_mm) / way_mm))
        book.curves[r, marks] = min((at_us - records[r, START_US]) // 1000, LONGEST_MS)
        marks += 1
    records[r, MARKS] = marks
    records[r, PROGRESS] = progress_mm
    records[r, ON_US] = t_us


@compiled_inside
def followed(tables: Tables, g: int, book: Book, r: int, slot: int, fixes: Fixes, i: int, full_m: float, out_of: float) -> int:
    """Follow an attempt over the last `out_of` of the step of `full_m`: GOES_ON, FINISHED (its crossing is in the record) or OVER."""
    gates, records, heads = tables.gates, book.records, book.heads
    bx, by = east_m(gates, g, fixes.lon[i]), north_m(gates, g, fixes.lat[i])
    step_m = out_of * full_m
    from_m = records[r, PROGRESS] * 1e-3
    before_m = records[r, TRAVELLED] * 1e-3
    travelled_m = before_m + step_m
    length_m = gates[g, LENGTH] * 1e-3
    reach_m = min(from_m + 2.0 * travelled_m + SLACK_M, length_m)
    end_m = length_m - (END_M if length_m > 3.0 * END_M else length_m / 3.0)
    leg, leg_x, leg_y, leg_at = records[r, LEG], records[r, LEG_X], records[r, LEG_Y], records[r, LEG_AT]
    finish_x, finish_y = gates[g, FINISH_X] * 1e-3, gates[g, FINISH_Y] * 1e-3
    east, north = gates[g, FINISH_EAST] * 1e-9, gates[g, FINISH_NORTH] * 1e-9
    if reach_m >= end_m and crossing(gates, g, finish_x, finish_y, east, north, heads, slot, fixes, i, records, r, FINISH):
        finish_us = straight_us(records, r, FINISH)
        if finish_us > records[r, START_US]:
            left, right = records[r, FINISH + C_LEFT], records[r, FINISH + C_RIGHT]
            done = -left / (right - left)
            expected_m = from_m + before_m + max(step_m - (1.0 - done) * full_m, 0.0)
            ax, ay = east_m(gates, g, heads[slot, LONGITUDE]), north_m(gates, g, heads[slot, LATITUDE])
            x, y = ax + done * (bx - ax), ay + done * (by - ay)
            found = locate(gates, tables.legs, g, leg, leg_x, leg_y, leg_at, x, y, from_m, reach_m, expected_m)
            if found[0] >= end_m:
                passed(book, r, gates[g, LENGTH], gates[g, LENGTH], finish_us)
                return FINISHED
    at_m, off_m2, leg, leg_x, leg_y, leg_at = locate(
        gates, tables.legs, g, leg, leg_x, leg_y, leg_at, bx, by, from_m, reach_m, from_m + travelled_m
    )
    wide_m = corridor_m(fixes.accuracy_cm[i])
    t_us = fixes.t_us[i]
    if off_m2 <= wide_m * wide_m:
        passed(book, r, gates[g, LENGTH], max(whole(at_m * 1000.0), records[r, PROGRESS]), t_us)
        records[r, TRAVELLED] = 0
        records[r, OFF_US] = 0
        records[r, LEG], records[r, LEG_X], records[r, LEG_Y], records[r, LEG_AT] = leg, leg_x, leg_y, leg_at
    else:
        off_us = records[r, OFF_US]
        if off_us != 0 and off_m2 > OFF_TIMES * OFF_TIMES * wide_m * wide_m:
            off_us = min(off_us, t_us - OFF_US_MOST - 1)
        if off_us == 0:
            off_us = t_us
        records[r, OFF_US] = off_us
        records[r, TRAVELLED] = whole(travelled_m * 1000.0)
        if t_us - off_us > OFF_US_MOST:
            return OVER
    if records[r, PROGRESS] * 1e-3 >= end_m and (bx - finish_x) * east + (by - finish_y) * north > OVERRUN_M:
        return OVER
    return GOES_ON
