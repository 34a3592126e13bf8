"""A very small HTTP server for one page on the LAN. One request a connection; no keep-alive, no script, no file.

`RequestReader` is sans-I/O: bytes in, a `Request` or a `Refusal` out. Bounded: 8 KB of head, 32 KB of body, 15 s a request, 16 connections
at a time. A name in `Host` that is not this machine is refused, so that no foreign site can speak through a browser of this LAN.
"""

from __future__ import annotations

import asyncio
import ipaddress
import logging
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, field
from http import HTTPStatus
from types import TracebackType
from typing import Final, Self
from urllib.parse import parse_qs, urlsplit

from broker.errors import ConfigError

log = logging.getLogger(__name__)

MAX_HEAD: Final = 8_192
MAX_BODY: Final = 32_768
REQUEST_S: Final = 15.0
MAX_CONNECTIONS: Final = 16
_HEADERS: Final = (
    ("Cache-Control", "no-store"),
    (
        "Content-Security-Policy",
        "default-src 'none'; style-src 'unsafe-inline'; img-src data:; form-action 'self'; frame-ancestors 'none'; base-uri 'none'",
    ),
    ("Referrer-Policy", "no-referrer"),
    ("X-Content-Type-Options", "nosniff"),
    ("Connection", "close"),
)


@dataclass(frozen=True, slots=True)
class Request:
    """One request. `query` holds the first value of each name."""

    method: str
    path: str
    host: str
    query: dict[str, str] = field(default_factory=dict[str, str])
    body: bytes = b""


@dataclass(frozen=True, slots=True)
class Refusal:
    """Bytes that are no request this server takes."""

    status: HTTPStatus


@dataclass(frozen=True, slots=True)
class Answer:
    """A page, or a redirect to `location`."""

    status: HTTPStatus
    page: str = ""
    location: str = ""


class RequestReader:
    """`feed(bytes)` returns None until the request is whole."""

    def __init__(self) -> None:
        self._raw = b""
        self._head: Request | None = None
        self._body_bytes = 0

    def feed(self, raw: bytes) -> Request | Refusal | None:
        """More bytes of the connection."""
        self._raw += raw
        if self._head is None:
            head, end, rest = self._raw.partition(b"\r\n\r\n")
            if len(head) > MAX_HEAD:
                return Refusal(HTTPStatus.REQUEST_HEADER_FIELDS_TOO_LARGE)
            if not end:
                return None
            read = _head_of(head)
            if isinstance(read, Refusal):
                return read
            self._head, self._body_bytes = read
            self._raw = rest
        if len(self._raw) < self._body_bytes:
            return None
        of = self._head
        return Request(of.method, of.path, of.host, of.query, self._raw[: self._body_bytes])


def _head_of(raw: bytes) -> tuple[Request, int] | Refusal:
    """The request without its body, and how long that is."""
    lines = raw.decode("latin-1").split("\r\n")
    words = lines[0].split(" ")
    if len(words) != 3 or words[2] not in {"HTTP/1.0", "HTTP/1.1"} or not words[1].startswith("/"):
        return Refusal(HTTPStatus.BAD_REQUEST)
    headers: dict[str, str] = {}
    for line in lines[1:]:
        name, colon, value = line.partition(":")
        name = name.lower()
        if not colon or not name or name != name.strip() or (name in headers and name in {"host", "content-length"}):
            return Refusal(HTTPStatus.BAD_REQUEST)
        headers[name] = value.strip()
    length = headers.get("content-length", "0")
    if "transfer-encoding" in headers or not (length.isascii() and length.isdecimal()):
        return Refusal(HTTPStatus.BAD_REQUEST)
    if len(length) > 9 or int(length) > MAX_BODY:
        return Refusal(HTTPStatus.REQUEST_ENTITY_TOO_LARGE)
    try:
        where = urlsplit(words[1])
        query = {name: values[0] for name, values in parse_qs(where.query, max_num_fields=8).items()}
    except ValueError:
        return Refusal(HTTPStatus.BAD_REQUEST)
    return Request(words[0], where.path, headers.get("host", ""), query), int(length)


def is_this_machine(host: str, names: Sequence[str]) -> bool:
    """Whether a `Host` header means us: an address, or one of our names, alone or in `.local` and the like."""
    name = host.rpartition(":")[0] if host.rpartition(":")[2].isdecimal() and not host.endswith("]") else host
    name = name.strip("[]").rstrip(".").lower()
    try:
        ipaddress.ip_address(name)
    except ValueError:
        return name in names or any(name == f"{own}{end}" for own in names for end in (".local", ".lan", ".home.arpa", ".fritz.box"))
    return True


def encode_answer(answer: Answer) -> bytes:
    """The bytes of an answer."""
    body = answer.page.encode()
    headers = [*_HEADERS, ("Content-Length", str(len(body)))]
    headers.append(("Location", answer.location) if answer.location else ("Content-Type", "text/html; charset=utf-8"))
    head = f"HTTP/1.1 {answer.status.value} {answer.status.phrase}\r\n" + "".join(f"{name}: {value}\r\n" for name, value in headers)
    return head.encode("latin-1") + b"\r\n" + body


class PageServer:
    """`async with PageServer(...) as server`: serves until the end or `close()`. ConfigError when the port is taken.

    `names` are those of this machine; port 0 takes a free one.
    """

    def __init__(self, host: str, port: int, names: Sequence[str], answer: Callable[[Request], Awaitable[Answer]]) -> None:
        self._host = host
        self._names = names
        self._answer = answer
        self._server: asyncio.Server | None = None
        self._open = 0
        self.port = port

    async def __aenter__(self) -> Self:
        try:
            self._server = await asyncio.start_server(self._serve, self._host, self.port, limit=MAX_HEAD)
        except OSError as error:
            cure = "give another port as box.port in the settings of this box, or end what listens there"
            raise ConfigError(f"set-up page: {self._host}:{self.port}: {error.strerror or error}", cure=cure) from error
        self.port = self._server.sockets[0].getsockname()[1]
        return self

    async def __aexit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self.close()

    def close(self) -> None:
        """Take no more requests; one under way is answered."""
        if self._server is not None:
            self._server.close()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._open += 1
        try:
            if self._open <= MAX_CONNECTIONS:
                async with asyncio.timeout(REQUEST_S):
                    request = await _request_from(reader)
                if request is not None:
                    writer.write(encode_answer(await self._answered(request)))
                    async with asyncio.timeout(REQUEST_S):
                        await writer.drain()
        except (OSError, TimeoutError):
            pass  # a browser that went away, or one that says nothing
        finally:
            self._open -= 1
            writer.close()

    async def _answered(self, request: Request | Refusal) -> Answer:
        if isinstance(request, Refusal):
            return Answer(request.status, request.status.phrase)
        if not is_this_machine(request.host, self._names):
            return Answer(HTTPStatus.MISDIRECTED_REQUEST, "open this page by the address of the box")
        try:
            return await self._answer(request)
        except Exception:
            log.exception("set-up page: %s %s", request.method, request.path)
            return Answer(HTTPStatus.INTERNAL_SERVER_ERROR, "that went wrong: see the log of the box")


async def _request_from(reader: asyncio.StreamReader) -> Request | Refusal | None:
    parser = RequestReader()
    while raw := await reader.read(4096):
        if (request := parser.feed(raw)) is not None:
            return request
    return None
