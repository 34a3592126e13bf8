"""Recordings through the finish stage, and what came of their efforts."""

from __future__ import annotations

import contextlib
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from itertools import pairwise
from pathlib import Path
from typing import Final

from benchmarks.plausibility.cases import Case, kinds, segments
from broker.errors import BadInputError
from broker.frames import Clock, encode_frame
from broker.recorded import frames_of, identity_of, span_of
from broker.reference import SegmentRef, UploadRef
from device_profiles.errors import FileError
from device_profiles.files import read_recording
from processors import live_kernel as k
from processors.finishing import finish_activity
from processors.geometry import distance_m, units
from processors.results import Finished
from processors.run_kernel import run_tracks
from processors.samples import TakenFrame
from processors.segment_rules import segment_ref
from processors.segments import SegmentIndex
from processors.stage import Activity
from processors.tracks import tracks_of
from tests.gps_truth import frames_of_rows

SUBJECT: Final = "gym/ann"
FILE: Final = "gym/upload/f-1"
LENGTHS_M: Final = (300.0, 1_000.0, 3_000.0)


@dataclass(slots=True)
class Tally:
    """Efforts of one kind: how many, how many doubted, how many kept off, and by which words."""

    efforts: int = 0
    doubted: int = 0
    kept_off: int = 0
    recordings: int = 0
    words: Counter[str] = field(default_factory=Counter[str])

    def add(self, made: Finished) -> None:
        """Count the efforts of one finished activity."""
        self.recordings += 1
        for effort in made.efforts:
            self.efforts += 1
            self.doubted += bool(effort.verdict.doubts)
            self.kept_off += effort.verdict.kept_off
            if effort.verdict.kept_off:
                self.words.update(effort.verdict.doubts)

    def join(self, other: Tally) -> None:
        """Count another tally in."""
        self.recordings += other.recordings
        self.efforts += other.efforts
        self.doubted += other.doubted
        self.kept_off += other.kept_off
        self.words.update(other.words)


def finished(frames: Sequence[TakenFrame], refs: Sequence[SegmentRef], origin: str, says: str | None) -> Finished | None:
    """The activity with most samples in the frames; None when nothing of them moves or beats."""
    tracks = tracks_of(frames)
    runs = run_tracks(tracks, 190)
    if not runs:
        return None
    row = max(runs, key=lambda run: int(run[k.SAMPLES]))
    start_us, end_us = int(row[k.START]), int(row[k.LAST_T])
    activity = Activity(SUBJECT, start_us, start_us, end_us, 0, 0, 0, int(row[k.SAMPLES]), 0, 0, 0, True, 1)
    said = UploadRef(
        tenant="gym", id=origin.rpartition("/")[2], athlete="ann", name="file", sport=says, format="fit", first_us=start_us, last_us=end_us
    )
    return finish_activity(SUBJECT, tracks, activity, None, SegmentIndex.build(refs), [said])


def made_up(name: str, seeds: Sequence[int]) -> Tally:
    """The efforts of made-up recordings of a kind."""
    refs, maker, tally = segments(), kinds()[name][1], Tally()
    for seed in seeds:
        case: Case = maker(seed)
        made = finished(frames_of_rows(case.rows, origin=FILE), refs, FILE, case.says)
        if made is not None:
            tally.add(made)
    return tally


def real(path: Path) -> tuple[Tally, Finished] | None:
    """A real recording on segments cut from its own way; None when it has none (no positions, or a refused file)."""
    try:
        recording = read_recording(path)
        who = identity_of(path.read_bytes())
        framed = frames_of(recording, who, utc_offset_us=span_of(recording)[0], clock=Clock.RECORDED)
        origin = f"gym/upload/{who.device}"
        frames = [TakenFrame(origin, "upload", f, encode_frame(f), f.utc_offset_us or 0) for f in framed]
    except (FileError, ValueError):
        return None
    points = [(p.lat, p.lon) for p in recording.points if p.lat is not None and p.lon is not None]
    refs = [ref for length_m in LENGTHS_M for ref in _pieces(points, length_m)]
    made = finished(frames, refs, origin, recording.sport) if refs else None
    if made is None:
        return None
    tally = Tally()
    tally.add(made)
    return tally, made


def _pieces(points: Sequence[tuple[float, float]], length_m: float) -> list[SegmentRef]:
    """The way in pieces of a length, where they make segments."""
    made: list[SegmentRef] = []
    line = [points[0]] if points else []
    along_m = 0.0
    for before, point in pairwise(points):
        along_m += distance_m(units(*before), units(*point))
        line.append(point)
        if along_m >= length_m:
            name = f"{length_m:.0f}-{len(made)}"
            with contextlib.suppress(BadInputError):  # where it stands still or crosses its own start
                made.append(segment_ref("gym", name, name, "any", line))
            line, along_m = [point], 0.0
    return made
