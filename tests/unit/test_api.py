"""The HTTP API: who may read, what is served, and streams that always send the latest and end when the server stops."""

from __future__ import annotations

import asyncio
import json
from typing import Any

import httpx
import pytest

from broker.errors import LinkError
from processors.api import ApiOptions, Latest, create_app, is_loopback, serve_api


class Counting:
    """A view whose snapshot says how often it was asked."""

    def __init__(self) -> None:
        self.asked = 0

    def snapshot(self, tenant: str) -> dict[str, Any]:
        self.asked += 1
        return {"tenant": tenant, "asked": self.asked}


def client(options: ApiOptions, host: str) -> httpx.AsyncClient:
    app = create_app(Latest(Counting(), options.tenant), options)
    return httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url=f"http://{host}")


@pytest.mark.parametrize(
    ("listens", "asked_as", "headers", "query", "status"),
    [
        ("127.0.0.1", "127.0.0.1:8800", {}, "", 200),
        ("127.0.0.1", "localhost:8800", {}, "", 200),
        ("127.0.0.1", "evil.example", {}, "", 401),
        ("0.0.0.0", "127.0.0.1", {}, "", 401),
        ("0.0.0.0", "gym.example", {}, "?token=wrong", 401),
        ("0.0.0.0", "gym.example", {}, "?token=secret", 200),
        ("0.0.0.0", "gym.example", {"Authorization": "Bearer secret"}, "", 200),
        ("0.0.0.0", "gym.example", {"Authorization": "Basic secret"}, "", 401),
    ],
)
async def test_who_may_read(listens: str, asked_as: str, headers: dict[str, str], query: str, status: int) -> None:
    async with client(ApiOptions("gym", listens, 8800, "secret"), asked_as) as http:
        assert (await http.get(f"/api/live{query}", headers=headers)).status_code == status


async def test_beyond_loopback_a_token_is_needed_to_start() -> None:
    with pytest.raises(LinkError, match="read token"):
        create_app(Latest(Counting(), "gym"), ApiOptions("gym", "0.0.0.0"))


async def test_page_is_whole_and_asks_no_other_host() -> None:
    async with client(ApiOptions("gym"), "127.0.0.1") as http:
        for path, kind in (("/", "text/html"), ("/app.js", "text/javascript"), ("/style.css", "text/css")):
            answer = await http.get(path)
            assert answer.status_code == 200
            assert answer.headers["content-type"].startswith(kind)
            assert "default-src 'self'" in answer.headers["content-security-policy"]
            assert "//" not in answer.text.replace("// ", "")
        assert (await http.get("/../pyproject.toml")).status_code == 404
        assert (await http.get("/api.py")).status_code == 404


async def test_readers_share_a_snapshot() -> None:
    view = Counting()
    latest = Latest(view, "gym")
    assert {latest.get()[1] for _ in range(100)} == {b'{"tenant":"gym","asked":1}'}
    assert view.asked == 1


async def test_slow_reader_is_skipped_forward_and_a_stop_ends_the_stream() -> None:
    latest = Latest(Counting(), "gym")
    stream = latest.stream()
    assert await anext(stream) == b"retry: 1000\n\n"
    first = json.loads((await anext(stream)).split(b"data: ")[1])["asked"]
    for _ in range(3):
        await asyncio.sleep(0.3)
        latest.get()
    second = json.loads((await anext(stream)).split(b"data: ")[1])["asked"]
    assert first == 1
    assert second >= 4
    latest.closed.set()
    assert [event async for event in stream] == []


async def test_server_ends_with_a_stream_open_and_says_when_it_is_ready() -> None:
    from paceline.supervise import free_port

    options = ApiOptions("gym", port=free_port())
    stop, ready = asyncio.Event(), asyncio.Event()
    serving = asyncio.create_task(serve_api(Counting(), options, stop, ready.set))
    await asyncio.wait_for(ready.wait(), 10)
    async with httpx.AsyncClient() as http, http.stream("GET", f"{options.url}api/live/stream") as answer:
        lines = answer.aiter_lines()
        while not (await anext(lines)).startswith("data:"):
            pass
        stop.set()
        await asyncio.wait_for(serving, 10)


async def test_port_in_use_is_an_error_with_its_cure() -> None:
    server = await asyncio.start_server(lambda _r, _w: None, "127.0.0.1", 0)
    port = server.sockets[0].getsockname()[1]
    async with server:
        with pytest.raises(LinkError, match=f"port {port} .*\n.*--port"):
            await serve_api(Counting(), ApiOptions("gym", port=port), asyncio.Event())


@pytest.mark.parametrize(
    ("host", "is_it"), [("127.0.0.1", True), ("::1", True), ("[::1]", True), ("localhost", True), ("0.0.0.0", False), ("a.b", False)]
)
def test_loopback_names(host: str, is_it: bool) -> None:
    assert is_loopback(host) is is_it
