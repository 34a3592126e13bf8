"""Finishing: the last word on an activity, from every sample of it: summary, efforts, and the line to draw (pure).

The samples that count (`preference`) run through the live kernel once more; heart rate and power are repaired, positions smoothed forwards
and backwards, matched against the segments of the sport, and drawn. A function of the samples alone: not of how they came, nor of what
was computed before.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Final

import numpy as np

from broker.reference import AthleteRef, UploadRef
from processors import live_kernel as k
from processors.live_kernel import I64, NO_POS
from processors.matcher import Fixes, match_track
from processors.motion_evidence import Evidence, evidence_of
from processors.plausibility import judge
from processors.preference import preferred
from processors.repair import repaired
from processors.results import FinalEffort, FinalTrack, Finished, Lap, activity_id
from processors.run_kernel import run_tracks
from processors.samples import BEATS
from processors.segments import SegmentIndex
from processors.smoothing import smooth_positions
from processors.stage import Activity
from processors.summary import bounds_of, distance_laps, guess_sport, heart_of, laps_at, power_of, summarise
from processors.trace import NO_ALTITUDE, Trace, trace_of
from processors.tracks import Track, cut

MAX_ROWS: Final = 20_000  # a longer line is drawn by whole seconds
_SPORTS: Final = {
    **dict.fromkeys(("running", "run", "trail_running", "treadmill_running"), "run"),
    **dict.fromkeys(("cycling", "biking", "ride", "e_biking"), "ride"),
    **dict.fromkeys(
        ("swimming", "walking", "hiking", "rowing", "paddling", "alpine_skiing", "cross_country_skiing", "driving", "motorcycling"), "other"
    ),
}  # words of files; any other word says nothing
_DECLARED: Final = {"e_biking": "e_bike", "driving": "vehicle", "motorcycling": "vehicle"}


def finish_activity(
    subject: str,
    tracks: Mapping[int, Track],
    activity: Activity,
    athlete: AthleteRef | None,
    index: SegmentIndex | None,
    uploads: Sequence[UploadRef] = (),
    said_sport: str | None = None,
) -> Finished:
    """Finish `activity` of `subject` from all canonical tracks around it. `uploads` tell sport and laps of uploaded files among them;
    `said_sport` is what somebody says it was, whatever they tell.

    When what counts falls into several runs, the one that shares most time with the activity is it. The id comes from the anchor.
    Laps are those the files marked, when they marked any, else by distance.
    """
    within = {layout: cut(track, activity.start_us, activity.end_us) for layout, track in tracks.items()}
    counted = preferred(within)
    hr_max = athlete.hr_max_bpm if athlete else int(k.fresh_row()[k.HR_REF])
    row = _longest(run_tracks(counted, hr_max), activity, hr_max)
    start_us, end_us = int(row[k.START]), int(row[k.LAST_T])
    trace = trace_of(counted, start_us, end_us, hr_max)
    said = {upload.origin: upload for upload in uploads if not upload.removed}
    files = [said[origin] for origin in trace.counted_origins if origin in said]
    sport = said_sport or _sport(trace, files)
    evidence = evidence_of(trace, counted, sport, _declared(files), hr_max, athlete.weight_kg if athlete else None)
    trace, strain = repaired(trace, athlete, _intervals(counted, start_us, end_us))
    trace, fixes = _smoothed(trace, sport)
    laps = _laps(trace, sport, files, start_us, end_us)
    summary = summarise(
        activity_id(subject, activity.anchor_us), subject, row, trace, sport,
        laps, bounds_of(fixes.lat, fixes.lon), strain,
    )  # fmt: skip
    return Finished(summary, _efforts(trace, fixes, index.for_sport(sport) if index else None, evidence), final_track(trace, start_us))


def final_track(trace: Trace, start_us: int) -> FinalTrack:
    """The line of a trace: a row an instant, or a second when there are more than `MAX_ROWS`; of a second, the first measurements."""
    at = (trace.t_us - start_us) // 1000
    if len(np.unique(at)) > MAX_ROWS:
        at = at // 1000 * 1000
    t_ms, row = np.unique(at, return_inverse=True)
    lat = _column(trace.lat, trace.fixes, row, len(t_ms), NO_POS)
    lon = _column(trace.lon, trace.fixes, row, len(t_ms), NO_POS)
    altitude = _column(trace.altitude_dm, trace.moves & (trace.altitude_dm != NO_ALTITUDE), row, len(t_ms), NO_ALTITUDE)
    hr = _column(trace.hr_bpm, trace.beats, row, len(t_ms), -1)
    power = _column(trace.power_w, trace.powers, row, len(t_ms), -1)
    distance = _column(trace.distance_um // 100_000, trace.moves, row, len(t_ms), -1)
    return FinalTrack(tuple(t_ms.tolist()), *(tuple(column.tolist()) for column in (lat, lon, altitude, hr, power, distance)))


def _column(values: I64, measured: np.ndarray, row: I64, rows: int, absent: int) -> I64:
    """The first measurement of each row."""
    made = np.full(rows, absent, np.int64)
    made[row[measured][::-1]] = values[measured][::-1]
    return made


def _longest(runs: list[I64], activity: Activity, hr_ref_bpm: int) -> I64:
    """The run that shares most time with the activity (then most samples, then the first); an empty one when there is none."""
    if runs:
        return max(runs, key=lambda r: (min(r[k.LAST_T], activity.end_us) - max(r[k.START], activity.start_us), r[k.SAMPLES], -r[k.START]))
    row = k.fresh_row()
    row[k.START], row[k.LAST_T], row[k.HR_REF] = activity.start_us, activity.end_us, hr_ref_bpm
    return row


def _sport(trace: Trace, files: Sequence[UploadRef]) -> str:
    named = [_SPORTS[file.sport] for file in files if file.sport in _SPORTS]
    return named[0] if named else guess_sport(trace)


def _declared(files: Sequence[UploadRef]) -> str:
    """What the first file that says a word we know said, as evidence knows it."""
    words = [_DECLARED.get(file.sport, _SPORTS[file.sport]) for file in files if file.sport in _SPORTS]
    return words[0] if words else ""


def _laps(trace: Trace, sport: str, files: Sequence[UploadRef], start_us: int, end_us: int) -> tuple[Lap, ...]:
    marks = sorted({t for file in files for t in file.lap_starts_us if start_us < t < end_us})
    return laps_at(trace, [start_us, *marks], end_us) if marks else distance_laps(trace, sport, start_us, end_us)


def _intervals(counted: Mapping[int, Track], start_us: int, end_us: int) -> Track | None:
    """The beat intervals of the run."""
    beats = counted.get(BEATS)
    return cut(beats, start_us, end_us) if beats is not None else None


def _smoothed(trace: Trace, sport: str) -> tuple[Trace, Fixes]:
    """The trace with smoothed positions where they are believed, and those positions alone."""
    at = np.flatnonzero(trace.fixes)
    lat, lon = trace.lat.copy(), trace.lon.copy()
    made = smooth_positions(trace.t_us[at], lat[at], lon[at], trace.accuracy_cm[at], trace.stated_speed_cmps[at], sport)
    lat[at], lon[at] = made.lat, made.lon
    fixes = Fixes.of(trace.t_us[at], made.lat, made.lon, trace.accuracy_cm[at], made.north_mmps, made.east_mmps)
    return replace(trace, lat=lat, lon=lon), fixes


def _efforts(trace: Trace, fixes: Fixes, index: SegmentIndex | None, evidence: Evidence) -> tuple[FinalEffort, ...]:
    if index is None or not index.segments or not len(fixes.t_us):
        return ()
    heart, power = heart_of(trace), power_of(trace)
    efforts: list[FinalEffort] = []
    for timed in match_track(index, fixes):
        end_us = timed.start_us + timed.elapsed_ms * 1000
        verdict = judge(timed, index.segments[timed.segment].length_m, evidence)
        efforts.append(FinalEffort(timed, heart.between(timed.start_us, end_us), power.between(timed.start_us, end_us), verdict))
    return tuple(efforts)
