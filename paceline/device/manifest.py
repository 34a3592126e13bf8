"""The signed manifest of an image for devices, as the kit reads it (`firmware/micropython/kit/manifest.py` has the table of its 156 bytes).

Keys are Ed25519 in PEM (PKCS #8), made and used by `cryptography`; a device holds only the 32 bytes of the public one.
"""

from __future__ import annotations

import hashlib
import struct
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Final, Literal

from broker.errors import BadInputError, ConfigError, StoreError
from broker.ids import is_id
from broker.replace_file import replace_file

if TYPE_CHECKING:
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

CONTEXT: Final = b"paceline firmware 1\n"
SIZE: Final = 156
_FORM: Final = "<4sBBHIIIQ32s32s"
_MAX_U32: Final = 0xFFFF_FFFF
Kind = Literal["application", "firmware"]
_KINDS: Final[dict[Kind, int]] = {"application": 1, "firmware": 2}


@dataclass(frozen=True, slots=True)
class Release:
    """What is said of an image. `version` and `minimum` are whole numbers that only grow; `hardware` is as `esp32-strap_bridge`."""

    kind: Kind
    version: int
    minimum: int
    expires_s: int
    hardware: str

    def __post_init__(self) -> None:
        if not 1 <= self.version <= _MAX_U32:
            raise BadInputError(f"version {self.version} is not within 1 .. {_MAX_U32}", cure="count releases: 1, 2, 3")
        if not 0 <= self.minimum <= self.version:
            raise BadInputError(
                f"minimum {self.minimum} is not within 0 .. {self.version}", cure="give the oldest version that may take it"
            )
        if not is_id(self.hardware):
            raise BadInputError(f"hardware {self.hardware!r} is no id", cure="give board and example, such as esp32-strap_bridge")


def encode(release: Release, image: bytes) -> bytes:
    """The bytes that are signed, without `CONTEXT`."""
    if not 0 < len(image) <= _MAX_U32:
        raise BadInputError(f"image of {len(image)} bytes", cure="build it first: `paceline firmware build`")
    return struct.pack(
        _FORM,
        b"PLU1",
        _KINDS[release.kind],
        0,
        0,
        release.version,
        release.minimum,
        len(image),
        release.expires_s,
        release.hardware.encode(),
        hashlib.sha256(image).digest(),
    )


def sign(release: Release, image: bytes, key: Ed25519PrivateKey) -> bytes:
    """The manifest of an image."""
    body = encode(release, image)
    return body + key.sign(CONTEXT + body)


def read(raw: bytes) -> tuple[Release, int, bytes]:
    """(what it says, size, SHA-256 of the image) of a manifest; says nothing of its signature. BadInputError if it is none."""
    cure = "make it with `paceline firmware sign`"
    if len(raw) != SIZE or raw[:4] != b"PLU1":
        raise BadInputError("not a manifest of 156 bytes", cure=cure)
    _, kind, _, _, version, minimum, size, expires_s, hardware, digest = struct.unpack(_FORM, raw[:92])
    kinds: dict[int, Kind] = {number: name for name, number in _KINDS.items()}
    if kind not in kinds:
        raise BadInputError(f"kind {kind} of the manifest is not known", cure=cure)
    return Release(kinds[kind], version, minimum, expires_s, hardware.rstrip(b"\0").decode("ascii", "replace")), size, digest


def make_key(path: Path) -> bytes:
    """Make a key in a new file (0600); its public half, 32 bytes. ConfigError if the file is there."""
    from cryptography.hazmat.primitives import serialization
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

    if path.exists():
        raise ConfigError(
            f"{path} is there already", cure="sign with it, or give another name: devices trust the keys they were built with"
        )
    key = Ed25519PrivateKey.generate()
    pem = key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    try:
        replace_file(path, pem)
    except OSError as error:
        raise StoreError(f"{path}: {error.strerror}", cure="name a file in a folder you may write") from error
    return key.public_key().public_bytes_raw()


def read_key(path: Path) -> Ed25519PrivateKey:
    """The private key in a file. ConfigError when it is missing, or none."""
    try:
        from cryptography.hazmat.primitives import serialization
        from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
    except ImportError as error:
        raise ConfigError("signing needs `cryptography`", cure='pip install "paceline[firmware]"') from error
    try:
        key = serialization.load_pem_private_key(path.read_bytes(), password=None)
    except OSError as error:
        raise ConfigError(f"{path}: {error.strerror}", cure="make a key with `paceline firmware key FILE`") from error
    except (ValueError, TypeError) as error:
        raise ConfigError(f"{path}: no private key without a password", cure="make a key with `paceline firmware key FILE`") from error
    if not isinstance(key, Ed25519PrivateKey):
        raise ConfigError(f"{path}: no Ed25519 key", cure="make a key with `paceline firmware key FILE`")
    return key
