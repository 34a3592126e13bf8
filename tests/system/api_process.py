"""An API as a process of its own, over a state file the test goes on writing: `python -m tests.system.api_process FOLDER STUCK_S`, with
`on-kafka` that of a cluster, whose Kafka is away: reads need none."""

from __future__ import annotations

import asyncio
import resource
import signal
import sys
from collections.abc import Generator
from contextlib import contextmanager
from pathlib import Path

from broker.kafka import KafkaSettings
from paceline.supervise import free_port
from processors.api import ApiOptions, live, serve_api
from processors.api.opening import LogParts, open_services
from processors.kafka_changes import KafkaChanges
from processors.kafka_log import KafkaLog
from processors.log import SqliteLog
from tests.api_stores import clock_from_now

ON_KAFKA = "on-kafka"


@contextmanager
def away() -> Generator[LogParts]:
    """The log of a cluster that nobody reaches."""
    kafka = KafkaSettings(bootstrap="127.0.0.1:9")
    with KafkaLog(kafka) as frames, KafkaChanges(kafka) as changes:
        yield LogParts(changes, frames, lambda _tenant: 0)


async def serve(folder: Path) -> None:
    """Print the port once it listens; serve until SIGTERM."""
    stop = asyncio.Event()
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, stop.set)
    port = free_port()
    options = ApiOptions("gym", port=port, token="site", token_file=folder / "tokens.json")
    with (
        away() if ON_KAFKA in sys.argv else SqliteLog.open(folder / "log.db") as log,
        open_services(
            log,
            folder / "state.db",
            folder / "nodes",
            "gym",
            nodes=dict,
            latency=lambda: {"p50": 0.0, "p95": 0.0, "p99": 0.0},
            clock_us=clock_from_now(),
        ) as services,
    ):
        await serve_api(services, options, stop, lambda: print(port, flush=True))


if __name__ == "__main__":
    hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    live.STUCK_S = float(sys.argv[2])  # pyright: ignore[reportConstantRedefinition]
    asyncio.run(serve(Path(sys.argv[1])))
