"""Who a node is, as files in one folder: its key and certificate, the roots it trusts, and where it enrolled.

`node.pem` (key and certificate, replaced together, mode 0600) is the identity; `roots.pem` and `place.json` are written before it. The
key of a request that was not answered yet is kept in `asked.key`, so that asking again is the same question. No key leaves it.
"""

from __future__ import annotations

from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from broker.enrolment import EnrolmentCode, Grant, renew_at_s
from broker.errors import ConfigError, StoreError
from broker.pinned_tls import ClientFiles
from broker.replace_file import replace_file

NODE_FILE: Final = "node.pem"
ROOTS_FILE: Final = "roots.pem"
PLACE_FILE: Final = "place.json"
ASKED_FILE: Final = "asked.key"


class Place(BaseModel):
    """Whose identity it is, where the enrolment service and the broker are, and from when to when the certificate holds (UTC seconds)."""

    model_config = ConfigDict(extra="forbid", frozen=True)
    tenant: str
    node: str
    enrol_host: str
    enrol_port: int = Field(ge=1, le=65_535)
    host: str
    port: int = Field(ge=1, le=65_535)
    not_before_s: int
    not_after_s: int


@dataclass(frozen=True, slots=True)
class Identity:
    """A node that is enrolled."""

    folder: Path
    place: Place

    @property
    def username(self) -> str:
        """Common name of its certificate, and user name and client id on the broker."""
        return f"{self.place.tenant}/{self.place.node}"

    @property
    def files(self) -> ClientFiles:
        """Key and certificate, and the roots, as TLS takes them."""
        return client_files(self.folder)

    @property
    def renew_at_s(self) -> float:
        """When to ask for the next certificate, UTC seconds of the authority."""
        return renew_at_s(self.place.not_before_s, self.place.not_after_s)


def client_files(folder: Path) -> ClientFiles:
    """The files of the identity in a folder, whether or not they are there."""
    return ClientFiles(node_file=folder / NODE_FILE, roots_file=folder / ROOTS_FILE)


def load_identity(folder: Path) -> Identity | None:
    """The identity in a folder, None before the enrolment. ConfigError when it cannot be read."""
    path = folder / PLACE_FILE
    try:
        if not (folder / NODE_FILE).exists():
            return None
        return Identity(folder, Place.model_validate_json(path.read_bytes()))
    except OSError as error:
        raise ConfigError(f"{path}: {error.strerror}", cure="let the user of the gateway read it, or enrol again") from error
    except ValidationError as error:
        raise ConfigError(f"{path}: not the place of an identity", cure="enrol again with a code of `paceline node add`") from error


def asked_key(folder: Path) -> bytes:
    """The key (PEM) of the request under way; made here when there is none. StoreError when it cannot be kept."""
    from cryptography.hazmat.primitives import serialization
    from cryptography.hazmat.primitives.asymmetric import ec

    path = folder / ASKED_FILE
    with suppress(OSError, ValueError):
        held = path.read_bytes()
        serialization.load_pem_private_key(held, None)
        return held
    made = ec.generate_private_key(ec.SECP256R1())
    pem = made.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    try:
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        replace_file(path, pem)
    except OSError as error:
        raise StoreError(f"{path}: {error.strerror}", cure="give the data folder room, and to the user of the gateway") from error
    return pem


def make_request(key: bytes, username: str) -> str:
    """The request (PKCS #10, PEM) for a certificate of this key in the name of `username`."""
    from cryptography import x509
    from cryptography.hazmat.primitives import hashes, serialization
    from cryptography.hazmat.primitives.asymmetric import ec

    held = serialization.load_pem_private_key(key, None)
    assert isinstance(held, ec.EllipticCurvePrivateKey)
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, username)])
    request = x509.CertificateSigningRequestBuilder().subject_name(name).sign(held, hashes.SHA256())
    return request.public_bytes(serialization.Encoding.PEM).decode()


def keep_grant(folder: Path, key: bytes, grant: Grant, of: EnrolmentCode | Place) -> Identity:
    """Keep what the authority gave for `key`. StoreError when the disk does not let us: what was there before still is."""
    enrol_host, enrol_port = (of.host, of.port) if isinstance(of, EnrolmentCode) else (of.enrol_host, of.enrol_port)
    place = Place(
        tenant=of.tenant,
        node=of.node,
        enrol_host=enrol_host,
        enrol_port=enrol_port,
        host=grant.host,
        port=grant.port,
        not_before_s=grant.not_before_s,
        not_after_s=grant.not_after_s,
    )
    try:
        replace_file(folder / ROOTS_FILE, grant.roots.encode())
        replace_file(folder / PLACE_FILE, place.model_dump_json(indent=1).encode() + b"\n")
        replace_file(folder / NODE_FILE, key + grant.certificate.encode())
        (folder / ASKED_FILE).unlink(missing_ok=True)
    except OSError as error:
        raise StoreError(f"{folder}: {error.strerror}", cure="give the data folder room, and to the user of the gateway") from error
    return Identity(folder, place)
