"""Segments matched against fixes in time order: the shell around the matching kernels (`kernels/matching.py` has the rules).

Pure: any cut into calls gives the same, for one subject or for many at once, compiled or not. Efforts come PROVISIONAL at the finish gate
and SETTLED five seconds later; `match_track` says FINAL for a whole track.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Final, Self

import numpy as np
import numpy.typing as npt

from processors.attempts import Arena, Attempts
from processors.kernels import match_columns as c
from processors.kernels.matching import DONE, MORE_BEGUN, MORE_COUNTS, MORE_EVENTS, run
from processors.kernels.telling import settle_due
from processors.results import CURVE_POINTS, Phase, Timed
from processors.segment_table import I32, as_kernel
from processors.segments import SegmentIndex

__all__ = [
    "NO_SPEED", "Arena", "Attempts", "Fixes", "UnderWay", "advance", "advance_all", "advance_rows", "gap_ms", "match_track", "projected_ms",
    "settle", "under_way", "warm_up",
]  # fmt: skip

I64 = npt.NDArray[np.int64]

NO_SPEED: Final = c.NO_SPEED  # of a velocity: not known
_PHASES: Final = tuple(Phase)


@dataclass(frozen=True, slots=True, eq=False)
class Fixes:
    """Positions in time order, parallel int64 columns: UTC microseconds (strictly rising), 1e-7 degrees, stated accuracy in centimetres
    (-1: none), and the velocity there in mm/s north and east (NO_SPEED in both: not known). Make them with `of`."""

    t_us: I64
    lat: I64
    lon: I64
    accuracy_cm: I64
    north_mmps: I64
    east_mmps: I64

    @classmethod
    def of(
        cls, t_us: Sequence[int] | I64, lat: Sequence[int] | I64, lon: Sequence[int] | I64, accuracy_cm: Sequence[int] | I64,
        north_mmps: Sequence[int] | I64 | None = None, east_mmps: Sequence[int] | I64 | None = None,
    ) -> Self:  # fmt: skip
        """The columns as they are when they are int64 arrays already, else copied; without velocities nowhere is one known."""
        given = (t_us, lat, lon, accuracy_cm, north_mmps, east_mmps)
        columns = [np.full(len(t_us), NO_SPEED) if column is None else np.asarray(column, np.int64) for column in given]
        if len({len(column) for column in columns}) > 1:
            raise ValueError(f"columns of fixes are equally long, not {[len(column) for column in columns]}")
        return cls(*columns)

    @classmethod
    def joined(cls, parts: Sequence[Fixes]) -> Self:
        """Fixes of several pieces behind each other."""
        columns = [(p.t_us, p.lat, p.lon, p.accuracy_cm, p.north_mmps, p.east_mmps) for p in parts]
        return cls(*(np.concatenate(column) for column in zip(*columns, strict=True)))

    def part(self, lo: int, hi: int) -> Fixes:
        """The fixes from `lo` to before `hi`, in the same memory."""
        return Fixes(
            self.t_us[lo:hi], self.lat[lo:hi], self.lon[lo:hi], self.accuracy_cm[lo:hi], self.north_mmps[lo:hi], self.east_mmps[lo:hi]
        )

    def chosen(self, at: I64) -> Fixes:
        """The fixes at these places, as copies."""
        columns = (self.t_us, self.lat, self.lon, self.accuracy_cm, self.north_mmps, self.east_mmps)
        return Fixes(*(column[at] for column in columns))

    def __len__(self) -> int:
        return len(self.t_us)


@dataclass(frozen=True, slots=True)
class UnderWay:
    """An attempt as of the last fix. `share_ppm` is the share of the way done in millionths."""

    segment: str
    start_us: int
    elapsed_ms: int
    metre_cm: int
    share_ppm: int


def advance(attempts: Attempts, index: SegmentIndex, fixes: Fixes) -> list[Timed]:
    """Take in fixes; the efforts they bring, in the order they come about. A fix not later than the last one is passed over."""
    return [timed for _, timed in advance_all([attempts], index, fixes, [len(fixes)])]


def advance_all(pieces: Sequence[Attempts], index: SegmentIndex, fixes: Fixes, ends: Sequence[int] | I64) -> list[tuple[int, Timed]]:
    """The same for pieces of many subjects of one arena, behind each other: the fixes up to `ends[p]` are of `pieces[p]`.

    Each effort comes with the piece that brought it; they come in the order of pieces.
    """
    return [one for rows, curves in advance_rows(pieces, index, fixes, ends) for one in _timed(pieces, rows, curves)]


def advance_rows(
    pieces: Sequence[Attempts], index: SegmentIndex, fixes: Fixes, ends: Sequence[int] | I64
) -> list[tuple[I64, I32]]:  # fmt: skip
    """The same as the rows kernels tell: E_... columns of `match_columns`, and the curve of each."""
    if not pieces:
        return []
    arena = pieces[0].arena
    for attempts in pieces:
        attempts.bind(index)
    slots = np.array([attempts.slot for attempts in pieces], np.int64)
    given = as_kernel(slots), as_kernel(np.array(ends, np.int64)), _columns(fixes)
    out: list[tuple[I64, I32]] = []
    piece, at, n = 0, 0, 0
    while True:
        short, piece, at, n = run(index.kernel, index.sports, arena.book, *given, arena.told, piece, at, n)
        if short in {DONE, MORE_EVENTS}:
            if n:
                out.append((arena.events[:n].copy(), arena.event_curves[:n].copy()))
            if short == DONE:
                return out
            if not n:
                arena.more_events(len(arena.events))
            n = 0
        elif short == MORE_BEGUN:
            arena.more_begun(2 * max(arena.begun_room, pieces[piece].under))
        elif short == MORE_COUNTS:
            arena.more_counts(len(arena.counts))
        else:
            arena.more_records(len(arena.records))


def settle(attempts: Attempts, index: SegmentIndex, now_us: int) -> list[Timed]:
    """SETTLED for what waits since five seconds before `now_us` (the athlete's own time) or longer, when no fix came to settle it."""
    attempts.bind(index)
    arena = attempts.arena
    if attempts.waiting > len(arena.events):
        arena.more_events(attempts.waiting)
    n = settle_due(arena.book, attempts.slot, now_us, arena.told, 0)
    return [timed for _, timed in _timed([attempts], arena.events[:n], arena.event_curves[:n])]


def under_way(attempts: Attempts, index: SegmentIndex) -> list[UnderWay]:
    """The attempts under way, in the order they began."""
    out: list[UnderWay] = []
    last_us = attempts.last_us
    for going in attempts.going():
        number = index.number_of(going.segment)
        if last_us is None or number < 0 or index.shape_of(number) != going.shape:
            continue
        elapsed_ms = (last_us - going.start_us + 500) // 1000
        share_ppm = going.progress_mm * 1_000_000 // max(index.length_mm(number), 1)
        out.append(UnderWay(going.segment, going.start_us, elapsed_ms, going.progress_mm // 10, min(share_ppm, 1_000_000)))
    return out


def gap_ms(under: UnderWay, curve_ms: Sequence[int]) -> int:
    """How far behind (positive) or ahead of an effort's curve an attempt is, at the same share of the way."""
    at, part = divmod(under.share_ppm * CURVE_POINTS, 1_000_000)
    low = curve_ms[at - 1] if at else 0
    high = curve_ms[min(at, CURVE_POINTS - 1)]
    return under.elapsed_ms - low - (high - low) * part // 1_000_000


def projected_ms(under: UnderWay, curve_ms: Sequence[int]) -> int | None:
    """The elapsed time at the finish, when the rest goes against this curve as the way so far went: as much slower or faster.

    An empty curve is an even pace. None on the first sixteenth of the way, where a second more or less would decide.
    """
    if under.share_ppm < 1_000_000 // 16:
        return None
    if not curve_ms:
        return under.elapsed_ms * 1_000_000 // under.share_ppm
    so_far_ms = under.elapsed_ms - gap_ms(under, curve_ms)
    return under.elapsed_ms * curve_ms[-1] // max(so_far_ms, 1)


def match_track(index: SegmentIndex, fixes: Fixes) -> list[Timed]:
    """The efforts of a whole track, of phase FINAL, by their start."""
    attempts = Attempts()
    found = [timed for timed in advance(attempts, index, fixes) if timed.phase is Phase.SETTLED]
    found += settle(attempts, index, -c.NEVER)
    return sorted((replace(timed, phase=Phase.FINAL) for timed in found), key=lambda t: (t.start_us, t.segment, t.ordinal))


def warm_up() -> None:
    """Compile (or load) the kernels before the first live fix needs them."""
    match_track(SegmentIndex.build([]), Fixes.of([1, 2], [0, 0], [0, 0], [-1, -1]))


def _columns(fixes: Fixes) -> c.Fixes:
    """As kernels take them: contiguous and writable, so that one compiled kernel serves all."""
    columns = (fixes.t_us, fixes.lat, fixes.lon, fixes.accuracy_cm, fixes.north_mmps, fixes.east_mmps)
    return c.Fixes(*(as_kernel(np.require(column, np.int64, ["C", "W"])) for column in columns))


def _timed(pieces: Sequence[Attempts], rows: I64, curves: I32) -> list[tuple[int, Timed]]:
    """What kernels told, as efforts."""
    made: list[tuple[int, Timed]] = []
    told: list[list[int]] = rows.tolist()
    elapsed: list[list[int]] = curves.tolist()
    for (piece, number, ordinal, start_us, elapsed_ms, phase, accuracy_ms), curve in zip(told, elapsed, strict=True):
        segment = pieces[piece].name_of(number)
        made.append((piece, Timed(segment, ordinal, start_us, elapsed_ms, _PHASES[phase], accuracy_ms, tuple(curve))))
    return made
