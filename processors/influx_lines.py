"""Gathers points of one look into batches: lines made from columns, series let in by the guard, compressed a bucket and unit."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Final

from processors.influx_batch import Batch
from processors.influx_outbox import MOST_LINES, Change
from processors.influx_packing import pack
from processors.influx_schema import BUCKET_OF
from processors.line_protocol import Points, encode_lines, series_keys
from processors.series_guard import SeriesGuard

_TO_US: Final = {"us": 1, "ns": 1000}


@dataclass(slots=True)
class _Gathered:
    parts: list[bytes] = field(default_factory=list[bytes])
    lines: int = 0
    newest_us: int = 0


class LineMaker:
    """Puts batches into `change`, at the latest when it is sealed."""

    def __init__(self, guard: SeriesGuard, now_us: int, change: Change) -> None:
        self._guard, self._now_us, self._change = guard, now_us, change
        self._open: dict[tuple[str, str], _Gathered] = {}
        self.count = 0

    def add(self, points: Points) -> None:
        """Take points; those of a series that has no room are counted and left out."""
        if not len(points):
            return
        bucket, unit = BUCKET_OF[points.measurement.name], points.measurement.unit
        keys = series_keys(points)
        allowed, noted = self._guard.admit(bucket, keys, self._now_us)
        self._change.series += noted
        if not allowed.all():
            kept = points.chosen(allowed[points.series_of])
            self._change.count("refused_series", len(points) - len(kept))
            points = kept
            if not len(points):
                return
        step = MOST_LINES
        for at in range(0, len(points), step):
            part = points if len(points) <= step else points.chosen(slice(at, at + step))
            self._gather(bucket, unit, part, keys)

    def _gather(self, bucket: str, unit: str, points: Points, keys: list[bytes]) -> None:
        held = self._open.setdefault((bucket, unit), _Gathered())
        if held.lines + len(points) > MOST_LINES:
            self._seal(bucket, unit, held)
            held = self._open[bucket, unit] = _Gathered()
        held.parts.append(encode_lines(points, keys))
        held.lines += len(points)
        held.newest_us = max(held.newest_us, int(points.times.max()) // _TO_US[unit])
        self.count += len(points)

    def seal(self) -> None:
        """Turn everything into batches."""
        for (bucket, unit), held in self._open.items():
            self._seal(bucket, unit, held)
        self._open.clear()

    def _seal(self, bucket: str, unit: str, held: _Gathered) -> None:
        if held.lines:
            self._change.batches.append(Batch(bucket, "write", unit, held.lines, held.newest_us, pack(b"".join(held.parts))))
            self._change.count("made", held.lines)
