"""The rules all readers share: what a value may be, how points are ordered, what is counted.

A reader hands over what the file says, in the order of the file; out comes a `Recording`. Nothing is repaired or made up: a value that
cannot be is absent and counted, a point without a usable time is skipped and counted, exact repetitions are dropped and counted.
"""

from __future__ import annotations

import math
from array import array
from collections import Counter
from collections.abc import Mapping, Sequence
from types import MappingProxyType
from typing import Final

from device_profiles.errors import FileError
from device_profiles.files.recording import FIELDS, Beat, Points, Recording

MIN_T_US: Final = 1
MAX_T_US: Final = 7_258_118_400_000_000  # 2200-01-01: beyond any recording, and sums of two stay inside an i64
_RANGES: Final[Mapping[str, tuple[float, float]]] = MappingProxyType(
    {
        "lat": (-90.0, 90.0),
        "lon": (-180.0, 180.0),
        "altitude_m": (-1_000.0, 100_000.0),
        "accuracy_m": (0.0, 100_000.0),
        "speed_mps": (0.0, 1_000.0),
        "heading_deg": (0.0, 360.0),
        "distance_m": (0.0, 42_000_000.0),  # FIT holds no more
        "hr_bpm": (0.0, 255.0),
        "cadence_rpm": (0.0, 1_000.0),
        "power_w": (0.0, 65_534.0),
    }
)
_NAN: Final = float("nan")


class Collector:
    """Gathers the points of one file. `skipped` may be counted up by the reader as well."""

    def __init__(self, source: str, format_: str) -> None:
        self.source = source
        self.format = format_
        self.skipped: Counter[str] = Counter()
        self.beats: list[Beat] = []
        self.sport: str | None = None
        self.device: str | None = None
        self.lap_starts_us: list[int] = []
        self.pauses_us: list[tuple[int, int]] = []
        self.damage: str | None = None
        self._t_us = array("q")
        self._columns = {name: array("d") for name in FIELDS}

    def __len__(self) -> int:
        return len(self._t_us)

    @property
    def last_t_us(self) -> int | None:
        """The time of the point added last, in file order."""
        return self._t_us[-1] if self._t_us else None

    def add(self, t_us: int | None, values: Mapping[str, float]) -> None:
        """One point as the file has it; fields that are not in `values` are absent."""
        if t_us is None:
            self.skipped["point_without_time"] += 1
            return
        if not is_time(t_us):
            self.skipped["time_out_of_range"] += 1
            return
        checked = {name: value for name, value in values.items() if self._is_sound(name, value)}
        lat, lon = checked.get("lat"), checked.get("lon")
        if lat is None or lon is None or (lat == 0.0 and lon == 0.0):
            if lat is not None and lon is not None:
                self.skipped["position_zero"] += 1
            checked.pop("lat", None)
            checked.pop("lon", None)
        self._t_us.append(t_us)
        for name, column in self._columns.items():
            column.append(checked.get(name, _NAN))

    def _is_sound(self, name: str, value: float) -> bool:
        if not math.isfinite(value):
            self.skipped[f"{name}_not_a_number"] += 1
            return False
        low, high = _RANGES[name]
        if not low <= value <= high:
            self.skipped[f"{name}_out_of_range"] += 1
            return False
        return True

    def recording(self, *, strict: bool = False, about: str = "") -> Recording:
        """All that was gathered. FileError when there is no point, or when the file is damaged and `strict` is asked for."""
        if self.damage and (strict or not self._t_us):
            raise FileError(
                self.source,
                f"the file is damaged: {self.damage}" + ("" if self._t_us else ", and no point stands before the damage"),
                "copy it from the device again" + ("; without strict reading what is whole is taken" if self._t_us else ""),
            )
        if not self._t_us:
            raise self._nothing(about)
        return Recording(
            points=self._ordered_points(),
            beats=tuple(sorted(self.beats, key=lambda beat: beat.t_us)),
            sport=self.sport,
            device=self.device,
            source=self.source,
            format=self.format,
            lap_starts_us=tuple(sorted(t for t in set(self.lap_starts_us) if is_time(t))),
            pauses_us=tuple(sorted((a, b) for a, b in set(self.pauses_us) if is_time(a) and is_time(b) and a < b)),
            skipped=MappingProxyType(dict(self.skipped)),
            damage=self.damage,
        )

    def _nothing(self, about: str) -> FileError:
        without_time = self.skipped["point_without_time"]
        bad_time = self.skipped["time_out_of_range"]
        if without_time:
            return FileError(
                self.source,
                f"no times: none of its {without_time} points says when it was{about}",
                "a route, course or plan is no recording: give the file that was recorded",
            )
        if bad_time:
            return FileError(
                self.source, f"none of its {bad_time} points has a time between 1970 and 2200{about}", "set the device's clock"
            )
        return FileError(self.source, f"no points at all{about}", "give the file of a recorded activity")

    def _ordered_points(self) -> Points:
        t_us, columns = self._t_us, self._columns
        backward = sum(1 for i in range(1, len(t_us)) if t_us[i] < t_us[i - 1])
        order: Sequence[int] = range(len(t_us))
        if backward:
            self.skipped["time_backward_sorted"] += backward
            order = sorted(order, key=t_us.__getitem__)
        kept = self._without_repetitions(order)
        if not backward and len(kept) == len(t_us):
            return Points(t_us, columns)
        return Points(
            array("q", (t_us[i] for i in kept)),
            {name: array("d", (column[i] for i in kept)) for name, column in columns.items()},
        )

    def _without_repetitions(self, order: Sequence[int]) -> list[int]:
        """The indices of `order` whose point is not exactly one of the same time before it."""
        kept: list[int] = []
        seen: set[tuple[float | None, ...]] = set()
        seen_at: int | None = None
        for i in order:
            t_us = self._t_us[i]
            if kept and self._t_us[kept[-1]] == t_us:
                if seen_at != t_us:
                    seen, seen_at = {self._row(kept[-1])}, t_us
                row = self._row(i)
                if row in seen:
                    self.skipped["repeated_point"] += 1
                    continue
                seen.add(row)
            kept.append(i)
        return kept

    def _row(self, i: int) -> tuple[float | None, ...]:
        return tuple(None if math.isnan(column[i]) else column[i] for column in self._columns.values())


def is_time(t_us: int) -> bool:
    """Whether a UTC time in microseconds can be one of a recording."""
    return MIN_T_US <= t_us <= MAX_T_US
