"""The HTTP API: who may read, what is served, and how the server begins and ends."""

from __future__ import annotations

import asyncio
from pathlib import Path

import httpx
import pytest

from broker.errors import LinkError
from paceline.supervise import free_port
from processors.api import ApiOptions, create_app, is_loopback, serve_api
from processors.api.live_models import LiveState
from tests.api_stores import client_of, stores

PAGE = Path(__file__).parents[2] / "processors" / "page"


@pytest.mark.parametrize(
    ("listens", "asked_as", "headers", "query", "status"),
    [
        ("127.0.0.1", "127.0.0.1:8800", {}, "", 200),
        ("127.0.0.1", "localhost:8800", {}, "", 200),
        ("127.0.0.1", "evil.example", {}, "", 401),
        ("127.0.0.1", "127.0.0.1:8800", {}, "?token=wrong", 401),
        ("0.0.0.0", "127.0.0.1", {}, "", 401),
        ("0.0.0.0", "gym.example", {}, "?token=wrong", 401),
        ("0.0.0.0", "gym.example", {}, "?token=secret", 200),
        ("0.0.0.0", "gym.example", {"Authorization": "Bearer secret"}, "", 200),
        ("0.0.0.0", "gym.example", {"Authorization": "Basic secret"}, "", 401),
    ],
)
async def test_who_may_read(listens: str, asked_as: str, headers: dict[str, str], query: str, status: int, tmp_path: Path) -> None:
    with stores(tmp_path, "gym") as got, client_of(got, ApiOptions("gym", listens, 8800, "secret"), asked_as) as http:
        for path in ("/api/live", "/api/v1/live", "/api/v1/segments/hill/board", "/api/v1/athletes"):
            answer = await http.get(f"{path}{query}", headers=headers)
            assert answer.status_code == status
            if status == 401:
                assert answer.headers["content-type"] == "application/problem+json"
                assert "paceline token add" in answer.json()["cure"]


async def test_health_needs_no_token_and_says_no_tenant(tmp_path: Path) -> None:
    with stores(tmp_path, "gym") as got, client_of(got, ApiOptions("gym", "0.0.0.0", 8800, "secret"), "gym.example") as http:
        for path in ("/api/health", "/api/v1/health"):
            answer = await http.get(path)
            assert (answer.status_code, answer.json()) == (200, {"status": "ok"})


async def test_another_sites_page_cannot_write_through_a_browser_on_this_machine(tmp_path: Path) -> None:
    with stores(tmp_path, "gym") as got, client_of(got, ApiOptions("gym")) as http:
        evil = await http.delete("/api/v1/athletes/ann", headers={"Origin": "http://evil.example"})
        assert evil.status_code == 403
        own = await http.delete("/api/v1/athletes/nobody", headers={"Origin": "http://127.0.0.1:8800"})
        assert own.status_code == 404


async def test_beyond_loopback_a_token_is_needed_to_start(tmp_path: Path) -> None:
    with stores(tmp_path, "gym") as got, pytest.raises(LinkError, match="read token"):
        create_app(got.services, ApiOptions("gym", "0.0.0.0"))


async def test_page_is_whole_and_nothing_else_is_served(tmp_path: Path) -> None:
    kinds = {".html": "text/html", ".js": "text/javascript", ".css": "text/css", ".svg": "image/svg+xml"}
    with stores(tmp_path, "gym") as got, client_of(got, ApiOptions("gym")) as http:
        assert (await http.get("/")).text == (PAGE / "index.html").read_text("utf-8")
        for file in PAGE.iterdir():
            answer = await http.get(f"/{file.name}")
            assert answer.status_code == 200
            assert answer.content == file.read_bytes()
            assert answer.headers["content-type"].startswith(kinds[file.suffix])
            assert "default-src 'self'" in answer.headers["content-security-policy"]
        for nothing in ("/../pyproject.toml", "/app.py", "/%2e%2e/app.py", "/api/v1/nothing"):
            answer = await http.get(nothing)
            assert answer.status_code == 404
            assert answer.json()["cure"]


async def test_server_ends_with_a_stream_open_and_says_when_it_is_ready(tmp_path: Path) -> None:
    options = ApiOptions("gym", port=free_port())
    stop, ready = asyncio.Event(), asyncio.Event()
    with stores(tmp_path, "gym") as got:
        serving = asyncio.create_task(serve_api(got.services, options, stop, ready.set))
        await asyncio.wait_for(ready.wait(), 60)
        async with httpx.AsyncClient() as http, http.stream("GET", f"{options.url}api/live/stream") as answer:
            lines = answer.aiter_lines()
            while not (line := await anext(lines)).startswith("data:"):
                pass
            assert LiveState.model_validate_json(line.removeprefix("data:")).tenant == "gym"
            stop.set()
            await asyncio.wait_for(serving, 60)


async def test_port_in_use_is_an_error_with_its_cure(tmp_path: Path) -> None:
    server = await asyncio.start_server(lambda _r, _w: None, "127.0.0.1", 0)
    port = server.sockets[0].getsockname()[1]
    async with server:
        with stores(tmp_path, "gym") as got, pytest.raises(LinkError, match=f"port {port} .*\n.*--port"):
            await serve_api(got.services, ApiOptions("gym", port=port), asyncio.Event())


@pytest.mark.parametrize(
    ("host", "is_it"), [("127.0.0.1", True), ("::1", True), ("[::1]", True), ("localhost", True), ("0.0.0.0", False), ("a.b", False)]
)
def test_loopback_names(host: str, is_it: bool) -> None:
    assert is_loopback(host) is is_it
