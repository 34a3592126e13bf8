"""The spool: CPU per frame (append, commit, read, free, delete), bytes per row on disk, and what a day at 46 frames/s writes to the disk.

Baselines of the same run: plain SQLite (WAL, synchronous FULL) with one commit a frame, and one unkeyed `executemany` per 100 frames.
`gb_per_day_46fps` counts `write_bytes` of /proc/self/io (whole 4 KiB pages handed to the storage, WAL and checkpoints included) over a
stretch of real time at 46 frames/s with everything freed; it is 0 on tmpfs. With the write budget of a memory card; without it beside.
CPU per frame is the least of five turns, taken in turn with the batch baseline: neighbours on a shared core only ever add.
"""

from __future__ import annotations

import asyncio
import json
import random
import sqlite3
import sys
import tempfile
import time
from dataclasses import replace
from pathlib import Path

from benchmarks.machine import cpu_s, machine, written_bytes
from gateway.spool import Spool, SpoolRow, SpoolSettings

GROUP = 100
FRAME_BYTES = 110  # one `motion.1` frame of a few samples
_FPS = 46
_TURNS = 5


def run(quick: bool) -> dict[str, object]:
    """All figures; about 20 s when `quick`, else three minutes."""
    frames = 20_000 if quick else 200_000
    seconds = 6.0 if quick else 60.0
    with tempfile.TemporaryDirectory(dir=".", prefix=".bench-spool-") as folder:
        root = Path(folder).resolve()
        cpu_us = batch_us = float("inf")
        for turn in range(_TURNS):
            cpu_us = min(cpu_us, asyncio.run(_grouped(root / f"cpu-{turn}.db", frames)))
            batch_us = min(batch_us, _plain(root / f"batch-{turn}.db", frames, GROUP))
        bytes_per_frame = asyncio.run(_bytes_per_frame(root / "size.db", frames // 4))
        card = asyncio.run(_steady(root / "card.db", seconds, 4.0))
        free = asyncio.run(_steady(root / "free.db", seconds, 0.0))
        single_us = _plain(root / "single.db", frames // 20, 1)
    return {
        "name": "spool",
        "figures": {
            "cpu_us_per_frame": round(cpu_us, 2),
            "bytes_per_frame": round(bytes_per_frame, 1),
            "frame_bytes": FRAME_BYTES,
            "gb_per_day_46fps": round(card, 2),
            "gb_per_day_46fps_no_budget": round(free, 2),
            "ratio_to_commit_per_frame": round(single_us / cpu_us, 1),
            "ratio_to_plain_batch": round(batch_us / cpu_us, 2),
        },
        "baseline": {"commit_per_frame_cpu_us": round(single_us, 1), "plain_batch_insert_cpu_us": round(batch_us, 2)},
        "machine": machine(),
    }


def _rows(count: int) -> list[SpoolRow]:
    rng = random.Random(46)
    return [SpoolRow(rng.randbytes(FRAME_BYTES), f"strap-{i % 30:02d}") for i in range(count)]


def _numbered(rows: list[SpoolRow], turn: int) -> list[SpoolRow]:
    """The rows as the next frames of their devices, which the spool has to remember."""
    each = [len(range(device, len(rows), 30)) for device in range(30)]
    return [replace(row, number=(i % 30, turn * each[i % 30] + i // 30)) for i, row in enumerate(rows)]


async def _grouped(path: Path, frames: int) -> float:
    """CPU us per frame of the whole way at one commit per 100 frames: append, read for the uplink, free, delete, close."""
    settings = SpoolSettings(min_window_s=0.0, max_window_s=0.0)
    rows = _rows(GROUP)
    groups = [_numbered(rows, turn) for turn in range(frames // GROUP)]
    spool = await Spool.open(path, settings)
    start = cpu_s()
    for group in groups:
        first = await spool.append(group)
        for at in range(first, first + GROUP, 30):
            assert spool.read(at, 30, 64_000)
        spool.free([(first, first + GROUP - 1)])
    await spool.close()
    return (cpu_s() - start) / frames * 1e6


async def _bytes_per_frame(path: Path, frames: int) -> float:
    spool = await Spool.open(path, SpoolSettings(min_window_s=0.0, max_window_s=0.0))
    before = spool.stats().bytes
    rows = _rows(GROUP)
    for _ in range(frames // GROUP):
        await spool.append(rows)
    used = spool.stats().bytes - before
    await spool.close()
    return used / (frames // GROUP * GROUP)


async def _steady(path: Path, seconds: float, budget_gb_day: float) -> float:
    """GB a day at 46 frames/s, each acknowledged at once."""
    spool = await Spool.open(path, SpoolSettings(write_budget_gb_day=budget_gb_day))
    row = _rows(1)

    def done(first_n: int | None, error: Exception | None) -> None:
        assert first_n is not None, error
        spool.free([(first_n, first_n)])

    start, written = time.monotonic(), written_bytes()
    count = 0
    while (now := time.monotonic() - start) < seconds:
        while count < now * _FPS:
            spool.append_nowait(row, done)
            count += 1
        await asyncio.sleep(1 / _FPS / 2)
    await spool.close()
    return (written_bytes() - written) / count * _FPS * 86_400 / 1e9


def _plain(path: Path, frames: int, group: int) -> float:
    """CPU us per frame of SQLite alone: unkeyed rows, one commit per `group`."""
    link = sqlite3.connect(path, isolation_level=None)
    link.execute("PRAGMA journal_mode=WAL")
    link.execute("PRAGMA synchronous=FULL")
    link.execute("CREATE TABLE plain(frame BLOB)")
    batch = [(row.frame,) for row in _rows(group)]
    start = cpu_s()
    for _ in range(frames // group):
        link.execute("BEGIN")
        link.executemany("INSERT INTO plain VALUES (?)", batch)
        link.execute("COMMIT")
    used = cpu_s() - start
    link.close()
    return used / (frames // group * group) * 1e6


if __name__ == "__main__":
    print(json.dumps(run(quick="--quick" in sys.argv), indent=2))
