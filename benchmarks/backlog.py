"""A day-old backlog beside live athletes: latency of the live ones with and without it, through the log and the real stages.

50 athletes send a frame every 250 ms; then 20 of them also send the whole of yesterday (30-sample frames at `backlog_frames_per_s`).
The backlog is encoded beforehand and the stages run in a process of their own. Baseline: the same live load alone.
"""

from __future__ import annotations

import json
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from benchmarks.machine import machine
from broker.frames import Frame, encode_frame
from broker.layouts import layout_named
from broker.logrecord import Kind, LogRecord
from processors.log import SqliteLog

LIVE, BEHIND = 50, 20
EVERY_S = 0.25
MOTION = layout_named("motion.1")
DAY_US = 86_400_000_000


def record(athlete: int, seq: int, t_us: int, samples: int) -> LogRecord:
    """One frame of an athlete, its first sample at `t_us`."""
    rows = ({"tick_ms": i * 1000, "lat": 45 + 1e-5 * seq, "lon": 7.0, "speed_mps": 3.0, "hr_bpm": 140} for i in range(samples))
    frame = Frame(MOTION.id, 1, f"w{athlete}", 7, seq, 0, t_us, 2, f"gym/w{athlete}", b"".join(MOTION.pack(row) for row in rows))
    return LogRecord(Kind.FRAME, frame.subject, "gym", "box", time.time_ns() // 1000, encode_frame(frame))


def play(seconds: float, backlog_per_s: int) -> dict[str, Any]:
    """What the processing part says of a run: latency of live frames, counters."""
    began_us = time.time_ns() // 1000
    frames = range(int(seconds * backlog_per_s) // BEHIND)
    backlog = [record(d, k, began_us - DAY_US + k * 30_000_000, 30) for k in frames for d in range(BEHIND)]
    with tempfile.TemporaryDirectory(prefix="paceline-backlog-") as folder, SqliteLog.open(Path(folder) / "log.db") as log:
        command = [sys.executable, "-m", "benchmarks.parts", "process", folder]
        part = subprocess.Popen(command, stdout=subprocess.PIPE, cwd=Path(__file__).parent.parent)
        try:
            assert part.stdout is not None
            part.stdout.readline()
            portion = int(backlog_per_s * EVERY_S)
            for i in range(int(seconds / EVERY_S)):
                next_s = time.monotonic() + EVERY_S
                live = [record(d, 1_000_000 + i, time.time_ns() // 1000, 1) for d in range(LIVE)]
                log.append(live + backlog[i * portion : (i + 1) * portion])
                time.sleep(max(next_s - time.monotonic(), 0))
            time.sleep(5)  # the pause after which the late frames are worked in
            part.send_signal(signal.SIGTERM)
            said, _ = part.communicate(timeout=60)
        finally:
            if part.poll() is None:
                part.kill()
                part.wait()
    return json.loads(said.strip().splitlines()[-1])


def run(quick: bool) -> dict[str, Any]:
    """p50 and p99 in ms of the live athletes, alone and beside the backlog."""
    seconds, rate = (8.0, 1600) if quick else (60.0, 1600)
    alone, beside = play(seconds, 0), play(seconds, rate)
    return {
        "name": "backlog",
        "figures": {
            "live_p99_ms_beside_backlog": beside["latency_ms"]["p99"],
            "live_p50_ms_beside_backlog": beside["latency_ms"]["p50"],
            "backlog_frames_per_s": rate,
            "backlog_samples_per_s": rate * 30,
            "ratio_to_alone": round(beside["latency_ms"]["p99"] / max(alone["latency_ms"]["p99"], 1.0), 1),
        },
        "baseline": {"live_p99_ms_alone": alone["latency_ms"]["p99"], "live_p50_ms_alone": alone["latency_ms"]["p50"]},
        "machine": machine(),
    }


if __name__ == "__main__":
    print(json.dumps(run("--quick" in sys.argv), indent=2))
