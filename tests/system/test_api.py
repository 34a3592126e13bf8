"""The API as a real process on real sockets: thousands of viewers, stuck ones among them, revoked tokens, boards that follow the writer."""

from __future__ import annotations

import asyncio
import json
import resource
import signal
import socket
import sys
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from pathlib import Path

import httpx
import pytest

from benchmarks.machine import rss_mb_of
from broker.kafka_topics import LIVE_STATE
from processors import results_db
from processors.api.kinds import PREFIX
from processors.api.live_models import LiveState
from processors.api.tokens import add_token, revoke_token
from processors.live_pages import Entry, LivePages
from processors.row_mirror import MemoryCells
from processors.state_db import StateDb
from processors.state_view import Record, StateView
from tests.api_stores import an_effort, fill, live_row

STREAM = f"GET {PREFIX}/live/stream HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n".encode()


@asynccontextmanager
async def serving(folder: Path, stuck_s: float, *more: str) -> AsyncIterator[tuple[int, int]]:
    """(pid, port) of an API over `folder`, `more` says `on-kafka` for that of a cluster; it must end well when it is told."""
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "tests.system.api_process", str(folder), str(stuck_s), *more, stdout=asyncio.subprocess.PIPE
    )
    try:
        assert process.stdout is not None
        yield process.pid, int(await asyncio.wait_for(process.stdout.readline(), 60))
        process.send_signal(signal.SIGTERM)
        assert await asyncio.wait_for(process.wait(), 60) == 0
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()


class Viewer(asyncio.Protocol):
    """Reads a stream and counts its events."""

    def __init__(self) -> None:
        self.events = 0
        self.bytes = 0
        self.transport: asyncio.Transport | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self.transport = transport
        transport.write(STREAM)

    def data_received(self, data: bytes) -> None:
        self.events += data.count(b"\ndata: ")
        self.bytes += len(data)


def stuck_reader(port: int) -> socket.socket:
    """Asks for a stream and never reads a byte of it."""
    sock = socket.socket()
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
    sock.connect(("127.0.0.1", port))
    sock.sendall(STREAM)
    return sock


async def moving(state: StateDb, athletes: int, *, on_kafka: bool = False) -> None:
    """Everybody runs on, four times a second; `on_kafka`: as a view hears it from the live stage."""
    metres, view = 0, StateView(state)
    while True:
        metres += 1
        rows = [live_row(f"gym/runner{i:03}", 1000 + metres + i) for i in range(athletes)]
        state.db.execute("BEGIN")
        if on_kafka:
            cells = MemoryCells()
            LivePages(cells).write([Entry(key, row, b"", b"", (), None, None) for _, key, row in rows])
            view.take(Record(LIVE_STATE, 0, 0, key, value, ()) for key, value in cells.held.items())
        else:
            state.db.executemany("INSERT OR REPLACE INTO state (stage, key, row) VALUES (?,?,?)", rows)
        state.db.execute("COMMIT")
        await asyncio.sleep(0.25)


async def watched(
    folder: Path, readers: int, stuck: int, athletes: int, stuck_s: float, seconds: float, *, on_kafka: bool = False
) -> tuple[float, float, list[Viewer]]:
    """Memory in MB when all are served and `seconds` later, with `stuck` readers that take nothing."""
    state = StateDb(folder / "state.db")
    fill(state, "gym")
    loop = asyncio.get_running_loop()
    async with serving(folder, stuck_s, *(["on-kafka"] if on_kafka else [])) as (pid, port):
        mover = asyncio.create_task(moving(state, athletes, on_kafka=on_kafka))
        viewers = [(await loop.create_connection(Viewer, "127.0.0.1", port))[1] for _ in range(readers)]
        socks = [stuck_reader(port) for _ in range(stuck)]
        async with asyncio.timeout(60):
            while any(viewer.events < 3 for viewer in viewers) or sockets_of(pid) < readers + stuck:
                await asyncio.sleep(0.1)
        before, served = rss_mb_of(pid), sockets_of(pid)
        seen = [viewer.events for viewer in viewers]
        await asyncio.sleep(seconds)
        after = rss_mb_of(pid)
        async with asyncio.timeout(60):
            while any(viewer.events < had + 2 for viewer, had in zip(viewers, seen, strict=True)):
                await asyncio.sleep(0.1)
        if seconds > stuck_s + 2:
            async with asyncio.timeout(60):  # before anybody reads what was left for them
                while sockets_of(pid) > served - stuck:
                    await asyncio.sleep(0.1)
            assert [await asyncio.to_thread(was_cut, sock) for sock in socks] == [True] * stuck
        for viewer in viewers:
            assert viewer.transport is not None
            viewer.transport.close()
        for sock in socks:
            sock.close()
        mover.cancel()
    state.close()
    return before, after, viewers


def sockets_of(pid: int) -> int:
    """How many sockets a process holds."""
    count = 0
    for path in Path(f"/proc/{pid}/fd").iterdir():
        with suppress(OSError):
            count += str(path.readlink()).startswith("socket:")
    return count


def was_cut(sock: socket.socket) -> bool:
    """Whether the server ended the connection: all that was in the buffers comes, then an end."""
    sock.settimeout(30)
    try:
        while sock.recv(1 << 20):
            continue
    except ConnectionResetError:
        return True
    except TimeoutError:
        return False
    return True


async def test_stuck_readers_cost_no_memory_and_are_cut_off(tmp_path: Path) -> None:
    before, after, _ = await watched(tmp_path, readers=180, stuck=20, athletes=200, stuck_s=4.0, seconds=8.0)
    assert after - before < 12.0  # twenty queues would hold 20 x 8 s x 4 x 80 KB = 51 MB


@pytest.mark.nightly
@pytest.mark.parametrize("on_kafka", [False, True], ids=["one-machine", "on-kafka"])
async def test_two_thousand_viewers_one_stuck(tmp_path: Path, on_kafka: bool) -> None:
    hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    before, after, viewers = await watched(tmp_path, readers=1999, stuck=1, athletes=30, stuck_s=30.0, seconds=60.0, on_kafka=on_kafka)
    print(
        json.dumps({"on_kafka": on_kafka, "viewers": len(viewers) + 1, "rss_mb_before": round(before, 1), "rss_mb_after": round(after, 1)})
    )
    assert after - before < 20.0


async def test_board_and_stream_follow_the_writer_until_the_token_is_revoked(tmp_path: Path) -> None:
    state = StateDb(tmp_path / "state.db")
    fill(state, "gym")
    token = add_token(tmp_path / "tokens.json", "gym", "screen")
    ident = token.split("-")[1]
    async with serving(tmp_path, 30.0) as (_, port), httpx.AsyncClient(base_url=f"http://127.0.0.1:{port}", timeout=60) as http:
        bearer = {"Authorization": f"Bearer {token}"}
        board = await http.get(f"{PREFIX}/segments/hill/board", headers=bearer)
        tag = {"If-None-Match": board.headers["etag"], **bearer}
        assert (await http.get(f"{PREFIX}/segments/hill/board", headers=tag)).status_code == 304
        state.db.execute("BEGIN")
        results_db.put_effort(state.db, an_effort("gym", "ann", 100_000, ordinal=1, version=500))
        state.db.execute("COMMIT")
        changed = await http.get(f"{PREFIX}/segments/hill/board", headers=tag)
        assert changed.status_code == 200
        assert changed.json()["lines"][0]["elapsed_ms"] == 100_000
        async with http.stream("GET", f"{PREFIX}/live/stream?token={token}") as answer:
            lines = answer.aiter_lines()
            while not (line := await anext(lines)).startswith("data:"):
                pass
            assert LiveState.model_validate_json(line.removeprefix("data:")).role == "screen"
            revoke_token(tmp_path / "tokens.json", ident)
            started = time.monotonic()
            async for _ in lines:
                assert time.monotonic() - started < 60  # far more than the five seconds between two looks
        assert (await http.get(f"{PREFIX}/live", headers=bearer)).status_code == 401
        assert (await http.get(f"{PREFIX}/segments/hill/board", headers=tag)).status_code == 401
    state.close()
