"""Two devices on one athlete: the same run recorded twice, replayed as two athletes, and their times on segments of the route.

Real input for segments, boards and finishing: `python -m benchmarks.pairs FOLDER --out docs/figures/pairs.md` writes a table of both
elapsed times per segment. Everything goes through the log, the runner and its stages; live first, then both files are uploaded, which
must correct each activity once and count every event once.
"""

from __future__ import annotations

import argparse
import contextlib
import statistics
import sys
import tempfile
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from broker.errors import BadInputError
from broker.events.envelope import decode_structured
from broker.frames import Clock, encode_frame
from broker.ids import subject_of
from broker.logrecord import Kind, LogRecord
from broker.recorded import frames_of, identity_of, span_of
from broker.reference import SegmentRef, encode_reference
from device_profiles.files import read_recording
from processors.geometry import distance_m, units
from processors.log import SqliteLog
from processors.results import Effort
from processors.results_db import efforts_of_segment, events, finals
from processors.runner import Runner
from processors.segment_board import SegmentBoard
from processors.segment_rules import segment_ref
from processors.state_db import connect
from processors.uploads import Uploads

TENANT: Final = "pairs"
PAIRS: Final = (
    ("20210507_run_garmin_fenix_6.fit", "20210507_run_coros_pace_2.fit"),
    ("garmin-vs-polar_27-05-2024_garmin.gpx", "garmin-vs-polar_27-05-2024_polar.gpx"),
    ("garmin-vs-polar_07-06-2024_garmin.gpx", "garmin-vs-polar_07-06-2024_polar.gpx"),
)
EVERY_M: Final = 1_500.0
LENGTH_M: Final = 600.0
_US: Final = 1_000_000


@dataclass(frozen=True, slots=True)
class Outcome:
    """What a pair came to: per segment the efforts of both, live and after the upload; and how often each event of activities was told."""

    segments: tuple[SegmentRef, ...]
    live: dict[str, list[Effort]]
    final: dict[str, list[Effort]]
    activities: Counter[str]
    live_told: dict[str, int]
    told: dict[str, int]
    told_again: dict[str, int]
    boards: dict[str, SegmentBoard]

    def disagreement_ms(self) -> list[int]:
        """|difference| of the two athletes' times, one per segment both have exactly one final effort on."""
        found: list[int] = []
        for efforts in self.final.values():
            by = {e.subject: e for e in efforts}
            if len(by) == 2 and len(efforts) == 2:
                a, b = by.values()
                found.append(abs(a.elapsed_ms - b.elapsed_ms))
        return found


def segments_of(path: Path) -> list[SegmentRef]:
    """Segments of 600 m every 1.5 km of the recorded route."""
    points = [(p.lat, p.lon) for p in read_recording(path).points if p.lat is not None and p.lon is not None]
    made: list[SegmentRef] = []
    line: list[tuple[float, float]] = []
    along_m, next_m = 0.0, 300.0
    before: tuple[float, float] | None = None
    for lat, lon in points:
        along_m += distance_m(units(*before), units(lat, lon)) if before is not None else 0.0
        before = (lat, lon)
        if along_m < next_m:
            continue
        line.append((lat, lon))
        if along_m >= next_m + LENGTH_M:
            name = f"km-{next_m / 1000:.1f}"
            with contextlib.suppress(BadInputError):  # where the route stands still or turns back on its own start
                made.append(segment_ref(TENANT, name, name, "any", line))
            line, next_m = [], next_m + EVERY_M
    return made


def replay_pair(a: Path, b: Path, folder: Path, *, lost: int = 0) -> Outcome:
    """Both recordings as two athletes: streamed frame by frame as they happened, closed and finished, then uploaded twice as files.

    `lost`: of so many frames one is never sent live, as from a watch with a poor link; the file still has it.
    """
    chosen = tuple(segments_of(a))
    now_us = [0]
    with SqliteLog.open(folder / "log.db") as log:
        runner = Runner(log, folder / "state.db", clock_us=lambda: now_us[0])
        now_us[0] = min(span_of(read_recording(p))[0] for p in (a, b))
        log.append([LogRecord(Kind.REFERENCE, TENANT, TENANT, "", now_us[0], encode_reference(s)) for s in chosen])
        records = [record for name, path in (("a", a), ("b", b)) for record in _streamed(path, name, lost)]
        records.sort(key=lambda r: r.appended_us)
        for at in range(0, len(records), 50):
            now_us[0] = records[min(at + 49, len(records) - 1)].appended_us
            log.append(records[at : at + 50])
            _settle(runner)
        live = _efforts(folder, chosen)
        for _ in range(2):
            now_us[0] += 700 * _US
            _settle(runner)
        live_told = _told(folder)
        uploads = Uploads(log, clock_us=lambda: now_us[0])
        told: list[dict[str, int]] = []
        for _ in range(2):
            for name, path in (("a", a), ("b", b)):
                uploads.accept(TENANT, name, path.name, path.read_bytes())
            now_us[0] += 700 * _US
            _settle(runner)
            told.append(_told(folder))
        runner.close()
    final = _efforts(folder, chosen)
    boards: dict[str, SegmentBoard] = {}
    for segment in chosen:
        boards[segment.id] = SegmentBoard(segment.id)
        boards[segment.id].load(final[segment.id])
    return Outcome(chosen, live, final, _activities(folder), live_told, told[0], told[1], boards)


def _streamed(path: Path, athlete: str, lost: int) -> list[LogRecord]:
    raw = path.read_bytes()
    recording = read_recording(path)
    subject = subject_of(TENANT, athlete)
    frames = frames_of(recording, identity_of(raw), samples=5, subject=subject, utc_offset_us=span_of(recording)[0], clock=Clock.RECORDED)
    return [
        LogRecord(Kind.FRAME, subject, TENANT, "box", f.t0_us + (f.utc_offset_us or 0) + 5 * _US, encode_frame(f))
        for f in frames
        if not lost or f.seq % lost
    ]


def _settle(runner: Runner) -> None:
    runner.drain()
    while runner.fire_wakes():
        runner.drain()


def _efforts(folder: Path, segments: Sequence[SegmentRef]) -> dict[str, list[Effort]]:
    db = connect(folder / "state.db", write=False)
    try:
        return {s.id: [e for e in efforts_of_segment(db, TENANT, s.id) if not e.removed] for s in segments}
    finally:
        db.close()


def _activities(folder: Path) -> Counter[str]:
    db = connect(folder / "state.db", write=False)
    try:
        return Counter(row.summary.subject for row in finals(db))
    finally:
        db.close()


def _told(folder: Path) -> dict[str, int]:
    """How many events of each type the outbox holds."""
    db = connect(folder / "state.db", write=False)
    try:
        return dict(Counter(decode_structured(row.body).type for row in events(db, limit=1 << 30)))
    finally:
        db.close()


def table(a: Path, b: Path, outcome: Outcome) -> str:
    """Markdown: both elapsed times per segment, live and final."""
    lines = [
        f"## {a.name} and {b.name}",
        "",
        "| segment | a live s | b live s | a final s | b final s | final a - b s |",
        "|---|---|---|---|---|---|",
    ]
    for segment in outcome.segments:
        live = {e.subject[-1]: e.elapsed_ms for e in outcome.live[segment.id] if e.ordinal == 0}
        final = {e.subject[-1]: e.elapsed_ms for e in outcome.final[segment.id] if e.ordinal == 0}
        both = f"{(final['a'] - final['b']) / 1000:+.2f}" if len(final) == 2 else "-"
        cells = [_s(live.get("a")), _s(live.get("b")), _s(final.get("a")), _s(final.get("b"))]
        lines.append(f"| {segment.id} | {' | '.join(cells)} | {both} |")
    found = sorted(outcome.disagreement_ms())
    if found:
        p95 = found[min(int(len(found) * 0.95), len(found) - 1)]
        ends = f"|a - b| p50 {statistics.median(found) / 1000:.2f} s, p95 {p95 / 1000:.2f} s."
        lines += ["", f"Both on {len(found)} of {len(outcome.segments)} boards; {ends}"]
    return "\n".join(lines) + "\n"


def _s(elapsed_ms: int | None) -> str:
    return "-" if elapsed_ms is None else f"{elapsed_ms / 1000:.2f}"


def main(arguments: Sequence[str] | None = None) -> int:
    """Write the tables of all pairs found in a folder."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--out", type=Path)
    options = parser.parse_args(arguments)
    parts = [
        "# Two devices, one run: elapsed times per segment",
        "",
        "Segments of 600 m every 1.5 km of device a's recorded route; `live` as timed while the frames streamed in, `final` after the",
        "whole activity was smoothed and its file uploaded. Made by `python -m benchmarks.pairs`. Recordings:",
        "evgeniyarbatov/garmin-vs-polar and msimms/TestFilesForFitnessApps, both MIT.",
        "",
    ]
    for a, b in PAIRS:
        if (options.folder / a).exists():
            with tempfile.TemporaryDirectory() as folder:
                parts.append(
                    table(options.folder / a, options.folder / b, replay_pair(options.folder / a, options.folder / b, Path(folder)))
                )
    text = "\n".join(parts)
    if options.out is None:
        sys.stdout.write(text)
    else:
        options.out.write_text(text, "utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
