"""Trace: what the live kernel made of each sample of one activity, so that the final values follow the rules of the live ones.

Runs the kernel itself over canonical tracks and keeps, per sample, which channels took it and the totals after it. Only samples that
count stay.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, fields
from itertools import pairwise
from typing import Final, Self

import numpy as np
import numpy.typing as npt

from broker.layouts import all_layouts
from processors import live_kernel as k
from processors.live_kernel import ABSENT, I64, NO_ALTITUDE
from processors.results import Counted
from processors.run_kernel import run_frames, samples_of_tracks
from processors.samples import CARRIES, MACHINE
from processors.tracks import Track, cut

__all__ = ["NO_ALTITUDE", "Trace", "counted_of", "trace_of"]

Mask = npt.NDArray[np.bool_]

_NO_SOURCE: Final = 255  # of altitude


@dataclass(frozen=True, slots=True)
class Trace:
    """The samples that count, in time order, as parallel columns. Absent: -1, `NO_POS` for positions, -32768 for altitude.

    `moves`, `beats`, `powers`, `cadences` tell for which channels a sample counts, `fixes` whether its position is believed; `distance_um`,
    `moving_us` and `speed_cmps` are the kernel's values after it. `origin` indexes `origins`; `receiver` numbers (origin, boot).
    """

    origins: tuple[str, ...]
    t_us: I64
    origin: I64
    receiver: I64
    moves: Mask
    beats: Mask
    powers: Mask
    cadences: Mask
    fixes: Mask
    lat: I64
    lon: I64
    accuracy_cm: I64
    altitude_dm: I64
    altitude_source: I64
    hr_bpm: I64
    live_hr_bpm: I64  # as repaired while it was live
    power_w: I64
    machine: I64  # kind of gym equipment
    stated_speed_cmps: I64
    speed_cmps: I64
    distance_um: I64
    moving_us: I64

    def __len__(self) -> int:
        return len(self.t_us)

    def where(self, mask: Mask | slice) -> Self:
        """Some of the samples."""
        columns = {f.name: getattr(self, f.name)[mask] for f in fields(self) if f.name != "origins"}
        return type(self)(self.origins, **columns)

    @property
    def counted_origins(self) -> tuple[str, ...]:
        """Whose samples count, by the time of the first."""
        numbers: list[int] = self.origin.tolist()
        return tuple(self.origins[i] for i in dict.fromkeys(numbers))


def trace_of(tracks: Mapping[int, Track], start_us: int, end_us: int, hr_ref_bpm: int) -> Trace:
    """The samples that count from `start_us` to `end_us`, which must be a whole run of `run_tracks` over the same tracks."""
    parts = [part for part in (cut(t, start_us, end_us) for layout, t in tracks.items() if layout in CARRIES) if len(part)]
    held = samples_of_tracks(parts)
    samples = held.samples
    rows = k.fresh_row().reshape(1, -1)
    rows[0, k.HR_REF] = hr_ref_bpm
    out = run_frames(rows, [0] * len(samples.ends), samples, {}).out
    origins = sorted({origin for origin, _ in held.sources})
    of = np.array([origins.index(origin) for origin, _ in held.sources], np.int64)
    machine = [t.records["kind"].astype(np.int64) if t.layout == MACHINE else np.full(len(t), _NO_KIND) for t in parts]
    kinds = np.concatenate(machine)[held.order] if machine else held.order
    moves, beats, powers, cadences = (out[:, column] != 0 for column in (k.BY_MOTION, k.BY_HEART, k.BY_POWER, k.BY_CADENCE))
    trace = Trace(
        tuple(origins),
        samples.t_us,
        origin=of[held.source],
        receiver=held.source,
        moves=moves,
        beats=beats,
        powers=powers,
        cadences=cadences,
        fixes=out[:, k.FIX_START] != k.NEVER,
        lat=samples.lat,
        lon=samples.lon,
        accuracy_cm=samples.accuracy_cm,
        altitude_dm=samples.altitude_dm,
        altitude_source=np.where(samples.altitude_source == ABSENT, _NO_SOURCE, samples.altitude_source),
        hr_bpm=samples.hr_bpm,
        live_hr_bpm=out[:, k.NOW_HR],
        power_w=samples.power_w,
        machine=np.where(kinds == _NO_KIND, ABSENT, kinds),
        stated_speed_cmps=samples.speed_cmps,
        speed_cmps=out[:, k.NOW_SPEED],
        distance_um=out[:, k.NOW_DIST],
        moving_us=out[:, k.NOW_MOVING],
    )
    return trace.where(moves | beats | powers | cadences)


def counted_of(trace: Trace) -> tuple[Counted, ...]:
    """Provenance: whose samples counted from when to when, channel by channel."""
    found: list[Counted] = []
    channels = {"heart_rate": trace.beats, "motion": trace.moves, "power": trace.powers, "cadence": trace.cadences}
    for channel, mask in channels.items():
        t_us, origin = trace.t_us[mask], trace.origin[mask]
        bounds: list[int] = [0, *(np.flatnonzero(np.diff(origin)) + 1).tolist(), len(origin)]
        found += [Counted(channel, trace.origins[origin[lo]], int(t_us[lo]), int(t_us[hi - 1])) for lo, hi in pairwise(bounds) if lo < hi]
    return tuple(found)


_NO_KIND: Final = all_layouts()[MACHINE].field("kind").absent or 0
