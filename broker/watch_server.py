"""HTTP for operators: `/metrics` (OpenMetrics), `/healthz` and `/readyz` (JSON; 503 with the reasons). No secrets, no names of persons.

It answers from threads of its own, so that a process whose event loop hangs still says so. Bounded: `MAX_REQUESTS` at a time, each with
`REQUEST_S`; beyond that a connection is closed at once. It listens on loopback unless it is told otherwise: nothing here asks who reads.
"""

from __future__ import annotations

import asyncio
import json
import socket
import threading
from collections.abc import AsyncGenerator, Callable, Generator
from contextlib import asynccontextmanager, contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from socketserver import TCPServer
from typing import Any, Final

from broker.errors import ConfigError
from broker.liveness import Part
from broker.metrics import MetricsSettings
from broker.replace_file import replace_file
from broker.watch import Watch

MAX_REQUESTS: Final = 8
REQUEST_S: Final = 5.0
BEAT_S: Final = 1.0
OPENMETRICS: Final = "application/openmetrics-text; version=1.0.0; charset=utf-8"


@asynccontextmanager
async def watched(watch: Watch, settings: MetricsSettings, folder: Path) -> AsyncGenerator[None]:
    """Serve while in this block, and watch that the event loop moves. ConfigError when the port cannot be used."""
    beating = asyncio.create_task(_beat(watch.part("event_loop")))
    try:
        with serving(watch, settings, folder):
            yield
    finally:
        beating.cancel()


async def _beat(loop: Part) -> None:
    while True:
        loop.beat()
        await asyncio.sleep(BEAT_S)


@contextmanager
def serving(watch: Watch, settings: MetricsSettings, folder: Path) -> Generator[None]:
    """Serve while in this block; for a process without an event loop. ConfigError when the port cannot be used."""
    if not settings.enabled:
        yield
        return
    server = _listen(watch, settings)
    thread = threading.Thread(target=server.serve_forever, name="metrics", daemon=True, kwargs={"poll_interval": 0.1})
    thread.start()
    address = folder / f"{watch.role}.json"
    try:
        _publish(address, settings.host, server.server_address[1])
        yield
    finally:
        address.unlink(missing_ok=True)
        server.shutdown()
        server.server_close()
        thread.join(REQUEST_S)


def _publish(path: Path, host: str, port: int) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    replace_file(path, json.dumps({"host": host, "port": port}).encode(), mode=0o644)


def _listen(watch: Watch, settings: MetricsSettings) -> _Server:
    try:
        return _Server((settings.host, settings.port), watch)
    except OSError as error:
        raise ConfigError(
            f"metrics.port {settings.port} on {settings.host} cannot be used: {error.strerror}",
            cure="give another metrics.port (0 picks a free one), or set metrics.enabled to false",
        ) from error


class _Server(ThreadingHTTPServer):
    daemon_threads = True
    block_on_close = False
    request_queue_size = MAX_REQUESTS

    def __init__(self, at: tuple[str, int], watch: Watch) -> None:
        self.address_family = socket.AF_INET6 if ":" in at[0] else socket.AF_INET
        self.watch = watch
        self._places = threading.BoundedSemaphore(MAX_REQUESTS)
        super().__init__(at, _Handler)

    def server_bind(self) -> None:
        """Without the name look-up of HTTPServer: a name server that is away must not delay a start."""
        TCPServer.server_bind(self)
        self.server_name, self.server_port = str(self.server_address[0]), self.server_address[1]

    def process_request(self, request: Any, client_address: Any) -> None:
        if self._places.acquire(blocking=False):
            super().process_request(request, client_address)
        else:
            self.shutdown_request(request)

    def process_request_thread(self, request: Any, client_address: Any) -> None:
        try:
            super().process_request_thread(request, client_address)
        finally:
            self._places.release()

    def handle_error(self, request: Any, client_address: Any) -> None:
        """A reader that went away is no news."""


class _Handler(BaseHTTPRequestHandler):
    timeout = REQUEST_S
    server_version = "paceline"
    sys_version = ""

    def do_GET(self) -> None:
        assert isinstance(self.server, _Server)
        watch = self.server.watch
        known: dict[str, Callable[[], tuple[int, str, bytes]]] = {
            "/metrics": lambda: (200, OPENMETRICS, watch.registry.text()),
            "/healthz": lambda: _document(*watch.health()),
            "/readyz": lambda: _document(*watch.readiness()),
        }
        made = known.get(self.path.partition("?")[0])
        status, kind, body = made() if made else (404, "text/plain; charset=utf-8", f"try {', '.join(known)}\n".encode())
        self.send_response(status)
        self.send_header("Content-Type", kind)
        self.send_header("Content-Length", str(len(body)))
        self.send_header("Cache-Control", "no-store")
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format: str, *args: Any) -> None:  # noqa: A002 - its name there
        """Scrapes are not worth a line."""


def _document(ok: bool, said: dict[str, Any]) -> tuple[int, str, bytes]:
    return (200 if ok else 503), "application/json", json.dumps(said).encode() + b"\n"
