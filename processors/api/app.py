"""The application and its server: routes below `/api/v1`, the live page, and a short way for the one read that everybody repeats.

A board read with FastAPI costs about 0.6 ms of CPU, whatever the answer; polled by every viewer of a wall it is by far the most frequent
request. So `Front` answers exactly that route before FastAPI sees it, by the same `BoardReads.answer` the route itself calls: without it
everything still works, three times slower (benchmarks/api.py).
"""

from __future__ import annotations

import asyncio
import contextlib
import re
import socket
from collections.abc import Callable, Generator
from importlib import resources
from typing import Any, Final

import uvicorn
from fastapi import APIRouter, FastAPI, Request
from fastapi.responses import Response

from broker.errors import LinkError, PacelineError
from processors.api import activity_routes, athlete_routes, class_routes, device_routes, equipment_routes, ruling_routes, segment_routes
from processors.api.access import Guard, is_loopback
from processors.api.board_reads import BoardReads
from processors.api.kinds import PREFIX
from processors.api.live import EventStream
from processors.api.live_models import LiveState
from processors.api.models import Health, Problem
from processors.api.problems import KIND, RefusedError, body_of, headers_of, install, refusal_of
from processors.api.services import ApiOptions, Feeds, Parts, PartsOf, Reader, Services
from processors.api.tokens import Access, Tokens

SEND_BUFFER_BYTES: Final = 256 * 1024  # of the kernel, for each reader: what is in it can not be skipped any more
_KINDS: Final = {".html": "text/html", ".js": "text/javascript", ".css": "text/css", ".svg": "image/svg+xml", ".png": "image/png"}
_HEADERS: Final = {
    "Content-Security-Policy": "default-src 'self'; frame-ancestors 'self'",
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
    "Cache-Control": "no-cache",
}
_ABOUT: Final = (
    "Live rankings, boards, activities and reference data of one tenant: that of the token."
    " Any reader may add `as=screen` to see what a screen may see."
)
_BOARD: Final = re.compile(rf"{PREFIX}/segments/([^/]+)/board", re.ASCII)

live = APIRouter(tags=["live"])


@live.get("/health")
async def health() -> Health:
    """Whether the API answers; needs no token."""
    return Health()


@live.get("/live", response_model=LiveState)
async def get_live(parts: PartsOf, access: Reader) -> Response:
    """The latest state, not older than 250 ms."""
    _, body = await parts.feeds.of(access.tenant).get(access.role)
    return Response(body, media_type="application/json", headers={"Cache-Control": "no-store"})


@live.get("/live/stream", response_class=Response, status_code=200, responses={200: {"content": {"text/event-stream": {}}}})
async def get_live_stream(parts: PartsOf, access: Reader, request: Request) -> Response:
    """The latest state as server-sent events, each a `LiveState`, whenever the reader is ready for one."""
    return EventStream(parts.feeds.of(access.tenant), access.role, lambda: _still(parts.guard, request.scope, access), parts.feeds.hang_up)


def _still(guard: Guard, scope: Any, access: Access) -> bool:
    try:
        return guard.access(scope) == access
    except (RefusedError, PacelineError):
        return False


def create_app(services: Services, options: ApiOptions) -> FastAPI:
    """The application. LinkError when it would listen beyond loopback without a token."""
    if not options.token and not is_loopback(options.host):
        raise LinkError(f"the API on {options.host} needs a read token", cure="set api.token, or listen on 127.0.0.1")
    guard = Guard(options.host, options.tenant, Tokens(options.token_file, options.token, options.tenant), options.part)
    app = FastAPI(
        title="Paceline",
        version="1",
        description=_ABOUT,
        openapi_url=None,
        docs_url=None,
        redoc_url=None,
        responses={code: {"model": Problem, "content": {KIND: {}}} for code in (400, 401, 403, 404, 421, 422, 503)},
    )
    app.state.parts = Parts(options, services, guard, Feeds(services), BoardReads(services.reads, options.zone, services.clock_us))
    install(app)
    for module in (activity_routes, segment_routes, athlete_routes, device_routes, equipment_routes, class_routes, ruling_routes):
        app.include_router(module.router, prefix=PREFIX)
    app.include_router(live, prefix=PREFIX)
    app.include_router(live, prefix="/api", include_in_schema=False)  # as the first page asked
    app.include_router(_page())
    return app


def close_app(app: FastAPI) -> None:
    """End the streams and close what the application opened (not the services it was given)."""
    parts: Parts = app.state.parts
    parts.feeds.close()
    parts.boards.close()


def _page() -> APIRouter:
    """The files of the live page."""
    router = APIRouter(include_in_schema=False)
    folder = resources.files("processors") / "page"
    names = {file.name for file in folder.iterdir() if file.is_file()}

    @router.get("/")
    @router.get("/{name}")
    async def page(name: str = "index.html") -> Response:  # pyright: ignore[reportUnusedFunction]
        kind = _KINDS.get(name[name.rfind(".") :] if "." in name else "")
        if name not in names or kind is None:
            raise RefusedError(404, "there is no such page", "open / for the live page, see docs/api.md for the API")
        return Response((folder / name).read_bytes(), media_type=kind, headers=_HEADERS)

    return router


class Front:
    """ASGI: board reads at once, everything else to the application."""

    def __init__(self, app: FastAPI) -> None:
        self._app = app
        parts: Parts = app.state.parts
        self._guard, self._boards = parts.guard, parts.boards

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        if scope["type"] != "http" or scope["method"] != "GET" or (found := _BOARD.fullmatch(scope["path"])) is None:
            await self._app(scope, receive, send)
            return
        try:
            given = next((value for name, value in scope["headers"] if name == b"if-none-match"), b"")
            status, headers, body = await self._boards.answer(self._guard.access(scope), found[1], scope["query_string"], given)
        except PacelineError as error:
            status, headers, body = _refused(refusal_of(error))
        except RefusedError as error:
            status, headers, body = _refused(error)
        await send({"type": "http.response.start", "status": status, "headers": headers})
        await send({"type": "http.response.body", "body": body})


def _refused(error: RefusedError) -> tuple[int, list[tuple[bytes, bytes]], bytes]:
    body = body_of(error.status, error.detail, error.cure)
    headers = [(b"content-type", KIND.encode()), (b"content-length", b"%d" % len(body))]
    return error.status, [*headers, *((name.lower().encode(), value.encode()) for name, value in headers_of(error).items())], body


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

    def hang_up(self, client: Any) -> None:
        """Cut the connection of a reader that takes nothing: closing it would wait for what it never takes."""
        for protocol in list(self.server_state.connections):
            transport = getattr(protocol, "transport", None)
            if transport is not None and getattr(protocol, "client", None) == client:
                transport.abort()


async def serve_api(services: Services, options: ApiOptions, stop: asyncio.Event, ready: Callable[[], None] | None = None) -> None:
    """Serve until `stop` is set; open streams are ended first. LinkError when the port cannot be used."""
    app = create_app(services, options)
    try:
        await _serve(app, options, stop, ready)
    finally:
        close_app(app)


async def _serve(app: FastAPI, options: ApiOptions, stop: asyncio.Event, ready: Callable[[], None] | None) -> None:
    config = uvicorn.Config(
        Front(app), options.host, options.port,
        lifespan="off", access_log=False, log_config=None, timeout_graceful_shutdown=2, server_header=False, backlog=4096,
    )  # fmt: skip
    server = _Server(config, ready)
    parts: Parts = app.state.parts
    parts.feeds.hang_up = server.hang_up
    try:
        family = socket.AF_INET6 if ":" in options.host else socket.AF_INET
        sock = socket.create_server((options.host, options.port), family=family, backlog=4096)
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, SEND_BUFFER_BYTES)  # accepted sockets have it too
    except OSError as error:
        raise LinkError(
            f"port {options.port} on {options.host} cannot be used: {error.strerror}", cure="give another one with api.port or --port"
        ) from error
    serving = asyncio.create_task(server.serve([sock]))
    stopping = asyncio.create_task(stop.wait())
    try:
        await asyncio.wait({serving, stopping}, return_when=asyncio.FIRST_COMPLETED)
    finally:
        parts.feeds.close()
        server.should_exit = True
        stopping.cancel()
        await serving
        sock.close()
