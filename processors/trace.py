"""Trace: what the live kernel made of each sample of one activity, so that the final values follow the rules of the live ones.

Runs the kernel's own step over canonical tracks and notes, per sample, which channel took it and the totals after it. Only samples that
count stay. Power has a channel of its own here (the kernel has none): one source at a time, another after `HOLD_US` of silence.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, fields
from typing import Any, Final, Self

import numpy as np
import numpy.typing as npt

from broker.layouts import all_layouts
from processors import live_kernel as k
from processors.live_kernel import ABSENT, HOLD_US, I64, NEVER
from processors.live_kernel import _sample as live_sample  # pyright: ignore[reportPrivateUsage] - the one step both must share
from processors.samples import CARRIES, MACHINE, MOTION, Samples, fill_samples, hash64, signed64
from processors.tracks import Track, cut

Mask = npt.NDArray[np.bool_]

NO_ALTITUDE: Final = -32768
_NO_SOURCE: Final = 255
_OUT: Final = 6  # columns of `_trace`


@dataclass(frozen=True, slots=True)
class Trace:
    """The samples that count, in time order, as parallel columns. Absent: -1, `NO_POS` for positions, -32768 for altitude.

    `moves`, `beats`, `powers` tell for which channels a sample counts, `fixes` whether its position is believed; `distance_um`,
    `moving_us` and `speed_cmps` are the kernel's values after it. `origin` indexes `origins`; `receiver` numbers (origin, boot).
    """

    origins: tuple[str, ...]
    t_us: I64
    origin: I64
    receiver: I64
    moves: Mask
    beats: Mask
    powers: Mask
    fixes: Mask
    lat: I64
    lon: I64
    accuracy_cm: I64
    altitude_dm: I64
    altitude_source: I64
    hr_bpm: I64
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
    samples, extra = _columns(parts)
    origins: list[str] = extra.pop("origins")
    n = len(samples.t_us)
    out = np.zeros((n, _OUT), np.int64)
    row = k.fresh_row()
    row[k.HR_REF] = hr_ref_bpm
    columns = (
        samples.t_us, samples.org, samples.boot, samples.lat, samples.lon, samples.accuracy_cm, samples.speed_cmps, samples.distance_cm,
        samples.hr_bpm,
    )  # fmt: skip
    if k.COMPILED:
        _run(row, *columns, k.COS, out)
    elif n:
        rows: list[list[int]] = [[0] * _OUT for _ in range(n)]
        _run(row.tolist(), *(c.tolist() for c in columns), k.COS.tolist(), rows)
        out = np.array(rows, np.int64)
    powers = _one_at_a_time(samples.t_us, extra["origin"], extra["power_w"] >= 0)
    moves, beats = out[:, 0] != 0, out[:, 1] != 0
    trace = Trace(
        tuple(origins), samples.t_us, moves=moves, beats=beats, powers=powers, fixes=out[:, 5] != 0, lat=samples.lat, lon=samples.lon,
        accuracy_cm=samples.accuracy_cm, hr_bpm=samples.hr_bpm, stated_speed_cmps=samples.speed_cmps,
        speed_cmps=out[:, 2], distance_um=out[:, 3], moving_us=out[:, 4], **extra,
    )  # fmt: skip
    return trace.where(moves | beats | powers)


def warm_up() -> None:
    """Compile (or load the cached) step before the first activity is finished."""
    if k.COMPILED:
        empty = np.zeros(0, np.int64)
        _run(k.fresh_row(), *[empty] * 9, k.COS, np.zeros((0, _OUT), np.int64))


def _columns(parts: list[Track]) -> tuple[Samples, dict[str, Any]]:
    """All samples in canonical order, as the kernel reads them and what else is wanted; `org` and `boot` are per sample here."""
    sources = sorted({source for track in parts for source in track.sources})
    origins = sorted({origin for origin, _ in sources})
    place = {source: i for i, source in enumerate(sources)}
    total = sum(len(track) for track in parts)
    made = Samples.empty(total, total)
    receiver, seq, index = np.zeros(total, np.int64), np.zeros(total, np.uint64), np.zeros(total, np.int64)
    extra = {name: np.full(total, absent, np.int64) for name, absent in _EXTRA.items()}
    at = 0
    for track in parts:
        part = slice(at, at + len(track))
        fill_samples(made, track.layout, track.records, part)
        made.t_us[part], seq[part], index[part] = track.t_us, track.seq, track.index
        receiver[part] = np.array([place[source] for source in track.sources], np.int64)[track.source]
        _fill_extra(extra, track, part)
        at += len(track)
    order = np.lexsort((index, seq, receiver, made.t_us))
    receiver = receiver[order]
    org = np.array([hash64(origin) for origin, _ in sources], np.int64)[receiver] if sources else receiver
    boot = np.array([signed64(number) for _, number in sources], np.int64)[receiver] if sources else receiver
    of = np.array([origins.index(origin) for origin, _ in sources], np.int64)[receiver] if sources else receiver
    ordered = Samples(
        made.first, made.ends, org, boot, made.t_us[order],
        made.lat[order], made.lon[order], made.accuracy_cm[order], made.speed_cmps[order], made.distance_cm[order], made.hr_bpm[order],
    )  # fmt: skip
    return ordered, {"origins": origins, "origin": of, "receiver": receiver, **{name: column[order] for name, column in extra.items()}}


_EXTRA: Final = {
    "altitude_dm": NO_ALTITUDE,
    "altitude_source": _NO_SOURCE,
    "power_w": ABSENT,
    "machine": ABSENT,
}


def _fill_extra(extra: dict[str, I64], track: Track, part: slice) -> None:
    layout = all_layouts()[track.layout]

    def column(name: str, factor: int, offset: int, absent: int) -> I64:
        raw = track.records[name].astype(np.int64)
        return np.where(raw == layout.field(name).absent, absent, raw * factor + offset)

    if track.layout == MOTION:
        extra["altitude_dm"][part] = column("altitude_m", 2, -5000, NO_ALTITUDE)
        extra["altitude_source"][part] = track.records["altitude_source"]
        extra["power_w"][part] = column("power_w", 1, 0, ABSENT)
    elif track.layout == MACHINE:
        extra["power_w"][part] = np.maximum(column("power_w", 1, 0, ABSENT), ABSENT)
        extra["machine"][part] = column("kind", 1, 0, ABSENT)


def _one_at_a_time(t_us: I64, origin: I64, measured: Mask) -> Mask:
    """Which of the measured samples count when one origin counts at a time and another takes over after `HOLD_US` of silence."""
    taken = np.zeros(len(t_us), np.bool_)
    places = np.flatnonzero(measured)
    last, counts = NEVER, -1
    for i, t, of in zip(places.tolist(), t_us[places].tolist(), origin[places].tolist(), strict=True):
        if t > last and (of == counts or counts < 0 or t - last > HOLD_US):
            last, counts = t, of
            taken[i] = True
    return taken


def _trace(
    st: Any, t: Any, org: Any, boot: Any, lat: Any, lon: Any, acc: Any, speed: Any, dist: Any, hr: Any, cos: Any, out: Any
) -> None:  # fmt: skip
    """Per sample: whether motion and heart rate took it; speed, distance and moving time after it; whether its position is believed."""
    for i in range(len(t)):
        move_t = st[k.MV_T]
        beat_t = st[k.HR_T]
        out[i][5] = live_sample(st, t[i], org[i], boot[i], lat[i], lon[i], acc[i], speed[i], dist[i], hr[i], cos)
        out[i][0] = st[k.MV_T] != move_t
        out[i][1] = st[k.HR_T] != beat_t
        out[i][2] = st[k.SPEED]
        out[i][3] = st[k.DIST_UM]
        out[i][4] = st[k.MOVING_US]


_run: Callable[..., None] = _trace
if k.numba is not None:
    _run = k.numba.njit(cache=True, fastmath=False, error_model="numpy")(_trace)
