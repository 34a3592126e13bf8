"""What a load is tried on: a real mosquitto with the configuration the product makes, and `paceline`'s ingest behind it as a process."""

from __future__ import annotations

import asyncio
import subprocess
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

from broker.frames import decode_frame
from processors.log import SqliteLog
from simulators.load_plan import LoadPlan
from tests.servers import PROJECT, ServedBroker, start_mosquitto

INGEST_USER = "platform/ingest"
FEW = 1000


@asynccontextmanager
async def load_site(folder: Path, plan: LoadPlan) -> AsyncIterator[ServedBroker]:
    """The broker that knows the nodes of the plan, while ingest writes `folder / "log.db"`."""
    async with start_mosquitto(folder, users=(INGEST_USER, *plan.usernames())) as broker:
        command = [
            sys.executable,
            "-m",
            "tests.system.ingest_process",
            str(broker.port),
            broker.password(INGEST_USER),
            str(folder / "log.db"),
        ]
        process = subprocess.Popen(command, cwd=PROJECT)
        try:
            yield broker
        finally:
            process.terminate()
            code = await asyncio.to_thread(process.wait, 60)
        assert code == 0


def logged(folder: Path) -> list[tuple[str, int]]:
    """Subject and number of every frame in the log, in its order."""
    found: list[tuple[str, int]] = []
    with SqliteLog.open(folder / "log.db") as log:
        at = 0
        while (read := log.read(at, FEW))[1]:
            for record in read[1]:
                frame = decode_frame(record.body)
                found.append((frame.subject, frame.seq))
            at = read[0] + len(read[1]) - 1
    return found
