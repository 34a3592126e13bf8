"""End to end beyond one machine: mosquitto -> ingest -> Kafka -> live -> finish -> boards -> view -> InfluxDB, and events, by an open-loop
load (`paceline simulate fleet`) at half of what passes; and a storm of reconnects.

Everything, the load too, shares the cores there are. `burst_frames_per_s`: of as many frames as fast as ingest acknowledges them, those a
second until nothing is on its way any more (10,000 athletes at 1 Hz, each known before). A burst is cheap, as everybody takes large batches
of it. `capacity_frames_per_s`: the greatest rate, halving the interval up to the burst, of an open-loop load that everybody keeps up with:
in its last third the median of no part is more than a second late. Then the load at half of that for a while, in the same cluster:
`p50_ms`, `p99_ms` of each part of which anything was timed, from when a frame was due (its last sample), by `state` at the checkpoint,
`board` at the entry of the class in progress. And frames of 30 s of some 20,000 athletes, timed from their third on: that of more is the
cost of making so many known, as no load here lasts as long as a workout. `storm`: wearables that send a frame each 30 s, all cut at once,
back at ten times the rate at which they came; `recovered_s` until the p99 of their acks is under 500 ms again.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import signal
import sys
import time
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, Final

from benchmarks.cluster import Cluster, cluster
from benchmarks.growth import CONNECTIONS, Cell, segments, send, users_of, whole
from benchmarks.machine import machine
from benchmarks.sizing import FLEET, write_page
from paceline.load_influx import InfluxWatch
from paceline.load_watch import KafkaWatch, Watcher, settle
from simulators.load import run_load
from simulators.load_plan import LoadPlan
from simulators.load_report import ACK, Bars, LoadReport, summary_ms
from simulators.load_run import LoadSettings
from tests.kafka_stages import append

BAR_MS: Final = 500.0
TOPICS: Final = ("log", "live", "state", "board", "event")
BARS: Final = Bars(dict.fromkeys((ACK, *TOPICS, "influx"), BAR_MS))
WARM: Final = "warm"
US: Final = 1_000_000
NODES: Final = 40  # boxes of the load at half
TRIES: Final = 4  # loads that look for the capacity: to a sixteenth of the burst
KEPT_UP_MS: Final = 1_000.0
STORM_CONNECTS_PER_S: Final = 200.0


def run(quick: bool) -> dict[str, Any]:
    """All figures; `--quick` is a tenth of it, and still starts everything."""
    wearables = 1_000 if quick else 10_000
    athletes, frames = (1_000, 3_000) if quick else (10_000, 30_000)
    live = LoadPlan("hz", NODES, NODES, 15 if quick else 45, name="half")
    slow = LoadPlan("slow", athletes * 2, NODES, 120 if quick else 150, frame_s=30)
    storm = LoadPlan("storm", wearables, wearables, 60 if quick else 120, frame_s=30, run=time.time_ns())
    tries = [replace(live, name=f"try{n}") for n in range(TRIES)]
    nodes = [user for plan in (live, slow, storm, *tries) for user in plan.usernames()]
    users = [*(user for name in (WARM, live.tenant) for user in users_of(name)), *nodes]
    with TemporaryDirectory(prefix="paceline-fleet-") as folder:
        figures = asyncio.run(_measured(Path(folder), users, Cell(athletes, 1, 2 * frames), live, slow, storm))
    return {"name": "fleet", "figures": figures, "machine": machine()}


async def _measured(folder: Path, users: Sequence[str], burst: Cell, live: LoadPlan, slow: LoadPlan, storm: LoadPlan) -> dict[str, Any]:
    figures: dict[str, Any] = {}
    async with cluster(folder, users) as c:
        warm = Cell(1_000, 1, 30_000)
        await asyncio.to_thread(send, c, WARM, warm, whole(warm.frames), start_us=time.time_ns() // 1000 - 3000 * US)
        await asyncio.to_thread(c.settled)
        passes = await asyncio.to_thread(passing, c, live.tenant, burst)
        rate = await capacity(c, live, passes)
        told = {"burst_frames_per_s": round(passes), "capacity_frames_per_s": round(rate)}
        figures["1 Hz"] = {**told, **await timed(c, live, rate / 2, warm=1 / 3)}
        print(json.dumps(figures), file=sys.stderr, flush=True)
        figures["30 s"] = await timed(c, slow, slow.frames_per_s, warm=0.4)
        print(json.dumps(figures), file=sys.stderr, flush=True)
        figures["storm"] = await storming(c, storm)
    return figures


def passing(c: Cluster, tenant: str, cell: Cell) -> float:
    """Frames a second of a burst that pass through everything."""
    append(c.kafka.bootstrap, segments(tenant, cell.athletes // CONNECTIONS, 20, 200))  # 60 m each 600 m: short runs cross some
    known, frames = whole(cell.athletes), whole(cell.frames)
    start_us = time.time_ns() // 1000 - (known + frames) * cell.samples * US // cell.athletes - 600 * US
    send(c, tenant, cell, known, start_us=start_us)
    c.settled()
    began_s = time.monotonic()
    send(c, tenant, cell, frames, start_us=start_us, first=known // CONNECTIONS)
    c.passed()
    return frames / (time.monotonic() - began_s)


async def capacity(c: Cluster, plan: LoadPlan, burst: float) -> float:
    """The greatest rate that everybody keeps up with, in frames a second, to a sixteenth of a burst; 0: of none that was tried."""
    kept, lost = 0.0, burst
    for n in range(TRIES):
        rate = (kept + lost) / 2
        tried = replace(plan, name=f"try{n}", seconds=plan.seconds * 2 / 3)
        _, report, _ = await at_rate(c, tried, rate, warm=2 / 3)
        late_ms = {part: times.whole.percentile_us(50) / 1000 for part, times in report.times().items() if times.whole.count}
        print(json.dumps({f"{rate:.0f} frames/s": {part: round(ms) for part, ms in late_ms.items()}}), file=sys.stderr, flush=True)
        if whole_and_timed(report) and max(late_ms.values()) <= KEPT_UP_MS:
            kept = rate
        else:
            lost = rate
    return kept


def whole_and_timed(report: LoadReport) -> bool:
    """Whether every frame came to each part that shows all of them, and each part was timed."""
    seen = all(part.owed is None or part.seen >= part.owed for part in report.watched.values())
    return seen and not report.counts.lost and all(times.whole.count for times in report.times().values())


async def timed(c: Cluster, plan: LoadPlan, rate: float, *, warm: float) -> dict[str, Any]:
    """The load at a rate, watched everywhere."""
    plan, report, used_s = await at_rate(c, plan, rate, warm=warm)
    told = report.to_json(BARS)
    parts = {part: told["parts_ms"][part] for part, times in report.times().items() if times.whole.count}
    return {
        "frames_per_s": round(plan.frames_per_s),
        "athletes": plan.athletes,
        "p50_ms": {part: t["p50"] for part, t in parts.items()},
        "p99_ms": {part: t["p99"] for part, t in parts.items()},
        "counts": told["counts"],
        "watched": told["watched"],
        "verdict": told["verdict"],
        "wrong": told["wrong"],
        "cores": {part: round(each / report.seconds, 2) for part, each in used_s.items()},
        "cores_used": round((sum(used_s.values()) + report.cpu_s) / report.seconds, 2),
    }


async def at_rate(c: Cluster, plan: LoadPlan, rate: float, *, warm: float) -> tuple[LoadPlan, LoadReport, dict[str, float]]:
    """A load of a rate, of which the first part `warm` does not count: as it ran, what came of it, and CPU-seconds of each part."""
    await asyncio.to_thread(c.settled)
    plan = replace(plan, athletes=max(int(rate * plan.frame_s), NODES), run=time.time_ns())
    settings = LoadSettings(plan, "127.0.0.1", c.broker.port, c.password, connects_per_s=20, warm_s=plan.seconds * warm, drain_s=120)
    before = c.cpu()
    report = await watched(c, settings)
    return plan, report, {part: after - before[part] for part, after in c.cpu().items()}


async def watched(c: Cluster, settings: LoadSettings) -> LoadReport:
    """Run a load and see where its frames get to."""
    watchers: list[Watcher] = [KafkaWatch(c.kafka_settings, TOPICS, stamped=True), InfluxWatch(c.influx_settings)]

    def began(plan: LoadPlan) -> None:
        for watcher in watchers:
            watcher.begin(plan, plan.start_us + round(settings.warm_s * 1e6))

    report = await run_load(settings, 1, began)
    report.watched = await asyncio.to_thread(settle, watchers, report.counts.stored, settings.drain_s)
    return report


async def storming(c: Cluster, plan: LoadPlan) -> dict[str, Any]:
    """All links cut at a third of the time."""
    settings = LoadSettings(
        plan, "127.0.0.1", c.broker.port, c.password, connects_per_s=STORM_CONNECTS_PER_S, storm_at_s=plan.seconds / 3, drain_s=120
    )
    report = await run_load(settings, 2)
    counts = report.counts
    return {
        "connections": plan.connections,
        "connects_per_s": STORM_CONNECTS_PER_S * settings.storm_factor,
        "lost": counts.lost + counts.not_taken + counts.refused,
        "sent_again": counts.sent_again,
        "all_back_s": None if report.back_s is None else round(report.back_s, 1),
        "recovered_s": report.recovered_s(ACK, BAR_MS),
        "ack_ms": summary_ms(report.parts[ACK].whole),
    }


def main() -> None:
    reader = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    reader.add_argument("--quick", action="store_true", help="a tenth of it")
    reader.add_argument("--json", type=Path, help="write the figures to this file")
    reader.add_argument("--write", action="store_true", help="write docs/figures/fleet.json and the table of docs/scaling.md")
    given = reader.parse_args()
    signal.signal(signal.SIGTERM, signal.default_int_handler)  # so that all servers end with us
    text = json.dumps(run(given.quick), indent=2) + "\n"
    for path in [*([given.json] if given.json else []), *([FLEET] if given.write else [])]:
        path.write_text(text)
    if given.write:
        write_page()
    print(text)


if __name__ == "__main__":
    main()
