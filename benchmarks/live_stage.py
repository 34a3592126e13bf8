"""The whole live stage over a million segments: frames of 30 samples -> repeats, fusion, filter, totals, efforts, activities, boards.

Runners and riders of the accuracy generator at places of `segment_world`, 80 segments around each, send what a watch would: position,
speed, altitude, heart rate; read from the bytes of their frames in batches of the log. Measured is the stage alone (`batches_of`,
`wants`, `step`), without the stores. Baselines of the same run: the kernel alone over the same samples, the stage without segments, and
the rules of a stage that takes one sample at a time in plain Python, as peers are written (no filter, no segments).
"""

from __future__ import annotations

import json
import math
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, Final

import numpy as np

from benchmarks.machine import machine
from benchmarks.segment_world import SEGMENTS, T0_US, Neighbourhood, neighbourhood, positions, world
from broker.columns import dtype_of
from broker.frames import Frame, encode_frame
from broker.ids import route_of
from broker.layouts import layout_named
from broker.logrecord import Kind, LogRecord
from processors import run_kernel
from processors.collector import waiting_collector
from processors.live import LiveStage
from processors.live_row import fresh_row
from processors.live_state import LiveStates
from processors.matcher import warm_up
from processors.reference_data import ReferenceData
from processors.samples import TakenFrame, samples_of
from processors.segment_file import open_segment_file, write_segment_file
from processors.segment_table import table_of
from processors.segments import SegmentIndex
from processors.stage import Inputs, batches_of

MOTION: Final = layout_named("motion.1")
FRAME: Final = 30
BATCH: Final = 2048  # records the log gives at once
ROUNDS: Final = 3


def run(quick: bool) -> dict[str, object]:
    """Figures a CPU-second, the best of some rounds."""
    segments, athletes, frames = (100_000, 200, 12) if quick else (1_000_000, 1_000, 20)
    around = [neighbourhood(9_000, sport, where, minutes=45.0) for sport in ("run", "ride") for where in ("open", "suburb", "urban")]
    run_kernel.warm_up()
    warm_up()
    with TemporaryDirectory() as folder:
        path = Path(folder) / "world.table"
        write_segment_file(path, "world", 1, table_of(world(around, segments)))
        index = SegmentIndex.over(open_segment_file(path, "world").table)
        records = records_of(around, athletes, frames, segments // SEGMENTS)
        samples = len(records) * FRAME
        took = [_stage(records, index) for _ in range(ROUNDS)]
        bare = [_stage(records, None) for _ in range(ROUNDS)]
        kernel = min(_kernel(records) for _ in range(ROUNDS))
    states = took[0][1]
    stage_s, bare_s = min(seconds for seconds, _, _ in took), min(seconds for seconds, _, _ in bare)
    slow = sample_by_sample(records[: len(records) // 20])
    return {
        "name": "live_stage",
        "figures": {
            "samples_per_s_per_core": round(samples / stage_s),
            "without_segments_samples_per_s_per_core": round(samples / bare_s),
            "us_per_frame": round(stage_s / len(records) * 1e6, 1),
            "state_bytes": states.rows[0].nbytes,
            "state_bytes_mean": round(sum(len(states.stored(f"world/a{i}") or b"") for i in range(athletes)) / athletes),
            "segments": len(index),
            "efforts": took[0][2],
        },
        "baseline": {
            "kernel_alone_samples_per_s": round(samples / kernel),
            "sample_by_sample_samples_per_s": round(slow),
            "ratio_to_sample_by_sample": round(samples / stage_s / slow, 1),
        },
        "machine": machine(),
    }


def records_of(around: Sequence[Neighbourhood], athletes: int, frames: int, places: int) -> list[LogRecord]:
    """`frames` frames of everybody in turn, as the log holds them; athlete k is at a place of track k."""
    bodies = [_columns(of) for of in around]
    tracks: list[np.ndarray] = []
    for k in range(athletes):
        place = k * max(places // athletes, 1)
        place += (k - place) % len(around)
        track = bodies[k % len(around)].copy()
        seen = around[k % len(around)].seen
        track["lat"], track["lon"] = positions(place % places, seen.east_m, seen.north_m)
        tracks.append(track)
    made: list[LogRecord] = []
    for number in range(frames):
        for k, track in enumerate(tracks):
            part = track[number * FRAME : (number + 1) * FRAME]
            t0_us = T0_US + number * FRAME * 1_000_000
            frame = Frame(MOTION.id, 1, f"w{k}", 7, number, t0_us, 0, 2, f"world/a{k}", part.tobytes())
            key = route_of("world", "box", frame.device, frame.subject, self_numbered=True)
            made.append(LogRecord(Kind.FRAME, key, "world", "box", t0_us + FRAME * 1_000_000, encode_frame(frame)))
    return made


def _columns(of: Neighbourhood) -> np.ndarray:
    """What a watch records at 1 Hz, but for the place."""
    seen = of.seen
    made = np.zeros(len(seen.t_s), dtype_of(MOTION.id))
    for field in MOTION.fields:
        made[field.name] = 0 if field.absent is None else field.absent
    made["tick_ms"] = np.arange(len(made)) % FRAME * 1000
    made["accuracy_m"] = np.clip(np.rint(seen.accuracy_m * 2.0), 0, 254)
    made["speed_mps"] = np.rint(seen.speed_mps * 100.0)
    second = np.arange(len(made))
    made["hr_bpm"] = np.rint(140.0 + 15.0 * np.sin(second / 90.0))
    made["altitude_m"] = np.rint((500.0 + 300.0 + 20.0 * np.sin(second / 200.0)) * 5.0)
    made["altitude_source"] = 1
    return made


def _stage(records: Sequence[LogRecord], index: SegmentIndex | None) -> tuple[float, LiveStates, int]:
    """CPU-seconds of the stage over the records, its state then, and how many efforts it timed."""
    reference = ReferenceData()
    if index is not None:
        reference.use_index("world", index)
    stage, states = LiveStage(reference), LiveStates()
    efforts = 0
    start = time.process_time()
    for lo in range(0, len(records), BATCH):
        with waiting_collector():  # as the runner does
            for batch in batches_of(lo + 1, records[lo : lo + BATCH]):
                stage.wants(states, batch)
                outputs = stage.step(states, batch, Inputs())
                efforts += sum(len(told.timed) for told in outputs.efforts)
    return time.process_time() - start, states, efforts


def _kernel(records: Sequence[LogRecord]) -> float:
    """CPU-seconds of the kernel alone."""
    batches = list(batches_of(1, records))
    taken = [TakenFrame(f"world/{f.device}", "box", f, b"", 0) for b in batches for f in b.frames if isinstance(f, Frame)]
    samples = samples_of(taken)
    slots = [int(f.frame.device[1:]) for f in taken]
    rows = np.tile(fresh_row(), (max(slots) + 1, 1))
    start = time.process_time()
    run_kernel.run_frames(rows, slots, samples, {})
    return time.process_time() - start


def sample_by_sample(records: Sequence[LogRecord]) -> float:
    """Samples a CPU-second of a stage that takes each sample on its own: a dict an athlete, haversine, sums, best speed, zones."""
    state: dict[str, dict[str, Any]] = {}
    start = time.process_time()
    n = 0
    for batch in batches_of(1, records):
        for frame in batch.frames:
            if not isinstance(frame, Frame):
                continue
            held = state.setdefault(frame.subject, {"m": 0.0, "last": None, "zones": [0] * 5, "hr": 0, "n": 0})
            for values in MOTION.unpack(frame.records):
                n += 1
                place = math.radians(values["lat"] or 0.0), math.radians(values["lon"] or 0.0)
                if held["last"] is not None:
                    a, b = held["last"], place
                    h = math.sin((b[0] - a[0]) / 2) ** 2 + math.cos(a[0]) * math.cos(b[0]) * math.sin((b[1] - a[1]) / 2) ** 2
                    held["m"] += 2 * 6_371_008.8 * math.asin(math.sqrt(h))
                held["last"] = place
                held["hr"] += values["hr_bpm"] or 0
                held["n"] += 1
                held["zones"][min(int(values["hr_bpm"] or 0) // 40, 4)] += 1
    return n / (time.process_time() - start)


if __name__ == "__main__":
    print(json.dumps(run("--quick" in sys.argv), indent=2))
