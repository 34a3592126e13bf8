"""Who asks: the token of a request, or this machine itself.

A loopback listener asked by a loopback name without a token is staff of the site's tenant; a page of another site that makes a browser on
this machine write is refused by its `Origin`. A token that is given must be right, also on loopback. Whoever they are, readers may ask
`?as=screen`: they then see and may do what a screen may, no more.
"""

from __future__ import annotations

import ipaddress
from dataclasses import dataclass
from functools import lru_cache
from typing import Any, Final
from urllib.parse import parse_qs, urlsplit

from broker.view_part import WHOLE, ViewPart
from processors.api.problems import ElsewhereError, RefusedError
from processors.api.tokens import Access, Tokens
from processors.directory import ALIAS, Known
from processors.snapshot import local, screen_id, screen_name, staff_name

_CURE: Final = "give a token: `Authorization: Bearer TOKEN` or `?token=TOKEN`; `paceline token add` makes one"


def is_loopback(host: str) -> bool:
    """Whether a listener or a Host header names this machine only."""
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host.strip("[]")).is_loopback
    except ValueError:
        return False


@lru_cache(maxsize=1024)
def _names_loopback(host: bytes) -> bool:
    try:
        return is_loopback(urlsplit(b"//" + host).hostname.decode() if host else "")  # pyright: ignore[reportOptionalMemberAccess]
    except (ValueError, AttributeError):
        return False


class Guard:
    """Answers what a request may do, from its ASGI scope."""

    def __init__(self, host: str, tenant: str, tokens: Tokens, part: ViewPart = WHOLE) -> None:
        """`part`: the tenants that are served here."""
        self._part = part
        self._loopback = is_loopback(host)
        self._machine = Access(tenant, "staff")
        self._tokens = tokens

    def access(self, scope: Any) -> Access:
        """RefusedError: 401 for nobody we know, 403 for a write that another site's page asks for, 400 for a role nobody can ask for, 421
        for a tenant whose part of the view is served elsewhere."""
        found = self._found(scope)
        if not self._part.has(found.tenant):
            raise ElsewhereError(found.tenant, self._part)
        return Access(found.tenant, "screen") if _as_screen(scope["query_string"]) else found

    def _found(self, scope: Any) -> Access:
        authorization = host = origin = b""
        for name, value in scope["headers"]:
            if name == b"authorization":
                authorization = value
            elif name == b"host":
                host = value
            elif name == b"origin":
                origin = value
        token = _token(authorization, scope["query_string"])
        if token:
            found = self._tokens.access(token)
            if found is None:
                raise RefusedError(401, "this token is not, or no longer, known here", _CURE)
            return found
        if not self._loopback or not _names_loopback(host):
            raise RefusedError(401, "this address needs a token", _CURE)
        if origin and scope["method"] not in {"GET", "HEAD"} and origin.partition(b"//")[2] != host:
            raise RefusedError(403, "a page of another site asked for this", _CURE)
        return self._machine


def _token(authorization: bytes, query: bytes) -> str:
    if authorization:
        scheme, _, given = authorization.decode("latin-1").partition(" ")
        return given.strip() if scheme.lower() == "bearer" else f"not a bearer token: {scheme}"
    if b"token=" in query:
        return parse_qs(query.decode("latin-1")).get("token", [""])[0]
    return ""


def _as_screen(query: bytes) -> bool:
    if b"as=" not in query:
        return False
    asked = parse_qs(query.decode("latin-1"), keep_blank_values=True).get("as", [])
    if any(role != "screen" for role in asked):
        raise RefusedError(400, f"nobody can ask as={asked[0]!r}", "ask as=screen, or leave it out")
    return bool(asked)


@dataclass(frozen=True, slots=True)
class Viewer:
    """Somebody who asks, and what is known of the tenant: whom they may see under which name."""

    access: Access
    known: Known

    @property
    def tenant(self) -> str:
        return self.access.tenant

    @property
    def staff(self) -> bool:
        return self.access.role == "staff"

    def athlete_of(self, subject: str) -> str:
        """The id this viewer gets for a subject."""
        return local(subject) if self.staff else screen_id(self.known, subject)

    def name_of(self, subject: str) -> str:
        """The name this viewer may show, empty when none."""
        return staff_name(self.known, subject) if self.staff else screen_name(self.known, subject)

    def subject_of(self, athlete: str) -> str:
        """Inverse of `athlete_of`. RefusedError (404) for an alias of nobody, or for an id this viewer must not know."""
        subject = self.known.aliased(athlete) if athlete.startswith(ALIAS) else f"{self.tenant}/{athlete}"
        if subject is None or (not self.staff and self.athlete_of(subject) != athlete):
            raise RefusedError(404, f"there is no athlete {athlete!r}", "GET /api/v1/athletes lists them")
        return subject
