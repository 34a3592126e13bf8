"""The enrolment service: the authority's side of `broker/enrolment.py`, over HTTPS on a listener of its own.

One request a connection. A certificate is asked for in the handshake, not demanded; its chain is checked and its dates are not, so that an
expired one proves its key (the authority judges the dates). Bounded: 64 connections, 16 of them of one address, handshakes among them, 10 s
a handshake, 15 s a request, 32 KB a body, and ten wrong codes an address; what is beyond is ended before it costs a handshake. The
service also keeps the certificates of the broker and of our own processes fresh.
"""

from __future__ import annotations

import asyncio
import logging
import math
import ssl
import time
from collections.abc import Callable
from contextlib import suppress
from http import HTTPStatus
from pathlib import Path
from typing import Final, Self

from pydantic import BaseModel, ValidationError

from broker.enrolment import (
    MAX_BODY_BYTES,
    PATH_CERTIFICATES,
    PATH_RENEWALS,
    PATH_ROOTS,
    PATH_STANDING,
    CertificateRequest,
    Denied,
    DeniedError,
    Grant,
    Refused,
    Standing,
)
from broker.errors import ConfigError, PacelineError
from broker.pinned_tls import NO_CHECK_TIME
from gateway.setup_http import Refusal, Request, RequestReader
from paceline.ca_authority import Authority
from paceline.ca_book import Kept
from paceline.enrol_counts import EnrolCounts
from paceline.enrol_rate import WrongTries

log = logging.getLogger(__name__)

MAX_CONNECTIONS: Final = 64
MAX_OF_ADDRESS: Final = 16  # one that says nothing must not keep the others out; a node that is sent away asks again
HANDSHAKE_S: Final = 10.0
REQUEST_S: Final = 15.0
FRESH_S: Final = 60.0
LOOK_S: Final = 0.5  # another process may have changed the roots
_WRONG_CODES: Final = frozenset({Denied.UNKNOWN_CODE, Denied.USED_CODE, Denied.EXPIRED_CODE, Denied.WRONG_NAME})
_STATUS: Final = {
    Denied.BAD_REQUEST: HTTPStatus.BAD_REQUEST,
    Denied.WRONG_NAME: HTTPStatus.BAD_REQUEST,
    Denied.NO_CERTIFICATE: HTTPStatus.UNAUTHORIZED,
    Denied.TOO_MANY: HTTPStatus.TOO_MANY_REQUESTS,
}
Reply = tuple[HTTPStatus, str, dict[str, str]]


class EnrolDesk:
    """What a request comes to, without a socket. `host` and `port` are the central broker's, as nodes reach it."""

    def __init__(self, authority: Authority, host: str, port: int, monotonic_s: Callable[[], float] = time.monotonic) -> None:
        self._authority = authority
        self._host = host
        self._port = port
        self._monotonic_s = monotonic_s
        self._tries = WrongTries()
        self.counts = EnrolCounts()

    def answer(self, request: Request, shown: bytes | None, address: str) -> Reply:
        """(status, JSON, headers). `shown` is the certificate (DER) of the handshake, whose key is proved; `address` that of the peer."""
        try:
            what, reply = self._answer(request, shown, address)
        except DeniedError as error:
            self.counts.answers[error.denied] += 1
            if error.denied in _WRONG_CODES:
                self._tries.failed(address, self._monotonic_s())
            log.warning("%s %s: %s", address, request.path, error.message)
            return _refused(_STATUS.get(error.denied, HTTPStatus.FORBIDDEN), error.denied, error)
        except PacelineError as error:
            self.counts.answers["unavailable"] += 1
            log.error("%s: %s", request.path, error)  # noqa: TRY400 - its message is whole
            return HTTPStatus.SERVICE_UNAVAILABLE, Refused(error="unavailable", message="the authority cannot write").model_dump_json(), {}
        self.counts.answers[what] += 1
        return reply

    def _answer(self, request: Request, shown: bytes | None, address: str) -> tuple[str, Reply]:
        """What kind of answer it is, for the figures, and the answer."""
        match request.method, request.path:
            case "GET", path if path == PATH_ROOTS:
                return "roots", _ok(_Roots(roots=self._authority.roots()))
            case "GET", path if path == PATH_STANDING:
                kept = self._authority.check_shown(shown)
                why = self._authority.standing(kept)
                return "standing", _ok(Standing(renew=bool(why), why=why, roots=self._authority.roots(), time_s=self._authority.now_s()))
            case "POST", path if path == PATH_CERTIFICATES:
                wait_s = self._tries.wait_s(address, self._monotonic_s())
                if wait_s > 0:
                    error = DeniedError(Denied.TOO_MANY, f"too many wrong codes from {address}")
                    status, text, _ = _refused(HTTPStatus.TOO_MANY_REQUESTS, Denied.TOO_MANY, error)
                    return Denied.TOO_MANY, (status, text, {"Retry-After": str(math.ceil(wait_s))})
                asked = _read(request.body)
                return "enrolled", self._granted(self._authority.enrol(asked.code, asked.request), "enrolled")
            case "POST", path if path == PATH_RENEWALS:
                return "renewed", self._granted(self._authority.renew(shown, _read(request.body).request), "renewed")
            case _:
                known = request.path in {PATH_ROOTS, PATH_CERTIFICATES, PATH_RENEWALS, PATH_STANDING}
                status = HTTPStatus.METHOD_NOT_ALLOWED if known else HTTPStatus.NOT_FOUND
                said = Refused(error="no_such_route", message="see docs/identity.md for the routes")
                return "no_such_route", (status, said.model_dump_json(), {})

    def _granted(self, kept: Kept, how: str) -> Reply:
        log.info("%s: %s, certificate %s until %d", kept.name, how, kept.serial, kept.not_after_s)
        grant = Grant(
            certificate=self._authority.chain(kept),
            roots=self._authority.roots(),
            host=self._host,
            port=self._port,
            not_before_s=kept.not_before_s,
            not_after_s=kept.not_after_s,
            time_s=self._authority.now_s(),
        )
        return HTTPStatus.CREATED, grant.model_dump_json(), {}


class _Roots(BaseModel):
    roots: str


class EnrolService:
    """`async with EnrolService(...) as service` serves; `port` is the one in use. `fresh()` is called each minute and when roots change.

    `server_file` is the service's own key and chain. ConfigError when the port is taken.
    """

    def __init__(self, desk: EnrolDesk, authority: Authority, server_file: Path, host: str, port: int, fresh: Callable[[], None]) -> None:
        self._desk = desk
        self._authority = authority
        self._server_file = server_file
        self._host = host
        self._fresh = fresh
        self._context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        self._server: asyncio.Server | None = None
        self._keeping: asyncio.Task[None] | None = None
        self._counts = desk.counts
        self.port = port

    async def __aenter__(self) -> Self:
        context = self._context
        context.minimum_version = ssl.TLSVersion.TLSv1_2
        context.verify_mode = ssl.CERT_OPTIONAL
        context.verify_flags |= NO_CHECK_TIME
        context.options |= ssl.OP_NO_TICKET
        context.num_tickets = 0  # each connection shows its certificate anew
        await asyncio.to_thread(self._freshen)
        try:
            self._server = await asyncio.start_server(self._serve, self._host, self.port, limit=MAX_BODY_BYTES)
        except OSError as error:
            raise ConfigError(
                f"identity.port {self.port} on {self._host}: {error.strerror}", cure="give another one as identity.port"
            ) from error
        self.port = self._server.sockets[0].getsockname()[1]
        self._keeping = asyncio.create_task(self._keep_fresh())
        return self

    async def __aexit__(self, *_exc: object) -> None:
        assert self._server is not None
        assert self._keeping is not None
        self._keeping.cancel()
        self._server.close()
        await asyncio.wait([self._keeping])

    async def run(self) -> None:
        """Serve until cancelled."""
        async with self:
            await asyncio.get_running_loop().create_future()

    async def _keep_fresh(self) -> None:
        left_s, seen = FRESH_S, self._stamp()
        while True:
            await asyncio.sleep(LOOK_S)
            left_s -= LOOK_S
            if left_s > 0 and seen == self._stamp():
                continue
            left_s, seen = FRESH_S, self._stamp()
            try:
                await asyncio.to_thread(self._freshen)
            except (PacelineError, OSError, ValueError) as error:  # no file could be opened, or one is damaged: it is looked at again
                log.error("certificates are not kept fresh: %s", error)  # noqa: TRY400 - its message is whole

    def _stamp(self) -> int:
        try:
            return self._authority.roots_file.stat().st_mtime_ns
        except OSError:
            return 0

    def _freshen(self) -> None:
        self._fresh()
        self._authority.publish()
        self._context.load_cert_chain(self._server_file)
        self._context.load_verify_locations(cadata=self._authority.all_roots())

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        peer = writer.get_extra_info("peername")
        address = str(peer[0]) if peer else ""  # it is gone already
        counts = self._counts
        if counts.open.total() >= MAX_CONNECTIONS or counts.open[address] >= MAX_OF_ADDRESS:
            counts.turned_away += 1
            writer.transport.abort()
            return
        counts.connections += 1
        counts.open[address] += 1
        try:
            if await self._greeted(writer):
                async with asyncio.timeout(REQUEST_S):
                    await self._talk(reader, writer, address)
        except (OSError, TimeoutError):
            writer.transport.abort()
        finally:
            counts.open[address] -= 1
            if counts.open[address] <= 0:
                del counts.open[address]
            writer.close()
            with suppress(OSError, TimeoutError):
                async with asyncio.timeout(1.0):
                    await writer.wait_closed()

    async def _greeted(self, writer: asyncio.StreamWriter) -> bool:
        """The handshake. Nothing may be awaited before it: what the peer sent would be read as if it were the request."""
        try:
            async with asyncio.timeout(HANDSHAKE_S):
                await writer.start_tls(self._context)
        except (OSError, TimeoutError):  # ssl.SSLError is one
            self._counts.failed_handshakes += 1
            writer.transport.abort()
            return False
        return True

    async def _talk(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, address: str) -> None:
        asked = RequestReader()
        request: Request | Refusal | None = None
        while request is None:
            raw = await reader.read(MAX_BODY_BYTES)
            if not raw:
                return
            request = asked.feed(raw)
        if isinstance(request, Refusal):
            writer.write(_encoded(request.status, Refused(error="bad_http").model_dump_json(), {}))
        else:
            channel: ssl.SSLObject = writer.get_extra_info("ssl_object")
            shown = channel.getpeercert(binary_form=True)
            writer.write(_encoded(*await asyncio.to_thread(self._desk.answer, request, shown, address)))
        await writer.drain()


def _read(body: bytes) -> CertificateRequest:
    try:
        return CertificateRequest.model_validate_json(body[:MAX_BODY_BYTES])
    except ValidationError as error:
        first = error.errors(include_input=False)[0]
        field = ".".join(str(part) for part in first["loc"]) or "body"
        raise DeniedError(Denied.BAD_REQUEST, f"{field}: {first['msg']}") from error


def _ok(body: BaseModel) -> Reply:
    return HTTPStatus.OK, body.model_dump_json(), {}


def _refused(status: HTTPStatus, denied: Denied, error: DeniedError) -> Reply:
    return status, Refused(error=denied, message=error.message, cure=error.cure).model_dump_json(), {}


def _encoded(status: HTTPStatus, text: str, headers: dict[str, str]) -> bytes:
    body = text.encode()
    fixed = {"Content-Type": "application/json", "Cache-Control": "no-store", "Connection": "close"}
    lines = {**fixed, "Content-Length": str(len(body)), **headers}
    head = f"HTTP/1.1 {status.value} {status.phrase}\r\n" + "".join(f"{name}: {value}\r\n" for name, value in lines.items())
    return head.encode("latin-1") + b"\r\n" + body
