"""Certificates as `cryptography` makes them: roots, nodes, servers, lists of the revoked. Pure; times come in as UTC seconds.

Everything is ECDSA on P-256 with SHA-256. A node is its common name `tenant/node`, and a URI `paceline:tenant/node` besides. A certificate
begins an hour before it is made, for clocks that are a little behind. A list of the revoked never runs out before its root does: it is
handed over with the roots, and a forgotten one must not stop a whole platform.
"""

from __future__ import annotations

import ipaddress
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Final

from cryptography import x509
from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from broker.enrolment import Denied, DeniedError, code_hash

EARLY_S: Final = 3_600
URI: Final = "paceline:"
_HASH: Final = hashes.SHA256()
Key = ec.EllipticCurvePrivateKey


@dataclass(frozen=True, slots=True)
class Life:
    """From when to when a certificate holds, UTC seconds."""

    not_before_s: int
    not_after_s: int


def life_from(now_s: float, days: float) -> Life:
    """`days` from now on, and the hour before."""
    return Life(int(now_s) - EARLY_S, int(now_s + days * 86_400))


def new_key() -> Key:
    return ec.generate_private_key(ec.SECP256R1())


def key_pem(key: Key) -> bytes:
    """PKCS #8, not encrypted: the mode of its file guards it."""
    return key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())


def read_key(pem: bytes) -> Key:
    """ValueError when it is no P-256 key."""
    try:
        key = serialization.load_pem_private_key(pem, None)
    except (TypeError, UnsupportedAlgorithm) as error:
        raise ValueError(str(error)) from error
    if not isinstance(key, ec.EllipticCurvePrivateKey) or not isinstance(key.curve, ec.SECP256R1):
        raise ValueError("no key on P-256")
    return key


def pem_of(certificate: x509.Certificate) -> str:
    return certificate.public_bytes(serialization.Encoding.PEM).decode()


def der_of(certificate: x509.Certificate) -> bytes:
    return certificate.public_bytes(serialization.Encoding.DER)


def serial_of(certificate: x509.Certificate) -> str:
    """Its number in hexadecimal, as OpenSSL prints it."""
    return f"{certificate.serial_number:x}"


def key_hash(key: ec.EllipticCurvePublicKey) -> bytes:
    """SHA-256 of a public key."""
    return code_hash(key.public_bytes(serialization.Encoding.X962, serialization.PublicFormat.UncompressedPoint).hex())


def make_root(key: Key, name: str, life: Life, signer: tuple[x509.Certificate, Key] | None = None) -> x509.Certificate:
    """A root of this key; with `signer` the same root as an older one vouches for it (a cross certificate)."""
    issuer, signing = (signer[0].subject, signer[1]) if signer else (_name(name), key)
    builder = (
        _begun(_name(name), issuer, key.public_key(), life)
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        .add_extension(_usage(signs=True), critical=True)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False)
        .add_extension(x509.AuthorityKeyIdentifier.from_issuer_public_key(signing.public_key()), critical=False)
    )
    return builder.sign(signing, _HASH)


def make_node(root: x509.Certificate, signing: Key, name: str, public: ec.EllipticCurvePublicKey, life: Life) -> x509.Certificate:
    """A certificate with which `name` (`tenant/node`) is a client, and nothing else."""
    alternative = x509.SubjectAlternativeName([x509.UniformResourceIdentifier(f"{URI}{name}")])
    builder = (
        _leaf(root, signing, _name(name), public, life)
        .add_extension(x509.ExtendedKeyUsage([ExtendedKeyUsageOID.CLIENT_AUTH]), critical=False)
        .add_extension(alternative, critical=False)
    )
    return builder.sign(signing, _HASH)


def make_server(
    root: x509.Certificate, signing: Key, names: tuple[str, ...], public: ec.EllipticCurvePublicKey, life: Life
) -> x509.Certificate:
    """A certificate with which a server answers to `names`: host names and addresses."""
    builder = (
        _leaf(root, signing, _name(names[0][:64]), public, life)
        .add_extension(x509.ExtendedKeyUsage([ExtendedKeyUsageOID.SERVER_AUTH]), critical=False)
        .add_extension(x509.SubjectAlternativeName([_general(name) for name in names]), critical=False)
    )
    return builder.sign(signing, _HASH)


def make_revoked(root: x509.Certificate, signing: Key, serials: Iterable[tuple[str, int]], number: int, now_s: int) -> str:
    """The list of the revoked (hexadecimal serial, UTC seconds) of one root, PEM."""
    builder = (
        x509.CertificateRevocationListBuilder()
        .issuer_name(root.subject)
        .last_update(_at(now_s - EARLY_S))
        .next_update(root.not_valid_after_utc)
        .add_extension(x509.CRLNumber(number), critical=False)
        .add_extension(x509.AuthorityKeyIdentifier.from_issuer_public_key(signing.public_key()), critical=False)
    )
    for serial, at_s in serials:
        revoked = x509.RevokedCertificateBuilder().serial_number(int(serial, 16)).revocation_date(_at(at_s)).build()
        builder = builder.add_revoked_certificate(revoked)
    return builder.sign(signing, _HASH).public_bytes(serialization.Encoding.PEM).decode()


def make_request(key: Key, name: str) -> str:
    """The request of a node for a certificate (PKCS #10), PEM."""
    builder = x509.CertificateSigningRequestBuilder().subject_name(_name(name))
    return builder.sign(key, _HASH).public_bytes(serialization.Encoding.PEM).decode()


def read_request(pem: str) -> tuple[str, ec.EllipticCurvePublicKey]:
    """(common name, public key) of a request whose signature holds. DeniedError says what is wrong."""
    try:
        request = x509.load_pem_x509_csr(pem.encode())
        public = request.public_key()
        signed = request.is_signature_valid
        [common] = request.subject.get_attributes_for_oid(NameOID.COMMON_NAME)
    except (ValueError, UnsupportedAlgorithm, InvalidSignature) as error:
        raise DeniedError(Denied.BAD_REQUEST, f"request: cannot be read: {error}") from error
    if not isinstance(public, ec.EllipticCurvePublicKey) or not isinstance(public.curve, ec.SECP256R1):
        raise DeniedError(Denied.BAD_REQUEST, "request: its key is not on the curve P-256")
    if not signed:
        raise DeniedError(Denied.BAD_REQUEST, "request: it is not signed by its own key")
    return str(common.value), public


def common_name(certificate: x509.Certificate) -> str:
    """Whom a certificate is for; empty when it says nobody."""
    found = certificate.subject.get_attributes_for_oid(NameOID.COMMON_NAME)
    return str(found[0].value) if found else ""


def _begun(subject: x509.Name, issuer: x509.Name, public: ec.EllipticCurvePublicKey, life: Life) -> x509.CertificateBuilder:
    return (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(issuer)
        .public_key(public)
        .serial_number(x509.random_serial_number())
        .not_valid_before(_at(life.not_before_s))
        .not_valid_after(_at(life.not_after_s))
    )


def _leaf(
    root: x509.Certificate, signing: Key, subject: x509.Name, public: ec.EllipticCurvePublicKey, life: Life
) -> x509.CertificateBuilder:
    return (
        _begun(subject, root.subject, public, life)
        .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
        .add_extension(_usage(signs=False), critical=True)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(public), critical=False)
        .add_extension(x509.AuthorityKeyIdentifier.from_issuer_public_key(signing.public_key()), critical=False)
    )


def _usage(*, signs: bool) -> x509.KeyUsage:
    return x509.KeyUsage(
        digital_signature=not signs,
        content_commitment=False,
        key_encipherment=False,
        data_encipherment=False,
        key_agreement=False,
        key_cert_sign=signs,
        crl_sign=signs,
        encipher_only=False,
        decipher_only=False,
    )


def _name(common: str) -> x509.Name:
    return x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, common)])


def _general(name: str) -> x509.GeneralName:
    try:
        return x509.IPAddress(ipaddress.ip_address(name))
    except ValueError:
        return x509.DNSName(name)


def _at(seconds: int) -> datetime:
    return datetime.fromtimestamp(seconds, UTC)
