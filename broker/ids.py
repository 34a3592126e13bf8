"""Identifiers: who is who on the wire.

An id is 1-32 characters of `a-z 0-9 . _ -`, starting with a letter or digit: safe as an MQTT level, a file name and a key. A subject is
`tenant/athlete`, or `tenant/@device` or `tenant/@node/device` for an unbound device ("@" cannot start an id, so the two never meet).
"""

from __future__ import annotations

import re
from typing import NewType

from broker.errors import BadInputError

TenantId = NewType("TenantId", str)
NodeId = NewType("NodeId", str)
DeviceId = NewType("DeviceId", str)
Subject = NewType("Subject", str)
Origin = NewType("Origin", str)

MAX_ID_CHARS = 32
_ID = re.compile(r"[a-z0-9][a-z0-9._-]{0,31}", re.ASCII)
_SUBJECT = re.compile(r"([a-z0-9][a-z0-9._-]{0,31})/([a-z0-9][a-z0-9._-]{0,31})", re.ASCII)


def is_id(text: str) -> bool:
    """True when `text` may name a tenant, node, device or athlete."""
    return _ID.fullmatch(text) is not None


def check_id(text: str, what: str) -> str:
    """Return `text` or raise BadInputError naming `what` it should have been."""
    if not is_id(text):
        raise BadInputError(
            f"{what} {text!r} is not an id",
            cure="use 1-32 of a-z 0-9 . _ - starting with a letter or digit",
        )
    return text


def subject_of(tenant: str, athlete: str) -> Subject:
    """The subject of an athlete of a tenant."""
    return Subject(f"{check_id(tenant, 'tenant')}/{check_id(athlete, 'athlete')}")


def subject_tenant(subject: str) -> str | None:
    """The tenant of a well-formed `tenant/athlete` subject, else None."""
    match = _SUBJECT.fullmatch(subject)
    return match.group(1) if match else None


def origin_of(tenant: str, node: str, device: str, *, self_numbered: bool) -> Origin:
    """Who numbered the samples: the device itself, or the node for a dumb sensor."""
    return Origin(f"{tenant}/{device}" if self_numbered else f"{tenant}/{node}/{device}")


def unbound_of(origin: str) -> Subject:
    """The subject of what an origin measures while nothing says whom it counts for."""
    tenant, _, rest = origin.partition("/")
    return Subject(f"{tenant}/@{rest}")


def origin_unbound(subject: str) -> Origin | None:
    """Inverse of `unbound_of`; None for the subject of an athlete."""
    tenant, at, rest = subject.partition("/@")
    return Origin(f"{tenant}/{rest}") if at else None


def route_of(tenant: str, node: str, device: str, subject: str, *, self_numbered: bool) -> Subject:
    """The key a frame is processed under: its subject, or the unbound device."""
    if subject:
        return Subject(subject)
    return Subject(f"{tenant}/@{device}" if self_numbered else f"{tenant}/@{node}/{device}")
