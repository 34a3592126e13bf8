"""The HTTP API and the live page: what a `LiveView` says now, as JSON and as server-sent events.

One snapshot serves all readers: it is taken at most every 250 ms and only while somebody asks. A stream always sends the latest one, so a
slow reader skips forward and nothing is queued for it. Reading needs the token, except on a loopback listener asked by a loopback name.
"""

from __future__ import annotations

import asyncio
import contextlib
import hmac
import ipaddress
import json
import logging
import socket
import time
from collections.abc import AsyncIterator, Callable, Generator
from dataclasses import dataclass
from importlib import resources
from typing import Any, Final, Protocol

import uvicorn
from fastapi import Depends, FastAPI, HTTPException, Request
from fastapi.responses import Response, StreamingResponse

from broker.errors import LinkError

log = logging.getLogger(__name__)

SNAPSHOT_EVERY_S: Final = 0.25
HEARTBEAT_S: Final = 5.0
_PAGE: Final = {
    "": ("index.html", "text/html"),
    "app.js": ("app.js", "text/javascript"),
    "style.css": ("style.css", "text/css"),
    "icon.svg": ("icon.svg", "image/svg+xml"),
}
_HEADERS: Final = {
    "Content-Security-Policy": "default-src 'self'; frame-ancestors 'self'",
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
    "Cache-Control": "no-cache",
}


class LiveView(Protocol):
    """The read side of the stores."""

    def snapshot(self, tenant: str) -> dict[str, Any]:
        """What the page shows of a tenant, JSON-ready; called on the event loop, so it answers within milliseconds.

        `{"tenant", "t_us", "athletes": [{"subject", "name", "rank", "hr_bpm", "speed_mps", "distance_m", "points", "lat", "lon", "status",
        "t_us"}], "devices": [{"node", "device", "sent", "stored",
        "refused", "missing"}], "nodes": [{"node", "online", "spool_rows", "hours_left"}],
        "dead_letters", "board_changes", "activities", "frames_stored", "samples", "latency_ms": {"p50", "p95", "p99"}}`
        """
        ...


@dataclass(frozen=True, slots=True)
class ApiOptions:
    """Where to listen, whose data to show and the token that reads it."""

    tenant: str
    host: str = "127.0.0.1"
    port: int = 8800
    token: str = ""

    @property
    def url(self) -> str:
        """The address of the page; carries the token when a reader needs it."""
        host = f"[{self.host}]" if ":" in self.host else self.host
        return f"http://{host}:{self.port}/" + ("" if is_loopback(self.host) else f"?token={self.token}")


class Latest:
    """The newest snapshot as JSON bytes, shared by all readers."""

    def __init__(self, view: LiveView, tenant: str) -> None:
        self._view = view
        self._tenant = tenant
        self._body = b""
        self._version = 0
        self._taken_s = float("-inf")
        self.closed = asyncio.Event()

    def get(self) -> tuple[int, bytes]:
        """(version, JSON); takes a new snapshot when the last one is older than 250 ms."""
        now_s = time.monotonic()
        if now_s - self._taken_s >= SNAPSHOT_EVERY_S:
            self._body = json.dumps(self._view.snapshot(self._tenant), separators=(",", ":"), allow_nan=False).encode()
            self._version += 1
            self._taken_s = now_s
        return self._version, self._body

    async def stream(self) -> AsyncIterator[bytes]:
        """Server-sent events: each the latest snapshot when the reader is ready for one, a comment when nothing changed for 5 s."""
        sent = b""
        silent_s = 0.0
        yield b"retry: 1000\n\n"
        while not self.closed.is_set():
            version, body = self.get()
            if body != sent:
                sent, silent_s = body, 0.0
                yield b"id: %d\ndata: %b\n\n" % (version, body)
            elif silent_s >= HEARTBEAT_S:
                silent_s = 0.0
                yield b": still here\n\n"
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self.closed.wait(), SNAPSHOT_EVERY_S)
            silent_s += SNAPSHOT_EVERY_S


def is_loopback(host: str) -> bool:
    """Whether a listener or a Host header names this machine only."""
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host.strip("[]")).is_loopback
    except ValueError:
        return False


def create_app(latest: Latest, options: ApiOptions) -> FastAPI:
    """The application. LinkError when it would listen beyond loopback without a token."""
    if not options.token and not is_loopback(options.host):
        raise LinkError(f"the API on {options.host} needs a read token", cure="set api.token, or listen on 127.0.0.1")

    def reader(request: Request) -> None:
        if is_loopback(options.host) and is_loopback(request.url.hostname or ""):
            return
        scheme, _, given = request.headers.get("authorization", "").partition(" ")
        given = given if scheme.lower() == "bearer" else request.query_params.get("token", "")
        if not options.token or not hmac.compare_digest(given.encode(), options.token.encode()):
            raise HTTPException(401, "give the read token: `Authorization: Bearer TOKEN` or `?token=TOKEN`")

    app = FastAPI(title="Paceline", version="1", docs_url=None, redoc_url=None)
    may_read = [Depends(reader)]

    @app.get("/api/health")
    def health() -> dict[str, str]:  # pyright: ignore[reportUnusedFunction]
        return {"status": "ok", "tenant": options.tenant}

    @app.get("/api/live", dependencies=may_read)
    async def live() -> Response:  # pyright: ignore[reportUnusedFunction]
        return Response(latest.get()[1], media_type="application/json", headers={"Cache-Control": "no-store"})

    @app.get("/api/live/stream", dependencies=may_read)
    async def live_stream() -> StreamingResponse:  # pyright: ignore[reportUnusedFunction]
        return StreamingResponse(latest.stream(), media_type="text/event-stream", headers={"Cache-Control": "no-store"})

    @app.get("/", include_in_schema=False)
    @app.get("/{name}", include_in_schema=False)
    async def page(name: str = "") -> Response:  # pyright: ignore[reportUnusedFunction]
        if name not in _PAGE:
            raise HTTPException(404, "no such page")
        file, kind = _PAGE[name]
        return Response((resources.files("processors") / "page" / file).read_bytes(), media_type=kind, headers=_HEADERS)

    return app


class _Server(uvicorn.Server):
    """Uvicorn without its own signal handling: the process that embeds it decides when to stop."""

    def __init__(self, config: uvicorn.Config, ready: Callable[[], None] | None) -> None:
        super().__init__(config)
        self._ready = ready

    @contextlib.contextmanager
    def capture_signals(self) -> Generator[None]:
        yield

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup(sockets)
        if self._ready is not None:
            self._ready()


async def serve_api(view: LiveView, options: ApiOptions, stop: asyncio.Event, ready: Callable[[], None] | None = None) -> None:
    """Serve until `stop` is set; open streams are ended first. LinkError when the port cannot be used."""
    latest = Latest(view, options.tenant)
    config = uvicorn.Config(
        create_app(latest, options), options.host, options.port,
        lifespan="off", access_log=False, log_config=None, timeout_graceful_shutdown=2, server_header=False,
    )  # fmt: skip
    server = _Server(config, ready)
    try:
        sock = socket.create_server((options.host, options.port), family=socket.AF_INET6 if ":" in options.host else socket.AF_INET)
    except OSError as error:
        raise LinkError(
            f"port {options.port} on {options.host} cannot be used: {error.strerror}", cure="give another one with api.port or --port"
        ) from error
    serving = asyncio.create_task(server.serve([sock]))
    stopping = asyncio.create_task(stop.wait())
    try:
        await asyncio.wait({serving, stopping}, return_when=asyncio.FIRST_COMPLETED)
    finally:
        latest.closed.set()
        server.should_exit = True
        stopping.cancel()
        await serving
        sock.close()
