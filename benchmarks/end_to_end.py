"""End to end: fleet -> mosquitto -> ingest -> log -> live stage -> durable tracks and board, each part a process, on the cores there are.

`samples_per_s`: 30-sample frames in bundles, closed loop, until the last frame's tracks and board are committed; `samples_per_s_1` the
same with 1-sample frames; both with 1,000 athletes. The generator and mosquitto share the cores and are part of the wall time; CPU-seconds
are given per part. `p99_ms_at_half_load`: as many athletes at 1 Hz as half the rate measured with 10,000 athletes and 1-sample frames
(every frame is another athlete's): from the sample to its committed board change. The baseline is the work in the shape most peers have:
one JSON message and one row per sample.
"""

from __future__ import annotations

import contextlib
import json
import os
import signal
import socket
import sqlite3
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Generator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from benchmarks.machine import cpu_s_of, machine
from broker.credentials import hash_secret, new_secret, write_passwords
from broker.errors import PacelineError
from broker.mosquitto import MosquittoSettings, password_path, write_config
from tests.debian_packages import library_environment
from tests.servers import find_or_install_mosquitto, free_port

CONNECTIONS = 4


class Rig:
    """mosquitto and the two parts, in a folder of its own."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.password = new_secret()
        self.port = free_port()
        self.processes: dict[str, subprocess.Popen[bytes]] = {}
        self._cpu: dict[str, float] = {}

    def start(self) -> None:
        binary = find_or_install_mosquitto()
        users = ["platform/ingest", *(f"gym/load{k:03d}" for k in range(CONNECTIONS))]
        settings = MosquittoSettings(host="127.0.0.1", port=self.port, directory=self.folder, run_as="root" if os.geteuid() == 0 else "")
        write_config(settings)
        hashed = hash_secret(self.password)
        write_passwords(password_path(settings), dict.fromkeys(users, hashed))
        self._spawn("mosquitto", [str(binary), "-c", str(self.folder / "mosquitto.conf")], library_environment(binary))
        _wait_port(self.port)
        commands = self.parts()
        for name, command in commands.items():
            self._spawn(name, [sys.executable, "-m", *command])
        for name, command in commands.items():
            out = self.processes[name].stdout
            assert out is not None
            if out.readline().strip() != b"ready":
                raise PacelineError(f"{name} did not start", cure=f"run it by hand: python -m {command[0]}")

    def parts(self) -> dict[str, list[str]]:
        """Module and arguments of each part behind the broker, in the order they start; the last ends first."""
        folder, port = str(self.folder), str(self.port)
        return {
            "process": ["benchmarks.parts", "process", folder],
            "ingest": ["benchmarks.parts", "ingest", folder, "127.0.0.1", port],
        }

    def _spawn(self, name: str, command: list[str], environment: Mapping[str, str] = os.environ) -> None:
        env = {**environment, "PACELINE_PART_PASSWORD": self.password}
        stderr = subprocess.DEVNULL if name == "mosquitto" else None
        self.processes[name] = subprocess.Popen(command, env=env, stdout=subprocess.PIPE, stderr=stderr, cwd=Path(__file__).parent.parent)

    def mark(self) -> None:
        """CPU from here on is the measured part."""
        self._cpu = {name: cpu_s_of(process.pid) for name, process in self.processes.items()}

    def cpu(self) -> dict[str, float]:
        """CPU-seconds per part since `mark`."""
        return {name: cpu_s_of(process.pid) - self._cpu[name] for name, process in self.processes.items()}

    def counted(self) -> int:
        """Frames whose tracks and board are committed."""
        with contextlib.closing(sqlite3.connect(f"file:{self.folder / 'state.db'}?mode=ro", uri=True)) as db:
            row = db.execute("SELECT value FROM counter WHERE name='frames'").fetchone()
        return row[0] if row else 0

    def fleet(self, **settings: object) -> dict[str, Any]:
        """Run the generator in its own process; its report."""
        arguments = [f"{key}={value}" for key, value in settings.items()]
        command = [
            sys.executable,
            "-m",
            "simulators.fleet",
            "host=127.0.0.1",
            f"port={self.port}",
            "tenant=gym",
            f"connections={CONNECTIONS}",
        ]
        env = {**os.environ, "PACELINE_FLEET_PASSWORD": self.password}
        done = subprocess.run([*command, *arguments], env=env, capture_output=True, cwd=Path(__file__).parent.parent, check=True)
        return json.loads(done.stdout)

    def stop(self) -> dict[str, Any]:
        """End everything; what the part that speaks last said of itself."""
        said: dict[str, Any] = {}
        for process in reversed(self.processes.values()):
            process.send_signal(signal.SIGTERM)
            out, _ = process.communicate(timeout=60)
            if out and out.strip():
                said = json.loads(out.strip().splitlines()[-1])
        return said


@contextmanager
def rig(kind: Callable[[Path], Rig] = Rig) -> Generator[Rig]:
    """A fresh rig."""
    with tempfile.TemporaryDirectory(prefix="paceline-e2e-") as folder:
        made = kind(Path(folder))
        try:
            made.start()
            yield made
        finally:
            for process in made.processes.values():
                if process.poll() is None:
                    process.kill()
                    process.wait()


def throughput(frames: int, samples_per_frame: int, frames_per_bundle: int, athletes: int) -> dict[str, Any]:
    """Closed loop: samples/s of wall time until all is committed, and CPU-seconds per million samples by part."""
    with rig() as parts:
        warm = {"samples_per_frame": samples_per_frame, "frames_per_bundle": frames_per_bundle, "devices": athletes // CONNECTIONS}
        first = max(athletes // CONNECTIONS // frames_per_bundle + 1, 4) * frames_per_bundle  # everybody is known before it counts
        parts.fleet(**warm, frames=first, seed=9, name="load", drain_s=120)
        _until(lambda: parts.counted() >= first * CONNECTIONS)
        before = parts.counted()
        parts.mark()
        report = parts.fleet(**warm, frames=frames // CONNECTIONS, seed=1, name="load", window=4000, drain_s=120)
        acked = time.monotonic()
        _until(lambda: parts.counted() >= before + report["sent_frames"])
        wall_s = report["seconds"] + report["drain_seconds"] + time.monotonic() - acked
        cpu = parts.cpu() | {"generator": report["cpu_s"]}
        samples = report["sent_frames"] * samples_per_frame
        parts.stop()
    return {
        "samples": samples,
        "wall_s": wall_s,
        "per_s": samples / wall_s,
        "cpu": {name: used / samples * 1e6 for name, used in cpu.items()},
    }


def half_load(rate: float, seconds: float) -> dict[str, float]:
    """Open loop of 1 Hz athletes with 1-sample frames at `rate` frames/s: latency from the sample to its committed board change."""
    devices = max(int(rate / CONNECTIONS), 1)
    with rig() as parts:
        bundle = 30
        parts.fleet(samples_per_frame=1, frames_per_bundle=bundle, devices=devices, seconds=seconds, rate=devices * CONNECTIONS, live=1)
        said = parts.stop()
    return said["latency_ms"]


def row_per_sample(samples: int) -> float:
    """Baseline, samples per CPU-second: JSON per sample, parsed, one SQLite row each with a commit a hundred, running totals in a dict."""
    rows = [json.dumps({"device": f"d{i % 100}", "t": i, "lat": 50.1, "lon": 7.1, "hr": 140, "speed": 3.0}) for i in range(samples)]
    with tempfile.TemporaryDirectory() as folder:
        db = sqlite3.connect(Path(folder) / "b.db", isolation_level=None)
        db.execute("PRAGMA journal_mode=WAL")
        db.execute("CREATE TABLE sample (device TEXT, t INTEGER, lat REAL, lon REAL, hr INTEGER, speed REAL, PRIMARY KEY (device, t))")
        totals: dict[str, float] = {}
        began = time.process_time()
        for at in range(0, samples, 100):
            db.execute("BEGIN")
            for text in rows[at : at + 100]:
                s = json.loads(text)
                db.execute(
                    "INSERT OR IGNORE INTO sample VALUES (?,?,?,?,?,?)", (s["device"], s["t"], s["lat"], s["lon"], s["hr"], s["speed"])
                )
                totals[s["device"]] = totals.get(s["device"], 0.0) + s["speed"]
            db.execute("COMMIT")
        used = time.process_time() - began
        db.close()
    return samples / used


def _until(done: Any, timeout_s: float = 180) -> None:
    deadline = time.monotonic() + timeout_s
    while not done():
        if time.monotonic() > deadline:
            raise PacelineError("the platform did not process everything in time", cure="run with fewer frames")
        time.sleep(0.01)


def _wait_port(port: int) -> None:
    for _ in range(200):
        with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port), 0.1):
            return
        time.sleep(0.02)
    raise PacelineError(f"nothing listens on port {port}", cure="look at mosquitto's output")


def run(quick: bool) -> dict[str, Any]:
    """The figures (design: `end_to_end`)."""
    big = throughput(24_000 if quick else 120_000, 30, 10, 1000)
    small = throughput(40_000 if quick else 200_000, 1, 30, 1000)
    wide = throughput(40_000 if quick else 200_000, 1, 30, 10_000)
    latency = half_load(wide["per_s"] / 2, 5 if quick else 20)
    base = row_per_sample(20_000 if quick else 100_000)
    ours = 1e6 / sum(used for name, used in big["cpu"].items() if name in ("ingest", "process"))
    return {
        "name": "end_to_end",
        "figures": {
            "samples_per_s": round(big["per_s"]),
            "samples_per_s_1": round(small["per_s"]),
            "samples_per_s_1_of_10000_athletes": round(wide["per_s"]),
            "cpu_s_per_million_samples": round(sum(big["cpu"].values()), 2),
            "cpu_s_per_million_samples_by_part": {name: round(used, 2) for name, used in big["cpu"].items()},
            "cpu_s_per_million_samples_1_by_part": {name: round(used, 2) for name, used in small["cpu"].items()},
            "p99_ms_at_half_load": latency["p99"],
            "p50_ms_at_half_load": latency["p50"],
            "half_load_frames_per_s": round(wide["per_s"] / 2),
            "ratio_to_row_per_sample": round(ours / base, 1),
        },
        "baseline": {"row_per_sample_samples_per_cpu_s": round(base), "ours_samples_per_cpu_s": round(ours)},
        "machine": machine(),
    }


if __name__ == "__main__":
    print(json.dumps(run("--quick" in sys.argv), indent=2))
