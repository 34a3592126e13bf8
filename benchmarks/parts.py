"""The platform's parts as processes of their own, for `end_to_end`: `python -m benchmarks.parts ingest|process FOLDER HOST PORT`.

They are the real services on real stores; only the front door around them is left out. `process` answers SIGTERM with one JSON line:
position, counters and latency. Passwords come from the environment variable PACELINE_PART_PASSWORD.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import signal
import sys
from pathlib import Path

from processors.bulk_client import BulkSettings
from processors.ingest import IngestService
from processors.log import SqliteLog
from processors.run_kernel import warm_up
from processors.runner import Runner
from processors.stores import ReadStore


async def ingest(folder: Path, host: str, port: int) -> None:
    """Ingest until SIGTERM."""
    with SqliteLog.open(folder / "log.db") as log:
        service = IngestService(BulkSettings(host, port, "platform/ingest", os.environ["PACELINE_PART_PASSWORD"]), log)
        running = asyncio.create_task(service.run())
        await service.ready.wait()
        print("ready", flush=True)
        await _stopped()
        running.cancel()
        await asyncio.gather(running, return_exceptions=True)


async def process(folder: Path) -> None:
    """Follow the log until SIGTERM."""
    with SqliteLog.open(folder / "log.db") as log:
        runner = Runner(log, folder / "state.db")
        warm_up()
        running = asyncio.create_task(runner.run())
        print("ready", flush=True)
        await _stopped()
        await runner.finish(running, 30)
        store = ReadStore(folder / "state.db")
        print(json.dumps({"position": runner.position, "counters": store.counters(), "latency_ms": runner.latency.quantiles()}), flush=True)
        store.close()
        runner.close()


async def _stopped() -> None:
    stop = asyncio.Event()
    for name in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(name, stop.set)
    await stop.wait()


if __name__ == "__main__":
    with contextlib.suppress(KeyboardInterrupt):
        if sys.argv[1] == "ingest":
            asyncio.run(ingest(Path(sys.argv[2]), sys.argv[3], int(sys.argv[4])))
        else:
            asyncio.run(process(Path(sys.argv[2])))
