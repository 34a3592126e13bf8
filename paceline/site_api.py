"""Asks the HTTP API of the running site, as its staff."""

from __future__ import annotations

import json
import urllib.error
import urllib.request
from typing import Any, Final, cast

from broker.errors import BadInputError, LinkError
from paceline.site import Site

_TIMEOUT_S: Final = 15.0
_OURS: Final = frozenset({401, 403, 405})  # not about what was asked


def ask(site: Site, method: str, path: str, body: object = None) -> dict[str, Any]:
    """The JSON answer of a route below `/api/v1`. BadInputError when what was asked is refused, LinkError when nobody answers."""
    return send(site, method, path, None if body is None else json.dumps(body).encode())


def send(
    site: Site,
    method: str,
    path: str,
    content: bytes | None,
    *,
    kind: str = "application/json",
    timeout_s: float = _TIMEOUT_S,
    ours: frozenset[int] = _OURS,
) -> dict[str, Any]:
    """As `ask`, with a body of any media type (`kind`). `ours`: status codes that do not speak of what was asked and are a LinkError."""
    api = site.settings.api
    host = f"[{api.host}]" if ":" in api.host else api.host
    request = urllib.request.Request(
        f"http://{host}:{api.port}/api/v1/{path}",
        data=content,
        headers={"Authorization": f"Bearer {api.token.get_secret_value()}", "Content-Type": kind},
        method=method,
    )
    try:
        with urllib.request.urlopen(request, timeout=timeout_s) as response:  # noqa: S310 - the site's own address
            return cast("dict[str, Any]", json.load(response))
    except urllib.error.HTTPError as error:
        detail, cure = _problem(error)
        if error.code in ours or error.code >= 500:
            raise LinkError(f"{host}:{api.port} answers {error.code}: {detail}", cure=cure) from error
        raise BadInputError(detail, cure=cure) from error
    except (OSError, ValueError) as error:
        raise LinkError(
            f"no answer from http://{host}:{api.port}: {error}", cure="is `paceline run` running with this data folder?"
        ) from error


def _problem(error: urllib.error.HTTPError) -> tuple[str, str]:
    """Detail and cure of a problem document (RFC 9457), or what there is instead."""
    try:
        document: object = json.loads(error.read())
    except (OSError, ValueError):
        document = None
    found = cast("dict[str, object]", document) if isinstance(document, dict) else {}
    return str(found.get("detail") or error.reason), str(found.get("cure") or "look into the platform's log")
