"""Uploads beside a live stream: mosquitto -> ingest and runner in one process, as in the platform, while files are uploaded to it.

`p99_ms_with_upload` against `p99_ms_without` in the same run: from a live sample to its committed board change, athletes at 1 Hz, while
files are read one after the other. `cpu_s_per_100k_samples` is that of the process that reads a FIT file, its start included. The baseline
reads the same files in a thread of the platform. `longest_step_ms` is what the runner takes at most in one go for an uploaded activity.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import math
import resource
import signal
import sys
import tempfile
import threading
import time
from pathlib import Path
from typing import Any, Final, Literal

from benchmarks.end_to_end import Rig, rig
from benchmarks.machine import machine
from broker.logrecord import Kind, LogRecord
from broker.reference import encode_reference
from device_profiles.files import Point, Points, Recording, write_fit
from processors.bulk_client import BulkSettings
from processors.ingest import IngestService
from processors.log import SqliteLog
from processors.run_kernel import warm_up
from processors.runner import Latency, Runner
from processors.segment_rules import segment_ref
from processors.upload_file import read_upload, records_of
from processors.uploads import Uploads

Mode = Literal["none", "apart", "inside"]
START_US: Final = 1_780_000_000_000_000
ATHLETES: Final = 600
WARM_S: Final = 3.0


def position(second: int) -> tuple[float, float]:
    """A loop of 50 km, at 8 m/s."""
    turn = second * 8.0 / 50_000 * 2 * math.pi
    return 46.5 + 0.0715 * math.sin(turn), 7.25 + 0.104 * math.cos(turn)


def write_file(path: Path, samples: int) -> Path:
    """A ride at 1 Hz with all fields a bike computer has."""
    points = (
        Point(
            START_US + s * 1_000_000, *position(s), altitude_m=500 + 40 * math.sin(s / 900), speed_mps=8.0, distance_m=8.0 * s,
            hr_bpm=float(130 + s % 20), cadence_rpm=80.0, power_w=float(190 + s % 30),
        )
        for s in range(samples)
    )  # fmt: skip
    write_fit(Recording(Points.of(points), sport="cycling", device="bench"), path)
    return path


def add_segments(log: SqliteLog, now_us: int) -> None:
    """20 segments of 600 m on the loop."""
    for n in range(20):
        ref = segment_ref("gym", f"s{n}", f"s{n}", "any", [position(n * 300 + s) for s in range(0, 76, 5)])
        log.append([LogRecord(Kind.REFERENCE, "gym", "gym", "", now_us, encode_reference(ref))])


class PlatformRig(Rig):
    """mosquitto and one process that is ingest, runner and uploads."""

    def __init__(self, folder: Path, mode: Mode, file: Path) -> None:
        super().__init__(folder)
        self._mode, self._file = mode, file

    def parts(self) -> dict[str, list[str]]:
        return {"platform": ["benchmarks.uploads", "--serve", str(self.folder), str(self.port), self._mode, str(self._file)]}


async def serve(folder: Path, port: int, mode: Mode, file: Path) -> None:
    """The platform's live parts; uploads follow each other from a few seconds after the first live frames until SIGTERM."""
    import os

    stop = asyncio.Event()
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, stop.set)
    with SqliteLog.open(folder / "log.db") as log:
        add_segments(log, START_US)
        runner = Runner(log, folder / "state.db")
        first = log.end()
        service = IngestService(BulkSettings("127.0.0.1", port, "platform/ingest", os.environ["PACELINE_PART_PASSWORD"]), log)
        warm_up()
        running = [asyncio.create_task(runner.run()), asyncio.create_task(service.run())]
        await service.ready.wait()
        print("ready", flush=True)
        ending, cpu_s, samples = threading.Event(), [0.0], [0]
        uploading = asyncio.create_task(asyncio.to_thread(_upload, log, mode, file, ending, cpu_s, samples, runner, first))
        await stop.wait()
        runner_said, worst_ms = runner.latency.quantiles(), max((ms for ms, n in enumerate(runner.latency.buckets) if n), default=0)
        ending.set()
        for task in running:
            task.cancel()
        await asyncio.gather(*running, return_exceptions=True)
        await uploading
        runner.close()
    print(json.dumps({"latency_ms": runner_said, "worst_ms": worst_ms, "cpu_s": cpu_s[0], "samples": samples[0]}), flush=True)


def _upload(
    log: SqliteLog, mode: Mode, file: Path, ending: threading.Event, cpu_s: list[float], samples: list[int], runner: Runner, first: int
) -> None:
    """Upload the file again and again, each time for another athlete."""
    raw = file.read_bytes()
    uploads = Uploads(log)
    while runner.position <= first and not ending.wait(0.05):
        continue
    ending.wait(WARM_S)
    runner.latency = Latency()
    number = 0
    while not ending.is_set():
        number += 1
        if mode == "none":
            ending.wait(0.1)
        elif mode == "apart":
            samples[0] += uploads.accept("gym", f"up{number}", file.name, raw).samples
            used = resource.getrusage(resource.RUSAGE_CHILDREN)
            cpu_s[0] = used.ru_utime + used.ru_stime
        else:
            now_us = time.time_ns() // 1000
            upload = read_upload("gym", f"up{number}", file.name, raw, now_us)
            log.append(records_of(upload, now_us))
            samples[0] += upload.samples
            cpu_s[0] = time.thread_time()


def live(mode: Mode, file: Path, seconds: float) -> dict[str, Any]:
    """What the platform says of itself after a live stream of so many seconds."""
    with rig(lambda folder: PlatformRig(folder, mode, file)) as parts:
        parts.fleet(samples_per_frame=1, frames_per_bundle=10, devices=ATHLETES // 4, seconds=seconds, rate=ATHLETES, live=1)
        return parts.stop()


def longest_step_ms(file: Path) -> float:
    """The most CPU time one transaction of the runner takes for the upload of `file`, with 20 segments on its way."""
    now_us = [START_US + 10**12]
    with tempfile.TemporaryDirectory() as folder, SqliteLog.open(Path(folder) / "log.db") as log:
        runner = Runner(log, Path(folder) / "state.db", clock_us=lambda: now_us[0])
        warm_up()
        add_segments(log, now_us[0])
        longest = 0.0
        for athlete in ("warm", "measured"):
            log.append(records_of(read_upload("gym", athlete, file.name, file.read_bytes(), now_us[0]), now_us[0]))
            longest = 0.0
            for _ in range(4):
                began = time.process_time()
                while runner.advance():
                    longest = max(longest, time.process_time() - began)
                    began = time.process_time()
                now_us[0] += 200_000_000
                runner.fire_wakes()
        runner.close()
    return longest * 1000


def run(quick: bool) -> dict[str, Any]:
    """The figures of this machine."""
    samples, seconds = (20_000, 12.0) if quick else (100_000, 60.0)
    with tempfile.TemporaryDirectory() as folder:
        file = write_file(Path(folder) / "ride.fit", samples)
        said = {mode: live(mode, file, seconds) for mode in ("none", "apart", "inside")}
        step_ms = longest_step_ms(file)
    p99 = {mode: one["latency_ms"]["p99"] for mode, one in said.items()}
    return {
        "name": "uploads",
        "figures": {
            "cpu_s_per_100k_samples": round(said["apart"]["cpu_s"] / max(said["apart"]["samples"], 1) * 1e5, 2),
            "p99_ms_without": p99["none"],
            "p99_ms_with_upload": p99["apart"],
            "p99_ratio": round(p99["apart"] / max(p99["none"], 1), 2),
            "worst_ms_without": said["none"]["worst_ms"],
            "worst_ms_with_upload": said["apart"]["worst_ms"],
            "uploaded_samples": said["apart"]["samples"],
            "samples_a_file": samples,
            "longest_step_ms": round(step_ms),
        },
        "baseline": {
            "p99_ms_read_in_a_thread": p99["inside"],
            "p99_ratio_read_in_a_thread": round(p99["inside"] / max(p99["none"], 1), 2),
            "worst_ms_read_in_a_thread": said["inside"]["worst_ms"],
            "cpu_s_per_100k_samples_in_a_thread": round(said["inside"]["cpu_s"] / max(said["inside"]["samples"], 1) * 1e5, 2),
        },
        "machine": machine(),
    }


if __name__ == "__main__":
    parser = argparse.ArgumentParser()
    parser.add_argument("--quick", action="store_true")
    parser.add_argument("--serve", nargs=4, metavar=("FOLDER", "PORT", "MODE", "FILE"))
    arguments = parser.parse_args()
    if arguments.serve:
        where, port_text, chosen, path_text = arguments.serve
        asyncio.run(serve(Path(where), int(port_text), chosen, Path(path_text)))
    else:
        print(json.dumps(run(arguments.quick), indent=2))
    sys.exit(0)
