"""The enrolment contract: how a node gets a certificate, once by a code and from then on by itself. Pure; boxes and devices speak the same.

An enrolment code is one line, as `paceline node add` prints it:

    https://HOST:PORT/TENANT/NODE#CODE.ROOT

CODE is 130 random bits and works once; ROOT is the SHA-256 of the authority's root certificate. The node makes its key, fetches the roots
from PATH_ROOTS without trusting the server, takes them only if ROOT is among them, and sends its certificate request and CODE to
PATH_CERTIFICATES over TLS that these roots prove. Later it shows its certificate in the TLS handshake: PATH_STANDING says whether it is
time for a new one, PATH_RENEWALS gives it. Bodies are JSON objects; an error is `{"error": word, "message": ..., "cure": ...}`.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import re
import secrets
from dataclasses import dataclass
from enum import StrEnum
from typing import Final
from urllib.parse import urlsplit

from pydantic import BaseModel, ConfigDict, Field

from broker.errors import BadInputError, PacelineError
from broker.topics import Principal, parse_username

PATH_ROOTS: Final = "/enrol/v1/roots"
PATH_CERTIFICATES: Final = "/enrol/v1/certificates"
PATH_RENEWALS: Final = "/enrol/v1/renewals"
PATH_STANDING: Final = "/enrol/v1/standing"
CODE_CHARS: Final = 26  # of 32 letters: 130 bits
MAX_NAME_CHARS: Final = 64  # a common name is no longer (RFC 5280, ub-common-name)
MAX_BODY_BYTES: Final = 16 * 1024
_ALPHABET: Final = "abcdefghijklmnopqrstuvwxyz234567"
_FINGERPRINT: Final = re.compile(r"[A-Za-z0-9_-]{43}")
_CODE: Final = re.compile(rf"[{_ALPHABET}]{{{CODE_CHARS}}}")


class Denied(StrEnum):
    """Why a node gets no certificate. The words travel: never rename one, only add."""

    BAD_REQUEST = "bad_request"
    UNKNOWN_CODE = "unknown_code"
    USED_CODE = "used_code"
    EXPIRED_CODE = "expired_code"
    WRONG_NAME = "wrong_name"
    NO_CERTIFICATE = "no_certificate"
    NOT_OURS = "not_ours"
    REVOKED = "revoked"
    EXPIRED = "expired"
    TOO_MANY = "too_many"


CURES: Final[dict[Denied, str]] = {
    Denied.BAD_REQUEST: "send a PKCS #10 request in PEM with a P-256 key, as docs/identity.md says",
    Denied.UNKNOWN_CODE: "copy the whole line that `paceline node add` printed, or ask for a new one",
    Denied.USED_CODE: "a code works once: ask for a new one with `paceline node add`",
    Denied.EXPIRED_CODE: "ask for a new code with `paceline node add`",
    Denied.WRONG_NAME: "the request must name the tenant/node of the code",
    Denied.NO_CERTIFICATE: "show the certificate of the node in the TLS handshake, or enrol with a code of `paceline node add`",
    Denied.NOT_OURS: "this authority did not make that certificate: enrol with a new code of `paceline node add`",
    Denied.REVOKED: "this node was revoked: ask its operator, and enrol with a new code of `paceline node add`",
    Denied.EXPIRED: "it expired longer ago than the grace allows: enrol with a new code of `paceline node add`",
    Denied.TOO_MANY: "wait as many seconds as Retry-After says",
}


class DeniedError(PacelineError):
    """The authority does not give a certificate: `denied` says why, the cure what to do."""

    def __init__(self, denied: Denied, message: str, *, cure: str = "") -> None:
        super().__init__(message, cure=cure or CURES[denied])
        self.denied = denied


class CertificateRequest(BaseModel):
    """Body of PATH_CERTIFICATES (with `code`) and of PATH_RENEWALS (without). `request` is PKCS #10 in PEM."""

    model_config = ConfigDict(extra="forbid", frozen=True)
    request: str = Field(max_length=4_000)
    code: str = Field(default="", max_length=64)


class Grant(BaseModel):
    """A certificate and what belongs to it. Times are UTC seconds of the authority; `roots` may hold more than one while they change.

    Unknown keys are passed over, so that an older node understands a newer authority.
    """

    model_config = ConfigDict(frozen=True)
    certificate: str
    roots: str
    host: str  # of the central broker
    port: int = Field(ge=1, le=65_535)
    not_before_s: int
    not_after_s: int
    time_s: int


class Standing(BaseModel):
    """What the authority says of a certificate that was shown: whether to ask for a new one now, and why."""

    model_config = ConfigDict(frozen=True)
    renew: bool
    why: str = ""
    roots: str
    time_s: int


class Refused(BaseModel):
    """Body of an answer that is an error."""

    model_config = ConfigDict(frozen=True)
    error: str
    message: str = ""
    cure: str = ""


@dataclass(frozen=True, slots=True)
class EnrolmentCode:
    """One line of `paceline node add`, taken apart. `root` is the fingerprint of a root certificate."""

    host: str
    port: int
    tenant: str
    node: str
    code: str
    root: str

    @property
    def username(self) -> str:
        return f"{self.tenant}/{self.node}"

    @property
    def text(self) -> str:
        """The line."""
        host = f"[{self.host}]" if ":" in self.host else self.host
        return f"https://{host}:{self.port}/{self.tenant}/{self.node}#{self.code}.{self.root}"


def read_enrolment_code(text: str) -> EnrolmentCode:
    """Take a line apart. BadInputError says which part is wrong."""
    cure = "copy the whole line that `paceline node add` printed, from https:// to its end"
    try:
        parts = urlsplit(text.strip())
        host, port = parts.hostname, parts.port
    except ValueError as error:
        raise BadInputError(f"enrolment code: {error}", cure=cure) from error
    who = parse_username(parts.path.strip("/"))
    if parts.scheme != "https" or not host:
        raise BadInputError("enrolment code: it begins with https:// and a host", cure=cure)
    if who is None or who.is_platform:
        raise BadInputError("enrolment code: no tenant/node after the host", cure=cure)
    code, _, root = parts.fragment.partition(".")
    if not _CODE.fullmatch(code) or not _FINGERPRINT.fullmatch(root):
        raise BadInputError("enrolment code: what stands after # is not whole", cure=cure)
    return EnrolmentCode(host, port or 443, who.tenant, who.node, code, root)


def new_code() -> str:
    """130 random bits as letters that survive a hand and a QR code."""
    return "".join(secrets.choice(_ALPHABET) for _ in range(CODE_CHARS))


def code_hash(code: str) -> bytes:
    """What the authority keeps of a code: random bits need no salt."""
    return hashlib.sha256(code.encode()).digest()


def fingerprint(der: bytes) -> str:
    """SHA-256 of a certificate, base64 for URLs, without padding."""
    return base64.urlsafe_b64encode(hashlib.sha256(der).digest()).decode().rstrip("=")


def certificates_in(pem: str) -> list[bytes]:
    """The DER of each certificate in a PEM text; BadInputError when one is damaged."""
    found: list[bytes] = []
    for part in pem.split("-----BEGIN CERTIFICATE-----")[1:]:
        body, end, _ = part.partition("-----END CERTIFICATE-----")
        try:
            found.append(base64.b64decode("".join(body.split()), validate=True))
        except (ValueError, binascii.Error):
            end = ""
        if not end:
            raise BadInputError("roots: a certificate is damaged", cure="try again; else look at the log of the enrolment service")
    return found


def proven_roots(pem: str, root: str) -> str:
    """The one certificate of `pem` whose fingerprint is `root`: nothing else of it is proved. BadInputError when it is not there."""
    for der in certificates_in(pem):
        if fingerprint(der) == root:
            lines = base64.encodebytes(der).decode().replace("\n", "")
            body = "\n".join(lines[at : at + 64] for at in range(0, len(lines), 64))
            return f"-----BEGIN CERTIFICATE-----\n{body}\n-----END CERTIFICATE-----\n"
    raise BadInputError(
        "the server at this address does not have the authority that the code names",
        cure="somebody may stand between, or the authority changed: ask for a new code with `paceline node add`",
    )


def renew_at_s(not_before_s: float, not_after_s: float) -> float:
    """When a node asks for its next certificate: at two thirds of the life of this one."""
    return not_before_s + (not_after_s - not_before_s) * 2 / 3


def check_node_name(name: str) -> Principal:
    """The node that `name` (`tenant/node`) means; BadInputError when no node can have a certificate with that name."""
    who = parse_username(name)
    if who is None or who.is_platform:
        raise BadInputError(f"node {name!r} is not tenant/node", cure="use two ids joined by '/', such as mygym/box1")
    if len(name) > MAX_NAME_CHARS:
        raise BadInputError(f"node {name!r}: {len(name)} characters", cure=f"a certificate holds {MAX_NAME_CHARS}: take a shorter id")
    return who
