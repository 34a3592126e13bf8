"""How the cost of a sample grows with the number of athletes: CPU-seconds per million samples of each part of the whole platform.

    python -m benchmarks.growth [--quick] [--json FILE] [--write]        on a quiet machine of two cores: under ten minutes

`--write` puts the figures into docs/figures/growth.json and the tables of docs/scaling.md, with the arithmetic of `benchmarks/sizing.py`.

All of it runs (`benchmarks/cluster.py`): mosquitto, ingest, Kafka, live, finish, boards, view, the sink and InfluxDB, one process of each,
while 10^2, 10^3, 10^4 and 10^5 athletes send, in both regimes: frames of 30 samples, and of one (live at 1 Hz). Every athlete is known
first, by a frame each; then as many frames as stated, one of each athlete at least, as fast as ingest acknowledges them, in bundles of 30.
CPU counts until nothing is on its way any more, less what idle parts use while only InfluxDB is waited for: the cost at capacity, of
workouts under way. `ends` is another thing: workouts of 20 minutes that end, and what finish makes of them.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, Final, NamedTuple

from benchmarks.cluster import PARTS, Cluster, cluster, per_million
from benchmarks.machine import machine
from benchmarks.sizing import FIGURES, growth_table, write_page
from broker.errors import PacelineError
from broker.logrecord import Kind, LogRecord
from broker.reference import SegmentRef, encode_reference
from simulators.stencil import LEG_SAMPLES, ROAD_LAT_DEG, ROAD_LON_DEG, STEP_E7
from tests.kafka_stages import append
from tests.servers import PROJECT

CONNECTIONS: Final = 10
BUNDLE: Final = 30
IDLE_S: Final = 10.0
SEGMENT_SAMPLES: Final = 100  # a segment of 300 m
SEGMENT_EACH: Final = 400  # begins every 1,200 m of the road
LATER_US: Final = 3 * 3_600_000_000  # after so long another workout begins
US: Final = 1_000_000


class Cell(NamedTuple):
    """One figure of the table: `frames` of all athletes together, each with `samples`."""

    athletes: int
    samples: int
    frames: int


CELLS: Final = tuple(
    Cell(athletes, samples, max(frames, athletes))
    for athletes in (100, 1_000, 10_000, 100_000)
    for samples, frames in ((30, 40_000), (1, 80_000))
)
QUICK: Final = (Cell(100, 30, 3_000), Cell(1_000, 1, 6_000))
WARM: Final = Cell(1_000, 1, 60_000)
QUICK_WARM: Final = Cell(100, 1, 3_000)
ENDING: Final = Cell(300, 30, 300 * 40)
QUICK_ENDING: Final = Cell(50, 30, 50 * 40)


def segments(tenant: str, each: int, samples: int = SEGMENT_SAMPLES, every: int = SEGMENT_EACH) -> list[LogRecord]:
    """Segments of so many samples along the road, as far north as `each` athletes of a connection go."""
    last = LEG_SAMPLES + each * 4
    found: list[LogRecord] = []
    for number, first in enumerate(range(5, last, every)):
        at = tuple((round(ROAD_LAT_DEG * 1e7) + (first + k) * STEP_E7, round(ROAD_LON_DEG * 1e7)) for k in range(0, samples + 1, 5))
        made = SegmentRef.model_validate({"tenant": tenant, "id": f"road{number}", "name": f"Road {number}", "sport": "any", "points": at})
        found.append(LogRecord(Kind.REFERENCE, tenant, tenant, "", time.time_ns() // 1000, encode_reference(made)))
    return found


def tenant_of(number: int) -> str:
    return f"growth{number}"


def users_of(tenant: str) -> list[str]:
    return [f"{tenant}/load{k:03d}" for k in range(CONNECTIONS)]


def send(c: Cluster, tenant: str, cell: Cell, frames: int, **more: object) -> dict[str, Any]:
    """So many frames of all athletes, through a process of its own that waits for their acks."""
    settings: dict[str, object] = {
        "host": "127.0.0.1", "port": c.broker.port, "tenant": tenant, "connections": CONNECTIONS, "devices": cell.athletes // CONNECTIONS,
        "samples_per_frame": cell.samples, "frames_per_bundle": BUNDLE, "window": 2000, "drain_s": 300,
        "frames": frames // CONNECTIONS, **more,
    }  # fmt: skip
    command = [sys.executable, "-m", "simulators.fleet", *(f"{key}={value}" for key, value in settings.items())]
    done = subprocess.run(
        command, env={**os.environ, "PACELINE_FLEET_PASSWORD": c.password}, capture_output=True, cwd=PROJECT, check=False, text=True
    )
    if done.returncode:
        raise PacelineError(f"the load was not acknowledged: {done.stdout}{done.stderr[-2000:]}", cure="see what ingest says")
    return json.loads(done.stdout)


def whole(frames: int) -> int:
    """The frames that make whole bundles on every connection."""
    return -(-frames // (CONNECTIONS * BUNDLE)) * CONNECTIONS * BUNDLE


def measured(c: Cluster, tenant: str, cell: Cell, idle: dict[str, float]) -> dict[str, Any]:
    """The figures of a cell."""
    append(c.kafka.bootstrap, segments(tenant, cell.athletes // CONNECTIONS))
    known, frames = whole(cell.athletes), whole(cell.frames)
    start_us = time.time_ns() // 1000 - (known + frames) * cell.samples * US // cell.athletes - 600 * US
    send(c, tenant, cell, known, start_us=start_us)
    c.settled()
    before, stored, began_s = c.cpu(), c.stored_bytes(), time.monotonic()
    report = send(c, tenant, cell, frames, start_us=start_us, first=known // CONNECTIONS)
    acked_s = time.monotonic() - began_s
    used, passed_s = used_until_settled(c, before, began_s, idle)
    samples = frames * cell.samples
    return {
        "athletes": cell.athletes,
        "samples_per_frame": cell.samples,
        "frames": frames,
        "cpu_s_per_million_samples": per_million(used, samples),
        "cpu_us_per_frame": round(sum(used.values()) / frames * 1e6, 1),
        "generator_cpu_s_per_million_samples": round(report["cpu_s"] / samples * 1e6, 2),
        "acked_after_s": round(acked_s, 1),
        "passed_after_s": round(passed_s, 1),
        "memory_mb": c.memory_mb(),
        "bytes_per_frame": grown(stored, c.stored_bytes(), frames),
    }


def ended(c: Cluster, tenant: str, cell: Cell, idle: dict[str, float]) -> dict[str, Any]:
    """What it costs when workouts end: a frame of each athlete, of another day's workout, ends the one before."""
    append(c.kafka.bootstrap, segments(tenant, cell.athletes // CONNECTIONS))
    frames = whole(cell.frames)
    start_us = time.time_ns() // 1000 - frames * cell.samples * US // cell.athletes - LATER_US - 600 * US
    stored = c.stored_bytes()
    send(c, tenant, cell, frames, start_us=start_us)
    c.settled()
    before, began_s = c.cpu(), time.monotonic()
    ends = c.activities()
    send(c, tenant, cell, whole(cell.athletes), start_us=time.time_ns() // 1000 - 600 * US, seed=2)
    used, _ = used_until_settled(c, before, began_s, idle)
    samples = frames * cell.samples
    return {
        "athletes": cell.athletes,
        "samples_of_each": samples // cell.athletes,
        "finished": c.activities() - ends,
        "cpu_s_per_million_samples": per_million(used, samples),
        "bytes_per_sample": {kind: round(size / cell.samples, 2) for kind, size in grown(stored, c.stored_bytes(), frames).items()},
        "finish_ms_of_each": round(used["finish"] / cell.athletes * 1e3, 1),
    }


def grown(before: dict[str, int], after: dict[str, int], frames: int) -> dict[str, float]:
    """Bytes a frame by which what is stored grew."""
    return {kind: round((size - before.get(kind, 0)) / frames, 1) for kind, size in sorted(after.items())}


def used_until_settled(c: Cluster, before: dict[str, float], began_s: float, idle: dict[str, float]) -> tuple[dict[str, float], float]:
    """CPU-seconds of each part until nothing is on its way, less an idle one's while only the sink had work; and when stages had none."""
    c.passed()
    passed_s = time.monotonic() - began_s
    c.settled()
    waited_s = time.monotonic() - began_s - passed_s
    now = c.cpu()
    return {part: max(now[part] - before[part] - idle[part] * waited_s, 0.0) for part in PARTS}, passed_s


def all_cells(c: Cluster, quick: bool, keep: Callable[[dict[str, Any]], None]) -> None:
    """The ends, the table, and what idling costs (CPU-seconds a second); `keep` is given what there is after each."""
    first = QUICK_WARM if quick else WARM
    send(c, tenant_of(98), first, whole(first.frames), start_us=time.time_ns() // 1000 - 4000 * US)  # compilers compile, places are opened
    c.settled()
    time.sleep(IDLE_S)
    before = c.cpu()
    time.sleep(IDLE_S)
    idle = {part: (used - before[part]) / IDLE_S for part, used in c.cpu().items()}
    figures: dict[str, Any] = {"growth": [], "idle_cpu_share": {part: round(share, 3) for part, share in idle.items()}}
    figures["ends"] = ended(c, tenant_of(99), QUICK_ENDING if quick else ENDING, idle)
    keep(figures)
    for number, cell in enumerate(QUICK if quick else CELLS):
        figures["growth"].append(measured(c, tenant_of(number), cell, idle))
        keep(figures)
        costs = figures["growth"][-1]["cpu_s_per_million_samples"]
        print(f"{cell.athletes} athletes, {cell.samples} a frame: {costs}", file=sys.stderr, flush=True)


async def growth(quick: bool, keep: Callable[[dict[str, Any]], None]) -> None:
    """All of it on a cluster of its own."""
    users = [user for number in (*range(len(CELLS)), 98, 99) for user in users_of(tenant_of(number))]
    with TemporaryDirectory(prefix="paceline-growth-") as folder:
        async with cluster(Path(folder), users) as c:
            await asyncio.to_thread(all_cells, c, quick, keep)


def main() -> None:
    reader = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    reader.add_argument("--quick", action="store_true", help="two cells of few frames: does it run")
    reader.add_argument("--json", type=Path, help="write the figures to this file, after each cell what there is")
    reader.add_argument("--write", action="store_true", help="write docs/figures/growth.json and the tables of docs/scaling.md")
    given = reader.parse_args()
    signal.signal(signal.SIGTERM, signal.default_int_handler)  # so that all servers end with us
    made: dict[str, Any] = {}

    def keep(figures: dict[str, Any]) -> None:
        made.update(name="growth", figures=figures, machine=machine())
        if given.json:
            given.json.write_text(json.dumps(made, indent=2) + "\n")

    asyncio.run(growth(given.quick, keep))
    if given.write:
        FIGURES.write_text(json.dumps(made, indent=2) + "\n")
        write_page()
    print(growth_table(made["figures"]))


if __name__ == "__main__":
    main()
