"""Reads of a segment board over keep-alive sockets, as walls and phones poll them, from a real server process.

`board_reads_per_s_per_core`: reads answered 304 by their ETag, per CPU-second of the server alone. `board_p95_ms`: from request to answer
at 500 reads a second over a hundred connections; `_whole` without an ETag. The baseline is the same read without an ETag, and the
smallest answer that goes through FastAPI. The same of `paceline api` on a cluster, over a state file made of what the boards stage and
`reference.changes` tell, as `paceline process view` makes it: keys that end in `_on_kafka`.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from benchmarks.machine import cpu_s_of, machine
from broker.kafka_topics import BOARDS_STATE, REFERENCE
from broker.reference import AthleteRef, SegmentRef, encode_reference
from processors import results_db
from processors.results import Effort, Phase, activity_id, effort_id
from processors.state_db import StateDb

BOARD = "/api/v1/segments/hill/board?limit=50"
AROUND = "/api/v1/segments/hill/board/around/a7?k=25"
CONNECTIONS = 32
READERS = 100
ATHLETES = 1_000
START_S = 60.0


def fill(state: Path) -> None:
    """A hill, and a thousand athletes with four efforts each."""
    store = StateDb(state)
    db = store.db
    db.execute("BEGIN")
    line = tuple((480000000 + i * 1000, 110000000) for i in range(61))
    results_db.put_reference(db, SegmentRef(tenant="gym", id="hill", name="Hill", points=line), 1)
    for n in range(ATHLETES):
        subject = f"gym/a{n}"
        results_db.put_reference(db, AthleteRef(tenant="gym", id=f"a{n}", name=f"Athlete {n}", birth_year=1950 + n % 50), 2 + n)
        for k in range(4):
            ident = activity_id(subject, k)
            ms = 200_000 + (n * 7919 + k * 104_729) % 300_000
            curve = tuple(ms * i // 64 for i in range(1, 65))
            results_db.put_effort(
                db,
                Effort(effort_id(ident, "hill", 0), "gym", "hill", subject, ident, 0, k * 10**9, ms, Phase.FINAL, 300, 150, None, curve, n),
            )
    db.execute("COMMIT")
    store.close()


class _Nowhere:
    """What the boards stage sends; here only its cells are wanted."""

    def send(
        self, topic: str, key: bytes, value: bytes | None, headers: Sequence[tuple[str, bytes]] = (), partition: int | None = None
    ) -> None:
        """Nobody hears it."""


def fill_view(state: Path) -> None:
    """The same hill as a view has it: efforts as words to the boards stage, its cells and the reference data into a file."""
    from processors.quix_boards import BoardsOnKafka
    from processors.row_mirror import MemoryCells
    from processors.shards import Message
    from processors.stage_words import EffortNow, encode_board_word
    from processors.state_view import Record, StateView

    with tempfile.TemporaryDirectory() as folder:
        plain = Path(folder) / "state.db"
        fill(plain)
        made = StateDb(plain)
        efforts = [results_db.effort(made.db, ident) for (ident,) in made.db.execute("SELECT id FROM effort ORDER BY version").fetchall()]
        known = [value for value, _ in results_db.references(made.db)]
        made.close()
    cells = MemoryCells()
    shard = BoardsOnKafka().open(0, cells, _Nowhere())
    words = [encode_board_word(EffortNow(e, n)) for n, e in enumerate(efforts) if e is not None]
    shard.take([Message(n, b"gym/hill", word, ()) for n, word in enumerate(words)])
    shard.flush()
    state.parent.mkdir(parents=True, exist_ok=True)
    store = StateDb(state)
    view = StateView(store)
    store.db.execute("BEGIN")
    view.take(Record(REFERENCE, 0, n, b"", encode_reference(value), ()) for n, value in enumerate(known))
    view.take(Record(BOARDS_STATE, 0, 0, key, value, ()) for key, value in cells.held.items())
    store.db.execute("COMMIT")
    store.close()


class Wire(asyncio.Protocol):
    """One keep-alive connection: a request, its whole answer, and again."""

    def __init__(self) -> None:
        self.transport: asyncio.Transport | None = None
        self._buffer = b""
        self._answer: asyncio.Future[tuple[int, bytes, bytes]] | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self.transport = transport

    def data_received(self, data: bytes) -> None:
        self._buffer += data
        head, found, rest = self._buffer.partition(b"\r\n\r\n")
        if not found or self._answer is None:
            return
        status = int(head[9:12])
        lower = head.lower()
        at = lower.find(b"content-length:")
        length = 0 if status == 304 or at < 0 else int(lower[at + 15 :].split(b"\r\n", 1)[0])
        if len(rest) < length:
            return
        self._buffer, answer, self._answer = rest[length:], self._answer, None
        answer.set_result((status, head, rest[:length]))

    async def ask(self, request: bytes) -> tuple[int, bytes, bytes]:
        """Send `request`; status, head and body of the answer."""
        assert self.transport is not None
        self._answer = asyncio.get_running_loop().create_future()
        self.transport.write(request)
        return await self._answer


def request_of(path: str, etag: str = "") -> bytes:
    condition = f"If-None-Match: {etag}\r\n" if etag else ""
    return f"GET {path} HTTP/1.1\r\nHost: 127.0.0.1\r\n{condition}\r\n".encode()


async def connect(port: int, count: int) -> list[Wire]:
    loop = asyncio.get_running_loop()
    return [(await loop.create_connection(Wire, "127.0.0.1", port))[1] for _ in range(count)]


async def rate(pid: int, port: int, request: bytes, expected: int, seconds: float) -> float:
    """Answers per CPU-second of the server, with every connection busy all the time."""
    wires = await connect(port, CONNECTIONS)
    asked = 0
    end = time.monotonic() + seconds

    async def poll(wire: Wire) -> None:
        nonlocal asked
        while time.monotonic() < end:
            status, _, _ = await wire.ask(request)
            assert status == expected, status
            asked += 1

    before = cpu_s_of(pid)
    await asyncio.gather(*(poll(wire) for wire in wires))
    used = cpu_s_of(pid) - before
    for wire in wires:
        assert wire.transport is not None
        wire.transport.close()
    return asked / used


async def p95_ms(port: int, request: bytes, per_s: float, seconds: float) -> float:
    """The time within which 95 of 100 reads are answered, `READERS` connections taking turns at a steady rate."""
    wires = await connect(port, READERS)
    took: list[float] = []

    async def poll(wire: Wire, first_s: float) -> None:
        at = start + first_s
        while at < start + seconds:
            await asyncio.sleep(max(0.0, at - time.monotonic()))
            asked = time.monotonic()
            await wire.ask(request)
            took.append((time.monotonic() - asked) * 1000)
            at += READERS / per_s

    start = time.monotonic() + 0.1
    await asyncio.gather(*(poll(wire, i / per_s) for i, wire in enumerate(wires)))
    for wire in wires:
        assert wire.transport is not None
        wire.transport.close()
    return sorted(took)[int(len(took) * 0.95)]


async def measure(pid: int, port: int, seconds: float) -> dict[str, Any]:
    (wire,) = await connect(port, 1)
    status, head, body = await wire.ask(request_of(BOARD))
    assert status == 200
    assert len(json.loads(body)["lines"]) == 50
    etag = next(line for line in head.decode().split("\r\n") if line.lower().startswith("etag:"))[5:].strip()
    with_etag = await rate(pid, port, request_of(BOARD, etag), 304, seconds)
    without = await rate(pid, port, request_of(BOARD), 200, seconds)
    fastapi = await rate(pid, port, request_of("/api/v1/health"), 200, seconds)
    around = await rate(pid, port, request_of(AROUND), 200, seconds)
    return {
        "figures": {
            "board_reads_per_s_per_core": round(with_etag),
            "board_p95_ms": round(await p95_ms(port, request_of(BOARD, etag), 500, seconds), 2),
            "board_p95_ms_whole": round(await p95_ms(port, request_of(BOARD), 500, seconds), 2),
            "around_reads_per_s_per_core": round(around),
        },
        "baseline": {
            "whole_board_reads_per_s_per_core": round(without),
            "smallest_fastapi_route_per_s_per_core": round(fastapi),
        },
    }


def run(quick: bool) -> dict[str, object]:
    """Figures of one server process on this machine, and of one on a cluster: reads need no Kafka, so there is none."""
    seconds = 2.0 if quick else 10.0
    with tempfile.TemporaryDirectory() as folder:
        fill(Path(folder) / "state.db")
        server = subprocess.Popen([sys.executable, "-m", "benchmarks.api", "--serve", folder], stdout=subprocess.PIPE, text=True)
        try:
            assert server.stdout is not None
            found = asyncio.run(measure(server.pid, int(server.stdout.readline()), seconds))
        finally:
            server.send_signal(signal.SIGTERM)
            server.wait(20)
    with tempfile.TemporaryDirectory() as folder:
        clustered = on_kafka(Path(folder), seconds)
    figures = found["figures"] | {f"{key}_on_kafka": value for key, value in clustered["figures"].items()}
    return {"name": "api", **found, "figures": figures, "machine": machine()}


def _listens(port: int) -> bool:
    try:
        socket.create_connection(("127.0.0.1", port), 1.0).close()
    except OSError:
        return False
    return True


def on_kafka(folder: Path, seconds: float) -> dict[str, Any]:
    """The same of the real command beside a view's state file."""
    from paceline.supervise import free_port

    fill_view(folder / "platform" / "state.db")
    port = free_port()
    env = {**os.environ, "PACELINE_DATA": str(folder), "PACELINE_TENANT": "gym", "PACELINE_API__PORT": str(port)}
    server = subprocess.Popen([sys.executable, "-m", "paceline", "api"], env={**env, "PACELINE_KAFKA__BOOTSTRAP": "127.0.0.1:9"})
    try:
        until_s = time.monotonic() + START_S
        while not _listens(port):
            if time.monotonic() > until_s or server.poll() is not None:
                raise SystemExit("paceline api does not listen")
            time.sleep(0.1)
        return asyncio.run(measure(server.pid, port, seconds))
    finally:
        server.send_signal(signal.SIGTERM)
        server.wait(30)


async def serve(folder: Path) -> None:
    """The server of this benchmark: prints its port once it listens."""
    from paceline.supervise import free_port
    from processors.api import ApiOptions, serve_api
    from processors.api.opening import open_services
    from processors.log import SqliteLog

    stop = asyncio.Event()
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, stop.set)
    port = free_port()
    with (
        SqliteLog.open(folder / "log.db") as log,
        open_services(
            log, folder / "state.db", folder / "nodes", "gym", nodes=dict, latency=lambda: {"p50": 0.0, "p95": 0.0, "p99": 0.0}
        ) as services,
    ):
        await serve_api(services, ApiOptions("gym", port=port), stop, lambda: print(port, flush=True))


if __name__ == "__main__":
    parser = argparse.ArgumentParser()
    parser.add_argument("--quick", action="store_true")
    parser.add_argument("--serve", type=Path)
    arguments = parser.parse_args()
    if arguments.serve:
        asyncio.run(serve(arguments.serve))
    else:
        print(json.dumps(run(arguments.quick), indent=2))
