"""Drives the live kernel over columns: compiled when numba is there, plain Python otherwise, with the same bits."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

import numpy as np

from processors import live_kernel as k
from processors.fusion import ENTRIES, MOTION, SIDE, since_of
from processors.live_motion import FILTER
from processors.live_row import COLUMNS, DEFAULT_PERSON, F64, HR_REF, I64, INTS, NEVER, PERSON, START, U16, floats_of, fresh_row, ring_of
from processors.samples import CARRIES, Samples, fill_samples, hash64, own_of, signed64
from processors.tracks import Track

_CLOSED_ROOM: Final = 64
_run: Callable[..., tuple[int, int, int]] = k.run


Sides = dict[int, I64]  # by slot: what athletes keep beside their rows while a source proves itself
BESIDE: Final = SIDE + ENTRIES * FILTER  # of 8 bytes: entries, then their filters


@dataclass(frozen=True, slots=True)
class Ended:
    """The row of an activity that ended, the index of the frame that ended it, and its slot."""

    row: I64
    frame: int
    slot: int


@dataclass(frozen=True, slots=True)
class Ran:
    """What a run gave: activities that ended, and what became of each sample, shape (samples, `live_kernel.OUT`)."""

    closed: list[Ended]
    out: I64

    @property
    def fixes(self) -> I64:
        """Per sample the start of its activity when its position is believed, else NEVER."""
        return self.out[:, k.FIX_START]


def run_frames(rows: I64, slots: Sequence[int], samples: Samples, sides: Sides | None = None) -> Ran:
    """Advance the state rows of `slots` (one per frame), and what is beside them, by the samples."""
    sides = {} if sides is None else sides
    slot_of, places = np.unique(np.asarray(slots, np.int64), return_inverse=True)
    numbers: list[int] = slot_of.tolist()
    side, filters = np.zeros((len(numbers), SIDE), np.int64), np.zeros((len(numbers), ENTRIES, FILTER))
    for place, slot in enumerate(numbers) if sides else ():
        if slot in sides:
            side[place] = sides[slot][:SIDE]
            filters[place] = sides[slot][SIDE:].view(np.float64).reshape(ENTRIES, FILTER)
    ran = (_compiled if k.COMPILED else _plain)(rows, slots, places, samples, side, filters)
    kept: list[bool] = np.asarray(side.any(axis=1)).tolist()
    if sides or any(kept):
        for place, slot in enumerate(numbers):
            sides.pop(slot, None)
            if kept[place]:
                _in_order(side[place], filters[place])
                sides[slot] = np.concatenate([side[place], filters[place].ravel().view(np.int64)])
    return ran


def _in_order(side: I64, filters: F64) -> None:
    """Equal states as equal bytes: entries by their source, nothing left in the filter of one that does not prove itself."""
    for entry in range(ENTRIES):
        if since_of(side, MOTION, entry) in (0, NEVER):
            filters[entry] = 0.0
    entries = side.reshape(4, ENTRIES, -1)
    for number in range(4):
        order = sorted(range(ENTRIES), key=lambda e: (not entries[number, e].any(), int(entries[number, e, 0])))
        entries[number] = entries[number, order]
        if number == MOTION:
            filters[:] = filters[order]


def warm_up() -> None:
    """Compile (or load the cached) kernel before the first live frame needs it."""
    samples = Samples.empty(1, 1)
    samples.ends[0], samples.hr_bpm[0] = 1, 100
    run_frames(fresh_row().reshape(1, -1), [0], samples, {})


def _columns(s: Samples) -> tuple[I64, ...]:
    return s.first, s.ends, s.org, s.boot, s.own, *s.measured


def _views(rows: I64) -> tuple[I64, F64, U16]:
    return rows, rows.view(np.float64), rows.view(np.uint16)


def _compiled(rows: I64, slots: Sequence[int], places: I64, s: Samples, side: I64, filters: F64) -> Ran:
    closed: list[Ended] = []
    room = np.zeros((_CLOSED_ROOM, COLUMNS), np.int64)
    ended = np.zeros((_CLOSED_ROOM, 2), np.int64)
    out = np.zeros((len(s.t_us), k.OUT), np.int64)
    fresh = fresh_row()
    state = *_views(rows), side, filters, np.asarray(slots, np.int64), places
    tables = k.WAYS, k.CLIMBS, np.zeros(8), fresh, floats_of(fresh), ring_of(fresh), *_views(room), ended, out
    frame, sample = 0, 0
    while frame < len(slots):
        frame, sample, n = _run(*state, *_columns(s), *tables, frame, sample)
        closed += [Ended(room[i].copy(), *ended[i].tolist()) for i in range(n)]
    return Ran(closed, out)


def _plain(rows: I64, slots: Sequence[int], places: I64, s: Samples, side: I64, filters: F64) -> Ran:
    """Lists instead of arrays: three times faster in the interpreter."""
    held = [{slot: of(rows[slot]).tolist() for slot in set(slots)} for of in (_ints, floats_of, ring_of)]
    fresh = fresh_row()
    room: list[list[list[Any]]] = [[of(fresh).tolist() for _ in range(_CLOSED_ROOM)] for of in (_ints, floats_of, ring_of)]
    ended = [[0, 0] for _ in range(_CLOSED_ROOM)]
    out = [[0] * k.OUT for _ in range(len(s.t_us))]
    beside: tuple[list[list[int]], list[list[list[float]]]] = side.tolist(), filters.tolist()
    new = [of(fresh).tolist() for of in (_ints, floats_of, ring_of)]
    tables = k.WAYS.tolist(), k.CLIMBS.tolist(), [0.0] * 8, *new, *room, ended, out
    columns = [c.tolist() for c in _columns(s)]
    closed: list[Ended] = []
    frame, sample = 0, 0
    while frame < len(slots):
        frame, sample, n = _run(*held, *beside, list(slots), places.tolist(), *columns, *tables, frame, sample)
        closed += [Ended(_row([part[i] for part in room]), *ended[i]) for i in range(n)]
    for slot in held[0]:
        rows[slot] = _row([part[slot] for part in held])
    side[:], filters[:] = beside
    return Ran(closed, np.array(out, np.int64).reshape(-1, k.OUT))


def _ints(rows: I64) -> I64:
    return rows[..., :INTS]


def _row(parts: Sequence[list[Any]]) -> I64:
    """The row of its integers, floats and ring."""
    made = fresh_row()
    for of, part in zip((_ints, floats_of, ring_of), parts, strict=True):
        of(made)[:] = part
    return made


@dataclass(frozen=True, slots=True)
class Tracked:
    """Tracks run from nothing: the state rows of all activities in time order, what is beside the last one, the samples in canonical order
    and what became of each."""

    rows: list[I64]
    side: I64 | None
    samples: Samples
    ran: Ran


def run_tracks(tracks: Mapping[int, Track], hr_ref: int, person: int = DEFAULT_PERSON) -> list[I64]:
    """The state rows of all activities in canonical tracks, in time order, computed from nothing."""
    return run_tracks_whole(tracks, hr_ref, person).rows


def run_tracks_whole(tracks: Mapping[int, Track], hr_ref: int, person: int = DEFAULT_PERSON) -> Tracked:
    """`run_tracks` with all that came of it."""
    samples = samples_of_tracks([track for layout, track in tracks.items() if layout in CARRIES and len(track)]).samples
    rows, sides = fresh_row().reshape(1, -1), Sides()
    rows[0, HR_REF], rows[0, PERSON] = hr_ref, person
    ran = run_frames(rows, [0] * len(samples.ends), samples, sides)
    found = [ended.row for ended in ran.closed]
    return Tracked([*found, rows[0]] if rows[0, START] != NEVER else found, sides.get(0), samples, ran)


@dataclass(frozen=True, slots=True)
class Ordered:
    """The samples of tracks in canonical order; consecutive ones of a source form a `frame` of the kernel.

    `order`: where each was in the tracks one after the other; `source` indexes `sources` (origin, boot).
    """

    samples: Samples
    order: I64
    source: I64
    sources: list[tuple[str, int]]


def samples_of_tracks(tracks: Sequence[Track]) -> Ordered:
    """All samples in canonical order."""
    sources = sorted({source for track in tracks for source in track.sources})
    if not sources:
        nothing = np.zeros(0, np.int64)
        return Ordered(Samples.empty(0), nothing, nothing, [])
    place = {source: i for i, source in enumerate(sources)}
    source = np.concatenate([np.array([place[s] for s in t.sources], np.int64)[t.source] for t in tracks])
    made = Samples.empty(len(source))
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
    org = np.array([hash64(origin) for origin, _ in sources], np.int64)[source[starts]]
    boot = np.array([signed64(number) for _, number in sources], np.int64)[source[starts]]
    own = np.array([own_of(origin) for origin, _ in sources], np.int64)[source[starts]]
    return Ordered(made.ordered(order, starts, np.append(starts[1:], len(source)), org, boot, own), order, source, sources)
