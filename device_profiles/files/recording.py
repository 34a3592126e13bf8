"""What every reader gives and every writer takes: points in time order, heart beats, and an account of what was left out.

`Points` keeps one `array('d')` per measured field (8 bytes a value, nothing for a field the file does not have) and makes a `Point` when
one is asked for: 100,000 points with ten fields take 9 MB instead of 40. Absent is `None` in a `Point`, never a sentinel, NaN or 0.
"""

from __future__ import annotations

from array import array
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import repeat
from types import MappingProxyType
from typing import Final, overload

FIELDS: Final = (
    "lat", "lon", "altitude_m", "accuracy_m", "speed_mps", "heading_deg", "distance_m", "hr_bpm", "cadence_rpm", "power_w",
)  # fmt: skip
_NAN: Final = float("nan")


@dataclass(frozen=True, slots=True)
class Point:
    """One instant of a recording: UTC in microseconds since 1970, position in WGS-84 degrees, cadence in turns of one leg or crank."""

    t_us: int
    lat: float | None = None
    lon: float | None = None
    altitude_m: float | None = None
    accuracy_m: float | None = None
    speed_mps: float | None = None
    heading_deg: float | None = None
    distance_m: float | None = None
    hr_bpm: float | None = None
    cadence_rpm: float | None = None
    power_w: float | None = None


@dataclass(frozen=True, slots=True)
class Beat:
    """One heart beat at `t_us` (UTC, microseconds) and the interval that ended with it in milliseconds."""

    t_us: int
    rr_ms: int


class Points(Sequence[Point]):
    """An immutable sequence of `Point`, stored in columns. Equal to another one when all times and values are."""

    __slots__ = ("_columns", "_t_us")

    def __init__(self, t_us: array[int], columns: Mapping[str, array[float]]) -> None:
        """Take over the columns: each as long as `t_us`, NaN where absent. A column of nothing but NaN is dropped."""
        if any(len(column) != len(t_us) for column in columns.values()):
            raise ValueError("columns of a recording must be equally long")
        self._t_us = t_us
        self._columns = tuple(_kept(columns.get(name)) for name in FIELDS)

    @classmethod
    def of(cls, points: Iterable[Point]) -> Points:
        """The points as given, in their order."""
        t_us = array("q")
        columns = {name: array("d") for name in FIELDS}
        for point in points:
            t_us.append(point.t_us)
            for name, column in columns.items():
                value: float | None = getattr(point, name)
                column.append(_NAN if value is None else value)
        return cls(t_us, columns)

    def __len__(self) -> int:
        return len(self._t_us)

    @overload
    def __getitem__(self, index: int) -> Point: ...
    @overload
    def __getitem__(self, index: slice) -> Points: ...
    def __getitem__(self, index: int | slice) -> Point | Points:
        if isinstance(index, slice):
            return Points(self._t_us[index], {n: c[index] for n, c in zip(FIELDS, self._columns, strict=True) if c is not None})
        return Point(self._t_us[index], *(None if c is None or c[index] != c[index] else c[index] for c in self._columns))

    def __iter__(self) -> Iterator[Point]:
        columns = (repeat(None) if column is None else map(_present, column) for column in self._columns)
        return map(Point, self._t_us, *columns)

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Points):
            return NotImplemented
        return len(self) == len(other) and all(a == b for a, b in zip(self, other, strict=True))

    __hash__ = None  # pyright: ignore[reportAssignmentType] - a large value object is no key

    def __repr__(self) -> str:
        return f"Points({len(self)} points, {', '.join(self.fields) or 'no fields'})"

    @property
    def fields(self) -> tuple[str, ...]:
        """The fields at least one point has, in the order of `FIELDS`."""
        return tuple(name for name, column in zip(FIELDS, self._columns, strict=True) if column is not None)


@dataclass(frozen=True, slots=True)
class Recording:
    """One recorded activity, sorted by time (points of one time keep the order of the file).

    `source` is the file's name without its folder, `format` one of `fit`, `gpx`, `tcx`. `lap_starts_us` are the starts of laps,
    `pauses_us` the (start, end) of stops of the timer or gaps between track segments. `skipped` counts what was left out, by reason
    (docs/files.md lists them); `damage` says why the file was not whole, and is None when it was.
    """

    points: Sequence[Point]
    beats: tuple[Beat, ...] = ()
    sport: str | None = None
    device: str | None = None
    source: str = ""
    format: str = ""
    lap_starts_us: tuple[int, ...] = ()
    pauses_us: tuple[tuple[int, int], ...] = ()
    skipped: Mapping[str, int] = field(default_factory=lambda: MappingProxyType({}))
    damage: str | None = None


def _present(value: float) -> float | None:
    return value if value == value else None  # noqa: PLR0124 - NaN differs from itself


def _kept(column: array[float] | None) -> array[float] | None:
    return column if column is not None and any(value == value for value in column) else None  # noqa: PLR0124
