"""Samples: accepted frames as columns in log order, the input of the kernel and the content of a track.

A `TakenFrame` is a frame that counts: checked, not a repeat, with its origin. Frames of layouts that carry no motion or heart rate give
no samples here (they stay in the track), nor does `body.1`: its pulse is passed on from a strap or was counted at rest. Positions out of
range or at exactly (0, 0) are absent.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from hashlib import blake2b
from typing import Final, NamedTuple

import numpy as np
import numpy.typing as npt

from broker.columns import Records, dtype_of, join_records
from broker.frames import Frame
from broker.layouts import all_layouts, layout_named
from broker.topics import UPLOAD_NODE
from processors.live_row import ABSENT, I64, NO_ALTITUDE, NO_POS

MOTION: Final = layout_named("motion.1").id
BEATS: Final = layout_named("beats.1").id
MACHINE: Final = layout_named("machine.1").id


class TakenFrame(NamedTuple):
    """A frame that counts once. `offset_us` dates it: its own, or that of a dated frame of the same boot."""

    origin: str
    node: str
    frame: Frame
    raw: bytes
    offset_us: int

    @property
    def end_us(self) -> int:
        """UTC of the last record (of the first, when the layout is not known here)."""
        layout = all_layouts().get(self.frame.layout)
        tick_ms = int.from_bytes(self.frame.records[-layout.size :][:2], "little") if layout else 0
        return self.frame.t0_us + self.offset_us + tick_ms * 1000


@dataclass(frozen=True, slots=True)
class Samples:
    """Per frame: `first` sample, `ends` (after its last), `org`, `boot`, `own` (1: the device numbers itself, or it is a file).

    Per sample, in frame order: `kind` (its layout) and the rest (or ABSENT, NO_POS)."""

    first: I64
    ends: I64
    org: I64
    boot: I64
    own: I64
    t_us: I64
    kind: I64
    lat: I64
    lon: I64
    accuracy_cm: I64
    speed_cmps: I64
    distance_cm: I64
    altitude_dm: I64
    altitude_source: I64
    hr_bpm: I64
    rr_ms: I64
    power_w: I64
    cadence_rpm: I64

    @property
    def measured(self) -> tuple[I64, ...]:
        """The columns of samples, in the order of `run`."""
        return (
            self.t_us, self.kind,
            self.lat, self.lon, self.accuracy_cm, self.speed_cmps, self.distance_cm, self.altitude_dm, self.altitude_source,
            self.hr_bpm, self.rr_ms, self.power_w, self.cadence_rpm,
        )  # fmt: skip

    @classmethod
    def empty(cls, total: int, frames: int = 0) -> Samples:
        """Columns for `total` samples in which nothing was measured yet."""
        first, ends, org, boot, own = (np.zeros(frames, np.int64) for _ in range(5))
        lat, lon = (np.full(total, NO_POS, np.int64) for _ in range(2))
        accuracy, speed, distance, source, hr, rr, power, cadence = (np.full(total, ABSENT, np.int64) for _ in range(8))
        altitude = np.full(total, NO_ALTITUDE, np.int64)
        return cls(
            first,
            ends,
            org,
            boot,
            own,
            np.zeros(total, np.int64),
            np.zeros(total, np.int64),
            lat,
            lon,
            accuracy,
            speed,
            distance,
            altitude,
            source,
            hr,
            rr,
            power,
            cadence,
        )

    def part(self, first_frame: int, end_frame: int, start: int, end: int) -> Samples:
        """Some frames, to before `end_frame`, whose samples are those from `start` to before `end`."""
        frames = slice(first_frame, end_frame)
        first, ends = self.first[frames] - start, self.ends[frames] - start
        span = slice(start, end)
        return Samples(first, ends, self.org[frames], self.boot[frames], self.own[frames], *[column[span] for column in self.measured])

    def ordered(self, order: I64, first: I64, ends: I64, org: I64, boot: I64, own: I64) -> Samples:
        """The samples in another order, in other frames."""
        return Samples(first, ends, org, boot, own, *(column[order] for column in self.measured))


@lru_cache(maxsize=65536)
def hash64(text: str) -> int:
    """A stable signed 64-bit hash."""
    return int.from_bytes(blake2b(text.encode(), digest_size=8).digest(), "little", signed=True)


@lru_cache(maxsize=65536)
def own_of(origin: str) -> int:
    """1 for a device that numbers its own samples and for an uploaded file, 0 for one a node speaks for."""
    _, node, *device = origin.split("/", 2)
    return int(not device or node == UPLOAD_NODE)


def samples_of(frames: Sequence[TakenFrame]) -> Samples:
    """The samples of `frames`, in their order."""
    sizes = {layout: dtype_of(layout).itemsize for layout in CARRIES}
    layouts = [f.frame.layout for f in frames]
    counts = np.array([len(f.frame.records) // sizes[f.frame.layout] if f.frame.layout in sizes else 0 for f in frames], np.int64)
    ends = np.cumsum(counts)
    first = ends - counts
    total = int(ends[-1]) if len(frames) else 0
    made = Samples.empty(total, len(frames))
    made.first[:], made.ends[:] = first, ends
    made.org[:], made.own[:] = [hash64(f.origin) for f in frames], [own_of(f.origin) for f in frames]
    made.boot[:] = np.array([f.frame.boot for f in frames], np.uint64).view(np.int64)
    made.t_us[:] = np.repeat(np.array([f.frame.t0_us + f.offset_us for f in frames], np.int64), counts)
    for layout in (MOTION, BEATS, MACHINE):
        chosen = [i for i, of in enumerate(layouts) if of == layout]
        if chosen:
            records = join_records(layout, [frames[i].frame.records for i in chosen])
            at = slice(0, total) if len(chosen) == len(frames) else _spread(first, counts, chosen)
            fill_samples(made, layout, records, at)
            made.t_us[at] += records["tick_ms"].astype(np.int64) * 1000
    return made


CARRIES: Final = frozenset({MOTION, BEATS, MACHINE})


def signed64(boot: int) -> int:
    """An unsigned 64-bit number as the signed one of the same bits."""
    return boot - (1 << 64) if boot >> 63 else boot


def _spread(first: I64, counts: I64, chosen: list[int]) -> I64:
    """Indices of the samples of the chosen frames."""
    picked = np.asarray(chosen)
    lengths = counts[picked]
    offsets = np.arange(int(lengths.sum())) - np.repeat(np.cumsum(lengths) - lengths, lengths)
    return np.repeat(first[picked], lengths) + offsets


def _fill(
    column: I64, at: I64 | slice, layout: int, records: Records, name: str, factor: int = 1, offset: int = 0
) -> None:  # fmt: skip
    """What was measured of a field, in the units of the column; where nothing was, the column stays as it is."""
    raw = records[name]
    known = raw != all_layouts()[layout].field(name).absent
    if not known.any():
        return
    values = raw.astype(np.int64)
    if factor != 1:
        values *= factor
    if offset:
        values += offset
    column[at] = values if known.all() else np.where(known, values, column[at])


def fill_samples(made: Samples, layout: int, records: Records, at: I64 | slice) -> None:
    """Write what the records measured (not their times) to the places `at` of empty columns."""
    made.kind[at] = layout
    _fill(made.hr_bpm, at, layout, records, "hr_bpm")
    if (records["hr_bpm"] == 0).any():
        made.hr_bpm[at] = np.where(made.hr_bpm[at] > 0, made.hr_bpm[at], ABSENT)
    if layout == BEATS:
        _fill(made.rr_ms, at, layout, records, "rr_ms")
        return
    _fill(made.power_w, at, layout, records, "power_w")
    _fill(made.cadence_rpm, at, layout, records, "cadence_rpm")
    _fill(made.speed_cmps, at, layout, records, "speed_mps")
    _fill(made.distance_cm, at, layout, records, "distance_m", 100 if layout == MACHINE else 1)
    if layout == MACHINE:
        made.power_w[at] = np.maximum(made.power_w[at], ABSENT)
        cadence = made.cadence_rpm[at]
        made.cadence_rpm[at] = np.where(cadence >= 0, cadence // 2, ABSENT)  # from 0.5/min
    else:
        lat, lon = records["lat"].astype(np.int64), records["lon"].astype(np.int64)
        sane = usable_position(lat, lon)
        made.lat[at], made.lon[at] = (lat, lon) if sane.all() else (np.where(sane, lat, NO_POS), np.where(sane, lon, NO_POS))
        _fill(made.accuracy_cm, at, layout, records, "accuracy_m", 50)  # from 0.5 m
        _fill(made.altitude_dm, at, layout, records, "altitude_m", 2, -5000)  # from 0.2 m, 0 is -500 m
        _fill(made.altitude_source, at, layout, records, "altitude_source")


def usable_position(lat: I64, lon: I64) -> npt.NDArray[np.bool_]:
    """Positions on the globe that are not the receiver's (0, 0)."""
    return (np.abs(lat) <= 900_000_000) & (np.abs(lon) <= 1_800_000_000) & ((lat != 0) | (lon != 0))
