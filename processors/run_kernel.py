"""Drives the live kernel over columns: compiled when numba is there, plain Python otherwise, with the same bits."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np

from processors import live_kernel as k
from processors.live_kernel import I64
from processors.samples import CARRIES, Samples, fill_samples, hash64, signed64
from processors.tracks import Track

_CLOSED_ROOM: Final = 64


@dataclass(frozen=True, slots=True)
class Ran:
    """What a run gave: rows of activities that ended, with the index of the frame that ended each and its slot in the last two columns; and
    per sample the start of its activity when its position is believed, else NEVER."""

    closed: list[I64]
    fixes: I64


def run_frames(rows: I64, slots: Sequence[int], samples: Samples) -> Ran:
    """Advance the state rows of `slots` (one per frame) by the samples."""
    return _compiled(rows, slots, samples) if k.COMPILED else _plain(rows, slots, samples)


def warm_up() -> None:
    """Compile (or load the cached) kernel before the first live frame needs it."""
    samples = Samples.empty(1, 1)
    samples.ends[0], samples.hr_bpm[0] = 1, 100
    run_frames(k.fresh_row().reshape(1, -1).copy(), [0], samples)


def _columns(s: Samples) -> tuple[I64, ...]:
    return s.first, s.ends, s.t_us, s.org, s.boot, s.lat, s.lon, s.accuracy_cm, s.speed_cmps, s.distance_cm, s.hr_bpm


def _compiled(rows: I64, slots: Sequence[int], s: Samples) -> Ran:
    closed: list[I64] = []
    room = np.zeros((_CLOSED_ROOM, k.COLUMNS), np.int64)
    fixes = np.full(len(s.t_us), k.NEVER, np.int64)
    frame, sample = 0, 0
    slot_array = np.asarray(slots, np.int64)
    fresh = k.fresh_row()
    while frame < len(slots):
        frame, sample, n = k.run(rows, slot_array, *_columns(s), k.COS, fresh, room, fixes, frame, sample)
        closed += [room[i].copy() for i in range(n)]
    return Ran(closed, fixes)


def _plain(rows: I64, slots: Sequence[int], s: Samples) -> Ran:
    """Lists instead of arrays: three times faster in the interpreter."""
    held = {slot: rows[slot].tolist() for slot in set(slots)}
    columns = [c.tolist() for c in _columns(s)]
    cos, fresh = k.COS.tolist(), k.fresh_row().tolist()
    closed: list[I64] = []
    room = [[0] * k.COLUMNS for _ in range(_CLOSED_ROOM)]
    fixes = [k.NEVER] * len(s.t_us)
    frame, sample = 0, 0
    while frame < len(slots):
        frame, sample, n = k.run(held, slots, *columns, cos, fresh, room, fixes, frame, sample)
        closed += [np.array(room[i], np.int64) for i in range(n)]
    for slot, row in held.items():
        rows[slot] = row
    return Ran(closed, np.array(fixes, np.int64))


def run_tracks(tracks: Mapping[int, Track], hr_ref: int) -> list[I64]:
    """The state rows of all activities in canonical tracks, in time order, computed from nothing."""
    return run_tracks_with_fixes(tracks, hr_ref)[0]


def run_tracks_with_fixes(tracks: Mapping[int, Track], hr_ref: int) -> tuple[list[I64], Samples, I64]:
    """`run_tracks`, the samples it ran over in canonical order, and per sample the start of its activity when its position is believed."""
    parts = [track for layout, track in tracks.items() if layout in CARRIES and len(track)]
    if not parts:
        return [], Samples.empty(0), np.zeros(0, np.int64)
    samples = _samples_of_tracks(parts)
    rows = k.fresh_row().reshape(1, -1).copy()
    rows[0, k.HR_REF] = hr_ref
    ran = run_frames(rows, [0] * len(samples.ends), samples)
    found = [*ran.closed, rows[0]] if rows[0, k.START] != k.NEVER else ran.closed
    return found, samples, ran.fixes


def _samples_of_tracks(tracks: Sequence[Track]) -> Samples:
    """All samples in canonical order; consecutive ones of a source form a `frame` of the kernel."""
    sources = sorted({source for track in tracks for source in track.sources})
    place = {source: i for i, source in enumerate(sources)}
    source = np.concatenate([np.array([place[s] for s in t.sources], np.int64)[t.source] for t in tracks])
    total = len(source)
    made = Samples.empty(total)
    at = 0
    for track in tracks:
        part = slice(at, at + len(track))
        fill_samples(made, track.layout, track.records, part)
        made.t_us[part] = track.t_us
        at += len(track)
    seq = np.concatenate([t.seq for t in tracks])
    index = np.concatenate([t.index for t in tracks])
    order = np.lexsort((index, seq, source, made.t_us))
    source = source[order]
    starts = np.flatnonzero(np.concatenate([[True], source[1:] != source[:-1]]))
    org = np.array([hash64(origin) for origin, _ in sources], np.int64)
    boot = np.array([signed64(number) for _, number in sources], np.int64)
    return Samples(
        starts, np.append(starts[1:], total), org[source[starts]], boot[source[starts]], made.t_us[order],
        made.lat[order], made.lon[order], made.accuracy_cm[order], made.speed_cmps[order], made.distance_cm[order], made.hr_bpm[order],
    )  # fmt: skip
