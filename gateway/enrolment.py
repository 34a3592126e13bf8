"""The node's side of the enrolment contract (`broker/enrolment.py`) over HTTPS: enrol by a code, ask how it stands, renew.

Plain blocking calls, each bounded by TIMEOUT_S a step and WHOLE_S in all; run them in a thread. DeniedError is the authority's no with its
cure, LinkError that it was not reached or is not whom the node trusts.
"""

from __future__ import annotations

import http.client
import socket
import ssl
import threading
from collections.abc import Generator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Final, TypeVar

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
    EnrolmentCode,
    Grant,
    Refused,
    Standing,
    proven_roots,
)
from broker.errors import LinkError, StoreError
from broker.pinned_tls import pinned_context
from broker.replace_file import replace_file
from gateway.identity import Identity, asked_key, keep_grant, make_request

TIMEOUT_S: Final = 10.0
WHOLE_S: Final = 30.0  # one that sends a byte now and then would hold a node for ever
_STRANGER: Final = "it does not know the authority of this node's certificate: enrol again with a code of `paceline node add`"
M = TypeVar("M", bound=BaseModel)


class _Roots(BaseModel):
    roots: str


def enrol(code: EnrolmentCode, folder: Path) -> Identity:
    """Make a key in `folder`, have it certified by a code, and keep the identity there. Asking again after a lost answer is safe.

    DeniedError, LinkError; BadInputError when the server is not the one the code names; StoreError when the folder cannot be written.
    """
    unproved = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    unproved.check_hostname = False
    unproved.verify_mode = ssl.CERT_NONE  # the fingerprint of the code proves what comes, not the server
    told = _ask(_Roots, code.host, code.port, unproved, "GET", PATH_ROOTS)
    roots = proven_roots(told.roots, code.root)
    key = asked_key(folder)
    asked = CertificateRequest(request=make_request(key, code.username), code=code.code)
    grant = _ask(Grant, code.host, code.port, pinned_context(roots), "POST", PATH_CERTIFICATES, asked)
    return keep_grant(folder, key, grant, code)


def ask_standing(identity: Identity) -> Standing:
    """What the authority says of this identity. The roots it names from now on are kept."""
    place = identity.place
    standing = _ask(Standing, place.enrol_host, place.enrol_port, identity.files.context(), "GET", PATH_STANDING)
    path = identity.files.roots_file
    if standing.roots != path.read_text("ascii"):
        try:
            replace_file(path, standing.roots.encode())
        except OSError as error:
            raise StoreError(f"{path}: {error.strerror}", cure="give the data folder room") from error
    return standing


def renew(identity: Identity) -> Identity:
    """The next certificate, for a new key, proved by the present one; kept."""
    place = identity.place
    key = asked_key(identity.folder)
    asked = CertificateRequest(request=make_request(key, identity.username))
    grant = _ask(Grant, place.enrol_host, place.enrol_port, identity.files.context(), "POST", PATH_RENEWALS, asked)
    return keep_grant(identity.folder, key, grant, place)


def _ask(form: type[M], host: str, port: int, context: ssl.SSLContext, method: str, path: str, body: BaseModel | None = None) -> M:
    where = f"enrolment service {host}:{port}"
    raw = body.model_dump_json(exclude_defaults=True).encode() if body is not None else None
    connection = http.client.HTTPSConnection(host, port, timeout=TIMEOUT_S, context=context)
    late = threading.Event()
    try:
        with socket.create_connection((host, port), TIMEOUT_S) as plain, _ended_after(plain, WHOLE_S, late):
            connection.sock = context.wrap_socket(plain, server_hostname=host)
            connection.request(method, path, raw, {"Content-Type": "application/json"} if raw else {})
            answer = connection.getresponse()
            status, said = answer.status, answer.read(MAX_BODY_BYTES * 2)
    except (OSError, http.client.HTTPException) as error:
        raise _too_late(where) if late.is_set() else _not_asked(error, where, path) from error
    finally:
        connection.close()
    if late.is_set():
        raise _too_late(where)
    try:
        if status in (200, 201):
            return form.model_validate_json(said)
        refused = Refused.model_validate_json(said)
        denied = Denied(refused.error)
    except (ValidationError, ValueError) as error:
        raise LinkError(f"{where}: answers {status} with what is no answer of it", cure="check that host and port are its own") from error
    raise DeniedError(denied, f"{where}: {refused.message}", cure=refused.cure)


@contextmanager
def _ended_after(plain: socket.socket, limit_s: float, late: threading.Event) -> Generator[None]:
    """End a connection for whoever reads it after a time, and say so in `late`. By a handle of its own: TLS takes the other one away."""
    twin = plain.dup()

    def end() -> None:
        late.set()
        with suppress(OSError):
            twin.shutdown(socket.SHUT_RDWR)

    timer = threading.Timer(limit_s, end)
    timer.daemon = True
    timer.start()
    try:
        yield
    finally:
        timer.cancel()
        twin.close()


def _too_late(where: str) -> LinkError:
    return LinkError(f"{where}: no whole answer in {WHOLE_S:.0f} s", cure="check that host and port are its own, and the network between")


def _not_asked(error: OSError | http.client.HTTPException, where: str, path: str) -> LinkError:
    """What an error of the connection means for the node."""
    if isinstance(error, ssl.SSLError):
        return LinkError(f"{where}: TLS failed: {error.reason or error}", cure=_tls_cure(error))
    cure = "check host, port and network, and that `paceline run` is up there"
    if isinstance(error, ConnectionError) and path in (PATH_STANDING, PATH_RENEWALS) and not isinstance(error, ConnectionRefusedError):
        cure = _STRANGER  # it ends the link in the handshake, with or without a word
    return LinkError(f"{where}: {error or type(error).__name__}", cure=cure)


def _tls_cure(error: ssl.SSLError) -> str:
    said = str(error).lower()
    if isinstance(error, ssl.SSLCertVerificationError):
        if "hostname" in said or "ip address" in said:
            return "its certificate has another name: add this one to identity.names on the platform"
        return "it is not of the authority this node trusts: enrol again with a code of `paceline node add`"
    if "unknown ca" in said or "unknown_ca" in said:
        return _STRANGER
    return "check that host and port are those of the enrolment service"
