"""Columns of what a matcher reads and remembers: segments packed into tables, and the state of each athlete in whole numbers.

`Tables` are the arrays of an index (`segment_table` makes them): a row of GATE columns a segment, the legs of all lines behind each
other, and buckets of start gates. `Book` is the memory of many athletes: a HEAD row each, and records of attempts (RECORD columns and a
curve of 64 elapsed times) chained from it. The same source reads them as arrays when compiled and as memoryviews in the interpreter.
"""

from __future__ import annotations

from typing import Final, NamedTuple, Protocol

NEVER: Final = -(1 << 62)
NO_SPEED: Final = -(1 << 31)
CURVE: Final = 64

# A segment: first point in 1e-7 degrees, cosine of its latitude in 1e-9, direction at the start in 1e-9; finish in mm from the first
# point, direction there; length in mm, where its legs begin and how many there are, sports as bits, checksum of the line, and where its
# name stands among those of the table below.
(
    LAT, LON, COSINE, START_EAST, START_NORTH, FINISH_X, FINISH_Y, FINISH_EAST, FINISH_NORTH, LENGTH, FIRST, LEGS, SPORTS, SHAPE, RANK,
    SPARE,
) = range(16)  # fmt: skip
GATE_COLUMNS: Final = 16
ANY_SPORT, RUN_SPORT, RIDE_SPORT = 1, 2, 4

# An athlete: how many fixes are known, the last (with the velocity) and the one before; chains of attempts under way, of arrivals that
# wait for their second timing, and of counts of efforts by segment: first, last, how many; starts beyond INLINE at once.
(
    FIXES, T, LATITUDE, LONGITUDE, ACCURACY, NORTH, EAST, BEFORE_T, BEFORE_LAT, BEFORE_LON,
    UNDER, UNDER_LAST, UNDER_N, WAITING, WAITING_LAST, WAITING_N, COUNTS, SPILLED,
) = range(18)  # fmt: skip
HEAD_COLUMNS: Final = 18
INLINE: Final = 24

# A crossing of a gate: time and how far beyond the gate (mm) of the fix before, the left, the right and the one after; accuracy in cm,
# speed through the gate (mm/s) at the left and at the right.
C_BEFORE_T, C_BEFORE, C_LEFT_T, C_LEFT, C_RIGHT_T, C_RIGHT, C_AFTER_T, C_AFTER, C_ACCURACY, C_LEFT_V, C_RIGHT_V = range(11)
CROSSING: Final = 11

# An attempt: segment, next in its chain; start at even speed; last seen on the line when and how far along (mm), travelled since, off it
# since; the leg it was seen on and where that begins (0.1 m; the last along the way); how many 64ths are passed, and which effort it is.
(
    NUMBER, NEXT, START_US, ON_US, PROGRESS, TRAVELLED, OFF_US, LEG, LEG_X, LEG_Y, LEG_AT, MARKS, ORDINAL,
) = range(13)  # fmt: skip
START: Final = 13
FINISH: Final = START + CROSSING
RECORD_COLUMNS: Final = FINISH + CROSSING

C_NUMBER, C_NEXT, C_COUNT = range(3)
COUNT_COLUMNS: Final = 3

# Of a book: the first free record and count, and how many are free.
FREE, FREE_N, FREE_COUNT, FREE_COUNT_N = range(4)
POOL_COLUMNS: Final = 4

# What is told: which piece brought it, segment, which effort, start, elapsed, phase, deviation.
E_PIECE, E_NUMBER, E_ORDINAL, E_START_US, E_ELAPSED_MS, E_PHASE, E_ACCURACY_MS = range(7)
EVENT_COLUMNS: Final = 7
PROVISIONAL, SETTLED = 0, 1

# A start found on a step: segment, whole millionths of the step done at the gate, its place in the order of names, the crossing.
B_NUMBER, B_RANK = range(2)
B_CROSSING: Final = 2
BEGUN_COLUMNS: Final = B_CROSSING + CROSSING


class Whole(Protocol):
    """A row of whole numbers."""

    def __getitem__(self, at: int, /) -> int: ...
    def __setitem__(self, at: int, value: int, /) -> None: ...
    def __len__(self) -> int: ...


class Grid(Protocol):
    """Rows of whole numbers."""

    def __getitem__(self, at: tuple[int, int], /) -> int: ...
    def __setitem__(self, at: tuple[int, int], value: int, /) -> None: ...
    def __len__(self) -> int: ...


class Tables(NamedTuple):
    """One table of segments: GATE rows; legs (east, north, way in 0.1 m); buckets[k] to buckets[k+1] of `entries` (segments), each with
    a tag of its cell. The number of buckets is a power of two."""

    gates: Grid
    legs: Grid
    buckets: Whole
    entries: Whole
    tags: Whole


class Index(NamedTuple):
    """What is matched against: segments 0 to n-1 of `lower` that are not `gone`, and n upwards those of `upper`. `widths`: see `cells`."""

    lower: Tables
    upper: Tables
    gone: Whole
    widths: Whole


class Book(NamedTuple):
    """Memory of the athletes, and free records of it."""

    heads: Grid
    records: Grid
    curves: Grid
    counts: Grid
    pool: Whole


class Fixes(NamedTuple):
    """Positions of all pieces behind each other: UTC microseconds, 1e-7 degrees, centimetres, mm/s."""

    t_us: Whole
    lat: Whole
    lon: Whole
    accuracy_cm: Whole
    north_mmps: Whole
    east_mmps: Whole


class Told(NamedTuple):
    """Room for what is told, and for what begins and finishes on one step."""

    events: Grid
    curves: Grid
    begun: Grid
    finished: Whole
