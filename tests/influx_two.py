"""InfluxDB 2.x as its API is documented, as far as set-up and erasing ask it: for the calls that 1.8 does not have.

The server itself takes a quarter of an hour to build: it is met each night (`influx_two_server`). What is answered here, and which requests are refused, is that of docs.influxdata.com, API of 2.7: buckets,
authorizations, organizations, delete. Writing and asking are tested on a real server.
"""

from __future__ import annotations

import json
import re
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import parse_qs, urlsplit

ORG_ID = "0a0a0a0a0a0a0a0a"
TOKEN = "all-access"
PREDICATE = re.compile(r'\w+="(?:[^"\\]|\\.)*"(?: AND \w+="(?:[^"\\]|\\.)*")*')  # delete-predicate page: equality and AND only


class InfluxTwo(ThreadingHTTPServer):
    """Buckets by name, tokens and deletions, as they were asked for."""

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.buckets: dict[str, dict[str, Any]] = {}
        self.tokens: list[dict[str, Any]] = []
        self.deleted: list[dict[str, Any]] = []

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_address[1]}"


class _Handler(BaseHTTPRequestHandler):
    server: InfluxTwo

    def log_message(self, *_: object) -> None: ...

    def do_GET(self) -> None:
        where = urlsplit(self.path)
        asked = {name: values[0] for name, values in parse_qs(where.query).items()}
        if where.path == "/ping":
            self._say(204, None, {"X-Influxdb-Version": "v2.7.12", "X-Influxdb-Build": "OSS"})
        elif self._knows_us():
            if where.path == "/api/v2/orgs":
                if asked.get("org") == "paceline":
                    self._say(200, {"orgs": [{"id": ORG_ID, "name": "paceline"}]})
                else:
                    self._say(404, {"code": "not found", "message": f'organization name "{asked.get("org")}" not found'})
            elif where.path == "/api/v2/buckets":
                found = self.server.buckets.get(asked.get("name", ""))
                self._say(200, {"buckets": [found] if found else []})
            else:
                self._say(404, {"code": "not found", "message": "path not found"})

    def do_POST(self) -> None:
        body = self._body()
        if not self._knows_us():
            return
        path, asked = urlsplit(self.path).path, parse_qs(urlsplit(self.path).query)
        if path == "/api/v2/buckets":
            (rule,) = body["retentionRules"]
            if body["orgID"] != ORG_ID or body["name"] in self.server.buckets or rule["everySeconds"] < 3600:
                self._say(422, {"code": "unprocessable entity", "message": "bucket refused"})
                return
            made = {**body, "id": f"{len(self.server.buckets):016x}"}
            self.server.buckets[body["name"]] = made
            self._say(201, made)
        elif path == "/api/v2/authorizations":
            made = {**body, "id": "0b" * 8, "token": f"drawn-{len(self.server.tokens)}"}
            self.server.tokens.append(made)
            self._say(201, made)
        elif path == "/api/v2/delete":
            if not PREDICATE.fullmatch(body["predicate"]) or asked["bucket"][0] not in self.server.buckets:
                self._say(400, {"code": "invalid", "message": "bad logical expression"})
                return
            self.server.deleted.append({**body, "bucket": asked["bucket"][0], "org": asked["org"][0]})
            self._say(204, None)
        else:
            self._say(404, {"code": "not found", "message": "path not found"})

    def do_PATCH(self) -> None:
        body, number = self._body(), self.path.rpartition("/")[2]
        if self._knows_us():
            found = next(bucket for bucket in self.server.buckets.values() if bucket["id"] == number)
            found.update(body)
            self._say(200, found)

    def _knows_us(self) -> bool:
        if self.headers["Authorization"] == f"Token {TOKEN}":
            return True
        self._say(401, {"code": "unauthorized", "message": "unauthorized access"})
        return False

    def _body(self) -> dict[str, Any]:
        return json.loads(self.rfile.read(int(self.headers.get("Content-Length") or 0)))

    def _say(self, status: int, value: object, headers: dict[str, str] | None = None) -> None:
        raw = b"" if value is None else json.dumps(value).encode()
        self.send_response(status)
        for name, text in {"Content-Type": "application/json", "Content-Length": str(len(raw)), **(headers or {})}.items():
            self.send_header(name, text)
        self.end_headers()
        self.wfile.write(raw)


@contextmanager
def start_two() -> Iterator[InfluxTwo]:
    """A server without buckets."""
    server = InfluxTwo()
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        yield server
    finally:
        server.shutdown()
        server.server_close()
        thread.join(60)
