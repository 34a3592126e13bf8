"""Tokens of the API: each carries a tenant and a role, and the file keeps only its hash.

A token is `plt-<id>-<secret>`; the id finds the line of the file, the secret has 192 random bits, so one cheap hash is enough. The file
(`<data>/secrets/tokens.json`, 0600) is replaced whole; a running API reads it again within a second, so a revoked token is refused then.
There is no token for all tenants.
"""

from __future__ import annotations

import fcntl
import hashlib
import hmac
import os
import secrets
import time
from base64 import b64decode, b64encode
from collections import OrderedDict
from collections.abc import Generator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Final, Literal, get_args

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, ValidationError

from broker.credentials import PasswordHash, hash_secret, new_secret, verify_secret
from broker.errors import BadInputError, ConfigError
from broker.ids import check_id
from broker.replace_file import replace_file

Role = Literal["staff", "screen"]
ROLES: Final[tuple[str, ...]] = get_args(Role)
PREFIX: Final = "plt-"
RECHECK_S: Final = 1.0
_REMEMBERED: Final = 4096


@dataclass(frozen=True, slots=True)
class Access:
    """What a reader may do: staff reads and writes, a screen reads without the names that are not to be shown. Of one tenant."""

    tenant: str
    role: Role


def _base64(text: str) -> str:
    b64decode(text, validate=True)
    return text


_Base64 = Annotated[str, AfterValidator(_base64)]


class StoredToken(BaseModel):
    """One line of the file."""

    model_config = ConfigDict(extra="forbid", frozen=True)
    id: str
    tenant: str
    role: Role
    note: str = ""
    made_us: int
    iterations: int = Field(ge=1, le=1_000_000)
    salt: _Base64
    key: _Base64

    @property
    def hashed(self) -> PasswordHash:
        """What the secret hashes to."""
        return PasswordHash(self.iterations, b64decode(self.salt), b64decode(self.key))


class _File(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)
    tokens: tuple[StoredToken, ...] = ()


def read_tokens(path: Path) -> dict[str, StoredToken]:
    """The tokens of a file by id, none when there is no file. ConfigError when it cannot be read."""
    try:
        return {t.id: t for t in _File.model_validate_json(path.read_bytes()).tokens}
    except FileNotFoundError:
        return {}
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(str(part) for part in first["loc"])
        raise ConfigError(f"{path}: {where}: {first['msg']}", cure="remove that token from the file and add it again") from error
    except OSError as error:
        raise ConfigError(f"{path}: {error.strerror}", cure="check owner and mode of the file") from error


def add_token(path: Path, tenant: str, role: str, note: str = "") -> str:
    """Make a token, keep its hash and return it: it cannot be read again. BadInputError for what is no tenant or role."""
    check_id(tenant, "tenant")
    if role not in ROLES:
        raise BadInputError(f"no role {role!r}", cure=f"use one of {', '.join(ROLES)}")
    secret = new_secret()
    made = hash_secret(secret)
    with _changing(path) as known:
        ident = secrets.token_hex(4)
        known[ident] = StoredToken(
            id=ident,
            tenant=tenant,
            role="staff" if role == "staff" else "screen",
            note=note,
            made_us=time.time_ns() // 1000,
            iterations=made.iterations,
            salt=b64encode(made.salt).decode(),
            key=b64encode(made.key).decode(),
        )
    return f"{PREFIX}{ident}-{secret}"


def revoke_token(path: Path, ident: str) -> None:
    """Forget a token by its id. BadInputError when there is none of it."""
    with _changing(path) as known:
        if known.pop(ident, None) is None:
            raise BadInputError(f"{path}: no token {ident!r}", cure="`paceline token list` shows their ids")


@contextmanager
def _changing(path: Path) -> Generator[dict[str, StoredToken]]:
    """The tokens, to be changed and written back by one process at a time."""
    path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
    lock = os.open(path.with_name(f".{path.name}.lock"), os.O_WRONLY | os.O_CREAT, 0o600)
    try:
        fcntl.flock(lock, fcntl.LOCK_EX)
        known = read_tokens(path)
        yield known
        replace_file(path, _File(tokens=tuple(known.values())).model_dump_json(indent=1).encode() + b"\n")
    finally:
        os.close(lock)


class Tokens:
    """Answers what a token may do. The site's own token is staff of the site's tenant; without a file only that one counts."""

    def __init__(self, path: Path | None, site_token: str, site_tenant: str) -> None:
        self._path = path
        self._pepper = secrets.token_bytes(32)
        self._site = self._digest(site_token) if site_token else b""
        self._site_access = Access(site_tenant, "staff")
        self._stamp: tuple[int, int, int] | None = None
        self._checked_s = float("-inf")
        self._known: Mapping[str, StoredToken] = {}
        self._verified: OrderedDict[bytes, Access] = OrderedDict()

    def access(self, token: str) -> Access | None:
        """None for a token that is not, or no longer, ours. ConfigError while the file cannot be read."""
        digest = self._digest(token)
        if self._site and hmac.compare_digest(digest, self._site):
            return self._site_access
        self._refresh()
        found = self._verified.get(digest)
        if found is not None:
            return found
        stored = self._known.get(token.removeprefix(PREFIX).partition("-")[0]) if token.startswith(PREFIX) else None
        secret = token.removeprefix(PREFIX).partition("-")[2]
        if stored is None or not verify_secret(secret, stored.hashed):
            return None
        found = self._verified[digest] = Access(stored.tenant, stored.role)
        if len(self._verified) > _REMEMBERED:
            self._verified.popitem(last=False)
        return found

    def _digest(self, token: str) -> bytes:
        return hashlib.blake2b(token.encode(errors="surrogateescape"), key=self._pepper, digest_size=32).digest()

    def _refresh(self) -> None:
        """Look at the file at most once a second; when it changed, what was verified counts no more."""
        now_s = time.monotonic()
        if self._path is None or now_s - self._checked_s < RECHECK_S:
            return
        try:
            stat = self._path.stat()
            stamp = (stat.st_mtime_ns, stat.st_size, stat.st_ino)
        except FileNotFoundError:
            stamp = (0, 0, 0)
        if stamp != self._stamp:
            self._known, self._stamp = {}, None
            self._verified.clear()
            self._known = read_tokens(self._path)
            self._stamp = stamp
        self._checked_s = now_s
