"""From what was measured (`benchmarks.growth`) to half a million athletes at once, and to a million for a month: arithmetic, and nothing
else. `python -m benchmarks.sizing` prints it; the tables of docs/scaling.md are made of it and held to it by a test.

Costs are those of the measured cell with the most athletes of each regime. Memory, disk and network follow from bytes a frame.
"""

from __future__ import annotations

import json
import math
import re
from pathlib import Path
from typing import Any, Final, NamedTuple

PROJECT: Final = Path(__file__).parent.parent
FIGURES: Final = PROJECT / "docs" / "figures" / "growth.json"
FLEET: Final = PROJECT / "docs" / "figures" / "fleet.json"
PAGE: Final = PROJECT / "docs" / "scaling.md"
PARTS: Final = ("mosquitto", "ingest", "kafka", "live", "finish", "boards", "view", "sink", "influxd")

AT_ONCE: Final = 500_000
BUSY: Final = 0.5  # of a core that is planned for: the other half is for peaks and for the death of a neighbour
MACHINE_CORES: Final = 16
COPIES: Final = 3  # of each record on Kafka
PARTITIONS: Final = 64
RAW_DAYS: Final = 7  # of telemetry.frames and of the words between stages
SAMPLES_DAYS: Final = 1
INFLUX_DAYS: Final = 2
BY_TENANT: Final = frozenset({"view", "sink"})  # whose work divides by tenant (view.part)
MOST_PARTS: Final = 64
PASSED_US: Final = 1.5  # CPU of a state that a part of the view passes over, Kafka's client included: `python -m benchmarks.view_kafka`
PARTS_SHOWN: Final = (1, 2, 4, 8, 16, 32, 64)
STAGES: Final = frozenset({"live", "finish", "boards"})
MONTH_DAYS: Final = 30
BILLED: Final = 1_000_000  # athletes
HOURS_A_DAY: Final = 1.0  # each of them trains
WORDS: Final = ("stage.results", "stage.boards")
LEFT: Final = ("activities.state", "boards.state", "events")  # of a workout that has ended
CHANGELOGS: Final = ("live.state", "activities.state", "boards.state")


class Regime(NamedTuple):
    """How athletes send."""

    name: str
    samples: int  # a frame

    @property
    def frames_per_s(self) -> float:
        return AT_ONCE / self.samples


REGIMES: Final = (Regime("frames of 30 s", 30), Regime("live at 1 Hz", 1))


def growth_table(figures: dict[str, Any]) -> str:
    """What was measured: CPU-seconds per million samples."""
    columns = (*PARTS, "all")

    def row(first: str, second: object, costs: dict[str, float]) -> str:
        return f"| {first} | {second} | " + " | ".join(f"{costs[part]:.2f}" for part in columns) + " |"

    cells = [row(f"{c['athletes']:,}", c["samples_per_frame"], c["cpu_s_per_million_samples"]) for c in figures["growth"]]
    ends = row(f"{figures['ends']['athletes']:,} workouts end", 30, figures["ends"]["cpu_s_per_million_samples"])
    return "\n".join([f"| athletes | samples a frame | {' | '.join(columns)} |", "|" + "---|" * (len(columns) + 2), *cells, ends])


def bytes_table(figures: dict[str, Any]) -> str:
    """What was measured: bytes a frame on disk, of each regime."""
    cells = [measured(figures, regime.samples) for regime in REGIMES]
    kinds = sorted({kind for cell in cells for kind in cell["bytes_per_frame"]})
    head = "| on disk | " + " | ".join(f"bytes a frame, {r.name}" for r in REGIMES) + " |"
    rows = [f"| {kind} | " + " | ".join(f"{cell['bytes_per_frame'].get(kind, 0):,.1f}" for cell in cells) + " |" for kind in kinds]
    return "\n".join([head, "|---|---|---|", *rows])


def measured(figures: dict[str, Any], samples: int) -> dict[str, Any]:
    """The measured cell with the most athletes of a regime."""
    return max((c for c in figures["growth"] if c["samples_per_frame"] == samples), key=lambda c: c["athletes"])


def cores(figures: dict[str, Any], regime: Regime) -> dict[str, float]:
    """Cores that each part keeps busy with all athletes at once, workouts' ends included."""
    costs = measured(figures, regime.samples)["cpu_s_per_million_samples"]
    ends = figures["ends"]["cpu_s_per_million_samples"]["finish"]
    return {part: (costs[part] + (ends if part == "finish" else 0.0)) * AT_ONCE / 1e6 for part in PARTS}


def passed_cores(regime: Regime) -> float:
    """Cores that each part of the view spends on states of other parts' tenants, about: all of them."""
    return PASSED_US * regime.frames_per_s / 1e6


def part_cores(part: str, busy_cores: float, parts: int, regime: Regime) -> float:
    """Cores of one of so many equal parts of the view, or of the sink beside it: that reads only what its view took."""
    return busy_cores / parts + (passed_cores(regime) if part == "view" and parts > 1 else 0.0)


def parts_needed(busy: dict[str, float]) -> int:
    """How many parts there must be so that what view and sink of each take is planned for half a core; 64 where that is not enough."""
    return min(max(processes(part, busy[part]) for part in BY_TENANT), MOST_PARTS)


def parts_table(figures: dict[str, Any]) -> str:
    """Half a million at once: cores of a part of the view and of its sink, and what all views together read from Kafka."""
    head = " | ".join(f"view, {r.name} | its sink | views read, MB/s" for r in REGIMES)
    lines = [f"| parts | {head} |", "|---|" + "---|---|---|" * len(REGIMES)]
    for parts in PARTS_SHOWN:
        cells: list[str] = []
        for regime in REGIMES:
            busy = cores(figures, regime)
            each = (part_cores(part, busy[part], parts, regime) for part in ("view", "sink"))
            cells += [*(f"{one:.2f}" for one in each), f"{view_reads(figures, regime) * parts:,.0f}"]
        lines.append(f"| {parts} | {' | '.join(cells)} |")
    return "\n".join(lines)


def view_reads(figures: dict[str, Any], regime: Regime) -> float:
    """Megabytes a second that each view is sent by Kafka, whatever its part."""
    sizes = measured(figures, regime.samples)["bytes_per_frame"]
    return sum(sizes.get(kind, 0.0) for kind in (*CHANGELOGS, "events", "live.samples")) * regime.frames_per_s / 1e6


def told_processes(part: str, busy: dict[str, float]) -> str:
    """As the table says it."""
    return str(parts_needed(busy) if part in BY_TENANT else processes(part, busy[part]))


def processes(part: str, busy_cores: float) -> int:
    """How many of a part, each planned for half a core; Kafka and InfluxDB use the cores of a machine."""
    each = MACHINE_CORES * BUSY if part in ("kafka", "influxd") else BUSY
    return max(math.ceil(busy_cores / each), COPIES if part == "kafka" else 1)


def sizing_table(figures: dict[str, Any]) -> str:
    """Half a million at once: cores, and what they are spread over."""
    lines = [
        "| part | " + " | ".join(f"cores, {r.name} | processes" for r in REGIMES) + " | what limits it |",
        "|---|" + "---|---|" * len(REGIMES) + "---|",
    ]
    busy = [cores(figures, regime) for regime in REGIMES]
    for part in PARTS:
        counts = [processes(part, each[part]) for each in busy]
        told = " | ".join(f"{each[part]:.1f} | {told_processes(part, each)}" for each in busy)
        lines.append(f"| {part} | {told} | {_limit(part, counts)} |")
    sums = [sum(each.values()) for each in busy]
    lines.append("| all | " + " | ".join(f"{total:.1f} | {machines(total)} machines" for total in sums) + f" | of {MACHINE_CORES} cores |")
    return "\n".join(lines)


def machines(total_cores: float) -> int:
    """How many machines so many cores are spread over: at least one for each copy on Kafka."""
    return max(math.ceil(total_cores / (MACHINE_CORES * BUSY)), COPIES)


def _limit(part: str, counts: list[int]) -> str:
    if part in STAGES:
        over = [r.name for r, count in zip(REGIMES, counts, strict=True) if count > PARTITIONS]
        return f"{PARTITIONS} replicas" + (f": not enough for {' and '.join(over)}" if over else "")
    return {
        "mosquitto": "one thread a broker; a connection is a file",
        "ingest": "`$share` divides it",
        "kafka": "brokers",
        "view": "parts by tenant; each is sent everything",
        "sink": "one beside each view",
        "influxd": "500,000 series a bucket",
    }[part]


def storage_rows(figures: dict[str, Any], samples_a_day: float, regime: Regime) -> dict[str, float]:
    """Bytes that lie on disk at any time, by kind, with copies; of so many samples a day."""
    sizes = measured(figures, regime.samples)["bytes_per_frame"]
    a_day = samples_a_day / regime.samples
    words = sum(sizes.get(topic, 0.0) for topic in WORDS)
    return {
        "frames on Kafka": sizes.get("telemetry.frames", 0.0) * a_day * RAW_DAYS * COPIES,
        "words between stages on Kafka": words * a_day * RAW_DAYS * COPIES,
        "believed samples on Kafka": sizes.get("live.samples", 0.0) * a_day * SAMPLES_DAYS * COPIES,
        "changelogs on Kafka, six hours of replaced values": sum(sizes.get(t, 0.0) for t in CHANGELOGS) * a_day / 4 * COPIES,
        "InfluxDB, live samples": sizes.get("influxdb", 0.0) * a_day * INFLUX_DAYS,
    }


def traffic(figures: dict[str, Any], regime: Regime) -> dict[str, float]:
    """Megabytes a second with all athletes at once: what comes in, what Kafka writes in all copies, what is read from it."""
    sizes = measured(figures, regime.samples)["bytes_per_frame"]
    topics = {kind: size for kind, size in sizes.items() if kind not in ("tracks", "influxdb", "stage state", "view")}
    frame, written = sizes.get("telemetry.frames", 0.0), sum(topics.values())
    return {
        "frames, one copy": frame * regime.frames_per_s / 1e6,
        "changelogs, one copy": sum(sizes.get(t, 0.0) for t in CHANGELOGS) * regime.frames_per_s / 1e6,
        "Kafka writes, all copies": written * COPIES * regime.frames_per_s / 1e6,
        "Kafka is read (stages, view)": written * regime.frames_per_s / 1e6,
    }


def traffic_table(figures: dict[str, Any]) -> str:
    """Half a million at once: megabytes a second."""
    found = [traffic(figures, regime) for regime in REGIMES]
    rows = [f"| {kind} | " + " | ".join(f"{each[kind]:,.1f}" for each in found) + " |" for kind in found[0]]
    return "\n".join(["| MB/s | " + " | ".join(r.name for r in REGIMES) + " |", "|---|---|---|", *rows])


def bill_table(figures: dict[str, Any]) -> str:
    """A million athletes for a month, an hour a day each."""
    a_day = BILLED * HOURS_A_DAY * 3600
    millions = a_day * MONTH_DAYS / 1e6
    ends = figures["ends"]["cpu_s_per_million_samples"]["finish"]
    hours = [(measured(figures, r.samples)["cpu_s_per_million_samples"]["all"] + ends) * millions / 3600 for r in REGIMES]
    rows = ["| core-hours a month, at capacity | " + " | ".join(f"{each:,.0f}" for each in hours) + " |"]
    rows.append(f"| core-hours a month, {BUSY:.0%} busy | " + " | ".join(f"{each / BUSY:,.0f}" for each in hours) + " |")
    stores = [storage_rows(figures, a_day, regime) for regime in REGIMES]
    rows += [f"| TB: {kind} | " + " | ".join(f"{each[kind] / 1e12:,.2f}" for each in stores) + " |" for kind in stores[0]]
    track = figures["ends"]["bytes_per_sample"]["tracks"]
    rows.append(f"| TB: tracks, each month anew ({track:.1f} B a sample) |" + f" {track * a_day * MONTH_DAYS / 1e12:,.2f} |" * len(REGIMES))
    left = workout_bytes(figures)
    told = f"results and events on Kafka, each month anew ({left / 1000:.0f} kB a workout before compaction, one a day)"
    rows.append(f"| TB: {told} |" + f" {left * BILLED * MONTH_DAYS * COPIES / 1e12:,.2f} |" * len(REGIMES))
    return "\n".join(
        [f"| {BILLED:,} athletes, {HOURS_A_DAY:g} h a day | " + " | ".join(r.name for r in REGIMES) + " |", "|---|---|---|", *rows]
    )


def workout_bytes(figures: dict[str, Any]) -> float:
    """What a finished workout leaves on Kafka, one copy: its results, entries of boards, events."""
    ends = figures["ends"]
    return sum(ends["bytes_per_sample"].get(kind, 0.0) for kind in LEFT) * ends["samples_of_each"]


def machine_line(made: dict[str, Any]) -> str:
    """Where it was measured."""
    m = made["machine"]
    return f"Measured on {m['cores']} cores ({m['cpu']}, Python {m['python']}), load {m['load_1min']} at the end."


def latency_table(fleet: dict[str, Any]) -> str:
    """How long a frame takes to each part at half of what passes, and a storm."""
    figures = fleet["figures"]
    regimes = {name: said for name, said in figures.items() if name != "storm"}
    parts = list(regimes["1 Hz"]["p99_ms"])
    head = "| ms after a frame was due, p50 / p99 | " + " | ".join(parts) + " |"
    rows = [
        f"| {name}: {said['frames_per_s']:,} frames/s, "
        + (f"half of {said['capacity_frames_per_s']:,}" if "capacity_frames_per_s" in said else f"{said['athletes']:,} athletes")
        + " | "
        + " | ".join(f"{said['p50_ms'][part]:,.0f} / {said['p99_ms'][part]:,.0f}" if part in said["p99_ms"] else "-" for part in parts)
        + " |"
        for name, said in regimes.items()
    ]
    lost = sum(said["counts"]["lost"] for said in regimes.values())
    doubled = sum(w["doubled"] for said in regimes.values() for part, w in said["watched"].items() if part != "log")
    s = figures["storm"]
    again = "not in that run" if s["recovered_s"] is None else f"after {s['recovered_s']:.0f} s"
    back = "not all" if s["all_back_s"] is None else f"all after {s['all_back_s']:.1f} s"
    storm = (
        f"Frames lost: {lost}, doubled: {doubled}. Storm: {s['connections']:,} connections, cut at once, came back at "
        f"{s['connects_per_s']:,.0f} a second, {back}; lost {s['lost']}; p99 of acks under 500 ms again {again}."
    )
    return "\n".join([machine_line(fleet), "", head, "|" + "---|" * (len(parts) + 1), *rows, "", storm])


def blocks(made: dict[str, Any], fleet: dict[str, Any] | None = None) -> dict[str, str]:
    """The tables of docs/scaling.md by the name of their mark."""
    figures = made["figures"]
    return {
        "latency": latency_table(fleet) if fleet else "Not yet run on a machine that had time.",
        "growth": f"{machine_line(made)}\n\n{growth_table(figures)}",
        "bytes": bytes_table(figures),
        "sizing": sizing_table(figures),
        "parts": parts_table(figures),
        "traffic": traffic_table(figures),
        "bill": bill_table(figures),
    }


def with_blocks(page: str, made: dict[str, Any], fleet: dict[str, Any] | None) -> str:
    """The page with its tables made anew."""
    for name, text in blocks(made, fleet).items():
        page, count = re.subn(rf"(<!-- {name}:[^>]*-->\n).*?(<!-- end -->)", lambda m, t=text: f"{m[1]}{t}\n{m[2]}", page, flags=re.DOTALL)
        if count != 1:
            raise ValueError(f"docs/scaling.md has {count} blocks {name}")
    return page


def kept() -> tuple[dict[str, Any], dict[str, Any] | None]:
    """The figures in docs/figures: of growth, and of the fleet where there are some."""
    return json.loads(FIGURES.read_text()), json.loads(FLEET.read_text()) if FLEET.exists() else None


def write_page() -> None:
    """Put the tables of the kept figures into docs/scaling.md."""
    PAGE.write_text(with_blocks(PAGE.read_text(), *kept()))


if __name__ == "__main__":
    for title, text in blocks(*kept()).items():
        print(f"## {title}\n{text}\n")
