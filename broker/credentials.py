"""Credentials: the password file that mosquitto and the embedded broker both read, one `user:$7$iterations$salt$hash` a line.

`$7$` is PBKDF2-HMAC-SHA512 with a 12-byte salt and a 64-byte key, base64. User names are `tenant/node` (`broker/topics.py`); the client id
is the user name. Refuses names that are no principal and files with lines it cannot read. The file is replaced atomically, mode 0600.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import hmac
import secrets
from collections import OrderedDict
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from broker.errors import BadInputError, ConfigError
from broker.replace_file import replace_file
from broker.topics import UPLOAD_NODE, Principal, check_node, parse_username

ITERATIONS: Final = 101  # mosquitto's default; secrets are 192 random bits, so stretching adds nothing
MAX_ITERATIONS: Final = 1_000_000
SALT_BYTES: Final = 12  # mosquitto 2.0 accepts no other length
_KEY_BYTES: Final = 64
_CACHE_ENTRIES: Final = 4096


@dataclass(frozen=True, slots=True)
class PasswordHash:
    """What the file keeps of one secret."""

    iterations: int
    salt: bytes
    key: bytes

    def encode(self) -> str:
        """The part of the line after the user name."""
        return f"$7${self.iterations}${base64.b64encode(self.salt).decode()}${base64.b64encode(self.key).decode()}"


def new_secret() -> str:
    """192 random bits as 32 URL-safe characters; the first is no '-', which a command line would take for an option."""
    while (secret := secrets.token_urlsafe(24)).startswith("-"):
        continue
    return secret


def check_username(name: str) -> Principal:
    """The principal `name` stands for; BadInputError when it is not `tenant/node` or its node is reserved."""
    who = parse_username(name)
    if who is None and name.endswith(f"/{UPLOAD_NODE}"):
        check_node(UPLOAD_NODE)
    if who is None:
        raise BadInputError(f"user name {name!r} is not tenant/node", cure="use two ids joined by '/', such as mygym/box1")
    return who


def hash_secret(secret: str, *, salt: bytes | None = None, iterations: int = ITERATIONS) -> PasswordHash:
    """Hash `secret` with a fresh salt (or `salt`)."""
    if not 1 <= iterations <= MAX_ITERATIONS:
        raise ConfigError(f"iterations {iterations} is not within 1 .. {MAX_ITERATIONS}", cure=f"use {ITERATIONS}, mosquitto's default")
    salt = secrets.token_bytes(SALT_BYTES) if salt is None else salt
    return PasswordHash(iterations, salt, hashlib.pbkdf2_hmac("sha512", secret.encode(), salt, iterations, _KEY_BYTES))


def verify_secret(secret: str, stored: PasswordHash) -> bool:
    """Whether `secret` is the one `stored` was made of, in constant time."""
    return hmac.compare_digest(hash_secret(secret, salt=stored.salt, iterations=stored.iterations).key, stored.key)


def parse_passwords(text: str, where: str) -> dict[str, PasswordHash]:
    """The users of a password file; ConfigError names `where` and the line that cannot be read."""
    users: dict[str, PasswordHash] = {}
    for number, line in enumerate(text.splitlines(), start=1):
        if not line.strip() or line.startswith("#"):
            continue
        name, _, rest = line.partition(":")
        stored = _parse_hash(rest)
        if name.endswith(f"/{UPLOAD_NODE}"):
            raise ConfigError(
                f"{where}: line {number}: the node name {UPLOAD_NODE!r} is reserved for uploaded files",
                cure="remove the line and add the node under another name",
            )
        if stored is None or parse_username(name) is None or name in users:
            raise ConfigError(
                f"{where}: line {number}: not a new `tenant/node:$7$iterations$salt$hash`",
                cure="remove the line and add the user again",
            )
        users[name] = stored
    return users


def _parse_hash(text: str) -> PasswordHash | None:
    parts = text.split("$")
    if len(parts) != 5 or parts[0] or parts[1] != "7":
        return None
    try:
        iterations, salt, key = int(parts[2]), base64.b64decode(parts[3], validate=True), base64.b64decode(parts[4], validate=True)
    except (ValueError, binascii.Error):
        return None
    if not 1 <= iterations <= MAX_ITERATIONS or len(salt) != SALT_BYTES or len(key) != _KEY_BYTES:
        return None
    return PasswordHash(iterations, salt, key)


def read_passwords(path: Path) -> dict[str, PasswordHash]:
    """The users of the file at `path`; a missing file has none."""
    try:
        text = path.read_text(encoding="utf-8")
    except FileNotFoundError:
        return {}
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(f"{path}: cannot be read: {error}", cure="check the owner and mode of the password file") from error
    return parse_passwords(text, str(path))


def write_passwords(path: Path, users: Mapping[str, PasswordHash]) -> None:
    """Replace the file durably: temporary file, fsync, rename, fsync of the directory. Mode 0600, one line a user, sorted."""
    text = "".join(f"{name}:{stored.encode()}\n" for name, stored in sorted(users.items()))
    path.parent.mkdir(parents=True, exist_ok=True)
    replace_file(path, text.encode())


def add_user(path: Path, name: str, secret: str | None = None, *, iterations: int = ITERATIONS) -> str:
    """Add `name` or give it a new secret (made here when None), and return the secret. The file keeps only its hash."""
    check_username(name)
    secret = new_secret() if secret is None else secret
    users = read_passwords(path)
    users[name] = hash_secret(secret, iterations=iterations)
    write_passwords(path, users)
    return secret


def remove_user(path: Path, name: str) -> bool:
    """Remove `name`; False when it was not there."""
    users = read_passwords(path)
    if users.pop(name, None) is None:
        return False
    write_passwords(path, users)
    return True


class Verifier:
    """Answers "who is this?" from a password file: reads it again when it changes, and remembers what it verified.

    The memory is keyed by digest (never the secret), bounded, and cleared with every change of the file, so that 500 nodes reconnecting at
    once cost one hash of 64 bytes each. A file that became unreadable keeps refusing until it is repaired.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._stamp: tuple[int, int, int] | None = None
        self._users: dict[str, PasswordHash] = {}
        self._verified: OrderedDict[bytes, None] = OrderedDict()
        self._pepper = secrets.token_bytes(32)
        self._decoy = hash_secret("")

    def principal(self, name: str | None, secret: str | None) -> Principal | None:
        """The principal when `secret` is that of user `name`, else None. ConfigError when the file cannot be read."""
        self._refresh()
        stored = self._users.get(name or "")
        if name is None or secret is None or stored is None:
            verify_secret(secret or "", self._decoy)  # an unknown user costs as much as a wrong secret
            return None
        digest = hashlib.blake2b(f"{name}\0{secret}".encode(), key=self._pepper, digest_size=32).digest()
        if digest in self._verified:
            self._verified.move_to_end(digest)
            return parse_username(name)
        if not verify_secret(secret, stored):
            return None
        self._verified[digest] = None
        if len(self._verified) > _CACHE_ENTRIES:
            self._verified.popitem(last=False)
        return parse_username(name)

    def _refresh(self) -> None:
        try:
            stat = self._path.stat()
        except FileNotFoundError:
            stamp = (0, 0, 0)
        else:
            stamp = (stat.st_mtime_ns, stat.st_size, stat.st_ino)
        if stamp == self._stamp:
            return
        self._users, self._stamp = {}, None
        self._verified.clear()
        self._users = read_passwords(self._path)
        self._stamp = stamp
