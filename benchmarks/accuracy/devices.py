"""Two devices on one body: stretches cut from what one recorded, found and timed in what the other did; and laps of a track.

No truth, but agreement: the elapsed time of the first device is that between the fixes the stretch was cut at. Recordings
(evgeniyarbatov/garmin-vs-polar and msimms/TestFilesForFitnessApps, both MIT) are not part of this repository: they lie beside it, in
`FOLDER`, and what is not at hand is said to be so.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import numpy as np

from broker.errors import BadInputError
from broker.reference import SegmentRef
from device_profiles.files import read_recording
from processors.geometry import cumulative_m, units
from processors.matcher import Fixes, match_track
from processors.segment_rules import segment_ref
from processors.segments import SegmentIndex
from processors.smoothing import smooth_positions

FOLDER: Final = Path(__file__).resolve().parents[3] / "shared" / "data" / "pairs"
PAIRS: Final = {
    "27-05, 5 s and 1 s": ("garmin-vs-polar_27-05-2024_garmin.gpx", "garmin-vs-polar_27-05-2024_polar.gpx"),
    "27-05, the other way round": ("garmin-vs-polar_27-05-2024_polar.gpx", "garmin-vs-polar_27-05-2024_garmin.gpx"),
    "07-06, 5 s and 1 s": ("garmin-vs-polar_07-06-2024_garmin.gpx", "garmin-vs-polar_07-06-2024_polar.gpx"),
    "07-06, the other way round": ("garmin-vs-polar_07-06-2024_polar.gpx", "garmin-vs-polar_07-06-2024_garmin.gpx"),
    "fenix 6 and pace 2, 1 s": ("20210507_run_garmin_fenix_6.fit", "20210507_run_coros_pace_2.fit"),
    "14-06": ("garmin-vs-polar_14-06-2024_garmin.gpx", "garmin-vs-polar_14-06-2024_polar.gpx"),
    "21-06": ("garmin-vs-polar_21-06-2024_garmin.gpx", "garmin-vs-polar_21-06-2024_polar.gpx"),
    "run 03, 6 s and 1 s": ("run_03_garmin.gpx", "run_03_iphone_4s.gpx"),
}
LAPS: Final = "20210604_track_run_coros_pace_2.fit"
STRETCHES: Final = 1_000
SHORTEST_M: Final = 250.0
LONGEST_M: Final = 3_000.0
NEAR_US: Final = 30_000_000  # the clocks of two devices agree to this
WALKED_S: Final = 160.0  # a lap that took longer has a pause in it
FURTHEST_M: Final = 45.0  # of the nearest fix from a gate
WAYS: Final = ("nearest fix", "fixes as recorded", "smoothed, as finishing does")


@dataclass(frozen=True, slots=True)
class Agreement:
    """Of one pair and one way of timing: share of the stretches found, and how far elapsed times are apart (s)."""

    recall: float
    p50_s: float
    p95_s: float
    stretches: int


def agreements(stretches: int = STRETCHES, folder: Path = FOLDER) -> dict[str, dict[str, Agreement]]:
    """Of each pair that is at hand, each way of timing."""
    found: dict[str, dict[str, Agreement]] = {}
    for name, (a, b) in PAIRS.items():
        if (folder / a).is_file() and (folder / b).is_file():
            found[name] = compared(fixes_of(folder / a), fixes_of(folder / b), stretches, speeds_of(folder / b))
    return found


def missing(folder: Path = FOLDER) -> list[str]:
    """The recordings that are not at hand."""
    wanted = sorted({name for pair in PAIRS.values() for name in pair} | {LAPS})
    return [name for name in wanted if not (folder / name).is_file()]


def fixes_of(path: Path) -> Fixes:
    """The positions of a recording, as they are."""
    points = [p for p in read_recording(path).points if p.lat is not None and p.lon is not None]
    t_us = np.array([p.t_us for p in points], np.int64)
    rising = np.concatenate([[True], np.maximum.accumulate(t_us)[:-1] < t_us[1:]])
    lat, lon = np.array([units(p.lat or 0.0, p.lon or 0.0) for p in points], np.int64).T
    accuracy = np.array([-1 if p.accuracy_m is None else round(100 * p.accuracy_m) for p in points], np.int64)
    return Fixes.of(*(np.ascontiguousarray(column[rising]) for column in (t_us, lat, lon, accuracy)))


def speeds_of(path: Path) -> dict[int, int]:
    """The stated speeds of a recording, in cm/s by time."""
    return {p.t_us: round(100 * p.speed_mps) for p in read_recording(path).points if p.speed_mps is not None}


def smoothed(fixes: Fixes, speeds: Mapping[int, int]) -> Fixes:
    """The fixes of a run as finishing gives them to the matcher."""
    speed_cmps = np.array([speeds.get(t_us, -1) for t_us in fixes.t_us.tolist()], np.int64)
    made = smooth_positions(fixes.t_us, fixes.lat, fixes.lon, fixes.accuracy_cm, speed_cmps, "run")
    return Fixes.of(fixes.t_us, made.lat, made.lon, fixes.accuracy_cm, made.north_mmps, made.east_mmps)


def cut(fixes: Fixes, count: int, shortest_m: float, longest_m: float) -> dict[str, tuple[int, int]]:
    """First and last fix of each of `count` stretches over the track, by name."""
    rng = np.random.default_rng(1)
    along_m = np.array(cumulative_m(list(zip(fixes.lat.tolist(), fixes.lon.tolist(), strict=True))))
    spans: dict[str, tuple[int, int]] = {}
    while len(spans) < count:
        length_m = rng.uniform(shortest_m, min(longest_m, along_m[-1] / 3))
        start_m = rng.uniform(0, along_m[-1] - length_m)
        first, last = np.searchsorted(along_m, [start_m, start_m + length_m]).tolist()
        spans[f"s{len(spans)}"] = first, last
    return spans


def index_of(fixes: Fixes, spans: dict[str, tuple[int, int]]) -> SegmentIndex:
    """Those of the stretches that may be segments (one that passes its own start may not)."""
    refs: list[SegmentRef] = []
    for name, (first, last) in spans.items():
        points = [(fixes.lat[k] * 1e-7, fixes.lon[k] * 1e-7) for k in range(first, last + 1)]
        try:
            refs.append(segment_ref("bench", name, name, "any", points))
        except BadInputError:
            continue
    return SegmentIndex.build(refs)


def compared(a: Fixes, b: Fixes, stretches: int, speeds: Mapping[int, int]) -> dict[str, Agreement]:
    """Stretches cut from `a`, found in `b` with its stated `speeds`."""
    spans = cut(a, stretches, SHORTEST_M, LONGEST_M)
    index = index_of(a, spans)
    off_s: dict[str, list[float]] = {way: [] for way in WAYS}
    for way, fixes in ((WAYS[1], b), (WAYS[2], smoothed(b, speeds))):
        efforts = match_track(index, fixes)
        for name in index.segments:
            first, last = spans[name]
            near = [t.elapsed_ms * 1e-3 for t in efforts if t.segment == name and abs(t.start_us - int(a.t_us[first])) < NEAR_US]
            off_s[way] += [abs(elapsed - _between_s(a, first, last)) for elapsed in near[:1]]
    for name in index.segments:
        first, last = spans[name]
        start_us, finish_us = (_nearest_us(b, int(a.t_us[k]), int(a.lat[k]), int(a.lon[k])) for k in (first, last))
        if start_us is not None and finish_us is not None:
            off_s[WAYS[0]].append(abs((finish_us - start_us) * 1e-6 - _between_s(a, first, last)))
    n = len(index.segments)
    return {way: Agreement(len(v) / n, *(float(np.percentile(v, q)) for q in (50, 95)), n) for way, v in off_s.items()}


def _between_s(fixes: Fixes, first: int, last: int) -> float:
    return int(fixes.t_us[last] - fixes.t_us[first]) * 1e-6


def _nearest_us(fixes: Fixes, t_us: int, lat: int, lon: int) -> int | None:
    """The stamp of the fix nearest to a place, of those near in time; None when none is within reach of a gate."""
    lo, hi = np.searchsorted(fixes.t_us, [t_us - NEAR_US, t_us + NEAR_US]).tolist()
    if lo == hi:
        return None
    off = np.hypot((fixes.lat[lo:hi] - lat) * 0.0111, (fixes.lon[lo:hi] - lon) * 0.0111 * np.cos(lat * 1e-7 * np.pi / 180))
    at = int(np.argmin(off))
    return int(fixes.t_us[lo + at]) if off[at] <= FURTHEST_M else None


def lap_recall(folder: Path = FOLDER) -> tuple[float, float, int] | None:
    """Laps of a 400 m track: of the passes of stretches of 300-380 m, cut from one lap each, the share that is found in smoothed fixes and
    in those recorded, and how many there are. None without the recording."""
    if not (folder / LAPS).is_file():
        return None
    recorded = fixes_of(folder / LAPS)
    smooth = smoothed(recorded, speeds_of(folder / LAPS))
    spans = {name: span for name, span in cut(smooth, 100, 300, 380).items() if _between_s(smooth, *span) < WALKED_S}
    index = index_of(smooth, spans)
    passes = {name: _passes(smooth, *spans[name]) for name in index.segments}
    expected = sum(len(starts) for starts in passes.values())
    shares: list[float] = []
    for fixes in (smooth, recorded):
        efforts = match_track(index, fixes)
        starts = {name: [t.start_us for t in efforts if t.segment == name] for name in index.segments}
        found = sum(any(abs(at - start_us) < NEAR_US for at in starts[name]) for name, due in passes.items() for start_us in due)
        shares.append(found / expected)
    return shares[0], shares[1], expected


def _passes(fixes: Fixes, first: int, last: int) -> list[int]:
    """When the runner began to go from the start of a stretch to its end, by the angle around the middle of the track: a witness that
    knows of no gates."""
    east = (fixes.lon - fixes.lon.mean()) * np.cos(fixes.lat[0] * 1e-7 * np.pi / 180)
    north = fixes.lat - fixes.lat.mean()
    turned = np.unwrap(np.arctan2(north, east))
    way = 1.0 if turned[-1] > turned[0] else -1.0
    turned = np.maximum.accumulate(way * turned)
    start, length = turned[first], turned[last] - turned[first]
    found: list[int] = []
    for lap in range(-100, 101):
        begin, end = start + 2 * np.pi * lap, start + 2 * np.pi * lap + length
        if turned[0] < begin and end < turned[-1]:
            found.append(int(np.interp(begin, turned, fixes.t_us)))
    return found
