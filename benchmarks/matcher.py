"""The matcher over a million segments: how fast, how large, and how much of what was ridden it finds and times.

Segments lie around copies of generated tracks all over the globe (`segment_world`), decoys among them, in one file that is mapped. Speed:
runners and riders at 120 places, filtered fixes in frames of 15 s, 80 segments around each; `samples_per_s_per_core` is the matcher up to
the rows it tells, `with_efforts_...` with an object an effort. Recall and precision: an effort is right when both its times are within a
minute of truth, the longest stop; anything else told is wrong. Baselines of the same run: the nearest point to start and finish, as Strava
states its rule, over the raw fixes; and this matcher in the interpreter. Seeds 700 to 709 are for the report; all was tuned on others.
"""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Final

import numpy as np

from benchmarks.machine import machine
from benchmarks.segment_world import SEGMENTS, T0_US, Neighbourhood, Stretch, fixes_at, name, neighbourhood, world
from processors.attempts import Arena, Attempts
from processors.matcher import Fixes, advance_all, advance_rows, match_track, warm_up
from processors.segment_file import open_segment_file, write_segment_file
from processors.segment_table import Lines, table_of
from processors.segments import SegmentIndex

FRAME: Final = 15
PLACES: Final = 120
ROUNDS: Final = 4
RIGHT_S: Final = 60.0  # the longest stop of a track: who stands at a gate may be seen through it before or after
WHERES: Final = ("open", "suburb", "urban")
NEAREST_M: Final = 25.0  # of the baseline: both ends must be passed this near ...
HALF_NEAREST_M: Final = 40.0  # ... and half of the way's points this near, in order


def run(quick: bool) -> dict[str, object]:
    """Figures, and those of the baselines."""
    segments, seeds = (100_000, range(9_000, 9_001)) if quick else (1_000_000, range(700, 710))
    around = [neighbourhood(seed, sport, where) for seed in seeds for sport in ("run", "ride") for where in WHERES]
    lines = world(around, segments)
    warm_up()
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "world.table"
        build_s, open_ms, index = _indexed(lines, path)
        figures: dict[str, float] = {
            "segments": len(index),
            "index_mb": round(path.stat().st_size / 1e6, 1),
            "build_s": build_s,
            "open_ms": open_ms,
        }
        figures |= _speeds(index, around, segments // SEGMENTS)
        plain = subprocess.run([sys.executable, "-c", _PLAIN, str(path), str(seeds[0])], capture_output=True, text=True, check=True)
        baseline: dict[str, float] = {"plain_python_samples_per_s": round(float(plain.stdout))}
        told = told_by(index, around)
        figures |= judged(around, told, "")
        figures["elapsed_p95_s"] = _p95(around, told)
        nearest = [_nearest(place, of) for place, of in enumerate(around)]
        baseline |= judged(around, nearest, "nearest_")
        baseline["nearest_elapsed_p95_s"] = _p95(around, nearest)
    return {"name": "matcher", "figures": figures, "baseline": baseline, "machine": machine()}


def _indexed(lines: Lines, path: Path) -> tuple[float, float, SegmentIndex]:
    """CPU-seconds to pack and write the file, milliseconds to open it, and the index over it."""
    table_of(Lines(lines.ids[:2], lines.sports[:2], lines.offsets[:3], lines.lat[: lines.offsets[2]], lines.lon[: lines.offsets[2]]))
    start = time.process_time()
    write_segment_file(path, "world", 1, table_of(lines))
    built = time.process_time()
    begun = time.perf_counter()
    index = SegmentIndex.over(open_segment_file(path, "world").table)
    return round(built - start, 2), round((time.perf_counter() - begun) * 1e3, 1), index


def _speeds(index: SegmentIndex, around: Sequence[Neighbourhood], places: int) -> dict[str, float]:
    """Samples a CPU-second, the best of some rounds, and how many attempts are under way at a sample."""
    athletes = [fixes_at(place, around[place % len(around)]) for place in _spread(places, len(around))]
    took: dict[bool, list[float]] = {False: [], True: []}
    samples = efforts = under = spilled = batches = 0
    for _ in range(ROUNDS):
        for with_efforts, seconds in took.items():
            arena = Arena(len(athletes))
            attempts = [Attempts(arena) for _ in athletes]
            seconds.append(0.0)
            samples = efforts = under = batches = 0
            for pieces, fixes, ends in [_batch(athletes, attempts, lo) for lo in range(0, max(map(len, athletes)), FRAME)]:
                start = time.process_time()
                told = (advance_all if with_efforts else advance_rows)(pieces, index, fixes, ends)
                seconds[-1] += time.process_time() - start
                samples, efforts, batches = samples + len(fixes), efforts + len(told), batches + 1
                under += sum(one.under for one in pieces) / len(pieces)
            spilled = sum(one.spilled for one in attempts)
    return {
        "samples_per_s_per_core": round(samples / min(took[False])),
        "with_efforts_samples_per_s_per_core": round(samples / min(took[True])),
        "efforts_per_s_per_core": round(efforts / min(took[True])),
        "under_way_per_sample": round(under / batches, 1),
        "spilled": spilled,
    }


def _spread(places: int, tracks: int) -> list[int]:
    """Places all over the index, each track about as often."""
    step = max(places // PLACES, 1)
    return [min(k * step + (k - k * step) % tracks, places - 1) for k in range(min(PLACES, places))]


def _batch(athletes: Sequence[Fixes], attempts: Sequence[Attempts], lo: int) -> tuple[list[Attempts], Fixes, np.ndarray]:
    """A frame of everybody who has one."""
    going = [k for k, fixes in enumerate(athletes) if len(fixes) > lo]
    parts = [athletes[k].part(lo, lo + FRAME) for k in going]
    return [attempts[k] for k in going], Fixes.joined(parts), np.cumsum([len(part) for part in parts])


_PLAIN: Final = """
import sys; sys.modules["numba"] = None
import time
from pathlib import Path
from benchmarks.segment_world import fixes_at, neighbourhood
from processors.matcher import match_track
from processors.segment_file import open_segment_file
from processors.segments import SegmentIndex
index = SegmentIndex.over(open_segment_file(Path(sys.argv[1]), "world").table)
fixes = fixes_at(0, neighbourhood(int(sys.argv[2]), "run", "open", minutes=45.0)).part(0, 600)
start = time.process_time()
match_track(index, fixes)
print(len(fixes) / (time.process_time() - start))
"""

Told = list[tuple[str, float, float]]  # segment, start and elapsed (s)


def _right(of: Neighbourhood, place: int, told: Told) -> dict[str, tuple[Stretch, float]]:
    """The efforts that are right, by segment: what was ridden, and the elapsed time told."""
    truth = {name(place, k): stretch for k, stretch in enumerate(of.stretches) if stretch.true}
    found: dict[str, tuple[Stretch, float]] = {}
    for segment, start_s, elapsed_s in told:
        stretch = truth.get(segment)
        if stretch is not None and abs(start_s - stretch.start_s) <= RIGHT_S and abs(start_s + elapsed_s - stretch.end_s) <= RIGHT_S:
            found.setdefault(segment, (stretch, elapsed_s))
    return found


def told_by(index: SegmentIndex, around: Sequence[Neighbourhood]) -> list[Told]:
    """What the matcher tells of each track at its own place."""
    found = [match_track(index, fixes_at(place, of)) for place, of in enumerate(around)]
    return [[(e.segment, (e.start_us - T0_US) * 1e-6, e.elapsed_ms * 1e-3) for e in efforts] for efforts in found]


def judged(around: Sequence[Neighbourhood], told: Sequence[Told], prefix: str) -> dict[str, float]:
    """Recall and precision by surroundings."""
    made: dict[str, float] = {}
    for where in WHERES:
        those = [(place, of, told[place]) for place, of in enumerate(around) if of.where == where]
        right = sum(len(_right(of, place, of_it)) for place, of, of_it in those)
        true = sum(stretch.true for _, of, _ in those for stretch in of.stretches)
        said = sum(len(of_it) for _, _, of_it in those)
        made[f"{prefix}recall_{where}"] = round(right / true, 4)
        made[f"{prefix}precision_{where}"] = round(right / max(said, 1), 4)
    return made


def _p95(around: Sequence[Neighbourhood], told: Sequence[Told]) -> float:
    """The 95th percentile of the error of elapsed times, in all surroundings (s)."""
    errors = [
        abs(elapsed_s - (stretch.end_s - stretch.start_s))
        for place, of in enumerate(around)
        for stretch, elapsed_s in _right(of, place, told[place]).values()
    ]
    return round(float(np.percentile(errors, 95)), 2)


def _nearest(place: int, of: Neighbourhood) -> Told:
    """The recorded point nearest to the start, and the one nearest to the finish after it, when the way between lies along the line."""
    seen, told = of.seen, Told()
    for number, stretch in enumerate(of.stretches):
        off = [np.hypot(seen.east_m - x, seen.north_m - y) for x, y in zip(stretch.east_m, stretch.north_m, strict=True)]
        start = int(np.argmin(off[0]))
        end = start + int(np.argmin(off[-1][start:]))
        if off[0][start] > NEAREST_M or off[-1][end] > NEAREST_M or end == start:
            continue
        near = [float(np.min(distances[start : end + 1])) <= HALF_NEAREST_M for distances in off]
        if all(near):
            told.append((name(place, number), float(seen.t_s[start]), float(seen.t_s[end] - seen.t_s[start])))
    return told


if __name__ == "__main__":
    print(json.dumps(run("--quick" in sys.argv), indent=2))
